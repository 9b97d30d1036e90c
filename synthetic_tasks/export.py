"""Export questions to other programs: python -m synthetic_tasks.export DIR --words words.txt

For lm-evaluation-harness, DIR gets a .yaml and a .jsonl per task and split, and the command to run
them is printed. The questions equal those of a run with the same splits, seed and number. If the
items of a task have choices, they are scored by likelihood (acc, acc_norm); else by exact match of
the text up to a newline, without surrounding space. Benchmarks keep their authors' prompts and
scoring: --tasks cute=FOLDER,spelling_bee=FOLDER; with --chat for a model with a chat template.
Takes seconds; needs Python alone.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from . import words
from .draws import distinct
from .errors import TaskError
from .flags import Parser, exit_status, whole_number
from .formats import FORMATS
from .formats.spec import parse_spec, sample
from .lm_eval_task import CHAT_TAG, TAG, as_lm_eval, benchmark_as_lm_eval
from .lm_eval_task import RESULT_PATTERN as RESULT_PATTERN
from .registry import WORD_TASKS, build_task, needs_words
from .task import ANSWER_FORMS, WORDINGS, Item, Material
from .word_tasks.word_task import WordTask

_MIN_LETTERS, _MAX_LETTERS = 3, 20  # letters of a word of --words
_Texts = dict[str, tuple[str, str]]  # name of an exported task -> its .yaml and its .jsonl
_Facts = dict[str, object]
_QUESTIONS, _MOST_QUESTIONS = 250, 1_000_000
_COMMAND = "lm-eval run --model hf --model_args pretrained=MODEL --include_path ."
_COMMANDS = {TAG: "", CHAT_TAG: "--apply_chat_template"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Returns 0, or 2 for bad input, 130 after Ctrl-C."""
    return exit_status(lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> None:
    options = _parser().parse_args(argv)
    tags = _export(options)
    print(f"{len(list(options.folder.glob('*.yaml')))} tasks are in {options.folder}. To run them:")
    for tag in tags:
        print(
            f"cd {options.folder} && {_COMMAND} {_COMMANDS[tag]} --tasks {tag}".replace("  ", " ")
        )


def _export(options: argparse.Namespace) -> list[str]:
    """Write the tasks of the command line and return their tags; on an error, write nothing."""
    folder: Path = options.folder
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise TaskError(f"{folder} exists and is not empty. Name a new folder.")
    splits = _read_splits(options)
    facts: _Facts = {"questions": options.questions or _QUESTIONS, "seed": options.seed}
    facts |= {"splits_sha256": words.fingerprint(splits)} if splits else {}
    # All texts before the first file: an error leaves no half export.
    texts: _Texts = {}
    for spec in options.tasks:
        is_format = parse_spec(spec).name in FORMATS
        texts |= (_benchmark if is_format else _own)(spec, splits, facts, options)
    folder.mkdir(parents=True, exist_ok=True)
    for name, (yaml, lines) in texts.items():
        (folder / f"{name}.yaml").write_text(yaml, "utf-8")
        (folder / f"{name}.jsonl").write_text(lines, "utf-8")
    if splits and options.splits_file:
        words.save_splits(folder / "splits.json", splits)
    return [
        tag
        for tag in _COMMANDS
        if any(f"\ntag: {json.dumps(tag)}\n" in y for y, _ in texts.values())
    ]


def _benchmark(
    spec: str, splits: words.WordSplits | None, facts: _Facts, options: argparse.Namespace
) -> _Texts:
    """Write the tasks of a benchmark, from its own files or imitated."""
    parsed, n, seed = parse_spec(spec), options.questions, options.seed
    form = FORMATS[parsed.name]
    if parsed.source.startswith("hf:"):
        raise TaskError(f"{spec} is on the hub, and files are read here. Save it, name its folder.")
    if parsed.source:
        tasks = parsed.choose(form, form.read(form.load(Path(parsed.source))))
        picked = [sample(task.items, n, task.name, "sample", seed) for task in tasks]
        tasks = [replace(one, items=tuple(items)) for one, items in zip(tasks, picked, strict=True)]
    else:
        # Words that no training question had, as in training.evaluate.
        unseen = [*splits.unseen_words, *splits.unseen_tokens] if splits else []
        tasks = parsed.choose(form, form.generate(unseen, n or _QUESTIONS, seed))
    own = facts | ({} if not parsed.source else {"questions": n or "all", "source": form.source})
    return {
        _name(task.name): benchmark_as_lm_eval(_name(task.name), task, own, options.chat)
        for task in tasks
    }


def _own(
    spec: str, splits: words.WordSplits | None, facts: _Facts, options: argparse.Namespace
) -> _Texts:
    """Draw the items of one of this project's tasks for each split."""
    n, seed = options.questions or _QUESTIONS, options.seed
    task = build_task(spec, Material(splits, options.wording, options.answer_form))
    about_words = isinstance(task, WordTask)
    names = [split.name for split in task.splits]
    texts = {}
    for split in _chosen_splits(task, options) if isinstance(task, WordTask) else names:
        name = _name(spec if about_words and not options.splits_file else f"{spec}_{split}")
        # Subtle: "exam" is part of the key of a run's evaluation set; another word gives others.
        items = distinct(task, split, n, "exam", split, seed)
        for own_name, some in _by_rule(name, items).items():
            texts[own_name] = as_lm_eval(own_name, some, facts)
    return texts


def _by_rule(name: str, items: Sequence[Item]) -> dict[str, list[Item]]:
    """Part direct and scratchpad answers, if a set has both: lm-eval has one rule for each task."""
    by_rule: dict[str, list[Item]] = {}
    for item in items:
        by_rule.setdefault("scratchpad" if item.work else "direct", []).append(item)
    if len(by_rule) == 1:
        return {name: list(items)}
    return {f"{name}_{rule}": some for rule, some in sorted(by_rule.items())}


def _chosen_splits(task: WordTask, options: argparse.Namespace) -> list[str]:
    """Return the splits to export: those named or all with words; the first one for a list."""
    if not options.splits_file:
        if options.splits:
            raise TaskError("a list of words has no splits. Name a --splits-file or no --splits.")
        return [words.SPLITS[0]]  # all four hold the list
    names = options.splits or [one.name for one in task.splits if task.words_of(one.name)]
    for name in names:
        if not task.words_of(name):
            raise TaskError(f"the split {name!r} of {options.splits_file} has no words. Omit it.")
    return list(names)


def _read_splits(options: argparse.Namespace) -> words.WordSplits | None:
    """Read a file of splits, or a list of words as all four splits; None if no task needs words."""
    if options.splits_file and options.words:
        raise TaskError("--words and --splits-file both name words. Use one of them.")
    if options.splits_file:
        return words.load_splits(options.splits_file)
    if not options.words:
        parsed = map(parse_spec, options.tasks)
        imitated = any(spec.name in FORMATS and not spec.source for spec in parsed)
        if needs_words(options.tasks) or imitated:
            raise TaskError("tasks about words need some. Name --words FILE or --splits-file FILE.")
        return None
    listed = [line.strip() for line in words.read_words(options.words)]
    return words.one_list(words.usable_words(listed, _MIN_LETTERS, _MAX_LETTERS))


def _name(spec: str) -> str:
    """Name the exported task: path_star:2x5 -> charembed_path_star_2x5."""
    return f"{TAG}_" + "".join(letter if letter.isalnum() else "_" for letter in spec)


def _parser() -> argparse.ArgumentParser:
    about = "Export questions to lm-evaluation-harness."
    parser = Parser("python -m synthetic_tasks.export", about)
    add = parser.add_argument
    sizes = ("path_star:2x5, counting:10x100", *FORMATS, "cute=FOLDER, cute=FOLDER:spell+orth")
    names = ", ".join((*WORD_TASKS, *sizes))
    tasks_help = f"separated by commas, from {names} (default: all tasks about words)"
    splits_help = f"of a file, some of {', '.join(words.SPLITS)} (default: all with words)"
    default = " (default: %(default)s)"
    add("folder", type=Path, metavar="DIR", help="a new folder")
    add("--format", choices=("lm-eval",), default="lm-eval", help="target program" + default)
    add("--tasks", type=_listed, default=list(WORD_TASKS), help=tasks_help)
    add("--words", type=Path, metavar="FILE", help="words to ask about, one a line")
    add("--splits-file", type=Path, metavar="FILE", help="the splits of a run, instead of --words")
    add("--splits", type=_listed, default=[], help=splits_help)
    each = f"number per task and split (default: {_QUESTIONS}; all of a benchmark's own files)"
    add("--questions", type=_positive, help=each)
    add("--seed", type=int, default=0, help="seed of the questions" + default)
    add("--chat", action="store_true", help="benchmarks for a model with a chat template")
    add("--wording", choices=WORDINGS, default="sentences", help="of the questions" + default)
    add("--answer-form", choices=ANSWER_FORMS, default="plain", help="of the answers" + default)
    return parser


def _listed(text: str) -> list[str]:
    names = list(dict.fromkeys(filter(None, text.split(","))))
    if not names:
        raise argparse.ArgumentTypeError(f"{text!r} names nothing")
    return names


def _positive(text: str) -> int:
    number = whole_number(text)
    if not 1 <= number <= _MOST_QUESTIONS:  # more would be drawn for hours
        raise argparse.ArgumentTypeError(
            f"{number} is not a whole number from 1 to {_MOST_QUESTIONS}"
        )
    return number


if __name__ == "__main__":
    raise SystemExit(main())
