"""A made-up run: rows, scores, answers and metrics of any arms, tasks and seeds; its report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from synthetic_tasks import Material, Task, WordSplits, build_task
from training.differences import summarise
from training.intervals import Marks, Row, wilson
from training.report.breakdowns import BinRow
from training.report.report import write_report
from training.report.results import Results
from training.report.verdict import controls_of

WORDS = WordSplits(
    seen=("apple", "onion"),
    unseen_words=("lemon",),
    unseen_tokens=("spinach",),
    longer_words=("watermelons",),
    held_out=frozenset({b"ach"}),
)
ASKED = 40  # questions a cell
MIXED = ("reverse", "count", "path_star:2x5", "counting:10x100", "path_star:3x4")
MACHINE = {"cpu": "a CPU", "gpu": None, "threads_per_arm": 1}
Chance = Callable[[int, Task, str], float]  # of a right answer, by the arm's number, task and split


@dataclass(frozen=True)
class Phase:
    name: str
    kind: str
    title: str
    replay_share: float = 0.0
    replay_target: str = "text"
    replay_text: str = "corpus"


PHASES = (
    Phase("warmup_spelling", "spelling", "the spelling warm-up"),
    Phase("pretrain", "text", "pretraining"),
    Phase("finetune", "question", "fine-tuning", 0.1),
    Phase("tasks_only", "question", "tasks alone"),
)


def built(*specs: str) -> list[Task]:
    return [build_task(spec, Material(WORDS)) for spec in specs]


def rising(arms: Sequence[str]) -> Chance:
    """The scores rise from the first arm to the last."""
    return lambda number, task, split: 0.12 + 0.6 * number / max(1, len(arms) - 1)


def made_up(
    arms: Sequence[str],
    tasks: Sequence[Task],
    seeds: int = 1,
    *,
    asked: int = ASKED,
    chance: Chance | None = None,
) -> tuple[list[Row], Marks, list[dict[str, Any]]]:
    """Rows, marks and answers. Without a `chance`: `rising`."""
    chance = chance or rising(arms)
    rows: list[Row] = []
    marks: Marks = {}
    answers: list[dict[str, Any]] = []
    for seed in range(seeds):
        for number, arm in enumerate(arms):
            for task in tasks:
                for split in task.splits:
                    rng = Random(f"{arm} {seed} {task.name} {split.name}")
                    right = [rng.random() < chance(number, task, split.name) for _ in range(asked)]
                    share = (sum(right) / asked, *wilson(sum(right), asked), asked)
                    rows.append(Row(arm, seed, task.name, split.name, "exact_match", *share, 0.05))
                    marks[arm, seed, task.name, split.name] = right
                    for i, mark in enumerate(right):
                        item = task.draw(split.name, Random(i))
                        answers.append({
                            "arm": arm, "seed": seed, "task": task.name, "split": split.name,
                            "prompt": item.prompt, "expected": item.answer.strip(),
                            "given": item.answer.strip() if mark else "?", "right": mark,
                        })  # fmt: skip

            def row(
                task: str, metric: str, value: float, *, arm: str = arm, seed: int = seed
            ) -> Row:
                return Row(arm, seed, task, "all", metric, value, None, None, 9, None)

            jitter = Random(f"{arm} {seed}").random() / 50
            for phase in ("pretraining", "fine-tuning", "tasks alone"):
                rows.append(
                    row(f"text, after {phase}", "loss_nats", 4.9 + 0.1 * number + (seed and jitter))
                )
                rows.append(
                    row(f"text, after {phase}", "bits_per_byte", 1.6 + 0.03 * number + jitter)
                )
            rows += [
                row("all", "parameters", 1e6 + number),
                row("pretrain", "median_step_seconds", 0.1 + number / 100),
                row("finetune", "median_step_seconds", 0.05 + number / 100),
                row("all", "training_seconds", 60.0 + number),
            ]
    return rows, marks, answers


def made_up_metrics(
    arms: Sequence[str], seeds: int, phases: Sequence[Phase], steps: int = 80
) -> list[dict[str, Any]]:
    return [
        {
            "arm": arm, "seed": seed, "phase": phase.name, "step": step, "kind": phase.kind, "seconds": 0.1,
            "loss_nats": 5 - 2 * step / steps - number / 5 + Random(f"{seed} {step}").random() / 3,
        }
        for phase in phases for seed in range(seeds) for number, arm in enumerate(arms)
        for step in range(steps)
        if phase.kind != "spelling" or arm == "lstm"  # the others have no letters to warm up
    ]  # fmt: skip


def summary_of(arms: Sequence[str], tasks: Sequence[Task], seeds: int = 1, **how: Any) -> list[Row]:
    rows, marks, _ = made_up(arms, tasks, seeds, **how)
    return summarise(rows, controls_of(arms), arms, marks)


def results_of(
    arms: Sequence[str],
    tasks: Sequence[Task],
    seeds: int = 1,
    phases: Sequence[Any] = PHASES,
    steps: int = 80,
    by_word: Sequence[BinRow] = (),
    **how: Any,
) -> Results:
    rows, marks, answers = made_up(arms, tasks, seeds, **how)
    summary = summarise(rows, controls_of(arms), arms, marks)
    metrics = made_up_metrics(arms, seeds, phases, steps)
    found = Results(arms, tasks, phases, rows, summary, metrics, answers)
    return found._replace(by_word=by_word)


def page_of(
    out: Path,
    arms: Sequence[str],
    tasks: Sequence[Task],
    *,
    lr_factors: str = "",
    model: Mapping[str, Any] | None = None,
    trained: Sequence[Mapping[str, Any]] = (),
    **how: Any,
) -> str:
    """Run all steps of compare after training. Return the page. `how`: see results_of."""
    # runs of older versions have no lr_factors
    optional = {"lr_factors": lr_factors, "model": model, "phases": trained}
    facts = {
        "config": {"arms": list(arms)} | {name: one for name, one in optional.items() if one},
        "data": {
            "held_out_tokens": 299,
            "held_out_tokens_median_count_in_text": 216.0,
            "held_out_tokens_least_count_in_text": 54.0,
            "held_out_tokens_least_count_in_pretraining": 17.4,
        },
        "machine": MACHINE,
    }
    write_report(out, facts, "A decoder of 3 layers, 128 wide.", results_of(arms, tasks, **how))
    return (out / "report.html").read_text("utf-8")
