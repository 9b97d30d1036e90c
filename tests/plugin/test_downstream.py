"""Folded models in other tools: the real CTranslate2, ONNX Runtime, gguf and mlx-lm packages.

    pip install -c constraints.txt -e ".[test,downstream]"
    python -m pytest -m slow tests/plugin/test_downstream.py      # a minute

A tool that is not installed is skipped. docs/compatibility.md lists the results.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn

import charembed
from tests.messages import raises, says
from tests.plugin.families import hide_progress_bars

TEXT = "the quick brown fox jumps over the lazy dog and the strawberry cake with blueberries"
IDS = torch.arange(60, 100)[None]
# 500,000 instead of the default 10,000: a tool that reads no base computes other logits
ROPE = {"rope_type": "default", "rope_theta": 500_000.0}
LLAMA3 = ROPE | {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}  # fmt: skip
SIZES: dict[str, Any] = dict(
    hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
    num_key_value_heads=2, max_position_embeddings=128, bos_token_id=0, eos_token_id=0,
    tie_word_embeddings=True,
)  # fmt: skip


def save_tokenizer(folder: Path) -> Any:
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=["<end>"], show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )  # fmt: skip
    bpe.train_from_iterator([TEXT] * 9, trainer)
    special = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<end>")
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=bpe, **special)
    tokenizer.save_pretrained(folder)
    return tokenizer


def attached(family: str, folder: Path, rope: dict[str, Any] = ROPE) -> Any:
    """Return a tied model with character vectors that matter, and save its tokenizer."""
    hide_progress_bars()
    tokenizer = save_tokenizer(folder)
    rows = len(tokenizer)
    if family == "GPT2":
        config: Any = transformers.GPT2Config(
            vocab_size=rows, n_embd=64, n_layer=2, n_head=2, n_positions=128,
            bos_token_id=0, eos_token_id=0,
        )  # fmt: skip
        made: Any = transformers.GPT2LMHeadModel
    else:
        config = getattr(transformers, f"{family}Config")(
            vocab_size=rows, **SIZES, rope_parameters=rope
        )
        made = getattr(transformers, f"{family}ForCausalLM")
    torch.manual_seed(0)
    model = charembed.attach(made(config).eval(), tokenizer, init="normal", scale=1.0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2 and len(parameter) != rows:
                parameter.mul_(4)  # attention that depends on the position
    return model


@torch.no_grad()
def log_probabilities(model: Any) -> Tensor:
    found: Tensor = model(IDS).logits[0].float().log_softmax(-1)
    return found


class Logits(nn.Module):
    """The logits alone, as exporters want them."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor) -> Any:
        return self.model(input_ids=ids, use_cache=False).logits


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", ["GPT2", "Llama", "Qwen3"])
def test_ctranslate2_computes_the_folded_model(family: str, tmp_path: Path) -> None:
    ctranslate2 = pytest.importorskip("ctranslate2")
    model = charembed.fold(attached(family, tmp_path))
    expected = log_probabilities(model)
    model.save_pretrained(tmp_path)
    converter = ctranslate2.converters.TransformersConverter(str(tmp_path))
    generator = ctranslate2.Generator(converter.convert(str(tmp_path / "ct2")))
    found = generator.forward_batch([IDS[0].tolist()], return_log_probs=True)
    torch.testing.assert_close(torch.tensor(np.array(found))[0], expected, rtol=0, atol=1e-4)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    start = tokenizer(TEXT)["input_ids"][:9]
    steps = generator.generate_batch(
        [tokenizer.convert_ids_to_tokens(start)],
        max_length=12, sampling_topk=1, include_prompt_in_result=False, end_token=[],
    )  # fmt: skip
    greedy = model.generate(
        torch.tensor([start]), max_new_tokens=12, min_new_tokens=12, do_sample=False, pad_token_id=0
    )
    assert steps[0].sequences_ids[0] == greedy[0, len(start) :].tolist()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", ["GPT2", "Llama"])
