"""A stretch of training: its kind, its steps, and every number that decides what one of them does."""

from __future__ import annotations

from dataclasses import Field, dataclass
from typing import Any

from .fields import check_field, described, value

KINDS = ("text", "question", "spelling")
ROWS = ("text", "question")  # the kinds of phase in which the model reads rows of tokens


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A stretch of training on running text, on questions with some text between, or on spelling alone.

    Attributes:
        name: of its files, and before its flags.
        title: what a row of results says was done: "pretraining".
    """

    name: str
    kind: str
    title: str
    steps: int = value(400, "steps", low=0)
    batch_size: int = value(32, "rows, questions or tokens per step", low=1)
    context: int = value(
        64, "tokens per row, or longest row of a question and its answer", low=1, kinds=ROWS
    )
    lr: float = value(3e-3, "peak learning rate", low=0)
    replay_share: float = value(
        0.0,
        "share of the steps that go on with pretraining text instead",
        low=0,
        below=1,
        kinds=("question",),
        bare="finetune",
    )
    replay_target: str = value(
        "text",
        "what the model learns in these steps: the next token of the text, or (base) to say of it what the "
        "pretrained model said before any training, also where half of its tokens are others",
        choices=("text", "base"),
        kinds=("question",),
        bare="finetune",
    )
    replay_text: str = value(
        "corpus",
        "the text of these steps: the corpus, (base) what the pretrained model writes by itself, or both in "
        "turn",
        choices=("corpus", "base", "both"),
        kinds=("question",),
        bare="finetune",
    )
    replay_weight: float = value(
        1.0,
        "what the gradient of such a step, clipped as any, is multiplied by",
        low=0,
        kinds=("question",),
        bare="finetune",
    )
    optimizer: str = value(
        "muon",
        "muon (for the model's inner matrices, AdamW for the rest) or adamw for all",
        choices=("muon", "adamw"),
        kinds=ROWS,
        bare="every",
    )
    beta2: float = value(0.95, "AdamW's second beta", low=0, below=1, bare="every")
    weight_decay: float = value(0.01, "weight decay", low=0, kinds=ROWS, bare="every")
    decay: str = value(
        "inner",
        "what weight decay pulls at: the model's inner matrices, or all",
        choices=("inner", "all"),
        kinds=ROWS,
        bare="every",
    )
    char_lr_factor: float = value(
        1.0,
        "learning rate of the character path, as a multiple of the model's",
        low=0,
        kinds=ROWS,
        bare="every",
    )
    clip: float = value(1.0, "largest gradient norm; 0 for none", low=0, bare="every")
    schedule: str = value(
        "cosine",
        "the learning rate after its warm-up: falls along a cosine to a tenth, or constant",
        choices=("cosine", "constant"),
        bare="every",
    )
    warmup: int = value(50, "steps in which the learning rate rises", low=0, bare="every")
    spelling_loss: float = value(
        0.0,
        "weight of the spelling loss: from the vectors of tokens of the whole vocabulary, heads that are "
        "thrown away read the letters",
        low=0,
        kinds=ROWS,
        bare="every",
    )
    token_dropout: float = value(
        0.0,
        "share of the positions whose token part is left out in training",
        low=0,
        below=1,
        kinds=ROWS,
        bare="every",
    )

    def __post_init__(self) -> None:
        assert self.kind in KINDS, self.kind
        for item in described(self):
            check_field(item, getattr(self, item.name), self.flag(item))

    @property
    def spells(self) -> bool:
        """Does this phase read letters from vectors?"""
        return self.kind == "spelling" or self.spelling_loss > 0

    @property
    def replays_corpus(self) -> bool:
        return self._replays("corpus")

    @property
    def replays_base(self) -> bool:
        """Does text between the questions come, at least in turn, from the pretrained model itself?"""
        return self._replays("base")

    def _replays(self, text: str) -> bool:
        return self.steps > 0 and self.replay_share > 0 and self.replay_text in (text, "both")

    def flag(self, item: Field[Any]) -> str:
        """What a field of this phase is called among all fields of a config: "lr", "finetune_lr"."""
        return (
            item.name
            if item.metadata.get("bare", "pretrain") == self.name
            else f"{self.name}_{item.name}"
        )

    def uses(self, item: Field[Any]) -> bool:
        """Does this kind of phase look at the field?"""
        return self.kind in item.metadata.get("kinds", KINDS)


SPELLING = Phase(
    name="warmup_spelling",
    kind="spelling",
    title="the spelling warm-up",
    steps=0,
    batch_size=512,
    lr=3e-3,
    optimizer="adamw",
)
PHASES = (
    SPELLING,
    Phase(name="pretrain", kind="text", title="pretraining"),
    Phase(
        name="finetune",
        kind="question",
        title="fine-tuning",
        steps=2600,
        batch_size=64,
        replay_share=0.1,
    ),
)
