"""Functions in context (after arXiv 2311.00871): apply a hidden function, given some examples.

examples d b a > a b d; c e f > f e c; g a c: c a g
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from synthetic_tasks.draws import is_held_out
from synthetic_tasks.task import Item, Material, Split, Task

from .names import LETTERS, bad_sizes, read_sizes

_String = list[str]
_Function = Callable[[_String], _String]

# Letters whose capital is a name too, so that "upper" writes single tokens.
_NAMES = LETTERS.split()
# Sixteen, as the longest strings have 14 different symbols.
_LOWER = [name for name in _NAMES if name.islower() and name.upper() in _NAMES][:16]
_SHIFTED = {
    (case(symbol), step): case(_LOWER[(place + step) % len(_LOWER)])
    for case in (str.lower, str.upper)
    for place, symbol in enumerate(_LOWER)
    for step in (1, 2, 3)
}
_MIN_LENGTH = 3  # symbols of a string
_MAX_EXAMPLES, _MAX_LENGTH = 16, 12  # bounds of the prompt's length
_FORMS = ("K", "KxL")
_RULE = (
    f"K examples (0 to {_MAX_EXAMPLES}) of strings of {_MIN_LENGTH} to L symbols "
    f"(L from {_MIN_LENGTH} to {_MAX_LENGTH}, 4 by default), such as functions:2x4"
)


def _rotate(places: int) -> _Function:
    return lambda string: string[places:] + string[:places]


def _shift(step: int) -> _Function:
    return lambda string: [_SHIFTED[symbol, step] for symbol in string]


# The mixture of functions in training: a family is drawn uniformly, then one of its functions.
_FAMILIES: dict[str, tuple[_Function, ...]] = {
    "reverse": (lambda string: string[::-1],),
    "rotate": (_rotate(1), _rotate(2)),
    "shift": (_shift(1), _shift(2), _shift(3)),
    "upper": (lambda string: [symbol.upper() for symbol in string],),
    "first": (lambda string: string[:1] * len(string),),
}
# Name, label and place of each split.
_SPLITS = (
    ("seen", "training strings", "On strings that training drew from"),
    ("fresh", "inside the mixture", "On new strings under functions of the mixture"),
    ("held_out_family", "held-out family", "On a family that training never had"),
    ("composed", "two families composed", "On two functions of the mixture, one after the other"),
    ("longer", "longer strings", "On strings longer than any trained on"),
)
_TRAINED = tuple(function for family in _FAMILIES.values() for function in family)


def _swap_neighbours(string: _String) -> _String:
    """Apply the held-out family, which training never contains: a b c -> b a c."""
    pairs = [string[place : place + 2][::-1] for place in range(0, len(string), 2)]
    return [symbol for pair in pairs for symbol in pair]


class Functions(Task):
    """Infer a function from k examples and apply it.

    Functions(1, 4).draw("seen", rng) -> Item("examples d b a > a b d; g a c:", " c a g", ...)

    An item draws a family of functions, one of its functions, one length for all strings, and the
    strings, each of different symbols. All functions keep the length. Copying the last input is
    never right, and the majority baseline is near 0.

    An eighth of all strings is held out of training; all other splits ask about one of them.
    Outside the training mixture are `held_out_family`, `composed` (two functions of different
    families in a row) and `longer`. In the first two an item is drawn again if a trained function
    explains its examples and its answer: choosing among the trained functions is then never right.

    The score `of_the_mixture` is the share of answers that some trained function would give.
    """

    def __init__(self, num_examples: int, longest: int) -> None:
        self.num_examples, self.longest = num_examples, longest
        self.name = f"functions:{num_examples}x{longest}"
        shown = f"{num_examples} example{'' if num_examples == 1 else 's'}"
        families, lengths = ", ".join(_FAMILIES), f"{longest + 1} or {longest + 2} symbols"
        about = (
            shown,
            f"{shown} of one of {families}; copying is never right",
            f"{shown} of neighbours that change places",
            f"{shown} of two of {families}",
            f"{lengths}, after training on {_MIN_LENGTH} to {longest}; {shown}",
        )
        self.splits = tuple(Split(*row, text) for row, text in zip(_SPLITS, about, strict=True))
        self.main_split, self.verb_phrase = "fresh", "applies a hidden function in"
        self.description = f"what a hidden function makes of a string, after {shown}"
        functions = "functions outside of the mixture, or two in a row"
        self.difficulty = f"how few examples; {functions}; the strings' length"

    def draw(self, split: str, rng: Random) -> Item:
        lengths = (_MIN_LENGTH, self.longest)
        if split == "longer":
            lengths = (self.longest + 1, self.longest + 2)
        while True:
            function = _draw_function(split, rng)
            length = rng.randint(*lengths)
            # Without repeats: with them, two functions could give the same string.
            strings = [rng.sample(_LOWER, length) for _ in range(self.num_examples + 1)]
            if self._is_allowed(split, function, strings):
                break
        *examples, last = (" ".join(string) for string in strings)
        *results, answer = (" ".join(function(string)) for string in strings)
        pairs = zip(examples, results, strict=True)
        shown = "".join(f"{example} > {result}; " for example, result in pairs)
        prompt = f"examples {shown}{last}:"
        return Item(prompt, f" {answer}", prompt)

    def _is_allowed(self, split: str, function: _Function, strings: list[_String]) -> bool:
        # In training the examples must not show a held-out string either.
        held_out = [is_held_out(" ".join(string)) for string in strings]
        if split == "seen":
            return not any(held_out)
        outside = split in ("held_out_family", "composed")
        results = [function(string) for string in strings]
        known = [[trained(string) for string in strings] for trained in _TRAINED] if outside else []
        return held_out[-1] and results not in known

    def fixed_texts(self) -> list[str]:
        symbols = " ".join((*_LOWER, *map(str.upper, _LOWER)))
        return [f"examples {symbols} > {symbols}; {symbols}:"]

    def parts(self, given: str, item: Item) -> dict[str, bool]:
        # The right answer counts too, unless the function is outside the mixture.
        last = item.prompt.removesuffix(":").split("; ")[-1].removeprefix("examples ").split()
        return {"of_the_mixture": given.split() in [function(last) for function in _TRAINED]}


def _draw_function(split: str, rng: Random) -> _Function:
    if split == "held_out_family":
        return _swap_neighbours
    if split == "composed":
        one, other = (rng.choice(_FAMILIES[name]) for name in rng.sample(list(_FAMILIES), 2))
        return lambda string: other(one(string))
    return rng.choice(_FAMILIES[rng.choice(list(_FAMILIES))])


def build(name: str, sizes: str, material: Material) -> Functions:
    """Build the task; "functions", "functions:2" and "functions:2x4" are the same."""
    num_examples, *rest = read_sizes(name, sizes or "2", _FORMS, _RULE)
    longest = rest[0] if rest else 4
    if num_examples > _MAX_EXAMPLES or not _MIN_LENGTH <= longest <= _MAX_LENGTH:
        raise bad_sizes(name, sizes, _FORMS, _RULE)
    return Functions(num_examples, longest)
