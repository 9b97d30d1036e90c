"""From answers to long rows: what was right, what could not be read, and where it was hard.

Metrics of an exam, each with its 95 % interval:

    exact_match             the share of answers that are right (Wilson's interval)
    exact_match_corrected   (s - m) / (1 - m) of that share s and of the best constant answer's, m: 0 for a
                            model that always says the same, 1 for one that is always right
    unreadable              the share of texts in which there is no answer: parse failures, which are wrong
    letters_right           of answers that are words: how many of the right answer's places have its letter,
                            the mean over the questions (Student's interval)
    first_letter            of these answers the share whose first letter is right
    exact_match_per_token   of choices: the one with the largest log-likelihood per token; `exact_match`
                            takes the largest sum
    exact_match_per_character   the same per character of the choice: the acc_norm of lm-evaluation-harness

`exact_match[word letters=7]` is exact match on the questions about words of 7 letters, of all splits.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from synthetic_tasks import Item, corrected, read_work
from training.intervals import Row, over_seeds, wilson

from .eval_sets import Exam
from .models import Answer, Reader, Respondent

ALL = "all"
AXES = ("word letters", "word tokens", "token letters", "token count")
CELL = 10  # questions that a line of a breakdown needs


def is_right(exam: Exam, item: Item, answer: Answer) -> bool:
    return exam.task.is_right(answer.given, item)


def said(exam: Exam, answers: Sequence[Answer]) -> list[str | None]:
    """What of each text is the answer; None for none: nothing where a benchmark says it stands, no text at
    all, or no number where all right answers are numbers."""
    numbers = all(is_number(item.answer) for item in exam.items)
    found = []
    for item, answer in zip(exam.items, answers, strict=True):
        text = _answer(exam, item, answer.given).strip()
        found.append(text if text and (is_number(text) or not numbers) else None)
    return found


def _answer(exam: Exam, item: Item, given: str) -> str:
    if item.choices:
        return given
    return read_work(given)[1] if item.work else exam.read(given) or ""


def is_number(text: str) -> bool:
    return text.strip().removeprefix("-").isdecimal()


def exam_rows(exam: Exam, answers: Sequence[Answer], name: str, seed: int) -> list[Row]:
    """The metrics of one exam; see the head of this file."""
    asked = list(zip(exam.items, answers, strict=True))
    right = [is_right(exam, item, answer) for item, answer in asked]
    texts = said(exam, answers)
    first = share(
        Row(name, seed, exam.task.name, exam.split, "exact_match", 0, None, None, 0, None), right
    )
    first = replace(first, majority=exam.majority)
    rows = [first, *corrected_row(first)]
    rows.append(
        share(replace(first, metric="unreadable", majority=None), [text is None for text in texts])
    )
    if all(item.choices for item in exam.items):
        for metric in ("exact_match_per_token", "exact_match_per_character"):
            marks = [
                is_right(exam, item, Answer(_taken(item, answer, metric))) for item, answer in asked
            ]
            rows.append(share(replace(first, metric=metric), marks))
    elif _words(exam):
        places = [
            letters_right(text, item.answer) for text, item in zip(texts, exam.items, strict=True)
        ]
        low, high, _ = over_seeds(places)
        bounds = (None, None) if low is None or high is None else (max(0.0, low), min(1.0, high))
        mean = float(np.mean(places))
        rows.append(
            replace(
                first,
                metric="letters_right",
                value=mean,
                low=bounds[0],
                high=bounds[1],
                majority=None,
            )
        )
        firsts = [
            (text or " ")[0] == item.answer.strip()[:1]
            for text, item in zip(texts, exam.items, strict=True)
        ]
        rows.append(share(replace(first, metric="first_letter", majority=None), firsts))
    return rows


def share(row: Row, marks: Sequence[bool]) -> Row:
    """The row with the share of true marks and Wilson's interval."""
    low, high = wilson(sum(marks), len(marks))
    return replace(row, value=sum(marks) / len(marks), low=low, high=high, n=len(marks))


