"""Save the character part of a model, and put it on a fresh copy of the base.

    letters/char_embedding.safetensors   the encoder's parameters; in the file's metadata the manifest: how to
    build the
                                         encoder, for which spellings and which base, and what it all must
                                         hash to

No base weight is in it, and nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors import torch as safetensors
from torch import Tensor, nn

from . import hub
from .attach import find_embeddings, put
from .embedding import CharEmbedding, Model
from .encoder import FORMER_INITS, CharEncoder, init_name
from .encoders import ENCODERS
from .errors import AttachError, CharEmbedError, CheckpointError, MismatchError
from .files import hash_tensors, write_atomically
from .spelling import SpellingTable
from .version import __version__

FORMAT = 2
READ = (
    1,
    2,
)  # 1 had the manifest in a JSON file too, called the LSTM by its class, and did not name its base
TENSORS = "char_embedding.safetensors"
LSTM_IN_FORMAT_1 = "LSTMEncoder"
WRAPPER_NAMES = ("_orig_mod", "module")  # what torch.compile and DDP put into a path
TEXTS, NUMBERS = ("module", "encoder", "class", "tensors_sha256"), ("num_tokens", "embedding_dim")
KEYS: dict[str, type] = dict.fromkeys(TEXTS, str) | dict.fromkeys(NUMBERS, int)
ENCODER_KEYS: dict[str, type] = {
    "config": dict,
    "unit": str,
    "alphabet": list,
    "spellings_sha256": str,
}
AGAIN = "save it again, or take another copy"


def save(model: nn.Module, path: str | Path) -> None:
    """Write the character part of a model, and nothing of its base, to a folder or, as "hf:owner/name", the
    hub.

    charembed.save(model, "letters") -> letters/char_embedding.safetensors

    An interrupted save leaves what was there before, or the new file.

    Raises AttachError when the model has no CharEmbedding, its vocabulary was resized and not yet respelled,
    or other tools changed the encoder's parts; CharEmbedError when a value is not finite.
    """
    if repository := hub.named(path):
        return hub.push(repository, lambda folder: save(model, folder))
    module, embedding = _the_one(model)
    embedding.check_whole()
    encoder, wrapped = embedding.encoder, getattr(embedding.encoder, "modules_to_save", None)
    if (
        wrapped is not None
    ):  # PEFT's modules_to_save keeps the encoder as it was beside the trained one
        encoder = wrapped[embedding.encoder.active_adapters[0]]  # type: ignore[index]
    name = next(
        (name for name, kind in ENCODERS.items() if type(encoder) is kind), type(encoder).__name__
    )
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "charembed": __version__,
        "model": type(model).__name__,
        "module": ".".join(part for part in module.split(".") if part not in WRAPPER_NAMES),
        "num_tokens": embedding.num_embeddings,
        "embedding_dim": embedding.embedding_dim,
        "encoder": name,
        "class": type(encoder).__name__,
        "base": _fingerprint(embedding.weight),
    }
    if name in ENCODERS:
        table = embedding.spellings
        if table.num_tokens != embedding.num_embeddings:
            raise AttachError(
                f"the embedding was resized to {embedding.num_embeddings} rows after {table.num_tokens} "
                "tokens were spelled: call charembed.update_spellings(model, tokenizer), then save."
            )
        manifest |= {
            "config": _saved_config(encoder),
            "loudness": None
            if (factor := getattr(encoder, "output_scale", None)) is None
            else float(factor),
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
    """Attach a saved character part to a fresh copy of its base; returns the model, bit-equal to the saved.

    charembed.load(AutoModelForCausalLM.from_pretrained("gpt2"), tokenizer, "letters")

    Arguments:
        tokenizer: as in `attach`; its spellings must be those that the part was saved with.
        path: a folder, or "hf:owner/name" on the hub.
        module: as in `attach`; by default the path that was saved, or `model.get_input_embeddings()` where
            this model has no such path.
        encoder: of your own kind, when it was saved with one that is not in `charembed.ENCODERS`; its
            parameters are overwritten.
        check_base: False takes a base with another token table than the one that the letters were trained
            with.

    Raises CheckpointError for files that are missing, damaged or of an unknown format, MismatchError for
    whole files of another tokenizer, vocabulary, width, base or encoder, AttachError as `attach` does; the
    model is then unchanged.
    """
    folder = hub.fetch(repository, TENSORS) if (repository := hub.named(path)) else Path(path)
    manifest = _read_manifest(folder / TENSORS)
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
        shapes = _shapes(encoder)
    elif name not in ENCODERS:
        raise MismatchError(
            f"{folder} was saved with an encoder of your own, {manifest['class']}: pass one with "
            f"encoder=..., or give its class a name, charembed.ENCODERS[{name!r}] = {manifest['class']}."
        )
    else:
        table = _match_spellings(tokenizer, manifest)
        with torch.device("meta"):  # only to compare sizes: nothing is allocated before
            shapes = _shapes(_build(name, table, manifest))
    tensors = _read_tensors(folder / TENSORS, shapes, manifest["tensors_sha256"])
    with torch.inference_mode(False), torch.random.fork_rng(devices=[]):
        made = made if made is not None else _build(name, table, manifest)
        made.load_state_dict(tensors, strict=True, assign=True)
        if host.weight.dtype in (
            torch.float32,
            torch.float64,
        ):  # the part may have half precision
            made.to(host.weight.dtype)
        put(hosts, made)
    return model


def _the_one(model: nn.Module) -> tuple[str, CharEmbedding]:
    """The path and the CharEmbedding of a model; of several that share an encoder the first."""
    # PEFT's modules_to_save keeps the module as it was beside the one that is trained
    named = (
        (path, part)
        for path, part in model.named_modules()
        if "original_module" not in path.split(".")
    )
    found = {path: part for path, part in named if isinstance(part, CharEmbedding)}
    if len({id(part.encoder) for part in found.values()}) != 1:
        raise AttachError(
            f"the model has {len(found)} CharEmbeddings, and exactly one can be saved: attach one, or save "
            "before folding."
        )
    return next(iter(found.items()))


def _tensors_of(
    encoder: nn.Module, manifest: Mapping[str, Any], table: SpellingTable | None
) -> dict[str, Tensor]:
    """What is saved of an encoder. Raises when `load` could not read it, or should not."""
    tensors = {}
    for name, tensor in encoder.state_dict().items():
        if not isinstance(tensor, Tensor) or tensor.is_quantized:
            raise AttachError(
                f"the encoder's {name} is quantized, which cannot be saved: save before quantization, or "
                "fold first."
            )
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise CharEmbedError(
                f"the encoder's {name} is not finite, so nothing was saved: save an earlier checkpoint."
            )
        tensors[name] = (
            tensor.detach().cpu().contiguous().clone()
        )  # cloned, because safetensors refuses what shares memory
    if table is not None:
        with torch.device("meta"):
            expected = _shapes(_build(manifest["encoder"], table, manifest))
        if expected.keys() != tensors.keys():
            other = sorted(expected.keys() ^ tensors.keys())[0]
            raise AttachError(
                f"another tool has changed the encoder's parts ({other}): leave the encoder out of LoRA's "
                "target_modules, or merge (merge_and_unload), then save."
            )
    return tensors


def _build(name: str, table: SpellingTable, manifest: Mapping[str, Any]) -> nn.Module:
    kind, config = ENCODERS[name], manifest["config"]
    if isinstance(kind, type) and issubclass(kind, CharEncoder) and "init" in config:
        config = {**config, "init": init_name(config["init"])}
    try:
        made: nn.Module = kind(table, manifest["embedding_dim"], **config)
    except TypeError:
        raise CheckpointError(
            f"the manifest does not say what it must (config is {manifest['config']}): {AGAIN}."
        ) from None
    if (factor := manifest.get("loudness")) is not None:
        made.set_output_scale(factor)  # type: ignore[operator]
    return made


def _saved_config(encoder: Any) -> dict[str, Any]:
    """The encoder's config; an init has the name that it had in 0.1, so that files keep their bytes."""
    config: dict[str, Any] = encoder.config
    if not isinstance(encoder, CharEncoder):
        return config
    saved = {new: former for former, new in FORMER_INITS.items()}
    return {**config, "init": saved.get(encoder.init, encoder.init)}


