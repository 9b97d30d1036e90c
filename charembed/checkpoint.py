"""Save the character encoder of a model, and load it onto a fresh copy of the base.

    char_embedding/char_embedding.safetensors

The file holds the encoder's parameters. Its metadata holds a JSON manifest: how to build the
encoder, hashes of the spellings, the base's token table and the tensors. The file has no base
weights, and nothing is ever unpickled.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import torch as safetensors
from torch import Tensor, nn

from . import hub
from .adapters import modules_in_use
from .attach import put
from .embedding import CharEmbedding, Model
from .encoder import FORMER_INITS, CharEncoder, init_name
from .encoders import ENCODERS
from .errors import AttachError, CharEmbedError, CheckpointError, MismatchError
from .files import hash_tensors, write_atomically
from .input_embeddings import find_embeddings
from .manifest import FORMAT, build, check_layers, check_path, read_manifest, read_tensors
from .manifest import hash_manifest as _hash_manifest
from .mark import check_marks
from .sharding import check_unsharded
from .spelling import SpellingTable
from .version import __version__

TENSORS = "char_embedding.safetensors"
# torch.compile and DDP add these names to module paths.
_WRAPPER_NAMES = ("_orig_mod", "module")


def save(model: nn.Module, path: str | Path) -> None:
    """Write the character encoder of a model to a folder or to the hub; the base is not saved.

    charembed.save(model, "char_embedding")     # char_embedding/char_embedding.safetensors
    charembed.save(model, "hf:owner/name")      # a repository on the Hugging Face hub

    If the save is interrupted, the file has its former content or the new one, never a part of it.

    Raises AttachError if the model has no CharEmbedding, if it was replaced after `attach`, if FSDP
    manages its weights, if its vocabulary was resized without `update_spellings`, or if another
    tool changed the encoder's modules. Raises CharEmbedError if a value is not finite.
    """
    check_path(path)
    if repository := hub.named(path):
        return hub.push(repository, lambda folder: save(model, folder))
    check_marks(model)
    module, embedding = _the_one(model)
    check_unsharded(model, embedding, gathered=True)
    embedding.check_whole()
    encoder = embedding.encoder_in_use
    name = next(
        (name for name, kind in ENCODERS.items() if type(encoder) is kind), type(encoder).__name__
    )
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "charembed": __version__,
        "model": type(model).__name__,
        "module": ".".join(part for part in module.split(".") if part not in _WRAPPER_NAMES),
        "num_tokens": embedding.num_embeddings,
        "embedding_dim": embedding.embedding_dim,
        "encoder": name,
        "class": type(encoder).__name__,
        "base": _fingerprint(embedding.weight),
    }
    if name in ENCODERS:
        table = embedding.own_spellings
        if table.num_tokens != embedding.num_embeddings:
            raise AttachError(
                f"The embedding was resized to {embedding.num_embeddings} rows, but the spellings "
                f"are those of {table.num_tokens} tokens. First call "
                "charembed.update_spellings(model, tokenizer)."
            )
        factor = getattr(encoder, "output_scale", None)
        manifest |= {
            "config": _saved_config(encoder),
            # the key of format 2; the value is the factor of `set_output_scale`
            "loudness": None if factor is None else float(factor),
            "unit": table.unit,
            "alphabet": table.alphabet,
            "spellings_sha256": table.fingerprint,
        }
    tensors = _tensors_of(encoder, manifest, table if name in ENCODERS else None)
    manifest["tensors_sha256"] = hash_tensors(tensors)
    manifest["manifest_sha256"] = _hash_manifest(manifest)
    write_atomically(
        Path(path) / TENSORS, safetensors.save(tensors, metadata={"manifest": json.dumps(manifest)})
    )


def load(
    model: Model,
    tokenizer: Any,
    path: str | Path,
    *,
    module: str | None = None,
    encoder: nn.Module | None = None,
    check_base: bool = True,
) -> Model:
    """Attach a saved character encoder to a fresh copy of its base, in place, and return the model.

    model = AutoModelForCausalLM.from_pretrained("gpt2")
    charembed.load(model, tokenizer, "char_embedding")

    The outputs are bit-equal to those of the saved model.

    Arguments:
        model: the base, without a CharEmbedding.
        tokenizer: as in `attach`. Its spellings must be those of the saved part.
        path: a folder, or "hf:owner/name" on the Hugging Face hub.
        module: as in `attach`. Default: the saved path, or `model.get_input_embeddings()` if the
            model has no embedding at that path.
        encoder: a module of your own class, if the saved encoder is not in `charembed.ENCODERS`.
            Its parameters are overwritten.
        check_base: if False, a base with another token table is accepted. Default: True.

    Raises CheckpointError if the file is missing, damaged or of an unknown format. Raises
    MismatchError if the file is intact but belongs to another tokenizer, vocabulary, width, base or
    encoder. Raises AttachError as `attach` does. After an error the model is unchanged.
    """
    check_path(path)
    folder = hub.fetch(repository, TENSORS) if (repository := hub.named(path)) else Path(path)
    manifest = read_manifest(folder / TENSORS, ENCODERS)
    saved_path = isinstance(_at(model, manifest["module"]), nn.Embedding)
    if module is None and (saved_path or not hasattr(model, "get_input_embeddings")):
        module = manifest["module"]
    hosts = find_embeddings(model, module)
    host = hosts[0]
    _match("vocabulary", "rows in the embedding", manifest["num_tokens"], host.num_embeddings)
    _match("width", "columns in the embedding", manifest["embedding_dim"], host.embedding_dim)
    if check_base and "base" in manifest:
        _match_base(manifest["base"], host.weight)
    name, made = manifest["encoder"], encoder
    if encoder is not None:
        _match("encoder", "as the class of the encoder", manifest["class"], type(encoder).__name__)
        spells: Any = getattr(encoder, "spellings", None)
        if spells is not None and (saved := manifest.get("spellings_sha256")):
            _match("tokenizer", "as SHA-256 of its spellings", saved, spells.fingerprint)
        expected = encoder.state_dict()
    elif name not in ENCODERS:
        raise MismatchError(
            f"{folder} was saved with an encoder of your own class {manifest['class']}. Pass one "
            f"as encoder=..., or register it: charembed.ENCODERS[{name!r}] = {manifest['class']}."
        )
    else:
        table = _match_spellings(tokenizer, manifest)
        if name == "transformer":
            check_layers(manifest["config"], folder / TENSORS)
        # On meta, to compare shapes: a damaged config must not allocate gigabytes.
        with torch.device("meta"):
            expected = _build(name, table, manifest).state_dict()
    tensors = read_tensors(folder / TENSORS, expected, manifest["tensors_sha256"])
    # fork_rng: an encoder of the user's own may draw initial values
    with torch.inference_mode(False), torch.random.fork_rng(devices=[]):
        made = made if made is not None else _build(name, table, manifest)
        made.load_state_dict(tensors, strict=True, assign=True)
        # The saved part may have half precision. Under a half-precision base it keeps its dtype.
        if host.weight.dtype in (torch.float32, torch.float64):
            made.to(host.weight.dtype)
        elif len(dtypes := {parameter.dtype for parameter in made.parameters()}) > 1:
            made.to(functools.reduce(torch.promote_types, dtypes))
        made._from_part = True  # type: ignore[assignment]
        put(model, hosts, made)  # last: until here an error leaves the model unchanged
    return model


def _the_one(model: nn.Module) -> tuple[str, CharEmbedding]:
    """Return path and CharEmbedding; if several share an encoder, the first of them."""
    # PEFT's modules_to_save holds the original module beside a copy for each adapter.
    named = modules_in_use(model)
    found = {path: part for path, part in named if isinstance(part, CharEmbedding)}
    if len({id(part.encoder) for part in found.values()}) != 1:
        raise AttachError(
            f"The model has {len(found)} CharEmbeddings; it must have exactly one. Attach one, or "
            "save before you fold."
        )
    return next(iter(found.items()))


def _tensors_of(
    encoder: nn.Module, manifest: Mapping[str, Any], table: SpellingTable | None
) -> dict[str, Tensor]:
    """Return the tensors to save. Raises an error if `load` could not use them."""
    tensors = {}
    for name, tensor in encoder.state_dict().items():
        if not isinstance(tensor, Tensor) or tensor.is_quantized:
            raise AttachError(
                f"{name} of the encoder is quantized, which cannot be saved. Save before you "
                "quantize, or fold first."
            )
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise CharEmbedError(
                f"{name} of the encoder is not finite, so nothing was saved. Save an earlier "
                "checkpoint."
            )
        # cloned, because safetensors refuses tensors that share memory
        tensors[name] = tensor.detach().cpu().contiguous().clone()
    if table is not None:
        with torch.device("meta"):
            expected = _build(manifest["encoder"], table, manifest).state_dict()
        if expected.keys() != tensors.keys():
            other = sorted(expected.keys() ^ tensors.keys())[0]
            raise AttachError(
                f"Another tool has changed the encoder's modules ({other}). Leave the encoder out "
                "of LoRA's target_modules, or merge first (merge_and_unload)."
            )
    return tensors


def _build(name: str, table: SpellingTable, manifest: Mapping[str, Any]) -> nn.Module:
    """Build the encoder that the manifest describes. Its weights are loaded afterwards."""
    kind, config = ENCODERS[name], manifest["config"]
    if isinstance(kind, type) and issubclass(kind, CharEncoder) and "init" in config:
        config = {**config, "init": init_name(config["init"])}
    made = build(kind, (table, manifest["embedding_dim"]), config)
    if (factor := manifest.get("loudness")) is not None:
        if not hasattr(made, "set_output_scale"):
            raise CheckpointError(
                f"The manifest has a scale ({factor}), but the encoder {name!r} has no method "
                "set_output_scale. Save the part again, or use another copy."
            )
        made.set_output_scale(factor)  # type: ignore[operator]
    return made


def _saved_config(encoder: Any) -> dict[str, Any]:
    """Return the encoder's config with the name that its init had in 0.1.

    So the file has the same bytes whichever version saved it, and 0.1 can load it.
    """
    config: dict[str, Any] = encoder.config
    if not isinstance(encoder, CharEncoder):
        return config
    saved = {new: former for former, new in FORMER_INITS.items()}
    return {**config, "init": saved.get(encoder.init, encoder.init)}


def _at(model: nn.Module, path: str) -> nn.Module | None:
    """Return the module at a path, None if the model has no such path."""
    try:
        return model.get_submodule(path)
    except AttributeError:
        return None


def _match(kind: str, where: str, saved: Any, ours: Any) -> None:
    """Raise MismatchError if a value of the manifest is not the model's."""
    if saved != ours:
        raise MismatchError(
            f"The saved part is for another {kind}: it has {saved!r} {where}, but this model has "
            f"{ours!r}."
        )


