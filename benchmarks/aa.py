"""Count the headlines that claim a difference between arms that differ by nothing (an A/A test).

    python -m benchmarks.aa                     # 50 real runs of three seeds, then the simulation
    python -m benchmarks.aa --runs 0            # the simulation alone: two minutes of one core
    python -m benchmarks.aa --simulated 0       # the real runs alone: 15 minutes of one core

**Real runs.** Both arms have the same LSTM encoder and differ by the seed of its initial values
alone; all else of a seed is shared, as in any comparison. One arm plays the control. The models are
small and learn their task in part. Each run is trained, evaluated and judged by the code of
`training.compare`; each of its seeds is also judged as a run of one seed.

**Simulation.** Scores and losses with known components of variance, and no difference between the
arms in the mean: models of a seed differ, questions are drawn, and the loss of a window of text
depends on the arm and the model. They go through the same summary and headline, for 1 to 3 controls
and 1, 3 or 5 seeds.

The target is at most 5 %. For one seed the headline claims nothing about the arms; the table shows
how often it states a difference between the two models of the run, which do differ.
"""

from __future__ import annotations

import argparse
import gc
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import stats

from synthetic_tasks import Material, build_task
from training.config.config import CompareConfig
from training.config.flags import changed
from training.config.presets import preset
from training.differences import summarise
from training.errors import Interrupted
from training.intervals import ALPHA, Marks, Row, share_row, wilson
from training.report.headline import Headline, headline
from training.report.results import Results
from training.report.verdict import controls_of
from training.run.arm import train_arm
from training.run.machine import Machine
from training.run.run import Run

AGAIN = "again"  # the arm lstm with other initial values
CONTROLS = ("plain", "matched", "shuffled")
# Components of variance of the simulation. Scores are logits: 0.4 is 10 points at a score of 0.5.
MODEL, MODEL_AND_SPLIT = 0.4, 0.4  # standard deviation between the models of an arm
QUESTION = 1.0  # between questions; shared by the arms
LOSS_OF_MODEL, LOSS_OF_WINDOW, LOSS_OF_BOTH = 0.01, 0.1, 0.05  # nats per token
QUESTIONS, WINDOWS = 100, 128
TASKS = [build_task(name, Material()) for name in ("reverse", "count")]
CELLS = [(task.name, split.name) for task in TASKS for split in task.splits]
AT_ONCE = 200  # runs in memory


# Real runs


def setting(first_seed: int, seeds: int) -> CompareConfig:
    """Return a config of one small layer; a run of three seeds takes seconds of a core."""
    return changed(
        preset("tiny"), arms=(AGAIN, "lstm"), seeds=seeds, first_seed=first_seed,
        tasks=("first_letter",), width=32, char_dim=16, char_hidden=16, steps=20, batch_size=8,
        finetune_steps=95, finetune_batch_size=32, finetune_context=32, finetune_lr=1e-2,
        replay_share=0.0, questions=50, validation_rows=32,
    )  # fmt: skip


def real_runs(
    runs: int, seeds: int, cache: Path
) -> Iterator[tuple[Results, Headline, list[Headline]]]:
    """Yield the results and the headline of each run, and those of its seeds alone."""
    machine = Machine(cache=cache, threads=1, cpu=True, progress=False, jobs=1, measures=0)
    for number in range(runs):
        config = setting(number * seeds, seeds)
        with (
            tempfile.TemporaryDirectory() as out,
            Run.begin(Path(out) / "run", config, machine, preset="tiny", resume=False) as run,
        ):
            for arm in run.arms():
                train_arm(arm, machine)
            found = Results.of(run)
            run.assert_same_batches()
            alone = [_seed_alone(run, found, seed) for seed in config.seed_range]
        yield found, headline(found.summary, found.tasks, found.arms, seeds), alone


def _seed_alone(run: Run, found: Results, seed: int) -> Headline:
    """Judge one seed of a run as a run of one seed."""
    rows = [row for row in found.rows if row.seed == seed]
    marks: Marks = {}
    for one in found.answers:
        if one["seed"] == seed:
            cell = one["arm"], seed, one["task"], one["split"]
            marks.setdefault(cell, []).append(one["right"])
    windows = {key: each for key, each in (found.windows or {}).items() if key[1] == seed}
    summary = summarise(rows, controls_of(found.arms), found.arms, marks, windows)
    return headline(summary, found.tasks, found.arms, 1)


