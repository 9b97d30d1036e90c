"""save and load: the encoder alone, intact or refused."""

from __future__ import annotations

import copy
import json
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import charembed
from charembed import AttachError, CheckpointError, MismatchError, SpellingTable, checkpoint, files
from charembed.checkpoint import TENSORS
from tests import warm
from tests.conftest import ROOT
from tests.messages import raises
from tests.plugin.hosts import DECODER, GPT2, HOSTS, VOCABULARY, Host, V, char_embedding, logits_of


def trained(host: Host, **kwargs: Any) -> nn.Module:
    """Return an attached model whose parameters differ from all initial values."""
    model = host.attach(host(), init="normal", char_dim=12, hidden_size=8, seed=5, **kwargs).eval()
    with torch.no_grad():
        for parameter in charembed.parameters(model):
            parameter.mul_(1.1).add_(0.01)
    return model


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    charembed.save(trained(GPT2), tmp_path / "letters")
    return tmp_path / "letters"


def unchanged(model: nn.Module) -> bool:
    return type(GPT2.embedding(model)) is nn.Embedding and torch.equal(
        logits_of(model.eval()), logits_of(GPT2().eval())
    )


def test_a_loaded_part_equals_the_saved_one(host: Host, tmp_path: Path) -> None:
    model = trained(host)
    charembed.save(model, tmp_path)
    with torch.no_grad():
        expected = logits_of(model)
        again = charembed.load(host(), VOCABULARY, tmp_path).eval()
        assert torch.equal(logits_of(again), expected)
        assert torch.equal(logits_of(charembed.fold(again)), expected)
    assert {path.name for path in tmp_path.iterdir()} == {TENSORS}
    # aligned as torch aligns its own: matrix products of unaligned weights may differ in the last
    # bit
    assert all(
        parameter.data_ptr() % 64 == 0
        for parameter in charembed.parameters(charembed.load(host(), VOCABULARY, tmp_path))
    )
    base = {tuple(p.shape) for p in host().parameters() if p.numel() > 100}
    assert base.isdisjoint({tuple(value.shape) for value in load_file(tmp_path / TENSORS).values()})


LOADER = """
import sys, torch
from safetensors.torch import save_file
import charembed
from tests.plugin.hosts import HOSTS, VOCABULARY, logits_of
torch.set_num_threads(1)
found = {}
for host in HOSTS:
    with torch.no_grad():
        found[host.name] = logits_of(charembed.load(host(), VOCABULARY, f"{sys.argv[1]}/{host.name}").eval())
save_file(found, sys.argv[2])
"""


