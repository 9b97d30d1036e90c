"""Slow, obvious twins of the benchmarks' parsers, and of the answers to their questions."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

PLACES = (
    "first",
    "second",
    "third",
    "fourth",
    "fifth",
    "sixth",
    "seventh",
    "eighth",
    "ninth",
    "tenth",
)


def trim(text: str) -> str:
    while text and text[0].isspace():
        text = text[1:]
    while text and text[-1].isspace():
        text = text[:-1]
    return text


def cute_answer(generated: str, strips: bool = True) -> str | None:
    """Letter by letter: find the last "Answer:", stop at "</s>", then read from the first quote on."""
    text = ' Answer: "' + generated
    start = 0
    for i in range(len(text)):
        if text[i : i + 7] == "Answer:":
            start = i + 7
    answer, quotes = "", 0
    for i in range(start, len(text)):
        if text[i : i + 4] == "</s>":
            break
        if text[i] == '"':
            quotes += 1
        elif quotes == 1:
            answer += text[i]
    if not quotes:
        return None
    return trim(answer) if strips else answer


def charbench_number(generated: str) -> int | None:
    """A sign or none, then digits of any script, single underscores between them, and nothing else."""
    text = trim(generated)
    digits = text[1:] if text[:1] in ("+", "-") else text
    value, before = 0, "_"
    for letter in digits:
        digit = unicodedata.decimal(letter, None)
        if digit is None and (letter != "_" or before == "_"):
            return None
        value = value if digit is None else value * 10 + int(digit)
        before = letter
    if before == "_":
        return None
    return -value if text[0] == "-" else value


def nanochat_number(generated: str) -> str | None:
    """The first number after four hashes and a space, without its commas."""
    for i in range(len(generated)):
        if generated[i : i + 5] != "#### ":
            continue
        j = i + 5
        sign = generated[j : j + 1] if generated[j : j + 1] == "-" else ""
        j, number = j + len(sign), ""
        while j < len(generated) and generated[j] in "0123456789.,":
            number, j = number + generated[j], j + 1
        if number:
            return sign + "".join(letter for letter in number if letter != ",")
    return None


def first_line(generated: str) -> str:
    line = ""
    for letter in generated:
        if letter == "\n":
            break
        line += letter
    return trim(line)


def solve(task: str, named: Sequence[str]) -> str:
    """The answer to a question of CUTE, CharBench, nanochat or Spelling Bee, from its arguments."""
    name = task.partition("/")[2].removesuffix("_rand")
    if name in ("spell", "spell_inverse"):
        return " ".join(named[0]) if name == "spell" else "".join(named[0].split(" "))
    if name == "SimpleSpelling":
        return named[0] + ":" + ",".join(named[0])
    if name.endswith(("_char", "_word")) and not name.startswith("find"):
        return _change(name, named)
    if name == "orth":
        return min(named[1:], key=lambda other: _distance(named[0], other))
    if name == "reverse":
        return "".join(named[0][i] for i in range(len(named[0]) - 1, -1, -1))
    if name == "index":
        return named[0][PLACES.index(named[1])]
    if name == "count_unique_chars":
        return str(sum(1 for i, letter in enumerate(named[0]) if letter not in named[0][:i]))
    places = [i for i, letter in enumerate(named[0]) if letter.lower() == named[1].lower()]
    if name == "find_first_occurrence":
        return str(places[0])
    return str(places[-1]) if name == "find_last_occurrence" else str(len(places))


def _change(name: str, named: Sequence[str]) -> str:
    """Word by word or letter by letter, as a person would write the answer down."""
    operation, _, of = name.partition("_")
    parts = list(named[-1]) if of == "char" else named[-1].split(" ")
    written = []
    for part in parts:
        if operation == "ins":
            written += [part, named[0]] if part == named[1] else [part]
        elif operation == "sub":
            written.append(named[1] if part == named[0] else part)
        elif operation == "swap" and part in named[:2]:
            written.append(named[1] if part == named[0] else named[0])
        elif operation != "del" or part != named[0]:
            written.append(part)
    if operation == "contains":
        return "Yes" if any(part == named[0] for part in parts) else "No"
    return ("" if of == "char" else " ").join(written)


def _distance(a: str, b: str) -> int:
    """Levenshtein, by definition."""
    if not a or not b:
        return len(a) + len(b)
    if a[0] == b[0]:
        return _distance(a[1:], b[1:])
    return 1 + min(_distance(a[1:], b), _distance(a, b[1:]), _distance(a[1:], b[1:]))
