"""Config fields for other tools, which change nothing for transformers, and lost heads."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

import charembed
from charembed.export import set_config_fields
from tests.messages import raises, warns
from tests.plugin.families import aligned, hide_progress_bars
from tests.plugin.hosts import IDS, VOCABULARY, V

SIZES: dict[str, Any] = dict(
    vocab_size=V, hidden_size=16, intermediate_size=32, num_hidden_layers=2,
    num_attention_heads=2, num_key_value_heads=2, head_dim=8, max_position_embeddings=64,
    pad_token_id=0, bos_token_id=2, eos_token_id=2, tie_word_embeddings=True,
)  # fmt: skip


def rope(rope_type: str = "default", theta: float = 5e5, **others: Any) -> dict[str, Any]:
    return {"rope_type": rope_type, "rope_theta": theta, **others}


LLAMA3 = rope(
    "llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
    original_max_position_embeddings=16,
)  # fmt: skip
YARN = rope("yarn", factor=4.0, original_max_position_embeddings=16)
LONG = rope(
    "longrope", factor=2.0, short_factor=[1.0] * 4, long_factor=[2.0] * 4,
    original_max_position_embeddings=32,
)  # fmt: skip
LINEAR = rope("linear", factor=8.0)
HALF = rope(partial_rotary_factor=0.5)
LAYERS = {"full_attention": rope(theta=5e5), "sliding_attention": rope(theta=2e4)}
SCALED_LAYERS = LAYERS | {"full_attention": LINEAR}

# class, its rope, fields in the file after fold and save_pretrained, further fields of
# complete_config
CASES: dict[str, tuple[str, dict[str, Any] | None, dict[str, Any], dict[str, Any]]] = {
    "llama": ("Llama", rope(), {"rope_theta": 5e5}, {}),
    "mistral": ("Mistral", rope(), {"rope_theta": 5e5}, {}),
    "qwen3": ("Qwen3", rope(), {"rope_theta": 5e5}, {}),
    "stablelm, partial": (
        "StableLm", HALF, {"rope_theta": 5e5, "partial_rotary_factor": 0.5}, {},
    ),
    "neox, partial": ("GPTNeoX", HALF, {"rotary_emb_base": 5e5, "rotary_pct": 0.5}, {}),
    "olmo3, equal layers": (
        "Olmo3", dict.fromkeys(LAYERS, rope()), {"rope_theta": 5e5}, {},
    ),
    "olmo3, other layers": ("Olmo3", LAYERS, {}, {}),
    "gemma 3": ("Gemma3", LAYERS, {"rope_theta": 5e5, "rope_local_base_freq": 2e4}, {}),
    "gemma 3, scaled": (
        "Gemma3", SCALED_LAYERS, {},
        {"rope_theta": 5e5, "rope_local_base_freq": 2e4, "rope_scaling": LINEAR},
    ),
    "gpt2": ("GPT2", None, {"n_ctx": 64}, {}),
} | {
    f"llama, {one['rope_type']}": (
        "Llama", one, {}, {"rope_theta": 5e5, "rope_scaling": one},
    )
    for one in (LLAMA3, YARN, LONG, LINEAR, rope("dynamic", factor=2.0))
}  # fmt: skip
FIELDS = {
    "rope_theta", "rope_scaling", "partial_rotary_factor", "rotary_emb_base", "rotary_pct",
    "rope_local_base_freq", "n_ctx",
}  # fmt: skip


def build(family: str, parameters: dict[str, Any] | None) -> Any:
    hide_progress_bars()
    if family == "GPT2":
        config = transformers.GPT2Config(
            vocab_size=V, n_embd=16, n_layer=2, n_head=2, n_positions=64, bos_token_id=2,
            eos_token_id=2,
        )  # fmt: skip
        return transformers.GPT2LMHeadModel(config).eval()
    name = {"Gemma3": "Gemma3TextConfig"}.get(family, f"{family}Config")
    # each layer type occurs, so a wrong local base changes the logits
    layers = {}
    if parameters and "full_attention" in parameters:
        layers = {"layer_types": ["sliding_attention", "full_attention"]}
    made = getattr(transformers, name)(
        **SIZES, **layers, rope_parameters=json.loads(json.dumps(parameters))
    )
    torch.manual_seed(0)
    return getattr(transformers, f"{family}ForCausalLM")(made).eval()


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(IDS.clamp(min=4)).logits
    return found


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("case", CASES)
def test_the_fields_are_written_and_transformers_loads_the_same(case: str, tmp_path: Path) -> None:
    family, parameters, after_fold, completed = CASES[case]
    model = build(family, parameters)
    charembed.attach(model, VOCABULARY, init="normal", char_dim=4, hidden_size=4)
    expected = logits(model)
    charembed.fold(model).save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    before = json.loads(path.read_text())
    assert {name: before[name] for name in FIELDS & before.keys()} == after_fold
    ropes = before.get("rope_parameters")
    assert charembed.complete_config(tmp_path) == completed
    written = json.loads(path.read_text())
    assert written == before | completed
    assert charembed.complete_config(tmp_path) == {}  # a second call finds nothing to add
    again = aligned(type(model).from_pretrained(tmp_path).eval())
    assert torch.equal(logits(again), expected)
    assert again.config.to_dict().get("rope_parameters") == ropes
    # a plain model that was never attached gets all fields from the function
    build(family, parameters).save_pretrained(tmp_path / "plain")
    assert charembed.complete_config(tmp_path / "plain") == after_fold | completed


def test_the_decoder_inside_a_model_of_text_and_images_gets_its_fields(tmp_path: Path) -> None:
    text = transformers.Gemma3TextConfig(**SIZES, rope_parameters=LAYERS)
    vision = transformers.SiglipVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        image_size=16, patch_size=8,
    )  # fmt: skip
    config = transformers.Gemma3Config(text_config=text, vision_config=vision)
    config.save_pretrained(tmp_path)
    fields = {"rope_theta": 5e5, "rope_local_base_freq": 2e4}
    assert charembed.complete_config(tmp_path) == fields
    written = json.loads((tmp_path / "config.json").read_text())
    assert written["text_config"].items() >= fields.items()
    assert transformers.AutoConfig.from_pretrained(tmp_path).text_config.rope_parameters == LAYERS


def test_a_decoder_two_configs_deep_gets_its_fields(tmp_path: Path) -> None:
    text = {"model_type": "qwen2", "rope_parameters": rope()}
    (tmp_path / "config.json").write_text(json.dumps({"thinker_config": {"text_config": text}}))
    assert charembed.complete_config(tmp_path) == {"rope_theta": rope()["rope_theta"]}
    written = json.loads((tmp_path / "config.json").read_text())
    assert "rope_theta" in written["thinker_config"]["text_config"]


def test_layers_without_a_base_are_left_alone(tmp_path: Path) -> None:
    layers = {"full_attention": rope(), "sliding_attention": {"rope_type": "default"}}
    config = {"model_type": "gemma3_text", "rope_parameters": layers}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert charembed.complete_config(tmp_path) == {}


@pytest.mark.parametrize("folder", [None, 3, b"plain"])
def test_what_is_no_path_is_refused(folder: Any) -> None:
    with raises(charembed.CharEmbedError, "folder", repr(folder), "must be"):
        charembed.complete_config(folder)


def test_a_field_that_exists_and_a_config_without_a_rope_stay(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"rope_theta": 1.0, "rope_parameters": rope()}))
    assert charembed.complete_config(tmp_path) == {}
    for odd in ({"model_type": "opt"}, {"rope_parameters": None}, {"rope_parameters": {}}):
        path.write_text(text := json.dumps(odd))
        assert charembed.complete_config(tmp_path) == {}
        assert path.read_text() == text


@pytest.mark.parametrize("text", [None, "{", "[]", "\xff"])
def test_a_folder_without_a_config_is_refused(text: str | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "config.json").write_bytes(text.encode("latin1"))
    with raises(charembed.CharEmbedError, "config.json", "save_pretrained"):
        charembed.complete_config(tmp_path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_no_config_of_transformers_loads_another_rope(tmp_path: Path) -> None:
    """All config classes: `rope_parameters` is what it was, set in memory or in the file."""
    hide_progress_bars()
    seen = 0
    for kind in CONFIG_MAPPING:
        try:
            config = CONFIG_MAPPING[kind]()
            config.save_pretrained(tmp_path)
        except Exception:  # classes that need arguments or other packages
            continue
        plain = type(config).from_pretrained(tmp_path).to_dict()
        added = charembed.complete_config(tmp_path)
        in_file = type(config).from_pretrained(tmp_path).to_dict()
        set_config_fields(Holder(config))
        config.save_pretrained(tmp_path)
        in_memory = type(config).from_pretrained(tmp_path).to_dict()
        for loaded in (in_file, in_memory):
            assert not (loaded.keys() - plain.keys()) - FIELDS, kind
            assert {name: loaded[name] for name in plain} == plain, kind
        seen += bool(added)
    assert seen > 100


class Holder(torch.nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config


@pytest.mark.parametrize("family", ["Gemma", "Gemma2"])
def test_a_head_that_llama_cpps_converter_skips_is_announced(family: str) -> None:
    name = f"{family}ForCausalLM"
    model = charembed.attach(build(family, rope()), VOCABULARY, init="normal")
    with warns(UserWarning, f"llama.cpp {name}"):
        charembed.fold(model)
    # nothing is attached any more, and a head that was separate before is the user's own
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        charembed.fold(model)
        charembed.fold(charembed.attach(model, VOCABULARY))


def test_a_head_that_the_converter_keeps_is_not_announced() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        charembed.fold(charembed.attach(build("Gemma3", LAYERS), VOCABULARY, init="normal"))
