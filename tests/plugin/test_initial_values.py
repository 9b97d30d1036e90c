"""An encoder that is attached on the meta device gets its values when the model is loaded."""

from __future__ import annotations

import copy
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import init_empty_weights, load_checkpoint_and_dispatch
from accelerate.utils import set_module_tensor_to_device
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import GPT2LMHeadModel, initialization

import charembed
from charembed import CharEmbedError, LSTMEncoder
from tests import warm
from tests.conftest import ROOT
from tests.messages import raises
from tests.plugin.families import hide_progress_bars
from tests.plugin.hosts import GPT2, IDS, TABLE, VOCABULARY, char_embedding, logits_of

SMALL: dict[str, Any] = {"init": "normal", "seed": 3, "char_dim": 6, "hidden_size": 8}
PATH = "transformer.wte.encoder."


class Attached(GPT2LMHeadModel):
    def __init__(self, config: Any) -> None:
        super().__init__(config)
        charembed.attach(self, VOCABULARY, **SMALL)


class AttachedBeforePostInit(GPT2LMHeadModel):
    """Its `_init_weights` takes every module with a weight."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        charembed.attach(self, VOCABULARY, **SMALL)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(getattr(module, "weight", None), Tensor):
            initialization.normal_(module.weight, std=9.0)


class Own(nn.Module):
    """An encoder of the user's own, with layers that transformers initializes."""

    def __init__(self) -> None:
        super().__init__()
        self.rows, self.out = nn.Embedding(260, 4), nn.Linear(4, 16)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        with torch.no_grad():
            self.rows.weight.copy_(torch.linspace(-1, 1, 1040).view(260, 4))
            self.out.weight.fill_(0.5)
            self.out.bias.fill_(0.25)

    def forward(self, ids_U: Tensor) -> Tensor:
        return self.out(self.rows(ids_U))


class AttachedOwn(GPT2LMHeadModel):
    def __init__(self, config: Any) -> None:
        super().__init__(config)
        charembed.attach(self, None, encoder=Own())


def seeds(kind: Any) -> dict[str, Tensor]:
    """The values that an encoder of this class has by its seed."""
    encoder = Own() if kind is AttachedOwn else LSTMEncoder(TABLE, 16, **SMALL)
    return {f"{PATH}{name}": value for name, value in encoder.state_dict().items()}


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in model.state_dict().items() if name.startswith(PATH)}


