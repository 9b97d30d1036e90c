"""Counting (arXiv 2407.15160): how often does the last symbol occur? a b b a b -> 3"""

from __future__ import annotations

from random import Random

from synthetic_tasks.draws import is_held_out
from synthetic_tasks.task import Item, Material, Split, Task

from .names import NAMES, bad_sizes, read_sizes

_FORMS = ("M", "MxN")
_MIN_SEQUENCES = 1000  # an eighth of fewer sequences would be too few questions
_RULE = (
    f"M symbols (2 to {len(NAMES)}) in sequences of N (at least M, 10 M by default; M^N at least "
    f"{_MIN_SEQUENCES}), such as counting:10x100"
)


class Counting(Task):
    """Count the last of n symbols, drawn from m; with `most`, the most frequent one.

    Counting(2, 5).draw("seen", rng) -> Item("counting a b b a b", "3", ...)

    The count is drawn first, uniformly: from 1 to 2n/m for the last symbol, from n/m to 2n/m for
    the most frequent one. The majority baseline is thus about m / 2n and m / n. The other places
    are filled at random; no symbol exceeds the largest count.

    An eighth of all sequences is held out of training and forms the split "fresh". The sequences of
    "longer" are longer by half, so some of their counts are numbers that no training answer had.
    """

    def __init__(self, m: int, n: int, *, most: bool = False) -> None:
        self.most = most
        self.name = f"{'counting_mfc' if most else 'counting'}:{m}x{n}"
        self.symbols = NAMES[:m]
        self._opening = "most frequent" if most else "counting"
        longer = n + (n + 1) // 2
        self._numbers = tuple(map(str, range(longer + 1)))
        # Split -> length of a sequence, whether sequences are held out (None: all sequences).
        self._draws: dict[str, tuple[int, bool | None]] = {
            "seen": (n, False),
            "fresh": (n, True),
            "longer": (longer, None),
        }
        same = f"{n} of {m} symbols, as in training"
        more = f"{longer} of {m} symbols, after training on {n}"
        self.splits = (
            Split("seen", "training sequences", "On sequences that training drew from"),
            Split("fresh", "new sequences", "On sequences kept out of training", same),
            Split("longer", "longer sequences", "On sequences longer than any trained on", more),
        )
        self.main_split, self.verb_phrase = "fresh", "counts rightly in"
        symbol = "the most frequent symbol" if most else "the last symbol"
        self.description = f"how often {symbol} of a sequence occurs in it, {n} out of {m} symbols"
        self.difficulty = "the number of symbols; the length of the sequence"

    def draw(self, split: str, rng: Random) -> Item:
        length, held_out = self._draws[split]
        while True:
            sequence = self._sequence(length, rng)
            text = " ".join(sequence)
            if held_out in (None, is_held_out(text)):
                prompt = f"{self._opening} {text}"
                running = self._running(sequence)
                # The answer has no space: many tokenizers split " 3" in two, and the count would no
                # longer follow right after the symbol.
                return Item(prompt, running[-1], prompt, running=running)

    def _sequence(self, length: int, rng: Random) -> list[str]:
        symbol = rng.choice(self.symbols)
        others = [other for other in self.symbols if other != symbol]
        if self.most:
            # ceil: the most frequent symbol occurs at least this often.
            least = -(-length // len(self.symbols))
            largest = count = rng.randint(least, min(2 * least, length))
            last = []
        else:
            largest = 2 * length // len(self.symbols)
            count = rng.randint(1, largest)
            last = [symbol]
        # Sampled without replacement from `largest` copies of each: none occurs more often.
        rest = rng.sample(others * largest, length - count)
        sequence = [symbol] * (count - len(last)) + rest
        rng.shuffle(sequence)
        return sequence + last

    def _running(self, sequence: list[str]) -> tuple[str, ...]:
        """Return the answer after each symbol."""
        counts = dict.fromkeys(self.symbols, 0)
        answers, answer = [], 0
        for symbol in sequence:
            counts[symbol] += 1
            answer = max(answer, counts[symbol]) if self.most else counts[symbol]
            answers.append(self._numbers[answer])
        return tuple(answers)

    def fixed_texts(self) -> list[str]:
        return [f"{self._opening} {' '.join(self.symbols)}"]


def build(name: str, sizes: str, material: Material) -> Counting:
    """Build the task; "counting:10x100", "counting:10" and "counting" are the same."""
    m, *rest = read_sizes(name, sizes or "10", _FORMS, _RULE)
    n = rest[0] if rest else 10 * m
    if not 2 <= m <= len(NAMES) or n < m or m**n < _MIN_SEQUENCES:
        raise bad_sizes(name, sizes, _FORMS, _RULE)
    return Counting(m, n, most=name == "counting_mfc")
