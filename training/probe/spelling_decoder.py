"""The spelling decoder: a small GRU that generates the letters of a token from its vector.

The probe of Itzhak & Levy 2022 (arXiv 2108.11193). Unlike the linear probe, it learns which letters
follow each other. So its score must be compared with its score on shuffled vectors.

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

from .linear_probe import Vectors
from .tokens import ProbedTokens, ProbeSplit

_HIDDEN = 128
LONGEST = 16  # letters generated at most
END, _OTHER = 0, 1  # symbols: end of the word; a letter too rare to be learnt
_RARE = 2_000  # a letter is rare if fewer than one token in 2,000 contains it
STEPS, EPOCHS = 400, 6  # the larger of the two decides the number of steps
_BATCHES = 64  # batches in an epoch, at least
_BATCH = range(32, 513)  # sizes of a batch
_LEARNING_RATE, _DECAY, _CLIP, _WARM_UP = 8e-3, 0.01, 1.0, 20
_LOOKS = 10  # evaluations on `check`; the best of these states is kept


class SpellingDecoder(nn.Module):
    """Predict each symbol from the vector and the symbols before it.

    vectors (B, D), symbols (B, L) -> logits (B, L, S)
    """

    def __init__(self, dim: int, num_symbols: int) -> None:
        super().__init__()
        self.letters = nn.Embedding(num_symbols, _HIDDEN)
        # The vector sets the first state, and is an input at every step: a GRU forgets.
        self.start, self.again = nn.Linear(dim, _HIDDEN), nn.Linear(dim, _HIDDEN)
        self.gru = nn.GRU(_HIDDEN, _HIDDEN, batch_first=True)
        self.out = nn.Linear(_HIDDEN, num_symbols)

    def forward(self, vectors_BD: Tensor, symbols_BL: Tensor) -> Tensor:
        # The symbol before each one; before the first it is END. clamp: IGNORED is negative.
        before_BL = F.pad(symbols_BL[:, :-1].clamp(min=0), (1, 0), value=END)
        inputs_BLH = self.letters(before_BL) + self.again(vectors_BD)[:, None]
        states_BLH, _ = self.gru(inputs_BLH, self.start(vectors_BD).tanh()[None])
        logits: Tensor = self.out(states_BLH)
        return logits

    @torch.no_grad()
    def generate(self, vectors_BD: Tensor) -> Tensor:
        """Generate greedily: vectors (B, D) -> symbols (B, LONGEST + 1)."""
        symbols_B = torch.full((len(vectors_BD),), END)
        state, again_BH = self.start(vectors_BD).tanh()[None], self.again(vectors_BD)
        written = []
        for _ in range(LONGEST + 1):
            states_BLH, state = self.gru((self.letters(symbols_B) + again_BH)[:, None], state)
            symbols_B = self.out(states_BLH[:, 0]).argmax(1)
            written.append(symbols_B)
        return torch.stack(written, dim=1)


def spell_out(vectors: Vectors, tokens: ProbedTokens, split: ProbeSplit) -> list[str]:
    """Train a decoder on `fit`, and return its text for each held-out vector.

    The same arguments give the same texts. A rare letter is a question mark, which is never right.
    """
    counts = Counter(letter for text in tokens.texts for letter in set(text))
    frequent = (letter for letter, n in counts.items() if n * _RARE >= len(tokens.texts))
    alphabet = sorted(frequent)  # sorted: the symbols must not depend on the order of tokens
    symbols_NL = _symbols(tokens.texts, alphabet)
    with torch.random.fork_rng(devices=[]):  # the caller's random state stays as it was
        torch.manual_seed(stream("spelling decoder", split.number).getrandbits(63))
        decoder = SpellingDecoder(vectors.fit.shape[1], len(alphabet) + 2)
        _train(decoder, vectors, symbols_NL[split.fit], symbols_NL[split.check])
    spelled = ("", "?", *alphabet)
    texts = []
    for row in decoder.generate(vectors.held).tolist():
        letters = row[: row.index(END)] if END in row else row
        texts.append("".join(spelled[symbol] for symbol in letters))
    return texts


def _symbols(texts: list[str], alphabet: list[str]) -> Tensor:
    """Return (N, L) symbols: with the alphabet "ab", "ab" -> [2, 3, END, IGNORED, ...]."""
    index = {letter: number for number, letter in enumerate(alphabet, 2)}
    symbols_NL = torch.full((len(texts), LONGEST + 1), IGNORED)
    for row_L, text in zip(symbols_NL, texts, strict=True):
        written = [index.get(letter, _OTHER) for letter in text] + [END]
        row_L[: len(written)] = torch.tensor(written[: LONGEST + 1])
    return symbols_NL


def _train(decoder: SpellingDecoder, vectors: Vectors, fit_FL: Tensor, check_CL: Tensor) -> None:
    """Train on `fit`, and load the state with the lowest loss on `check`."""
    size = min(max(len(fit_FL) // _BATCHES, _BATCH.start), _BATCH.stop - 1)
    steps = max(STEPS, EPOCHS * len(fit_FL) // size)
    optimizer = torch.optim.AdamW(
        decoder.parameters(), _LEARNING_RATE, betas=(0.9, 0.98), weight_decay=_DECAY
    )
    batches, best, kept = _batches(fit_FL, size), float("inf"), decoder.state_dict()
    for step in range(1, steps + 1):
        # linear warm-up, then linear decay to zero
        rate = _LEARNING_RATE * min(1, step / _WARM_UP) * (1 - (step - 1) / steps)
        optimizer.param_groups[0]["lr"] = rate
        numbers_B = next(batches)
        optimizer.zero_grad()
        loss = _nats(decoder, vectors.fit[numbers_B], fit_FL[numbers_B])
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(decoder.parameters(), _CLIP)
        optimizer.step()
        if step % (steps // _LOOKS) == 0:  # early stopping: small tables are learnt by heart
            with torch.no_grad():
                found = float(_nats(decoder, vectors.check, check_CL))
            if found < best:
                best = found
                kept = {name: value.clone() for name, value in decoder.state_dict().items()}
    decoder.load_state_dict(kept)


def _batches(symbols_FL: Tensor, size: int) -> Iterator[Tensor]:
    """Yield numbers of tokens without end."""
    lengths_F = (symbols_FL != IGNORED).sum(1)
    while True:
        order_F = torch.randperm(len(symbols_FL))
        # Tokens of a batch have similar lengths, which halves the padding and so the time.
        pools = torch.split(order_F, 16 * size)
        near = torch.cat([pool[lengths_F[pool].argsort(stable=True)] for pool in pools])
        batches = torch.split(near, size)
        for number in torch.randperm(len(batches)).tolist():
            yield batches[number]


def _nats(decoder: SpellingDecoder, vectors_BD: Tensor, symbols_BL: Tensor) -> Tensor:
    """Return the mean cross-entropy (nats) over letters and ends."""
    symbols_BL = symbols_BL[:, : int((symbols_BL != IGNORED).sum(1).max())]
    logits_BLS = decoder(vectors_BD, symbols_BL)
    return F.cross_entropy(logits_BLS.flatten(0, 1), symbols_BL.flatten(), ignore_index=IGNORED)
