"""What this machine must have for a run, asked before anything is made or built.

Places to write to, memory and disk are compared with estimates from below, made of the config by arithmetic
alone: what a run needs is this much and more, so whoever is refused could not have finished. A pretrained
model is read once, so that what is wrong with it is said before the text is cut into tokens.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import psutil
import torch
from accelerate import PartialState
from accelerate.utils import is_bf16_available

from charembed import SpellingTable
from training.config.config import CompareConfig
from training.config.phase import Phase
from training.data.tokenizers import HuggingFaceTokenizer
from training.errors import BadInput
from training.models.hub import num_parameters, text_config
from training.models.huggingface import HuggingFace, check_context
from training.models.precision import resolve_precision
from training.train.kinds import KINDS

FLOAT = 4  # bytes
ITEM = 200  # bytes of a question and its answer as text, at least
SYMBOLS = 100  # of the smallest alphabet of letters


@dataclass(frozen=True, kw_only=True)
class Machine:
    """How to run on this machine: nothing here decides what is trained.

    `threads` and `cpu` may move the last digits of the numbers.

    Attributes:
        cache: folder for vocabularies and token ids.
        threads: CPU threads of one arm.
        cpu: leave the GPU alone.
        save_every: steps between saved states.
        progress: show progress bars.
        jobs: arms trained at once, each in its own process; None for a number that fits the machine.
    """

    cache: Path
    threads: int = 1
    cpu: bool = False
    save_every: int = 200
    progress: bool = True
    jobs: int | None = None

    @staticmethod
    def of(flags: argparse.Namespace) -> Machine:
        """Read the flags that `training.config.flags.add_options` adds."""
        return Machine(
            cache=flags.cache,
            threads=flags.threads,
            cpu=flags.cpu,
            save_every=flags.save_every,
            progress=not flags.quiet,
            jobs=flags.jobs,
        )

    @property
    def flags(self) -> list[str]:
        """The flags for the process of one arm, as `of` reads them."""
        numbers = {"--threads": self.threads, "--save-every": self.save_every}
        named = [text for flag, number in numbers.items() for text in (flag, str(number))]
        bare = ["--cpu"] * self.cpu + ["--quiet"] * (not self.progress)
        return ["--cache", str(self.cache), *named, *bare]

    @property
    def state(self) -> PartialState:
        """The processes over which accelerate spreads an arm; one if it did not start this program."""
        return PartialState(cpu=self.cpu)

    @property
    def has_gpu(self) -> bool:
        return torch.cuda.is_available() and not self.cpu

    @property
    def side_by_side(self) -> int:
        """The number of arms trained at once."""
        one_by_one = self.has_gpu or self.state.num_processes > 1
        return self.jobs or (1 if one_by_one else min(2, os.cpu_count() or 1))

    def precision(self, config: CompareConfig) -> str:
        """Return the arithmetic of a training step here: "bf16" or "fp32"."""
        return resolve_precision(config.precision, self.cpu)


class Size(NamedTuple):
    """What an estimate needs to know of the model under the arms; `rows` are the token embedding's."""

    layers: int
    width: int
    rows: int
    parameters: int


def check_machine(config: CompareConfig, machine: Machine, out: Path) -> None:
    """Raise BadInput for what this machine cannot do; nothing is left behind."""
    for flag, folder in (("--out", out), ("--cache", machine.cache)):
        check_place(flag, folder)
    if config.precision == "bf16" and not is_bf16_available(ignore_tpu=True):
        raise BadInput("precision is bf16, which this machine cannot compute: use fp32 or auto.")
    size = size_of(config)
    side_by_side = min(machine.jobs or 1, config.seeds * len(config.arms))
    check_memory(memory_needed(config, size, side_by_side), machine)
    check_disk(weights_size(config, size), states_size(config, size, side_by_side), out)
    if config.model.pretrained:
        tokenizer = HuggingFaceTokenizer.load(config.model.model)
        SpellingTable.from_tokenizer(tokenizer.source, size.rows)  # refuses one of another model
        HuggingFace.load(config.model.model, config.context)
    if (processes := machine.state.num_processes) > 1 and (machine.jobs or 1) > 1:
        raise BadInput(
            f"jobs is {machine.jobs}, and each arm is spread over {processes} processes already: leave "
            "--jobs out."
        )


def check_place(flag: str, folder: Path) -> None:
    """Raise BadInput where this folder cannot be made or written into."""
    place = nearest(folder)
    if not place.is_dir():
        where = "is a file" if place == folder else f"lies below the file {str(place)!r}"
        raise BadInput(f"{flag} {str(folder)!r} {where}: name a folder.")
    try:
        with tempfile.TemporaryDirectory(prefix=".charembed", dir=place) as trial:
            Path(trial, folder.relative_to(place)).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(
            f"{flag} {str(folder)!r} cannot be made ({error.strerror}): name another folder."
        ) from None


def nearest(path: Path) -> Path:
    """The path itself or, where there is no such thing, the nearest one above it that exists."""
    return next(
        place for place in (path, *path.parents) if os.path.lexists(place) or place == Path(".")
    )