def corrected_row(row: Row) -> list[Row]:
    """The row with its share corrected for the best constant answer; none where that one is always right.

    The interval is the share's own, corrected alike: what the constant answer gets is a fact.
    """
    m = row.majority or 0.0
    if m >= 1 or row.low is None or row.high is None:
        return []
    value, low, high = (corrected(share, m) for share in (row.value, row.low, row.high))
    return [replace(row, metric=f"{row.metric}_corrected", value=value, low=low, high=high)]


def letters_right(text: str | None, answer: str) -> float:
    """The share of the places of a right answer at which a text has its letter, spaces left out.

    letters_right("a t t", "a e t") -> 0.667
    """
    ours, theirs = ("".join(part.split()) for part in (text or "", answer))
    return sum(a == b for a, b in zip(ours, theirs, strict=False)) / len(theirs)


def _taken(item: Item, answer: Answer, metric: str) -> str:
    """The choice that is most likely per token or per character."""
    lengths = (
        answer.tokens
        if metric.endswith("token")
        else [len(choice.strip()) for choice in item.choices]
    )
    values = [total / length for total, length in zip(answer.sums, lengths, strict=True)]
    return item.choices[values.index(max(values))]


def _words(exam: Exam) -> bool:
    """Whether answers are words: three letters or more, and not one of them for half of the questions."""
    answers = ["".join(item.answer.split()) for item in exam.items]
    return all(len(answer) > 2 and answer.isalpha() for answer in answers) and exam.majority < 0.5


# Where it was hard


def breakdown(asked: Sequence[tuple[Exam, Sequence[Answer]]], respondent: Respondent) -> list[Row]:
    """Exact match of each task by word length, tokens of the word, and length and frequency of the token that
    holds the letter, over all its splits; see `facts`. Lines with fewer than CELL questions are left out."""
    cells: defaultdict[tuple[str, str, str], list[tuple[Exam, Item, bool]]] = defaultdict(list)
    for exam, answers in asked:
        for item, answer in zip(exam.items, answers, strict=True):
            for axis, value in facts(item, respondent.reader):
                cells[exam.task.name, axis, value].append(
                    (exam, item, is_right(exam, item, answer))
                )
    rows = []
    for (task, axis, value), found in sorted(cells.items(), key=lambda cell: _order(cell[0])):
        if len(found) >= CELL:
            metric, items = f"exact_match[{axis}={value}]", [item for _, item, _ in found]
            row = Row(respondent.name, respondent.seed, task, ALL, metric, 0, None, None, 0, None)
            row = share(row, [mark for _, _, mark in found])
            rows.append(replace(row, majority=replace(found[0][0], items=items).majority))
    return rows


def facts(item: Item, reader: Reader) -> Iterator[tuple[str, str]]:
    """What may make a question about a word hard: ("word letters", "6"), ("word tokens", "2"), ...

    The token that holds the letter is the one with the first of the letter asked about; where none is, or
    several are, the longest token of the word. The word is the last part of the item's key; what is none, as
    a sentence, has no facts.
    """
    *named, word = item.key.split("\t" if "\t" in item.key else " ")
    if not word or " " in word or word not in item.prompt:
        return
    yield "word letters", str(len(word))
    if reader.tokenizer is None:
        return
    ids = reader.tokenizer.encode_word(word)
    yield "word tokens", str(len(ids))
    pieces = [len((reader.tokenizer.spellings[i] or b"").strip()) for i in ids]  # bytes
    letters = [part for part in named[1:] if len(part) == 1 and part in word]
    holder = pieces.index(max(pieces))
    if len(letters) == 1:
        place = len(word[: word.index(letters[0])].encode())
        holder = next((k for k in range(len(ids)) if sum(pieces[: k + 1]) > place), holder)
    yield "token letters", str(pieces[holder])
    if reader.counts_V is not None:
        yield "token count", bin_of(int(reader.counts_V[ids[holder]]))


def bin_of(count: int) -> str:
    """Powers of ten. 0 -> "0", 7 -> "1 to 9", 1234 -> "1,000 to 9,999" """
    if not count:
        return "0"
    low = 10 ** (len(str(count)) - 1)
    return f"{low:,} to {10 * low - 1:,}"


def _order(cell: tuple[str, str, str]) -> tuple[int, str, int]:
    task, axis, value = cell
    return AXES.index(axis), task, int(value.split(" ")[0].replace(",", ""))
