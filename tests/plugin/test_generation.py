"""generate() gives the same as the folded, plain model; disabled, the same as the base."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import charembed
from tests.plugin.hosts import HOSTS, IDS, Host, char_embedding, generating

Answer = Callable[[nn.Module], Tensor]
PADDED = torch.cat(
    [torch.zeros(1, 4, dtype=torch.long), IDS[:1, :5]], dim=1
)  # four padding tokens on the left
MASK = (torch.arange(9) >= 4).long()[None]


def ask(model: Any, ids: Tensor | None = IDS, mask: Tensor | None = None, **kwargs: Any) -> Tensor:
    """Return new ids and their scores, which show differences that equal ids hide."""
    mask = torch.ones_like(IDS) if mask is None else mask
    inputs = {} if ids is None else {"input_ids": ids}
    found = model.generate(
        **inputs,
        attention_mask=mask,
        max_new_tokens=6,
        pad_token_id=0,
        do_sample=False,
        return_dict_in_generate=True,
        output_scores=True,
        **kwargs,
    )
    return torch.cat(
        [found.sequences[:, -6:].flatten().float(), torch.stack(found.scores).flatten()]
    )


def assisted(model: Any) -> Tensor:
    assistant, generator = copy.deepcopy(model), torch.Generator().manual_seed(1)
    for name, parameter in assistant.named_parameters():
        if "norm" in name or ".ln_" in name:  # a head that is not tied
            parameter.add_(0.5 * torch.randn(parameter.shape, generator=generator))
    return ask(model, ids=IDS[:1], mask=torch.ones_like(IDS[:1]), assistant_model=assistant)


WAYS: dict[str, Answer] = {
    "dynamic_cache": ask,
    "no_cache": lambda model: ask(model, use_cache=False),
    "static_cache": lambda model: ask(model, cache_implementation="static"),
    "left_padding": lambda model: ask(model, ids=PADDED, mask=MASK),
    "beams": lambda model: ask(model, num_beams=3),
    "assisted": assisted,
    "inputs_embeds": lambda model: ask(
        model, ids=None, inputs_embeds=model.get_input_embeddings()(IDS)
    ),
}


@generating
@pytest.mark.parametrize("way", WAYS)
@torch.no_grad()
def test_generation_says_the_same(host: Host, way: str) -> None:
    model, answer = host().eval(), WAYS[way]
    plain = answer(model)
    assert torch.equal(answer(host.attach(copy.deepcopy(model))), plain)
    attached = host.attach(model, init="normal")
    unfolded = answer(attached)
    assert not torch.equal(unfolded, plain)
    assert torch.equal(answer(charembed.fold(attached)), unfolded)


@torch.no_grad()
def test_generation_encodes_the_vocabulary_once() -> None:
    host = next(host for host in HOSTS if host.name == "llama")
    model, calls = host.attach(host(), init="normal").eval(), []
    char_embedding(model).encoder.register_forward_hook(lambda *_: calls.append(1))
    for _ in range(3):
        ask(model)
    assert len(calls) == 1
    ask(model.train())
    assert len(calls) > 2  # in training mode there is no table
