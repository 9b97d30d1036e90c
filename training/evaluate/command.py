"""The options of python -m training.evaluate, and what they start."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from training.ask.answers import RECORD
from training.ask.models import BATCH, Respondent
from training.errors import BadInput
from training.files import sha256
from training.progress import in_terminal, no_bars
from training.run.folder import is_run

from .evaluation import QUESTIONS, Model, evaluate
from .load import Manner, open_model
from .page import print_scores
from .suites import open_suites


def default_out(model: str, one: Respondent, suites: Sequence[str], told: Sequence[Any]) -> Path:
    """Beside the run, or in evaluations/: one folder for one model and one way of asking."""
    digest = sha256(json.dumps([one.identity, list(suites), list(told)]))[:8]
    if is_run(model):
        return Path(model) / "evaluations" / f"{one.name}-seed{one.seed}-{digest}"
    return Path("evaluations") / f"{one.name}-{digest}"


def run_evaluation(options: argparse.Namespace) -> None:
    if options.threads:
        torch.set_num_threads(options.threads)
    open_suites(options.suite)  # what is wrong with them is said before a model is read
    manner = Manner(
        wording=options.wording,
        form=options.form,
        shots=options.shots,
        words=options.words,
        corpus=options.corpus,
    )
    device = "cpu" if options.cpu else None
    console = Console()
    with Console(stderr=True).status("Reading the model ..."):
        one = open_model(
            options.model,
            arm=options.arm,
            seed=options.seed,
            letters=options.letters,
            cache_folder=options.cache,
            manner=manner,
            device=device,
        )
        against: Model | None = options.against
        if options.against_arm is not None or (
            against and not (Path(options.against) / RECORD).is_file()
        ):
            against = open_model(
                options.against or options.model,
                arm=options.against_arm,
                seed=options.seed if options.against_arm else None,
                cache_folder=options.cache,
                manner=manner,
                device=device,
            )
    told = [options.questions, options.questions_seed, vars(manner)]
    out = options.out or default_out(options.model, one, options.suite.split(","), told)
    done = evaluate(
        one,
        options.suite,
        against=against,
        questions=options.questions,
        seed=options.questions_seed,
        out=out,
        resume=options.resume,
        batch_size=options.batch_size,
        bars=no_bars if options.quiet else in_terminal("answers of"),
    )
    print_scores(console, done.name, done.other, done.rows)
    console.print(f"Page: {out / 'report.html'}", highlight=False, soft_wrap=True)


def parse(argv: Sequence[str] | None, description: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m training.evaluate",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "model",
        metavar="MODEL",
        help="a run's folder, or a causal model's folder or hub name; smollm2 is packaged",
    )
    add("--suite", default="letters", help="suites, with commas between [letters]")
    add("--arm", help="of a run [its last]")
    add("--seed", type=int, help="of a run [its first]")
    add("--letters", metavar="FOLDER", help="letters that charembed.save wrote for this MODEL")
    add(
        "--against",
        metavar="OTHER",
        help="a second model for the same questions, or the folder of its evaluation",
    )
    add("--against-arm", metavar="ARM", help="an arm of OTHER, or of the same run")
    add("--questions", type=int, default=QUESTIONS, help="per task and split [%(default)s]")
    add("--questions-seed", type=int, help="other questions [a run's own seed, else 0]")
    add(
        "--wording",
        default="compact",
        help="how a model that was not trained here is asked: compact or sentences",
    )
    add(
        "--form",
        default="spelled",
        help="how it is to answer: spelled, with the letters apart, or plain",
    )
    add(
        "--shots",
        type=int,
        default=4,
        help="solved questions before each of its questions [%(default)s]",
    )
    add("--words", default="wordsegment", help="word list of such a model, as for training.compare")
    add(
        "--corpus",
        help="text in which the tokens of such a model are counted, as for training.compare [none]",
    )
    add("--batch-size", type=int, default=BATCH, help="questions answered together [%(default)s]")
    add("--out", type=Path, help="folder to write [beside the run, or in evaluations/]")
    add("--resume", action="store_true", help="ask what the folder does not hold yet")
    add("--cache", type=Path, default=Path(".cache"), help="[%(default)s]")
    add("--threads", type=int, help="[torch's own choice]")
    add("--cpu", action="store_true", help="also where there is a GPU")
    add("--quiet", action="store_true", help="no progress bars")
    options = parser.parse_args(argv)
    for name, least in (("questions", 1), ("batch_size", 1), ("shots", 0), ("threads", 1)):
        value = getattr(options, name)
        if value is not None and value < least:
            raise BadInput(f"--{name.replace('_', '-')} is {value}; it must be {least} or more.")
    return options
