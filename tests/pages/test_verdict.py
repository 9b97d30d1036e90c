"""Judgements, verdicts, headlines and the table in the terminal, from made-up rows."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import replace
from random import Random

import pytest
from rich.console import Console

from synthetic_tasks import Task
from tests.messages import says
from tests.pages.made_up import MIXED, built, made_up, results_of, summary_of
from training.differences import summarise
from training.intervals import Row, wilson
from training.models.arms import ARMS
from training.report.answers import answer_table
from training.report.formats import percent, replay_sentence
from training.report.headline import Headline, headline
from training.report.page import print_table
from training.report.verdict import (
    by_place,
    comparisons,
    controls_of,
    how_judged,
    judge,
    tally,
    verdict,
)

PAIR = ("matched", "lstm")


def difference(
    low: float, high: float, p: float, p_holm: float, metric: str = "exact_match"
) -> Row:
    middle = (low + high) / 2
    return Row("lstm - matched", "mean", "reverse", "seen", f"{metric}_difference", middle, low, high, 250,
               None, p, p_holm)  # fmt: skip


def said(arms: Sequence[str], specs: Sequence[str], seeds: int = 1, **how: object) -> Headline:
    tasks = built(*specs)
    return headline(summary_of(arms, tasks, seeds, **how), tasks, arms, seeds)


def table_of(arms: Sequence[str], tasks: Sequence[Task]) -> str:
    console = Console(width=160, record=True, file=io.StringIO())
    found = results_of(arms, tasks)
    print_table(console, answer_table(found), "Exact match", comparisons(found.summary))
    return console.export_text()


def test_a_judgement_needs_the_correction_and_closeness_needs_the_whole_interval() -> None:
    assert judge(difference(0.1, 0.2, 0.001, 0.01)) == "better"
    assert judge(difference(-0.2, -0.1, 0.001, 0.01)) == "worse"
    assert judge(difference(0.01, 0.3, 0.04, 0.6)) == "better, but not after correction"
    assert judge(difference(-0.02, 0.04, 0.4, 1.0)) == "no difference larger than 5 points"
    assert judge(difference(-0.02, 0.06, 0.4, 1.0)) == "no difference shown"
    assert judge(difference(-0.2, -0.1, 0.001, 0.01, "loss_nats")) == "better", (
        "a smaller loss is better"
    )
    assert (
        judge(difference(-0.01, 0.01, 0.9, 1.0, "loss_nats"))
        == "no difference larger than 0.02 nats"
    )


def test_shares_are_not_rounded_to_all_or_nothing() -> None:
    assert [percent(share) for share in (0, 0.004, 0.876, 0.998, 1)] == [
        "0 %",
        "0.4 %",
        "88 %",
        "99.8 %",
        "100 %",
    ]


def test_the_table_has_a_line_for_each_cell_and_no_other() -> None:
    tasks = built(*MIXED)
    lines = [line for line in table_of(PAIR, tasks).splitlines() if "0.05" in line]
    assert len(lines) == sum(len(task.splits) for task in tasks) == 4 + 4 + 4 + 3 + 4
    assert any(re.search("more arms.*path_star:2x5", line) for line in lines)
    assert not any(re.search("words.*path_star", line) for line in lines)
    assert "lstm − matched" in table_of(PAIR, tasks)
    assert all("*" in line for line in lines)
    says(table_of(PAIR, tasks), "Holm 19")
    assert "95 %" not in table_of(("lstm",), tasks)
    assert "Holm" not in table_of(("lstm",), tasks)


def test_cells_without_questions_are_left_out() -> None:
    tasks = built("reverse")
    summary = [row for row in summary_of(PAIR, tasks) if row.split != "longer_words"]
    assert "onger" not in " ".join(verdict(summary, tasks, "lstm"))


def test_places_are_shared_by_tasks_of_a_kind_and_the_verdict_begins_with_the_telling_ones() -> (
    None
):
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


def test_the_verdict_tells_gain_loss_likeness_and_nothing_apart() -> None:
    right, rows = {}, []
    marks = {
        "reverse": ("1" * 90 + "0" * 10, "0" * 100),
        "count": ("10" * 50, "01" * 50),
        "index": ("0" * 100, "1" * 90 + "0" * 10),
        "swap": ("1" * 100, "1" * 100),
    }
    for task, (ours, theirs) in marks.items():
        for arm, bits in (("lstm", ours), ("matched", theirs)):
            right[arm, 0, task, "unseen_tokens"] = [bit == "1" for bit in bits]
            low, high = wilson(bits.count("1"), 100)
            rows.append(
                Row(
                    arm,
                    0,
                    task,
                    "unseen_tokens",
                    "exact_match",
                    bits.count("1") / 100,
                    low,
                    high,
                    100,
                    0.1,
                )
            )
    summary = summarise(rows, "matched", PAIR, right)
    (sentence,) = verdict(summary, built("reverse", "count", "index", "swap"), "lstm")
    assert sentence.startswith("Unseen tokens")
    says(sentence.split(":")[0], "lstm matched")
    assert re.search(
        r"better[^;]* reverse \(90 %[^;]* 0 %, \+90 points \[\+8\d to \+9\d\]\)", sentence
    )
    assert re.search(r"; worse[^;]* index \(0 %[^;]* 90 %", sentence)
    assert re.search(r"; no difference [^;]*5 points[^;]* swap \(100 %[^;]* 100 %", sentence)
    assert re.search(r"; no difference shown[^;]* count \(50 %[^;]* 50 %, \+0 points", sentence)
    counted = tally(summary, "lstm")
    says(counted, "4")
    for judgement in (
        "better",
        "worse",
        "no difference larger than 5 points",
        "no difference shown",
    ):
        assert f"1 {judgement}" in counted


def test_a_verdict_from_few_questions_says_so() -> None:
    tasks = built("reverse", "swap")
    chance = {0: 0.5, 1: 0.5}.get
    few = summary_of(PAIR, tasks, asked=16, chance=lambda number, *_: chance(number) or 0)
    many = summary_of(PAIR, tasks, asked=100, chance=lambda number, *_: chance(number) or 0)
    (first, *_) = verdict(few, tasks, "lstm")
    assert first.count("n = 16") == 1, "once for all tasks"
    assert "n = " not in " ".join(verdict(many, tasks, "lstm"))
    assert any("72" in sentence for sentence in how_judged(few, 1))


def test_the_verdict_groups_the_tasks_of_a_place_and_keeps_places_apart() -> None:
    tasks = built("reverse", "swap", "path_star:2x5")
    sentences = verdict(summary_of(PAIR, tasks), tasks, "lstm")
    (words,) = [sentence for sentence in sentences if sentence.startswith("Unseen words")]
    assert "reverse (" in words
    assert "swap (" in words
    assert "path_star" not in words
    (graphs,) = [sentence for sentence in sentences if sentence.startswith("New graphs")]
    assert "path_star:2x5 (" in graphs
    assert "reverse" not in graphs


def text_run(
    arms: Sequence[str], losses: dict[str, list[float]], windows: int = 0, share: float = 0.5
) -> list[Row]:
    """The summary of a run whose arms answer alike, and have these losses on text by seed.

    Arguments:
        windows: held-out windows, which differ between arms as well; 0 for a run without their losses.
    """
    tasks, seeds = built("reverse"), len(next(iter(losses.values())))
    rows, marks, _ = made_up(arms, tasks, seeds, chance=lambda *_: share)
    rows = [row for row in rows if not row.task.startswith("text")]
    marks = {(arm, seed, *cell): marks[arms[0], seed, *cell] for arm, seed, *cell in marks}
    own = {(row.seed, row.task, row.split): row for row in rows if row.arm == arms[0]}
    rows = [
        replace(own[row.seed, row.task, row.split], arm=row.arm)
        if row.metric == "exact_match" else row for row in rows
    ]  # fmt: skip
    table: dict[tuple[str, int, str], list[float]] = {}
    for arm, of_arm in losses.items():
        for seed, loss in enumerate(of_arm):
            task = "text, after pretraining"
            rows.append(Row(arm, seed, task, "all", "loss_nats", loss, None, None, 9, None))
            noise = [Random(f"{arm} {k}").gauss(0, 0.2) for k in range(windows)]
            table[arm, seed, task] = [loss + one - sum(noise) / windows for one in noise]
    return summarise(rows, controls_of(arms), arms, marks, table if windows else None)


def test_a_gain_on_text_over_matched_alone_comes_with_its_warning() -> None:
    tasks, gain = built("reverse"), [4.9, 4.91, 4.89]
    for others, warned in (
        ({"matched": [5.2, 5.21, 5.2]}, True),
        ({"matched": [4.8, 4.81, 4.8]}, False),  # the arm is worse: no gain to be warned of
        ({"plain": [5.1, 5.12, 5.1], "matched": [5.2, 5.21, 5.2]}, False),
        ({"plain": [5.2, 5.21, 5.2]}, False),
    ):
        arms = (*others, "lstm")
        summary = text_run(arms, {**others, "lstm": gain})
        sentences = " ".join(verdict(summary, tasks, "lstm"))
        found = headline(summary, tasks, arms, 3)
        assert ("second table" in sentences) == warned
        assert ("second table" in found.basis) == warned, "the headline is what most people read"
        assert not warned or "--arms plain,lstm" in sentences
        strongest = next(iter(others))
        assert re.search(rf"Text, after pretraining, lstm against .*{strongest}", sentences)


def test_a_difference_on_text_stands_in_the_headline() -> None:
    """Three pairs: no difference in answers, and 0.378 nats on text that hold."""
    tasks = built("reverse")
    for arms in (("matched", "lstm"), ("plain", "matched", "lstm")):
        losses = {"plain": [6.0, 6.03, 5.98], "matched": [5.5, 5.53, 5.48]}
        losses = {arm: losses[arm] for arm in arms[:-1]} | {"lstm": [5.12, 5.15, 5.1]}
        found = headline(text_run(arms, losses, windows=64), tasks, arms, 3)
        assert found.sentence.startswith(("No difference in answers", "In answers, there is no"))
        assert re.search(r"fter pretraining, the loss of the model with characters.* text is 0\.380 "
                         r"nats per token lower than that of .*", found.sentence)  # fmt: skip
        assert "(matched)" in found.sentence or len(arms) == 2
        says(found.basis, "-0.380 3 pairs held-out rows Holm")
        assert found.claim == "arms"
        assert "between the models" not in found.sentence


def test_a_text_difference_that_does_not_hold_is_no_claim() -> None:
    arms, tasks = ("plain", "lstm"), built("reverse")
    summary = text_run(arms, {"plain": [5.0, 5.1, 5.2], "lstm": [5.05, 5.0, 5.21]}, windows=64)
    found = headline(summary, tasks, arms, 3)
    assert "loss" not in found.sentence
    assert found.claim == ""


def test_losses_without_their_windows_are_said_to_cover_the_seeds_alone() -> None:
    arms, tasks = ("plain", "lstm"), built("reverse")
    losses = {"plain": [5.5, 5.53, 5.48], "lstm": [5.12, 5.14, 5.1]}
    for windows, covered in ((0, False), (64, True)):
        summary = text_run(arms, losses, windows)
        assert ("seeds alone" in " ".join(verdict(summary, tasks, "lstm"))) != covered
        assert ("does not cover" in how_judged(summary, 3)[0]) != covered
        assert ("single rows" in headline(summary, tasks, arms, 3).basis) != covered


def test_one_seed_speaks_of_its_models_and_not_of_the_arms() -> None:
    arms, tasks = ("plain", "lstm"), built("reverse")
    found = said(arms, ("reverse",), asked=250)
    assert found.sentence.startswith("In this one pair of models, on ")
    says(found.basis, "one seed --seeds 5")
    assert found.claim == "models"
    assert said(arms, ("reverse",), 5, asked=250).claim == "arms"
    assert "one pair" not in said(arms, ("reverse",), 5, asked=250).sentence
    summary = text_run(arms, {"plain": [5.5], "lstm": [5.1]}, windows=64)
    found = headline(summary, tasks, arms, 1)
    assert "In this one pair of models, after pretraining, the loss of" in found.sentence
    assert found.claim == "models"
    says(" ".join(verdict(summary, tasks, "lstm")), "one seed")


def test_a_worse_result_is_not_hidden_by_a_better_one() -> None:
    better = {"unseen_tokens": 0.9, "unseen_words": 0.1}

    def chance(number: int, task: Task, split: str) -> float:
        return better.get(split, 0.5) if number == 1 else 0.5

    found = said(("plain", "lstm"), ("reverse",), 5, asked=250, chance=chance)
    assert re.search("with characters reverses (89|90|91) %", found.sentence)
    assert re.search(
        r"1 is better and 4 worse, among them lstm - plain at reverse on unseen words \(-\d+ points",
        found.basis,
    )
    # without anything worse there is no such sentence
    summary = summary_of(("plain", "lstm"), built("reverse"), 5, asked=250)
    answers = [row for row in summary if row.metric.startswith("exact_match")]
    assert "worse" not in headline(answers, built("reverse"), ("plain", "lstm"), 5).basis


def test_the_strongest_control_is_named_for_each_cell() -> None:
    """plain is the best control at reverse, matched at count; lstm is better at one of them."""
    arms, tasks = ("plain", "matched", "lstm"), built("reverse", "count")
    shares = {"reverse": (0.6, 0.1, 0.9), "count": (0.1, 0.85, 0.5)}
    summary = summary_of(
        arms, tasks, 5, asked=250, chance=lambda number, task, split: shares[task.name][number]
    )
    sentence = verdict(summary, tasks, "lstm")[0]
    assert "lstm against the strongest control" in sentence
    assert re.search(r"better at reverse \(\d+ % against \d+ % of plain", sentence)
    assert re.search(r"worse at count \(\d+ % against \d+ % of matched", sentence)
    found = headline(summary, tasks, arms, 5)
    assert "the strongest control (" in found.sentence
    says(found.basis, "worse better")
    says(" ".join(how_judged(summary, 5)), "Berger 1982 Bonferroni plain matched")
    counted = tally(summary, "lstm")
    says(counted, "8 comparisons of answers 4 better worse 3 of text")
    assert comparisons(summary) == 8 + 3


def test_arms_without_an_encoder_are_controls() -> None:
    assert controls_of(("plain", "matched", "lstm", "gru")) == ["plain", "matched"]
    assert controls_of(("lstm", "plain")) == ["plain"], "the order does not matter"
    assert controls_of(("lstm", "gru")) == ["lstm"], "the first serves as one"
    assert controls_of(("plain", "matched", "shuffled")) == ["plain"]
    assert controls_of(("lstm",)) == ["lstm"]


def test_a_run_without_a_control_says_which_arm_serves_as_one() -> None:
    arms, tasks = ("lstm", "gru"), built("reverse")
    found = said(arms, ("reverse",), 5, asked=250)
    assert "which serves as the control, " in found.sentence
    summary = summary_of(arms, tasks, 5, asked=250)
    says(" ".join(how_judged(summary, 5)), "lstm serves as one")
    nothing = said(arms, ("reverse",), 5, asked=250, chance=lambda *_: 0.5).sentence
    assert "which serves as the control" in nothing


def test_two_arms_with_the_same_description_are_named() -> None:
    sentence = said(("plain", "matched"), ("reverse",), 5, asked=250).sentence
    assert "(plain)" in sentence
    assert "(matched)" in sentence


def test_the_explanation_fits_the_number_of_seeds() -> None:
    tasks = built("reverse")
    one, two, five = (how_judged(summary_of(PAIR, tasks, seeds), seeds)[0] for seeds in (1, 2, 5))
    says(one, "one pair")
    says(two, "five")
    says(five, "95 % 5 pairs")
    says(how_judged(summary_of(PAIR, tasks, 5), 5)[1], "7")  # 4 of answers, 3 of text


def test_the_headline_is_the_largest_difference_on_a_telling_split() -> None:
    found = said(PAIR, ("count", "reverse"), 5, chance=lambda number, task, split: (
        0.9 if (number, task.name, split) == (1, "reverse", "unseen_tokens") else 0.02
    ), asked=250)  # fmt: skip
    assert re.search(r" reverses \d\d %,.* [\d.]+ %", found.sentence)
    assert re.search(r"\+8\d points \[\+\d\d to \+\d\d\]", found.basis)
    says(found.basis, "95 % 5 pairs Holm 11")
    assert found.cell is not None
    assert (found.cell[0].name, found.cell[1].name) == ("reverse", "unseen_tokens")


def test_the_headline_falls_back_to_another_split_and_reports_a_loss() -> None:
    found = said(PAIR, ("path_star:2x5",), asked=100, chance=lambda number, task, split: (
        0.9 if (number, split) == (0, "longer_arms") else 0.02
    ))  # fmt: skip
    says(found.sentence, "longer arms path")
    assert re.search(r" -9\d points", found.basis), "the arm is worse than the control"


@pytest.mark.parametrize(("seeds", "asked", "count"), [(1, 7, 4), (2, 4, 7)])
def test_a_headline_that_the_correction_takes_back_is_not_certain(
    seeds: int, asked: int, count: int
) -> None:
    """All of 7 or 8 questions: p = 0.016 or 0.008, of 4 comparisons or of 7 (with 3 of text)."""
    found = said(
        PAIR, ("reverse",), seeds, asked=asked,
        chance=lambda number, task, split: float((number, split) == (1, "unseen_tokens")),
    )  # fmt: skip
    says(found.sentence, "not certain")
    assert re.search(" reverses 100 %,.* 0 %", found.sentence)
    says(found.basis, f"{count} Holm")
    assert ("five" in found.basis) == (seeds == 2)


@pytest.mark.parametrize("arms", [PAIR, ("plain", "matched", "lstm")])
def test_a_headline_without_a_difference_says_so(arms: tuple[str, ...]) -> None:
    little = said(arms, ("reverse",), asked=8, chance=lambda *_: 0.0)
    says(little.sentence, "no difference")
    says(little.basis, "8 questions")
    alike = said(arms, ("reverse",), asked=250, chance=lambda *_: 0.0)
    says(alike.sentence, "no difference 5 points")
    assert little.cell is alike.cell is None


def test_no_difference_from_a_control_is_none_between_two_encoders() -> None:
    """lstm 3 points above plain and gru 3 below: 6 points between them, more than the margin."""
    arms, shares = ("plain", "lstm", "gru"), (0.5, 0.53, 0.47)
    for seeds in (1, 5):
        found = said(arms, ("reverse",), seeds, asked=25, chance=lambda number, *_: shares[number])
        assert re.search(r"difference in answers from the model without characters \(plain\) was "
                         r"shown for .*\(lstm\) and .*\(gru\)", found.sentence)  # fmt: skip
        says(found.basis, "each other not judged")
        assert "between" not in found.sentence


def test_likeness_is_claimed_of_the_splits_that_show_it_and_of_one_seeds_models() -> None:
    unlike = said(
        PAIR, ("reverse",), 5, asked=250,
        chance=lambda number, task, split: 0.0 if split == "unseen_tokens" else 0.5,
    )  # fmt: skip
    says(unlike.sentence, "most informative splits no difference 5 points")
    alike = said(PAIR, ("reverse",), 5, asked=250, chance=lambda *_: 0.0)
    assert "most informative" not in alike.sentence + alike.basis
    assert "this one pair" not in alike.sentence
    one = said(PAIR, ("reverse",), 1, asked=250, chance=lambda *_: 0.0)
    says(one.sentence, "this one pair of models")
    says(one.basis, "one seed --seeds 5")


def test_few_questions_of_one_split_are_not_said_of_each() -> None:
    arms, tasks = PAIR, built("reverse")
    summary = summary_of(arms, tasks, asked=8, chance=lambda *_: 0.0)
    says(headline(summary, tasks, arms, 1).basis, "8 each split")
    tasks = built("reverse", "count")
    summary = summary_of(arms, tasks, asked=8, chance=lambda *_: 0.0)
    summary = [replace(row, n=400) if row.task == "count" else row for row in summary]
    basis = headline(summary, tasks, arms, 1).basis
    says(basis, "8 one split")
    assert "each split" not in basis


def test_a_loss_against_an_arm_that_serves_as_the_control_is_a_sentence() -> None:
    losses = {"lstm": [5.5, 5.53, 5.48], "gru": [5.12, 5.14, 5.1]}
    found = headline(text_run(tuple(losses), losses, 64), built("reverse"), tuple(losses), 3)
    assert "which serves as the control." in found.sentence
    assert ",." not in found.sentence


def test_one_held_out_row_is_no_sample_of_rows() -> None:
    arms, losses = ("plain", "lstm"), {"plain": [5.5, 5.53, 5.48], "lstm": [5.12, 5.14, 5.1]}
    summary = text_run(arms, losses, windows=1)
    assert {row.covers for row in summary if row.metric == "loss_nats_difference"} == {"seeds"}
    assert "does not cover" in how_judged(summary, 3)[0]


def test_two_pairs_that_show_nothing_ask_for_more() -> None:
    basis = said(PAIR, ("reverse",), 2, asked=250, chance=lambda *_: 0.5).basis
    says(basis, "2 pairs five")


def test_one_arm_alone_has_a_headline_without_comparison() -> None:
    found = said(("lstm",), ("reverse", "path_star:2x5"))
    assert re.search(r" (reverses|finds the path through) \d+ %\.$", found.sentence)
    says(found.basis, "one arm")


def test_among_more_than_two_arms_the_headline_names_them() -> None:
    sentence = said(("plain", "shuffled", "lstm"), ("reverse",)).sentence
    assert re.search(r"\(lstm\) reverses \d+ %", sentence)
    assert "the strongest control (shuffled)" in sentence


def test_every_arm_has_words_for_the_headline_and_a_line_of_its_own() -> None:
    assert all(
        arm.called.startswith(("with", "trained")) and len(arm.sentence) > 20
        for arm in ARMS.values()
    )
    assert len({arm.sentence for arm in ARMS.values()}) == len(ARMS)


def test_the_replay_is_described_by_share_target_and_text() -> None:
    assert replay_sentence(0.0, "base", "both") == ""
    sentences = [
        replay_sentence(share, target, text)
        for share, target, text in (
            (0.1, "text", "corpus"),
            (0.2, "base", "corpus"),
            (0.2, "base", "base"),
            (0.2, "base", "both"),
        )
    ]
    assert [sentence[:4] for sentence in sentences] == ["10 %", "20 %", "20 %", "20 %"]
    assert len(set(sentences)) == 4
