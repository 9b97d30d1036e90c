"""The flags of python -m training.evaluate, and the evaluation that they describe."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.ask import BATCH
from training.errors import Interrupted, stopped
from training.flags import Parser, check_numbers, check_texts

from . import LETTERS, MOST_QUESTIONS, MOST_SHOTS, QUESTIONS

if TYPE_CHECKING:  # see `run_evaluation`: nothing that imports torch is imported here
    from training.ask.evaluated_model import EvaluatedModel

    from .load import Model


def run_evaluation(options: argparse.Namespace) -> None:
    """Load the models, evaluate them, print the scores and name the page.

    A Ctrl-C raises Interrupted if the folder keeps answers, else KeyboardInterrupt.
    """
    # Imported here: torch takes seconds, which --help and wrong flags must not take.
    import torch
    from rich.console import Console

    from training.ask.answers import RECORD
    from training.progress import in_terminal, no_bars
    from training.run.machine import check_place

    from .evaluation import evaluate
    from .page import print_scores
    from .suites import open_suites

    if options.threads:
        torch.set_num_threads(options.threads)
    # Both raise before a model is loaded, which takes longer.
    open_suites(options.suite)
    if options.out is not None:
        check_place("--out", options.out)
    out = options.out
    try:
        one, against, out = _load(options)
        done = evaluate(
            one, options.suite, against=against, questions=options.questions,
            seed=options.questions_seed, out=out, resume=options.resume,
            batch_size=options.batch_size,
            bars=no_bars if options.quiet else in_terminal("answers of"),
            command=options.command,
        )  # fmt: skip
    except KeyboardInterrupt:
        if out is None and options.resume:  # the name of the default folder needs the model's hash
            raise Interrupted from None
        raise stopped(out and out / RECORD) from None
    console = Console()
    print_scores(console, done.name, done.other, done.rows, done.constants)
    for note in done.notes:
        console.print(note, markup=False, highlight=False, soft_wrap=True)
    console.print(f"Page: {out / 'report.html'}", highlight=False, markup=False, soft_wrap=True)


def _load(options: argparse.Namespace) -> tuple[EvaluatedModel, Model | None, Path]:
    """Return the model, the other model or the folder of its evaluation, and the folder to write."""
    from rich.console import Console

    from training.ask.answers import RECORD
    from training.files import sha256
    from training.run.folder import is_run

    from .load import FewShotPrompts, load_model

    # The flags have the names of the fields.
    chosen = {field.name: getattr(options, field.name) for field in fields(FewShotPrompts)}
    prompts = FewShotPrompts(**chosen)
    device = "cpu" if options.cpu else None
    load = partial(load_model, cache_folder=options.cache, prompts=prompts, device=device)
    with Console(stderr=True).status("Reading the model ..."):
        one = load(options.model, arm=options.arm, seed=options.seed, encoder=options.encoder)
        against: Model | None = options.against
        is_folder = against is not None and (Path(options.against) / RECORD).is_file()
        if options.against_arm is not None or (against and not is_folder):
            # --seed is of runs; OTHER without --against-arm may be a pretrained model
            seed = options.seed if options.against_arm else None
            against = load(options.against or options.model, arm=options.against_arm, seed=seed)
    digest = sha256(json.dumps([one.identity, *questions_of(options, vars(prompts))]))[:8]
    out = Path("evaluations") / f"{one.name}-{digest}"
    if is_run(options.model):
        out = Path(options.model) / "evaluations" / f"{one.name}-seed{one.seed}-{digest}"
    return one, against, options.out or out


def questions_of(options: argparse.Namespace, prompts: dict[str, Any]) -> list[Any]:
    """Return the flags that choose the questions, which name the default folder.

    Another model or other questions get another folder, the same ones find theirs for --resume.
    """
    suites = options.suite.split(",")
    questions = [options.questions or QUESTIONS, options.questions_seed, prompts]
    own_files = any("=" in suite for suite in suites if not suite.strip().startswith(f"{LETTERS}="))
    # Without the flag, a benchmark's own files are asked whole, which may be more than the default.
    if own_files and options.questions == QUESTIONS:
        questions.append("drawn")
    return [suites, questions]


def parse(argv: Sequence[str] | None, description: str | None) -> argparse.Namespace:
    """Parse the flags. Raises BadInput for unknown flags and for numbers out of bounds."""
    parser = Parser("python -m training.evaluate", description)
    named = "run folder, or folder or hub name of a causal model; smollm2"
    parser.add_argument("model", metavar="MODEL", help=named)
    add = parser.add_argument_group("questions").add_argument
    add("--suite", default="letters", help="suites, separated by commas [letters]")
    each = f"per task and split [{QUESTIONS}; all of a benchmark's own files]"
    add("--questions", type=int, help=each)
    add("--questions-seed", type=int, help="seed of the questions [that of the run, else 0]")
    add = parser.add_argument_group("models").add_argument
    add("--arm", help="arm of a run [its last]")
    add("--seed", type=int, help="seed of a run [its first]")
    add("--encoder", metavar="FOLDER", help="character encoder that charembed.save wrote for MODEL")
    add("--letters", dest="encoder", help=argparse.SUPPRESS)  # its name in 0.1
    add("--against", metavar="OTHER", help="second model, or the folder of its evaluation")
    add("--against-arm", metavar="ARM", help="arm of OTHER, or of the same run")
    add = parser.add_argument_group("prompts for a model that was not trained here").add_argument
    add("--wording", default="compact", help="compact, sentences or varied [%(default)s]")
    add("--form", default="spelled", help="spelled (letters apart) or plain [%(default)s]")
    add("--shots", type=int, default=4, help="solved questions before each one [%(default)s]")
    add("--words", default="wordsegment", help="word list, as for training.compare [%(default)s]")
    add("--corpus", help="text to count tokens in, as for training.compare [none]")
    add = parser.add_argument_group("machine").add_argument
    add("--batch-size", type=int, default=BATCH, help="questions answered together [%(default)s]")
    add("--out", type=Path, help="folder to write [beside the run, or in evaluations/]")
    add("--resume", action="store_true", help="continue the evaluation in the folder")
    add("--cache", type=Path, default=Path(".cache"), help="[%(default)s]")
    add("--threads", type=int, help="[torch's own choice]")
    add("--cpu", action="store_true", help="use the CPU even if there is a GPU")
    add("--quiet", action="store_true", help="no progress bars")
    options = parser.parse_args(argv)
    check_texts(options)
    check_numbers(
        options, questions=(1, MOST_QUESTIONS), batch_size=(1, None), shots=(0, MOST_SHOTS),
        threads=(1, None),
    )  # fmt: skip
    given = sys.argv[1:] if argv is None else argv
    options.command = shlex.join(["python", "-m", "training.evaluate", *given])
    return options
