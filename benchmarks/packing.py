"""Time batches of questions, forward and backward of a pretrained model, in three forms:

- padded: each row as long as the longest one;
- long row: packed, with a mask over all pairs of positions of the batch;
- within rows: packed, with attention within each row alone.

    python -m benchmarks.packing   # SmolLM2, 32 questions; or --model NAME

The answers are letters, then a scratchpad that spells the words; of the latter 64 questions are
timed beside 32. The output also gives the number of positions with padding and without: their ratio
bounds the gain of packing. bf16 is left out if the CPU does not multiply it. The values are CPU
seconds of one thread.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch

from benchmarks.measure import interleaved, machine, show
from training.config.flags import parse
from training.data.batches import Batch
from training.data.prepare import prepare
from training.errors import exit_status
from training.models.huggingface import HuggingFace
from training.models.packing import real_positions
from training.models.precision import has_fast_bf16
from training.models.smollm2 import unpack
from training.train.kinds import phase_batches
from training.train.loss import summed_loss

FORMS = {"padded": (False, False), "long row": (True, False), "within rows": (True, True)}
SCRATCHPAD = "worked"  # the form of answers with one


def program(argv: Sequence[str] | None) -> int:
    config, options = parse(
        ["--preset", "smollm2", *(sys.argv[1:] if argv is None else argv)], __doc__
    )
    unpack(config.model.model)
    model = HuggingFace.load(config.model.model, config.context).train()
    print(machine())
    for form in (config.data.answer_form, SCRATCHPAD):
        changed = replace(config, data=replace(config.data, answer_form=form))
        # room for a scratchpad
        phase = replace(changed.phase("finetune"), context=128)
        data = prepare(changed, options.cache)
        sizes = (
            [phase.batch_size, 2 * phase.batch_size] if form == SCRATCHPAD else [phase.batch_size]
        )
        batches = [phase_batches(data, replace(phase, batch_size=n), 0)(0) for n in sizes]
        for bf16 in (False, True) if has_fast_bf16(cpu=True) else (False,):
            measure(model, form, batches, bf16)
    return 0


def measure(model: HuggingFace, form: str, batches: Sequence[Batch], bf16: bool) -> None:
    """Print the times of a batch in each form, and of the larger batch within rows."""
    candidates = {}
    for batch in batches:
        forms = FORMS if batch is batches[0] else {"within rows": FORMS["within rows"]}
        for name, (packs, blocks) in forms.items():
            step = partial(train, model, batch, packs, blocks, bf16)
            candidates[f"{len(batch.ids_BT)} questions, {name}"] = step
    keep_BT = batches[0].keep_BT
    assert keep_BT is not None
    real = int(real_positions(keep_BT).sum())
    print(f"answers {form}: {keep_BT.numel()} positions with padding, {real} without")
    seconds = interleaved(candidates, rounds=7, clock=time.process_time)
    title = f"{form}, {'bf16' if bf16 else 'fp32'}, forward and backward"
    show(title, seconds, f"{len(keep_BT)} questions, long row")


def train(model: HuggingFace, batch: Batch, packs: bool, blocks: bool, bf16: bool) -> None:
    model.packs, model.blocks = packs, blocks
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        loss = summed_loss(model, batch.ids_BT, batch.targets_BT, batch.keep_BT)
    loss.backward()  # type: ignore[no-untyped-call]
    model.zero_grad()


if __name__ == "__main__":
    sys.exit(exit_status(lambda: program(None)))
