"""The data of a run: tokens, held-out text, words, splits and tasks, made from its config."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from charembed import SpellingTable
from charembed.files import hash_tensors
from charembed.spelling_loss import ids_with_characters
from synthetic_tasks import (
    SPLITS,
    Material,
    Task,
    WordSplits,
    build_task,
    needs_words,
    sort_words,
    split_weight,
    split_words,
)
from synthetic_tasks.errors import TaskError
from synthetic_tasks.words import describe_left_out, fingerprint, num_letters
from training.config.config import CompareConfig, DataConfig
from training.errors import BadInput
from training.models.hub import text_config
from training.models.objectives import OBJECTIVES
from training.progress import Bars, no_bars

from .batches import check_length, steps_of
from .corpus import Corpus, load_corpus, load_words
from .prepared import Tokenized, Vocabulary, tokenized
from .questions import Questions, WholeWords
from .replay import base_samples
from .tokenizers import HuggingFaceTokenizer, Tokenizer

Facts = dict[str, str | int | float]
RARE = 50  # tokens with fewer occurrences in the training text are not held out


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Held-out text: ids (int32), and the mean bytes per token, for bits per byte."""

    ids: Tensor
    bytes_per_token: float


@dataclass(frozen=True, eq=False)
class Data:
    """Tokens, spellings and tasks of a comparison, and the config that they were made from.

    Attributes:
        config: with the steps of phases that read the text in epochs.
        spellings: one for each row of the model's input embedding.
        train_ids: running text to train on, int32.
        counts_V: the number of times that each token is in `train_ids`, int64.
        base_ids: text sampled from the pretrained model, int32; empty if no phase replays it.
        held_out_texts: "text" (of the same corpus), and "other text" if there is another corpus.
        splits: words by split; None if no task is about words.
        held_out_ids: the tokens that only words of the split `unseen_tokens` contain.
        dummy: one of the rarest tokens of the text, a placeholder for unknown answer tokens.
        facts: counts and hashes of all this, as config.json holds them.
        letters_in_prompts: whether the questions also give the letters of their word.
        whole: words that are one token each in a share of the training questions; None for none.
    """

    config: CompareConfig
    tokenizer: Tokenizer
    spellings: SpellingTable
    train_ids: Tensor
    counts_V: Tensor
    base_ids: Tensor
    held_out_texts: dict[str, HeldOut]
    tasks: tuple[Task, ...]
    splits: WordSplits | None
    held_out_ids: frozenset[int]
    dummy: int
    facts: Facts
    letters_in_prompts: bool = False
    whole: WholeWords | None = None

    @property
    def material(self) -> Material:
        """The words and the form of the questions."""
        data = self.config.data
        return Material(self.splits, data.wording, data.answer_form, self.letters_in_prompts)

    def with_letters_in_prompts(self) -> Data:
        """The same data, with questions that also give the letters of their word."""
        made = replace(self, letters_in_prompts=True)
        tasks = tuple(build_task(spec, made.material) for spec in self.config.data.tasks)
        return replace(made, tasks=tasks)

    def questions(self, context: int | None = None) -> Questions:
        """Return the questions of the tasks, in rows of `context` tokens (None: the longest)."""
        return Questions(
            tokenizer=self.tokenizer, tasks=self.tasks, held_out=self.held_out_ids,
            weights=tuple(split_weight(spec)[1] for spec in self.config.data.tasks),
            context=context or self.config.context, dummy=self.dummy,
            objective=OBJECTIVES[self.config.objective], whole=self.whole,
        )  # fmt: skip


def prepare(
    config: CompareConfig, cache: Path, run: Path | None = None, bars: Bars = no_bars
) -> Data:
    """Make the data of a config.

    `cache` is the folder for vocabularies and token ids, each under a hash of everything that
    determines it. `run` is the run's folder, whose own base samples are used if it has any.

    Raises BadInput for a corpus or a word list that is missing, empty or too small.
    """
    data, corpora = config.data, _corpora(config)
    # cheap steps first: a missing corpus or word list is refused before a text is encoded
    words: list[str] = []
    if needs_words(data.tasks):
        listed = load_words(data.words, data.num_words)
        words, left = sort_words(listed, data.min_letters, data.longest_letters, data.word_forms)
    found = _tokenized(config, corpora, cache, bars)
    text, tokenizer = found["text"], found["text"].tokenizer
    train_ids, config = text.ids["train"], _with_steps(config, text.ids["train"])
    texts = {
        key: HeldOut(held := each.ids["validation"], each.validation_bytes / len(held))
        for key, each in found.items()
    }
    # the embedding may have more rows than there are tokens
    pretrained, model = config.model.pretrained, config.model.model
    num_rows = text_config(model).vocab_size if pretrained else data.vocab_size
    others = {key: each.sha256 for key, each in found.items() if key != "text"}
    facts: Facts = {
        "corpus_sha256": text.sha256,
        "vocabulary": tokenizer.name,
        "tokens": num_rows,
        "train_tokens": len(train_ids),
        "validation_tokens": len(texts["text"].ids),
        "bytes_per_token": round(texts["text"].bytes_per_token, 4),
        **({"other_corpus_sha256": others["other text"]} if others else {}),
    }
    # one row for each row of the embedding, also for rows without a token
    spellings = SpellingTable.from_tokenizer(tokenizer.source, num_rows)
    facts["spelling_table_sha256"] = spellings.fingerprint
    counts_V = text.counts_of(num_rows)
    splits = split_by_token(data, words, tokenizer, counts_V) if words else None
    pieces = splits.held_out if splits else frozenset()
    held_out_ids = frozenset(i for i, piece in enumerate(tokenizer.spellings) if piece in pieces)
    if splits:
        facts |= {"splits_sha256": fingerprint(splits)}
        facts |= {f"words_{name}": len(splits[name]) for name in SPLITS}
        facts["words_left_out"] = describe_left_out(left)
        facts |= _held_out_facts(config, held_out_ids, counts_V)
    # empty, and never sampled, if no phase replays it
    base_ids = torch.zeros(0, dtype=torch.int32)
    if any(phase.replays("base") for phase in config.phases):
        base_ids = base_samples(config.model.model, ids_with_characters(spellings), cache, run)
        facts["base_text_sha256"] = hash_tensors({"ids": base_ids})
    material = Material(splits, data.wording, data.answer_form)
    return Data(
        config=config, tokenizer=tokenizer, spellings=spellings, train_ids=train_ids,
        counts_V=counts_V, base_ids=base_ids, held_out_texts=texts, splits=splits, held_out_ids=held_out_ids,
        tasks=tuple(build_task(spec, material) for spec in data.tasks),
        dummy=int(counts_V[: len(tokenizer.spellings)].argmin()), facts=facts,
    )  # fmt: skip


