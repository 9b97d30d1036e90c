"""FSDP is recognised whether its weights are sharded or, after an evaluation, look whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

import charembed
from charembed import AttachError, CharEmbedError
from tests.messages import raises
from tests.plugin.hosts import GPT2, IDS, VOCABULARY, char_embedding, logits_of
from tests.plugin.test_distributed import in_two_processes
from tests.plugin.test_fold import Attribute, Product, attached

CPU = torch.device("cpu")


def gpt2() -> Any:
    return GPT2.attach(GPT2(), init="normal", char_dim=4, hidden_size=4).eval()


def refused(model: Any, root: Any, folder: Path) -> None:
    """Assert that all functions refuse that would write weights, or save half of them."""
    embedding = char_embedding(model)
    calls: list[Callable[[], Any]] = [
        lambda: charembed.fold(model),
        lambda: charembed.fold(model, check=IDS),
        lambda: charembed.save(model, folder),
        lambda: charembed.set_scale(model),
        lambda: charembed.warm_up(model, steps=1),
        lambda: charembed.project_to_low_fisher(model, IDS),
        lambda: charembed.update_spellings(model, VOCABULARY),
    ]
    if hasattr(model, "resize_token_embeddings"):
        calls.append(lambda: charembed.add_tokens(model, None, ["straw"]))
    for call in calls:
        with raises(AttachError, "sharded get_model_state_dict"):
            call()
    assert char_embedding(root) is embedding


@torch.no_grad()
def worker(out: Path) -> None:
    """Run one of two processes."""
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
    from torch.distributed.fsdp.wrap import ModuleWrapPolicy

    dist.init_process_group("gloo")
    rank, mesh = dist.get_rank(), init_device_mesh("cpu", (2,))
    base, expected = logits_of(GPT2().eval()), logits_of(gpt2())

    # FSDP2 on the root, sharded, then gathered by an evaluation
    model = fully_shard(gpt2(), mesh=mesh)
    refused(model, model, out)
    torch.testing.assert_close(logits_of(model), expected)
    assert not hasattr(char_embedding(model).weight, "device_mesh")
    refused(model, model, out)
    refused(model.transformer, model, out)  # the part does not know its wrapper
    model.reshard()
    torch.testing.assert_close(logits_of(model), expected)
    # detach writes no weights, so nothing undoes it
    charembed.detach(model)
    torch.testing.assert_close(logits_of(model), base)
    model.reshard()
    torch.testing.assert_close(logits_of(model), base)
    plain = fully_shard(GPT2().eval(), mesh=mesh)
    logits_of(plain)
    with raises(AttachError, "FSDP attach"):
        GPT2.attach(plain)

    # FSDP2 on the embedding alone changes its class
    model = gpt2()
    fully_shard(model.transformer.wte, mesh=mesh)
    refused(model, model, out)
    with raises(AttachError, "FSDPCharEmbedding"):
        charembed.detach(model)

    for use_orig_params in (True, False):
        inner = gpt2()
        model = FullyShardedDataParallel(inner, use_orig_params=use_orig_params, device_id=CPU)
        refused(model, model, out)
        torch.testing.assert_close(model(IDS).logits, expected)
        refused(model, model, out)
        refused(inner, model, out)
        with FullyShardedDataParallel.summon_full_params(model):
            with raises(AttachError, "sharded"):
                charembed.fold(model)
            charembed.save(model, out.parent / f"saved-{use_orig_params}-{rank}")
            charembed.set_scale(model, 2.0)
        louder = charembed.set_scale(gpt2(), 2.0)
        torch.testing.assert_close(model(IDS).logits, logits_of(louder))

    # FSDP on other parts: the embedding is whole
    for wrap in ("fsdp", "fsdp2"):
        model = gpt2()
        if wrap == "fsdp":
            block = type(model.transformer.h[0])
            for index, part in enumerate(model.transformer.h):
                model.transformer.h[index] = FullyShardedDataParallel(
                    part, auto_wrap_policy=ModuleWrapPolicy({block}), device_id=CPU
                )
        else:
            for part in model.transformer.h:
                fully_shard(part, mesh=mesh)
        before = logits_of(model)
        charembed.fold(model)
        assert torch.equal(logits_of(model), before)
        charembed.fold(model)

    # One process folds; the other does not take part.
    if rank == 0:

        class Summed(Attribute):
            def forward(self, ids: torch.Tensor) -> Any:
                h = super().forward(ids)
                dist.all_reduce(h)
                return h

        charembed.fold(attached(Summed))
    for made in (Product, Attribute):
        wrapped = nn.parallel.DistributedDataParallel(attached(made))
        if rank == 0:
            if made is Product:
                with raises(CharEmbedError, "Product weight"):
                    charembed.fold(wrapped)
            else:
                charembed.fold(wrapped)
    dist.barrier()
    dist.destroy_process_group()


def test_what_fsdp_would_undo_is_refused(tmp_path: Path) -> None:
    in_two_processes(worker, tmp_path / "x")
    model = gpt2()
    for use_orig_params in (True, False):
        for rank in (0, 1):
            fresh = GPT2().eval()
            charembed.load(fresh, VOCABULARY, tmp_path / f"saved-{use_orig_params}-{rank}")
            with torch.no_grad():
                assert torch.equal(logits_of(fresh), logits_of(model))
