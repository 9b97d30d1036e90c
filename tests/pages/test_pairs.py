"""Forest plots and the table of all differences; dots of seeds; answers without a character."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from synthetic_tasks import Task
from tests.pages.made_up import MACHINE, built, page_of, results_of
from training.report.figures import COLOURS, Group, bars
from training.report.interval_plots import Axis, Compared, forest
from training.report.pairs import forests, is_judged, pairwise_table
from training.report.report import answer_table, write_report

ARMS = ("plain", "shuffled", "lstm")
AXIS = Axis("points", "{:+.0f}", 5.0)


def figure(*, judged: bool, holds: bool) -> str:
    one = Compared("lstm − plain", 20.0, 10.0, 30.0, judged, holds)
    return forest("f", "Differences.", [("reverse", [one])], AXIS)


def test_what_is_not_judged_looks_different_from_what_is_and_from_what_holds() -> None:
    holds, judged, read = (
        figure(judged=True, holds=True),
        figure(judged=True, holds=False),
        figure(judged=False, holds=False),
    )
    colour = f"var(--lstm, {COLOURS['lstm']})"
    assert f"fill: {colour}" in holds, "filled"
    assert f"fill: {colour}" not in judged, "hollow"
    assert f"stroke: {colour}" in judged
    assert colour not in read, "grey"
    assert len({holds, judged, read}) == 3
    for svg in (holds, judged, read):
        assert "reverse: lstm − plain +20." in svg, "the accessible label has the value"


def test_every_difference_is_in_a_forest_plot_once() -> None:
    tasks = built("reverse", "path_star:2x5")
    found = results_of(ARMS, tasks, 3)
    figures = dict(forests(found.summary, tasks))
    assert list(figures) == [
        "Training words", "Unseen words", "Unseen tokens", "Longer words", "Training graphs",
        "New graphs", "Longer arms", "More arms", "Held-out text",
    ]  # fmt: skip
    rows = [row for row in found.summary if row.metric == "exact_match_difference"]
    words = {"seen": "Training words", "unseen_words": "Unseen words"}
    for row in rows:
        if title := words.get(row.split) if row.task == "reverse" else None:
            label = f"{row.arm.replace(' - ', ' − ')} {100 * row.value:+.0f}"
            assert figures[title].split("</title>")[0].count(label) == 1
    text = figures["Held-out text"].split("</title>")[0]
    nats = [row for row in found.summary if row.metric == "loss_nats_difference"]
    assert len(re.findall(r" [+-]\d\.\d{3}[,.]", text)) == len(nats)


def test_a_difference_of_nothing_has_a_figure_too() -> None:
    """Equal arms: no interval has a width, and the axis still has one."""
    equal = [Compared("lstm − plain", 0.0, 0.0, 0.0, True, False)]
    alone = [Compared("lstm − plain", -0.1, None, None, False, False)]
    for group in (equal, alone):
        assert "<svg" in forest("f", "Differences.", [("reverse", group)], AXIS)


def test_the_table_of_all_differences_has_every_pair() -> None:
    tasks = built("reverse")
    found = results_of(ARMS, tasks)
    table = pairwise_table(found.summary, tasks)
    pairs = {row.arm.replace(" - ", " − ") for row in found.summary if " - " in row.arm}
    assert set(table.headings[2:]) == pairs
    assert [line[0] for line in table.lines] == [split.label for split in tasks[0].splits]
    for line in table.lines:
        for cell in line[2:]:
            assert not isinstance(cell, str)
            assert " to " in cell.small[0]


def test_seeds_are_dots_on_the_bars_if_there_are_several(tmp_path: Path) -> None:
    one = Group("unseen words", {"lstm": (0.5, 0.4, 0.6)}, 0.1)
    three = replace(one, dots={"lstm": (0.4, 0.5, 0.6)})
    plain, dotted = (bars("b", "Shares.", [group]) for group in (one, three))
    assert plain.count("<use ") == 0
    assert dotted.count("<use ") == 3
    for seeds in (1, 3):
        page = page_of(tmp_path, ("plain", "lstm"), built("reverse"), seeds=seeds)
        assert ("ots are single seeds" in page) == (seeds > 1)
        plot = page.split("<h3>reverse</h3>")[1].split("</svg>")[0]
        assert plot.count("<use ") == (4 * 2 * seeds if seeds > 1 else 0), "four splits, two arms"


@pytest.mark.parametrize("given", ["", " ", "\n"])
def test_an_empty_answer_is_shown_as_empty(tmp_path: Path, given: str) -> None:
    """It was an empty place beside a cross."""
    found = results_of(("plain", "lstm"), built("path_star:2x5"), phases=())
    facts = {"config": {}, "data": {}, "machine": MACHINE}
    write_report(tmp_path, facts, "A decoder.", found)
    assert "(empty)" not in (tmp_path / "report.html").read_text("utf-8")
    answers = [one | {"given": given} for one in found.answers]
    write_report(tmp_path, facts, "A decoder.", found._replace(answers=answers))
    cards = (tmp_path / "report.html").read_text("utf-8").split("<h2>Sample answers</h2>")[1]
    assert cards.count("(empty)") == 3 * 2, "three questions, two arms"


def test_judged_differences_are_those_against_the_strongest_control() -> None:
    arms = ("plain", "matched", "lstm")
    found = results_of(arms, built("reverse"), 3)
    rows = [row for row in found.summary if row.metric == "exact_match_difference"]
    judged = {(row.split, row.arm.split(" - ")[0]) for row in rows if is_judged(row)}
    assert judged == {(split.name, "lstm") for split in found.tasks[0].splits}
    assert len(rows) == 4 * 3, "every pair can be read"
    for row in rows:
        assert (row.p_holm is not None) == is_judged(row)


def test_the_table_names_the_strongest_control_of_each_line() -> None:
    best = {"seen": 0, "unseen_words": 1, "unseen_tokens": 1, "longer_words": 0}
    arms = ("plain", "matched", "gru", "lstm")

    def chance(number: int, task: Task, split: str) -> float:
        return 0.9 if number > 1 else 0.6 if number == best[split] else 0.05

    found = results_of(arms, built("reverse"), chance=chance)
    table = answer_table(found)
    assert table.headings[2] == "strongest control"
    assert table.headings[-2:] == ["gru − strongest", "lstm − strongest"]
    names = [line[2] for line in table.lines]
    assert names == ["plain", "matched", "matched", "plain"]
    for line in table.lines:
        shares = dict(zip(arms, map(float, line[5:9]), strict=True))
        for arm, cell in zip(arms[2:], line[9:], strict=True):
            assert float(cell.text) == pytest.approx(shares[arm] - shares[line[2]], abs=0.011)
    alone = answer_table(results_of(("plain", "lstm"), built("reverse")))
    assert "strongest control" not in alone.headings, "one control needs no name in each line"
