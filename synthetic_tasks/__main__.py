"""Look at the tasks: what each asks, what guessing gets, ten of its items. With Python alone, in a second.

    python -m synthetic_tasks                                    # all tasks, a line each
    python -m synthetic_tasks index                              # ten items, its answers and baselines
    python -m synthetic_tasks index --form worked --wording sentences --split longer_words --seed 1
    python -m synthetic_tasks path_star:2x5
    python -m synthetic_tasks count --words FILE --word-forms mixed      # one word a line
    python -m synthetic_tasks --table                            # the table of docs/tasks.md

Without --words the words are some hundred that come with it. No tokenizer is at work here: pairs of letters
stand in for tokens, so what is called unseen tokens are words with a pair of letters at an even place that no
training word has there. Shares are over 1,000 draws, as training draws; an exam asks no question twice.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence

from .draws import stream
from .errors import TaskError
from .registry import TASKS, build_task
from .samples import SAMPLE_WORDS
from .task import ANSWER_FORMS, WORDINGS, Item, Material, Task
from .word_task import WordTask
from .words import WORD_FORMS, WordSplits, one_list, sort_words, split_words, told

SHOWN, ASKED = 10, 1000  # items printed; questions that shares are over
FEW = 12  # so many different answers are all listed
SMALL = "3x12"  # a sequence to count in that fits a table
SHORTEST, TRAINED, LONGEST = 3, 10, 13  # letters of a word, of a training word, of any


def read_words(path: str | None) -> list[str]:
    """The lines of a file, or the words that come with the tasks. Raises TaskError for an unreadable file."""
    if path is None:
        return list(SAMPLE_WORDS)
    try:
        with open(path, encoding="utf-8") as file:
            return [line.removesuffix("\n") for line in file]
    except UnicodeDecodeError as error:
        raise TaskError(
            f"the word list {path!r} is not UTF-8: its byte {error.start} is {error.object[error.start]:#x}; "
            "convert it first, as in 'iconv -f latin1 -t utf-8 FILE > NEW'."
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise TaskError(
            f"the word list {path!r} cannot be read ({reason}): name a text file."
        ) from None


def split_sample(words: Sequence[str]) -> WordSplits:
    """Words split by word, and by pairs of letters that stand in for tokens; all under each name where they
    are too few for that."""

    def pairs(word: str) -> list[bytes]:
        return [word[i : i + 2].encode() for i in range(0, len(word), 2)]

    try:
        return split_words(words, pairs, seed=0, max_letters=TRAINED, token_share=0.05)
    except TaskError:
        return one_list(words)


def drawn(task: Task, split: str, seed: int) -> list[Item]:
    return [task.draw(split, stream("preview", split, seed, i)) for i in range(ASKED)]


def answers_of(items: Sequence[Item]) -> str:
    """How often which answer is right. "0 24 %, 1 51 %, 2 25 %"; of many the most frequent ones"""
    counts = Counter(item.answer.strip() for item in items).most_common()
    shown = sorted(counts) if len(counts) <= FEW else counts[:3]
    listed = ", ".join(f"{answer} {100 * count / len(items):.0f} %" for answer, count in shown)
    return listed if len(counts) <= FEW else f"{len(counts)} different, most often {listed}"


def baselines_of(task: Task, items: Sequence[Item]) -> dict[str, str]:
    """What guessing gets: "majority", and where there is a word to copy, "copy"."""
    found = {"majority": f"{task.baseline(items):.2f}"}
    return found | (
        {"copy": f"{task.copy_baseline(items):.2f}"} if isinstance(task, WordTask) else {}
    )


def preview(task: Task, split: str, seed: int) -> str:
    """All that there is to say of a task, with ten items."""
    items = drawn(task, split, seed)
    labels = {"majority": "the best constant answer", "copy": "copying the word"}
    guesses = ", ".join(
        f"{labels[name]} {share}" for name, share in baselines_of(task, items).items()
    )
    shown = dict.fromkeys((item.prompt + item.written).replace("\n", "\\n") for item in items)
    return "\n".join(
        [
            f"{task.name}: {task.about}",
            f"harder with: {task.axes}",
            f"answers: {answers_of(items)}",
            f"right by guessing: {guesses}",
            f"splits: {', '.join(each.name for each in task.splits)}; here: {split}",
            "",
            *list(shown)[:SHOWN],
        ]
    )


def table(words: WordSplits) -> str:
    """The tasks as a table in Markdown, with an item each: what docs/tasks.md holds."""
    lines = [
        "| task | asks | answers | majority | copy | harder with | an item, worked |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in TASKS:
        spec = f"{name}:{SMALL}" if name.startswith("counting") else name
        task = build_task(spec, Material(words, form="worked"))
        items = drawn(task, task.splits[0].name, 0)
        guesses = baselines_of(task, items)
        cells = (
            f"`{spec}`",
            task.about,
            f"{len({item.answer for item in items})} different",
            guesses["majority"],
            guesses.get("copy", ""),
            task.axes,
            f"`{items[0].text.strip()}`",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def run(argv: Sequence[str] | None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m synthetic_tasks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "task", nargs="?", help="a task, perhaps with sizes; all are listed without"
    )
    parser.add_argument(
        "--split", help="one of the task's splits (the one that training draws from)"
    )
    parser.add_argument(
        "--words", metavar="FILE", help="a word a line (the words that come with it)"
    )
    parser.add_argument(
        "--word-forms", default="lower", help=f"one of {', '.join(WORD_FORMS)} (lower)"
    )
    parser.add_argument(
        "--form", default="spelled", help=f"one of {', '.join(ANSWER_FORMS)} (spelled)"
    )
    parser.add_argument(
        "--wording", default="compact", help=f"one of {', '.join(WORDINGS)} (compact)"
    )
    parser.add_argument("--seed", type=int, default=0, help="other items (0)")
    parser.add_argument("--table", action="store_true", help="all tasks as a table in Markdown")
    options = parser.parse_args(argv)
    if options.task is None and not options.table:
        for name in TASKS:
            print(f"{name:13} {build_task(name, Material()).about}")
        return
    given = read_words(options.words)
    words, left_out = sort_words(given, SHORTEST, LONGEST, options.word_forms)
    splits = split_sample(words)
    if options.table:
        print(table(splits))
        return
    task = build_task(options.task, Material(splits, options.wording, options.form))
    split = options.split or task.splits[0].name
    if split not in (names := [each.name for each in task.splits]):
        raise TaskError(f"{task.name} has no split {split!r}; choose one of {', '.join(names)}.")
    print(preview(task, split, options.seed))
    if isinstance(task, WordTask):
        source = f"of {len(given):,} in the file" if options.words else "that come with it"
        split_how = "split without a tokenizer: pairs of letters stand in for tokens"
        print(
            f"\n{len(words):,} words {source}, {split_how if splits.held_out else 'too few to be split'}."
        )
        if left_out:
            print(f"Left out: {told(left_out)}.")


def main(argv: Sequence[str] | None = None) -> int:
    try:
        run(argv)
    except TaskError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
