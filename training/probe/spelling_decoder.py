"""Spelled out: a small GRU reads one vector and writes the letters of its token, one after another.

The question of Itzhak & Levy 2022 (arXiv 2108.11193). Unlike the linear probe, the decoder knows which
letters tend to follow which, so it is to be read beside what it writes from the vectors of other tokens.

Axes: N tokens, B a batch, D width of the vectors, H width of the GRU, L letters written, S symbols.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from charembed.spelling_loss import IGNORED
from synthetic_tasks import stream

from .held_out import ProbedTokens, Split
from .linear_probe import Vectors

HIDDEN = 128
LONGEST = 16  # letters written at most
END, OTHER = 0, 1  # symbols: no letter any more; a letter too rare to be learnt
RARE = 2_000  # a letter that fewer than one token in so many has
STEPS, EPOCHS = (
    400,
    6,
)  # so many steps, and more where they would read the tokens less often than this
BATCHES = 64  # that the tokens make at least; a batch holds 512 at most
BATCH = range(32, 513)
LEARNING_RATE, DECAY, CLIP, WARM_UP = 8e-3, 0.01, 1.0, 20
LOOKS = 10  # times that the tokens for choices are asked; the best of these states is kept


class SpellingDecoder(nn.Module):
    """vectors (B, D), symbols (B, L) -> logits (B, L, S): of each symbol, after the ones before it."""

    def __init__(self, dim: int, num_symbols: int) -> None:
        super().__init__()
        self.letters = nn.Embedding(num_symbols, HIDDEN)
        self.start, self.again = nn.Linear(dim, HIDDEN), nn.Linear(dim, HIDDEN)
        self.gru = nn.GRU(HIDDEN, HIDDEN, batch_first=True)
        self.out = nn.Linear(HIDDEN, num_symbols)

    def forward(self, vectors_BD: Tensor, symbols_BL: Tensor) -> Tensor:
        before_BL = F.pad(symbols_BL[:, :-1].clamp(min=0), (1, 0), value=END)
        states_BLH, _ = self.gru(
            self.letters(before_BL) + self.again(vectors_BD)[:, None],
            self.start(vectors_BD).tanh()[None],
        )
        logits: Tensor = self.out(states_BLH)
        return logits

    @torch.no_grad()
    def write(self, vectors_BD: Tensor) -> Tensor:
        """(B, L): the likeliest symbol each time, fed back."""
        symbols_B = torch.full((len(vectors_BD),), END)
        state, again_BH = self.start(vectors_BD).tanh()[None], self.again(vectors_BD)
        written = []
        for _ in range(LONGEST + 1):
            states_BLH, state = self.gru((self.letters(symbols_B) + again_BH)[:, None], state)
            symbols_B = self.out(states_BLH[:, 0]).argmax(1)
            written.append(symbols_B)
        return torch.stack(written, dim=1)


def spell_out(vectors: Vectors, tokens: ProbedTokens, split: Split) -> list[str]:
    """What a decoder, taught on the vectors to learn from, writes for each held-out one.

    The same arguments give the same texts. Rare letters are written as a question mark, which is never right.
    """
    alphabet = frequent_letters(tokens.texts)
    symbols_NL = written_symbols(tokens.texts, alphabet)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream("spelling decoder", split.number).getrandbits(63))
        decoder = SpellingDecoder(vectors.fit.shape[1], len(alphabet) + 2)
        teach(decoder, vectors, symbols_NL, split)
    spelled = ("", "?", *alphabet)
    texts = []
    for row in decoder.write(vectors.held).tolist():
        letters = row[: row.index(END)] if END in row else row
        texts.append("".join(spelled[symbol] for symbol in letters))
    return texts


def frequent_letters(texts: list[str]) -> list[str]:
    counts = Counter(letter for text in texts for letter in set(text))
    return sorted(letter for letter, count in counts.items() if count * RARE >= len(texts))


def written_symbols(texts: list[str], alphabet: list[str]) -> Tensor:
    """(N, L): the symbols of each text and its end, then IGNORED. "ab" with alphabet "ab" -> [2, 3, END]"""
    index = {letter: number for number, letter in enumerate(alphabet, 2)}
    symbols_NL = torch.full((len(texts), LONGEST + 1), IGNORED)
    for row_L, text in zip(symbols_NL, texts, strict=True):
        written = [index.get(letter, OTHER) for letter in text] + [END]
        row_L[: len(written)] = torch.tensor(written[: LONGEST + 1])
    return symbols_NL


def teach(decoder: SpellingDecoder, vectors: Vectors, symbols_NL: Tensor, split: Split) -> None:
    """Train on `fit`; left in the state in which the letters of `check` were likeliest."""
    fit_FL, check_CL = symbols_NL[split.fit], symbols_NL[split.check]
    size = min(max(len(fit_FL) // BATCHES, BATCH.start), BATCH.stop - 1)
    steps = max(STEPS, EPOCHS * len(fit_FL) // size)
    optimizer = torch.optim.AdamW(
        decoder.parameters(), LEARNING_RATE, betas=(0.9, 0.98), weight_decay=DECAY
    )
    batches, best, kept = batches_of(fit_FL, size), float("inf"), decoder.state_dict()
    for step in range(1, steps + 1):
        optimizer.param_groups[0]["lr"] = (
            LEARNING_RATE * min(1, step / WARM_UP) * (1 - (step - 1) / steps)
        )
        numbers_B = next(batches)
        optimizer.zero_grad()
        nats(decoder, vectors.fit[numbers_B], fit_FL[numbers_B]).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(decoder.parameters(), CLIP)
        optimizer.step()
        if step % (steps // LOOKS) == 0:
            with torch.no_grad():
                found = float(nats(decoder, vectors.check, check_CL))
            if found < best:
                best, kept = (
                    found,
                    {name: value.clone() for name, value in decoder.state_dict().items()},
                )
    decoder.load_state_dict(kept)


def batches_of(symbols_FL: Tensor, size: int) -> Iterator[Tensor]:
    """Numbers of tokens, without end; those of a batch are about equally long: half of the work."""
    lengths_F = (symbols_FL != IGNORED).sum(1)
    while True:
        order_F = torch.randperm(len(symbols_FL))
        near = torch.cat(
            [some[lengths_F[some].argsort(stable=True)] for some in torch.split(order_F, 16 * size)]
        )
        batches = torch.split(near, size)
        for number in torch.randperm(len(batches)).tolist():
            yield batches[number]


def nats(decoder: SpellingDecoder, vectors_BD: Tensor, symbols_BL: Tensor) -> Tensor:
    """Mean over letters and ends."""
    symbols_BL = symbols_BL[:, : int((symbols_BL != IGNORED).sum(1).max())]
    logits_BLS = decoder(vectors_BD, symbols_BL)
    return F.cross_entropy(logits_BLS.flatten(0, 1), symbols_BL.flatten(), ignore_index=IGNORED)
