"""index: where does a letter first occur, counted from 0? n, banana -> 2"""

from collections.abc import Sequence
from random import Random

from .letters import apart, numbered
from .word_task import Recipe

LARGEST_KIND = 7  # positions 0 to 7 are asked for equally often


def solve(word: str, letter: str) -> str:
    return str(word.index(letter))


def kinds(word: str) -> list[int]:
    """The positions that are the first occurrence of their letter."""
    return [
        position
        for position, letter in enumerate(word[: LARGEST_KIND + 1])
        if word.index(letter) == position
    ]


def draw(word: str, kind: int, rng: Random, words: Sequence[str]) -> tuple[str]:
    return (word[kind],)


def read(word: str, letter: str) -> str:
    """The letters to read before the answer is known."""
    return word[: word.index(letter) + 1]


QUESTIONS = (
    "At which position does {a} first occur in {word}, counted from zero?",
    "What is the index of {a} in {word}?",
    "Where in {word} is the first {a}, if the first letter has number zero?",
    "How many letters stand before the first {a} in {word}?",
    "Give the position of {a} in the word {word}, starting at zero.",
    "In {word}, which index has the letter {a}?",
    "Counting from zero, where does {a} appear in {word}?",
    "Find the first {a} in {word} and tell its index.",
    "How far into {word} is the letter {a}?",
    "How many letters of {word} do you read before you meet {a}?",
    "The letters of {word} are numbered from zero: which number has {a}?",
    "Locate {a} within {word}.",
    "What number does the first {a} of {word} carry, from zero on?",
    "Before {a} comes up in {word}, how many letters go by?",
    "State the zero-based position of {a} in {word}.",
    "Which place does {a} take in {word}, when we start at zero?",
    "Say where {a} first stands in {word}.",
    "Search {word} for {a}: at what index is it found?",
    "How many steps from the start of {word} to its first {a}?",
    "Point to {a} in {word} with a number, zero for the start.",
)
ANSWERS = (
    "It first occurs at",
    "The index is",
    "The first one is number",
    "Letters before it:",
    "Its position is",
    "That letter has index",
    "It appears at",
    "Found at index",
    "It is this far in:",
    "Letters read before it:",
    "The number is",
    "Located at",
    "It carries the number",
    "Letters that go by:",
    "The zero-based position is",
    "Its place is",
    "It stands at",
    "The search ends at",
    "Steps from the start:",
    "The answer is",
)
RECIPE = Recipe(
    name="index",
    about="the place where a letter first occurs, counted from 0: n, banana -> 2",
    axes="the place, each of 0 to 7 equally often; whether the letter occurs again; the length of the word",
    deed="finds a letter's place in",
    names=("letter",),
    draw=draw,
    solve=solve,
    kinds=kinds,
    work=lambda word, letter: apart(read(word, letter)),
    counted=lambda word, letter: numbered(read(word, letter)),
    questions=QUESTIONS,
    answers=ANSWERS,
    compact="index {a} {word}:",
)