def assert_equal(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    assert [name for name, value in theirs.items() if not torch.equal(ours[name], value)] == []


@pytest.fixture(autouse=True)
def _without_progress_bars() -> None:
    hide_progress_bars()


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A folder with the base alone."""
    GPT2().save_pretrained(tmp_path / "base")  # type: ignore[operator]
    return tmp_path / "base"


@pytest.fixture
def garbage(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a loader allocates without values is 77, not by chance zero."""
    empty_like = torch.empty_like

    def filled(like: Tensor, **kwargs: Any) -> Tensor:
        made = empty_like(like, **kwargs)
        return made if made.is_meta or not made.is_floating_point() else made.fill_(77.0)

    monkeypatch.setattr(torch, "empty_like", filled)


kinds = pytest.mark.parametrize(
    "kind", [Attached, AttachedBeforePostInit, AttachedOwn], ids=lambda kind: kind.__name__
)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("garbage")
@kinds
def test_a_class_that_attaches_itself_has_its_values_at_once(kind: Any, base: Path) -> None:
    random = torch.get_rng_state()
    model = kind.from_pretrained(base)
    assert kind is not Attached or torch.equal(torch.get_rng_state(), random)
    assert_equal(state(model), seeds(kind))
    assert_equal(state(copy.deepcopy(model)), seeds(kind))
    if kind is not AttachedOwn:
        charembed.save(model, base / "part")
        saved = load_file(base / "part" / "char_embedding.safetensors")
        assert_equal({f"{PATH}{name}": value for name, value in saved.items()}, seeds(kind))
    assert torch.equal(model.get_input_embeddings().weight, GPT2().get_input_embeddings().weight)  # type: ignore[operator]
    other = kind.from_pretrained(base)
    with torch.no_grad():  # as the broadcast of DDP writes
        for parameter in charembed.parameters(other):
            parameter.copy_(parameter.clone())
        assert torch.equal(logits_of(other.eval()), logits_of(model.eval()))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("garbage")
@kinds
def test_the_values_of_a_file_are_kept(kind: Any, base: Path) -> None:
    model = kind.from_pretrained(base)
    with torch.no_grad():
        for parameter in charembed.parameters(model):
            parameter.mul_(1.5).add_(0.25)
    trained = {name: value.clone() for name, value in state(model).items()}
    model.save_pretrained(base / "whole")
    assert_equal(state(kind.from_pretrained(base / "whole")), trained)
    half = kind.from_pretrained(base / "whole", dtype=torch.bfloat16)
    for name, value in state(half).items():  # charembed's own encoders stay in float32
        assert torch.equal(value, trained[name].to(value.dtype)), name


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("garbage")
def test_parameters_that_a_file_lacks_are_the_seeds(base: Path) -> None:
    model = Attached.from_pretrained(base)
    with torch.no_grad():
        for parameter in charembed.parameters(model):
            parameter.fill_(5.0)
    model.save_pretrained(base / "part")
    file = base / "part" / "model.safetensors"
    tensors = load_file(file)
    del tensors[f"{PATH}projection.weight"], tensors[f"{PATH}lstm.bias_hh_l0"]
    save_file(tensors, file, metadata={"format": "pt"})
    found, expected = state(Attached.from_pretrained(base / "part")), seeds(Attached)
    for name, value in found.items():
        missing = "projection.weight" in name or "bias_hh" in name
        assert torch.equal(value, expected[name] if missing else torch.full_like(value, 5.0)), name


@kinds
def test_a_plain_state_dict_that_is_assigned(kind: Any) -> None:
    with torch.device("meta"):
        model = kind(GPT2().config)
    assert all(parameter.is_meta for parameter in model.parameters())
    model.load_state_dict(GPT2().state_dict(), assign=True)
    model.tie_weights()
    assert_equal(state(model), seeds(kind))
    logits = logits_of(model.eval())
    assert torch.isfinite(logits).all()
    for _ in range(2):  # a second load keeps trained values
        with torch.no_grad():
            charembed.parameters(model)[0].add_(1.0)
        before = {name: value.clone() for name, value in state(model).items()}
        model.load_state_dict(GPT2().state_dict(), assign=True)
        assert_equal(state(model), before)


@kinds
def test_a_whole_state_dict_that_is_assigned(kind: Any) -> None:
    whole = kind(GPT2().config)
    with torch.no_grad():
        for parameter in charembed.parameters(whole):
            parameter.add_(1.0)
    with torch.device("meta"):
        model = kind(GPT2().config)
    model.load_state_dict(copy.deepcopy(whole.state_dict()), assign=True)
    model.tie_weights()
    assert_equal(state(model), state(whole))
    assert torch.equal(logits_of(model.eval()), logits_of(whole.eval()))
    assert_equal(state(model), state(whole))


@kinds
def test_an_emptied_model_has_the_values_of_the_seed(kind: Any) -> None:
    with torch.device("meta"):
        model = kind(GPT2().config)
    model.to_empty(device="cpu")
    assert_equal(state(model), seeds(kind))


@pytest.mark.filterwarnings("ignore")
def test_accelerate_loads_an_empty_model(base: Path) -> None:
    with init_empty_weights():
        model = Attached(GPT2().config)
    assert all(parameter.is_meta for parameter in charembed.parameters(model))
    whole = Attached(GPT2().config)
    with torch.no_grad():
        charembed.parameters(whole)[0].add_(1.0)
    for name, value in whole.state_dict().items():
        set_module_tensor_to_device(model, name, "cpu", value)
    assert_equal(state(model), state(whole))
    with torch.no_grad():
        assert torch.equal(logits_of(model.eval()), logits_of(whole.eval()))
    assert_equal(state(model), state(whole))
    with init_empty_weights():
        model = Attached(GPT2().config)
    model.tie_weights()
    file = base / "model.safetensors"
    model = load_checkpoint_and_dispatch(model, str(file), device_map={"": "cpu"})
    assert_equal(state(model), seeds(Attached))
    char_embedding(model).encoder.to("meta")  # values that are lost do not come back by themselves
    with torch.no_grad(), raises(CharEmbedError, "meta to_empty"):
        logits_of(model)
    with pytest.raises(NotImplementedError):
        model.to("cpu")
    char_embedding(model).encoder.to_empty(device="cpu")
    assert_equal(state(model), seeds(Attached))


# Two processes


def worker(out: Path, base: Path) -> None:
    import torch.distributed as dist

    dist.init_process_group("gloo")
    hide_progress_bars()
    junk = [torch.full((200, 50), 77.0) for _ in range(50)]  # so that fresh memory is not zero
    del junk
    model = Attached.from_pretrained(base).eval()
    wrapped = nn.parallel.DistributedDataParallel(model)
    with torch.no_grad():
        found = {"logits": wrapped(IDS).logits.clone()} | {
            name: value.clone() for name, value in state(model).items()
        }
    save_file(found, f"{out}.{dist.get_rank()}")
    dist.destroy_process_group()


@pytest.mark.slow  # for the imports of two processes
@pytest.mark.filterwarnings("ignore")
def test_two_processes_start_with_the_values_of_the_seed(base: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    out, processes = tmp_path / "found", []
    for rank in range(2):
        environment = os.environ | {"RANK": str(rank), "WORLD_SIZE": "2"}
        environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        command = [
            sys.executable,
            "-W",
            "ignore",
            "-c",
            "import pathlib; from tests.plugin.test_initial_values import worker; "
            f"worker(pathlib.Path({str(out)!r}), pathlib.Path({str(base)!r}))",
        ]
        processes.append(
            warm.Process(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
        )
    errors = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(errors)[-4000:]
    expected = charembed.attach(GPT2(), VOCABULARY, **SMALL).eval()
    for rank in range(2):
        found = load_file(f"{out}.{rank}")
        with torch.no_grad():
            assert torch.equal(found.pop("logits"), logits_of(expected))
        assert_equal(found, seeds(Attached))
