"""Write questions for other programs: python -m synthetic_tasks.export --format lm-eval DIR --words words.txt

For lm-evaluation-harness, DIR gets one .yaml and one .jsonl a task and split, and the command to run them is
printed. The questions are those that this project's laboratory asks for the same splits, seed and number of
questions. A task whose questions leave choices is answered by likelihood (acc, acc_norm), all others freely,
up to a newline (exact_match of the text without the space around it). Takes seconds; needs Python alone.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from .draws import distinct
from .errors import TaskError
from .formats import FORMATS
from .registry import WORD_TASKS, build_task, needs_words
from .saved_splits import fingerprint, load_splits, save_splits
from .task import ANSWER_FORMS, END, WORDINGS, Item, Material
from .words import SPLITS, WordSplits, usable_words

TAG = "charembed"
LETTERS = (3, 20)  # least and most letters of a word of --words
STRIP = ["\\A\\s+", "\\s+\\Z"]
RESULT = "^(?:.* )?= (.*)$"  # of an answer that shows its work: what stands after the last " = "


def main(argv: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    try:
        written = export(options)
    except (TaskError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{written} tasks are in {options.folder}. To run them:")
    print(
        f"cd {options.folder} && "
        f"lm-eval run --model hf --model_args pretrained=MODEL --include_path . --tasks {TAG}"
    )
    return 0


def export(options: argparse.Namespace) -> int:
    """Write what the command line asks for; the number of tasks written.

    Raises TaskError for what cannot be exported, before anything is written.
    """
    folder: Path = options.folder
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise TaskError(f"{folder} is there and not empty: name a new folder.")
    splits = _splits(options)
    drawn = [part for spec in options.tasks for part in _draw(spec, splits, options)]
    facts = {"questions": options.questions, "seed": options.seed}
    facts |= {"splits_sha256": fingerprint(splits)} if splits else {}
    texts = {name: as_lm_eval(name, items, facts) for name, items in drawn}
    folder.mkdir(parents=True, exist_ok=True)
    for name, (yaml, lines) in texts.items():
        (folder / f"{name}.yaml").write_text(yaml, "utf-8")
        (folder / f"{name}.jsonl").write_text(lines, "utf-8")
    if splits and options.splits_file:
        save_splits(folder / "splits.json", splits)
    return len(texts)


def as_lm_eval(name: str, items: Sequence[Item], facts: dict[str, object]) -> tuple[str, str]:
    """A task of lm-evaluation-harness: its .yaml, and the .jsonl of its items, which stands beside it.

    [Item("count a banana:", " 3", ...)] -> {"prompt": "count a banana:", "target": "3"} and how to mark it
    """
    by_choice = bool(items[0].choices)
    config: dict[str, object] = {
        "task": name,
        "tag": TAG,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": f"{name}.jsonl"}},
        "test_split": "test",
        "doc_to_text": "prompt",
        "num_fewshot": 0,
        **(_CHOICE if by_choice else _free(items)),
        "metadata": {"version": 1.0, **facts},
    }
    yaml = "".join(
        f"{key}: {json.dumps(value, ensure_ascii=False)}\n" for key, value in config.items()
    )
    rows = [_choice_row(item) if by_choice else _free_row(item) for item in items]
    return yaml, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


_CHOICE: dict[str, object] = {
    "output_type": "multiple_choice",
    "doc_to_choice": "choices",
    "doc_to_target": "target",
    "target_delimiter": "",  # each choice begins with its space
    "metric_list": [
        {"metric": metric, "aggregation": "mean", "higher_is_better": True}
        for metric in ("acc", "acc_norm")
    ],
}


def _free(items: Sequence[Item]) -> dict[str, object]:
    """What differs for freely written answers; a token is a byte at least, so that bytes are room enough."""
    written = [item.text.removeprefix(item.prompt) for item in items]
    shows_work = written[0] != items[0].answer + END
    filters = [{"function": "regex", "regex_pattern": RESULT, "fallback": ""}] if shows_work else []
    return {
        "output_type": "generate_until",
        "doc_to_target": "target",
        "generation_kwargs": {
            "until": [END],
            "do_sample": False,
            "max_gen_toks": max(len(text.encode()) for text in written),
        },
        "filter_list": [{"name": "answer", "filter": [*filters, {"function": "take_first"}]}],
        "metric_list": [
            {
                "metric": "exact_match",
                "aggregation": "mean",
                "higher_is_better": True,
                "regexes_to_ignore": STRIP,
            }
        ],
    }


def _free_row(item: Item) -> dict[str, object]:
    return {"prompt": item.prompt, "target": item.answer.strip(), "key": item.key}


def _choice_row(item: Item) -> dict[str, object]:
    choices = list(item.choices)
    return {
        "prompt": item.prompt,
        "choices": choices,
        "target": choices.index(item.answer),
        "key": item.key,
    }


def _draw(
    spec: str, splits: WordSplits | None, options: argparse.Namespace
) -> list[tuple[str, list[Item]]]:
    """The items of a task, by the name of the exported one: one for each split."""
    n, seed = options.questions, options.seed
    if spec in FORMATS:
        made = FORMATS[spec].generate(
            [*splits.unseen_words, *splits.unseen_tokens] if splits else [], n, seed
        )
        if not all(item.choices for task in made for item in task.items):
            raise TaskError(
                f"{spec} is marked by a rule of its own, which lm-eval does not have: leave it out, and ask "
                "it with python -m training.evaluate."
            )
        return [(_name(task.name), list(task.items)) for task in made]
    task = build_task(spec, Material(splits, options.wording, options.answer_form))
    about_words = needs_words([spec])
    names = [split.name for split in task.splits]
    if about_words:
        names = _asked_splits(splits, options)
    found = []
    for name in names:
        items = distinct(task, name, n, "exam", name, seed)
        one_list = about_words and not options.splits_file
        found.append((_name(spec) if one_list else _name(f"{spec}_{name}"), items))
    return found


def _asked_splits(splits: WordSplits | None, options: argparse.Namespace) -> list[str]:
    """The splits to export: of a file all that hold words, or those named; of a list of words that list."""
    if not options.splits_file:
        if options.splits:
            raise TaskError(
                "a list of words has no splits: name a --splits-file, or leave --splits out."
            )
        return [SPLITS[0]]
    asked = options.splits or [name for name in SPLITS if splits is not None and splits[name]]
    for name in asked:
        if splits is not None and not splits[name]:
            raise TaskError(
                f"the split {name!r} of {options.splits_file} holds no words: leave it out."
            )
    return list(asked)


def _splits(options: argparse.Namespace) -> WordSplits | None:
    """The words: a file's four lists, one list under all four names, or none where no task needs words."""
    if options.splits_file and options.words:
        raise TaskError("--words and --splits-file both name words: name one of them.")
    if options.splits_file:
        return load_splits(options.splits_file)
    if not options.words:
        if needs_words(options.tasks) or set(options.tasks) & set(FORMATS):
            raise TaskError("tasks about words need some: name --words FILE or --splits-file FILE.")
        return None
    try:
        lines = options.words.read_text("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise TaskError(
            f"{options.words} is not UTF-8 (byte {error.start}): save it as UTF-8."
        ) from None
    words = tuple(usable_words((line.strip() for line in lines), *LETTERS))
    return WordSplits(words, words, words, words, frozenset())


