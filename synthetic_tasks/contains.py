"""contains: does a letter occur in a word? n, banana -> yes

Letters are drawn first and yes or no then, with a word to it: so that neither the one answer nor the letter
alone says more than a coin would. A letter that is in all words, or in none, is not asked about.
"""

from collections.abc import Sequence
from random import Random
from string import ascii_lowercase, ascii_uppercase, digits

from .letters import apart
from .word_task import Recipe
from .words import ACCENTS

OTHERS = (
    ascii_uppercase + digits + "".join(map(chr, ACCENTS.values()))
)  # only where words have any of them


def solve(word: str, letter: str) -> str:
    return "yes" if letter in word else "no"


def kinds(word: str) -> list[int]:
    """Two for each letter: 2 c where the letter of code point c is missing, 2 c + 1 where it is there."""
    plain = word.isascii() and word.islower() and word.isalpha()
    missing = set(ascii_lowercase if plain else ascii_lowercase + OTHERS).difference(word)
    return [2 * ord(letter) for letter in missing] + [
        2 * ord(letter) + 1 for letter in dict.fromkeys(word)
    ]


def draw(word: str, kind: int, rng: Random, words: Sequence[str]) -> tuple[str]:
    return (chr(kind // 2),)


def read(word: str, letter: str) -> str:
    """The letters to read before the answer is known: up to the letter, or all of them."""
    return word[: word.index(letter) + 1] if letter in word else word


QUESTIONS = (
    "Does the letter {a} occur in {word}?",
    "Is there a letter {a} in the word {word}?",
    "Do you find {a} among the letters of {word}?",
    "Say whether {a} is used to spell {word}.",
    "Has the word {word} got the letter {a}?",
    "Does one need {a} to write {word}?",
    "Look for {a} in {word}: is it there?",
    "Yes or no: the letter {a} is part of {word}",
    "If all of {word} were spelled aloud, would you hear {a}?",
    "Check {word} for the letter {a}.",
    "Can the letter {a} be seen in {word}?",
    "Among the letters of {word}, is one {a}?",
    "Is the letter {a} needed for the word {word}?",
    "Tell me if {word} holds the letter {a}.",
    "Is {a} one of the letters in {word}?",
    "Does a search for {a} in {word} find something?",
    "The spelling of {word}: is {a} in it?",
    "Is it true that the letter {a} stands somewhere in {word}?",
    "Answer with yes or no: does the spelling of {word} include {a}?",
    "Anywhere in {word}, does the letter {a} appear?",
)
ANSWERS = (
    "The answer is",
    "Yes or no:",
    "That is a",
    "I say",
    "Does it occur?",
    "Is it there?",
    "Found or not:",
    "Looked for and answered:",
    "In one word:",
    "After spelling it:",
    "Checked:",
    "It is a",
    "The letter's presence:",
    "My reply is",
    "Among its letters:",
    "Needed:",
    "The search says",
    "True or not:",
    "Included:",
    "Appears:",
)
RECIPE = Recipe(
    name="contains",
    about="whether a letter occurs in a word: n, banana -> yes",
    axes="where the letter stands; the length of the word; in words of mixed forms, a and A",
    deed="knows rightly what is contained in",
    names=("any letter",),
    draw=draw,
    solve=solve,
    kinds=kinds,
    paired=True,
    constants=("yes", "no"),
    work=lambda word, letter: apart(read(word, letter)),
    questions=QUESTIONS,
    answers=ANSWERS,
    compact="contains {a} {word}:",
)
