"""Scores: from answers to rows.

Metrics of an evaluation set, each with its 95 % interval:

    exact_match             share of right answers (Wilson interval)
    exact_match_corrected   (s - m) / (1 - m) for the share s and the majority baseline m: 0 if the
                            model always gives the same answer, 1 if it is always right
    unreadable              share of texts from which no answer can be parsed; they count as wrong
    letters_right           if answers are words: share of the places of the right answer with the
                            right letter, mean over questions (Student's interval)
    first_letter            if answers are words: share with the right first letter
    fewest_tokens           if there are choices: the score of a model that gives all tokens the
                            same likelihood, and so takes the choice of the fewest tokens
    exact_match_per_token   if there are choices: the choice with the largest log-likelihood per
                            token; `exact_match` takes the largest sum
    exact_match_per_character   the same per character: acc_norm of lm-evaluation-harness
    own_score               if a benchmark has a score of its own besides exact match: its mean
                            (Student's interval)
    parts                   further scores of a task, such as first_step or work_exact_match, over the
                            items that have them

`exact_match[word letters=7]` is exact match on the questions about words of 7 letters, all splits
together.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from synthetic_tasks import Item, corrected, read_answer, read_work
from synthetic_tasks.word_tasks.word_task import word_subject
from training.errors import BadInput
from training.intervals import Row, over_seeds, share_row

from .eval_sets import EvalSet, ScoredTask
from .evaluated_model import Answer, AnswersBySet, EvaluatedModel

ALL = "all"
_CHOICE_METRICS = ("exact_match_per_token", "exact_match_per_character")
_AXES = ("word letters", "word tokens", "token letters", "token count")
CELL = 10  # questions that a line of the breakdown needs; fewer have intervals of half the scale


def rights(eval_set: EvalSet, answers: Sequence[Answer]) -> list[bool]:
    """Return whether each answer is right."""
    return [
        eval_set.task.is_right(answer.given, item)
        for item, answer in zip(eval_set.items, answers, strict=True)
    ]


def parsed(eval_set: EvalSet, answers: Sequence[Answer]) -> list[str | None]:
    """Parse the answer from each text: parsed(numbers, [Answer(" 7"), Answer(" ?")]) -> ["7", None]

    None if it cannot be parsed: no text, nothing at the place that a benchmark reads, or no number
    although every right answer is one.
    """
    numbers = all(_is_number(item.answer) for item in eval_set.items)
    found = []
    for item, answer in zip(eval_set.items, answers, strict=True):
        text: str | None = answer.given
        if item.work:  # a scratchpad answer: the result after its last " = "
            text = read_work(answer.given)[1]
        elif not item.choices:
            text = eval_set.read(answer.given)
        text = (text or "").strip()
        found.append(text if text and (_is_number(text) or not numbers) else None)
    return found


def _is_number(text: str) -> bool:
    return text.strip().removeprefix("-").isdecimal()


def eval_rows(
    eval_sets: Sequence[EvalSet], answers: AnswersBySet, arm: str, seed: int, details: bool = True
) -> list[Row]:
    """Return the rows of all sets; see the head of this file.

    Metrics that an evaluation set does not have, such as letters_right of numbers, are left out.
    `details`: all metrics but `parts`; without them, exact_match and `parts`.
    """
    return [
        row
        for eval_set, given in zip(eval_sets, answers, strict=True)
        for row in _set_rows(eval_set, given, arm, seed, details)
    ]


def _set_rows(
    eval_set: EvalSet, answers: Sequence[Answer], arm: str, seed: int, details: bool
) -> Iterator[Row]:
    items, majority = eval_set.items, eval_set.majority

    def share(metric: str, marks: Sequence[bool], majority: float | None = None) -> Row:
        # The majority baseline is of exact match, so other shares have none by default.
        named = (arm, seed, eval_set.task.name, eval_set.split, metric)
        return share_row(*named, sum(marks), len(marks), majority)

    exact = share("exact_match", rights(eval_set, answers), majority)
    yield exact
    if not details:  # a run asks thousands of questions
        pairs = zip(items, answers, strict=True)
        parts = [eval_set.task.parts(read_answer(answer.given), item) for item, answer in pairs]
        # A set may have answers of several forms, and a part is of those that have it.
        for name in dict.fromkeys(name for part in parts for name in part):
            yield share(name, [part[name] for part in parts if name in part])
        return
    if majority < 1:  # else no model can be better than the baseline
        yield _corrected(exact, majority)
    texts = parsed(eval_set, answers)
    if (score := eval_set.own_score) is not None:
        # as the benchmark's own program parses it: a text that is no number is scored too
        read = [eval_set.read(answer.given) for answer in answers]
        pairs_read = zip(read, items, strict=True)
        values = [score(text, item.answer.strip()) for text, item in pairs_read]
        yield _mean_row(exact, "own_score", values)
    yield share("unreadable", [text is None for text in texts])
    if all(item.choices for item in items):
        floors = [_fewest(item, answer) for item, answer in zip(items, answers, strict=True)]
        yield _mean_row(exact, "fewest_tokens", floors)
        for metric in _CHOICE_METRICS:
            pairs = zip(items, answers, strict=True)
            taken = [_taken(item, answer, metric) for item, answer in pairs]
            yield share(metric, rights(eval_set, taken), majority)
    elif _are_words(eval_set):
        wanted = [item.answer.strip() for item in items]
        yield _mean_row(exact, "letters_right", list(map(letters_right, texts, wanted)))
        firsts = [(text or " ")[0] == a[0] for text, a in zip(texts, wanted, strict=True)]
        yield share("first_letter", firsts)


def _corrected(row: Row, majority: float) -> Row:
    # The same formula for the interval: the baseline is a fact of the questions, no estimate.
    found = (row.value, row.low or 0.0, row.high or 0.0)
    value, low, high = (corrected(share, majority) for share in found)
    return replace(row, metric=f"{row.metric}_corrected", value=value, low=low, high=high)


def _mean_row(exact: Row, metric: str, values: Sequence[float]) -> Row:
    """Return the row of a metric with a value from 0 to 1 for each question."""
    low, high, _ = over_seeds(values)  # the mean over questions has the formula of one over seeds
    if low is not None and high is not None:
        low, high = max(0.0, low), min(1.0, high)  # Student's interval may leave the scale
    row = replace(exact, metric=metric, value=float(np.mean(values)), majority=None)
    return replace(row, low=low, high=high)


def letters_right(text: str | None, answer: str) -> float:
    """Return the share of the places of a right answer with its letter, spaces left out.

    letters_right("a t t", "a e t") -> 0.667
    """
    ours, theirs = ("".join(part.split()) for part in (text or "", answer))
    return sum(a == b for a, b in zip(ours, theirs, strict=False)) / len(theirs)


def _fewest(item: Item, answer: Answer) -> float:
    """Return the chance of a model that gives all tokens the same likelihood, from 0 to 1.

    Its likeliest choice is the one of the fewest tokens; if several have as few, one of them.
    """
    least = min(answer.tokens)
    best = [c for c, n in zip(item.choices, answer.tokens, strict=True) if n == least]
    return float(item.answer in best) / len(best)


def _taken(item: Item, answer: Answer, metric: str) -> Answer:
    """Return the choice that is most likely per token or per character."""
    by_token = metric.endswith("token")
    lengths = answer.tokens if by_token else [len(choice.strip()) for choice in item.choices]
    values = [total / length for total, length in zip(answer.sums, lengths, strict=True)]
    return Answer(item.choices[values.index(max(values))])


def _are_words(eval_set: EvalSet) -> bool:
    """Whether answers are words: 3 letters or more, and no answer fits half of the questions."""
    answers = ["".join(item.answer.split()) for item in eval_set.items]
    # yes and no are letters too, but their first letters and places show no spelling
    return all(len(one) > 2 and one.isalpha() for one in answers) and eval_set.majority < 0.5


def constant_answer(eval_set: EvalSet) -> str:
    """Return the answer that reaches the majority baseline if it is given to every question.

    "" if another rule is better, such as a random choice, or if no answer occurs twice.
    """
    answers = Counter(item.answer.strip() for item in eval_set.items)
    ((answer, count),) = answers.most_common(1)
    reaches = count > 1 and count / len(eval_set.items) >= eval_set.majority
    return answer if reaches else ""


def breakdown(
    eval_sets: Sequence[EvalSet], answers: AnswersBySet, model: EvaluatedModel
) -> list[Row]:
    """Return exact match of each task by the properties of the word; see `word_facts`.

    The rows are over all splits of a task. Cells with fewer than CELL questions are left out.
    """
    cells: defaultdict[tuple[str, str, str], list[tuple[EvalSet, Item, bool]]] = defaultdict(list)
    for eval_set, given in zip(eval_sets, answers, strict=True):
        for item, right in zip(eval_set.items, rights(eval_set, given), strict=True):
            for axis, value in word_facts(item, model, eval_set.task):
                cells[eval_set.task.name, axis, value].append((eval_set, item, right))
    rows = []
    for (task, axis, value), found in sorted(cells.items(), key=lambda cell: _order(*cell[0])):
        if (n := len(found)) >= CELL:
            metric, hits = f"exact_match[{axis}={value}]", sum(right for *_, right in found)
            # the baseline of these questions alone: words of one length share more answers
            baseline = replace(found[0][0], items=[item for _, item, _ in found]).majority
            rows.append(share_row(model.name, model.seed, task, ALL, metric, hits, n, baseline))
    return rows


def word_facts(
    item: Item, model: EvaluatedModel, task: ScoredTask | None = None
) -> Iterator[tuple[str, str]]:
    """Yield the properties of a question's word: ("word letters", "6"), ("word tokens", "2"), ...

    `task.subject` names the word, and a question about none has no properties. Without a task, the
    item is one of a word task. "token letters" and "token count" are of the token that holds the
    letter in question; if there is no single one, of the longest token.
    """
    subject = task.subject(item) if task else word_subject(item)
    if subject is None:
        return
    word, place = subject
    yield "word letters", str(len(word))
    if (tokenizer := model.tokenizer) is None:
        return
    try:
        ids = tokenizer.encode_word(word)  # after a space, as in a prompt
    except BadInput:  # no token at all, so no fact about tokens
        return
    yield "word tokens", str(len(ids))
    lengths = [len((tokenizer.spellings[i] or b"").strip()) for i in ids]  # bytes
    holder = lengths.index(max(lengths))
    if place is not None:
        before = len(word[:place].encode())  # bytes before the letter
        holder = next((k for k in range(len(ids)) if sum(lengths[: k + 1]) > before), holder)
    yield "token letters", str(lengths[holder])
    if model.counts is not None:
        yield "token count", count_bin(int(model.counts.counts_V[ids[holder]]))


def count_bin(count: int) -> str:
    """Return the range of a count: 0 -> "0", 7 -> "1 to 9", 1234 -> "1,000 to 9,999"."""
    if not count:
        return "0"
    low = 10 ** (len(str(count)) - 1)
    return f"{low:,} to {10 * low - 1:,}"


def _order(task: str, axis: str, value: str) -> tuple[int, str, int]:
    # By number and not by text: "10" comes after "9", and "1,000 to 9,999" after both.
    return _AXES.index(axis), task, int(value.split(" ")[0].replace(",", ""))
