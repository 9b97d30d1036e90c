"""TRL's trainers: each row of docs/frameworks.md that names TRL, run by the real library."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import (
    GPT2Config,
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
)

import charembed
from charembed import CharEmbedError
from tests.messages import raises, warns

pytestmark = [
    pytest.mark.slow,  # the import of trl takes ten seconds
    pytest.mark.filterwarnings("ignore", "error:.*letters"),
]

WAYS = pytest.mark.parametrize("way", ["peft_config", "PeftModel"])
IDS = torch.tensor([[40, 50, 60, 70]])


@pytest.fixture(scope="module")
def trl() -> Any:
    return pytest.importorskip("trl")


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    pieces = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "<end>"]
    core = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<end>", pad_token="<end>")


@pytest.fixture(scope="module")
def folder(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved base: TRL loads a reference from the folder that the config names."""
    folder = tmp_path_factory.mktemp("base")
    torch.manual_seed(0)
    sizes = {"vocab_size": 257, "n_layer": 1, "n_head": 2, "n_embd": 32, "n_positions": 64}
    ends = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), 256)
    drops = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    GPT2LMHeadModel(GPT2Config(**sizes, **ends, **drops)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def bench(trl: Any, tokenizer: Any, folder: Path, tmp_path: Path) -> Any:
    """Functions that build a model and a trainer."""

    def attached(init: str = "normal", kind: Any = GPT2LMHeadModel, **changes: Any) -> Any:
        model = kind.from_pretrained(folder, **changes)
        return charembed.attach(model, tokenizer, init=init).eval()

    def trainer(name: str, model: Any, rows: Any, way: str = "", **changes: Any) -> Any:
        from datasets import Dataset

        more: dict[str, Any] = changes.pop("more", {})
        if way:
            task = changes.pop("task_type", None)
            config = charembed.peft_config(model, lora(task_type=task))
            if way == "PeftModel":
                model = get_peft_model(model, config)
            else:
                more["peft_config"] = config
        arguments = getattr(trl, f"{name}Config")(
            str(tmp_path / "run"),
            **{
                "max_steps": 3,
                "logging_steps": 1,
                "learning_rate": 1e-2,
                "report_to": [],
                "use_cpu": True,
                "bf16": False,
                "save_strategy": "no",
                "disable_tqdm": True,
                **changes,
            },
        )
        return getattr(trl, f"{name}Trainer")(
            model=model,
            args=arguments,
            train_dataset=Dataset.from_dict(rows),
            processing_class=tokenizer,
            **more,
        )

    return SimpleNamespace(attached=attached, trainer=trainer, run=tmp_path / "run")


TEXTS = {"text": ["strawberry hat", "a red blueberry"] * 4}
PAIRS = {"prompt": ["straw"] * 8, "chosen": ["berry"] * 8, "rejected": ["hat"] * 8}
MARKED = {"prompt": ["straw"] * 8, "completion": ["berry", "hat"] * 4, "label": [True, False] * 4}


def lora(**changes: Any) -> LoraConfig:
    return LoraConfig(target_modules=["c_attn"], fan_in_fan_out=True, r=2, **changes)


def logged(trainer: Any, key: str = "loss") -> list[float]:
    return [entry[key] for entry in trainer.state.log_history if key in entry]


@torch.no_grad()
def logits(model: Any) -> Tensor:
    return model.eval()(input_ids=IDS).logits


@WAYS
def test_sft_trains_the_encoder_from_zero(bench: Any, way: str) -> None:
    trainer = bench.trainer("SFT", bench.attached("zero"), TEXTS, way)
    trainer.train()
    base = logits(bench.attached("zero"))
    trained = logits(trainer.model)
    with charembed.disabled(trainer.model):
        assert not torch.equal(logits(trainer.model), trained)
    with trainer.model.disable_adapter():
        assert torch.equal(logits(trainer.model), base)
    plain = charembed.fold(trainer.model).merge_and_unload()
    torch.testing.assert_close(logits(plain), trained, rtol=1e-4, atol=1e-5)


def test_sft_with_a_plain_config_warns_that_the_encoder_is_frozen(bench: Any) -> None:
    trainer = bench.trainer(
        "SFT", bench.attached("zero"), TEXTS, more={"peft_config": lora()}, max_steps=1
    )
    with warns(UserWarning, "frozen charembed.peft_config"):
        trainer.train()


def test_sft_resumes_as_if_unbroken(bench: Any) -> None:
    def made() -> Any:
        torch.manual_seed(5)
        changes = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2}
        return bench.trainer("SFT", bench.attached("zero"), TEXTS, "peft_config", **changes)

    unbroken, resumed = made(), made()
    unbroken.train()
    resumed.train(resume_from_checkpoint=str(bench.run / "checkpoint-2"))
    assert torch.equal(logits(unbroken.model), logits(resumed.model))
    loaded = PeftModel.from_pretrained(bench.attached("zero"), bench.run / "checkpoint-4")
    assert torch.equal(logits(loaded), logits(unbroken.model))


