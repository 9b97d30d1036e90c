"""Intervals, p-values and their correction: textbook values, a slow twin, simulated coverage."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas
import pytest
import statsmodels.formula.api as models
from scipy import stats

from training.intervals import (
    MARGINS,
    Marks,
    Row,
    few_questions,
    over_questions,
    over_runs,
    over_seeds,
    read_rows,
    share_over_runs,
    sign_test,
    summarise,
    wilson,
)

SPLIT = "unseen_tokens"


def cell(task: str, arms: dict[str, list[str]]) -> tuple[list[Row], Marks]:
    """Return rows and scores of one task from bits: {"lstm": ["0110", "0111"]}, one string a seed."""
    rows: list[Row] = []
    right: Marks = {}
    for arm, runs in arms.items():
        for seed, bits in enumerate(runs):
            hits, n = bits.count("1"), len(bits)
            right[arm, seed, task, SPLIT] = [bit == "1" for bit in bits]
            rows.append(
                Row(arm, seed, task, SPLIT, "exact_match", hits / n, *wilson(hits, n), n, 0.1)
            )
    return rows, right


def difference(task: str, ours: list[str], theirs: list[str]) -> Row:
    rows, right = cell(task, {"matched": theirs, "lstm": ours})
    (found,) = [
        row for row in summarise(rows, "matched", ("matched", "lstm"), right) if " - " in row.arm
    ]
    return found


def test_wilson_and_student_give_the_textbook_intervals() -> None:
    assert wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert over_seeds([1.0, 2.0, 3.0])[:2] == pytest.approx(
        (2 - 4.3027 / 3**0.5, 2 + 4.3027 / 3**0.5), abs=1e-3
    )
    assert over_seeds([1.0, 2.0, 3.0])[2] == pytest.approx(
        stats.ttest_1samp([1.0, 2.0, 3.0], 0).pvalue
    )


def test_equal_losses_of_all_seeds_give_no_interval_but_zero_differences_do() -> None:
    assert over_seeds([0.5, 0.5]) == (None, None, None)
    assert over_seeds([0.0, 0.0, 0.0]) == (0.0, 0.0, 1.0)
    assert over_seeds([0.5]) == (None, None, None)


def test_equal_values_over_two_or_three_seeds_are_not_called_certain() -> None:
    """3 of 8 against 2 of 8, twice and three times: in each seed one question differs."""
    for seeds in (2, 3):
        row = difference("reverse", ["11100000"] * seeds, ["11000000"] * seeds)
        assert row.value == pytest.approx(0.125)
        assert row.low is not None
        assert row.high is not None
        assert row.p is not None
        assert row.low < 0 < row.high
        assert row.p > 0.05


def test_one_seeds_interval_and_exact_test_agree_for_every_outcome() -> None:
    """Zero lies outside of the interval exactly if the sign test is significant."""
    for n in (8, 20, 40):
        for gained in range(n + 1):
            for lost in range(n + 1 - gained):
                found = [1.0] * gained + [-1.0] * lost + [0.0] * (n - gained - lost)
                low, high = over_questions(found)
                assert low <= (gained - lost) / n <= high
                assert (low > 0 or high < 0) == (sign_test(found) < 0.05), (gained, lost, n)


def test_five_of_eight_is_not_better() -> None:
    row = difference("reverse", ["11111000"], ["00000000"])
    assert row.p == pytest.approx(0.0625)
    assert row.low is not None
    assert row.low < 0


def test_paired_intervals_over_questions() -> None:
    low, high = over_questions([1.0] * 30 + [0.0] * 70)
    assert 0.2 < low < 0.3 < high < 0.4
    low, high = over_questions([0.0] * 250)
    assert low == -high
    assert high == pytest.approx(1 - 0.025 ** (1 / 250)), (
        "Clopper and Pearson's bound for none of 250"
    )


def test_the_exact_interval_of_one_seed_covers() -> None:
    rng = np.random.default_rng(1)
    for gain, loss, n in (
        (0.02, 0.0, 50),
        (0.3, 0.1, 8),
        (0.3, 0.3, 20),
        (0.9, 0.0, 40),
        (0.1, 0.02, 250),
    ):
        covered = 0
        for counts in rng.multinomial(n, [gain, loss, 1 - gain - loss], 400):
            low, high = over_questions(np.repeat([1.0, -1.0, 0.0], counts).tolist())
            covered += low <= gain - loss <= high
        assert covered >= 376, (
            gain,
            loss,
            n,
            covered,
        )  # 380 less one standard error of the simulation


def test_many_seeds_agree_with_a_mixed_model_where_seeds_differ() -> None:
    """The standard error is that of the intercept of a random-effects model, fitted by REML."""
    rng = np.random.default_rng(2)
    for seeds, n in ((3, 60), (5, 100)):
        runs = [
            rng.choice([1.0, 0.0, -1.0], n, p=[gain, 0.95 - gain, 0.05]).tolist()
            for gain in np.linspace(0.1, 0.6, seeds)
        ]
        frame = pandas.DataFrame(
            [(seed, d) for seed, run in enumerate(runs) for d in run], columns=["s", "d"]
        )
        fitted = models.mixedlm("d ~ 1", frame, groups=frame["s"]).fit(reml=True)
        value, error = fitted.fe_params["Intercept"], fitted.bse_fe["Intercept"]
        assert fitted.cov_re.iloc[0, 0] > 0.01, (
            "the variance between seeds must be inside its range"
        )
        low, high, p = over_runs(runs)
        reach = stats.t.ppf(0.975, seeds - 1) * error
        assert (low, high) == pytest.approx((value - reach, value + reach), abs=1e-3)
        assert p == pytest.approx(2 * stats.t.sf(abs(value) / error, seeds - 1), rel=1e-3)


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_intervals_over_seeds_and_questions_cover(seeds: int) -> None:
    """Seeds with gains of their own (Beta), questions nested in them; also where seeds do not differ at
    all."""
    rng = np.random.default_rng(seeds)
    repeats = 400  # three standard errors of the simulation are 0.033
    for mean, spread, n in ((0.5, 5.0, 40), (0.05, 30.0, 40), (0.02, 1e6, 8)):
        covered = 0
        for gains in rng.beta(mean * spread, (1 - mean) * spread, (repeats, seeds)):
            runs = [
                np.repeat(
                    [1.0, -1.0, 0.0], rng.multinomial(n, [0.9 * gain, 0.05, 0.95 - 0.9 * gain])
                ).tolist()
                for gain in gains
            ]
            low, high, _ = over_runs(runs)
            covered += low <= 0.9 * mean - 0.05 <= high
        assert covered >= 0.917 * repeats, (seeds, mean, spread, n, covered / repeats)


def test_without_a_difference_a_twentieth_is_found_at_most() -> None:
    """The rate of false findings, for arms that are equal on the average but not in each seed."""
    rng = np.random.default_rng(7)
    for seeds in (2, 3, 5):
        found = 0
        for _ in range(400):
            gains = rng.normal(0.2, 0.06, seeds).clip(0, 0.4)
            runs = [
                np.repeat([1.0, -1.0, 0.0], rng.multinomial(40, [gain, 0.4 - gain, 0.6])).tolist()
                for gain in gains
            ]
            found += over_runs(runs)[2] < 0.05
        assert found <= 29, (seeds, found)  # 20, and two standard errors of the simulation


def test_an_arms_own_interval_is_never_narrower_than_the_questions_allow() -> None:
    for hits in ([8, 8], [0, 0, 0], [3, 5, 4]):
        low, high = share_over_runs(hits, [8] * len(hits))
        alone = wilson(sum(hits), 8 * len(hits))
        assert 0 <= low <= alone[0] < alone[1] <= high <= 1
    low, high = share_over_runs([200, 20], [250, 250])
    assert (low, high) == (0, 1), "two seeds as different as that tell nothing"
    low, high = share_over_runs([200, 201], [250, 250])
    assert high - low < 0.1, "two that agree are not taken to be unsure beyond their questions"


def test_the_p_values_of_all_cells_are_corrected_together() -> None:
    """Holm 1979: multiply the smallest of k by k, the next by k - 1; none is below one before it."""
    rows: list[Row] = []
    right: Marks = {}
    for task, ours in (("reverse", 9), ("count", 7), ("swap", 2)):
        more_rows, more_right = cell(
            task, {"matched": ["0" * 20], "lstm": ["1" * ours + "0" * (20 - ours)]}
        )
        rows, right = rows + more_rows, right | more_right
    summary = summarise(rows, "matched", ("matched", "lstm"), right)
    p, holm = zip(*[(row.p, row.p_holm) for row in summary if " - " in row.arm], strict=True)
    assert p == pytest.approx((2 / 2**9, 2 / 2**7, 0.5))
    assert holm == pytest.approx((3 * 2 / 2**9, 2 * 2 / 2**7, 0.5))
    assert all(row.p is None for row in summary if " - " not in row.arm)


def test_losses_are_judged_over_seeds_and_bits_are_not_judged_a_second_time() -> None:
    rows = [
        Row(
            arm,
            seed,
            "text, after pretraining",
            "all",
            metric,
            base + 0.01 * seed,
            None,
            None,
            9,
            None,
        )
        for metric in ("loss_nats", "bits_per_byte")
        for arm, base in (("matched", 5.0), ("lstm", 4.9))
        for seed in range(3)
    ]
    rows[3] = Row(
        "lstm", 0, "text, after pretraining", "all", "loss_nats", 4.91, None, None, 9, None
    )
    found = {
        row.metric: row
        for row in summarise(rows, "matched", ("matched", "lstm"), {})
        if " - " in row.arm
    }
    nats, bits = found["loss_nats_difference"], found["bits_per_byte_difference"]
    assert nats.p is not None
    assert nats.p_holm == pytest.approx(nats.p), "one comparison alone"
    assert nats.low is not None
    assert bits.p is None


def test_few_questions_are_those_that_could_never_show_equivalence() -> None:
    for n in (8, 40, 71, 72, 250):
        _, high = over_questions([0.0] * n)
        assert few_questions(n) == (high > MARGINS["exact_match"])
    assert few_questions(71)
    assert not few_questions(72)


def test_rows_of_an_older_file_are_read(tmp_path: Path) -> None:
    row = Row("lstm", 0, "reverse", SPLIT, "exact_match", 0.85, 0.80, 0.89, 250, 0.004)
    old = {name: value for name, value in vars(row).items() if name not in ("p", "p_holm")}
    (tmp_path / "results.json").write_text(json.dumps([old]))
    assert read_rows(tmp_path / "results.json") == [row]
