"""export_rows: base and adapter compute the outputs of the model whose rows were exported."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from peft import PeftModel, TrainableTokensConfig, get_peft_model
from safetensors.torch import load_file, save_file

import charembed
from charembed import AttachError, CharEmbedError, CheckpointError, MismatchError, rows_adapter
from tests.laboratory import pretrained
from tests.messages import raises, warns
from tests.plugin.hosts import (
    GEMMA3,
    GPT2,
    HOSTS,
    NANOGPT,
    VOCABULARY,
    Host,
    V,
    hugging_face,
    logits_of,
)
from tests.plugin.test_new_tokens import TEXT

pytestmark = [
    pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`"),
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated"),
]
LLAMA = next(host for host in HOSTS if host.name == "llama")
NEW = [256, 258]
WITHOUT_NEW = torch.tensor([[5, 6, 7, 257]])
OLD = [token for token in range(V) if token not in NEW]


@torch.no_grad()
def changed(base: Any, ids: list[int] = NEW) -> Any:
    """Return a copy with other rows for the ids, in the embedding and in a head of its own."""
    model = copy.deepcopy(base)
    torch.manual_seed(1)
    tables = {model.get_input_embeddings().weight, model.get_output_embeddings().weight}
    for table in sorted(tables, key=lambda table: table is model.get_output_embeddings().weight):
        table[ids] += 0.3 * torch.randn(len(ids), table.shape[1]).to(table)
    return model.eval()


def untied(base: Any) -> Any:
    """Return a copy with a head of its own, as `fold` leaves it."""
    model = copy.deepcopy(base)
    model.config.tie_word_embeddings = False
    head = model.get_output_embeddings()
    head.weight = torch.nn.Parameter(head.weight.detach().clone())
    return model.eval()


def adapted(base: Any, folder: Path) -> Any:
    return PeftModel.from_pretrained(copy.deepcopy(base), folder).eval()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("tie", [True, False])
@pytest.mark.parametrize("host", [LLAMA, GEMMA3, GPT2], ids=lambda host: host.name)
@torch.no_grad()
def test_base_and_adapter_are_the_model_bit_for_bit(
    host: Host, tie: bool, dtype: torch.dtype, tmp_path: Path
) -> None:
    base: Any = host(tie).to(dtype).eval()
    model = changed(base)
    charembed.export_rows(model, NEW, tmp_path, base=base)
    served = adapted(base, tmp_path)
    expected = logits_of(model)
    assert torch.equal(logits_of(served), expected)
    without = logits_of(served, WITHOUT_NEW)
    assert torch.equal(without[..., OLD], logits_of(base, WITHOUT_NEW)[..., OLD])
    with served.disable_adapter():
        assert torch.equal(logits_of(served), logits_of(base))
    assert torch.equal(logits_of(served.merge_and_unload()), expected)


@pytest.mark.parametrize("tie", [True, False])
def test_added_words_are_served_by_a_base_with_spare_rows(tie: bool, tmp_path: Path) -> None:
    tokenizer = pretrained.train_tokenizer(TEXT)
    rows = len(tokenizer) + 4
    model = pretrained.llama(vocab_size=rows, tie_word_embeddings=tie).eval()
    base = copy.deepcopy(model)
    ids = charembed.add_tokens(model, tokenizer, ["blueberry", "cloudberry", "blueberry"])
    charembed.export_rows(model, ids, tmp_path / "words", base=base)
    tokenizer.save_pretrained(tmp_path / "words")
    again = transformers.AutoTokenizer.from_pretrained(tmp_path / "words")
    batch = again("by the blueberry and the cloudberry", return_tensors="pt")["input_ids"]
    assert set(ids) <= set(batch.flatten().tolist())
    served = adapted(base, tmp_path / "words")
    with torch.no_grad():
        assert torch.equal(served(batch).logits, model(batch).logits)
    base.save_pretrained(tmp_path / "base")
    saved = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base").eval()
    with torch.no_grad():
        assert torch.equal(adapted(saved, tmp_path / "words")(batch).logits, model(batch).logits)


@pytest.mark.parametrize("tie", [True, False])
def test_the_files_are_those_that_peft_writes(tie: bool, tmp_path: Path) -> None:
    base: Any = LLAMA(tie)
    charembed.export_rows(changed(base), torch.tensor(NEW), tmp_path / "ours", base=base)
    adapted(base, tmp_path / "ours").save_pretrained(tmp_path / "theirs")
    ours, theirs = (
        load_file(tmp_path / name / "adapter_model.safetensors") for name in ("ours", "theirs")
    )
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    configs = [
        json.loads((tmp_path / name / "adapter_config.json").read_text())
        for name in ("ours", "theirs")
    ]
    assert configs[0]["token_indices"] == NEW
    assert configs[0]["task_type"] == "CAUSAL_LM"
    for config in configs:  # PEFT does not keep the order of its targets
        config["target_modules"].sort()
    assert configs[0] == {name: configs[1][name] or None for name in configs[0]}


@pytest.mark.parametrize("host", [LLAMA, GEMMA3, GPT2], ids=lambda host: host.name)
@torch.no_grad()
def test_the_rows_are_those_that_fold_writes(host: Host, tmp_path: Path) -> None:
    base: Any = host(False).eval()
    model = host.attach(changed(base), init="normal").eval()
    charembed.export_rows(model, range(V), tmp_path / "all", base=base)
    charembed.export_rows(model, NEW, tmp_path / "two")
    tensors = load_file(tmp_path / "two" / "adapter_model.safetensors")
    folded: Any = charembed.fold(model)
    assert torch.equal(logits_of(adapted(base, tmp_path / "all")), logits_of(folded))
    rows = tensors[f"base_model.model.{host.path}.trainable_tokens_delta"]
    assert torch.equal(rows, folded.get_input_embeddings().weight[NEW])
    assert torch.equal(
        tensors["base_model.model.lm_head.trainable_tokens_delta"],
        folded.get_output_embeddings().weight[NEW],
    )


@pytest.mark.parametrize("tie", [True, False])
@pytest.mark.parametrize("host", [LLAMA, GEMMA3, GPT2], ids=lambda host: host.name)
@torch.no_grad()
def test_a_lora_adapter_computes_the_same_up_to_rounding(
    host: Host, tie: bool, tmp_path: Path
) -> None:
    base: Any = host(tie).eval()
    model = changed(base)
    charembed.export_rows(model, NEW, tmp_path, base=base, method="lora")
    served = adapted(base, tmp_path)
    torch.testing.assert_close(logits_of(served), logits_of(model), rtol=1e-5, atol=1e-5)
    without = logits_of(served, WITHOUT_NEW)
    assert torch.equal(without[..., OLD], logits_of(base, WITHOUT_NEW)[..., OLD])
    # vLLM reads these fields and names, and compares the number of columns with its vocabulary
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["r"] == config["lora_alpha"] == len(NEW)
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    assert tensors[f"base_model.model.{host.path}.lora_embedding_A"].shape == (len(NEW), V)


@torch.no_grad()
def test_character_vectors_on_a_tied_base(tmp_path: Path) -> None:
    base: Any = LLAMA(True).eval()
    model = LLAMA.attach(changed(base), init="normal").eval()
    with raises(CharEmbedError, 'tied method="lora"'):
        charembed.export_rows(model, NEW, tmp_path)
    charembed.export_rows(model, range(V), tmp_path / "lora", base=base, method="lora")
    folded = charembed.fold(copy.deepcopy(model))
    torch.testing.assert_close(
        logits_of(adapted(base, tmp_path / "lora")), logits_of(folded), rtol=1e-5, atol=1e-5
    )
    with raises(CharEmbedError, "tied base"):
        charembed.export_rows(folded, NEW, tmp_path / "folded", base=base)
    charembed.export_rows(model, range(V), tmp_path / "own", base=untied(base))
    assert torch.equal(logits_of(adapted(untied(base), tmp_path / "own")), logits_of(folded))
    # a token without characters has the same row in both tables
    charembed.export_rows(model, [V - 1], tmp_path / "end")


def test_several_lora_adapters_of_rows_work_together(tmp_path: Path) -> None:
    base: Any = LLAMA(True).eval()
    model = changed(base)
    for token in NEW:
        with warns(UserWarning, "1 other rows"):
            charembed.export_rows(model, [token], tmp_path / str(token), base=base, method="lora")
    served = adapted(base, tmp_path / str(NEW[0]))
    served.load_adapter(str(tmp_path / str(NEW[1])), "second")
    served.base_model.set_adapter(["default", "second"])
    with torch.no_grad():
        torch.testing.assert_close(logits_of(served), logits_of(model), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("ids", "seen"),
    [
        ([], "empty"),
        ([V], f"{V} {V - 1}"),
        ([-1], f"-1 {V - 1}"),
        ([1.0], "1.0"),
        ([True], "True"),
        (["7"], "7"),
        ("7", "7 list"),
        (7, "7 list"),
        (None, "None"),
    ],
)
def test_ids_that_are_refused(ids: Any, seen: str, tmp_path: Path) -> None:
    with raises(CharEmbedError, seen):
        charembed.export_rows(LLAMA(), ids, tmp_path / "words")
    assert not (tmp_path / "words").exists()


def test_an_id_that_occurs_twice_counts_once(tmp_path: Path) -> None:
    charembed.export_rows(LLAMA(), [9, 7, 9], tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["token_indices"] == [7, 9]


def test_folders_that_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    charembed.export_rows(LLAMA(), [7], tmp_path / "words")
    before = {path: path.read_bytes() for path in (tmp_path / "words").iterdir()}
    for folder, seen in (
        (tmp_path / "file", "file folder"),
        (tmp_path / "words", "adapter_config.json another"),
        ("hf:owner/name", "hf:owner/name upload_folder"),
        ("", "folder"),
        (3, "3 folder"),
    ):
        with raises(CharEmbedError, seen):
            charembed.export_rows(LLAMA(), [8], folder)  # type: ignore[arg-type]
    assert before == {path: path.read_bytes() for path in (tmp_path / "words").iterdir()}


def test_other_files_of_the_folder_stay(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    (tmp_path / "tokenizer.json").write_text("{}")
    charembed.export_rows(LLAMA(), [7], tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"
    assert (tmp_path / "tokenizer.json").read_text() == "{}"


@pytest.mark.parametrize("after", [0, 1, 2])
def test_an_interrupted_export_is_no_adapter_and_can_be_repeated(
    after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, calls = rows_adapter.write_atomically, []

    def interrupted(path: Path, content: Any) -> None:
        if len(calls) == after:
            raise KeyboardInterrupt
        calls.append(path)
        write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(rows_adapter, "write_atomically", interrupted)
        with pytest.raises(KeyboardInterrupt):
            charembed.export_rows(LLAMA(), [7], tmp_path)
    with pytest.raises(ValueError, match=r"adapter_config.json"):
        peft.PeftConfig.from_pretrained(tmp_path)
    model = changed(LLAMA().eval())
    charembed.export_rows(model, NEW, tmp_path)
    with torch.no_grad():
        assert torch.equal(logits_of(adapted(LLAMA(), tmp_path)), logits_of(model))


def test_models_that_are_refused(tmp_path: Path) -> None:
    t5 = transformers.T5ForConditionalGeneration(
        transformers.T5Config(vocab_size=V, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    )
    bart = transformers.BartModel(
        transformers.BartConfig(
            vocab_size=V,
            d_model=16,
            encoder_layers=1,
            decoder_layers=1,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=16,
            decoder_ffn_dim=16,
        )
    )
    with torch.device("meta"):
        empty: Any = LLAMA()
    for model, seen in (
        (t5, "T5ForConditionalGeneration fold"),
        (bart, "BartModel fold"),
        (NANOGPT(), "NanoGPT get_input_embeddings"),
        (VOCABULARY, "list transformers"),
        (empty, "meta"),
        (get_peft_model(LLAMA(), TrainableTokensConfig(token_indices=[5])), "merge_and_unload"),
    ):
        with raises(AttachError, seen):
            charembed.export_rows(model, NEW, tmp_path / "words")  # type: ignore[arg-type]
    with raises(CharEmbedError, "rows trainable_tokens lora"):
        charembed.export_rows(LLAMA(), NEW, tmp_path / "words", method="rows")
    assert not (tmp_path / "words").exists()


@torch.no_grad()
def test_a_row_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    for tie in (True, False):
        model: Any = LLAMA(tie)
        model.get_output_embeddings().weight[258, 3] = float("nan")
        charembed.export_rows(model, [256], tmp_path / str(tie))
        with raises(CharEmbedError, "258 finite"):
            charembed.export_rows(model, NEW, tmp_path / "words")


@torch.no_grad()
def test_a_head_with_a_bias_needs_lora(tmp_path: Path) -> None:
    base: Any = hugging_face("Phi", "ForCausalLM", False, num_key_value_heads=2)
    charembed.export_rows(changed(base), NEW, tmp_path / "zero")  # zeros may be left out
    base.lm_head.bias.normal_()
    model = changed(base)
    with raises(CharEmbedError, 'lm_head bias method="lora"'):
        charembed.export_rows(model, NEW, tmp_path / "words", base=base)
    charembed.export_rows(model, NEW, tmp_path / "lora", base=base, method="lora")
    torch.testing.assert_close(
        logits_of(adapted(base.eval(), tmp_path / "lora")), logits_of(model), rtol=1e-5, atol=1e-5
    )
    model.lm_head.bias[256] += 1
    with raises(CharEmbedError, "lm_head bias base"):
        charembed.export_rows(model, NEW, tmp_path / "words", base=base, method="lora")
    assert not (tmp_path / "words").exists()


class Doubled(torch.nn.Embedding):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(input)


class Placed(torch.nn.Embedding):
    def forward(self, input: torch.Tensor, place: int) -> torch.Tensor:
        return place * super().forward(input)


@pytest.mark.parametrize(("kind", "attach"), [(Doubled, False), (Doubled, True), (Placed, False)])
@torch.no_grad()
def test_an_embedding_with_a_forward_of_its_own_is_refused(
    kind: Any, attach: bool, tmp_path: Path
) -> None:
    base: Any = LLAMA(False).eval()
    base.get_input_embeddings().__class__ = kind
    model = changed(base)
    if attach:
        LLAMA.attach(model, init="normal")
    for method in ("trainable_tokens", "lora"):
        with raises(CharEmbedError, f"{kind.__name__} forward fold"):
            charembed.export_rows(model, NEW, tmp_path / "words", base=base, method=method)
    model.get_input_embeddings().embed_scale = torch.tensor(2.0)
    if kind is Doubled:
        charembed.export_rows(model, NEW, tmp_path / "words")


def test_bases_that_are_refused(tmp_path: Path) -> None:
    model: Any = changed(LLAMA().eval())
    small: Any = LLAMA()
    small.resize_token_embeddings(257, mean_resizing=False)
    wide = hugging_face("Llama", "ForCausalLM", True, hidden_size=24)
    for base, seen in (
        (small, "257 259 resize_token_embeddings(259"),
        (wide, "width"),
        (GPT2(), "transformer.wte model.embed_tokens"),
        (LLAMA.attach(LLAMA()), "encoder plain"),
        (model, "itself from_pretrained"),
    ):
        for method in ("trainable_tokens", "lora"):
            with raises(CharEmbedError, seen):
                charembed.export_rows(model, NEW, tmp_path / "words", base=base, method=method)
    with raises(AttachError, "base str"):
        charembed.export_rows(model, NEW, tmp_path / "words", base="gpt2")  # type: ignore[arg-type]
    with raises(CharEmbedError, "base from_pretrained"):
        charembed.export_rows(model, NEW, tmp_path / "words", method="lora")
    assert not (tmp_path / "words").exists()


def test_lora_of_more_ids_than_servers_take_is_refused(tmp_path: Path) -> None:
    base: Any = hugging_face("Llama", "ForCausalLM", True, vocab_size=520)
    model = copy.deepcopy(base)
    with raises(CharEmbedError, '513 512 method="trainable_tokens"'):
        charembed.export_rows(model, range(513), tmp_path / "a", base=base, method="lora")
    charembed.export_rows(model, range(512), tmp_path / "a", base=base, method="lora")


@torch.no_grad()
def test_a_resized_base_serves_the_words(tmp_path: Path) -> None:
    base: Any = LLAMA().eval()
    model = copy.deepcopy(base)
    model.resize_token_embeddings(V + 1, mean_resizing=False)
    with raises(CharEmbedError, f"{V} {V + 1} resize_token_embeddings({V + 1}"):
        charembed.export_rows(model, [V], tmp_path / "words", base=base)
    base.resize_token_embeddings(V + 3, mean_resizing=False)
    charembed.export_rows(model, [V], tmp_path / "words", base=base)
    charembed.export_rows(model, [V], tmp_path / "lora", base=base, method="lora")
    ids, expected = torch.tensor([[5, V, 6]]), model(torch.tensor([[5, V, 6]])).logits
    assert torch.equal(adapted(base, tmp_path / "words")(ids).logits[..., : V + 1], expected)
    torch.testing.assert_close(
        adapted(base, tmp_path / "lora")(ids).logits[..., : V + 1], expected, rtol=1e-5, atol=1e-5
    )


@torch.no_grad()
def test_differences_that_the_adapter_does_not_hold_are_named(tmp_path: Path) -> None:
    base: Any = LLAMA().eval()
    for k, change in enumerate(("row", "layer", "encoder")):
        model: Any = changed(base)
        if change == "row":
            model.get_input_embeddings().weight[7] += 1
            seen = "1 other rows 0 other parameters"
        elif change == "layer":
            model.model.norm.weight += 1
            seen = "0 other rows 1 other parameters model.norm.weight"
        else:
            model = LLAMA.attach(model, init="normal")
            seen = "257 other rows 0 other parameters"  # all but the exported and the last one
        with warns(UserWarning, seen, "fold"):
            charembed.export_rows(
                model, NEW, tmp_path / str(k), base=untied(base) if change == "encoder" else base
            )


@torch.no_grad()
def test_a_base_of_another_precision_is_the_same_base(tmp_path: Path) -> None:
    base: Any = LLAMA().eval()
    model, half = changed(base), copy.deepcopy(base).bfloat16()
    charembed.export_rows(model, NEW, tmp_path, base=half)
    rounded = copy.deepcopy(model).bfloat16()
    assert torch.equal(logits_of(adapted(half, tmp_path)), logits_of(rounded))


@pytest.mark.slow  # torch.compile's imports take seconds
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@torch.no_grad()
def test_a_compiled_model_has_the_same_adapter(tmp_path: Path) -> None:
    base: Any = LLAMA().eval()
    model = changed(base)
    charembed.export_rows(torch.compile(model), NEW, tmp_path, base=base)
    assert torch.equal(logits_of(adapted(base, tmp_path)), logits_of(model))


@pytest.mark.parametrize("method", ["trainable_tokens", "lora"])
@torch.no_grad()
def test_another_base_is_found(method: str, tmp_path: Path) -> None:
    base: Any = LLAMA().eval()
    base.resize_token_embeddings(V + 4, mean_resizing=False)
    model = changed(base, [256, V + 1])
    charembed.export_rows(model, [256, V + 1], tmp_path, base=base, method=method)
    charembed.check_rows(base, tmp_path)
    charembed.check_rows(copy.deepcopy(base).bfloat16(), str(tmp_path))
    small, wide = copy.deepcopy(base), hugging_face("Llama", "ForCausalLM", True, hidden_size=24)
    small.resize_token_embeddings(V + 1, mean_resizing=False)
    wide.resize_token_embeddings(V + 4, mean_resizing=False)
    torch.manual_seed(9)
    other = hugging_face("Llama", "ForCausalLM", True, vocab_size=V + 4)
    one, ids = changed(base, [V + 3]), changed(base, [256])
    charembed.check_rows(changed(base, [1]), tmp_path)  # a row between those that are compared
    cases: list[tuple[Any, str]] = [
        (small, f"{V + 1} {V + 2} resize_token_embeddings({V + 2}"),
        (wide, "24 16"),
        (GPT2(), "transformer.wte model.embed_tokens"),
        (other, "another base"),
        (other.bfloat16(), "another base"),
        (LLAMA.attach(LLAMA()), "encoder plain"),
    ]
    if method == "lora":  # the head may be tied or not, and the rows must be those of the base
        charembed.check_rows(untied(base), tmp_path)
        cases.append((ids, "another base"))
        one.resize_token_embeddings(V + 9, mean_resizing=False)
        cases.append((one, f"{V + 9} {V + 4}"))
    else:
        charembed.check_rows(ids, tmp_path)
        cases.append((untied(base), "tied own"))
    for wrong, seen in cases:
        with raises(MismatchError, seen):
            charembed.check_rows(wrong, tmp_path)


def test_all_rows_may_be_exported(tmp_path: Path) -> None:
    charembed.export_rows(LLAMA(), range(V), tmp_path)
    charembed.check_rows(LLAMA(), tmp_path)


def test_adapters_that_cannot_be_checked(tmp_path: Path) -> None:
    base: Any = LLAMA()
    get_peft_model(copy.deepcopy(base), TrainableTokensConfig(token_indices=[5])).save_pretrained(
        tmp_path / "theirs"
    )
    with raises(CheckpointError, "export_rows base"):
        charembed.check_rows(base, tmp_path / "theirs")
    with raises(CheckpointError, "adapter_model.safetensors exist export_rows"):
        charembed.check_rows(base, tmp_path / "nothing")
    with raises(CharEmbedError, "3 folder"):
        charembed.check_rows(base, 3)  # type: ignore[arg-type]
    charembed.export_rows(base, [7], tmp_path / "ours")
    file = tmp_path / "ours" / "adapter_model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:100])
    with raises(CheckpointError, "damaged again"):
        charembed.check_rows(base, tmp_path / "ours")
    for damage in ({}, {"num_rows": "8"}, {"base": {"rows": [1], "sample": [[]]}}, {"base": []}):
        save_file(load_file(tmp_path / "theirs" / file.name), file, {"base": json.dumps(damage)})
        with raises(CheckpointError, "export_rows base"):
            charembed.check_rows(base, tmp_path / "ours")


@torch.no_grad()
def test_limits_of_peft_that_the_guide_names(tmp_path: Path) -> None:
    """If one of these fails, PEFT has changed: update the table in docs/wrapping.md."""
    base: Any = LLAMA().eval()
    model = changed(base)
    charembed.export_rows(model, NEW, tmp_path / "tied")
    charembed.export_rows(model, [7], tmp_path / "other")
    # on a copy with a head of its own: loaded without an error, and the head keeps its rows
    copied = logits_of(adapted(untied(base), tmp_path / "tied"))
    assert not torch.allclose(copied, logits_of(model))
    # for another base, and for one with too few rows
    assert logits_of(adapted(changed(base, [5]), tmp_path / "tied")).isfinite().all()
    small = copy.deepcopy(base)
    small.resize_token_embeddings(257, mean_resizing=False)
    with pytest.raises(IndexError):
        adapted(small, tmp_path / "tied")
    # a second token adapter, on a tied base and on another
    served = adapted(base, tmp_path / "tied")
    served.load_adapter(str(tmp_path / "other"), "second")
    with pytest.raises(ValueError, match="unknown layer type"):
        logits_of(served)
    own, changed_own = untied(base), changed(untied(base))
    charembed.export_rows(changed_own, [NEW[0]], tmp_path / "first")
    charembed.export_rows(changed_own, [NEW[1]], tmp_path / "second")
    served = adapted(own, tmp_path / "first")
    served.load_adapter(str(tmp_path / "second"), "second")
    served.base_model.set_adapter(["default", "second"])
    assert torch.equal(logits_of(served), logits_of(changed_own))
    assert not hasattr(served, "add_weighted_adapter")
    # a weighted sum of LoRA adapters with trained rows: the rows are dropped
    both = peft.LoraConfig(
        r=2, target_modules=["q_proj"], trainable_token_indices={"embed_tokens": [5]}
    )
    summed = get_peft_model(copy.deepcopy(own), both).eval()
    for name, parameter in summed.named_parameters():
        if "trainable_tokens_delta" in name:
            parameter += 1
    assert not torch.equal(logits_of(summed, WITHOUT_NEW), logits_of(own, WITHOUT_NEW))
    summed.add_weighted_adapter(["default"], [1.0], "sum", combination_type="linear")
    summed.set_adapter("sum")
    assert torch.equal(logits_of(summed, WITHOUT_NEW), logits_of(own, WITHOUT_NEW))
    # the head alone, trained on a tied base: merging changes the embedding too
    alone = TrainableTokensConfig(token_indices=[5], target_modules=["lm_head"])
    headed = get_peft_model(copy.deepcopy(base), alone).eval()
    for parameter in headed.parameters():
        if parameter.requires_grad:
            parameter += 1
    unmerged = logits_of(headed, WITHOUT_NEW)
    headed = headed.merge_and_unload()
    assert not torch.allclose(logits_of(headed, WITHOUT_NEW), unmerged, atol=1e-2)
    # a merged LoRA adapter on a tied base: the shared table gets both changes
    charembed.export_rows(model, NEW, tmp_path / "lora", base=base, method="lora")
    with pytest.warns(UserWarning, match="tied_target_modules"):
        merged = logits_of(adapted(base, tmp_path / "lora").merge_and_unload())
    assert not torch.allclose(merged, logits_of(model), atol=1e-2)
    # an adapter for a separate head, on a tied base
    with pytest.warns(UserWarning, match="missing adapter keys"):
        served = adapted(base, tmp_path / "first")
    with pytest.raises(ValueError, match="unknown layer type"):
        logits_of(served)