def test_a_fresh_process_loads_the_same_bits(tmp_path: Path) -> None:
    expected = {}
    for host in HOSTS:
        model = trained(host)
        charembed.save(model, tmp_path / host.name)
        with torch.no_grad():
            expected[host.name] = logits_of(model)
    out = tmp_path / "logits.safetensors"
    done = warm.run([sys.executable, "-c", LOADER, tmp_path, out], cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert all(torch.equal(logits, expected[name]) for name, logits in load_file(out).items())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_dtypes_come_back_bit_equal(dtype: torch.dtype, tmp_path: Path) -> None:
    for moved in (
        True,
        False,
    ):  # the whole model moved, or only a base that was half before attaching
        base = GPT2().to(dtype)
        model = GPT2.attach(base, init="normal").eval()
        model = model.to(dtype) if moved else model
        charembed.save(model, tmp_path)
        again = charembed.load(GPT2().to(dtype), VOCABULARY, tmp_path).eval()
        assert torch.equal(logits_of(again), logits_of(model))
        assert {p.dtype for p in charembed.parameters(again)} == {
            p.dtype for p in charembed.parameters(model)
        }


def test_a_half_precision_part_on_a_float32_base_is_widened(tmp_path: Path) -> None:
    charembed.save(trained(GPT2).bfloat16(), tmp_path)
    again = charembed.load(GPT2(), VOCABULARY, tmp_path)
    assert {p.dtype for p in charembed.parameters(again)} == {torch.float32}


def test_the_saved_path_serves_hosts_without_get_input_embeddings_and_others_find_their_own(
    tmp_path: Path,
) -> None:
    charembed.save(trained(DECODER), tmp_path)
    assert char_embedding(charembed.load(DECODER(), VOCABULARY, tmp_path)) is not None
    charembed.save(trained(GPT2), tmp_path)
    bare = charembed.load(
        GPT2().transformer, VOCABULARY, tmp_path
    )  # its path is "wte", not "transformer.wte"
    assert char_embedding(bare) is bare.wte


def test_a_part_with_updated_spellings_keeps_its_alphabet(tmp_path: Path) -> None:
    model, grown = trained(GPT2), [*VOCABULARY, "ж".encode()]
    model.resize_token_embeddings(V + 1, mean_resizing=False)
    with raises(AttachError, "261 260 charembed."):
        charembed.save(model, tmp_path)
    charembed.update_spellings(model, grown)
    charembed.save(model, tmp_path)
    base = GPT2()
    base.resize_token_embeddings(V + 1, mean_resizing=False)
    base.load_state_dict(
        {name: value for name, value in model.state_dict().items() if ".encoder." not in name}
    )
    assert torch.equal(logits_of(charembed.load(base, grown, tmp_path).eval()), logits_of(model))


class Counts(nn.Module):
    """An encoder of the user's own: the number of characters, projected."""

    def __init__(self, dim: int = 16) -> None:
        super().__init__()
        self.linear = nn.Linear(1, dim)

    def forward(self, ids_U: Tensor) -> Tensor:
        return self.linear(SpellingTable.from_bytes(VOCABULARY).lengths_V[ids_U].float()[:, None])


def test_an_encoder_of_your_own_is_handed_over(tmp_path: Path) -> None:
    model = charembed.attach(GPT2(), VOCABULARY, encoder=Counts()).eval()
    charembed.save(model, tmp_path)
    assert torch.equal(
        logits_of(charembed.load(GPT2(), VOCABULARY, tmp_path, encoder=Counts()).eval()),
        logits_of(model),
    )
    with raises(MismatchError, "Counts encoder="):
        charembed.load(GPT2(), VOCABULARY, tmp_path)
    with raises(MismatchError, "Counts Linear"):
        charembed.load(GPT2(), VOCABULARY, tmp_path, encoder=nn.Linear(1, 16))
    with raises(MismatchError, "linear.bias [16] [3]"):
        charembed.load(GPT2(), VOCABULARY, tmp_path, encoder=Counts(3))


class Looked(Counts):
    """An encoder with its spellings as an integer buffer, and one parameter under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("lengths_V", SpellingTable.from_bytes(VOCABULARY).lengths_V.long())
        self.again = self.linear


def test_buffers_of_integers_and_shared_parameters_are_saved(tmp_path: Path) -> None:
    model = charembed.attach(GPT2(), VOCABULARY, encoder=Looked()).eval()
    charembed.save(model, tmp_path)
    again = charembed.load(GPT2(), VOCABULARY, tmp_path, encoder=Looked()).eval()
    assert torch.equal(logits_of(again), logits_of(model))


def test_the_saved_path_is_preferred_and_wrappers_leave_no_trace_in_it(tmp_path: Path) -> None:
    two = nn.ModuleDict({"a": nn.Embedding(V, 8), "b": nn.Embedding(V, 8)})
    two.get_input_embeddings = lambda: two["a"]
    charembed.save(charembed.attach(two, VOCABULARY, module="b"), tmp_path)
    fresh = nn.ModuleDict(
        {"a": copy.deepcopy(two["a"]), "b": nn.Embedding.from_pretrained(two["b"].weight.detach())}
    )
    fresh.get_input_embeddings = lambda: fresh["a"]
    charembed.load(fresh, VOCABULARY, tmp_path)
    assert [type(fresh[name]).__name__ for name in "ab"] == ["Embedding", "CharEmbedding"]
    for wrapped in (
        torch.compile(DECODER.attach(DECODER()), backend="eager"),
        nn.DataParallel(DECODER.attach(DECODER())),
    ):
        charembed.save(wrapped, tmp_path)
        assert char_embedding(charembed.load(DECODER(), VOCABULARY, tmp_path)) is not None


def test_a_part_loaded_with_a_spelling_table_needs_no_special_order(tmp_path: Path) -> None:
    model, grown = trained(GPT2), [*VOCABULARY, "ж".encode()]
    model.resize_token_embeddings(V + 1, mean_resizing=False)
    charembed.update_spellings(model, [*VOCABULARY, "я".encode()])
    charembed.update_spellings(
        model, grown
    )  # the alphabet now ends with two characters that are out of order
    charembed.save(model, tmp_path)
    base = charembed.detach(copy.deepcopy(model))
    assert torch.equal(
        logits_of(charembed.load(base, SpellingTable.from_bytes(grown), tmp_path).eval()),
        logits_of(model),
    )


# Parts that do not fit the model.


def test_files_for_something_else_are_refused_naming_both_sides(saved: Path) -> None:
    model = GPT2()
    swapped = [*VOCABULARY[:256], b"then", b"the", b"there", None]
    for tokenizer in (
        swapped,
        [*VOCABULARY[:255], "ж".encode(), *VOCABULARY[256:]],
        SpellingTable.from_bytes(swapped),
    ):
        with raises(MismatchError, "tokenizer 260 SHA-256"):
            charembed.load(model, tokenizer, saved)
    with raises(charembed.SpellingError, "261 260"):
        charembed.load(model, [*VOCABULARY, b"x"], saved)
    assert unchanged(model)
    small = GPT2()
    small.resize_token_embeddings(99)
    with raises(MismatchError, "260 99"):
        charembed.load(small, VOCABULARY[:99], saved)
    with raises(MismatchError, "16 8"):
        charembed.load(nn.Sequential(nn.Embedding(V, 8)), VOCABULARY, saved, module="0")
    with raises(AttachError, "CharEmbedding charembed.detach"):
        charembed.load(trained(GPT2), VOCABULARY, saved)


def manifest_of(folder: Path) -> dict[str, Any]:
    with safe_open(folder / TENSORS, framework="pt") as file:
        manifest: dict[str, Any] = json.loads(file.metadata()["manifest"])
    return manifest


def rewrite(folder: Path, **changes: Any) -> None:
    """Save other facts with correct hashes, as another version or an attacker could."""
    manifest = manifest_of(folder) | changes
    manifest["manifest_sha256"] = checkpoint._hash_manifest(manifest)
    save_file(
        load_file(folder / TENSORS), folder / TENSORS, metadata={"manifest": json.dumps(manifest)}
    )


def test_another_format_is_refused_naming_both_versions(saved: Path) -> None:
    rewrite(saved, format=9, charembed="9.9")
    model = GPT2()
    with raises(CheckpointError, "9 9.9 1 2"):
        charembed.load(model, VOCABULARY, saved)
    assert unchanged(model)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"num_tokens": "many"}, "num_tokens"),
        ({"alphabet": None}, "alphabet"),
        ({"config": {"colour": 3}}, "config"),
        ({"encoder": 3}, "encoder"),
    ],
)
def test_a_manifest_that_says_too_little_is_refused(
    saved: Path, changes: dict[str, Any], named: str
) -> None:
    rewrite(saved, **changes)
    with raises(CheckpointError, f"{named}"):
        charembed.load(GPT2(), VOCABULARY, saved)


def test_sizes_are_checked_before_anything_is_allocated(saved: Path) -> None:
    """A manifest with an LSTM of 160 TB is refused by its shapes at once."""
    rewrite(saved, config={"char_dim": 10**6, "hidden_size": 10**6, "init": "zero", "seed": 0})
    model = GPT2()
    with raises(MismatchError, "chars.weight 12 1000000"):
        charembed.load(model, VOCABULARY, saved)
    assert unchanged(model)


def test_missing_and_truncated_files_are_refused(saved: Path) -> None:
    name = TENSORS
    whole, model = (saved / name).read_bytes(), GPT2()
    for length in (0, 1, 7, 8, 100, len(whole) // 2, len(whole) - 2):
        (saved / name).write_bytes(whole[:length])
        with raises(CheckpointError, "char_embedding.safetensors"):
            charembed.load(model, VOCABULARY, saved)
    (saved / name).unlink()
    with raises(CheckpointError, f"{name} charembed.save"):
        charembed.load(model, VOCABULARY, saved)
    with raises(CheckpointError, "exist"):
        charembed.load(model, VOCABULARY, saved / "nowhere")
    assert unchanged(model)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(draw=st.data())
def test_no_flipped_bit_goes_unseen(saved: Path, draw: st.DataObject) -> None:
    name = TENSORS
    whole = (saved / name).read_bytes()
    position, bit = draw.draw(st.integers(0, len(whole) - 1)), draw.draw(st.integers(0, 7))
    model = GPT2()
    try:
        (saved / name).write_bytes(
            whole[:position] + bytes([whole[position] ^ (1 << bit)]) + whole[position + 1 :]
        )
        with pytest.raises((CheckpointError, MismatchError)):
            charembed.load(model, VOCABULARY, saved)
        assert type(GPT2.embedding(model)) is nn.Embedding
    finally:
        (saved / name).write_bytes(whole)


def test_a_pickle_in_the_place_of_the_tensors_is_never_opened(saved: Path) -> None:
    torch.save({"a": torch.ones(2)}, saved / TENSORS)
    with raises(CheckpointError, "damaged"):
        charembed.load(GPT2(), VOCABULARY, saved)


# Interruptions.


def test_an_interrupted_save_leaves_the_old_part_or_the_new(
    saved: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    old, new = trained(GPT2), trained(GPT2)
    with torch.no_grad():
        charembed.parameters(new)[0].mul_(2)
    for interrupted_call, expected in (("fsync", old), ("unlink", new)):
        folder = tmp_path / interrupted_call
        shutil.copytree(saved, folder)
        with monkeypatch.context() as patch:

            def interrupted(*_: Any, **__: Any) -> None:
                raise KeyboardInterrupt

            patch.setattr(
                *((files.os, "fsync") if interrupted_call == "fsync" else (Path, "unlink")),
                interrupted,
            )
            with pytest.raises(KeyboardInterrupt):
                charembed.save(new, folder)
        assert torch.equal(
            logits_of(charembed.load(GPT2(), VOCABULARY, folder).eval()), logits_of(expected)
        )


def test_saving_twice_at_once_leaves_one_of_the_two(tmp_path: Path) -> None:
    model = trained(GPT2)
    threads = [threading.Thread(target=charembed.save, args=(model, tmp_path)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert torch.equal(
        logits_of(charembed.load(GPT2(), VOCABULARY, tmp_path).eval()), logits_of(model)
    )
    assert {path.name for path in tmp_path.iterdir()} == {TENSORS}


def test_saving_again_gives_the_same_bytes(saved: Path, tmp_path: Path) -> None:
    charembed.save(trained(GPT2), tmp_path / "again")
    assert (saved / TENSORS).read_bytes() == (tmp_path / "again" / TENSORS).read_bytes()


def test_nothing_to_save_is_an_error(tmp_path: Path) -> None:
    with raises(AttachError, "0 CharEmbeddings"):
        charembed.save(GPT2(), tmp_path / "x")
    assert not (tmp_path / "x").exists()
