"""What the numbers say, in words: the verdict's sentences, and the table in the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from synthetic_tasks import Split, Task

from .statistics import Row

JUDGEMENTS = ("better", "worse", "no difference shown")


def by_place(tasks: Sequence[Task], *, telling_first: bool = False) -> list[list[tuple[Task, Split]]]:
    """The splits of all tasks; those of several tasks that are about the same place stand together.

    reverse, path_star -> [[(reverse, seen)], [(reverse, unseen_words)], ..., [(path_star, seen)], ...]

    In the order of the tasks and their splits, or with the most telling splits first and those of training
    last.
    """
    groups: dict[tuple[str, str], list[tuple[Task, Split]]] = {}
    for task in tasks:
        for split in task.splits:
            groups.setdefault((split.label, split.place), []).append((task, split))

    def rank(group: list[tuple[Task, Split]]) -> int:
        task, split = group[0]
        return 0 if split.name == task.telling else 2 if split == task.splits[0] else 1

    return sorted(groups.values(), key=rank) if telling_first else list(groups.values())


def verdict(summary: list[Row], tasks: Sequence[Task], arm: str, control: str, num_seeds: int) -> list[str]:
    """What an arm was worth against the control, in plain words, from the rows alone."""
    value = {(row.arm, row.task, row.split): row.value for row in summary if row.metric == "exact_match"}
    differences = [row for row in summary if row.arm == f"{arm} - {control}"]
    of_answers = {(row.task, row.split): row for row in differences if row.metric == "exact_match_difference"}
    of_text = [row for row in differences if row.metric == "loss_nats_difference"]
    sentences = []
    for group in by_place(tasks, telling_first=True):
        found = [
            of_answers[task.name, split.name]
            for task, split in group
            if (task.name, split.name) in of_answers
        ]
        parts = []
        for judgement in JUDGEMENTS:
            named = [
                f"{row.task} ({_percent(value[arm, row.task, row.split])} against "
                f"{_percent(value[control, row.task, row.split])}, {_span(row, 100, '.0f')} points)"
                for row in found
                if _judge(row) == judgement
            ]
            if named:
                parts.append(
                    f"{judgement} at {' and '.join(filter(None, (', '.join(named[:-1]), named[-1])))}"
                )
        if parts:
            sentences.append(f"{group[0][1].place}, {arm} against {control}: {'; '.join(parts)}.")
    for row in of_text:
        less_is_better = {"better": "worse", "worse": "better"}
        judged = (
            "one pair, so no interval" if row.low is None else less_is_better.get(_judge(row), _judge(row))
        )
        sentences.append(
            f"{row.task.capitalize()}, {arm} has {_span(row, 1, '.3f')} nats per token ({judged})."
        )
    if control == "matched" and of_text:
        sentences.append(
            f"A gain on text over matched may be the cost of its second table, not the worth of letters: "
            f"--arms plain,{arm} tells them apart."
        )
    one = "over the questions of one pair: train more seeds before you believe a small difference"
    over = one if num_seeds == 1 else f"over {num_seeds} pairs"
    sentences.append(f"Differences are {arm} minus {control}; the intervals are of 95 %, {over}.")
    return sentences


def print_table(console: Console, arms: Sequence[str], tasks: Sequence[Task], summary: list[Row]) -> None:
    """Exact match of each arm beside the majority baseline, by split and task; the first arm is the
    control."""
    metrics = ("exact_match", "exact_match_difference")
    rows = {(row.arm, row.task, row.split): row for row in summary if row.metric in metrics}
    control, *others = arms
    table = Table(title="Exact match of freely generated answers")
    for heading in ("split", "task", "majority", *arms, *(f"{arm} - {control} (95 %)" for arm in others)):
        table.add_column(heading, justify="left" if heading in ("split", "task") else "right")
    for group in by_place(tasks):
        for task, split in group:
            if (control, task.name, split.name) not in rows:
                continue
            differences = [rows[f"{arm} - {control}", task.name, split.name] for arm in others]
            table.add_row(
                split.label,
                task.name,
                f"{rows[control, task.name, split.name].majority or 0:.2f}",
                *(f"{rows[arm, task.name, split.name].value:.2f}" for arm in arms),
                *(f"{d.value:+.2f} ({d.low:+.2f} to {d.high:+.2f})" for d in differences),
            )
        table.add_section()
    console.print(table)


def _judge(row: Row) -> str:
    if row.low is None or row.high is None or row.low <= 0 <= row.high:
        return "no difference shown"
    return "better" if row.value > 0 else "worse"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _span(row: Row, scale: int, form: str) -> str:
    """+85 [+80 to +90]"""
    middle = format(scale * row.value, "+" + form)
    if row.low is None or row.high is None:
        return middle
    return f"{middle} [{format(scale * row.low, '+' + form)} to {format(scale * row.high, '+' + form)}]"
