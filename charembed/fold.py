"""Write the character vectors into the ordinary embedding, so that a plain model remains."""

from __future__ import annotations

import copy
import inspect
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .attach import check_as_host, check_releasable
from .embedding import CharEmbedding, Model, attached
from .errors import CharEmbedError
from .export import set_config_fields, warn_of_skipped_head
from .fold_check import FoldCheck, Inputs
from .mark import remove_marks
from .model_state import ModelState, address
from .partition import TOKENS_AT_ONCE
from .sharding import check_unsharded

_Exchanged = tuple[nn.Module, dict[str, nn.Parameter]]  # a module and its new parameters


def fold(model: Model, check: Inputs | None = None) -> Model:
    """Write token + character vectors into the original embedding, in place, and return the model.

    charembed.fold(model).save_pretrained("plain")     # loads without charembed
    charembed.fold(model, check=batch)                 # compares the outputs for a batch as well

    The folded model computes, bit for bit, the same outputs as before in evaluation mode, at no
    extra cost and without charembed. If a head was tied to the embedding, it keeps its weights as a
    separate parameter, and `model.config`, if there is one, gets `tie_word_embeddings = False`.
    With that flag transformers ties nothing when it loads the model, so every other shared
    parameter also becomes one parameter for each module that holds it. (UMT5, Switch and UDOP
    compute other outputs with that flag. For them the flag stays True, with a warning.) Does
    nothing if no encoder is attached.

    A head that reads the embedding's weight in its forward (`x @ self.wte.weight.T`) would get the
    character vectors too. Therefore fold runs the model before and after with four ids, in
    evaluation mode, and compares all floating-point tensors of the output. The user's hooks take
    no part, except those whose code names a `weight`. Other arguments that the model requires get
    values such as ones. Buffers, attributes, training flags and random states are the same
    afterwards. The run is skipped if the model cannot be run in this way, has weights on the meta
    device, waits for other processes, or holds buffers of more than 256 MiB. Then only the code of
    the forwards is searched for such a head.

    Arguments:
        model: a model with an attached encoder.
        check: ids (B, T), or a dict with the inputs of the model. The outputs for them, hooks
            included, must be bit-equal before and after, or differ less than ten times as much as
            two runs of the same model (on a GPU). Default: None, the four ids.

    Raises CharEmbedError if the outputs would differ, or if a folded vector is not finite. Raises
    AttachError if the embedding was replaced, pruned, parametrized, patched or quantized after
    `attach`, or if FSDP or accelerate holds the weights. After an error the model is unchanged.
    """
    if check is not None and not isinstance(check, Tensor | Mapping):
        raise CharEmbedError(
            f"check is a {type(check).__name__}; it must be a tensor of ids (B, T) or a dict of the "
            "model's inputs."
        )
    if isinstance(check, Tensor) and (check.is_floating_point() or check.numel() == 0):
        raise CharEmbedError(
            f"check is a tensor of {check.dtype} and shape {tuple(check.shape)}; it must hold token "
            "ids (B, T), at least one."
        )
    embeddings = attached(model)
    if not embeddings:
        return model
    for embedding in embeddings:
        check_unsharded(model, embedding)
        check_as_host(embedding)
    check_releasable(embeddings)
    tables = [_finite_table(embedding) for embedding in embeddings]
    weights = {id(embedding.weight) for embedding in embeddings}
    others = [part for part in model.modules() if part not in embeddings]
    # A tied head holds the embedding's own Parameter object, or after
    # load_state_dict(assign=True) another one with the same memory.
    tables_at = {address(embedding.weight) for embedding in embeddings}
    tied = len(embeddings) > 1 or any(
        p is not None and address(p) in tables_at
        for part in others
        for p in part._parameters.values()
    )
    outputs = FoldCheck(model, embeddings, tables, check)
    if tied:
        warn_of_skipped_head(model)
    pairs = zip(embeddings, tables, strict=True)
    exchanged = [_exchange(embedding, embedding.weight, table_VD) for embedding, table_VD in pairs]
    configs = _untied_configs(model) if tied else None
    if configs is not None:
        # the encoders go away, so their parameters need no copies
        encoders = {part for embedding in embeddings for part in embedding.encoder.modules()}
        rest = [part for part in others if part not in encoders]
        exchanged += _own_parameters([*rest, *embeddings], weights)

    def commit() -> None:
        """Assign objects that exist already, so that an error above leaves the model as it was."""
        for module, held in exchanged:
            module._parameters.update(held)
        for part, config in configs or ():
            part.config = config
        for embedding in embeddings:
            embedding.release()
        remove_marks(model)

    before = ModelState(model)
    commit()
    try:
        outputs.difference(commit, before.restore)
    except BaseException:  # also Ctrl+C
        before.restore()
        raise
    set_config_fields(model)
    return model


