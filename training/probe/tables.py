"""The embedding tables that are probed: of the arms of a run, of a pretrained model, of a file.

An embedding with letters is three tables: the base alone, the letters alone, and their sum, which is what the
model reads.

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
from charembed.vector_table import encode_vocabulary
from training.data.tokenizers import HuggingFaceTokenizer
from training.errors import BadInput
from training.models.hub import read
from training.run.arm import first_weights, load_arm
from training.run.finished import trained_phases
from training.run.folder import arm_folder, check_arm, is_run, open_run

PADDING = 0.05  # share of a table's rows that may be beyond its tokenizer's tokens
BASE, LETTERS, EXTRA, SUM = "base", "letters", "extra", "sum"
SHUFFLED, RANDOM = CONTROLS = (
    "shuffled",
    "random",
)  # a table's rows dealt to other tokens; as many numbers
BEFORE, AFTER = "before", "after"


class Label(NamedTuple):
    """Which table it is.

    Attributes:
        model: the arm of a run, or a model's name.
        part: base, letters, sum, or extra for what an arm without letters adds; or a control of the model.
        when: before or after the training of a run; "" where only one is known.
    """

    model: str
    part: str
    when: str = ""

    @property
    def name(self) -> str:
        """In rows: "lstm sum after"."""
        return " ".join(filter(None, self))

    @property
    def is_control(self) -> bool:
        return self.part in CONTROLS


class Table(NamedTuple):
    """A table and its numbers."""

    label: Label
    vectors_VD: Tensor


@dataclass(frozen=True, eq=False)
class Source:
    """Where tables come from.

    Attributes:
        name: for people and files.
        about: one sentence of what is probed.
        models: the arms of a run, or the one model.
        spellings: the bytes of each row of the tables.
        seeds: of a run the seeds of its pairs; split k is put to the models of one of them, in turn.
        tables: those of a seed.
    """

    name: str
    about: str
    models: tuple[str, ...]
    spellings: Sequence[bytes | None]
    seeds: tuple[int, ...]
    tables: Callable[[int], Iterator[Table]]


def open_source(
    name: str,
    cache: Path,
    *,
    arm: str | None = None,
    seed: int | None = None,
    letters: str | None = None,
    tokenizer: str | None = None,
    tensor: str | None = None,
) -> Source:
    """What MODEL is, by what lies there. Raises BadInput for what is not there or does not fit."""
    if is_run(name):
        _refuse(name, "a run's folder", letters=letters, tokenizer=tokenizer, tensor=tensor)
        return of_run(Path(name), cache, arm, seed)
    if Path(name).is_file():
        _refuse(name, "a file", arm=arm, seed=seed, letters=letters)
        return of_file(Path(name), tokenizer, tensor)
    _refuse(name, "a pretrained model", arm=arm, seed=seed, tensor=tensor)
    return of_model(name, tokenizer or name, letters)


def _refuse(name: str, kind: str, **flags: str | int | None) -> None:
    if given := [flag for flag, value in flags.items() if value is not None]:
        raise BadInput(
            f"--{given[0]} is {flags[given[0]]!r}, but {name!r} is {kind}: leave it out."
        )


def of_run(out: Path, cache: Path, arm: str | None = None, seed: int | None = None) -> Source:
    """The arms of a run, before and after their training."""
    config, data = open_run(out, cache)
    check_arm(out, config, arm or config.arms[0], config.first_seed if seed is None else seed)
    arms = (arm,) if arm else config.arms
    seeds = tuple(config.seed_range) if seed is None else (seed,)
    for one in seeds:
        for name in arms:  # what is missing or damaged is told at once
            load_arm(config, one, name, arm_folder(out, one, name), data)

    def tables(seed: int) -> Iterator[Table]:
        for name in arms:
            if trained_phases(config):
                model = first_weights(config, name, seed, data)
                yield from tables_of(model, model.embedding, name, BEFORE)
            model = load_arm(config, seed, name, arm_folder(out, seed, name), data)
            yield from tables_of(
                model, model.embedding, name, AFTER if trained_phases(config) else ""
            )

    about = f"the run in {out}: {', '.join(arms)}, of the seeds {', '.join(map(str, seeds))}"
    return Source(
        out.resolve().name,
        about,
        arms,
        _spelled(data.tokenizer.spellings, data.spellings.num_tokens),
        seeds,
        tables,
    )


def of_model(name: str, tokenizer: str, letters: str | None) -> Source:
    """A model of transformers, causal or not, and the letters that were saved for it."""
    found = HuggingFaceTokenizer.load(tokenizer)
    kind = (
        "AutoModelForCausalLM" if letters else "AutoModel"
    )  # letters know the path of the whole model
    model, told = read(kind, name, "model", dtype=torch.float32, output_loading_info=True)
    host = model.get_input_embeddings()
    path = next((path for path, module in model.named_modules() if module is host), "")
    if not isinstance(host, nn.Embedding):
        raise BadInput(
            f"the input embedding of {name!r} is a {type(host).__name__} and no table: name another model."
        )
    if f"{path}.weight" in told["missing_keys"]:
        raise BadInput(f"{name!r} has no weights for its embedding ({path}.weight): save it again.")
    spellings = check_rows(found.spellings, host.num_embeddings, name)
    if letters:
        charembed.load(model, found.source, letters)
    label = Path(name).name
    tables = tuple(tables_of(model, path, label, ""))
    about = f"the model {name}" + (f" with the letters of {letters}" if letters else "")
    return Source(label, about, (label,), spellings, (0,), lambda seed: iter(tables))


def of_file(path: Path, tokenizer: str | None, tensor: str | None) -> Source:
    """One table of a safetensors file."""
    if tokenizer is None:
        raise BadInput(
            f"{path} is a file, which does not say whose tokens its rows are: add --tokenizer NAME."
        )
    try:
        with safe_open(path, framework="pt") as file:
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
            names = [name for name, shape in shapes.items() if len(shape) == 2]
            if tensor is None and len(names) != 1:
                few = ", ".join([*names[:4], *["..."] * (len(names) > 4)])
                raise BadInput(
                    f"{path} holds {len(names)} tables ({few}), and one is probed: add --tensor NAME."
                )
            chosen = names[0] if tensor is None else tensor
            if chosen not in names:
                raise BadInput(
                    f"{path} has no table {chosen!r}: it has {', '.join(names[:8]) or 'none'}."
                )
            vectors_VD: Tensor = file.get_tensor(chosen)
    except (SafetensorError, OSError) as error:
        raise BadInput(
            f"{path} is no safetensors file that can be read ({error}): name another."
        ) from None
    if not vectors_VD.is_floating_point():
        raise BadInput(
            f"{chosen} in {path} holds {vectors_VD.dtype}: name a table of floating-point numbers."
        )
    spellings = check_rows(
        HuggingFaceTokenizer.load(tokenizer).spellings, len(vectors_VD), f"{path} ({chosen})"
    )
    table = finite(Table(Label(path.stem, BASE), vectors_VD.float()))
    return Source(
        path.stem,
        f"the table {chosen} of {path}",
        (path.stem,),
        spellings,
        (0,),
        lambda seed: iter((table,)),
    )


def check_rows(spellings: Sequence[bytes | None], rows: int, name: str) -> Sequence[bytes | None]:
    """A spelling for each row. Raises BadInput where rows and tokens cannot belong together."""
    if any(spellings[rows:]) or rows - len(spellings) > PADDING * rows:
        raise BadInput(
            f"the table of {name} has {rows:,} rows, but the tokenizer {len(spellings):,} tokens: name the "
            "tokenizer that the table belongs to."
        )
    return _spelled(spellings, rows)


def _spelled(spellings: Sequence[bytes | None], rows: int) -> Sequence[bytes | None]:
    return [*spellings[:rows], *[None] * (rows - len(spellings))]


def tables_of(model: nn.Module, path: str, name: str, when: str) -> Iterator[Table]:
    """Base, letters and sum of the embedding at a path; of one without letters the base alone.

    Raises BadInput where a number is not finite.
    """
    embedding = model.get_submodule(path)
    weight_VD = embedding.get_parameter("weight").detach()
    parts = {BASE: weight_VD.clone()}
    if isinstance(embedding, charembed.CharEmbedding):
        reads_letters = isinstance(getattr(embedding.encoder, "spellings", None), SpellingTable)
        added_VD = encode_vocabulary(embedding.encoder, weight_VD, embedding.num_embeddings)
        parts |= {LETTERS if reads_letters else EXTRA: added_VD, SUM: weight_VD + added_VD}
    for part, vectors_VD in parts.items():
        yield finite(Table(Label(name, part, when), vectors_VD))


def finite(table: Table) -> Table:
    """The same. Raises BadInput where a number is not finite."""
    if not bool(torch.isfinite(table.vectors_VD).all()):
        raise BadInput(
            f"the table {table.label.name} holds numbers that are not finite: name another checkpoint."
        )
    return table
