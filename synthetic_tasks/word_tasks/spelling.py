"""Tasks about the whole spelling of a word: spell, unspell, reverse."""

from .letters import spaced
from .recipe import Recipe

SPELL = Recipe(
    name="spell",
    description="the letters of a word, one by one: tea -> t e a",
    difficulty=(
        "the length of the word; letters that occur more than once; many letters in one token"
    ),
    verb_phrase="spells",
    solve=lambda word: word,
    # In the form "plain" the answer is the word itself, so copying the question is always right.
    spaced_answer=True,
)
UNSPELL = Recipe(
    name="unspell",
    description="the word whose letters are given: t e a -> tea",
    difficulty="the length of the word; how rare its tokens are, for here they have to be written",
    verb_phrase="puts together",
    solve=lambda word: word,
    spaced_word=True,
)
REVERSE = Recipe(
    name="reverse",
    description="the letters of a word from last to first: tea -> aet",
    difficulty=(
        "the length of the word; letters that occur more than once; many letters in one token"
    ),
    verb_phrase="reverses",
    solve=lambda word: word[::-1],
    spaced_answer=True,
    # The spelling comes first, so that a wrong letter can be told from a wrong order.
    scratchpad=spaced,
)
