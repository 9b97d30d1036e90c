"""Functions in context (after arXiv 2311.00871): a hidden function, some examples of it, one more input.

examples d b a > a b d; c e f > f e c; g a c: c a g
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from .draws import is_held_out
from .names import LETTERS, bad_sizes, read_sizes
from .task import Item, Material, Split, Task

String = list[str]
Function = Callable[[String], String]

LOWER = tuple(
    name for name in LETTERS.split() if name.islower() and name.upper() in LETTERS.split()
)[:16]
NEXT = {
    (case(symbol), step): case(LOWER[(place + step) % len(LOWER)])
    for case in (str.lower, str.upper)
    for place, symbol in enumerate(LOWER)
    for step in (1, 2, 3)
}
SHORTEST = 3  # symbols of a string
MOST_EXAMPLES, LONGEST = 16, 12
FORMS = ("K", "KxL")
RULE = (
    f"K examples (0 to {MOST_EXAMPLES}) of strings of {SHORTEST} to L symbols (L from {SHORTEST} to "
    f"{LONGEST}, 4 if left out), such as functions:2x4"
)


def rotate(places: int) -> Function:
    return lambda string: string[places:] + string[:places]


def shift(step: int) -> Function:
    return lambda string: [NEXT[symbol, step] for symbol in string]


# The mixture: a family, then one of its functions, are drawn with equal chances.
FAMILIES: dict[str, tuple[Function, ...]] = {
    "reverse": (lambda string: string[::-1],),
    "rotate": (rotate(1), rotate(2)),
    "shift": (shift(1), shift(2), shift(3)),
    "upper": (lambda string: [symbol.upper() for symbol in string],),
    "first": (lambda string: string[:1] * len(string),),
}
TRAINED = tuple(function for family in FAMILIES.values() for function in family)


def change_places(string: String) -> String:
    """Neighbours change places: the family that training never has. a b c -> b a c"""
    pairs = [string[place : place + 2][::-1] for place in range(0, len(string), 2)]
    return [symbol for pair in pairs for symbol in pair]


class Functions(Task):
    """A function that must be told from k examples and then applied. `mixture` names the split's functions.

    Functions(1, 4).draw("seen", rng) -> Item("examples d b a > a b d; g a c:", " c a g", ...)

    A family of FAMILIES is drawn first and then one of its functions, a length for all strings of the item,
    and the strings, each of different symbols. All families keep the length. Whoever copies the last input is
    never right, and one constant answer hardly ever.

    An eighth of all strings is kept out of training; every other split asks about one of these. Outside of
    the mixture are `held_out_family`, `composed` (two functions of different families, one after the other)
    and `longer`. An item is drawn again where a function of the mixture explains its examples and its answer,
    so that in the first two nobody is right who only chooses among the families of training.

    `parts` tells such a choice: `of_the_mixture` is the share of answers that some trained function gives.
    """

    def __init__(self, num_examples: int, longest: int) -> None:
        self.num_examples, self.longest = num_examples, longest
        self.name = f"functions:{num_examples}x{longest}"
        shown = f"{num_examples} example{'' if num_examples == 1 else 's'}"
        families = ", ".join(FAMILIES)
        self.splits = (
            Split("seen", "training strings", "On strings that training drew from", shown),
            Split(
                "fresh",
                "inside the mixture",
                "On new strings under functions of the mixture",
                f"{shown} of one of {families}; copying is never right",
            ),
            Split(
                "held_out_family",
                "held-out family",
                "On a family that training never had",
                f"{shown} of neighbours that change places",
            ),
            Split(
                "composed",
                "two families composed",
                "On two functions of the mixture, one after the other",
                f"{shown} of two of {families}",
            ),
            Split(
                "longer",
                "longer strings",
                "On strings longer than any trained on",
                f"{longest + 1} or {longest + 2} symbols, after training on {SHORTEST} to {longest}; {shown}",
            ),
        )
        self.telling, self.deed = "fresh", "applies a hidden function in"
        self.about = f"what a hidden function makes of a string, after {shown}"
        self.axes = "how few examples; functions outside of the mixture, or two in a row; the strings' length"

    def draw(self, split: str, rng: Random) -> Item:
        while True:
            function = draw_function(split, rng)
            lengths = (
                (self.longest + 1, self.longest + 2)
                if split == "longer"
                else (SHORTEST, self.longest)
            )
            length = rng.randint(*lengths)
            strings = [rng.sample(LOWER, length) for _ in range(self.num_examples + 1)]
            allowed = (
                not any(is_held_out(" ".join(string)) for string in strings)
                if split == "seen"
                else is_held_out(" ".join(strings[-1]))
            )
            outside = split in ("held_out_family", "composed")
            if allowed and not (
                outside and any(fits(known, function, strings) for known in TRAINED)
            ):
                break
        *examples, asked = (" ".join(string) for string in strings)
        *results, answer = (" ".join(function(string)) for string in strings)
        told = "".join(
            f"{given} > {result}; " for given, result in zip(examples, results, strict=True)
        )
        prompt = f"examples {told}{asked}:"
        return Item(prompt, f" {answer}", prompt)

    def fixed_texts(self) -> list[str]:
        symbols = " ".join((*LOWER, *map(str.upper, LOWER)))
        return [f"examples {symbols} > {symbols}; {symbols}:"]

    def parts(self, given: str, item: Item) -> dict[str, bool]:
        asked = item.prompt.removesuffix(":").split("; ")[-1].removeprefix("examples ").split()
        return {"of_the_mixture": given.split() in [function(asked) for function in TRAINED]}


def draw_function(split: str, rng: Random) -> Function:
    if split == "held_out_family":
        return change_places
    if split == "composed":
        one, other = (rng.choice(FAMILIES[name]) for name in rng.sample(list(FAMILIES), 2))
        return lambda string: other(one(string))
    return rng.choice(FAMILIES[rng.choice(list(FAMILIES))])


def fits(known: Function, function: Function, strings: list[String]) -> bool:
    """Whether a known function does to all these strings what the other one does."""
    return all(known(string) == function(string) for string in strings)


def build(name: str, sizes: str, material: Material) -> Functions:
    """ "functions", "functions:2" and "functions:2x4" are the same task."""
    num_examples, *rest = read_sizes(name, sizes or "2", FORMS, RULE)
    longest = rest[0] if rest else 4
    if num_examples > MOST_EXAMPLES or not SHORTEST <= longest <= LONGEST:
        raise bad_sizes(name, sizes, FORMS, RULE)
    return Functions(num_examples, longest)
