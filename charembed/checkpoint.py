"""Save the character part of a model, and put it on a fresh copy of the base.

    letters/char_embedding.safetensors   the encoder's parameters, and the manifest once more
    letters/char_embedding.json          the manifest: how to build the encoder, for which spellings, and what it must hash to

No base weight is in them, and nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors import torch as safetensors
from torch import Tensor, nn

from .attach import Model, find_embedding, replace
from .embedding import CharEmbedding
from .encoder import LSTMEncoder
from .errors import AttachError, CheckpointError, MismatchError
from .files import write_atomically
from .spelling import SpellingTable

FORMAT = 1
TENSORS, MANIFEST = "char_embedding.safetensors", "char_embedding.json"
WRAPPER_NAMES = ("_orig_mod", "module")  # what torch.compile and DDP put into a path
KEYS = {"module": str, "num_tokens": int, "embedding_dim": int, "encoder": str, "tensors_sha256": str}
LSTM_KEYS = {"config": dict, "unit": str, "alphabet": list, "spellings_sha256": str}
LARGEST_MANIFEST = 64 * 2**20  # bytes; the largest alphabets there are take one
AGAIN = "save it again, or take another copy"


def save(model: nn.Module, path: str | Path) -> None:
    """Write the character part of a model, and nothing of its base, to a folder.

    charembed.save(model, "letters") -> letters/char_embedding.safetensors, letters/char_embedding.json

    An interrupted save leaves what was there before, or the new files.

    Raises AttachError when the model has no CharEmbedding, or its vocabulary was resized and not yet respelled.
    """
    # PEFT's modules_to_save keeps the module as it was beside the one that is trained
    found = {name: part for name, part in model.named_modules() if isinstance(part, CharEmbedding) and "original_module" not in name.split(".")}
    if len(found) != 1:
        raise AttachError(f"the model has {len(found)} CharEmbeddings, and exactly one can be saved: attach one, or save before folding.")
    ((module, embedding),) = found.items()
    embedding.check_whole()
    # cloned, because safetensors refuses what shares memory
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in embedding.encoder.state_dict().items()}
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "charembed": _version(),
        "model": type(model).__name__,
        "module": ".".join(name for name in module.split(".") if name not in WRAPPER_NAMES),
        "num_tokens": embedding.num_embeddings,
        "embedding_dim": embedding.embedding_dim,
        "encoder": type(embedding.encoder).__name__,
    }
    if isinstance(embedding.encoder, LSTMEncoder):
        table = embedding.spellings
        if table.num_tokens != embedding.num_embeddings:
            raise AttachError(
                f"the embedding was resized to {embedding.num_embeddings} rows after {table.num_tokens} tokens were spelled: "
                f"call charembed.respell(model, tokenizer), then save."
            )
        manifest |= {"config": embedding.encoder.config, "unit": table.unit, "alphabet": table.alphabet, "spellings_sha256": table.fingerprint}
    manifest["tensors_sha256"] = _hash_tensors(tensors)
    manifest["manifest_sha256"] = _hash_manifest(manifest)
    text = json.dumps(manifest) + "\n"
    write_atomically(Path(path) / TENSORS, safetensors.save(tensors, metadata={"manifest": text}))
    write_atomically(Path(path) / MANIFEST, text)


def load(model: Model, tokenizer: Any, path: str | Path, *, module: str | None = None, encoder: nn.Module | None = None) -> Model:
    """Attach a saved character part to a fresh copy of its base, in place; returns the model, bit-equal to what was saved.

    charembed.load(AutoModelForCausalLM.from_pretrained("gpt2"), tokenizer, "letters")

    Arguments:
        tokenizer: as in `attach`; its spellings must be those that the part was saved with.
        module: as in `attach`; by default the path that was saved, or `model.get_input_embeddings()` where this model has no such path.
        encoder: of your own kind, when it was saved with one; its parameters are overwritten.

    Raises CheckpointError for files that are missing, damaged or of an unknown format, MismatchError for whole files of
    another tokenizer, vocabulary, width or encoder, AttachError as `attach` does; the model is then unchanged.
    """
    folder = Path(path)
    manifest = _read_manifest(folder)
    if module is None and (isinstance(_at(model, manifest["module"]), nn.Embedding) or not hasattr(model, "get_input_embeddings")):
        module = manifest["module"]
    host = find_embedding(model, module)
    _match("vocabulary", "rows in the embedding", manifest["num_tokens"], host.num_embeddings)
    _match("width", "columns in the embedding", manifest["embedding_dim"], host.embedding_dim)
    if encoder is not None:
        _match("encoder", "as the class of the encoder", manifest["encoder"], type(encoder).__name__)
        shapes = {name: list(tensor.shape) for name, tensor in encoder.state_dict().items()}
    elif manifest["encoder"] != LSTMEncoder.__name__:
        raise MismatchError(f"{folder} was saved with an encoder of your own, {manifest['encoder']}: pass one with encoder=...")
    else:
        table = _match_spellings(tokenizer, manifest)
        shapes = _lstm_shapes(manifest)
    tensors = _read_tensors(folder, shapes, manifest["tensors_sha256"])
    if encoder is None:
        encoder = LSTMEncoder(table, manifest["embedding_dim"], **manifest["config"])
    with torch.inference_mode(False):
        encoder.load_state_dict(tensors, strict=True, assign=True)
        if host.weight.dtype in (torch.float32, torch.float64):  # a part that was saved in half precision on a wider base
            encoder.to(host.weight.dtype)
        embedding = CharEmbedding(host, encoder.to(host.weight.device))
    replace(model, host, embedding)
    return model


def _at(model: nn.Module, path: str) -> nn.Module | None:
    try:
        return model.get_submodule(path)
    except AttributeError:
        return None


def _read_manifest(folder: Path) -> dict[str, Any]:
    for name in (MANIFEST, TENSORS):
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder / name} does not exist: name a folder that charembed.save wrote.")
    if (size := (folder / MANIFEST).stat().st_size) > LARGEST_MANIFEST:
        raise CheckpointError(f"{folder / MANIFEST} has {size:,} bytes, which no manifest has: {AGAIN}.")
    _parse((folder / MANIFEST).read_bytes(), folder / MANIFEST)
    # subtle: both are checked and the tensors' own counts, for a save that was interrupted between its two renames left the
    # old manifest beside the new tensors
    try:
        with safe_open(folder / TENSORS, framework="pt") as file:
            return _parse((file.metadata() or {}).get("manifest", ""), folder / TENSORS)
    except SafetensorError as error:
        raise CheckpointError(f"{folder / TENSORS} is damaged ({error}): {AGAIN}.") from None


def _parse(text: str | bytes, path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(text)
    except ValueError as error:  # also what is no UTF-8
        raise CheckpointError(f"the manifest in {path} is damaged ({error}): {AGAIN}.") from None
    if not isinstance(manifest, dict) or "format" not in manifest:
        raise CheckpointError(f"the manifest in {path} is none of charembed's: {AGAIN}.")
    if manifest["format"] != FORMAT:
        wrote = manifest.get("charembed", "another version")
        raise CheckpointError(f"{path} has format {manifest['format']!r}, written by charembed {wrote}; charembed {_version()} reads format {FORMAT}.")
    seen, expected = _hash_manifest(manifest), manifest.get("manifest_sha256")
    if seen != expected:
        raise CheckpointError(f"the manifest in {path} is damaged (SHA-256 {seen[:12]}..., it says {str(expected)[:12]}...): {AGAIN}.")
    kinds = KEYS | (LSTM_KEYS if manifest.get("encoder") == LSTMEncoder.__name__ else {})
    wrong = [key for key, kind in kinds.items() if not isinstance(manifest.get(key), kind)]
    if wrong or ("config" in kinds and manifest["config"].keys() != {"char_dim", "hidden_size", "init", "seed"}):
        raise CheckpointError(f"the manifest in {path} does not say what it must ({', '.join(wrong) or 'config'}): {AGAIN}.")
    return manifest


def _read_tensors(folder: Path, shapes: Mapping[str, list[int]], sha256: str) -> dict[str, Tensor]:
    """The tensors, after their names and shapes were compared with what is expected: nothing is allocated before."""
    path = folder / TENSORS
    try:
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
            seen = {name: file.get_slice(name).get_shape() for name in names}
            if seen != shapes:
                raise MismatchError(f"{path} holds {seen}, but the encoder has {dict(shapes)}: the manifest or the encoder is not the one it was saved with.")
            # subtle: cloned into aligned memory, because matrix products of unaligned weights may differ in the last bit
            tensors = {name: file.get_tensor(name).clone() for name in names}
    except SafetensorError as error:
        raise CheckpointError(f"{path} is damaged ({error}): {AGAIN}.") from None
    if (found := _hash_tensors(tensors)) != sha256:
        raise CheckpointError(f"{path} is damaged (SHA-256 of its tensors {found[:12]}..., the manifest says {sha256[:12]}...): {AGAIN}.")
    return tensors


def _match(what: str, where: str, saved: Any, ours: Any) -> None:
    if saved != ours:
        raise MismatchError(f"the saved character part is for another {what}: it has {saved!r} {where}, this model {ours!r}.")


def _match_spellings(tokenizer: Any, manifest: Mapping[str, Any]) -> SpellingTable:
    if isinstance(tokenizer, SpellingTable):
        table = tokenizer.over(manifest["alphabet"])
    else:
        table = SpellingTable.from_tokenizer(tokenizer, manifest["num_tokens"], manifest["unit"], manifest["alphabet"])
    if table.fingerprint != manifest["spellings_sha256"] or list(table.alphabet) != manifest["alphabet"]:
        raise MismatchError(
            f"the saved character part is for another tokenizer: its {manifest['num_tokens']} spellings, of {len(manifest['alphabet'])} characters, "
            f"have SHA-256 {manifest['spellings_sha256'][:12]}..., this tokenizer's {table.num_tokens}, of {table.num_chars} characters, "
            f"{table.fingerprint[:12]}...: pass the tokenizer that it was saved with."
        )
    return table


def _lstm_shapes(manifest: Mapping[str, Any]) -> dict[str, list[int]]:
    chars, dim = len(manifest["alphabet"]), manifest["embedding_dim"]
    char_dim, hidden = manifest["config"]["char_dim"], manifest["config"]["hidden_size"]
    lstm = {"weight_ih_l0": [4 * hidden, char_dim], "weight_hh_l0": [4 * hidden, hidden], "bias_ih_l0": [4 * hidden], "bias_hh_l0": [4 * hidden]}
    return {
        "chars.weight": [chars, char_dim],
        **{f"lstm.{name}": shape for name, shape in lstm.items()},
        "projection.weight": [dim, hidden],
        "projection.bias": [dim],
    }


def _hash_tensors(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode())
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _hash_manifest(manifest: Mapping[str, Any]) -> str:
    content = {key: value for key, value in manifest.items() if key != "manifest_sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _version() -> str:
    try:
        return version("charembed")
    except PackageNotFoundError:
        return "unknown"