def _finite_table(embedding: CharEmbedding) -> Tensor:
    """Compute token + character vectors (V, D). Raises CharEmbedError if a value is not finite."""
    table_VD = embedding.table()
    # in parts, because isfinite needs several times the memory of its input
    for first, part_ND in enumerate(torch.split(table_VD, TOKENS_AT_ONCE)):
        # The sum of a row is not finite if one of its values is not, and takes a tenth of the time.
        # A sum of large finite values may overflow, so the values decide.
        if torch.isfinite(part_ND.sum(dim=1)).all():
            continue
        if len(bad := (~torch.isfinite(part_ND).all(dim=1)).nonzero()):
            raise CharEmbedError(
                f"The vector of token {first * TOKENS_AT_ONCE + int(bad[0])} is not finite, so "
                "nothing was folded. Fold an earlier checkpoint."
            )
    return table_VD


def _exchange(module: nn.Module, parameter: Tensor, values: Tensor) -> _Exchanged:
    """Create one new parameter for all places where the module holds `parameter`."""
    with torch.inference_mode(False):
        # an inference tensor cannot take part in training, so it is copied
        own = nn.Parameter(
            values.detach().clone() if values.is_inference() else values.detach(),
            parameter.requires_grad,
        )
    return module, {name: own for name, held in module._parameters.items() if held is parameter}


def _own_parameters(parts: list[nn.Module], tables: set[int]) -> Iterator[_Exchanged]:
    """Give each module its own copy of a shared parameter; the first keeps the original.

    `tables` are the ids of the embeddings' weights, which fold exchanges itself. Other parameters
    of an embedding (T5Gemma2 has one for the end of an image) are treated like all others.
    """
    holders: defaultdict[int, list[tuple[nn.Module, nn.Parameter]]] = defaultdict(list)
    for part in parts:
        for parameter in {
            parameter for parameter in part._parameters.values() if parameter is not None
        }:
            if not (isinstance(part, CharEmbedding) and id(parameter) in tables):
                holders[id(parameter)].append((part, parameter))
    for _, *shared in holders.values():
        for part, parameter in shared:
            yield _exchange(part, parameter, parameter.detach().clone())


def _untied_configs(model: nn.Module) -> list[tuple[nn.Module, Any]] | None:
    """Return (module, untied config copy) pairs. Configs are copied as other models may share them.

    Returns None if no config ties weights, or if the model needs the flag.
    """
    parts = [
        (part, part.config) for part in model.modules() if getattr(part, "config", None) is not None
    ]
    if not any(_ties(config) for _, config in parts):
        return None
    if reads := next((part for part, _ in parts if _reads_whether_tied(part)), None):
        warnings.warn(
            f"{type(reads).__name__} computes other outputs if config.tie_word_embeddings is "
            "False, so the flag stays True. from_pretrained keeps embedding and head separate "
            "because their values differ, but tie_weights() and resize_token_embeddings() would "
            "tie them again.",
            stacklevel=3,
        )
        return None
    # One memo for all copies: if a submodule holds a config inside its parent's config, both copies
    # remain one object.
    copies: dict[int, Any] = {}
    # `part.config` of a wrapper is the wrapped module's, so only configs in vars(part) are set.
    mine = [(part, copy.deepcopy(config, copies), "config" in vars(part)) for part, config in parts]
    for config in filter(_ties, copies.values()):
        object.__setattr__(config, "tie_word_embeddings", False)
    return [(part, config) for part, config, own in mine if own]


def _reads_whether_tied(part: nn.Module) -> bool:
    """True if the forward uses the flag, as UMT5's, which scales the input of a tied head."""
    # inspect.unwrap: transformers decorates forward, and the wrapper does not name the flag
    code = getattr(inspect.unwrap(type(part).forward), "__code__", None)
    return code is not None and "tie_word_embeddings" in code.co_names


def _ties(config: Any) -> bool:
    return getattr(config, "tie_word_embeddings", False) is True
