"""Tables in a terminal: they fit it, their numbers are aligned, and nothing is lost."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence

import pytest
from rich.cells import cell_len
from rich.console import Console

from tests.messages import says
from tests.pages.made_up import MIXED, built, results_of
from training.models.arms import ARMS
from training.report.page import Cell, Table, print_table
from training.report.report import answer_table, short_table
from training.report.verdict import HELD, judge


def printed(table: Table, width: int, compared: int = 0, between: str = " ") -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    print_table(console, table, "Exact match", compared, between)
    return console.export_text()


def cells(text: str) -> list[list[str]]:
    """The cells of all lines, with their spaces."""
    return [line.split("│")[1:-1] for line in text.splitlines() if line.startswith("│")]


@pytest.mark.parametrize(
    "arms",
    [
        ("matched", "lstm"),
        ("plain", "matched", "shuffled", "lstm"),
        tuple(ARMS)[:9],
    ],
    ids=len,
)
def test_a_table_of_many_arms_fits_80_columns_and_breaks_no_word(arms: Sequence[str]) -> None:
    """Nine arms were eleven columns and more of one letter a line."""
    table = answer_table(results_of(arms, built(*MIXED)))
    text = printed(table, 80, compared=9)
    assert max(map(cell_len, text.splitlines())) <= 80
    assert "…" not in text
    found = {cell.strip() for line in cells(text) for cell in line}
    words = {word for cell in found for word in cell.split()}
    for line in table.lines:
        for cell in line[: table.left]:
            assert isinstance(cell, str)
            assert words >= set(cell.split()), "a long name may be on two lines"
        for cell in line[table.left :]:
            shown = [cell] if isinstance(cell, str) else [cell.text, cell.small[0]]
            for part in shown:
                assert {part, f"{part} *"} & found, part
    heads = {head.strip() for line in text.splitlines() if "┃" in line for head in line.split("┃")}
    assert heads >= {
        word for head in table.headings for word in head.split(" − ")[:1] if " " not in word
    }
    says(text, "Holm 9")
    if "part" in text:
        numbers = re.findall(r"part (\d+) of (\d+)", text)
        assert [int(one) for one, _ in numbers] == list(range(1, int(numbers[0][1]) + 1))
        assert text.count("Holm") == 1, "one note, below the last part"


def test_many_arms_are_shown_by_the_strongest_control_and_the_arms_against_it() -> None:
    """Nine arms in a terminal of 80 columns would be nine tables."""
    tasks = built("reverse", "count", "index", "swap")
    found = results_of(tuple(ARMS)[:9], tasks)
    text = printed(short_table(found), 80, compared=9)
    assert max(map(cell_len, text.splitlines())) <= 80
    assert text.count("part ") in (0, 2)
    lines = short_table(found).lines
    assert len(lines) == 4 * 4
    for line in lines:
        assert line[2] in found.controls
    judged = [row for row in found.summary if row.controls and "exact" in row.metric]
    stars = sum(
        cell.style == "held" for line in lines for cell in line if not isinstance(cell, str)
    )
    assert stars == sum(judge(row) in HELD for row in judged) > 0


def test_every_part_names_its_lines() -> None:
    table = answer_table(results_of(("plain", "matched", "shuffled", "lstm"), built("reverse")))
    text = printed(table, 80)
    parts = text.split("part ")[1:]
    assert len(parts) > 1
    for part in parts:
        for split in ("training words", "unseen words", "unseen tokens", "longer words"):
            assert split in part


def test_numbers_are_aligned_with_and_without_a_star() -> None:
    """Trailing spaces are cut by rich, so a number without a star was two places further right."""
    lines = [
        ["reverse", Cell("+0.71", ["+0.64 to +0.76", ""], style="held")],
        ["index", Cell("+0.03", ["-0.03 to +0.09", ""])],
        ["swap", Cell("+0.10", ["", ""])],
    ]
    for width, between in ((80, " "), (80, "\n"), (34, " ")):
        text = printed(Table(["task", "difference"], lines), width, between=between)
        ends = {
            line[1].index(number) + len(number)
            for line in cells(text)
            for number in ("+0.71", "+0.03")
            if number in line[1]
        }
        assert len(ends) == 1, text
        assert text.count("*") == 1


def test_names_that_are_too_long_are_wrapped_and_numbers_stay_whole() -> None:
    lines = [["a model with a very long name, " * 4, Cell("82 %", ["76 to 86"]), "7"]]
    text = printed(Table(["table", "letters", "length"], lines), 60)
    assert max(map(cell_len, text.splitlines())) <= 60
    assert re.search(r"82 % \(76 to 86\)|82 % ", text)
    assert "76 to 86" in text
    assert " ".join(cell[0].strip() for cell in cells(text)).count("very long") == 4


def test_a_name_in_brackets_is_no_style() -> None:
    table = Table(["task", "[red]"], [["task[bold]", "1"]])
    text = printed(table, 80)
    assert "task[bold]" in text
    assert "[red]" in text
