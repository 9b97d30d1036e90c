"""The scores of the probes on one table and one split, as rows; means over splits; differences.

    task      split                                     metric           majority baseline
    letter    start, end, start 1 ..., end 1 ...,       accuracy         letter of the place
              length 5 ...
    contains  all, a, b ...                             auc              0.5
    length    all                                       accuracy         length
    spell     all, length 5 ...                         exact_match      0: no constant is right
                                                        letter_accuracy  letter of the place

`arm` of a row is the name of the table, `seed` the number of the split, or "mean". The majority
baselines are computed on the tokens that train a probe.

Axes: H held-out tokens, P places, K letters.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from charembed.spelling_loss import IGNORED, PLACES
from training.intervals import Row, mean_row, over_seeds, share_row

from .linear_probe import Vectors, areas, contained_scores, read_classes
from .spelling_decoder import LONGEST, spell_out
from .tokens import ProbedTokens, ProbeSplit

_CHANCE = 0.5  # area under the curve of random scores
_COMMON = 0.005  # least share of tokens with a letter, and without it, for its area to be computed
_LENGTHS = PLACES + 1  # classes of length: 1 to 12, and longer
_Part = tuple[str, str, Tensor, Tensor]  # split and metric of a row, right answers, baseline's
# The columns of a table's line in the terminal and on the page: (task, split, metric) -> heading.
CELLS = {
    ("letter", "start", "accuracy"): "letters from the start",
    ("letter", "end", "accuracy"): "letters from the end",
    ("contains", "all", "auc"): "letters contained (AUC)",
    ("length", "all", "accuracy"): "length",
    ("spell", "all", "letter_accuracy"): "letters spelled out",
    ("spell", "all", "exact_match"): "tokens spelled out",
}


def _letter_rows(name: str, vectors: Vectors, tokens: ProbedTokens, split: ProbeSplit) -> list[Row]:
    """Score the letter at each place, from the start, from the end, and by the token's length."""
    read_HP = read_classes(vectors, split, tokens.letters_NP)
    true_HP, usual_P = tokens.letters_NP[split.held], _most_frequent(tokens.letters_NP[split.fit])
    there_HP, right_HP, usual_HP = true_HP != IGNORED, read_HP == true_HP, true_HP == usual_P
    columns_P = torch.arange(2 * PLACES)  # the first half from the start, the second from the end
    from_start_P = columns_P < PLACES
    masks: dict[str, Tensor] = {}
    for end, first, half_P in (("start", 0, from_start_P), ("end", PLACES, ~from_start_P)):
        masks[end] = half_P
        masks |= {f"{end} {i + 1}": columns_P == first + i for i in range(PLACES)}
    lengths = _by_length(tokens, split).items()
    masks |= {part: of_H[:, None] & from_start_P for part, of_H in lengths}
    there = {part: mask & there_HP for part, mask in masks.items()}
    parts = [(part, "accuracy", right_HP[of], usual_HP[of]) for part, of in there.items()]
    return _shares(name, split, "letter", parts)


def _contains_rows(
    name: str, vectors: Vectors, tokens: ProbedTokens, split: ProbeSplit
) -> list[Row]:
    """Score whether a token contains a letter, by area under the curve: mean and each letter."""
    n, least = len(tokens.texts), _COMMON * len(tokens.texts)
    counts = Counter(letter for text in tokens.texts for letter in set(text))
    letters = sorted(letter for letter, count in counts.items() if least <= count <= n - least)
    contained_NK = torch.tensor([[letter in text for letter in letters] for text in tokens.texts])
    scores_HK = contained_scores(vectors, split, contained_NK)
    area_K = areas(scores_HK, contained_NK[split.held]).tolist()
    # NaN, which differs from itself: all held-out tokens contain the letter, or none
    known = [(letter, area) for letter, area in zip(letters, area_K, strict=True) if area == area]
    mean = [("all", float(np.mean([area for _, area in known])))] if known else []
    held = len(split.held)
    return [
        Row(name, split.number, "contains", letter, "auc", area, None, None, held, _CHANCE)
        for letter, area in mean + known
    ]


def _length_rows(name: str, vectors: Vectors, tokens: ProbedTokens, split: ProbeSplit) -> list[Row]:
    """Score the number of letters of a token."""
    classes_N1 = (tokens.lengths_N.clamp(max=_LENGTHS) - 1)[:, None]
    read_H1, true_H1 = read_classes(vectors, split, classes_N1), classes_N1[split.held]
    usual_H1 = true_H1 == _most_frequent(classes_N1[split.fit])
    return _shares(name, split, "length", [("all", "accuracy", read_H1 == true_H1, usual_H1)])