def _shapes(encoder: nn.Module) -> dict[str, list[int]]:
    return {name: list(tensor.shape) for name, tensor in encoder.state_dict().items()}


def _at(model: nn.Module, path: str) -> nn.Module | None:
    try:
        return model.get_submodule(path)
    except AttributeError:
        return None


def _read_manifest(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist: name a folder that charembed.save wrote.")
    try:
        with safe_open(path, framework="pt") as file:
            manifest = json.loads((file.metadata() or {}).get("manifest", "null"))
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged ({error}): {AGAIN}.") from None
    if not isinstance(manifest, dict) or "format" not in manifest:
        raise CheckpointError(f"the manifest in {path} is none of charembed's: {AGAIN}.")
    if manifest["format"] not in READ:
        wrote = manifest.get("charembed", "another version")
        raise CheckpointError(
            f"{path} has format {manifest['format']!r}, written by charembed {wrote}; charembed "
            f"{__version__} reads formats 1 to {FORMAT}."
        )
    seen, expected = _hash_manifest(manifest), manifest.get("manifest_sha256")
    if seen != expected:
        raise CheckpointError(
            f"the manifest in {path} is damaged (SHA-256 {seen[:12]}..., it says {str(expected)[:12]}...): "
            f"{AGAIN}."
        )
    if manifest["format"] == 1:
        manifest["class"] = manifest.get("encoder")
        if manifest["class"] == LSTM_IN_FORMAT_1:
            manifest["encoder"] = "lstm"
    kinds = KEYS | (ENCODER_KEYS if manifest.get("encoder") in list(ENCODERS) else {})
    if wrong := [key for key, kind in kinds.items() if not isinstance(manifest.get(key), kind)]:
        raise CheckpointError(
            f"the manifest in {path} does not say what it must ({', '.join(wrong)}): {AGAIN}."
        )
    return manifest


def _read_tensors(path: Path, shapes: Mapping[str, list[int]], sha256: str) -> dict[str, Tensor]:
    """The tensors, after their names and shapes were compared with what is expected."""
    try:
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
            seen = {name: file.get_slice(name).get_shape() for name in names}
            if seen != shapes:
                raise MismatchError(
                    f"{path} holds {seen}, but the encoder has {dict(shapes)}: the manifest or the encoder "
                    "is not the one it was saved with."
                )
            # subtle: cloned into aligned memory, because matrix products of unaligned weights may differ in
            # the last bit
            tensors = {name: file.get_tensor(name).clone() for name in names}
    except SafetensorError as error:
        raise CheckpointError(f"{path} is damaged ({error}): {AGAIN}.") from None
    if (found := hash_tensors(tensors)) != sha256:
        raise CheckpointError(
            f"{path} is damaged (SHA-256 of its tensors {found[:12]}..., the manifest says "
            f"{sha256[:12]}...): {AGAIN}."
        )
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"{name} in {path} is not finite: take an earlier copy.")
    return tensors


