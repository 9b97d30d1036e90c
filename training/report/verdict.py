"""What the numbers say, in words: judgements, the verdict's sentences, and the table in the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from synthetic_tasks import Split, Task
from training.intervals import ALPHA, MARGINS, Row, few_questions

HELD = ("better", "worse")
UNCORRECTED = tuple(f"{word}, but not after correction" for word in HELD)
ALIKE = {
    "exact_match_difference": f"no difference larger than {100 * MARGINS['exact_match']:.0f} points",
    "loss_nats_difference": f"no difference larger than {MARGINS['loss_nats']} nats",
}
UNSHOWN = "no difference shown"
JUDGEMENTS = (*HELD, *UNCORRECTED, *ALIKE.values(), UNSHOWN)


def by_place(
    tasks: Sequence[Task], *, telling_first: bool = False
) -> list[list[tuple[Task, Split]]]:
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
        return 0 if split.name == task.main_split else 2 if split == task.splits[0] else 1

    return sorted(groups.values(), key=rank) if telling_first else list(groups.values())


def judge(row: Row) -> str:
    """What a difference shows: one of JUDGEMENTS. A smaller loss is the better one.

    "better" and "worse" have to hold after the correction for all comparisons of the run. An interval that
    holds zero may lie near it as a whole (MARGINS): that is a finding too.
    """
    if row.low is None or row.high is None or row.p is None or row.p_holm is None:
        return UNSHOWN
    if row.p < ALPHA:
        words = HELD if row.p_holm < ALPHA else UNCORRECTED
        return words[(row.value > 0) == (row.metric == "loss_nats_difference")]
    margin = MARGINS[row.metric.removesuffix("_difference")]
    return ALIKE[row.metric] if -margin < row.low <= row.high < margin else UNSHOWN


def comparisons(summary: Sequence[Row]) -> int:
    """How many differences were judged, and so corrected together."""
    return sum(row.p is not None for row in summary)


def verdict(summary: list[Row], tasks: Sequence[Task], arm: str, control: str) -> list[str]:
    """What an arm was worth against the control, from the rows alone: a sentence per split."""
    value = {
        (row.arm, row.task, row.split): row.value for row in summary if row.metric == "exact_match"
    }
    differences = [row for row in summary if row.arm == f"{arm} - {control}"]
    of_answers = {
        (row.task, row.split): row for row in differences if row.metric == "exact_match_difference"
    }
    sentences = []
    for group in by_place(tasks, telling_first=True):
        by_judgement: dict[str, list[str]] = {}
        for row in filter(None, (of_answers.get((task.name, split.name)) for task, split in group)):
            ours, theirs = (percent(value[one, row.task, row.split]) for one in (arm, control))
            few = judge(row) == UNSHOWN and few_questions(row.n)
            judgement = f"{judge(row)} (little was asked, n = {row.n})" if few else judge(row)
            named = f"{row.task} ({ours} against {theirs}, {span(row)})"
            by_judgement.setdefault(judgement, []).append(named)
        order = sorted(by_judgement, key=lambda words: JUDGEMENTS.index(words.split(" (")[0]))
        parts = [f"{judgement} at {_listed(by_judgement[judgement])}" for judgement in order]
        if parts:
            split = group[0][1]
            about = f"{capital(split.label)} ({bare(split.place)}), {arm} against {control}"
            sentences.append(f"{about}: {'; '.join(parts)}.")
    of_text = [row for row in differences if row.metric == "loss_nats_difference"]
    for row in of_text:
        judged = "one pair, so no interval" if row.low is None else judge(row)
        sentences.append(
            f"{capital(row.task)}, {arm} against {control}: {span(row)} per token ({judged})."
        )
    if control == "matched" and arm != "plain" and of_text:
        plain_too = any(row.arm == "plain - matched" for row in summary)
        apart = "plain against matched" if plain_too else f"a run with --arms plain,{arm}"
        sentences.append(
            "A gain on text over matched may be the cost of its second table, not the worth of letters: "
            f"{apart} tells them apart."
        )
    return sentences


def tally(summary: list[Row], arm: str, control: str) -> str:
    """How often an arm was judged how. "16 comparisons of answers: 15 better, 1 no difference shown" """
    of_arm = [row for row in summary if row.arm == f"{arm} - {control}"]
    counts = Counter(judge(row) for row in of_arm if row.metric == "exact_match_difference")
    parts = [f"{counts[judgement]} {judgement}" for judgement in JUDGEMENTS if counts[judgement]]
    return f"{counts.total()} comparisons of answers: {'; '.join(parts)}"


def how_judged(summary: list[Row], num_seeds: int) -> list[str]:
    """How to read intervals and judgements: what they rest on, the correction, the margins."""
    if num_seeds == 1:
        over = (
            "The 95 % intervals are over the questions of one pair of models. Another pair would differ from "
            "it for more reasons than these questions: train several (--seeds 5) before you believe a small "
            "difference."
        )
    else:
        over = (
            f"The 95 % intervals are over {num_seeds} pairs of models or over all the questions that they "
            "were asked, whichever is wider."
        )
    if num_seeds == 2:
        over += " Two pairs can agree or differ by chance, so some intervals are wide: train five."
    points, nats = 100 * MARGINS["exact_match"], MARGINS["loss_nats"]
    enough = next(n for n in range(1, 10_000) if not few_questions(n))
    return [
        over,
        f"{comparisons(summary)} comparisons were made at once, so that some would look like findings by "
        "chance: a difference is called better or worse only if it holds after Holm's correction for all.",
        f"Where a whole interval lies within {points:.0f} points of exact match, or {nats} nats per token, "
        "of zero, there is said to be no difference larger than that.",
        f"Little was asked where an arm had fewer than {enough} questions: not even equal answers to all of "
        "them could show as much.",
    ]


def print_table(
    console: Console, arms: Sequence[str], tasks: Sequence[Task], summary: list[Row]
) -> None:
    """Exact match of each arm beside the majority baseline, by split and task; the first arm is the
    control."""
    metrics = ("exact_match", "exact_match_difference")
    rows = {(row.arm, row.task, row.split): row for row in summary if row.metric in metrics}
    control, *others = arms
    caption = (
        f"* holds after Holm's correction for {comparisons(summary)} comparisons"
        if others
        else None
    )
    table = Table(title="Exact match of freely generated answers", caption=caption)
    for heading in (
        "split",
        "task",
        "majority",
        *arms,
        *(f"{arm} - {control} (95 %)" for arm in others),
    ):
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
                *(
                    f"{d.value:+.2f} ({d.low:+.2f} to {d.high:+.2f}) {'*' if judge(d) in HELD else ' '}"
                    for d in differences
                ),
            )
        table.add_section()
    console.print(table)


def replay_sentence(share: float, target: str, text: str) -> str:
    """What a phase reads between its questions, by the fields of its replay; "" where it reads nothing else.

    (0.2, "base", "corpus") -> "20 % of the steps ask the model to say of running text what it said before."
    """
    if not share:
        return ""
    read = {
        "corpus": "running text",
        "base": "text that it wrote itself",
        "both": "running text, and in turn text that it wrote itself,",
    }[text]
    steps = f"{100 * share:.0f} % of the steps"
    if target == "base":
        return f"{steps} ask the model to say of {read} what it said before."
    return f"{steps} go on with {read} instead."


def percent(share: float) -> str:
    """0.876 -> "88 %"; what is not all and not none is not called so: 0.998 -> "99.8 %"."""
    rounded = f"{100 * share:.0f} %"
    return (
        f"{100 * share:.1f} %" if rounded in ("0 %", "100 %") and share not in (0, 1) else rounded
    )


def span(row: Row) -> str:
    """A difference with its interval and unit: "+85 points [+80 to +90]", "-0.038 nats"."""
    scale, form, unit = (1, "+.3f", "nats") if "nats" in row.metric else (100, "+.0f", "points")
    middle = f"{scale * row.value:{form}} {unit}"
    if row.low is None or row.high is None:
        return middle
    return f"{middle} [{scale * row.low:{form}} to {scale * row.high:{form}}]"


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def bare(place: str) -> str:
    """A split's place as a name. "On graphs kept out of training" -> "graphs kept out of training" """
    return place.removeprefix("On ")


def _listed(parts: Sequence[str]) -> str:
    """a, b and c"""
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))
