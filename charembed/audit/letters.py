"""Read the letters of tokens from their rows by linear discriminants that saw other tokens.

A discriminant for each place, counted from either end of a token, predicts the letter there. All
places share one covariance matrix, so a vocabulary takes seconds of a core. The texts are divided
into four parts, and the letters of a part are read by discriminants of the other three: no token is
read by a fit on itself, nor on a token of the same text (" the", "The").

Axes: V vocabulary, F fitted tokens, R read tokens, D width of a row, P places, K letters,
C = P K pairs of a place and a letter.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from charembed.progress import Advance
from charembed.spelling import SpellingTable
from charembed.spelling_loss import IGNORED, PLACES, spelling_targets

_PARTS = 4
_FEWEST = 100  # different texts; nothing can be learnt from fewer
_MAX_FITTED = 32_768  # tokens, evenly over the ids, if the vocabulary has more than twice as many
_LETTERS = 100  # K is at most this: the most frequent characters of the vocabulary
_OFTEN = 20  # in at least so many tokens
_SHRINKAGE = 0.1  # in units of the mean variance; 0.01 to 0.3 read SmolLM2's letters equally well
_SAMPLE = 2_000  # tokens on which the share of the vocabulary is measured
_CHUNK = 4_096  # rows at once
UNREAD = "?"  # a place more than 12 letters away from both ends, or a letter without a fit


@dataclass(frozen=True, kw_only=True)
class Readings:
    """The letters that were read from rows.

    Attributes:
        texts: by token id, the token's letters in lower case, without spaces around them.
        read: by token id, the letters that were read, as many as the token has.
        vocabulary: share of right letters in a sample of the vocabulary.
        baseline: share if the most frequent letter of each place is the answer.
    """

    texts: dict[int, str]
    read: dict[int, str]
    vocabulary: float
    baseline: float


@torch.no_grad()
def read_letters(
    rows_VD: Tensor,
    spellings: Sequence[bytes | None],
    ids: Sequence[int],
    progress: Advance | None = None,
) -> Readings | None:
    """Read the letters of some tokens, given their number: {9891: "cheese"} of the row of " cheese".

    Arguments:
        rows_VD: (V, D) rows of the embedding, as the model sees them.
        spellings: bytes of all tokens.
        ids: the tokens to read.
        progress: function of the number of finished and of all parts.

    Returns None if the vocabulary has fewer than 100 different texts.
    """
    texts = {
        i: text for i, one in enumerate(spellings) if i < len(rows_VD) and (text := _text(one))
    }
    if len(set(texts.values())) < _FEWEST:
        return None
    fitted = list(texts)
    if len(fitted) > 2 * _MAX_FITTED:
        fitted = fitted[:: -(-len(fitted) // _MAX_FITTED)]
    sample = fitted[:: -(-len(fitted) // _SAMPLE)]
    read = sorted({*sample, *(i for i in ids if i in texts)})
    fit = _Fit.of(rows_VD, texts, fitted)
    found, plain = dict[int, str](), dict[int, str]()
    for part in range(_PARTS):
        weights_DC, bias_PK, frequent_P = fit.without(part)
        tokens = [i for i in read if _part(texts[i]) == part]
        for first in range(0, len(tokens), _CHUNK):
            some = tokens[first : first + _CHUNK]
            scores_RC = fit.standardized(rows_VD, some) @ weights_DC
            scores_RPK = scores_RC.view(-1, *bias_PK.shape) + bias_PK
            numbers_RP = scores_RPK.argmax(-1)
            for token, numbers_P in zip(some, numbers_RP.tolist(), strict=True):
                found[token] = fit.joined(numbers_P, len(texts[token]))
                plain[token] = fit.joined(frequent_P, len(texts[token]))
        if progress is not None:
            progress(part + 1, _PARTS)
    return Readings(
        texts=texts,
        read=found,
        vocabulary=_share(texts, found, sample),
        baseline=_share(texts, plain, sample),
    )


def right_letters(text: str, read: str) -> int:
    """Count the places without a space where both have the same letter."""
    return sum(a == b and not a.isspace() for a, b in zip(text, read, strict=True))


def _share(texts: dict[int, str], read: dict[int, str], ids: Sequence[int]) -> float:
    return sum(right_letters(texts[i], read[i]) for i in ids) / sum(len(texts[i]) for i in ids)


def _text(spelling: bytes | None) -> str:
    """Return the text that is read: b" The" -> "the"; "" if it is no valid UTF-8."""
    try:
        return (spelling or b"").decode().strip().lower()
    except UnicodeDecodeError:
        return ""


def _part(text: str) -> int:
    return zlib.crc32(text.encode()) % _PARTS


@dataclass(frozen=True, eq=False)
class _Fit:
    """Sums over the fitted tokens of each part, from which any part can be left out."""

    letters: str  # K characters
    mean_D: Tensor
    std_D: Tensor
    counts: Tensor  # fitted tokens of each part
    grams: list[Tensor]  # (D, D) products of the standardized rows
    sums: list[Tensor]  # (P, K, D) sums of the rows with a letter at a place
    numbers: list[Tensor]  # (P, K) their numbers

    @classmethod
    def of(cls, rows_VD: Tensor, texts: dict[int, str], fitted: Sequence[int]) -> _Fit:
        often = Counter(letter for i in fitted for letter in set(texts[i]))
        letters = "".join(
            letter for letter, number in often.most_common(_LETTERS) if number >= _OFTEN
        )
        rows_FD = _rows(rows_VD, fitted)
        mean_D, std_D = rows_FD.mean(0), rows_FD.std(0)
        std_D = torch.where(std_D > 0, std_D, 1)
        rows_FD = (rows_FD - mean_D) / std_D
        letters_FP = _letter_numbers([texts[i] for i in fitted], letters)
        part_F = torch.tensor([_part(texts[i]) for i in fitted])
        grams, sums, numbers = list[Tensor](), list[Tensor](), list[Tensor]()
        for part in range(_PARTS):
            rows, classes = rows_FD[part_F == part], letters_FP[part_F == part]
            gram_DD = torch.zeros(2 * rows.shape[1:], dtype=torch.float64)
            for chunk in torch.split(rows, _CHUNK):
                gram_DD += chunk.T @ chunk
            grams.append(gram_DD)
            # a class more for other letters and for places that a token does not have
            summed = rows.new_zeros(classes.shape[1], len(letters) + 1, rows.shape[1])
            for place, sum_KD in enumerate(summed):
                sum_KD.index_add_(0, classes[:, place], rows)
            sums.append(summed[:, :-1])
            numbers.append(
                torch.stack([column.bincount(minlength=len(letters) + 1) for column in classes.T])
            )
        counts = torch.bincount(part_F, minlength=_PARTS)
        return cls(letters, mean_D, std_D, counts, grams, sums, [one[:, :-1] for one in numbers])

    def standardized(self, rows_VD: Tensor, ids: Sequence[int]) -> Tensor:
        return (_rows(rows_VD, ids) - self.mean_D) / self.std_D

    def without(self, part: int) -> tuple[Tensor, Tensor, list[int]]:
        """Fit without a part: weights (D, C = P K), biases (P, K), most frequent letters (P)."""
        others = [i for i in range(_PARTS) if i != part]
        covariance_DD = torch.stack([self.grams[i] for i in others]).sum(0)
        covariance_DD /= int(self.counts[others].sum())
        covariance_DD.diagonal().add_(_SHRINKAGE * float(covariance_DD.diagonal().mean()))
        numbers_PK = torch.stack([self.numbers[i] for i in others]).sum(0)
        sums_PKD = torch.stack([self.sums[i] for i in others]).sum(0)
        means_DC = (sums_PKD / numbers_PK.clamp(min=1)[..., None]).flatten(0, 1).T
        root_DD = torch.linalg.cholesky(covariance_DD)
        weights_DC = torch.cholesky_solve(means_DC.double(), root_DD).float()
        share_PK = numbers_PK / numbers_PK.sum(1, keepdim=True).clamp(min=1)
        # log(0) is -inf: a letter that no token has there is not read
        bias_PK = share_PK.log() - 0.5 * (means_DC * weights_DC).sum(0).view_as(share_PK)
        return weights_DC, bias_PK, numbers_PK.argmax(1).tolist()

    def joined(self, numbers_P: Sequence[int], length: int) -> str:
        """Take each letter of a token from the place at its nearer end."""
        read = []
        for i in range(length):
            near = min(i, length - 1 - i)
            place = near if near == i else PLACES + near
            read.append(self.letters[numbers_P[place]] if near < PLACES else UNREAD)
        return "".join(read)


def _rows(rows_VD: Tensor, ids: Sequence[int]) -> Tensor:
    return rows_VD[torch.tensor(ids, dtype=torch.long, device=rows_VD.device)].float().cpu()


def _letter_numbers(texts: Sequence[str], letters: str) -> Tensor:
    """Return the letter at each place as a number (F, P), K for none and for another letter."""
    table = SpellingTable.from_bytes([text.encode() for text in texts])
    targets_FP = spelling_targets(table, PLACES, PLACES)
    number_of = {letter: number for number, letter in enumerate(letters)}
    # the last entry is for the end of a word, which has the size of the alphabet
    numbers = [number_of.get(chr(one), len(letters)) for one in table.alphabet] + [len(letters)]
    return torch.tensor(numbers)[targets_FP.masked_fill(targets_FP == IGNORED, len(numbers) - 1)]
