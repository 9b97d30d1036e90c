"""Tasks about the whole spelling of a word: spell, unspell, reverse."""

from .letters import spaced
from .recipe import Recipe

# tea -> t e a
SPELL = Recipe(
    name="spell",
    solve=lambda word: word,
    # In the form "plain" the answer is the word itself, so copying the question is always right.
    spaced_answer=True,
)
# t e a -> tea
UNSPELL = Recipe(
    name="unspell",
    solve=lambda word: word,
    spaced_word=True,
)
# tea -> aet
REVERSE = Recipe(
    name="reverse",
    solve=lambda word: word[::-1],
    spaced_answer=True,
    # The spelling comes first, so that a wrong letter can be told from a wrong order.
    scratchpad=spaced,
)
