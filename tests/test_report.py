"""The report and its words, from made-up rows: tasks of different splits in one run, one arm, three arms."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from rich.console import Console

from synthetic_tasks import Material, Task, WordSplits, build_task
from training.arms import ARMS
from training.prose import by_place, print_table, verdict
from training.report import sample_answers, smoothed, split_notes, write_report
from training.statistics import Marks, Row, read_rows, summarise, wilson

WORDS = WordSplits(
    seen=("apple", "onion"),
    unseen_words=("lemon",),
    unseen_tokens=("spinach",),
    longer_words=("watermelons",),
    held_out=frozenset({b"ach"}),
)
ASKED = 40  # questions a cell


@dataclass(frozen=True)
class Phase:
    name: str
    kind: str
    title: str
    replay_share: float = 0.0


PHASES = (
    Phase("warmup_spelling", "spelling", "the spelling warm-up"),
    Phase("pretrain", "text", "pretraining"),
    Phase("finetune", "question", "fine-tuning", 0.1),
    Phase("tasks_only", "question", "tasks alone"),
)


def built(*specs: str) -> list[Task]:
    return [build_task(spec, Material(WORDS)) for spec in specs]


def made_up(
    arms: Sequence[str], tasks: Sequence[Task], seeds: int = 1
) -> tuple[list[Row], Marks, list[dict[str, Any]]]:
    """Rows, marks and answers in which the first arm knows little, the second much."""
    rows: list[Row] = []
    marks: Marks = {}
    answers: list[dict[str, Any]] = []
    for seed in range(seeds):
        for number, arm in enumerate(arms):
            for task in tasks:
                for place, split in enumerate(task.splits):
                    rng = Random(f"{arm} {seed} {task.name} {split.name}")
                    right = [
                        rng.random() < 0.15 + 0.6 * number / max(1, len(arms) - 1) - 0.03 * place
                        for _ in range(ASKED)
                    ]
                    low, high = wilson(sum(right), ASKED)
                    value = sum(right) / ASKED
                    rows.append(
                        Row(arm, seed, task.name, split.name, "exact_match", value, low, high, ASKED, 0.05)
                    )
                    marks[arm, seed, task.name, split.name] = right
                    for i, mark in enumerate(right):
                        item = task.draw(split.name, Random(i))
                        answers.append({
                            "arm": arm, "seed": seed, "task": task.name, "split": split.name,
                            "prompt": item.prompt, "expected": item.answer.strip(),
                            "given": item.answer.strip() if mark else "?", "right": mark,
                        })  # fmt: skip
            for phase in ("pretraining", "fine-tuning", "tasks alone"):
                for metric, value in (
                    ("loss_nats", 4.9 + 0.1 * number),
                    ("bits_per_byte", 1.6 + 0.03 * number),
                ):
                    rows.append(
                        Row(arm, seed, f"text, after {phase}", "all", metric, value, None, None, 900, None)
                    )
            rows += [
                Row(arm, seed, "all", "all", "parameters", 1e6 + number, None, None, 1, None),
                Row(
                    arm,
                    seed,
                    "pretrain",
                    "all",
                    "median_step_seconds",
                    0.1 + number / 100,
                    None,
                    None,
                    9,
                    None,
                ),
                Row(
                    arm,
                    seed,
                    "finetune",
                    "all",
                    "median_step_seconds",
                    0.05 + number / 100,
                    None,
                    None,
                    9,
                    None,
                ),
                Row(arm, seed, "all", "all", "training_seconds", 60.0 + number, None, None, 9, None),
            ]
    return rows, marks, answers


def made_up_metrics(arms: Sequence[str], seeds: int, phases: Sequence[Phase]) -> list[dict[str, Any]]:
    return [
        {
            "arm": arm, "seed": seed, "phase": phase.name, "step": step, "kind": phase.kind,
            "loss_nats": 5 - step / 40 - number / 5 + Random(f"{seed} {step}").random() / 3, "seconds": 0.1,
        }
        for phase in phases for seed in range(seeds) for number, arm in enumerate(arms) for step in range(80)
        if phase.kind != "spelling" or arm == "lstm"  # the others have no letters to warm up
    ]  # fmt: skip


def page_of(
    out: Path, arms: Sequence[str], tasks: Sequence[Task], *, seeds: int = 1, phases: Sequence[Phase] = PHASES
) -> str:
    """Everything that follows training, as compare does it; the page."""
    rows, marks, answers = made_up(arms, tasks, seeds)
    summary = summarise(rows, arms[0], arms, marks)
    facts = {
        "config": {"arms": list(arms)},
        "data": {
            "held_out_tokens": 299,
            "held_out_tokens_median_count_in_text": 216.0,
            "held_out_tokens_least_count_in_text": 54.0,
            "held_out_tokens_least_count_in_pretraining": 17.4,
        },
        "machine": {"cpu": "a CPU", "gpu": None, "threads_per_arm": 1},
    }
    write_report(
        out, facts, "4,096 tokens, 3 layers of width 128.",
        arms=arms, tasks=tasks, phases=phases, rows=rows, summary=summary,
        sentences=[sentence for arm in arms[1:] for sentence in verdict(summary, tasks, arm, arms[0], seeds)],
        metrics=made_up_metrics(arms, seeds, phases), answers=answers,
    )  # fmt: skip
    return (out / "report.html").read_text("utf-8")


def table_of(arms: Sequence[str], tasks: Sequence[Task]) -> str:
    rows, marks, _ = made_up(arms, tasks)
    console = Console(width=160, record=True, file=io.StringIO())
    print_table(console, arms, tasks, summarise(rows, arms[0], arms, marks))
    return console.export_text()


MIXED = ("reverse", "count", "path_star:2x5", "counting:10x100", "path_star:3x4")


def test_tasks_with_different_splits_stand_in_one_report(tmp_path: Path) -> None:
    tasks = built(*MIXED)
    page = page_of(tmp_path, ("matched", "lstm"), tasks)
    plot = (tmp_path / "answers.svg").read_text("utf-8")
    assert plot in page
    for task in tasks:
        assert f">{task.name}</text>" in plot
    assert plot.count(">tokens</text>") == 2, "word tasks alone have unseen tokens"
    assert plot.count(">arms</text>") == 4, "each path-star task has longer arms and more arms"
    assert plot.count(">sequences</text>") == 3
    lines = re.findall(r'<tr><td class="left">([^<]+)</td><td class="left">([^<]+)</td><td>40</td>', page)
    assert sorted(lines) == sorted((split.label, task.name) for task in tasks for split in task.splits)
    assert "<b>Longer words</b>: 11 letters, after training on 5." in page
    assert "<b>Longer arms, path_star:3x4</b>: 3 arms of 5 nodes, after training on 3 arms of 4." in page
    assert "<b>Longer sequences</b>: 150 of 10 symbols, after training on 100." in page
    assert "The 299 tokens that no training question had" in page
    assert not re.search(r'(src|href)="(?!#)', page), "self-contained: nothing is loaded from elsewhere"


def test_a_report_without_words_says_nothing_of_words(tmp_path: Path) -> None:
    tasks = built("path_star:2x5")
    page = page_of(tmp_path, ("plain", "lstm"), tasks)
    words = page.replace("The 299 tokens", "")
    assert "nseen" not in words
    assert "onger words" not in words


def test_there_is_a_curve_for_each_phase_that_was_run(tmp_path: Path) -> None:
    page = page_of(tmp_path, ("matched", "lstm"), built("reverse"))
    headings = re.findall("<h2>([^<]+)</h2>", page)
    for title in ("The spelling warm-up", "Pretraining", "Fine-tuning", "Tasks alone"):
        assert title in headings
    assert page.count("<svg") == 1 + 4 + 1
    assert "10 % of the steps go on with running text instead" in page
    for phase in ("pretraining", "fine-tuning", "tasks alone"):
        assert f'<td class="left">text, after {phase}</td>' in page
    assert "pretraining step, median seconds" in page
    page = page_of(tmp_path, ("matched", "lstm"), built("reverse"), phases=PHASES[2:3])
    assert page.count("<svg") == 3
    assert "<h2>Pretraining</h2>" not in page


def test_one_arm_alone_is_reported_without_comparison(tmp_path: Path) -> None:
    page = page_of(tmp_path, ("lstm",), built("reverse", "path_star:2x5"))
    assert "One arm alone was trained: there is nothing to compare it with." in page
    assert "1 model." in page
    assert ">difference</text>" not in page
    assert "&minus;" not in page


def test_three_arms_are_each_compared_with_the_first(tmp_path: Path) -> None:
    page = page_of(tmp_path, ("plain", "shuffled", "lstm"), built("reverse", "path_star:2x5"), seeds=3)
    assert "3 sets of models." in page
    for arm in ("shuffled", "lstm"):
        assert f"<th>{arm} &minus; plain</th>" in page
        assert f"{arm} against plain" in page
        assert f"Differences are {arm} minus plain; the intervals are of 95 %, over 3 pairs." in page
    for arm in ("plain", "shuffled", "lstm"):
        assert ARMS[arm].sentence in page
        assert ARMS[arm].colour in page


def test_the_same_numbers_make_the_same_page(tmp_path: Path) -> None:
    first, again = (page_of(tmp_path, ("matched", "lstm"), built("swap", "counting:4x12")) for _ in range(2))
    assert first == again


def test_samples_come_from_each_tasks_most_telling_split() -> None:
    tasks = built("reverse", "path_star:2x5")
    samples = sample_answers(tasks, made_up(("matched", "lstm"), tasks)[2])
    assert [(sample["task"], sample["split"]) for sample in samples] == (
        [("reverse", "unseen_tokens")]
        + 3 * [("path_star:2x5", "fresh")]  # one word makes one question of reverse
    )
    assert all(set(sample["given"]) == {"matched", "lstm"} for sample in samples)


def test_the_table_has_a_line_for_each_cell_and_no_other() -> None:
    tasks = built(*MIXED)
    lines = [line for line in table_of(("matched", "lstm"), tasks).splitlines() if "0.05" in line]
    assert len(lines) == sum(len(task.splits) for task in tasks) == 4 + 4 + 4 + 3 + 4
    assert any(re.search("more arms.*path_star:2x5", line) for line in lines)
    assert not any(re.search("words.*path_star", line) for line in lines)
    assert "lstm - matched (95 %)" in table_of(("matched", "lstm"), tasks)
    assert "(95 %)" not in table_of(("lstm",), tasks)


def test_cells_that_were_not_asked_are_left_out() -> None:
    tasks = built("reverse")
    rows, marks, _ = made_up(("matched", "lstm"), tasks)
    rows = [row for row in rows if row.split != "longer_words"]
    summary = summarise(rows, "matched", ("matched", "lstm"), marks)
    assert "longer" not in " ".join(verdict(summary, tasks, "lstm", "matched", 1))


def test_places_are_shared_by_tasks_of_a_kind_and_the_verdict_begins_with_the_telling_ones() -> None:
    tasks = built("reverse", "path_star:2x5", "swap")
    names = [[(task.name, split.name) for task, split in group] for group in by_place(tasks)]
    assert names[0] == [("reverse", "seen"), ("swap", "seen")]
    assert names[4] == [("path_star:2x5", "seen")]
    ordered = [group[0][1].name for group in by_place(tasks, telling_first=True)]
    assert ordered == [
        "unseen_tokens",
        "fresh",
        "unseen_words",
        "longer_words",
        "longer_arms",
        "more_arms",
        "seen",
        "seen",
    ]


def test_the_verdict_tells_gain_loss_and_nothing_apart() -> None:
    right, rows = {}, []
    marks = {
        "reverse": ("1" * 90 + "0" * 10, "0" * 100),
        "count": ("10" * 50, "01" * 50),
        "index": ("0" * 100, "1" * 90 + "0" * 10),
    }
    for task, (ours, theirs) in marks.items():
        for arm, bits in (("lstm", ours), ("matched", theirs)):
            right[arm, 0, task, "unseen_tokens"] = [bit == "1" for bit in bits]
            low, high = wilson(bits.count("1"), 100)
            rows.append(
                Row(arm, 0, task, "unseen_tokens", "exact_match", bits.count("1") / 100, low, high, 100, 0.1)
            )
    summary = summarise(rows, "matched", ("matched", "lstm"), right)
    sentences = verdict(summary, built("reverse", "count", "index"), "lstm", "matched", 1)
    assert len(sentences) == 2
    assert sentences[0].startswith(
        "On words with a token that no question had contained, lstm against matched: better at"
    )
    assert re.search(r"better at reverse \(90 % against 0 %, \+90 \[\+8\d to \+9\d\] points\)", sentences[0])
    assert re.search(r"worse at index \(0 % against 90 %", sentences[0])
    assert re.search(r"no difference shown at count", sentences[0])
    assert "over the questions of one pair" in sentences[1]
    assert "plain,lstm" not in " ".join(sentences)


def test_the_verdict_groups_the_tasks_of_a_place_and_keeps_places_apart() -> None:
    tasks = built("reverse", "swap", "path_star:2x5")
    rows, marks, _ = made_up(("matched", "lstm"), tasks)
    sentences = verdict(summarise(rows, "matched", ("matched", "lstm"), marks), tasks, "lstm", "matched", 1)
    (words,) = [sentence for sentence in sentences if sentence.startswith("On new words")]
    assert "reverse (" in words
    assert "swap (" in words
    assert "path_star" not in words
    (graphs,) = [
        sentence
        for sentence in sentences
        if sentence.startswith("On graphs kept out of training, lstm against matched")
    ]
    assert "path_star:2x5 (" in graphs
    assert "reverse" not in graphs


def test_a_gain_on_text_over_matched_comes_with_its_warning() -> None:
    tasks = built("reverse")
    for control, warned in (("matched", True), ("plain", False)):
        rows, marks, _ = made_up((control, "lstm"), tasks)
        sentences = verdict(summarise(rows, control, (control, "lstm"), marks), tasks, "lstm", control, 1)
        assert any("--arms plain,lstm tells them apart" in sentence for sentence in sentences) == warned
        assert any(
            "Text, after tasks alone, lstm has +0.100 nats per token" in sentence for sentence in sentences
        )


def test_notes_name_the_task_where_tasks_differ() -> None:
    assert split_notes(built("reverse", "swap")) == [
        ("unseen tokens", "each word holds one of 1 tokens that no training question had"),
        ("longer words", "11 letters, after training on 5"),
    ]
    labels = [label for label, _ in split_notes(built("path_star:2x5", "path_star:3x4"))]
    assert labels[:2] == ["new graphs, path_star:2x5", "new graphs, path_star:3x4"]


def test_smoothing_keeps_the_middle_of_its_window() -> None:
    steps, values = smoothed(range(8), [0.0, 2.0] * 4)
    assert steps.tolist() == [0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5]
    assert values.tolist() == [1.0] * 7


def test_rows_survive_their_file(tmp_path: Path) -> None:
    rows = made_up(("lstm",), built("reverse"))[0]
    (tmp_path / "results.json").write_text(json.dumps([vars(row) for row in rows]))
    assert read_rows(tmp_path / "results.json") == rows
