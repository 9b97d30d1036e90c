"""A phase of training: its kind, its steps, and every number that decides the result of a step."""

from __future__ import annotations

from dataclasses import Field, dataclass
from typing import Any

from .fields import check_field, described, value

KINDS = ("text", "question", "spelling")
ROWS = ("text", "question")  # the kinds of phase in which the model reads rows of tokens


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A phase of training on running text, on questions mixed with some text, or on spelling alone.

    Attributes:
        name: key of the phase in file names, random streams and hashes; before its fields in
            settings.
        title: the phase in reports: "pretraining".
    """

    name: str
    kind: str
    title: str
    steps: int = value(400, "steps", low=0, flag="each")
    batch_size: int = value(32, "rows, questions or tokens per step", low=1, flag="each")
    context: int = value(
        64,
        "tokens per row, or in the longest row of a question and its answer",
        low=1,
        kinds=ROWS,
        flag="each",
    )
    lr: float = value(3e-3, "peak learning rate", low=0, flag="each")
    # Replay: steps on text that preserve the model's language modelling; see data/replay.py.
    replay_share: float = value(
        0.0,
        "share of the steps that train on text instead of questions",
        low=0,
        below=1,
        kinds=("question",),
        flag="finetune",
    )
    replay_target: str = value(
        "text",
        "loss of these steps: text is cross-entropy; base is the KL divergence from the "
        "pretrained model, also on rows with half of the tokens replaced",
        choices=("text", "base"),
        kinds=("question",),
        flag="finetune",
    )
    replay_text: str = value(
        "corpus",
        "text of these steps: the corpus, base (samples of the pretrained model), or both in turn",
        choices=("corpus", "base", "both"),
        kinds=("question",),
        flag="finetune",
    )
    replay_weight: float = value(
        1.0,
        "factor on the clipped gradient of these steps",
        low=0,
        kinds=("question",),
        flag="finetune",
    )
    # The optimizer and its schedule.
    optimizer: str = value(
        "muon",
        "muon (for the model's inner matrices; AdamW for the rest) or adamw for all",
        choices=("muon", "adamw"),
        kinds=ROWS,
        flag="all",
    )
    beta2: float = value(0.95, "AdamW's second beta", low=0, below=1, flag=None)
    weight_decay: float = value(0.01, "weight decay", low=0, kinds=ROWS, flag=None)
    decay: str = value(
        "inner",
        "parameters with weight decay: the model's inner matrices, or all",
        choices=("inner", "all"),
        kinds=ROWS,
        flag=None,
    )
    char_lr_factor: float = value(
        1.0,
        "learning rate of the character encoder as a multiple of the model's",
        low=0,
        kinds=ROWS,
        flag="all",
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
    spelling_loss: float = value(
        0.0,
        "weight of the spelling loss: auxiliary heads predict the letters of tokens from their "
        "vectors",
        low=0,
        kinds=ROWS,
        flag="all",
    )

    def __post_init__(self) -> None:
        # users cannot set the kind, so a wrong one is a defect
        assert self.kind in KINDS, self.kind
        for item in described(self):
            # a field with one flag for all phases is called as that flag is
            shared = item.metadata["flag"] in ("all", None)
            name = item.name if shared else self.setting(item)
            check_field(item, getattr(self, item.name), name)

    @property
    def reads_rows(self) -> bool:
        """Whether the model reads rows of tokens in this phase, of text or of questions."""
        return self.kind in ROWS

    @property
    def spells(self) -> bool:
        """Whether this phase trains heads that predict letters from vectors."""
        return self.kind == "spelling" or self.spelling_loss > 0

    @property
    def replays_corpus(self) -> bool:
        return self._replays("corpus")

    @property
    def replays_base(self) -> bool:
        """Whether steps of this phase train on samples of the pretrained model."""
        return self._replays("base")

    def _replays(self, text: str) -> bool:
        # samples take minutes to make: only if a step will train on them
        return self.steps > 0 and self.replay_share > 0 and self.replay_text in (text, "both")

    def setting(self, item: Field[Any]) -> str:
        """The name of a field of this phase among all fields of a config: "lr", "finetune_lr"."""
        bare = {"each": "pretrain"}.get(item.metadata["flag"], item.metadata["flag"])
        if self.name == bare:
            return item.name
        # the name "warmup_spelling" is in saved files and random streams, so it cannot be shortened
        # itself
        prefix = "spelling" if self.kind == "spelling" else self.name
        return f"{prefix}_{item.name}"

    def uses(self, item: Field[Any]) -> bool:
        """Whether the field applies to this kind of phase."""
        return self.kind in item.metadata.get("kinds", KINDS)


SPELLING = Phase(
    name="warmup_spelling",
    kind="spelling",
    # no steps by default: it is for encoders that were not pretrained
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
