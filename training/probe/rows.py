"""What the probes say of one table under one split, as rows; means over splits, and differences.

    task      split                                         metric            majority
    letter    start, end, start 1 ..., end 1 ..., length 5  accuracy          the place's usual letter
    contains  all, a, b ...                                 auc               0.5
    length    all                                           accuracy          the usual length
    spell     all, length 5 ...                             exact_match       0: no constant answer is right
                                                            letter_accuracy   the place's usual letter

`arm` is the table's name, `seed` the number of the split, or "mean". Baselines are taken from the tokens that
a probe learnt from, as the probe is.

Axes: H held-out tokens, P places, K letters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from charembed.spelling_loss import IGNORED, PLACES
from training.intervals import Row, over_seeds, share_over_runs, wilson

from .held_out import ProbedTokens, Split
from .linear_probe import Vectors, areas, contained_scores, read_classes
from .spelling_decoder import LONGEST, spell_out

CHANCE = 0.5  # of an area under the curve
COMMON = 0.005  # share of the tokens that must hold a letter, and lack it, for its area to be asked
LENGTHS = PLACES + 1  # classes of length: 1 to 12, and longer
# What is shown first: the cells of a table's line, and their headings.
CELLS = {
    ("letter", "start", "accuracy"): "letters from the start",
    ("letter", "end", "accuracy"): "letters from the end",
    ("contains", "all", "auc"): "letters contained (AUC)",
    ("length", "all", "accuracy"): "length",
    ("spell", "all", "letter_accuracy"): "letters spelled out",
    ("spell", "all", "exact_match"): "tokens spelled out",
}


def letter_rows(name: str, vectors: Vectors, tokens: ProbedTokens, split: Split) -> list[Row]:
    """The letter at each place, from the start and from the end; a token's own length in the last slices."""
    read_HP = read_classes(vectors, split, tokens.letters_NP)
    true_HP, usual_P = tokens.letters_NP[split.held], most_frequent(tokens.letters_NP[split.fit])
    there_HP, right_HP, usual_HP = true_HP != IGNORED, read_HP == true_HP, true_HP == usual_P

    def row(part: str, of_HP: Tensor) -> Row | None:
        return share(
            name,
            split,
            "letter",
            part,
            "accuracy",
            right_HP[of_HP & there_HP],
            usual_HP[of_HP & there_HP],
        )

    rows, all_HP = [], torch.ones_like(there_HP)
    for end, first in (("start", 0), ("end", PLACES)):
        columns_P = torch.arange(2 * PLACES)
        rows.append(row(end, all_HP & (columns_P // PLACES == first // PLACES)))
        rows += [row(f"{end} {i + 1}", all_HP & (columns_P == first + i)) for i in range(PLACES)]
    from_start_P = torch.arange(2 * PLACES) < PLACES
    rows += [
        row(f"length {n}", of_H[:, None] & from_start_P) for n, of_H in by_length(tokens, split)
    ]
    return present(rows)


def contains_rows(name: str, vectors: Vectors, tokens: ProbedTokens, split: Split) -> list[Row]:
    """Whether a token contains a letter, by area under the curve: for each letter, and their mean."""
    letters = common_letters(tokens)
    contained_NK = torch.tensor([[letter in text for letter in letters] for text in tokens.texts])
    area_K = areas(
        contained_scores(vectors, split, contained_NK), contained_NK[split.held]
    ).tolist()
    known = [(letter, area) for letter, area in zip(letters, area_K, strict=True) if area == area]
    all_of_them = [("all", float(np.mean([area for _, area in known])))] if known else []
    return [
        Row(
            name, split.number, "contains", letter, "auc", area, None, None, len(split.held), CHANCE
        )
        for letter, area in all_of_them + known
    ]


def length_rows(name: str, vectors: Vectors, tokens: ProbedTokens, split: Split) -> list[Row]:
    classes_N1 = (tokens.lengths_N.clamp(max=LENGTHS) - 1)[:, None]
    read_H1, true_H1 = read_classes(vectors, split, classes_N1), classes_N1[split.held]
    usual_H1 = true_H1 == most_frequent(classes_N1[split.fit])
    return present([share(name, split, "length", "all", "accuracy", read_H1 == true_H1, usual_H1)])


def spell_rows(name: str, texts: Sequence[str], tokens: ProbedTokens, split: Split) -> list[Row]:
    """How what was written (`spell_out`) compares with the held-out texts, whole and letter by letter."""
    true = [tokens.texts[number] for number in split.held.tolist()]
    exact_H = torch.tensor([text == wanted for text, wanted in zip(texts, true, strict=True)])
    places = range(LONGEST)
    usual = [
        commonest(tokens.texts[number][i : i + 1] for number in split.fit.tolist()) for i in places
    ]
    rows = []
    for part, of_H in [
        ("all", torch.ones_like(exact_H)),
        *((f"length {n}", of_H) for n, of_H in by_length(tokens, split)),
    ]:
        numbers = of_H.nonzero().squeeze(1).tolist()
        letters = [(h, i) for h in numbers for i in range(min(len(true[h]), LONGEST))]
        right = torch.tensor([texts[h][i : i + 1] == true[h][i] for h, i in letters])
        usual_right = torch.tensor([usual[i] == true[h][i] for h, i in letters])
        rows.append(share(name, split, "spell", part, "letter_accuracy", right, usual_right))
        # the text of a held-out token is never one that was learnt from, so no constant answer is right
        rows.append(
            share(
                name,
                split,
                "spell",
                part,
                "exact_match",
                exact_H[of_H],
                torch.zeros(int(of_H.sum())),
            )
        )
    return present(rows)


LINEAR: dict[str, Callable[[str, Vectors, ProbedTokens, Split], list[Row]]] = {
    "letter": letter_rows,
    "contains": contains_rows,
    "length": length_rows,
}
PROBES = (*LINEAR, "spell")


def probe(
    name: str, vectors_ND: Tensor, tokens: ProbedTokens, split: Split, probes: Iterable[str]
) -> tuple[list[Row], list[str]]:
    """The rows of one table under one split, and what was spelled out for each held-out token."""
    vectors, rows, texts = Vectors.of(vectors_ND, split), list[Row](), list[str]()
    for which in probes:
        if which == "spell":
            texts = spell_out(vectors, tokens, split)
            rows += spell_rows(name, texts, tokens, split)
        else:
            rows += LINEAR[which](name, vectors, tokens, split)
    return rows, texts


def cell_of(row: Row) -> tuple[str, str, str]:
    return row.task, row.split, row.metric


def share(
    name: str, split: Split, task: str, part: str, metric: str, right: Tensor, usual: Tensor
) -> Row | None:
    """The share of right ones, with that of the usual answer; None where there is nothing to judge."""
    if not (n := right.numel()):
        return None
    hits = int(right.sum())
    return Row(
        name,
        split.number,
        task,
        part,
        metric,
        hits / n,
        *wilson(hits, n),
        n,
        float(usual.double().mean()),
    )


def present(rows: Iterable[Row | None]) -> list[Row]:
    return [row for row in rows if row is not None]


def by_length(tokens: ProbedTokens, split: Split) -> list[tuple[int, Tensor]]:
    """The lengths that a place can have, and which held-out tokens have them."""
    return [(n, tokens.lengths_N[split.held] == n) for n in range(1, PLACES + 1)]


def most_frequent(classes_FP: Tensor) -> Tensor:
    """(P): of each column the class that occurs most often, the first of several; -1 where there is none."""
    counts = [torch.bincount(column[column != IGNORED]) for column in classes_FP.T]
    return torch.tensor([int(count.argmax()) if len(count) else -1 for count in counts])


def commonest(letters: Iterable[str]) -> str:
    """Of some letters the one that occurs most often; "" counts for nothing."""
    found = sorted(filter(None, letters))
    values, counts = np.unique(found, return_counts=True)
    return str(values[counts.argmax()]) if found else ""


def common_letters(tokens: ProbedTokens) -> list[str]:
    """Those that enough of the tokens contain, and enough do not."""
    n, least = len(tokens.texts), COMMON * len(tokens.texts)
    letters = sorted(set("".join(tokens.texts)))
    counts = {letter: sum(letter in text for text in tokens.texts) for letter in letters}
    return [letter for letter, count in counts.items() if least <= count <= n - least]


def means(rows: Sequence[Row]) -> list[Row]:
    """Over splits: the mean, and its 95 % interval as the laboratory takes it over seeds (statistics.py)."""
    cells: dict[tuple[str, str, str, str], list[Row]] = {}
    for row in rows:
        cells.setdefault((row.arm, *cell_of(row)), []).append(row)
    summary = []
    for found in cells.values():
        values, ns = [row.value for row in found], [row.n for row in found]
        if found[0].metric == "auc":
            low, high = over_seeds(values)[:2]
        else:
            low, high = share_over_runs([round(row.value * row.n) for row in found], ns)
        majority = float(np.mean([row.majority or 0.0 for row in found]))
        summary.append(
            replace(
                found[0],
                seed="mean",
                value=float(np.mean(values)),
                low=low,
                high=high,
                n=sum(ns),
                majority=majority,
            )
        )
    return summary


def difference(rows: Sequence[Row], ours: str, theirs: str) -> list[Row]:
    """One table minus another in the cells that are shown first, paired by split; Student's interval."""
    value = {(row.arm, row.seed, *cell_of(row)): row for row in rows}
    differences = []
    for cell in CELLS:
        found = [row for row in rows if row.arm == ours and cell_of(row) == cell]
        pairs = [(row, other) for row in found if (other := value.get((theirs, row.seed, *cell)))]
        if pairs:
            values = [row.value - other.value for row, other in pairs]
            low, high, p = over_seeds(values)
            named = (f"{ours} - {theirs}", "mean", cell[0], cell[1], f"{cell[2]}_difference")
            n = sum(row.n for row, _ in pairs)
            differences.append(Row(*named, float(np.mean(values)), low, high, n, None, p))
    return differences
