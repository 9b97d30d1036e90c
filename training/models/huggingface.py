"""Any causal language model of transformers as a LanguageModel.

Packed rows, shared prefixes and padding on the left need a model whose own code handles positions,
masks and caches as usual. Each is tried once on two small rows and used if the results agree.

Axes: B rows, T tokens per row, S tokens per row including the cache, P columns with a kept
position, N kept positions, M positions of all rows without padding, V vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import charembed
from training.errors import BadInput

from .chunked_loss import Head, cross_entropy
from .generate import evaluating, last_places
from .hub import read
from .language_model import LanguageModel, Mask
from .packing import real_positions, same_row_mask

# errors of model code that gets arguments or caches that it was not written for
_UNSUPPORTED = TypeError, ValueError, RuntimeError, IndexError, AttributeError, NotImplementedError


def check_context(known: int | None, wanted: int) -> None:
    """Raise BadInput if `wanted` tokens do not fit a context of `known` (None: no limit)."""
    if known is not None and wanted > known:
        raise BadInput(
            f"the model reads {known} tokens at most, and the config has rows of {wanted}: choose "
            "a smaller context and finetune_context, or another model."
        )


class HuggingFace(LanguageModel):
    """A causal model of transformers, `model`, in fp32.

    Its own forward() computes the logits, so that a scale or a cap that it applies to them is kept.
    The loss is computed in chunks if logits are nothing but a linear layer (`linear_head`).
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        # nn.Module starts in training mode; the trials below restore the mode that they find here
        self.training = model.training
        self.keeps_logits = "logits_to_keep" in inspect.signature(model.forward).parameters
        self.packs = self.keeps_logits and self._packs_exactly()
        self.blocks = self.packs and self._attends_in_blocks()
        self.linear_head = self._reads_linearly()

    @classmethod
    def load(cls, name: str, context: int) -> HuggingFace:
        """Load a model by name.

        Raises BadInput if there is no causal model of this name with all of its weights, or if rows
        of `context` tokens do not fit it.
        """
        # training keeps fp32 weights, whatever arithmetic its steps use
        options = {"dtype": torch.float32, "output_loading_info": True}
        host, report = read("AutoModelForCausalLM", name, "causal language model", **options)
        # transformers would fill missing weights with random numbers, and only warn
        if missing := sorted(report["missing_keys"]):
            raise BadInput(
                f"{name!r} lacks weights of its own model ({missing[0]} and {len(missing) - 1} "
                "more): save it again, or name another model."
            )
        model = cls(host)
        model.extend_context(context, torch.Generator())
        return model

    @property
    def embedding(self) -> str:  # type: ignore[override]
        # looked up each time: attaching an encoder or resizing may replace the module
        table = self.model.get_input_embeddings()
        path: str = next(path for path, module in self.named_modules() if module is table)
        return path

    def forward(
        self, ids_BT: Tensor, keep_BT: Mask = None, cache: Any = None, real_BS: Mask = None,
        targets_N: Tensor | None = None, base: LanguageModel | None = None,
    ) -> Tensor:  # fmt: skip
        if base is not None:
            return self.divergence_from(base, ids_BT)
        if targets_N is not None:
            return self._loss(ids_BT, keep_BT, targets_N)
        if keep_BT is not None and cache is None and self._packs(ids_BT, keep_BT):
            return self._packed(ids_BT, keep_BT)
        options: dict[str, Any] = {"use_cache": cache is not None}
        if cache is not None:
            options["past_key_values"] = cache
        if real_BS is not None:
            # padding has no position of its own, so that the first real token has position 0
            positions_BS = (real_BS.cumsum(dim=1) - 1).clamp(min=0)
            options["position_ids"] = positions_BS[:, -ids_BT.shape[1] :]
            options["attention_mask"] = real_BS.long()
        # the head computes whole columns; only columns with a kept position are needed
        columns_P = None if keep_BT is None else keep_BT.any(dim=0).nonzero().squeeze(1)
        if columns_P is not None and self.keeps_logits:
            options["logits_to_keep"] = columns_P
        logits: Tensor = self.model(input_ids=ids_BT, **options).logits
        if keep_BT is None:
            return logits
        return logits[keep_BT[:, columns_P] if self.keeps_logits else keep_BT]

    def _packed(self, ids_BT: Tensor, keep_BT: Tensor) -> Tensor:
        """The same logits from one long row: each row up to its last kept position."""
        arguments, kept_N = self._one_row(ids_BT, keep_BT)
        logits: Tensor = self.model(**arguments, logits_to_keep=kept_N).logits
        return logits[0]

    def _one_row(self, ids_BT: Tensor, keep_BT: Tensor) -> tuple[dict[str, Any], Tensor]:
        """Arguments of the model for one long row, and the kept places of it.

        About a third of a batch of questions is padding, which is not computed here.
        """
        real_BT = real_positions(keep_BT)
        _, positions_M = real_BT.nonzero(as_tuple=True)
        arguments = {
            "input_ids": ids_BT[real_BT][None], "position_ids": positions_M[None],
            "attention_mask": self._mask(real_BT), "use_cache": False,
        }  # fmt: skip
        return arguments, keep_BT[real_BT].nonzero().squeeze(1)

    def _mask(self, real_BT: Tensor) -> Tensor:
        """The mask of packed rows: the usual one, or in training only the places of the rows."""
        if not (self.blocks and torch.is_grad_enabled()):
            return same_row_mask(real_BT)
        from .packed_attention import mask_of

        return mask_of(real_BT)

    def _loss(self, ids_BT: Tensor, keep_BT: Mask, targets_N: Tensor) -> Tensor:
        """Cross-entropy in nats, summed over the kept positions."""
        found = self.output(ids_BT, keep_BT)
        if isinstance(found, Head):
            return cross_entropy(*found, targets_N)
        # in fp32: bf16 would lose digits in a sum over thousands of tokens
        return F.cross_entropy(found.float(), targets_N, reduction="sum")

    def output(self, ids_BT: Tensor, keep_BT: Mask = None) -> Head | Tensor:
        head = self.model.get_output_embeddings()
        # the head may have been replaced since the trial, by one with an adapter
        if not self.linear_head or type(head) is not nn.Linear:
            return self(ids_BT, keep_BT).flatten(0, -2)  # type: ignore[no-any-return]
        return Head(self._vectors(ids_BT, keep_BT), head.weight, head.bias)

    def _vectors(self, ids_BT: Tensor, keep_BT: Mask = None) -> Tensor:
        """The vectors that the head reads, (N, D), of all positions or of the kept ones."""
        if keep_BT is not None and self._packs(ids_BT, keep_BT):
            arguments, kept_N = self._one_row(ids_BT, keep_BT)
            found: Tensor = self.model.base_model(**arguments).last_hidden_state
            return found[0, kept_N]
        found = self.model.base_model(input_ids=ids_BT, use_cache=False).last_hidden_state
        return found.flatten(0, 1) if keep_BT is None else found[keep_BT]

    @torch.no_grad()
    def _reads_linearly(self) -> bool:
        """Whether the logits are a plain linear layer of the base model's vectors."""
        head = self.model.get_output_embeddings()
        if type(head) is not nn.Linear or head.weight.is_meta:
            return False
        ids_BT, device, was_training = (
            self._ids([list(range(8))]),
            head.weight.device,
            self.training,
        )
        found = []
        # in training mode, which may drop out some of what the head reads
        self.train()
        try:
            for vectors in (False, True):
                with torch.random.fork_rng([device] if device.type == "cuda" else []):
                    torch.manual_seed(0)  # both ways drop out the same units
                    if vectors:
                        found.append(head(self._vectors(ids_BT)[None]))
                    else:
                        found.append(self.model(input_ids=ids_BT, use_cache=False).logits)
        except _UNSUPPORTED:
            return False
        finally:
            self.train(was_training)
        # subtle: every bit, because a cap at 30 changes small logits by very little
        return torch.equal(*found)

    def _packs(self, ids_BT: Tensor, keep_BT: Tensor) -> bool:
        """Whether these rows may be packed."""
        if not self.packs or not keep_BT.any():
            return False  # model code fails on a row without tokens
        # subtle: transformers takes a mask of four axes as it is, so the window of an attention that
        # has one is not applied, and one that reads the best few positions (index_topk) breaks ties
        # otherwise among all rows; the rows of the trial are too short to show it
        config = self.model.config.get_text_config()
        names = "sliding_window", "attention_chunk_size", "index_topk"
        windows = (getattr(config, name, None) for name in names)
        return all(not each or ids_BT.shape[1] <= each for each in windows)

    def _packs_exactly(self) -> bool:
        """Whether two packed rows give the logits that they give one below the other."""
        self.packs = self.blocks = False  # forward() must take the usual way in the trial
        if next(self.parameters()).device.type == "meta":
            return False  # nothing can be computed, so nothing can be tried
        batch = self._questions()
        return self._agrees(lambda: self._packed(*batch), lambda: self(*batch))

    def _attends_in_blocks(self) -> bool:
        """Whether the model hands on the mask that lets `packed_rows` attend on the padded block.

        Attention other than transformers' own sdpa, which may have sinks or caps, refuses it.
        """
        batch = self._questions()

        def in_blocks() -> Tensor:
            self.blocks = True
            with torch.enable_grad():
                return self._packed(*batch)

        return self._agrees(in_blocks, lambda: self._packed(*batch))

    def _questions(self) -> tuple[Tensor, Tensor]:
        """Two rows of different lengths, for trials."""
        ids_BT = self._ids([[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]])
        return ids_BT, self._ids([[0, 0, 1, 1, 1], [0, 1, 1, 0, 0]]).bool()

    @property
    def context(self) -> int | None:
        return getattr(self.model.config.get_text_config(), "max_position_embeddings", None)

    def extend_context(self, context: int, generator: torch.Generator) -> None:
        check_context(self.context, context)

    def new_cache(self) -> Any:
        import transformers

        # the config decides which layers have sliding windows
        return transformers.DynamicCache(config=self.model.config)

    def drop_rows(self, cache: Any, kept: Tensor) -> None:
        cache.batch_select_indices(kept)

    def repeat_row(self, cache: Any, num_rows: int) -> None:
        cache.batch_repeat_interleave(num_rows)

    def join(self, caches: Sequence[Any]) -> Any:
        joined = self.new_cache()
        longest = max(cache.get_seq_length() for cache in caches)
        for number, layers in enumerate(zip(*(cache.layers for cache in caches), strict=True)):
            keys, values = (
                torch.cat([F.pad(each, (0, 0, 0, longest - each.shape[2])) for each in parts])
                for parts in zip(*((layer.keys, layer.values) for layer in layers), strict=True)
            )
            joined.update(keys, values, number)
        return joined

    @cached_property
    def shares(self) -> bool:  # type: ignore[override]
        """Whether a row in two pieces, with a shared first one, gives the same logits."""
        ids_BT = self._ids([[0, 1, 2, 3, 4], [0, 1, 5, 6, 7]])

        def in_pieces() -> Tensor:
            cache = self.new_cache()
            self._last(ids_BT[:1, :2], cache)
            self.repeat_row(cache, 2)
            return self._last(ids_BT[:, 2:], cache)

        return self._agrees(in_pieces, lambda: self._last(ids_BT))

    @cached_property
    def pads(self) -> bool:  # type: ignore[override]
        """Whether a row with padding on its left, and its continuation, gives the same logits."""
        # subtle: a sliding window may count the padding, which no row as short as these can show
        if getattr(self.model.config.get_text_config(), "sliding_window", None) is not None:
            return False
        ids_BT = self._ids([[0, 1, 2, 3, 4], [9, 9, 5, 6, 7]])

        def padded() -> Tensor:
            cache, real_BS = self.new_cache(), ids_BT != 9
            first = self._last(ids_BT[:, :4], cache, real_BS[:, :4])
            return torch.cat([first, self._last(ids_BT[:, 4:], cache, real_BS)])

        rows = [ids_BT[:1, :4], ids_BT[1:, 2:4], ids_BT[:1], ids_BT[1:, 2:]]
        return self._agrees(padded, lambda: torch.cat([self._last(row) for row in rows]))

    @cached_property
    def joins(self) -> bool:  # type: ignore[override]
        """Whether rows with prefixes of different lengths, and their continuation, have the logits
        that each has alone.
        """
        if not (self.shares and self.pads):
            return False
        ids_BT = self._ids([[0, 1, 2, 3, 4], [5, 9, 9, 6, 7]])

        def together() -> Tensor:
            prefixes = [self.new_cache(), self.new_cache()]
            for cache, prefix_BT in zip(prefixes, (ids_BT[:1, :2], ids_BT[1:, :1]), strict=True):
                self._last(prefix_BT, cache)
            cache, real_BS = self.join(prefixes), ids_BT != 9
            first = self._last(ids_BT[:, 2:4], cache, real_BS[:, :4])
            return torch.cat([first, self._last(ids_BT[:, 4:], cache, real_BS)])

        second = ids_BT[1:, [0, 3, 4]]
        rows = [ids_BT[:1, :4], second[:, :2], ids_BT[:1], second]
        return self._agrees(together, lambda: torch.cat([self._last(row) for row in rows]))

    def _last(self, ids_BT: Tensor, cache: Any = None, real_BS: Mask = None) -> Tensor:
        logits: Tensor = self(ids_BT, last_places(ids_BT), cache, real_BS)
        return logits

    def _ids(self, rows: list[list[int]]) -> Tensor:
        return torch.tensor(rows, device=next(self.parameters()).device)

    @torch.no_grad()
    def _agrees(self, other_way: Callable[[], Tensor], usual_way: Callable[[], Tensor]) -> bool:
        """Whether both ways give the same logits; an error in `other_way` counts as no."""
        with evaluating(self):
            expected = usual_way()
            try:
                found = other_way()
            except _UNSUPPORTED:
                return False
        # two orders of summation round differently; a wrong mask or position changes much more
        atol = 1e-4 * float(expected.abs().max())
        return bool(torch.allclose(found, expected, rtol=1e-3, atol=atol))

    def checkpoint_gradients(self) -> None:
        if not getattr(self.model, "supports_gradient_checkpointing", False):
            raise BadInput(
                f"the model is a {type(self.model).__name__}, which has no gradient checkpointing "
                "in transformers: leave --gradient-checkpointing out (--accumulate also saves "
                "memory)."
            )
        # the reentrant form loses gradients if the inputs of a block need none
        self.model.activation_checkpointing_enable({"use_reentrant": False})

    def inner_matrices(self) -> list[nn.Parameter]:
        # Muon is for hidden matrices; embeddings, head and encoder train with AdamW
        outer = set(charembed.parameters(self))
        for module in self.modules():
            if isinstance(module, nn.Embedding) or module is self.model.get_output_embeddings():
                outer |= set(module.parameters())
        return [each for each in self.parameters() if each.dim() == 2 and each not in outer]
