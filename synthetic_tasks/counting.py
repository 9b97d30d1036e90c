"""Counting to n (arXiv 2407.15160): how often does a sequence's last symbol occur in it? a b b a b -> 3"""

from __future__ import annotations

from random import Random

from .draws import is_held_out
from .names import NAMES, bad_sizes, read_sizes
from .task import Item, Material, Split, Task

FORMS = ("M", "MxN")
FEWEST_SEQUENCES = 1000  # below that, an eighth of them is too few to ask about
RULE = (
    f"M symbols (2 to {len(NAMES)}) in sequences of N (M or more, 10 M if left out; M^N at least "
    f"{FEWEST_SEQUENCES}), such as counting:10x100"
)


class Counting(Task):
    """Query count: n symbols out of m; how often does the last one occur, itself included? With `most`, the
    paper's other task: how often does the most frequent one occur?

    Counting(2, 5).draw("seen", rng) -> Item("counting a b b a b", "3", ...)

    The count stands right behind the symbol, "b3": one token after another under every tokenizer, while many
    make " 3" two, and then the question is no longer what was read last. The count is drawn first, each with
    the same chance, so the best constant answer gets about m / 2n: 1 to 2n/m for the last symbol, and n/m to
    twice that for the most frequent one. The other places are filled at random, with no symbol more often
    than that. An eighth of all sequences is kept out of training; they make up the split "fresh". The
    sequences of "longer" are longer by half and their counts go up with it, so some answers there are numbers
    that no training answer was.
    """

    def __init__(self, m: int, n: int, *, most: bool = False) -> None:
        self.most = most
        self.name = f"{'counting_mfc' if most else 'counting'}:{m}x{n}"
        self.symbols = NAMES[:m]
        self._opening = "most frequent" if most else "counting"
        longer = n + (n + 1) // 2
        self._numbers = tuple(map(str, range(longer + 1)))
        self._draws: dict[str, tuple[int, bool | None]] = {
            "seen": (n, False),
            "fresh": (n, True),
            "longer": (longer, None),
        }
        self.splits = (
            Split("seen", "training sequences", "On sequences that training drew from"),
            Split(
                "fresh",
                "new sequences",
                "On sequences kept out of training",
                f"{n} of {m} symbols, as in training",
            ),
            Split(
                "longer",
                "longer sequences",
                "On sequences longer than any trained on",
                f"{longer} of {m} symbols, after training on {n}",
            ),
        )
        self.telling, self.deed = "fresh", "counts rightly in"
        asked = "the most frequent symbol" if most else "the last symbol"
        self.about = f"how often {asked} of a sequence occurs in it, {n} out of {m} symbols"
        self.axes = "the number of symbols; the length of the sequence"

    def draw(self, split: str, rng: Random) -> Item:
        length, held_out = self._draws[split]
        while True:
            sequence = self._sequence(length, rng)
            text = " ".join(sequence)
            if held_out in (None, is_held_out(text)):
                prompt = f"{self._opening} {text}"
                running = self._running(sequence)
                return Item(prompt, running[-1], prompt, running=running)

    def _sequence(self, length: int, rng: Random) -> list[str]:
        query = rng.choice(self.symbols)
        others = [symbol for symbol in self.symbols if symbol != query]
        if self.most:
            least = -(-length // len(self.symbols))
            highest = count = rng.randint(least, min(2 * least, length))
            last = []
        else:
            highest = 2 * length // len(self.symbols)
            count = rng.randint(1, highest)
            last = [query]
        rest = rng.sample(
            others * highest, length - count
        )  # none of them more often than `highest`
        sequence = [query] * (count - len(last)) + rest
        rng.shuffle(sequence)
        return sequence + last

    def _running(self, sequence: list[str]) -> tuple[str, ...]:
        """The answer after each symbol."""
        met = dict.fromkeys(self.symbols, 0)
        answers, most = [], 0
        for symbol in sequence:
            met[symbol] = count = met[symbol] + 1
            most = max(most, count) if self.most else count
            answers.append(self._numbers[most])
        return tuple(answers)

    def fixed_texts(self) -> list[str]:
        return [f"{self._opening} {' '.join(self.symbols)}"]


def build(name: str, sizes: str, material: Material) -> Counting:
    """ "counting:10x100", "counting:10" and "counting" are the same task."""
    m, *rest = read_sizes(name, sizes or "10", FORMS, RULE)
    n = rest[0] if rest else 10 * m
    if not 2 <= m <= len(NAMES) or n < m or m**n < FEWEST_SEQUENCES:
        raise bad_sizes(name, sizes, FORMS, RULE)
    return Counting(m, n, most=name == "counting_mfc")