def _corpora(config: CompareConfig) -> dict[str, Corpus]:
    """The corpora of a config, "text" and perhaps "other text"; found, and not read."""
    data, other = config.data, config.evaluation.other_corpus
    alphabet = "bytes" if config.model.pretrained else data.alphabet
    how = data.column, data.documents, data.validation, False
    found = {"text": load_corpus(data.corpus, alphabet, *how)}
    if other != "none":
        found["other text"] = load_corpus(other, "bytes", data.column, at_once=False)
    return found


def _tokenized(
    config: CompareConfig, corpora: dict[str, Corpus], cache: Path, bars: Bars
) -> dict[str, Tokenized]:
    """The token ids of the corpora, all under the tokenizer of the model."""
    data, found = config.data, dict[str, Tokenized]()
    using: Tokenizer | Vocabulary = Vocabulary(data.vocab_size, data.alphabet)
    if config.model.pretrained:
        using = HuggingFaceTokenizer.load(config.model.model)
    for key, corpus in corpora.items():
        found[key] = tokenized(corpus, using, cache, data.separator, bars)
        for part, ids in found[key].ids.items():
            seen = f"the {part} text of the corpus {corpus.source.name!r}"
            check_length(ids, config.text.context, seen)
        using = found[key].tokenizer  # a vocabulary is trained on the first corpus alone
    return found


def _with_steps(config: CompareConfig, ids: Tensor) -> CompareConfig:
    """The config with the steps of the phases that read the text in epochs."""
    phases = tuple(
        replace(each, steps=steps_of(each.epochs, ids, each.batch_size, each.context))
        if each.epochs
        else each
        for each in config.phases
    )
    return replace(config, phases=phases)


def split_by_token(
    data: DataConfig, words: list[str], tokenizer: Tokenizer, counts_V: Tensor | None
) -> WordSplits:
    """Split the words so that some tokens occur in the split `unseen_tokens` only.

    Tokens that frame a question are never held out. If `counts_V`, the tokens' counts in the
    training text, is given, neither are rare tokens: no model could know them from text.

    Raises BadInput if a split is empty because too few tokens of the words are frequent enough in
    the training text, and TaskError if the words themselves are too few.
    """
    # the tokens of the task's own words, such as "reverse" and ":"
    material = Material(None, data.wording, data.answer_form)
    fixed = [text for spec in data.tasks for text in build_task(spec, material).fixed_texts()]
    protected = {i for text in fixed for i in tokenizer.encode(text)}
    pieces = tokenizer.spellings
    rare: set[int] = set()
    if counts_V is not None:
        rare = set((counts_V < RARE).nonzero().squeeze(1).tolist())
    cut = partial(split_words, words, seed=0, max_letters=data.max_letters)
    try:
        return cut(
            lambda word: [pieces[i] or b"" for i in tokenizer.encode_word(word)],
            protected={pieces[i] or b"" for i in protected | rare if i < len(pieces)},
        )
    except TaskError as error:
        if counts_V is None:
            raise
        # if the words are enough when each is a token, their tokens are too few or too rare
        cut(lambda word: [word.encode()])
        raise BadInput(_too_rare(error, data, words, tokenizer, rare)) from None


def _too_rare(
    error: TaskError, data: DataConfig, words: list[str], tokenizer: Tokenizer, rare: set[int]
) -> str:
    """The message for a text in which too few tokens of the words occur often enough."""
    used = {i for word in words for i in tokenizer.encode_word(word)}
    used = {i for i in used if num_letters(tokenizer.spellings[i] or b"") > 1}
    empty = str(error).partition(":")[0]
    return (
        f"{empty}: only {len(used - rare)} of the {len(used)} tokens of {len(words)} words occur "
        f"{RARE} times or more in the training text of the corpus {data.corpus!r}, and rarer ones are not "
        "held out. Use more text, text that writes words as the word list does, a smaller "
        "vocabulary (vocab_size), more words, or tasks without words."
    )


def _held_out_facts(config: CompareConfig, held_out_ids: frozenset[int], counts_V: Tensor) -> Facts:
    """Counts in text of the rarest and of the median held-out token."""
    counts = counts_V[sorted(held_out_ids)].float() if held_out_ids else torch.zeros(1)
    phases = [phase for phase in config.phases if phase.kind == "text"]
    read = sum(phase.steps * phase.batch_size * phase.context for phase in phases)
    # pretraining draws windows at random, so this count is an expectation
    expected = float(counts.min()) * read / int(counts_V.sum())
    return {
        "held_out_tokens": len(held_out_ids),
        "held_out_tokens_median_count_in_text": float(counts.median()),
        "held_out_tokens_least_count_in_text": float(counts.min()),
        "held_out_tokens_least_count_in_pretraining": round(expected, 1),
    }