def test_onnx_runtime_computes_the_folded_model(family: str, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model = Logits(charembed.fold(attached(family, tmp_path)))
    path = str(tmp_path / "model.onnx")
    length = torch.export.Dim("length", min=2, max=128)
    torch.onnx.export(model, (IDS,), path, dynamic_shapes=({1: length},), verbose=False)
    session = onnxruntime.InferenceSession(path)
    (name,) = (one.name for one in session.get_inputs())
    for ids in (IDS, IDS.flip(1)[:, :17]):
        with torch.no_grad():
            expected = model(ids)
        (found,) = session.run(None, {name: ids.numpy()})
        torch.testing.assert_close(torch.tensor(found), expected, rtol=0, atol=1e-4)


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(256, 8), nn.Linear(8, 256)

    def forward(self, ids: Tensor) -> Any:
        return self.head(self.embedding(ids))


def small(encoder: str) -> Any:
    letters = [bytes([i]) for i in range(256)]
    model = charembed.attach(Small(), letters, module="embedding", encoder=encoder, init="normal")
    return model.eval()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("encoder", ["lstm", "gru"])
@pytest.mark.parametrize("train", [False, True])
def test_onnx_has_no_recurrence_and_the_error_says_fold(
    encoder: str, train: bool, tmp_path: Path
) -> None:
    pytest.importorskip("onnxscript")
    model = small(encoder).train(train)
    path = tmp_path / "model.onnx"
    with pytest.raises(torch.onnx.OnnxExporterError) as refused:
        torch.onnx.export(model, (IDS,), str(path), verbose=False)
    says(refused.value, "CharEmbedError fold(model)")
    assert not path.exists()
    torch.export.export(model, (IDS,))  # torch's own format has the operator
    torch.onnx.export(charembed.fold(model), (IDS,), str(path), verbose=False)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("encoder", ["bag", "cnn", "bee", "transformer"])
def test_onnx_exports_the_other_encoders(encoder: str, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model = small(encoder)
    path = str(tmp_path / "model.onnx")
    torch.onnx.export(model, (IDS,), path, verbose=False)
    session = onnxruntime.InferenceSession(path)
    (found,) = session.run(None, {session.get_inputs()[0].name: IDS.numpy()})
    torch.testing.assert_close(torch.tensor(found), model(IDS).detach(), rtol=0, atol=1e-4)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("gradients", [True, False])
def test_a_trace_of_torchscript_says_fold(gradients: bool) -> None:
    model = small("lstm")
    with raises(charembed.CharEmbedError, "fold(model)"), torch.set_grad_enabled(gradients):
        torch.jit.trace(model, (IDS,))
    folded = charembed.fold(model)
    assert torch.equal(torch.jit.trace(folded, (IDS,))(IDS.flip(1)), folded(IDS.flip(1)))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("rope", [ROPE, LLAMA3], ids=["default", "llama3"])
def test_mlx_lm_reads_the_rope(rope: dict[str, Any], tmp_path: Path) -> None:
    mx = pytest.importorskip("mlx.core")
    utils = pytest.importorskip("mlx_lm.utils")
    model = charembed.fold(attached("Llama", tmp_path, rope))
    expected = log_probabilities(model)

    def difference() -> float:
        logits = utils.load_model(tmp_path)[0](mx.array(IDS.tolist())).astype(mx.float32)
        found = torch.tensor(logits.tolist())[0].log_softmax(-1)
        return float((found - expected).abs().max())

    model.save_pretrained(tmp_path)
    charembed.complete_config(tmp_path)
    assert difference() < 1e-4
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    for name in ("rope_theta", "rope_scaling"):
        config.pop(name, None)
    path.write_text(json.dumps(config))
    assert difference() > 1e-2  # mlx-lm still needs the fields


def write_gguf(model: Any, path: Path) -> None:
    """Write a Llama as llama.cpp's converter does."""
    gguf = pytest.importorskip("gguf")
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_vocab_size(config.vocab_size)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            # ggml rotates neighbouring pairs, transformers halves
            heads = tensor.view(config.num_attention_heads, 2, -1, config.hidden_size)
            tensor = heads.transpose(1, 2).reshape(tensor.shape)
        writer.add_tensor(names.get_name(name, (".weight",)), tensor.numpy())
    for write in ("header", "kv_data", "tensors"):
        getattr(writer, f"write_{write}_to_file")()
    writer.close()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_gguf_file_keeps_both_tables(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    model = charembed.fold(attached("Llama", tmp_path))
    expected = log_probabilities(model)
    write_gguf(model, tmp_path / "model.gguf")
    names = {tensor.name for tensor in gguf.GGUFReader(tmp_path / "model.gguf").tensors}
    assert {"token_embd.weight", "output.weight"} <= names
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="model.gguf")
    assert not again.config.tie_word_embeddings
    torch.testing.assert_close(log_probabilities(again.eval()), expected, rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("state", ["attached", "folded"])
def test_lm_eval_scores_the_model(state: str, tmp_path: Path) -> None:
    huggingface = pytest.importorskip("lm_eval.models.huggingface")
    instance = pytest.importorskip("lm_eval.api.instance")
    model = attached("GPT2", tmp_path)
    if state == "folded":
        charembed.fold(model)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    start, whole = (tokenizer(text, return_tensors="pt")["input_ids"] for text in (TEXT[:9], TEXT))
    with torch.no_grad():
        log_p = model(whole).logits.log_softmax(-1)[0, :-1].gather(1, whole[0, 1:, None])
    expected = float(log_p[start.shape[1] - 1 :].sum())
    harness = huggingface.HFLM(pretrained=model, tokenizer=tokenizer, batch_size=1, device="cpu")
    request = instance.Instance("loglikelihood", {}, (TEXT[:9], TEXT[9:]), 0)
    (found, _), *_ = harness.loglikelihood([request], disable_tqdm=True)
    assert math.isclose(found, expected, abs_tol=1e-3)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_openvino_computes_the_folded_model(tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino")
    model = Logits(charembed.fold(attached("Llama", tmp_path)))
    with torch.no_grad():
        expected, program = model(IDS), torch.export.export(model, (IDS,))
    converted = openvino.convert_model(program)
    compiled = openvino.compile_model(converted, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = torch.tensor(compiled([IDS.numpy()])[0])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