# Simulation


def drawn(
    controls: int, seeds: int, repetitions: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw runs in which no arm differs from another in the mean; the last arm is the judged one.

    Returns scores (repetitions, arms, cells, seeds, questions), and losses (repetitions, arms,
    seeds, windows) in nats per token.
    """
    runs, arms, cells = repetitions, controls + 1, len(CELLS)
    normal = rng.standard_normal
    logits = (
        1.5 * normal((runs, 1, cells, 1, 1))
        + MODEL * normal((runs, arms, 1, seeds, 1))
        + MODEL_AND_SPLIT * normal((runs, arms, cells, seeds, 1))
        + QUESTION * normal((runs, 1, cells, seeds, QUESTIONS))
    )
    right = rng.random(logits.shape) < 1 / (1 + np.exp(-logits))
    losses = (
        5
        + LOSS_OF_WINDOW * normal((runs, arms, 1, WINDOWS))
        + LOSS_OF_MODEL * normal((runs, arms, seeds, 1))
        + LOSS_OF_BOTH * normal((runs, arms, seeds, WINDOWS))
    )
    return right, losses


def headline_of(right: np.ndarray, losses: np.ndarray) -> Headline:
    """Write the headline of one drawn run, by the code of `training.compare`."""
    num_arms, _, seeds, _ = right.shape
    arms = (*CONTROLS[: num_arms - 1], "lstm")
    rows: list[Row] = []
    marks: Marks = {}
    windows = {}
    for place, arm in enumerate(arms):
        for seed in range(seeds):
            for of_cell, cell in zip(right[place, :, seed], CELLS, strict=True):
                marks[arm, seed, *cell] = of_cell.tolist()
                hits = int(of_cell.sum())
                rows.append(share_row(arm, seed, *cell, "exact_match", hits, QUESTIONS, 0.1))
            task, of_seed = "text, after fine-tuning", losses[place, seed]
            windows[arm, seed, task] = of_seed.tolist()
            mean = float(of_seed.mean())
            rows.append(Row(arm, seed, task, "all", "loss_nats", mean, None, None, 1, None))
    summary = summarise(rows, controls_of(arms), arms, marks, windows)
    return headline(summary, TASKS, arms, seeds)


def claims(right: np.ndarray, losses: np.ndarray) -> np.ndarray:
    """Whether the headline of each drawn run states a difference that holds: (repetitions,).

    The same tests as in training.differences and training.intervals, for many runs at once;
    `simulations` compares the two on some runs.
    """
    k = right.shape[1] - 1
    better, ps = [], []
    for place in range(k):
        minus = right[:, -1].astype(int) - right[:, place]  # (runs, cells, seeds, questions)
        gained, lost = ((minus == sign).sum((2, 3)) for sign in (1, -1))
        p = np.minimum(1, 2 * stats.binom.cdf(np.minimum(gained, lost), gained + lost, 0.5))
        p = np.maximum(p, _student(minus.mean(3))[0])
        loss = losses[:, -1] - losses[:, place]
        ps.append(np.concatenate([p, _of_text(loss)[:, None]], 1))
        better.append(np.concatenate([minus.mean((2, 3)), -loss.mean((1, 2))[:, None]], 1))
    gains, p_values = np.stack(better), np.stack(ps)  # (controls, runs, comparisons)
    strongest = gains.argmin(0)[None]
    gain, alone = (np.take_along_axis(each, strongest, 0)[0] for each in (gains, p_values))
    p = np.where(gain > 0, p_values.max(0), np.minimum(1, k * alone))
    found: np.ndarray = p.min(1) * p.shape[1] < ALPHA  # the first step of Holm's correction
    return found


def _student(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """p-values of a mean of zero over the last axis, and the squared standard errors."""
    n = values.shape[-1]
    if n == 1:
        return np.zeros(values.shape[:-1]), np.zeros(values.shape[:-1])
    error = values.std(-1, ddof=1) / n**0.5
    # equal values of all seeds: no interval over seeds, and the questions alone decide
    ratio = np.divide(
        abs(values.mean(-1)), error, out=np.full(error.shape, np.inf), where=error > 0
    )
    return 2 * stats.t.sf(ratio, n - 1), error**2


def _of_text(loss: np.ndarray) -> np.ndarray:
    """p-values of differences in loss (runs, seeds, windows): min F', and Student's over seeds."""
    seeds, windows = loss.shape[1:]
    of_seeds, by_seed = _student(loss.mean(2))
    of_windows, by_window = _student(loss.mean(1))
    if seeds == 1:
        return of_windows
    variance = by_seed + by_window
    freedom = variance**2 / (by_seed**2 / (seeds - 1) + by_window**2 / (windows - 1))
    both = 2 * stats.t.sf(abs(loss.mean((1, 2))) / variance**0.5, freedom)
    return np.maximum(both, of_seeds)


def simulations(repetitions: int, console: Console) -> None:
    """Print the share of headlines that state a difference, by the number of controls and seeds."""
    table = Table(
        "controls", "seeds", "states a difference that holds", "about",
        title=f"Simulated: {repetitions} runs each, {len(CELLS) + 1} comparisons in a run",
    )  # fmt: skip
    for controls in (1, 2, 3):
        for seeds in (1, 3, 5):
            rng = np.random.default_rng([controls, seeds])
            hits = 0
            for first in range(0, repetitions, AT_ONCE):
                right, losses = drawn(controls, seeds, min(AT_ONCE, repetitions - first), rng)
                found = claims(right, losses)
                hits += int(found.sum())
                if first == 0:  # the fast tests and those of the product agree
                    checked = [
                        headline_of(*each) for each in zip(right[:5], losses[:5], strict=True)
                    ]
                    assert [bool(each.claim) for each in checked] == found[:5].tolist(), checked
            about = "the two models of the run" if seeds == 1 else "the arms"
            table.add_row(str(controls), str(seeds), _share(hits, repetitions), about)
    console.print(table)


def shares(found: Iterable[Headline]) -> list[str]:
    """The shares of headlines that claim a difference, state one of a pair, or an uncertain one."""
    found = list(found)
    counts = Counter(
        one.claim or ("unsure" if "ot certain" in one.sentence else "") for one in found
    )
    return [_share(counts[claim], len(found)) for claim in ("arms", "models", "unsure")]


def _share(hits: int, n: int) -> str:
    low, high = wilson(hits, n)
    return f"{hits} of {n}: {hits / n:.3f} [{low:.3f} to {high:.3f}]"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--simulated", type=int, default=2000, help="simulated runs of each kind")
    parser.add_argument("--cache", type=Path, default=Path(".cache"))
    options = parser.parse_args()
    console = Console(width=120)
    if options.runs:
        _print_real(options, console)
    if options.simulated:
        simulations(options.simulated, console)


def _print_real(options: argparse.Namespace, console: Console) -> None:
    """Print a line for each run, and the shares of all finished ones, also after a Ctrl-C."""
    gc.freeze()  # a phase ends with a collection, which would walk through all of torch each time
    began, whole, alone, values = time.process_time(), [], [], []
    with suppress(KeyboardInterrupt, Interrupted):
        for found, first, of_seeds in real_runs(options.runs, options.seeds, options.cache):
            whole.append(first)
            alone += of_seeds
            values += [row.value for row in found.rows if row.metric == "exact_match"]
            seconds = time.process_time() - began
            console.print(
                f"{len(whole)}, {seconds:.0f} s of a core: {first.sentence}", highlight=False
            )
    if not whole:
        return
    middle = ", ".join(f"{share:.2f}" for share in np.quantile(values, (0.05, 0.5, 0.95)))
    console.print(f"Scores of the models, quantiles 5, 50 and 95 %: {middle}", highlight=False)
    table = Table("seeds", "claims a difference", "of one pair", "not certain yet",
                  title=f"Real runs: {len(whole)}")  # fmt: skip
    table.add_row(str(options.seeds), *shares(whole))
    table.add_row("1", *shares(alone))
    console.print(table)


if __name__ == "__main__":
    main()
