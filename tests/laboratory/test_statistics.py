"""Intervals, p-values and their correction: textbook values, a slow twin, simulated coverage."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas
import pytest
import statsmodels.formula.api as models
from scipy import stats

from training.differences import differences_between, summarise
from training.intervals import (
    MARGINS,
    Marks,
    Row,
    few_questions,
    over_questions,
    over_runs,
    over_seeds,
    over_windows,
    read_rows,
    share_over_runs,
    sign_test,
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


@pytest.mark.parametrize("alpha", [0.05, 0.05 / 3])
def test_one_seeds_interval_and_exact_test_agree_for_every_outcome(alpha: float) -> None:
    """Zero lies outside of the interval exactly if the sign test is significant."""
    for n in (8, 20, 40) if alpha == 0.05 else (8, 20):
        for gained in range(n + 1):
            for lost in range(n + 1 - gained):
                found = [1.0] * gained + [-1.0] * lost + [0.0] * (n - gained - lost)
                low, high = over_questions(found, alpha)
                assert low <= (gained - lost) / n <= high
                assert (low > 0 or high < 0) == (sign_test(found) < alpha), (gained, lost, n)


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


# Losses on text: windows are crossed with seeds


def test_one_seeds_windows_have_students_interval_and_several_have_min_f() -> None:
    rng = np.random.default_rng(3)
    table = rng.normal(0.1, 0.2, (3, 40)) + rng.normal(0, 0.1, (3, 1))
    found = stats.ttest_1samp(table[0], 0)
    assert over_windows([table[0].tolist()])[2] == pytest.approx(found.pvalue)
    assert over_windows([table[0].tolist()])[:2] == pytest.approx(
        tuple(found.confidence_interval())
    )
    # Clark's min F' = F1 F2 / (F1 + F2), from the F of each analysis
    by_seed, by_window = (stats.ttest_1samp(table.mean(axis), 0) for axis in (1, 0))
    f1, f2 = by_seed.statistic**2, by_window.statistic**2
    smallest = f1 * f2 / (f1 + f2)
    freedom = (f1 + f2) ** 2 / (f1**2 / 39 + f2**2 / 2)
    p = stats.f.sf(smallest, 1, freedom)
    assert over_windows(table.tolist())[2] == pytest.approx(max(p, by_seed.pvalue))


def test_seeds_that_agree_do_not_hide_that_windows_are_a_sample() -> None:
    """Three seeds within 0.001 nats; the difference of a window varies by 0.2 nats."""
    rng = np.random.default_rng(4)
    noise = rng.normal(0, 0.2, 128)
    table = [(noise - noise.mean() - 0.7556 + shift).tolist() for shift in (-0.0005, 0, 0.0005)]
    low, high, p = over_windows(table)
    alone = over_seeds([float(np.mean(each)) for each in table])
    assert low is not None
    assert high is not None
    assert alone[0] is not None
    assert alone[1] is not None
    assert alone[1] - alone[0] < 0.003
    assert 0.06 < high - low < 0.08, "two standard errors of 128 windows on either side"
    assert p is not None
    assert p < 1e-6


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_intervals_over_seeds_and_windows_cover(seeds: int) -> None:
    """Seeds, windows, and both together vary; the spread of the seeds' mean is that of the windows'."""
    rng = np.random.default_rng(seeds)
    for of_seeds, of_windows, of_both in ((1.0, 1.0, 0.0), (0.0, 1.0, 1.0), (3.0, 1.0, 0.5)):
        covered = 0
        for _ in range(250):
            table = (
                of_seeds * np.sqrt(seeds) * rng.standard_normal((seeds, 1))
                + of_windows * np.sqrt(32) * rng.standard_normal((1, 32))
                + of_both * np.sqrt(32 * seeds) * rng.standard_normal((seeds, 32))
            )
            low, high, _ = over_windows(table.tolist())
            covered += low is not None and high is not None and low <= 0 <= high
        assert covered >= 227, (seeds, of_seeds, of_windows, of_both, covered)  # 3 errors less


def test_the_interval_of_a_loss_covers_windows_if_the_run_has_them() -> None:
    task = "text, after pretraining"
    arms = {"plain": [5.0, 5.01, 5.02], "lstm": [4.3, 4.31, 4.321]}
    rows, windows = [], {}
    rng = np.random.default_rng(5)
    for arm, losses in arms.items():
        noise = rng.normal(0, 0.3, 64)
        for seed, loss in enumerate(losses):
            for metric, unit in (("loss_nats", 1.0), ("bits_per_byte", 0.3)):
                rows.append(Row(arm, seed, task, "all", metric, unit * loss, None, None, 9, None))
            # sums over the tokens of a window, as a run saves them: the unit does not matter
            windows[arm, seed, task] = (64 * (loss + noise - noise.mean())).tolist()
    covered, alone = (
        {row.metric: row for row in summarise(rows, "plain", tuple(arms), {}, each) if row.controls}
        for each in (windows, None)
    )
    for metric in ("loss_nats_difference", "bits_per_byte_difference"):
        wide, narrow = covered[metric], alone[metric]
        assert (wide.covers, narrow.covers) == ("seeds and windows", "seeds")
        assert wide.value == narrow.value
        assert wide.low is not None
        assert wide.high is not None
        assert narrow.low is not None
        assert narrow.high is not None
        assert wide.high - wide.low > 10 * (narrow.high - narrow.low)
    bits, nats = covered["bits_per_byte_difference"], covered["loss_nats_difference"]
    assert bits.low == pytest.approx(0.3 * (nats.low or 0))
    one = [row for row in rows if row.seed == 0]
    (row,) = (
        row
        for row in summarise(one, "plain", tuple(arms), {}, windows)
        if row.controls and row.metric == "loss_nats_difference"
    )
    assert row.covers == "windows"
    assert row.p_holm is not None, "one seed is judged, over its held-out rows"


# Several controls


def judged_row(controls: dict[str, list[str]], ours: list[str]) -> tuple[Row, list[Row]]:
    """The judged difference of an arm, and its differences to all controls, each on its own."""
    arms = {**controls, "lstm": ours}
    rows, right = cell("reverse", arms)
    (found,) = (row for row in summarise(rows, list(controls), tuple(arms), right) if row.controls)
    alone = [
        next(
            row for row in summarise(rows, name, tuple(arms), right) if row.arm == f"lstm - {name}"
        )
        for name in controls
    ]
    return found, alone


def test_better_than_the_strongest_control_is_better_than_every_control() -> None:
    """Berger 1982: the p-value of an intersection-union test is the largest of all."""
    controls = {
        "plain": ["1" * 20 + "0" * 80],
        "matched": ["0" * 75 + "1" * 25],
        "shuffled": ["0" * 100],
    }
    row, alone = judged_row(controls, ["1" * 50 + "0" * 50])
    assert row.arm == "lstm - matched", "the control with the best mean"
    assert row.controls == 3
    assert row.value == pytest.approx(0.25)
    assert row.p == max(one.p or 0 for one in alone)
    assert row.low == min(one.low or 0 for one in alone)
    assert row.high is not None
    assert row.high > (alone[1].high or 1), "a choice of three: an interval at 1 - 0.05 / 3"


def test_worse_than_the_strongest_control_pays_for_the_choice() -> None:
    """Bonferroni: the strongest of three equal controls is better than an equal arm by chance."""
    controls = {
        "plain": ["0" * 100],
        "matched": ["1" * 12 + "0" * 88],
        "shuffled": ["1" * 3 + "0" * 97],
    }
    row, alone = judged_row(controls, ["0" * 97 + "1" * 3])
    assert row.arm == "lstm - matched"
    assert row.value == pytest.approx(-0.09)
    assert row.p == pytest.approx(3 * (alone[1].p or 0))
    assert row.low == min(one.low or 0 for one in alone)
    assert row.high is not None
    assert (row.high < 0) == (row.p < 0.05)


def test_a_smaller_loss_is_the_stronger_control() -> None:
    rows = [
        Row(arm, seed, "text", "all", "loss_nats", loss + 0.01 * seed * (arm != "lstm"), None,
            None, 9, None)
        for arm, loss in (("plain", 4.8), ("matched", 5.2), ("lstm", 4.7))
        for seed in range(3)
    ]  # fmt: skip
    arms = ("plain", "matched", "lstm")
    (row,) = (row for row in summarise(rows, arms[:2], arms, {}) if row.controls)
    assert row.arm == "lstm - plain"
    assert row.value < 0


def test_interval_and_p_value_of_a_judged_difference_agree() -> None:
    rng = np.random.default_rng(6)
    for _ in range(6):
        shares = rng.uniform(0.2, 0.8, 4)
        arms = [
            ["".join(rng.choice(["1", "0"], 40, p=[share, 1 - share])) for _ in range(2)]
            for share in shares
        ]
        named = dict(zip(("plain", "matched", "random", "lstm"), arms, strict=True))
        rows, right = cell("reverse", named)
        (row,) = (
            row for row in summarise(rows, list(named)[:3], tuple(named), right) if row.controls
        )
        assert row.low is not None
        assert row.high is not None
        assert row.p is not None
        assert row.low <= row.value <= row.high
        assert (row.low > 0 or row.high < 0) == (row.p < 0.05)


def test_differences_between_any_two_arms_can_be_read() -> None:
    arms = {"plain": ["0" * 20], "matched": ["01" * 10], "lstm": ["1" * 20], "gru": ["0111" * 5]}
    rows, right = cell("reverse", arms)
    summary = summarise(rows, ("plain", "matched"), tuple(arms), right)
    assert len([row for row in summary if " - " in row.arm]) == 6
    assert [row.arm for row in summary if row.controls] == ["lstm - matched", "gru - matched"]
    (one,), (other,) = (
        differences_between(summary, *pair) for pair in (("lstm", "gru"), ("gru", "lstm"))
    )
    assert one.arm == "lstm - gru"
    assert one.value == -other.value == pytest.approx(0.25)
    assert (one.low, one.high) == (-(other.high or 0), -(other.low or 0))
    assert one.p is not None
    assert one.p_holm is None, "it is there to be read, and not judged"
    assert differences_between(summary, "lstm", "cnn") == []


def test_fields_of_later_versions_are_saved_if_they_have_a_value(tmp_path: Path) -> None:
    row = Row("lstm", 0, "reverse", SPLIT, "exact_match", 0.85, 0.80, 0.89, 250, 0.004)
    assert "controls" not in row.saved, "files without differences stay the same"
    assert "covers" not in row.saved
    judged = Row("lstm - plain", "mean", "reverse", SPLIT, "exact_match_difference", 0.1, 0.05,
                 0.2, 250, None, 0.01, 0.02, 1, "questions")  # fmt: skip
    (tmp_path / "results.json").write_text(json.dumps([row.saved, judged.saved]))
    assert read_rows(tmp_path / "results.json") == [row, judged]
