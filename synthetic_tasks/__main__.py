"""Show the tasks: their questions, baselines and ten items. Needs Python alone; takes a second.

    python -m synthetic_tasks                                    # all tasks, a line each
    python -m synthetic_tasks index                              # ten items, answers and baselines
    python -m synthetic_tasks index --form worked --wording sentences --split longer_words --seed 1
    python -m synthetic_tasks path_star:2x5
    python -m synthetic_tasks count --words FILE --word-forms mixed      # one word a line
    python -m synthetic_tasks --table                            # the table of docs/tasks.md

Without --words the words are some hundred that come with the tasks. There is no tokenizer here:
each pair of letters at an even place counts as a token, and "unseen tokens" are words with a pair
that no training word has. Shares are over 1,000 draws as in training, so questions may repeat.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from .draws import stream
from .errors import TaskError
from .flags import Parser, exit_status
from .registry import TASKS, build_task
from .samples import SAMPLE_WORDS, split_sample
from .task import ANSWER_FORMS, WORDINGS, Item, Material, Task
from .word_tasks.word_task import WordTask
from .words import WORD_FORMS, WordSplits, describe_left_out, read_words, sort_words

NUM_DRAWS = 1000  # items that shares and baselines are measured on
_NUM_SHOWN = 10
_MAX_LISTED = 12  # up to this many different answers are all listed
_SMALL = "3x12"  # sizes of a counting task that fits a table
_MIN_LETTERS, _MAX_LETTERS = 3, 13  # letters of a word


def _draw_items(task: Task, split: str, seed: int) -> list[Item]:
    return [task.draw(split, stream("preview", split, seed, i)) for i in range(NUM_DRAWS)]


def _answer_shares(items: Sequence[Item]) -> str:
    """List the answers with their shares, "0 24 %, 1 51 %, 2 25 %"; of many the top three."""
    counts = Counter(item.answer.strip() for item in items).most_common()
    is_short = len(counts) <= _MAX_LISTED
    shown = sorted(counts) if is_short else counts[:3]
    listed = ", ".join(f"{answer} {100 * count / len(items):.0f} %" for answer, count in shown)
    return listed if is_short else f"{len(counts)} different, most often {listed}"


def _baselines(task: Task, items: Sequence[Item]) -> tuple[str, str]:
    """Return the accuracies of the majority and of copying the word; "" if no word is there."""
    copying = f"{task.copy_baseline(items):.2f}" if isinstance(task, WordTask) else ""
    return f"{task.baseline(items):.2f}", copying


def _preview(task: Task, split: str, seed: int) -> str:
    items = _draw_items(task, split, seed)
    majority, copying = _baselines(task, items)
    # A dict as an ordered set: draws repeat questions.
    shown = dict.fromkeys((item.prompt + item.written).replace("\n", "\\n") for item in items)
    lines = [
        f"{task.name}: {task.description}",
        f"harder with: {task.difficulty}",
        f"answers: {_answer_shares(items)}",
        f"baselines: majority {majority}" + (copying and f", copying the word {copying}"),
        f"splits: {', '.join(each.name for each in task.splits)}; here: {split}",
        "",
    ]
    return "\n".join([*lines, *list(shown)[:_NUM_SHOWN]])


def table(words: WordSplits) -> str:
    """Return the table of docs/tasks.md: all tasks in Markdown, with an item each."""
    header = "| task | asks | answers | majority | copy | harder with | an item, worked |"
    lines = [header, "|---" * 7 + "|"]
    for name in TASKS:
        # Default sizes of a counting task give 100 symbols, too many for a table.
        spec = f"{name}:{_SMALL}" if name.startswith("counting") else name
        task = build_task(spec, Material(words, form="worked"))
        items = _draw_items(task, task.splits[0].name, 0)
        answers = f"{len({item.answer for item in items})} different"
        cells = (f"`{spec}`", task.description, answers, *_baselines(task, items), task.difficulty)
        lines.append(f"| {' | '.join(cells)} | `{items[0].text.strip()}` |")
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = Parser("python -m synthetic_tasks", __doc__)
    add = parser.add_argument
    add("task", nargs="?", help="a task, with sizes if it has any; default: list all tasks")
    add("--split", help="one of the task's splits (default: the split that training draws from)")
    add("--words", type=Path, metavar="FILE", help="one word a line (default: sample words)")
    add("--word-forms", default="lower", help=f"one of {', '.join(WORD_FORMS)} (default: lower)")
    add("--form", default="spelled", help=f"one of {', '.join(ANSWER_FORMS)} (default: spelled)")
    add("--wording", default="compact", help=f"one of {', '.join(WORDINGS)} (default: compact)")
    add("--seed", type=int, default=0, help="seed of the items (default: 0)")
    add("--table", action="store_true", help="print all tasks as a table in Markdown")
    return parser


def _run(argv: Sequence[str] | None) -> None:
    options = _parser().parse_args(argv)
    if options.task is None and not options.table:
        for name in TASKS:
            print(f"{name:13} {build_task(name, Material()).description}")
        return
    given = list(SAMPLE_WORDS) if options.words is None else read_words(options.words)
    words, left_out = sort_words(given, _MIN_LETTERS, _MAX_LETTERS, options.word_forms)
    splits = split_sample(words)
    if options.table:
        print(table(splits))
        return
    task = build_task(options.task, Material(splits, options.wording, options.form))
    split = options.split or task.splits[0].name
    if split not in (names := [each.name for each in task.splits]):
        raise TaskError(f"{task.name} has no split {split!r}; choose one of {', '.join(names)}.")
    print(_preview(task, split, options.seed))
    if isinstance(task, WordTask):
        source = f"of {len(given):,} in the file" if options.words else "that come with the tasks"
        how = "split with pairs of letters as tokens" if splits.held_out else "too few to split"
        print(f"\n{len(words):,} words {source}, {how}.")
        if left_out:
            print(f"Left out: {describe_left_out(left_out)}.")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Returns 0, or 2 for bad input, 130 after Ctrl-C."""
    return exit_status(lambda: _run(argv))


if __name__ == "__main__":
    sys.exit(main())