def spell_rows(
    name: str, texts: Sequence[str], tokens: ProbedTokens, split: ProbeSplit
) -> list[Row]:
    """Score the texts of `spell_out` against the held-out tokens, whole and letter by letter."""
    true = [tokens.texts[number] for number in split.held.tolist()]
    exact_H = torch.tensor([text == wanted for text, wanted in zip(texts, true, strict=True)])
    fit = [tokens.texts[number] for number in split.fit.tolist()]
    # A plain letter by place, whatever came before it: the decoder must beat that.
    usual = [_commonest(text[i : i + 1] for text in fit) for i in range(LONGEST)]
    parts: list[_Part] = []
    for part, of_H in {"all": torch.ones_like(exact_H), **_by_length(tokens, split)}.items():
        numbers = of_H.nonzero().squeeze(1).tolist()
        letters = [(h, i) for h in numbers for i in range(min(len(true[h]), LONGEST))]
        right = torch.tensor([texts[h][i : i + 1] == true[h][i] for h, i in letters])
        usual_right = torch.tensor([usual[i] == true[h][i] for h, i in letters])
        parts.append((part, "letter_accuracy", right, usual_right))
        # No constant answer is right: held-out texts are never training texts.
        parts.append((part, "exact_match", exact_H[of_H], torch.zeros(len(numbers))))
    return _shares(name, split, "spell", parts)


_LINEAR: dict[str, Callable[[str, Vectors, ProbedTokens, ProbeSplit], list[Row]]] = {
    "letter": _letter_rows,
    "contains": _contains_rows,
    "length": _length_rows,
}


def probe(
    name: str, vectors_ND: Tensor, tokens: ProbedTokens, split: ProbeSplit, probes: Iterable[str]
) -> tuple[list[Row], list[str]]:
    """Return the rows of one table on one split, and the text spelled for each held-out token."""
    vectors, rows, texts = Vectors.of(vectors_ND, split), list[Row](), list[str]()
    for which in probes:
        if which == "spell":
            texts = spell_out(vectors, tokens, split)
            rows += spell_rows(name, texts, tokens, split)
        else:
            rows += _LINEAR[which](name, vectors, tokens, split)
    return rows, texts


def cell_of(row: Row) -> tuple[str, str, str]:
    """Return the key of a row's column; see CELLS."""
    return row.task, row.split, row.metric


def _shares(name: str, split: ProbeSplit, task: str, parts: Iterable[_Part]) -> list[Row]:
    """Return the row of each part that has tokens, with its majority baseline."""
    rows = []
    for part, metric, right, usual in parts:
        if n := right.numel():
            hits, baseline = int(right.sum()), float(usual.double().mean())
            rows.append(share_row(name, split.number, task, part, metric, hits, n, baseline))
    return rows


def _by_length(tokens: ProbedTokens, split: ProbeSplit) -> dict[str, Tensor]:
    """Return the mask of the held-out tokens of each length: "length 1" to "length 12"."""
    lengths_H = tokens.lengths_N[split.held]
    return {f"length {n}": lengths_H == n for n in range(1, PLACES + 1)}


def _most_frequent(classes_FP: Tensor) -> Tensor:
    """Return the most frequent class of each column, the lowest of several; -1 if it has none."""
    counts = [torch.bincount(column[column != IGNORED]) for column in classes_FP.T]
    return torch.tensor([int(count.argmax()) if len(count) else -1 for count in counts])


def _commonest(letters: Iterable[str]) -> str:
    """Return the most frequent letter, the first of several; "" does not count."""
    # sorted: the first of equally frequent letters must not depend on the order of tokens
    counts = Counter(sorted(filter(None, letters)))
    return max(counts, key=lambda letter: counts[letter], default="")


def means(rows: Sequence[Row]) -> list[Row]:
    """Return the mean of each cell over splits, with the 95 % interval of training/intervals.py."""
    cells: dict[tuple[str, str, str, str], list[Row]] = {}
    for row in rows:
        cells.setdefault((row.arm, *cell_of(row)), []).append(row)
    # An area is no share of tokens: its interval is over splits alone.
    return [mean_row(found, is_share=found[0].metric != "auc") for found in cells.values()]


def difference(rows: Sequence[Row], ours: str, theirs: str) -> list[Row]:
    """Return one table minus another for each of CELLS, paired by split; Student's interval."""
    by_cell = {(row.arm, row.seed, *cell_of(row)): row for row in rows}
    differences = []
    for cell in CELLS:
        found = [row for row in rows if row.arm == ours and cell_of(row) == cell]
        pairs = [(row, by_cell.get((theirs, row.seed, *cell))) for row in found]
        values = [row.value - other.value for row, other in pairs if other]
        if values:
            low, high, p = over_seeds(values)
            n, mean = sum(row.n for row, other in pairs if other), float(np.mean(values))
            named = (f"{ours} - {theirs}", "mean", *cell[:2], f"{cell[2]}_difference")
            differences.append(Row(*named, mean, low, high, n, None, p))
    return differences
