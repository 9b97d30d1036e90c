"""Small random models of the families in the installed transformers, from its own lists."""

from __future__ import annotations

import inspect
import logging
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers.models.auto import modeling_auto

from tests.plugin.hosts import IDS, V

HEADS = ("CAUSAL_LM", "MASKED_LM", "SEQ_TO_SEQ_CAUSAL_LM", "PRETRAINING", "IMAGE_TEXT_TO_TEXT")
SMALL: dict[str, Any] = {  # names of sizes in configs
    **dict.fromkeys(
        (
            "vocab_size",
            "src_vocab_size",
            "tgt_vocab_size",
            "decoder_vocab_size",
            "entity_vocab_size",
        ),
        V,
    ),
    **dict.fromkeys(
        ("hidden_size", "d_model", "n_embd", "emb_dim", "embedding_size", "word_embed_proj_dim"), 16
    ),
    **dict.fromkeys(
        ("true_hidden_size", "intra_bottleneck_size", "decoder_hidden_size", "entity_emb_size"), 16
    ),
    **dict.fromkeys(
        ("embedding_rank", "pronunciation_embed_dim", "shape_embed_dim", "shape_vocab_size"), 16
    ),
    **dict.fromkeys(
        (
            "intermediate_size",
            "ffn_dim",
            "encoder_ffn_dim",
            "decoder_ffn_dim",
            "d_ff",
            "hidden_dim",
        ),
        32,
    ),
    **dict.fromkeys(
        ("ffn_hidden_size", "moe_intermediate_size", "shared_expert_intermediate_size", "d_inner"),
        32,
    ),
    **dict.fromkeys(
        (
            "num_hidden_layers",
            "num_layers",
            "encoder_layers",
            "decoder_layers",
            "num_decoder_layers",
        ),
        2,
    ),
    **dict.fromkeys(
        ("n_layer", "n_layers", "num_encoder_layers", "num_experts_per_tok", "type_vocab_size"), 2
    ),
    **dict.fromkeys(
        ("num_attention_heads", "num_heads", "encoder_attention_heads", "decoder_attention_heads"),
        2,
    ),
    **dict.fromkeys(("n_head", "n_heads", "num_key_value_heads", "num_encoder_attention_heads"), 2),
    **dict.fromkeys(("num_decoder_attention_heads", "mamba_n_heads", "n_mamba_heads"), 2),
    **dict.fromkeys(("head_dim", "d_kv", "attention_head_size", "mamba_d_state", "state_size"), 8),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), 4),
    **dict.fromkeys(
        ("max_position_embeddings", "n_positions", "n_ctx", "max_source_positions", "block_size"),
        64,
    ),
    **dict.fromkeys(("bos_token_id", "eos_token_id"), 2),
    **dict.fromkeys(("pad_token_id", "decoder_start_token_id"), 0),
    **dict.fromkeys(("image_token_id", "image_token_index"), 3),
    "num_hidden_groups": 1,
}
KINDS = ["linear_attention", "hybrid", "linear_attention", "hybrid"]
HYBRID = {
    "num_hidden_layers": 4,
    "layers_block_type": KINDS,
    "attention_hidden_size": 32,
    "attention_head_dim": 16,
}
OWN: dict[str, dict[str, Any]] = {  # sizes that must be consistent with those above
    "ZambaConfig": {**HYBRID, "mamba_dt_rank": 4, "use_mamba_kernels": False},
    "Zamba2Config": {
        **HYBRID,
        "adapter_rank": 4,
        "mamba_ngroups": 1,
        "use_mamba_kernels": False,
        "chunk_size": 8,
    },
    "XmodConfig": {"default_language": "en_XX"},
    "MobileBertConfig": {"embedding_size": 16},
}
REMOVED = {"ProphetNetConfig": ("num_hidden_layers",), "NeoMMEConfig": ("head_dim",)}


def classes() -> dict[str, Any]:
    """Return the models with a head that the auto classes list, by name."""
    lists = [getattr(modeling_auto, f"MODEL_FOR_{head}_MAPPING_NAMES") for head in HEADS]
    names = [
        name
        for mapping in lists
        for value in mapping.values()
        for name in ([value] if isinstance(value, str) else value)
    ]
    return {name: getattr(transformers, name) for name in names if hasattr(transformers, name)}


def ties_more_than_its_head(made: Any) -> bool:
    keys = made._tied_weights_keys or {}
    return len(keys) > 1 or made.__name__.startswith(
        "Zamba"
    )  # its layers share weights by keys of the instance


def small(config_class: type, depth: int = 0) -> Any:
    """Return a config with small sizes, also of its sub-configs. Errors of the class are raised."""
    default = config_class()
    changes = {name: value for name, value in SMALL.items() if hasattr(default, name)}
    changes |= OWN.get(config_class.__name__, {})
    for name in REMOVED.get(config_class.__name__, ()):
        del changes[name]
    for name in getattr(default, "sub_configs", {}) if depth < 2 else ():
        if (part := getattr(default, name, None)) is not None:
            changes[name] = small(type(part), depth + 1).to_dict()
    return config_class(**changes)


def build(name: str) -> Any:
    """Build the named model with small sizes.

    Raises the errors of the class itself, and MemoryError if the model stays large.
    """
    made = getattr(transformers, name)
    config = small(made.config_class)
    with torch.device("meta"):
        if sum(parameter.numel() for parameter in made(config).parameters()) > 3_000_000:
            raise MemoryError(name)
    torch.manual_seed(0)
    return made(config).eval()


def moved(model: nn.Module) -> None:
    """Change every trained parameter, so none has its initial value, which may be zero."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.01 + 0.1 * torch.rand(parameter.shape, generator=generator))


@torch.no_grad()
def answer(model: Any) -> Tensor:
    """Return the logits of some ids from whichever output has them."""
    ids = IDS.clamp(min=4)
    kwargs = {"input_ids": ids}
    if "decoder_input_ids" in inspect.signature(model.forward).parameters:
        kwargs["decoder_input_ids"] = ids.flip(1)
    out = model(**kwargs)
    return next(out[name] for name in ("logits", "prediction_logits") if name in out)


def aligned(model: nn.Module) -> nn.Module:
    """Copy the weights into aligned memory and return the model.

    Products with weights that were loaded from a file may differ in the last bit.
    """
    for parameter in {id(p): p for p in model.parameters()}.values():
        parameter.data = parameter.data.clone()
    return model


def hide_progress_bars() -> None:
    transformers.utils.logging.disable_progress_bar()
    logging.getLogger("transformers").setLevel(logging.ERROR)
