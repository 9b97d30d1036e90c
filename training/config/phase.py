"""A phase of training: its kind, its steps, and every number that decides the result of a step."""

from __future__ import annotations

from dataclasses import Field, dataclass
from functools import partial
from typing import Any

from .fields import check_field, described, value

KINDS = ("text", "question", "spelling")
ROWS = ("text", "question")  # the kinds of phase in which the model reads rows of tokens

_each = partial(value, flag="each")
_all_rows = partial(value, flag="all", kinds=ROWS)
_questions = partial(value, flag="finetune", kinds=("question",))


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A phase of training on running text, on questions mixed with some text, or on spelling alone.

    Attributes:
        name: key of the phase in file names, random streams, hashes and names of settings.
        title: the phase in reports: "pretraining".
    """

    name: str
    kind: str
    title: str
    steps: int = _each(400, "steps", low=0)
    epochs: float = _each(
        0.0,
        "passes over the training text, which decide the steps; each window of the text is read once "
        "in each, in an order of its own. 0: as many steps as `steps` says, at random places",
        low=0,
        # steps of any text stay within 64 bits
        high=1_000_000,
        kinds=("text",),
    )
    batch_size: int = _each(
        32, "per step: rows of text, questions, or tokens of the spelling warm-up", low=1
    )
    context: int = _each(
        64, "tokens per row, or in the longest row of a question and its answer", low=1, kinds=ROWS
    )
    lr: float = _each(3e-3, "peak learning rate", low=0)
    # Replay: steps on text that preserve the model's language modelling; see data/replay.py.
    replay_share: float = _questions(
        0.0, "share of the steps that train on text instead of questions", low=0, below=1
    )
    replay_target: str = _questions(
        "text",
        "loss of these steps: text is cross-entropy; base is the KL divergence from the "
        "pretrained model, also on rows with half of the tokens replaced",
        choices=("text", "base"),
    )
    replay_text: str = _questions(
        "corpus",
        "text of these steps: the corpus, base (samples of the pretrained model), or both in turn",
        choices=("corpus", "base", "both"),
    )
    replay_weight: float = _questions(1.0, "factor on the clipped gradient of these steps", low=0)
    # The optimizer and its schedule.
    optimizer: str = _all_rows(
        "muon", "muon (for inner matrices; AdamW for the rest) or adamw", choices=("muon", "adamw")
    )
    beta2: float = value(0.95, "AdamW's second beta", low=0, below=1, flag=None)
    weight_decay: float = value(0.01, "weight decay", low=0, kinds=ROWS, flag=None)
    decay: str = value(
        "inner", "decayed: inner matrices, or all", choices=("inner", "all"), kinds=ROWS, flag=None
    )
    char_lr_factor: float = _all_rows(
        1.0, "learning rate of the character encoder as a multiple of the model's", low=0
    )
    row_dropout: float = value(
        0.0,
        "share of the vocabulary whose own rows are replaced by the mean row in a step (not in one of "
        "replay), so that an arm with an encoder has to read the characters",
        low=0,
        below=1,
        flag="finetune",
        kinds=ROWS,
    )
    whole_words: float = _questions(
        0.0,
        "share of the questions about a word of several tokens in which it is one token instead, for "
        "arms with an encoder: it has a character vector and no row of its own, as a token that is "
        "added later",
        low=0,
        high=1,
    )
    clip: float = value(1.0, "largest gradient norm; 0 for none", low=0, flag=None)
    schedule: str = value(
        "cosine",
        "learning rate after the warm-up: along a cosine to a tenth of the peak, or constant",
        choices=("cosine", "constant"),
        flag=None,
    )
    warmup: int = value(50, "steps in which the learning rate rises", low=0, flag="all")
    # No preset uses this auxiliary loss.
    spelling_loss: float = _all_rows(
        0.0, "weight of the loss of heads that predict a token's letters from its vector", low=0
    )

    def __post_init__(self) -> None:
        # users cannot set the kind, so a wrong one is a defect
        assert self.kind in KINDS, self.kind
        for item in described(self):
            # a field with one flag for all phases is called as that flag is
            shared = item.metadata["flag"] in ("all", None)
            check_field(item, getattr(self, item.name), item.name if shared else self.setting(item))

    @property
    def reads_rows(self) -> bool:
        """Whether the model reads rows of tokens in this phase, of text or of questions."""
        return self.kind in ROWS

    @property
    def spells(self) -> bool:
        """Whether this phase trains heads that predict letters from vectors."""
        return self.kind == "spelling" or self.spelling_loss > 0

    def replays(self, text: str) -> bool:
        """Whether steps of this phase train on "corpus", or on "base", samples of the model."""
        # samples take minutes to make: only if a step will train on them
        return self.steps > 0 and self.replay_share > 0 and self.replay_text in (text, "both")

    def setting(self, item: Field[Any]) -> str:
        """The name of a field of this phase among all fields of a config: "lr", "finetune_lr"."""
        bare = {"each": "pretrain"}.get(item.metadata["flag"], item.metadata["flag"])
        if self.name == bare:
            return item.name
        # the name "warmup_spelling" itself is in saved files and random streams
        return f"{'spelling' if self.kind == 'spelling' else self.name}_{item.name}"

    def uses(self, item: Field[Any]) -> bool:
        """Whether the field applies to this kind of phase."""
        return self.kind in item.metadata.get("kinds", KINDS)


# no steps by default: the warm-up is for encoders that were not pretrained
SPELLING = Phase(
    name="warmup_spelling", kind="spelling", title="the spelling warm-up",
    steps=0, batch_size=512, optimizer="adamw",
)  # fmt: skip
PRETRAIN = Phase(name="pretrain", kind="text", title="pretraining")
FINETUNE = Phase(
    name="finetune", kind="question", title="fine-tuning",
    steps=2600, batch_size=64, replay_share=0.1,
)  # fmt: skip
