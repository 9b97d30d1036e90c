"""The models that charembed is tested on, each small and random."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

import charembed
from charembed import CharEmbedding, SpellingTable
from training.models.decoder import Decoder, DecoderConfig

VOCABULARY = [*(bytes([i]) for i in range(256)), b"the", b"then", b"there", None]
V = len(VOCABULARY)
TABLE = SpellingTable.from_bytes(VOCABULARY)
IDS = torch.randint(2, 256, (2, 9), generator=torch.Generator().manual_seed(3))
IDS[0, 4], IDS[1, 2], IDS[1, 7], IDS[0, 7], IDS[1, 5] = (
    256,
    257,
    258,
    V - 1,
    1,
)  # words, a token without characters, OPT's padding

# Small sizes of each encoder, so tests are fast.
SMALL: dict[str, dict[str, Any]] = {
    "lstm": {"char_dim": 6, "hidden_size": 8},
    "gru": {"char_dim": 6, "hidden_size": 8},
    "cnn": {"char_dim": 4, "widths": (1, 2, 3), "filters": 4, "max_chars": 9},
    "bag": {"char_dim": 6, "max_chars": 9},
    "bee": {"max_chars": 9},
    "transformer": {"char_dim": 8, "heads": 2, "layers": 2, "max_chars": 9},
}


class Block(nn.Module):
    """Apply attention, then an MLP, each after a LayerNorm."""

    def __init__(self, width: int, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.c_attn, self.c_proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width), nn.Dropout(0.1)
        )

    def forward(self, x_BTD: Tensor) -> Tensor:
        q, k, v = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2)
            for part in self.c_attn(self.ln_1(x_BTD)).chunk(3, dim=2)
        )
        x_BTD = x_BTD + self.c_proj(
            nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            .transpose(1, 2)
            .flatten(2)
        )
        return x_BTD + self.mlp(self.ln_2(x_BTD))


class NanoGPT(nn.Module):
    """A model like nanoGPT: `transformer.wte`, tied `lm_head`, `_init_weights` on all matrices."""

    def __init__(self, tie: bool, width: int = 16, context: int = 32) -> None:
        super().__init__()
        self.transformer = nn.ModuleDict(
            {
                "wte": nn.Embedding(V, width),
                "wpe": nn.Embedding(context, width),
                "h": nn.ModuleList([Block(width)]),
                "ln_f": nn.LayerNorm(width),
            }
        )
        self.lm_head = nn.Linear(width, V, bias=False)
        if tie:
            self.transformer.wte.weight = self.lm_head.weight
        self.apply(self._init_weights)

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=0.02)

    def forward(self, idx: Tensor, targets: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        x_BTD = self.transformer.wte(idx) + self.transformer.wpe(torch.arange(idx.shape[1]))
        for block in self.transformer.h:
            x_BTD = block(x_BTD)
        logits = self.lm_head(self.transformer.ln_f(x_BTD))
        loss = (
            None
            if targets is None
            else nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        )
        return logits, loss


@dataclass(frozen=True)
class Host:
    """A model to test on: how to build it, and the path of its embedding."""

    name: str
    build: Callable[[bool], nn.Module]
    path: str
    hugging_face: bool = True
    generates: bool = True

    def __call__(self, tie: bool = True) -> nn.Module:
        torch.manual_seed(0)
        return self.build(tie)

    def attach(self, model: nn.Module, **kwargs: Any) -> nn.Module:
        return charembed.attach(
            model, VOCABULARY, module=None if self.hugging_face else self.path, **kwargs
        )

    def embedding(self, model: nn.Module) -> nn.Embedding:
        return model.get_submodule(self.path)


SIZES = {
    "vocab_size": V,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "max_position_embeddings": 64,
}
CONFIGS = {"Gemma3": "Gemma3Text"}
NO_SPECIAL = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}


def hugging_face(kind: str, head: str, tie: bool, **changes: Any) -> nn.Module:
    config = getattr(transformers, f"{CONFIGS.get(kind, kind)}Config")(
        **{**SIZES, **NO_SPECIAL, "tie_word_embeddings": tie, **changes}
    )
    model = getattr(transformers, f"{kind}{head}")(config)
    model.loss_type = (
        model.loss_type or "ForCausalLM"
    )  # GPT2LMHeadModel infers no loss from its name and warns
    return model


def _host(
    name: str,
    kind: str,
    path: str,
    head: str = "ForCausalLM",
    generates: bool = True,
    **changes: Any,
) -> Host:
    return Host(
        name, lambda tie: hugging_face(kind, head, tie, **changes), path, generates=generates
    )


GPT2 = _host(
    "gpt2", "GPT2", "transformer.wte", "LMHeadModel", n_positions=64, n_embd=16, n_layer=2, n_head=2
)
DECODER = Host(
    "decoder",
    lambda tie: Decoder(
        DecoderConfig(
            vocab_size=V,
            context=16,
            n_layer=2,
            n_head=2,
            n_embd=16,
            output="tokens" if tie else "own",
        )
    ),
    "wte",
    hugging_face=False,
    generates=False,
)
NANOGPT = Host("nanogpt", partial(NanoGPT), "transformer.wte", hugging_face=False, generates=False)
GEMMA3 = _host("gemma3", "Gemma3", "model.embed_tokens", pad_token_id=0)
HOSTS = [
    DECODER,
    NANOGPT,
    GPT2,
    _host("gpt_neox", "GPTNeoX", "gpt_neox.embed_in"),
    _host(
        "opt",
        "OPT",
        "model.decoder.embed_tokens",
        ffn_dim=32,
        word_embed_proj_dim=16,
        pad_token_id=1,
    ),
    _host("llama", "Llama", "model.embed_tokens"),
    _host("mistral", "Mistral", "model.embed_tokens"),
    _host("qwen2", "Qwen2", "model.embed_tokens"),
    _host("qwen3", "Qwen3", "model.embed_tokens"),
    _host("gemma", "Gemma", "model.embed_tokens", pad_token_id=0),
    GEMMA3,
    _host("mixtral", "Mixtral", "model.embed_tokens", num_local_experts=4, num_experts_per_tok=2),
    _host(
        "bert",
        "Bert",
        "bert.embeddings.word_embeddings",
        "ForMaskedLM",
        generates=False,
        pad_token_id=0,
    ),
]


def _among(hosts: list[Host]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("host", hosts, ids=lambda host: host.name)


# The fixture `host` of conftest.py is each of HOSTS; these are for tests of some of them.
in_transformers = _among([host for host in HOSTS if host.hugging_face])
generating = _among([host for host in HOSTS if host.generates])


def logits_and_loss(model: nn.Module, ids: Tensor = IDS) -> tuple[Tensor, Tensor]:
    """Return logits and loss of some ids, for any kind of output."""
    if isinstance(model, NanoGPT):
        logits, loss = model(ids, ids)
        assert loss is not None
        return logits, loss
    if isinstance(model, Decoder):
        logits = model(ids)
        return logits, nn.functional.cross_entropy(logits.float().flatten(0, 1), ids.flatten())
    output = model(ids, labels=ids)
    return output.logits, output.loss


def logits_of(model: nn.Module, ids: Tensor = IDS) -> Tensor:
    return logits_and_loss(model, ids)[0]


def char_embedding(model: nn.Module) -> CharEmbedding:
    return next(module for module in model.modules() if isinstance(module, CharEmbedding))


def char_vector(embedding: CharEmbedding, token_id: int) -> Tensor:
    """Return the character vector of one token."""
    with torch.no_grad():
        return embedding.encoder(torch.tensor([token_id]))[0]
