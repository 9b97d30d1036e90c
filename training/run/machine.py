"""The machine of a run, and checks that it can finish the run, before any work.

Memory and disk are compared with lower bounds, computed from the config alone: a refused run could
not have finished. A pretrained model is loaded once, so that its errors come before the corpus is
tokenized.
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
from training.models.arms import AGAIN
from training.models.blocks import blocks_of, check_compiler
from training.models.chunked_loss import rows_at_once
from training.models.hub import num_parameters, text_config
from training.models.huggingface import HuggingFace, check_context
from training.models.precision import resolve_precision
from training.train.kinds import KINDS

_FLOAT = 4  # bytes
_ITEM = 200  # bytes of a question and its answer as text, at least
_SYMBOLS = 100  # characters of the smallest alphabet


@dataclass(frozen=True, kw_only=True)
class Machine:
    """How to run on this machine. Nothing here decides what is trained.

    Machine(cache=Path(".cache"), cpu=True, jobs=2)

    Attributes:
        cache: folder for vocabularies and token ids.
        threads: CPU threads of one arm, 1 or more. May change the last digits of the numbers.
        cpu: do not use a GPU. May change the last digits of the numbers.
        accumulate: parts of the batch of a step that are computed one after the other, 1 or more.
            Their gradients are summed, so the batch and the step stay the same; the last digits
            change. With dropout, other units are dropped.
        compile: train with compiled transformer blocks. May change the last digits of the numbers.
        gradient_checkpointing: compute the blocks of a Hugging Face model again in the backward
            pass, which needs less memory. No number changes.
        save_every: steps between saved states, 1 or more.
        progress: show progress bars.
        measures: times in each phase that held-out loss and exact match are measured; 0 for never.
            A phase of a few steps is measured less often.
        jobs: arms trained at once, each in its own process; None: 2 on a CPU, 1 on a GPU.
    """

    cache: Path
    threads: int = 1
    cpu: bool = False
    accumulate: int = 1
    compile: bool = False
    gradient_checkpointing: bool = False
    save_every: int = 200
    progress: bool = True
    measures: int = 12
    jobs: int | None = None

    @staticmethod
    def of(flags: argparse.Namespace) -> Machine:
        """Read the flags that `training.config.flags.add_options` adds."""
        return Machine(
            cache=flags.cache,
            threads=flags.threads,
            cpu=flags.cpu,
            accumulate=flags.accumulate,
            compile=flags.compile,
            gradient_checkpointing=flags.gradient_checkpointing,
            save_every=flags.save_every,
            progress=not flags.quiet,
            measures=flags.measures,
            jobs=flags.jobs,
        )

    @property
    def flags(self) -> list[str]:
        """The flags for the process of one arm, as `of` reads them."""
        numbers = {
            "--threads": self.threads, "--accumulate": self.accumulate,
            "--save-every": self.save_every, "--measures": self.measures,
        }  # fmt: skip
        named = [text for flag, number in numbers.items() for text in (flag, str(number))]
        switches = {
            "--cpu": self.cpu, "--compile": self.compile,
            "--gradient-checkpointing": self.gradient_checkpointing, "--quiet": not self.progress,
        }  # fmt: skip
        return ["--cache", str(self.cache), *named, *(flag for flag, on in switches.items() if on)]

    @property
    def state(self) -> PartialState:
        """The processes over which accelerate spreads an arm; usually one."""
        return PartialState(cpu=self.cpu)

    @property
    def shards(self) -> bool:
        """Whether accelerate was asked to shard each arm over its processes, by FSDP."""
        return os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"

    @property
    def has_gpu(self) -> bool:
        return torch.cuda.is_available() and not self.cpu

    @property
    def side_by_side(self) -> int:
        """The number of arms trained at once."""
        # A GPU is busy with one arm; a CPU step is small and leaves a second core idle.
        one_by_one = self.has_gpu or self.state.num_processes > 1
        return self.jobs or (1 if one_by_one else min(2, os.cpu_count() or 1))

    def precision(self, config: CompareConfig) -> str:
        """Return the arithmetic of a training step here: "bf16" or "fp32"."""
        return resolve_precision(config.precision, self.cpu)


# How a step is computed, as far as it may change last digits or the time, with the usual values.
USUAL = {"accumulate": 1, "compile": False, "gradient_checkpointing": False}


def departures(machine: Machine) -> dict[str, int | bool]:
    """Return the values that are not usual, for config.json: {"accumulate": 4}."""
    given = {name: getattr(machine, name) for name in USUAL}
    return {name: value for name, value in given.items() if value != USUAL[name]}


class Size(NamedTuple):
    """The size of the base model; `rows` are those of its token embedding."""

    layers: int
    width: int
    rows: int
    parameters: int


def check_machine(config: CompareConfig, machine: Machine, out: Path) -> None:
    """Raise BadInput if this machine cannot finish a run. Leave no file behind."""
    # From cheap to expensive: folders, then arithmetic, at last the weights of a pretrained model.
    for flag, folder in (("--out", out), ("--cache", machine.cache)):
        check_place(flag, folder)
    if config.precision == "bf16" and not is_bf16_available(ignore_tpu=True):
        raise BadInput("precision is bf16, which this machine cannot compute: use fp32 or auto.")
    size = size_of(config)
    side_by_side = min(machine.jobs or 1, config.seeds * len(config.arms))
    processes = machine.state.num_processes
    parts, shards = processes * machine.accumulate, processes if machine.shards else 1
    _check_memory(memory_needed(config, size, side_by_side, parts, shards), machine)
    check_disk(weights_size(config, size), states_size(config, size, side_by_side), out)
    if config.model.pretrained:
        tokenizer = HuggingFaceTokenizer.load(config.model.model)
        SpellingTable.from_tokenizer(
            tokenizer.source, size.rows
        )  # raises if rows and tokens differ
        model = HuggingFace.load(config.model.model, config.context)
        if machine.gradient_checkpointing:
            model.checkpoint_gradients()
        if machine.compile and not blocks_of(model):
            raise BadInput(
                f"the model {config.model.model!r} has no list of equal blocks to compile: leave "
                "--compile out."
            )
    if machine.compile:
        check_compiler(machine.state.device)


def check_place(flag: str, folder: Path) -> None:
    """Raise BadInput if a folder, named by a flag, cannot be made or written into."""
    place = _nearest(folder)
    if not place.is_dir():
        where = "is a file" if place == folder else f"lies below the file {str(place)!r}"
        raise BadInput(f"{flag} {str(folder)!r} {where}: name a folder.")
    # A trial, as permissions alone do not tell: the disk may be read-only or the quota used up.
    try:
        with tempfile.TemporaryDirectory(prefix=".charembed", dir=place) as trial:
            Path(trial, folder.relative_to(place)).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(
            f"{flag} {str(folder)!r} cannot be made ({error.strerror}): name another folder."
        ) from None


def _nearest(path: Path) -> Path:
    """Return the path, or if it does not exist, the nearest folder above it that does."""
    return next(
        place for place in (path, *path.parents) if os.path.lexists(place) or place == Path(".")
    )


def _check_memory(needed: int, machine: Machine) -> None:
    """Raise BadInput if the machine has less memory than `needed` bytes."""
    if machine.has_gpu:
        there = f"the GPU has {readable(room := torch.cuda.get_device_properties(0).total_memory)}"
    else:
        there = f"{readable(room := psutil.virtual_memory().available)} are free"
    if needed > room:
        raise BadInput(
            f"this run needs more than {readable(needed)} of memory, and {there}: choose a smaller "
            "model, vocabulary, context, batch or evaluation, or fewer jobs."
        )


def check_disk(weights: int, states: int, out: Path) -> None:
    """Raise BadInput if the disk has no space for the bytes of weights and of states of a run.

    Files that the run folder already holds are not written again. If all weights are there, nothing
    is trained and no state is written.
    """
    is_run = (out / "config.json").is_file()
    written = 0
    for file in out.rglob("*") if is_run else ():
        with suppress(
            FileNotFoundError
        ):  # another run may be deleting files here; the lock refuses this one later
            written += file.stat().st_size if file.is_file() else 0
    free = shutil.disk_usage(_nearest(out)).free
    needed = weights - written + states
    if weights > written and needed > free:
        raise BadInput(
            f"this run needs about {readable(needed)} of disk, and {readable(free)} are free for "
            f"{str(out)!r}: free some space, choose another --out, or fewer seeds or arms."
        )


def readable(num_bytes: int) -> str:
    """Format bytes: 123456789 -> "123.5 MB"; 98765432109876 -> "98,765.4 GB"."""
    return f"{num_bytes / 1e6:.1f} MB" if num_bytes < 10**9 else f"{num_bytes / 1e9:,.1f} GB"


def memory_needed(
    config: CompareConfig, size: Size, side_by_side: int, parts: int = 1, shards: int = 1
) -> int:
    """Return a lower bound of the bytes in memory of a process.

    Weights with gradients and optimizer states, the largest batch, and the evaluation sets.

    Arguments:
        parts: of a batch, of which one is in memory at a time.
        shards: of the weights, gradients and optimizer states, of which one is in memory.
    """
    trained = [phase for phase in config.phases if phase.steps]
    parameters = max(arm_parameters(config, size, arm) for arm in config.arms)
    copies = max((_copies_trained(phase) for phase in trained), default=1)
    batch = max((_batch_floats(phase, size) for phase in trained), default=0) // parts
    base = size.parameters * any(phase.replay_target == "base" for phase in trained)
    items = config.evaluation.questions * len(config.data.tasks) * _ITEM
    return side_by_side * _FLOAT * (copies * parameters // shards + base + batch) + items


def weights_size(config: CompareConfig, size: Size) -> int:
    """Return the bytes of the weights at the end of every trained phase of every arm."""
    phases = sum(phase.steps > 0 for phase in config.phases)
    parameters = sum(arm_parameters(config, size, arm) for arm in config.arms)
    return _FLOAT * config.seeds * phases * parameters


def states_size(config: CompareConfig, size: Size, side_by_side: int) -> int:
    """Return the bytes of the saved states of the arms that are trained at once."""
    copies = max((_copies_trained(phase) - 1 for phase in config.phases if phase.steps), default=0)
    parameters = max(arm_parameters(config, size, arm) for arm in config.arms)
    # Two of each: the old file stays until the new one is complete. Gradients are not saved.
    return 2 * _FLOAT * side_by_side * copies * parameters


def _copies_trained(phase: Phase) -> int:
    """Numbers kept per parameter: itself, its gradient, and AdamW's two means or Muon's one."""
    if not KINDS[phase.kind].trains_model:
        return 1
    return 4 if phase.optimizer == "adamw" else 3


def _batch_floats(phase: Phase, size: Size) -> int:
    """Numbers of one batch at least: a chunk of logits, and activations of the blocks."""
    read, predicted = KINDS[phase.kind].least_tokens(phase)
    chunk = min(phase.batch_size * predicted, rows_at_once(size.width, size.rows))
    return chunk * size.rows + phase.batch_size * read * size.width * size.layers


def size_of(config: CompareConfig) -> Size:
    """Return the size of the base model, with positions for the longest rows.

    Raises BadInput for a pretrained model without a config, or with a context that is too small.
    """
    if config.model.pretrained:
        known = text_config(config.model.model)
        parameters = num_parameters(config.model.model)
        check_context(getattr(known, "max_position_embeddings", None), config.context)
        layers, width = (getattr(known, name, 0) for name in ("num_hidden_layers", "hidden_size"))
        return Size(layers, width, known.vocab_size, parameters)
    L, D, V = config.model.layers, config.model.width, config.data.vocab_size
    block = 12 * D * D + 10 * D  # attention 4 D D + D, the MLP 8 D D + 5 D, two norms 4 D
    return Size(L, D, V, (V + config.context) * D + L * block + 2 * D + V * D + V)


def arm_parameters(config: CompareConfig, size: Size, arm: str) -> int:
    """Return a lower bound of an arm's parameters: base model and character encoder."""
    # Formulas, not a built encoder: at sizes that must be refused, it would not fit in memory.
    E, H, D = config.model.char_dim, config.model.char_hidden, size.width
    lstm = _SYMBOLS * E + 4 * H * (E + H + 2) + H * D + D
    gru = _SYMBOLS * E + 3 * H * (E + H + 2) + H * D + D
    table = E * D + D
    extra = dict.fromkeys(("lstm", "matched", "shuffled", AGAIN), lstm) | {"gru": gru}
    extra |= dict.fromkeys(("bag", "length", "first", "random"), table)
    return size.parameters + extra.get(arm, 0)