def _name(spec: str) -> str:
    """path_star:2x5 -> charembed_path_star_2x5"""
    return f"{TAG}_" + "".join(letter if letter.isalnum() else "_" for letter in spec)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m synthetic_tasks.export",
        description="Write questions for lm-evaluation-harness.",
    )
    names = ", ".join((*WORD_TASKS, "path_star:2x5, counting:10x100", "langgame"))
    parser.add_argument("folder", type=Path, metavar="DIR", help="a new folder")
    parser.add_argument(
        "--format", choices=("lm-eval",), default="lm-eval", help="of which program"
    )
    parser.add_argument(
        "--tasks", type=_listed, default=list(WORD_TASKS), help=f"with commas between: {names}"
    )
    parser.add_argument("--words", type=Path, metavar="FILE", help="words to ask about, one a line")
    parser.add_argument("--splits-file", type=Path, metavar="FILE", help="or the splits of a run")
    parser.add_argument(
        "--splits", type=_listed, default=[], help=f"some of {', '.join(SPLITS)}; else all"
    )
    parser.add_argument("--questions", type=_positive, default=250, help="for each task and split")
    parser.add_argument("--seed", type=int, default=0, help="of the questions")
    parser.add_argument("--wording", choices=WORDINGS, default="sentences")
    parser.add_argument("--answer-form", choices=ANSWER_FORMS, default="plain")
    return parser


def _listed(text: str) -> list[str]:
    return list(dict.fromkeys(filter(None, text.split(","))))


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


if __name__ == "__main__":
    raise SystemExit(main())
