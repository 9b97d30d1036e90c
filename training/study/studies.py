"""The neighbouring experiments: each a grid of configs of this laboratory, in a small and a published size.

A study is an entry of STUDIES; a size of it is a tuple of points, each a config with its place in the grid.
run.py trains them, findings.py reads what came out. docs/neighbours.md says what was published.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from training.config.config import CompareConfig
from training.config.flags import changed
from training.config.presets import QUICK
from training.errors import BadInput

from .findings import Findings, Measured, counting, functions, path_star

Places = Mapping[str, int | str]


@dataclass(frozen=True)
class Point:
    """One run of a study. Point("d8-m4", {"d": 8, "m": 4}, config)"""

    name: str
    at: Places
    config: CompareConfig


@dataclass(frozen=True, kw_only=True)
class Study:
    """A published experiment: the question, where it stands, its sizes, and how its rows are read.

    Sizes are `small`, minutes on two cores, `published`, for a GPU, and `tiny`, seconds in which nothing is
    learnt, for tests and for trying out flags.

    Attributes:
        asks: one sentence, the headline of the page until there are findings.
        published: what was seen there.
        source: the paper.
    """

    name: str
    asks: str
    published: str
    source: str
    sizes: Mapping[str, Callable[[], tuple[Point, ...]]]
    findings: Callable[[list[Measured]], Findings]

    def points(self, size: str, seeds: int) -> list[Point]:
        """The grid of a size, each point with so many seeds. Raises BadInput for a size that is none."""
        if size not in self.sizes:
            raise BadInput(f"there is no size {size!r}; choose one of {', '.join(self.sizes)}.")
        return [
            Point(point.name, point.at, changed(point.config, seeds=seeds))
            for point in self.sizes[size]()
        ]


def bare(**given: Any) -> CompareConfig:
    """A decoder without letters that reads questions alone, by the names of the flags that differ."""
    common = {
        "arms": ("plain",), "steps": 0, "replay_share": 0.0, "weight_decay": 0.0, "beta2": 0.98,
        "validation_rows": 1,
    }  # fmt: skip
    return changed(QUICK, **common | given)


def counting_points(
    task: str, widths: tuple[int, ...], symbols: tuple[int, ...], per_symbol: int, **given: Any
) -> tuple[Point, ...]:
    """A model of every width for every number of symbols m, on sequences of `per_symbol` m symbols."""
    return tuple(
        Point(
            f"d{width}-m{m}",
            {"d": width, "m": m},
            bare(
                tasks=(f"{task}:{m}x{per_symbol * m}",),
                width=width,
                layers=2,
                # the longest sequences asked about are half as long again
                finetune_context=max(64, per_symbol * m + (per_symbol * m + 1) // 2 + 12),
                **given,
            ),
        )
        for width in widths
        for m in symbols
    )


SMALL_COUNTING = {
    "heads": 1, "init_std": 0.2, "vocab_size": 1024, "objective": "every_prefix", "optimizer": "adamw",
    "finetune_batch_size": 32, "questions": 400,
}  # fmt: skip


def counting_small() -> tuple[Point, ...]:
    """Sequences of 4 m symbols, so that counts go to 8. A loss at every symbol, and weights that start larger
    than GPT-2's in so narrow a model: with both it is found in hundreds of steps how to count.
    """
    given = SMALL_COUNTING | {"finetune_lr": 1e-2, "finetune_steps": 1200}
    return counting_points("counting", (4, 6, 8, 10, 12), (3, 4, 6, 9, 13, 20), 4, **given)


def counting_mfc_small() -> tuple[Point, ...]:
    """As counting_small; the most frequent symbol takes longer to be found."""
    given = SMALL_COUNTING | {"finetune_lr": 5e-3, "finetune_steps": 3000}
    return counting_points("counting_mfc", (4, 8, 16), (3, 4, 6, 9, 13), 4, **given)


def counting_published(task: str) -> tuple[Point, ...]:
    """The paper's sizes. The standard deviation of the first weights is ours: with GPT-2's 0.02 models this
    narrow hardly begin to learn.
    """
    return counting_points(
        task, (8, 16, 32, 64, 128), (5, 10, 15, 20, 25, 30, 40, 50, 75, 100, 125, 150), 10,
        heads=4, init_std=0.1, optimizer="adamw", finetune_lr=1e-4, schedule="constant",
        finetune_batch_size=16, finetune_steps=100_000, questions=1600,
    )  # fmt: skip


OBJECTIVES = ("next_token", "reversed", "teacherless")


def path_star_points(graphs: Mapping[int, str], **given: Any) -> tuple[Point, ...]:
    """Every objective for every number of arms d."""
    return tuple(
        Point(
            f"{objective}-d{arms}",
            {"objective": objective, "d": arms},
            bare(tasks=(task,), objective=objective, **given),
        )
        for objective in OBJECTIVES
        for arms, task in graphs.items()
    )


def path_star_small() -> tuple[Point, ...]:
    return path_star_points(
        {2: "path_star:2x5x13", 3: "path_star:3x4x13"},
        layers=2, heads=1, width=64, optimizer="adamw", finetune_lr=3e-3, finetune_batch_size=64,
        finetune_steps=2500, finetune_context=96, questions=500,
    )  # fmt: skip


def path_star_published() -> tuple[Point, ...]:
    """As the authors' public script sets it, but for the graphs: new ones in every step, where they had
    200,000 and went through them a hundred times.
    """
    return path_star_points(
        {2: "path_star:2x5", 5: "path_star:5x5", 10: "path_star:10x5", 20: "path_star:20x5"},
        layers=6, heads=6, width=240, optimizer="adamw", beta2=0.999, finetune_lr=5e-4, finetune_warmup=100,
        finetune_batch_size=64, finetune_steps=312_500, finetune_context=350, questions=2000,
    )  # fmt: skip


def functions_points(examples: tuple[int, ...], longest: int, **given: Any) -> tuple[Point, ...]:
    """One model for all numbers of examples: it reads items of each."""
    tasks = tuple(f"functions:{k}x{longest}" for k in examples)
    return (Point("mixture", {"longest": longest}, bare(tasks=tasks, **given)),)


def functions_small() -> tuple[Point, ...]:
    return functions_points(
        (0, 1, 2, 4), 4,
        layers=3, heads=4, width=64, optimizer="muon", finetune_lr=3e-3, finetune_batch_size=64,
        finetune_steps=4000, finetune_context=96, questions=250,
    )  # fmt: skip


def functions_published() -> tuple[Point, ...]:
    return functions_points(
        (0, 1, 2, 4, 8, 16), 8,
        layers=12, heads=8, width=256, optimizer="adamw", finetune_lr=1e-4, finetune_batch_size=64,
        finetune_steps=500_000, finetune_context=400, questions=1000,
    )  # fmt: skip


TINY = {
    "layers": 1, "heads": 2, "width": 16, "vocab_size": 512, "finetune_steps": 6, "finetune_batch_size": 4,
    "finetune_context": 160, "questions": 20,
}  # fmt: skip


def counting_tiny(task: str) -> tuple[Point, ...]:
    own = ("layers", "width", "finetune_context")  # a grid of counting has its own
    return counting_points(
        task, (4, 8), (2, 4), 5, **{k: v for k, v in TINY.items() if k not in own}
    )


def path_star_tiny() -> tuple[Point, ...]:
    return path_star_points({2: "path_star:2x3x11", 3: "path_star:3x3x11"}, **TINY)


def functions_tiny() -> tuple[Point, ...]:
    return functions_points((0, 1), 3, **TINY)


COUNTING_PAPER = "Yehudai et al., When Can Transformers Count to n?, arXiv 2407.15160"
STUDIES: dict[str, Study] = {
    study.name: study
    for study in (
        Study(
            name="counting",
            asks="How many different symbols can a model count among, by its width?",
            published="Up to some number of symbols, m_thr, a model of width d counts a symbol that "
            "is asked about rightly; beyond it, it fails; m_thr grows about linearly in d.",
            source=COUNTING_PAPER,
            sizes={
                "tiny": lambda: counting_tiny("counting"),
                "small": counting_small,
                "published": lambda: counting_published("counting"),
            },
            findings=counting,
        ),
        Study(
            name="counting_mfc",
            asks="Among how many different symbols can a model count the most frequent one, by its width?",
            published="As for a named symbol: m_thr grows about linearly in the width d.",
            source=COUNTING_PAPER,
            sizes={
                "tiny": lambda: counting_tiny("counting_mfc"),
                "small": counting_mfc_small,
                "published": lambda: counting_published("counting_mfc"),
            },
            findings=counting,
        ),
        Study(
            name="path_star",
            asks="Can a model plan the first step of a path when it is trained to write it forward?",
            published="Trained on the next token, a model follows edges and guesses the first step, right in "
            "1 of d arms; trained on the reversed path, or on all of it at once, it can solve the graph.",
            source="Bachmann & Nagarajan, The Pitfalls of Next-Token Prediction, arXiv 2403.06963",
            sizes={
                "tiny": path_star_tiny,
                "small": path_star_small,
                "published": path_star_published,
            },
            findings=path_star,
        ),
        Study(
            name="functions",
            asks="Which functions can a model tell from examples: those of its training alone?",
            published="Models select the right family among those of their training mixture from few "
            "examples, and fail on combinations and extremes outside of it.",
            source="Yadlowsky, Doshi & Tripuraneni, Pretraining Data Mixtures Enable Narrow Model Selection "
            "Capabilities in Transformer Models, arXiv 2311.00871",
            sizes={
                "tiny": functions_tiny,
                "small": functions_small,
                "published": functions_published,
            },
            findings=functions,
        ),
    )
}


def study_named(name: str) -> Study:
    """Raises BadInput for an unknown name."""
    if name not in STUDIES:
        raise BadInput(f"there is no study {name!r}; choose one of {', '.join(STUDIES)}.")
    return STUDIES[name]
