"""All that a run reads, built once and cached under the hash of what made it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import tiktoken
import torch
from torch import Tensor

from charembed import SpellingTable
from charembed.tokenizers import token_bytes
from synthetic_tasks import Material, Task, WordSplits, build_task, split_words, usable_words

from .batches import BatchAt, Questions, mixed_batches, text_batches
from .config import CompareConfig
from .corpus import load_corpus, load_words
from .files import read_tensors, write_tensors
from .vocabulary import load_encoding


@dataclass(frozen=True, eq=False)
class Data:
    """Tokens, spellings and words of a comparison.

    Attributes:
        train_ids, validation_ids: running text, int32.
        bytes_per_token: of the held-out text, for bits per byte.
        splits: words by split; `held_out_ids` are the tokens that only `unseen_tokens` holds.
    """

    encoding: tiktoken.Encoding
    table: SpellingTable
    train_ids: Tensor
    validation_ids: Tensor
    bytes_per_token: float
    splits: WordSplits
    held_out_ids: frozenset[int]
    facts: dict[str, str | int | float]

    def pretraining(self, config: CompareConfig, seed: int) -> BatchAt:
        return text_batches(self.train_ids, config.batch_size, config.context, "pretrain", seed)

    def tasks(self, config: CompareConfig) -> tuple[Task, ...]:
        return build_tasks(config, self.splits)

    def questions(self, config: CompareConfig) -> Questions:
        return Questions(
            encoding=self.encoding,
            tasks=self.tasks(config),
            token_lengths=[len(spelling or b"") for spelling in token_bytes(self.encoding)],
            held_out=self.held_out_ids,
            context=config.finetune_context,
        )

    def finetuning(self, config: CompareConfig, seed: int) -> BatchAt:
        questions = self.questions(config).batches(config.finetune_batch_size, "finetune", seed)
        replay = text_batches(self.train_ids, config.batch_size, config.context, "replay", seed)
        return mixed_batches(questions, replay, config.replay_share)


def prepare(config: CompareConfig, cache: Path) -> Data:
    """Corpus, vocabulary, spelling table and splits. Raises ValueError for what is missing, empty or too small."""
    words = usable_words(load_words(config.words, config.num_words), config.min_letters, config.longest_letters)
    corpus = load_corpus(config.corpus, config.alphabet)
    encoding = load_encoding(corpus.train, config.vocab_size, config.alphabet, cache)
    path = cache / f"ids-{hashlib.sha256(f'{encoding.name} {corpus.sha256}'.encode()).hexdigest()[:16]}.safetensors"
    if not path.exists():
        tensors = {
            name: torch.tensor(encoding.encode_ordinary(text), dtype=torch.int32) for name, text in (("train", corpus.train), ("validation", corpus.validation))
        }
        write_tensors(path, tensors, {"corpus": corpus.sha256, "encoding": encoding.name})
    ids, _ = read_tensors(path)
    text_batches(ids["validation"], 1, config.context)  # refuses a text that is too short, before any training
    counts_V = torch.bincount(ids["train"].long(), minlength=config.vocab_size)
    rare = (counts_V < config.token_count).nonzero().squeeze(1).tolist()
    splits = split_words(
        words,
        lambda word: [encoding.decode_single_token_bytes(i) for i in encoding.encode_ordinary(" " + word)],
        seed=0,
        max_letters=config.max_letters,
        word_share=config.word_share,
        token_share=config.token_share,
        protected=_wording_pieces(config, encoding) | {encoding.decode_single_token_bytes(i) for i in rare},
    )
    table = SpellingTable.from_tokenizer(encoding, config.vocab_size)
    held_out_ids = frozenset(encoding.encode_single_token(piece) for piece in splits.held_out)
    held_counts = counts_V[sorted(held_out_ids)].float() if held_out_ids else torch.zeros(1)
    pretrained_share = config.steps * config.batch_size * config.context / len(ids["train"])
    return Data(
        encoding=encoding,
        table=table,
        train_ids=ids["train"],
        validation_ids=ids["validation"],
        bytes_per_token=len(corpus.validation.encode()) / len(ids["validation"]),
        splits=splits,
        held_out_ids=held_out_ids,
        facts={
            "corpus_sha256": corpus.sha256,
            "vocabulary": encoding.name,
            "spelling_table_sha256": table.fingerprint,
            "splits_sha256": hashlib.sha256(json.dumps([splits.seen, splits.unseen_words, splits.unseen_tokens, splits.longer_words]).encode()).hexdigest(),
            "train_tokens": len(ids["train"]),
            "validation_tokens": len(ids["validation"]),
            "bytes_per_token": round(len(corpus.validation.encode()) / len(ids["validation"]), 4),
            **{f"words_{split}": len(splits[split]) for split in ("seen", "unseen_words", "unseen_tokens", "longer_words")},
            "held_out_tokens": len(held_out_ids),
            "held_out_tokens_median_count_in_text": float(held_counts.median()),
            "held_out_tokens_least_count_in_text": float(held_counts.min()),
            "held_out_tokens_least_count_in_pretraining": round(float(held_counts.min()) * pretrained_share, 1),  # expected
        },
    )


def build_tasks(config: CompareConfig, words: WordSplits | None) -> tuple[Task, ...]:
    return tuple(build_task(spec, Material(words, config.wording, config.answer_form)) for spec in config.tasks)


def _wording_pieces(config: CompareConfig, encoding: tiktoken.Encoding) -> set[bytes]:
    texts = [text for task in build_tasks(config, None) for text in task.fixed_texts()]
    return {encoding.decode_single_token_bytes(i) for text in texts for i in encoding.encode_ordinary(text)}
