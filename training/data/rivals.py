"""Rivals: the model without a character encoder, taught spellings in another way.

A rival is an entry of RIVALS under the name of its arm. It reads the same batches as the other
arms, in the same number of steps, and changes some of their rows. So "why not just train on
spellings?" has an answer in the same units as every other arm.

- `spelling_data`: a share of the questions is replaced by the spelling of a token that is drawn
  from the whole vocabulary, held-out tokens included. Our own form of TIPA (Xu et al., ACL 2025).
- `spelled_prompt`: each question also gives the letters of its word, in training and evaluation,
  after "Broken Tokens" (Zheng et al. 2025, arXiv 2506.19004).
- `stochastok`: tokens of text and questions are split at random into pieces that are tokens too
  (Sims et al. 2025, arXiv 2506.01687). The evaluation splits nothing.
- `spelling_loss`: heads predict the letters of each token from its vector, in every phase.

Axes: B rows, T tokens per row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from random import Random

from synthetic_tasks import Item, stream
from training.config.config import CompareConfig
from training.config.phase import Phase
from training.errors import BadInput
from training.models.objectives import EncodedQuestion, Example

from .batches import Batch, BatchAt, pad_examples
from .prepare import Data
from .questions import encode_item
from .tokenizers import Tokenizer

Pairs = dict[int, list[tuple[int, int]]]  # the ways to split a token into two others


@dataclass(frozen=True, kw_only=True)
class Rival:
    """The differences of one rival from the arm `plain`.

    Attributes:
        data: the data that the arm is trained and evaluated with.
        phase: (config, phase) -> the phase of the arm.
        batches: (batches, data, phase, seed) -> the batches of the arm, each a function of k.
    """

    data: Callable[[Data], Data] = lambda data: data
    phase: Callable[[CompareConfig, Phase], Phase] = lambda config, phase: phase
    batches: Callable[[BatchAt, Data, Phase, int], BatchAt] = lambda batch_at, *_: batch_at


def data_of(arm: str, data: Data) -> Data:
    """The data that an arm is trained and evaluated with: `data` itself, except for some rivals."""
    return RIVALS[arm].data(data) if arm in RIVALS else data


def phases_of(arm: str, config: CompareConfig) -> list[Phase]:
    """The phases of an arm, with its own learning rates (`lr_factors`) and a rival's changes."""
    factor = config.lr_factor(arm)
    phases = [replace(phase, lr=phase.lr * factor) for phase in config.phases]
    return [RIVALS[arm].phase(config, phase) for phase in phases] if arm in RIVALS else phases


def rows_of(examples: Batch) -> list[Example]:
    """The rows of a padded batch of questions; the inverse of `pad_examples`."""
    assert examples.keep_BT is not None, "rows of text have no padding"
    rows = []
    for ids, targets, keep in zip(
        examples.ids_BT.tolist(), examples.targets_BT.tolist(), examples.keep_BT.tolist(),
        strict=True,
    ):  # fmt: skip
        first, end = keep.index(True), len(keep) - keep[::-1].index(True)
        rows.append(Example(ids[:end], targets[:end], first))
    return rows


# Spelling data


@dataclass(frozen=True)
class SpelledTokens:
    """Questions that ask for the letters of one token: "spell", the token, ":".

    The token keeps its id, also if the three texts together would be tokenized otherwise.
    """

    tokenizer: Tokenizer
    ids: Sequence[int]  # of the tokens that are asked for
    before: Sequence[int]
    after: Sequence[int]

    @classmethod
    def of(cls, data: Data) -> SpelledTokens:
        """Take the tokens that can occur in the words of the run. Raises BadInput for none."""
        mixed, found = data.config.data.word_forms == "mixed", []
        for token, spelling in enumerate(data.tokenizer.spellings):
            text = (spelling or b"").decode("utf-8", "replace").removeprefix(" ")
            # other tokens would take the place of those that questions contain
            if text.isalnum() and (mixed or (text.isascii() and text.isalpha() and text.islower())):
                found.append(token)
        if not found:
            raise BadInput(
                "the arm 'spelling_data' spells tokens of letters, and the vocabulary has none: "
                "leave the arm out."
            )
        encode = data.tokenizer.encode
        return cls(data.tokenizer, found, encode("spell"), encode(":"))

    def draw(self, rng: Random) -> tuple[list[int], list[int]]:
        """The ids of a prompt and of its answer: "spell stated:", " s t a t e d\\n"."""
        token = rng.choice(self.ids)
        text = (self.tokenizer.spellings[token] or b"").decode().removeprefix(" ")
        # encoded after a colon, as the answers of the tasks are
        answer = encode_item(self.tokenizer, Item("x:", f" {' '.join(text)}", text))[1]
        return [*self.before, token, *self.after], answer


def _with_spelling_data(batch_at: BatchAt, data: Data, phase: Phase, seed: int) -> BatchAt:
    tokens, objective = SpelledTokens.of(data), data.questions(phase.context).objective
    share = data.config.spelling_share
    key = ("spelling data", phase.name, seed)

    def spelled(rng: Random) -> Example | None:
        prompt, answer = tokens.draw(rng)
        if len(prompt) + len(answer) > phase.context + 1:
            return None
        return objective.arrange(EncodedQuestion(prompt, answer, data.dummy))

    def replaced(k: int) -> Batch:
        batch = batch_at(k)
        if batch.kind != "question":
            return _text_of_spellings(batch, tokens, data.config.spelling_text_share, *key, k)
        rows = rows_of(batch)
        for number in range(len(rows)):
            rng = stream(*key, k, number)
            if rng.random() < share:
                rows[number] = spelled(rng) or rows[number]
        return replace(pad_examples(rows), spelled_N=batch.spelled_N, shared=batch)

    return replaced


