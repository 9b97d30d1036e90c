"""The data of a run: tokens, held-out text, words, splits and tasks, made from its config."""

from __future__ import annotations

from dataclasses import dataclass, replace
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
from synthetic_tasks.words import describe_left_out, fingerprint
from training.config.config import CompareConfig, DataConfig
from training.files import cached, sha256
from training.models.hub import text_config
from training.models.objectives import OBJECTIVES

from .batches import text_batches
from .corpus import Corpus, load_corpus, load_words
from .encodings import load_encoding
from .questions import Questions
from .replay import base_samples
from .tokenizers import HuggingFaceTokenizer, Tiktoken, Tokenizer

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
        spellings: one for each row of the model's input embedding.
        train_ids: running text to train on, int32.
        base_ids: text sampled from the pretrained model, int32; empty if no phase replays it.
        held_out_texts: "text" (of the same corpus), and "other text" if there is another corpus.
        splits: words by split; None if no task is about words.
        held_out_ids: the tokens that only words of the split `unseen_tokens` contain.
        dummy: one of the rarest tokens of the text, a placeholder for unknown answer tokens.
        facts: counts and hashes of all this, as config.json holds them.
        letters_in_prompts: whether the questions also give the letters of their word.
    """

    config: CompareConfig
    tokenizer: Tokenizer
    spellings: SpellingTable
    train_ids: Tensor
    base_ids: Tensor
    held_out_texts: dict[str, HeldOut]
    tasks: tuple[Task, ...]
    splits: WordSplits | None
    held_out_ids: frozenset[int]
    dummy: int
    facts: Facts
    letters_in_prompts: bool = False

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
            objective=OBJECTIVES[self.config.objective],
        )  # fmt: skip


def prepare(config: CompareConfig, cache: Path, run: Path | None = None) -> Data:
    """Make the data of a config.

    `cache` is the folder for vocabularies and token ids, each under a hash of everything that
    determines it. `run` is the run's folder, whose own base samples are used if it has any.

    Raises BadInput for a corpus or a word list that is missing, empty or too small.
    """
    data, name = config.data, config.evaluation.other_corpus
    # cheap steps first: a missing corpus or word list is refused before a text is encoded
    others = {} if name == "none" else {"other text": load_corpus(name)}
    words: list[str] = []
    if needs_words(data.tasks):
        listed = load_words(data.words, data.num_words)
        words, left = sort_words(listed, data.min_letters, data.longest_letters, data.word_forms)
    corpus, tokenizer, num_rows = _tokenized(config, cache)
    corpora = {"text": corpus, **others}
    ids = {key: _encoded(tokenizer, each, cache) for key, each in corpora.items()}
    train_ids = ids["text"]["train"]
    texts = dict[str, HeldOut]()
    for key, each in corpora.items():
        held = ids[key]["validation"]
        texts[key] = HeldOut(held, len(each.validation.encode()) / len(held))
        text_batches(held, 1, config.text.context)  # raises if the text is too short for a row
    facts: Facts = {
        "corpus_sha256": corpus.sha256,
        "vocabulary": tokenizer.name,
        "tokens": num_rows,
        "train_tokens": len(train_ids),
        "validation_tokens": len(texts["text"].ids),
        "bytes_per_token": round(texts["text"].bytes_per_token, 4),
        **({"other_corpus_sha256": others["other text"].sha256} if others else {}),
    }
    # one row for each row of the embedding, also for rows without a token
    spellings = SpellingTable.from_tokenizer(tokenizer.source, num_rows)
    facts["spelling_table_sha256"] = spellings.fingerprint
    counts_V = torch.bincount(train_ids.long(), minlength=num_rows)
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
        base_ids=base_ids, held_out_texts=texts, splits=splits, held_out_ids=held_out_ids,
        tasks=tuple(build_task(spec, material) for spec in data.tasks),
        dummy=int(counts_V[: len(tokenizer.spellings)].argmin()), facts=facts,
    )  # fmt: skip


def _tokenized(config: CompareConfig, cache: Path) -> tuple[Corpus, Tokenizer, int]:
    """The corpus, the model's tokenizer, and the number of rows of its embedding."""
    data, model = config.data, config.model.model
    if config.model.pretrained:
        # the embedding may have more rows than there are tokens
        rows: int = text_config(model).vocab_size
        return load_corpus(data.corpus), HuggingFaceTokenizer.load(model), rows
    corpus = load_corpus(data.corpus, data.alphabet)
    encoding = load_encoding(corpus.train, data.vocab_size, data.alphabet, cache)
    return corpus, Tiktoken(encoding), data.vocab_size


def _encoded(tokenizer: Tokenizer, corpus: Corpus, cache: Path) -> dict[str, Tensor]:
    """The token ids of a corpus, "train" and "validation"; from the cache if they are there."""
    path = cache / f"text-{sha256(f'{tokenizer.name} {corpus.sha256}')[:16]}.safetensors"
    facts = {"corpus": corpus.sha256, "encoding": tokenizer.name}
    texts = {"train": corpus.train, "validation": corpus.validation}

    def encode() -> dict[str, Tensor]:
        ids = {name: tokenizer.encode(text) for name, text in texts.items()}
        return {name: torch.tensor(each, dtype=torch.int32) for name, each in ids.items()}

    return cached(path, facts, encode)


def split_by_token(
    data: DataConfig, words: list[str], tokenizer: Tokenizer, counts_V: Tensor | None
) -> WordSplits:
    """Split the words so that some tokens occur in the split `unseen_tokens` only.

    Tokens that frame a question are never held out. If `counts_V`, the tokens' counts in the
    training text, is given, neither are rare tokens: no model could know them from text.
    """
    # the tokens of the task's own words, such as "reverse" and ":"
    material = Material(None, data.wording, data.answer_form)
    fixed = [text for spec in data.tasks for text in build_task(spec, material).fixed_texts()]
    protected = {i for text in fixed for i in tokenizer.encode(text)}
    if counts_V is not None:
        protected |= set((counts_V < RARE).nonzero().squeeze(1).tolist())
    pieces = tokenizer.spellings
    return split_words(
        words,
        lambda word: [pieces[i] or b"" for i in tokenizer.encode_word(word)],
        seed=0,
        max_letters=data.max_letters,
        protected={pieces[i] or b"" for i in protected if i < len(pieces)},
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
