"""The embedding tables to probe: of the arms of a run, of a pretrained model, of a file.

An embedding with characters gives three tables: the token embeddings (base), the character vectors
(letters), and their sum, which is the input of the model.

Axes: V vocabulary, D model width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

import charembed
from charembed import SpellingTable
from charembed.partition import encode_vocabulary
from training.data.tokenizers import HuggingFaceTokenizer
from training.errors import BadInput
from training.evaluate.load import refuse
from training.models.hub import read
from training.run.folder import is_run
from training.run.run import Run

_PADDING = 0.05  # largest share of a table's rows without a token
# These names are in saved rows. "extra": what an arm without characters adds to the base.
BASE, LETTERS, EXTRA, SUM = "base", "letters", "extra", "sum"
SHUFFLED, RANDOM = _CONTROLS = "shuffled", "random"  # rows of other tokens; random numbers
BEFORE, AFTER = "before", "after"


class Label(NamedTuple):
    """The name of a table: Label("lstm", "sum", "after").

    Attributes:
        model: the arm of a run, or the name of a model.
        part: base, letters, sum or extra; or a control of the model.
        when: before or after the training of a run; "" if there is one table only.
    """

    model: str
    part: str
    when: str = ""

    @property
    def name(self) -> str:
        """The name in rows: "lstm sum after"."""
        return " ".join(filter(None, self))

    @property
    def is_control(self) -> bool:
        return self.part in _CONTROLS


class Table(NamedTuple):
    """An embedding table with its label."""

    label: Label
    vectors_VD: Tensor


@dataclass(frozen=True, eq=False)
class Source:
    """A run, a model or a file with embedding tables.

    Attributes:
        name: short name, for folders and pages.
        about: a description in one phrase.
        spellings: the bytes of each row of the tables; None for a row without spelling.
        seeds: the seeds of a run; the splits are distributed over them in turn.
        tables: returns the tables of a seed.
    """

    name: str
    about: str
    spellings: Sequence[bytes | None]
    seeds: tuple[int, ...]
    tables: Callable[[int], Iterator[Table]]


def open_source(
    name: str,
    cache: Path,
    *,
    arm: str | None = None,
    seed: int | None = None,
    encoder: str | None = None,
    tokenizer: str | None = None,
    tensor: str | None = None,
) -> Source:
    """Open a run folder, a safetensors file, or a model by its folder or hub name.

    Raises BadInput for a name that is none of these, and for options that do not fit it.
    """
    if is_run(name):
        refuse(name, "a run's folder", encoder=encoder, tokenizer=tokenizer, tensor=tensor)
        return _of_run(Path(name), cache, arm, seed)
    if Path(name).is_file():
        refuse(name, "a file", arm=arm, seed=seed, encoder=encoder)
        return _of_file(Path(name), tokenizer, tensor)
    refuse(name, "a pretrained model", arm=arm, seed=seed, tensor=tensor)
    return _of_model(name, tokenizer or name, encoder)


def _of_run(folder: Path, cache: Path, arm: str | None, seed: int | None) -> Source:
    """Open the arms of a run, before and after their training."""
    run = Run.open(folder, cache)
    arms = (run.arm(arm, seed).name,) if arm else run.config.arms
    seeds = tuple(run.config.seed_range) if seed is None else (run.arm(arm, seed).seed,)
    for one in seeds:
        for name in arms:
            run.arm(name, one).model()  # raises now, not after minutes of probing

    def tables(seed: int) -> Iterator[Table]:
        for name in arms:
            one = run.arm(name, seed)
            if one.trained_phases:
                model = one.first_model()
                yield from _tables_of(model, model.embedding, name, BEFORE)
            model = one.model()
            yield from _tables_of(model, model.embedding, name, AFTER if one.trained_phases else "")

    about = f"the run in {folder}: {', '.join(arms)}, of the seeds {', '.join(map(str, seeds))}"
    spellings = _padded(run.data.tokenizer.spellings, run.data.spellings.num_tokens)
    return Source(folder.resolve().name, about, spellings, seeds, tables)


def _of_model(name: str, tokenizer: str, encoder: str | None) -> Source:
    """Open a model of transformers, causal or not, and its saved character encoder, if any."""
    found = HuggingFaceTokenizer.load(tokenizer)
    # A saved encoder records the path of the embedding in the causal model.
    kind = "AutoModelForCausalLM" if encoder else "AutoModel"
    model, loading = read(kind, name, "model", dtype=torch.float32, output_loading_info=True)
    host = model.get_input_embeddings()
    path = next((path for path, module in model.named_modules() if module is host), "")
    if not isinstance(host, nn.Embedding):
        kind, way_out = type(host).__name__, "Name another model."
        raise BadInput(f"The input embedding of {name!r} is a {kind}, not a table. {way_out}")
    if f"{path}.weight" in loading["missing_keys"]:
        raise BadInput(f"{name!r} has no weights of its embedding ({path}.weight). Save it again.")
    spellings = _check_rows(found.spellings, host.num_embeddings, name)
    if encoder:
        charembed.load(model, found.source, encoder)
    label = Path(name).name
    tables = tuple(_tables_of(model, path, label, ""))  # raises before the first probe
    about = f"the model {name}" + (f" with the character encoder of {encoder}" if encoder else "")
    return Source(label, about, spellings, (0,), lambda seed: iter(tables))


def _of_file(path: Path, tokenizer: str | None, tensor: str | None) -> Source:
    """Open one table of a safetensors file."""
    if tokenizer is None:
        raise BadInput(f"{path} is a file, which names no tokenizer. Add --tokenizer NAME.")
    try:
        # Shapes first: a checkpoint may hold gigabytes besides its table.
        with safe_open(path, framework="pt") as file:
            names = [key for key in list(file.keys()) if len(file.get_slice(key).get_shape()) == 2]
            shown = ", ".join([*names[:8], *["..."] * (len(names) > 8)]) or "none"
            if tensor is None and len(names) != 1:
                raise BadInput(f"{path} holds {len(names)} tables ({shown}). Add --tensor NAME.")
            chosen = names[0] if tensor is None else tensor
            if chosen not in names:
                raise BadInput(f"{path} has no table {chosen!r}. Its tables: {shown}.")
            vectors_VD: Tensor = file.get_tensor(chosen)
    except (SafetensorError, OSError) as error:
        raise BadInput(f"{path} is no safetensors file ({error}). Name another file.") from None
    if not vectors_VD.is_floating_point():
        kind = vectors_VD.dtype
        raise BadInput(f"{chosen} in {path} holds {kind}. Name a table of floating-point numbers.")
    known = HuggingFaceTokenizer.load(tokenizer).spellings
    spellings = _check_rows(known, len(vectors_VD), f"{path} ({chosen})")
    tables = (_finite(Table(Label(path.stem, BASE), vectors_VD.float())),)
    about = f"the table {chosen} of {path}"
    return Source(path.stem, about, spellings, (0,), lambda seed: iter(tables))


def _check_rows(spellings: Sequence[bytes | None], rows: int, name: str) -> Sequence[bytes | None]:
    """Return a spelling for each row. Raises BadInput if the tokenizer does not fit the table."""
    # Tables are often padded to a multiple of 64 or 128 rows. No token may lie beyond the end.
    if any(spellings[rows:]) or rows - len(spellings) > _PADDING * rows:
        raise BadInput(
            f"The table of {name} has {rows:,} rows, but the tokenizer {len(spellings):,} tokens. "
            "Name the tokenizer of the table."
        )
    return _padded(spellings, rows)


def _padded(spellings: Sequence[bytes | None], rows: int) -> Sequence[bytes | None]:
    return [*spellings[:rows], *[None] * (rows - len(spellings))]


def _tables_of(model: nn.Module, path: str, name: str, when: str) -> Iterator[Table]:
    """Yield base, letters and sum of an embedding; of one without an encoder, the base alone."""
    embedding = model.get_submodule(path)
    weight_VD = embedding.get_parameter("weight").detach()
    parts = {BASE: weight_VD.clone()}
    if isinstance(embedding, charembed.CharEmbedding):
        # The second table of a control arm knows no characters, and is not called letters.
        has_spellings = isinstance(getattr(embedding.encoder, "spellings", None), SpellingTable)
        added_VD = encode_vocabulary(embedding.encoder, weight_VD, embedding.num_embeddings)
        parts |= {LETTERS if has_spellings else EXTRA: added_VD, SUM: weight_VD + added_VD}
    for part, vectors_VD in parts.items():
        yield _finite(Table(Label(name, part, when), vectors_VD))


def _finite(table: Table) -> Table:
    """Return the table. Raises BadInput for a number that is not finite."""
    if not bool(torch.isfinite(table.vectors_VD).all()):
        name = table.label.name
        raise BadInput(f"The table {name} has numbers that are not finite. Name another one.")
    return table
