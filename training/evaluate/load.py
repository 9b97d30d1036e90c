"""Load the model to evaluate from a run folder, a Hugging Face name or a Python function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

import charembed
from synthetic_tasks import WORD_TASKS, Material, split_words, usable_words
from training.ask.eval_sets import make_eval_sets, max_answer_tokens
from training.ask.evaluated_model import (
    EvaluatedFunction,
    EvaluatedLanguageModel,
    EvaluatedModel,
    TokenCounts,
)
from training.config.config import DataConfig
from training.data.corpus import load_corpus, load_words
from training.data.prepare import Data, split_by_token
from training.data.prepared import count_tokens
from training.data.tokenizers import HuggingFaceTokenizer, Tokenizer
from training.errors import BadInput
from training.models.huggingface import HuggingFace
from training.models.smollm2 import packaged_folder, unpack
from training.run.folder import is_run
from training.run.run import Run

from . import MOST_SHOTS

Model = str | Path | PreTrainedModel | EvaluatedModel | Callable[[Any], Any]
_ENDLESS = 2**31  # context, in tokens, of a model without a limit


@dataclass(frozen=True, kw_only=True)
class FewShotPrompts:
    """Word questions for a model that was not trained in this laboratory.

    FewShotPrompts(shots=2) puts two solved questions before each one: "count a tea: 1\\n...".

    Attributes:
        wording, form: see `synthetic_tasks.Material`.
        shots: solved questions before each one, 0 to 1,000.
        words: word list, as `words` of DataConfig.
        corpus: text in which tokens are counted, as `corpus` of DataConfig; None for none.

    Raises TaskError for an unknown wording or form, and BadInput for too many shots.
    """

    wording: str = "compact"
    form: str = "spelled"
    shots: int = 4
    words: str = "wordsegment"
    corpus: str | None = None

    def __post_init__(self) -> None:
        Material(None, self.wording, self.form)  # raises for an unknown value
        # they are drawn before a prompt can be measured, so a large number would take hours
        if not 0 <= self.shots <= MOST_SHOTS:
            raise BadInput(f"shots is {self.shots}; it must be 0 to {MOST_SHOTS}.")

    def material(self, tokenizer: Tokenizer | None, counts: TokenCounts | None) -> Material:
        """Return the words, split by the tokens of a tokenizer; by whole words without one."""
        data = DataConfig(
            corpus=self.corpus or DataConfig.corpus,
            words=self.words, tasks=WORD_TASKS, wording=self.wording, answer_form=self.form,
        )  # fmt: skip
        words, letters = _usable_words(data), data.max_letters
        if tokenizer is None:
            # Every word is its own token, so the splits differ in words alone.
            splits = split_words(words, lambda w: [w.encode()], seed=0, max_letters=letters)
        else:
            # Without a text to count in, no token is too rare to be held out.
            splits = split_by_token(data, words, tokenizer, counts and counts.counts_V)
        return Material(splits, self.wording, self.form)


@cache  # one list serves both models of a comparison
def _usable_words(data: DataConfig) -> list[str]:
    words = load_words(data.words, data.num_words)
    return usable_words(words, data.min_letters, data.longest_letters)


def load_model(
    name: str,
    *,
    arm: str | None = None,
    seed: int | None = None,
    encoder: str | None = None,
    cache_folder: Path = Path(".cache"),
    prompts: FewShotPrompts | None = None,
    device: str | None = None,
) -> EvaluatedLanguageModel:
    """Load a model by its name.

    load_model("runs/quick-1234abcd", arm="lstm"), load_model("HuggingFaceTB/SmolLM2-135M")

    Arguments:
        name: a run folder, or the folder or hub name of a causal model of transformers.
        arm, seed: of a run; by default its last arm and its first seed.
        encoder: folder of a character encoder that `charembed.save` wrote for that model.
        prompts: word questions for a model that is no run; by default FewShotPrompts().
        device: by default a GPU if there is one.

    Raises BadInput for a name that is none of these, and for options that do not fit it.
    """
    if is_run(name):
        refuse(name, "a run, and its arms have their character encoders", encoder=encoder)
        made = from_run(Path(name), arm, seed, cache_folder)
    else:
        refuse(name, "no run folder", arm=arm, seed=seed)
        folder = packaged_folder(name, cache_folder)
        unpack(folder)
        try:
            # A context of 1 always fits; `check` compares the prompts with the real one.
            model, tokenizer = HuggingFace.load(folder, 1), HuggingFaceTokenizer.load(folder)
        except BadInput as error:
            raise BadInput(f"There is no run folder {name!r}, and {error}") from None
        if encoder is not None:
            charembed.load(model.model, tokenizer.source, encoder)
        made = from_pretrained(model, tokenizer, Path(name).name, prompts)
    made.model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return made


def refuse(name: str, kind: str, **flags: str | int | None) -> None:
    """Raise BadInput if a flag has a value that does not fit the kind of a model."""
    for flag, value in flags.items():
        if value is not None:
            raise BadInput(f"{flag} is {value!r}, but {name!r} is {kind}. Leave --{flag} out.")


def from_run(
    folder: Path, arm: str | None, seed: int | None, cache_folder: Path
) -> EvaluatedLanguageModel:
    """Load an arm of a finished run; by default its last arm and its first seed."""
    one = Run.open(folder, cache_folder, arm, seed).arm(arm, seed)
    data = one.data
    if data.splits is None:
        raise BadInput(f"The run in {folder} has no task about words. Name another run.")
    model, name = one.model(), folder.resolve().name
    about = f"the arm {one.name}, seed {one.seed}, of the run {name}"
    counts = _counted(data.counts_V, one.run.config.data.corpus)
    settings = {"about": about, "counts": counts, "run_limits": run_limits(data, one.seed)}
    return EvaluatedLanguageModel.of_arm(model, data, one.name, one.seed, **settings)


def run_limits(data: Data, seed: int) -> dict[str, int]:
    """Return the max_new_tokens of each task of a run in its own evaluation."""
    own_sets = make_eval_sets(data, seed)
    longest = max_answer_tokens(data.tokenizer, own_sets)
    return {eval_set.task.name: longest for eval_set in own_sets}


def _counted(counts_V: Tensor, corpus: str) -> TokenCounts:
    text = f"the training part of the corpus {corpus}, {int(counts_V.sum()):,} tokens"
    return TokenCounts(counts_V, text)


def from_pretrained(
    model: HuggingFace,
    tokenizer: HuggingFaceTokenizer,
    name: str,
    prompts: FewShotPrompts | None = None,
    material: Material | None = None,
) -> EvaluatedLanguageModel:
    """Make the model under evaluation of a causal model of transformers and its tokenizer.

    `material` replaces the words of `prompts`, for a caller that asks its own questions.
    """
    prompts, source, counts = prompts or FewShotPrompts(), tokenizer.source, None
    if (corpus := prompts.corpus) is not None:
        counts = _counted(count_tokens(load_corpus(corpus), tokenizer), corpus)
    # A chat model ends its turns with another token than its texts; both end an answer.
    configs = (source, getattr(model.model, "generation_config", None))
    found = [getattr(config, "eos_token_id", None) for config in configs]
    ends = [end for one in found for end in (one if isinstance(one, list) else [one])]
    return EvaluatedLanguageModel(
        name=name, about=f"the causal model {name}", model=model, tokenizer=tokenizer,
        material=material or prompts.material(tokenizer, counts), shots=prompts.shots,
        counts=counts, context=model.context or _ENDLESS, start=_start_ids(tokenizer),
        end=frozenset(end for end in ends if end is not None), source=source,
    )  # fmt: skip


def _start_ids(tokenizer: HuggingFaceTokenizer) -> list[int]:
    """Return the ids that a tokenizer puts before every text: [] or often [bos]."""
    # Tried on one text: tokenizers add these ids in different ways.
    bare, whole = tokenizer.encode("x"), tokenizer.source("x")["input_ids"]
    place = next((i for i in range(len(whole)) if whole[i : i + len(bare)] == bare), 0)
    return list(whole[:place])


def from_function(
    write: Callable[[Any], Any],
    *,
    name: str | None = None,
    batched: bool = False,
    prompts: FewShotPrompts | None = None,
    tokenizer: Tokenizer | None = None,
) -> EvaluatedFunction:
    """Make the model under evaluation of a function from a prompt to a text.

    With a tokenizer, its words are split by their tokens. `batched`: it takes and returns lists.
    """
    prompts = prompts or FewShotPrompts()
    return EvaluatedFunction(
        name=name or str(getattr(write, "__name__", type(write).__name__)), write=write,
        batched=batched, material=prompts.material(tokenizer, None), shots=prompts.shots,
        tokenizer=tokenizer,
    )  # fmt: skip


def model_of(
    model: Model, name: str | None, batched: bool, prompts: FewShotPrompts | None, tokenizer: Any
) -> EvaluatedModel:
    """Make the model under evaluation of any argument that `evaluate` accepts."""
    if isinstance(model, str | Path):
        return load_model(str(model), prompts=prompts)
    if tokenizer is not None and not getattr(tokenizer, "is_fast", False):
        raise BadInput(
            f"The tokenizer is a {type(tokenizer).__name__}. Pass a fast tokenizer of "
            "transformers, which gives the place of each token in a text."
        )
    own = None if tokenizer is None else HuggingFaceTokenizer(tokenizer)
    if isinstance(model, PreTrainedModel):  # before functions, as a model is callable too
        kind = type(model).__name__
        if own is None:
            raise BadInput(f"A {kind} was given without its tokenizer. Pass tokenizer=...")
        return from_pretrained(HuggingFace(model), own, name or kind, prompts)
    if callable(model):
        return from_function(model, name=name, batched=batched, prompts=prompts, tokenizer=own)
    return model
