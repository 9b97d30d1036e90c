"""Export questions to other programs: python -m synthetic_tasks.export DIR --words words.txt

For lm-evaluation-harness, DIR gets a .yaml and a .jsonl per task and split, and the command to run
them is printed. The questions equal those of a run with the same splits, seed and number. If the
items of a task have choices, they are scored by likelihood (acc, acc_norm); else by exact match of
the text up to a newline, without surrounding space. Takes seconds; needs Python alone.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from . import words
from .draws import distinct
from .errors import TaskError
from .flags import Parser, exit_status
from .formats import FORMATS
from .registry import WORD_TASKS, build_task, needs_words
from .task import ANSWER_FORMS, END, WORDINGS, Item, Material

_TAG = "charembed"
_MIN_LETTERS, _MAX_LETTERS = 3, 20  # letters of a word of --words
_Drawn = list[tuple[str, list[Item]]]  # names of exported tasks with their items
_STRIP = ["\\A\\s+", "\\s+\\Z"]
RESULT_PATTERN = "^(?:.* )?= (.*)$"  # the result of a scratchpad answer follows the last " = "


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Returns 0, or 2 for bad input, 130 after Ctrl-C."""
    return exit_status(lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> None:
    options = _parser().parse_args(argv)
    written = _export(options)
    command = "lm-eval run --model hf --model_args pretrained=MODEL --include_path ."
    print(f"{written} tasks are in {options.folder}. To run them:")
    print(f"cd {options.folder} && {command} --tasks {_TAG}")


def _export(options: argparse.Namespace) -> int:
    """Write the tasks of the command line and return their number; on an error, write nothing."""
    folder: Path = options.folder
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise TaskError(f"{folder} exists and is not empty. Name a new folder.")
    splits = _read_splits(options)
    drawn = [part for spec in options.tasks for part in _draw(spec, splits, options)]
    facts = {"questions": options.questions, "seed": options.seed}
    facts |= {"splits_sha256": words.fingerprint(splits)} if splits else {}
    # All texts before the first file: an error leaves no half export.
    texts = {name: as_lm_eval(name, items, facts) for name, items in drawn}
    folder.mkdir(parents=True, exist_ok=True)
    for name, (yaml, lines) in texts.items():
        (folder / f"{name}.yaml").write_text(yaml, "utf-8")
        (folder / f"{name}.jsonl").write_text(lines, "utf-8")
    if splits and options.splits_file:
        words.save_splits(folder / "splits.json", splits)
    return len(texts)


def as_lm_eval(name: str, items: Sequence[Item], facts: dict[str, object]) -> tuple[str, str]:
    """Return the .yaml of a task of lm-evaluation-harness, and the .jsonl of its items.

    [Item("count a banana:", " 3", ...)] -> one line, {"prompt": "count a banana:", "target": "3"}
    """
    config: dict[str, object] = {
        "task": name,
        "tag": _TAG,
        "dataset_path": "json",  # the loader for local files
        "dataset_kwargs": {"data_files": {"test": f"{name}.jsonl"}},
        "test_split": "test",
        "doc_to_text": "prompt",
        "num_fewshot": 0,  # the prompt is complete
        **(_BY_CHOICE if items[0].choices else _by_generation(items)),
        "metadata": {"version": 1.0, **facts},
    }
    # JSON values are YAML values too, so no YAML writer is needed.
    yaml = "".join(f"{key}: {_as_json(value)}\n" for key, value in config.items())
    return yaml, "".join(f"{_as_json(_row(item))}\n" for item in items)


def _as_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _metric(name: str, **more: object) -> dict[str, object]:
    return {"metric": name, "aggregation": "mean", "higher_is_better": True, **more}


_BY_CHOICE = {
    "output_type": "multiple_choice",
    "doc_to_choice": "choices",
    "doc_to_target": "target",
    "target_delimiter": "",  # each choice begins with its space
    "metric_list": [_metric("acc"), _metric("acc_norm")],
}


def _by_generation(items: Sequence[Item]) -> dict[str, object]:
    written = [item.text.removeprefix(item.prompt) for item in items]
    has_scratchpad = written[0] != items[0].answer + END
    result = {"function": "regex", "regex_pattern": RESULT_PATTERN, "fallback": ""}
    filters = [result] if has_scratchpad else []
    return {
        "output_type": "generate_until",
        "doc_to_target": "target",
        "generation_kwargs": {
            "until": [END],
            "do_sample": False,
            # A token is at least one byte, so the bytes of the longest answer suffice.
            "max_gen_toks": max(len(text.encode()) for text in written),
        },
        "filter_list": [{"name": "answer", "filter": [*filters, {"function": "take_first"}]}],
        "metric_list": [_metric("exact_match", regexes_to_ignore=_STRIP)],
    }


def _row(item: Item) -> dict[str, object]:
    choices = list(item.choices)
    target = choices.index(item.answer) if choices else item.answer.strip()
    offered = {"choices": choices} if choices else {}
    return {"prompt": item.prompt, **offered, "target": target, "key": item.key}


def _draw(spec: str, splits: words.WordSplits | None, options: argparse.Namespace) -> _Drawn:
    """Draw a task's items for each split."""
    n, seed = options.questions, options.seed
    if spec in FORMATS:
        # Words that no training question had, as in training.evaluate.
        unseen = [*splits.unseen_words, *splits.unseen_tokens] if splits else []
        made = FORMATS[spec].generate(unseen, n, seed)
        if not all(item.choices for task in made for item in task.items):
            way_out = "Leave it out, and run it with python -m training.evaluate."
            raise TaskError(f"{spec} has a scoring rule that lm-eval lacks. {way_out}")
        return [(_name(task.name), list(task.items)) for task in made]
    task = build_task(spec, Material(splits, options.wording, options.answer_form))
    about_words = needs_words([spec])
    names = [split.name for split in task.splits]
    drawn = []
    for split in _chosen_splits(splits, options) if about_words else names:
        name = spec if about_words and not options.splits_file else f"{spec}_{split}"
        # Subtle: "exam" is part of the key of a run's evaluation set; another word gives others.
        drawn.append((_name(name), distinct(task, split, n, "exam", split, seed)))
    return drawn


def _chosen_splits(splits: words.WordSplits | None, options: argparse.Namespace) -> list[str]:
    """Return the splits to export: those named or all with words; the first one for a list."""
    if not options.splits_file:
        if options.splits:
            raise TaskError("a list of words has no splits. Name a --splits-file or no --splits.")
        return [words.SPLITS[0]]  # all four hold the list
    names = options.splits or [name for name in words.SPLITS if splits is not None and splits[name]]
    for name in names:
        if splits is not None and not splits[name]:
            raise TaskError(f"the split {name!r} of {options.splits_file} has no words. Omit it.")
    return list(names)


def _read_splits(options: argparse.Namespace) -> words.WordSplits | None:
    """Read a file of splits, or a list of words as all four splits; None if no task needs words."""
    if options.splits_file and options.words:
        raise TaskError("--words and --splits-file both name words. Use one of them.")
    if options.splits_file:
        return words.load_splits(options.splits_file)
    if not options.words:
        if needs_words(options.tasks) or set(options.tasks) & set(FORMATS):
            raise TaskError("tasks about words need some. Name --words FILE or --splits-file FILE.")
        return None
    listed = [line.strip() for line in words.read_words(options.words)]
    return words.one_list(words.usable_words(listed, _MIN_LETTERS, _MAX_LETTERS))


def _name(spec: str) -> str:
    """Name the exported task: path_star:2x5 -> charembed_path_star_2x5."""
    return f"{_TAG}_" + "".join(letter if letter.isalnum() else "_" for letter in spec)


def _parser() -> argparse.ArgumentParser:
    about = "Export questions to lm-evaluation-harness."
    parser = Parser("python -m synthetic_tasks.export", about)
    add = parser.add_argument
    names = ", ".join((*WORD_TASKS, "path_star:2x5, counting:10x100", "langgame"))
    tasks_help = f"separated by commas, from {names} (default: all tasks about words)"
    splits_help = f"of a file, some of {', '.join(words.SPLITS)} (default: all with words)"
    default = " (default: %(default)s)"
    add("folder", type=Path, metavar="DIR", help="a new folder")
    add("--format", choices=("lm-eval",), default="lm-eval", help="target program" + default)
    add("--tasks", type=_listed, default=list(WORD_TASKS), help=tasks_help)
    add("--words", type=Path, metavar="FILE", help="words to ask about, one a line")
    add("--splits-file", type=Path, metavar="FILE", help="the splits of a run, instead of --words")
    add("--splits", type=_listed, default=[], help=splits_help)
    add("--questions", type=_positive, default=250, help="number per task and split" + default)
    add("--seed", type=int, default=0, help="seed of the questions" + default)
    add("--wording", choices=WORDINGS, default="sentences", help="of the questions" + default)
    add("--answer-form", choices=ANSWER_FORMS, default="plain", help="of the answers" + default)
    return parser


def _listed(text: str) -> list[str]:
    return list(dict.fromkeys(filter(None, text.split(","))))


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


if __name__ == "__main__":
    raise SystemExit(main())