def _match(what: str, where: str, saved: Any, ours: Any) -> None:
    if saved != ours:
        raise MismatchError(
            f"the saved character part is for another {what}: it has {saved!r} {where}, this model {ours!r}."
        )


def _match_spellings(tokenizer: Any, manifest: Mapping[str, Any]) -> SpellingTable:
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
            f"the saved character part is for another tokenizer: its {manifest['num_tokens']} spellings, of "
            f"{len(manifest['alphabet'])} characters, have SHA-256 {manifest['spellings_sha256'][:12]}..., "
            f"this tokenizer's {table.num_tokens}, of {table.num_chars} characters, "
            f"{table.fingerprint[:12]}...: pass the tokenizer that it was saved with."
        )
    return table


def _fingerprint(weight: Tensor) -> dict[str, Any]:
    """The base's token table, to know it again: exactly in the same dtype, in another by a few values."""
    rows, columns = (torch.linspace(0, size - 1, 16).long() for size in weight.shape)
    values = weight.detach().cpu()[rows][:, columns].float().flatten().tolist()
    sample = [
        float(f"{value:.6g}") for value in values
    ]  # short, so that another digit is another number
    return {
        "dtype": str(weight.dtype),
        "sha256": hash_tensors({"weight": weight.detach().cpu().contiguous()}),
        "sample": sample,
    }


def _match_base(saved: Mapping[str, Any], weight: Tensor) -> None:
    if weight.is_meta:  # its values are not there yet
        return
    ours = _fingerprint(weight)
    if saved["dtype"] == ours["dtype"]:
        same = saved["sha256"] == ours["sha256"]
    else:
        before, now = torch.tensor(saved["sample"]), torch.tensor(ours["sample"])
        same = bool(
            torch.isclose(now, before, rtol=2e-2, atol=1e-2 * float(before.abs().max())).all()
        )
    if not same:
        raise MismatchError(
            "the saved character part is for another base: its token table had SHA-256 "
            f"{saved['sha256'][:12]}..., this model's has {ours['sha256'][:12]}...: load the base that the "
            "letters were trained with, or pass check_base=False if you know better."
        )


def _hash_manifest(manifest: Mapping[str, Any]) -> str:
    content = {key: value for key, value in manifest.items() if key != "manifest_sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