def _text_of_spellings(batch: Batch, tokens: SpelledTokens, share: float, *key: int | str) -> Batch:
    """Replace a share of the rows of text by spelled tokens, one after the other."""
    if not share:
        return batch
    ids_BT, targets_BT = batch.ids_BT.clone(), batch.targets_BT.clone()
    for number, row in enumerate(ids_BT):
        rng, written = stream(*key, number), list[int]()
        if rng.random() < share:
            while len(written) <= len(row):
                written += [each for part in tokens.draw(rng) for each in part]
            full = row.new_tensor(written[: len(row) + 1])
            ids_BT[number], targets_BT[number] = full[:-1], full[1:]
    return replace(batch, ids_BT=ids_BT, targets_BT=targets_BT, shared=batch)


# Random splits


@lru_cache(maxsize=8)
def _pairs(spellings: tuple[bytes | None, ...], without: frozenset[int]) -> Pairs:
    ids = {
        spelling: token
        for token, spelling in enumerate(spellings)
        if spelling and token not in without
    }
    found: Pairs = {}
    for token, spelling in enumerate(spellings):
        whole = spelling or b""
        cuts = ((ids.get(whole[:i]), ids.get(whole[i:])) for i in range(1, len(whole)))
        if pairs := [(one, two) for one, two in cuts if one is not None and two is not None]:
            found[token] = pairs
    return found


def pairs_of(tokenizer: Tokenizer, without: frozenset[int] = frozenset()) -> Pairs:
    """The ways to split each token into two tokens of the vocabulary, none of them in `without`.

    A token "tea" with "t", "te", "a" and "ea" in the vocabulary -> [(t, ea), (te, a)]
    """
    return _pairs(tuple(tokenizer.spellings), without)


def split_at_random(ids: Sequence[int], pairs: Pairs, rate: float, rng: Random) -> list[int]:
    """Split tokens into pieces: `rate` attempts per token, each at a random position.

    [over, stated], rate 0.5 -> one attempt: [over, stat, ed], or [ov, er, stated], ... A position
    whose token cannot be split is left. A piece may be split again.
    """
    written = list(ids)
    # the fraction of an attempt is one with that probability, so short rows are split as often
    attempts = int(len(written) * rate + rng.random())
    for _ in range(attempts):
        place = rng.randrange(len(written))
        if pair := pairs.get(written[place]):
            written[place : place + 1] = rng.choice(pair)
    return written


def _with_random_splits(batch_at: BatchAt, data: Data, phase: Phase, seed: int) -> BatchAt:
    rate, key = data.config.split_rate, ("stochastok", phase.name, seed)
    # text contains the held-out tokens; a question that gets one by a split would show it
    anywhere, in_questions = pairs_of(data.tokenizer), pairs_of(data.tokenizer, data.held_out_ids)

    def split(k: int) -> Batch:
        batch = batch_at(k)
        if batch.keep_BT is None:
            ids_BT, targets_BT = batch.ids_BT.clone(), batch.targets_BT.clone()
            for number, (row, target) in enumerate(zip(ids_BT, targets_BT, strict=True)):
                full = [*row.tolist(), int(target[-1])]
                written = split_at_random(full, anywhere, rate, stream(*key, k, number))
                some = row.new_tensor(written[: len(full)])
                ids_BT[number], targets_BT[number] = some[:-1], some[1:]
            return replace(batch, ids_BT=ids_BT, targets_BT=targets_BT, shared=batch)
        rows = []
        for number, (inputs, targets, first) in enumerate(rows_of(batch)):
            prompt = split_at_random(
                inputs[: first + 1], in_questions, rate, stream(*key, k, number)
            )
            # the answer keeps its tokens; a row that would be too long keeps its prompt too
            if len(prompt) + len(targets) - first > phase.context:
                prompt = inputs[: first + 1]
            at = len(prompt) - 1
            rows.append(
                Example([*prompt, *inputs[first + 1 :]], [*prompt[1:], *targets[first:]], at)
            )
        return replace(pad_examples(rows), spelled_N=batch.spelled_N, shared=batch)

    return split


def share_split(data: Data, words: int = 5000) -> float:
    """The share of running words (0 to 1) that `split_rate` splits: not the rate itself.

    Counted over the first words of the training text, which are tokenized one by one.
    """
    pairs, rng, seen, split = pairs_of(data.tokenizer), stream("words split"), 0, 0
    text = data.tokenizer.decode(data.train_ids[: 4 * words].tolist())
    for word in text.split()[:words]:
        try:
            ids = data.tokenizer.encode_word(word)
        except BadInput:  # a word without tokens of its own; the training is done and must count
            continue
        seen += 1
        split += split_at_random(ids, pairs, data.config.split_rate, rng) != ids
    return split / max(1, seen)


RIVALS: dict[str, Rival] = {
    "spelling_data": Rival(batches=_with_spelling_data),
    "spelled_prompt": Rival(data=lambda data: data.with_letters_in_prompts()),
    "stochastok": Rival(batches=_with_random_splits),
    "spelling_loss": Rival(
        phase=lambda config, phase: (
            replace(phase, spelling_loss=config.spelling_weight) if phase.reads_rows else phase
        )
    ),
}