@WAYS
@pytest.mark.parametrize("init", ["zero", "normal"])
def test_the_reference_of_dpo_is_the_policy_before_training(
    bench: Any, way: str, init: str
) -> None:
    start = logits(bench.attached(init))
    trainer = bench.trainer("DPO", bench.attached(init), PAIRS, way)
    trainer.train()
    losses = logged(trainer)
    assert losses[0] == pytest.approx(math.log(2), abs=1e-5)
    assert losses[-1] < 0.6
    model = trainer.model
    if way == "PeftModel":  # TRL copies the adapter to one called "ref"
        model.set_adapter("ref")
        assert torch.equal(logits(model), start)
    with model.disable_adapter():
        assert torch.equal(logits(model), start)


def test_a_reference_that_would_move_with_the_encoder_is_refused(bench: Any) -> None:
    def unfrozen() -> Any:
        model = get_peft_model(bench.attached(), lora())
        for parameter in charembed.parameters(model):
            parameter.requires_grad_()
        return model

    with raises(CharEmbedError, "reference charembed.peft_config"):
        bench.trainer("DPO", unfrozen(), PAIRS).train()
    # computed before training: the reference cannot move
    trainer = bench.trainer("DPO", unfrozen(), PAIRS, precompute_ref_log_probs=True)
    trainer.train()
    assert logged(trainer)[0] == pytest.approx(math.log(2), abs=1e-5)


def test_dpo_without_peft_takes_a_copy_as_reference(bench: Any) -> None:
    model = bench.attached()
    start = logits(model)
    trainer = bench.trainer("DPO", model, PAIRS, more={"ref_model": copy.deepcopy(model)})
    trainer.train()
    assert logged(trainer)[0] == pytest.approx(math.log(2), abs=1e-5)
    assert torch.equal(logits(trainer.ref_model), start)
    assert not torch.equal(logits(trainer.model), start)


@pytest.mark.parametrize(("name", "rows"), [("DPO", PAIRS), ("KTO", MARKED)])
def test_a_reference_without_the_encoder_is_refused(bench: Any, name: str, rows: Any) -> None:
    """TRL loads it from config._name_or_path."""
    trainer = bench.trainer(name, bench.attached(), rows)
    with raises(CharEmbedError, "ref_model=copy.deepcopy(model) charembed.attach"):
        trainer.train()
    # from vectors at zero, the base is the policy before training
    trainer = bench.trainer(name, bench.attached("zero"), rows)
    trainer.train()
    assert len(logged(trainer)) == 3


def test_a_resumed_run_that_began_at_zero_keeps_the_base_as_reference(bench: Any) -> None:
    def made() -> Any:
        changes = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2}
        return bench.trainer("DPO", bench.attached("zero"), PAIRS, **changes)

    unbroken, resumed = made(), made()
    with pytest.warns(UserWarning, match="save_pretrained"):
        unbroken.train()
    with pytest.warns(UserWarning, match="save_pretrained"):
        resumed.train(resume_from_checkpoint=str(bench.run / "checkpoint-2"))
    assert torch.equal(logits(unbroken.model), logits(resumed.model))


@WAYS
def test_the_reference_of_kto_is_the_policy_before_training(bench: Any, way: str) -> None:
    trainer = bench.trainer("KTO", bench.attached(), MARKED, way)
    trainer.train()
    assert logged(trainer)[0] == pytest.approx(0.5, abs=1e-5)


def grpo(bench: Any, way: str = "") -> Any:
    changes = {
        "beta": 0.1,
        "num_generations": 2,
        "per_device_train_batch_size": 2,
        "max_completion_length": 4,
        "more": {"reward_funcs": lambda completions, **_: [float(len(c)) for c in completions]},
    }
    return bench.trainer("GRPO", bench.attached(), {"prompt": ["straw"] * 8}, way, **changes)


@WAYS
def test_the_reference_of_grpo_is_the_policy_before_training(bench: Any, way: str) -> None:
    start = logits(bench.attached())
    trainer = grpo(bench, way)
    trainer.train()
    assert logged(trainer, "kl")[0] == pytest.approx(0, abs=1e-6)
    with trainer.model.disable_adapter():
        assert torch.equal(logits(trainer.model), start)


def test_grpo_without_peft_takes_a_copy_as_reference(bench: Any) -> None:
    with raises(CharEmbedError, "trainer.ref_model"):
        grpo(bench).train()
    trainer = grpo(bench)
    trainer.ref_model = copy.deepcopy(trainer.model)
    trainer.train()
    assert logged(trainer, "kl")[0] == pytest.approx(0, abs=1e-6)


def test_a_reward_model_trains_encoder_and_head(bench: Any) -> None:
    model = bench.attached("zero", GPT2ForSequenceClassification, num_labels=1)
    rows = {"chosen": ["berry"] * 8, "rejected": ["hat"] * 8}
    trainer = bench.trainer("Reward", model, rows, "peft_config", task_type="SEQ_CLS")
    trainer.train()
    saved = trainer.model.peft_config["default"].modules_to_save
    assert {"score", "transformer.wte.encoder"} <= {*saved}
    trained = logits(trainer.model)
    with charembed.disabled(trainer.model):
        assert not torch.equal(logits(trainer.model), trained)