def check_memory(needed: int, machine: Machine) -> None:
    if machine.has_gpu:
        there = f"the GPU has {readable(room := torch.cuda.get_device_properties(0).total_memory)}"
    else:
        there = f"{readable(room := psutil.virtual_memory().available)} are free"
    if needed > room:
        raise BadInput(
            f"this run needs more than {readable(needed)} of memory, and {there}: choose a smaller model, "
            "vocabulary, context, batch or evaluation, or fewer jobs."
        )


def check_disk(weights: int, states: int, out: Path) -> None:
    """Raise BadInput where a run with so many bytes of weights, and states while it trains, has no room.

    What a run folder already holds need not be written again; when all of it is there, nothing is trained.
    """
    is_run = (out / "config.json").is_file()
    written = 0
    for file in out.rglob("*") if is_run else ():
        with suppress(FileNotFoundError):  # another run may be writing here: it will be told so
            written += file.stat().st_size if file.is_file() else 0
    free = shutil.disk_usage(nearest(out)).free
    needed = weights - written + states
    if weights > written and needed > free:
        raise BadInput(
            f"this run needs about {readable(needed)} of disk, and {readable(free)} are free for "
            f"{str(out)!r}: make room, choose another --out, or fewer seeds or arms."
        )


def readable(num_bytes: int) -> str:
    """123456789 -> "123.5 MB"; 98765432109876 -> "98,765.4 GB" """
    return f"{num_bytes / 1e6:.1f} MB" if num_bytes < 10**9 else f"{num_bytes / 1e9:,.1f} GB"


def memory_needed(config: CompareConfig, size: Size, side_by_side: int) -> int:
    """Bytes that a run holds at least: weights with gradients and optimizer states, the largest batch, and
    the questions of the exam.
    """
    trained = [phase for phase in config.phases if phase.steps]
    parameters = max(arm_parameters(config, size, arm) for arm in config.arms)
    copies = max((copies_trained(phase) for phase in trained), default=1)
    batch = max((batch_floats(phase, size) for phase in trained), default=0)
    base = size.parameters * any(phase.replay_target == "base" for phase in trained)
    exam = config.evaluation.questions * len(config.data.tasks) * ITEM
    return side_by_side * FLOAT * (copies * parameters + base + batch) + exam


def weights_size(config: CompareConfig, size: Size) -> int:
    """Bytes of the weights that each arm keeps of each of its phases."""
    phases = sum(phase.steps > 0 for phase in config.phases)
    return (
        FLOAT
        * config.seeds
        * phases
        * sum(arm_parameters(config, size, arm) for arm in config.arms)
    )


def states_size(config: CompareConfig, size: Size, side_by_side: int) -> int:
    """Bytes of the states of the arms at work, all but the gradients; an old and a new one are there while it
    is written.
    """
    copies = max((copies_trained(phase) - 1 for phase in config.phases if phase.steps), default=0)
    return (
        2
        * FLOAT
        * side_by_side
        * copies
        * max(arm_parameters(config, size, arm) for arm in config.arms)
    )


def copies_trained(phase: Phase) -> int:
    """Numbers kept per parameter: itself, its gradient, and AdamW's two means or Muon's one."""
    if not KINDS[phase.kind].trains_model:
        return 1
    return 4 if phase.optimizer == "adamw" else 3


def batch_floats(phase: Phase, size: Size) -> int:
    """Numbers of one batch at least: logits with their gradient, and activations of the blocks."""
    read, predicted = KINDS[phase.kind].least_tokens(phase)
    return phase.batch_size * (2 * predicted * size.rows + read * size.width * size.layers)


def size_of(config: CompareConfig) -> Size:
    """The size of the model under the arms, with room for the longest rows: the decoder's by arithmetic, a
    pretrained model's by its config.

    Raises BadInput for a pretrained model without a config, or one that does not read such rows.
    """
    if config.model.pretrained:
        known = text_config(config.model.model)
        check_context(getattr(known, "max_position_embeddings", None), config.context)
        parameters = num_parameters(config.model.model)
        layers, width = (getattr(known, name, 0) for name in ("num_hidden_layers", "hidden_size"))
        return Size(layers, width, known.vocab_size, parameters)
    L, D, V = config.model.layers, config.model.width, config.data.vocab_size
    block = 12 * D * D + 10 * D  # attention 4 D D + D, the MLP 8 D D + 5 D, two norms 4 D
    return Size(L, D, V, (V + config.context) * D + L * block + 2 * D + V * D + V)


def arm_parameters(config: CompareConfig, size: Size, arm: str) -> int:
    """Parameters of the model with an arm's encoder, at least: of some encoders only what the config sets."""
    E, H, D = config.model.char_dim, config.model.char_hidden, size.width
    lstm = SYMBOLS * E + 4 * H * (E + H + 2) + H * D + D
    gru = SYMBOLS * E + 3 * H * (E + H + 2) + H * D + D
    table = E * D + D
    extra = dict.fromkeys(("lstm", "matched", "shuffled"), lstm) | {"gru": gru}
    extra |= dict.fromkeys(("bag", "length", "first", "random"), table)
    return size.parameters + extra.get(arm, 0)