def _match_spellings(tokenizer: Any, manifest: Mapping[str, Any]) -> SpellingTable:
    """Return the tokenizer's spellings in the saved alphabet if they are the saved ones."""
    # The saved alphabet decides which row of `chars` belongs to a character.
    if isinstance(tokenizer, SpellingTable):
        table = tokenizer.over(manifest["alphabet"])
    else:
        table = SpellingTable.from_tokenizer(
            tokenizer, manifest["num_tokens"], manifest["unit"], manifest["alphabet"]
        )
    if (
        table.fingerprint != manifest["spellings_sha256"]
        or list(table.alphabet) != manifest["alphabet"]
    ):
        raise MismatchError(
            f"The saved part is for another tokenizer: its {manifest['num_tokens']} spellings with "
            f"{len(manifest['alphabet'])} characters have SHA-256 "
            f"{manifest['spellings_sha256'][:12]}..., but this tokenizer's {table.num_tokens} with "
            f"{table.num_chars} characters have {table.fingerprint[:12]}... Pass the tokenizer "
            "that the part was saved with."
        )
    return table


def _fingerprint(weight: Tensor) -> dict[str, Any]:
    """Return a description of the base's token table: dtype, hash, and a sample of its values.

    The hash identifies the same table in the same dtype, the sample in another dtype.
    """
    # 16 x 16 values, spread over the table
    rows, columns = (torch.linspace(0, size - 1, 16).long() for size in weight.shape)
    values = weight.detach().cpu()[rows][:, columns].float().flatten().tolist()
    # 6 digits are enough, because the sample is compared within 2 %
    sample = [float(f"{value:.6g}") for value in values]
    return {
        "dtype": str(weight.dtype),
        "sha256": hash_tensors({"weight": weight.detach().cpu().contiguous()}),
        "sample": sample,
    }


def _match_base(saved: Mapping[str, Any], weight: Tensor) -> None:
    """Raise MismatchError if the token table is not the one that the encoder was saved with."""
    if weight.is_meta:  # no values to compare yet
        return
    ours = _fingerprint(weight)
    if saved["dtype"] == ours["dtype"]:
        same = saved["sha256"] == ours["sha256"]
    else:
        before, now = torch.tensor(saved["sample"]), torch.tensor(ours["sample"])
        # bfloat16 has 8 bits of precision, so 2 % covers the rounding of either table
        same = bool(
            torch.isclose(now, before, rtol=2e-2, atol=1e-2 * float(before.abs().max())).all()
        )
    if not same:
        raise MismatchError(
            "The saved part is for another base: its token table has SHA-256 "
            f"{saved['sha256'][:12]}..., but this model's has {ours['sha256'][:12]}... Load the "
            "base that the encoder was trained with, or pass check_base=False if the difference is "
            "intended."
        )
