"""Time one batch of questions with padding and without: forward and backward of a pretrained model.

    python -m benchmarks.packing   # SmolLM2, 32 questions; or --model NAME

The output also gives the number of positions of the padded rows and the number of used ones: their
ratio bounds the gain. The model runs in bf16 if the CPU multiplies it, else in fp32.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import torch

from benchmarks.measure import interleaved, machine, show
from training.config.flags import parse
from training.data.prepare import prepare
from training.errors import exit_status
from training.models.huggingface import HuggingFace
from training.models.precision import has_fast_bf16
from training.models.smollm2 import unpack
from training.train.kinds import phase_batches
from training.train.loss import summed_loss


def program(argv: Sequence[str] | None) -> int:
    config, options = parse(
        ["--preset", "smollm2", *(sys.argv[1:] if argv is None else argv)], __doc__
    )
    unpack(config.model.model)
    data = prepare(config, options.cache)
    model = HuggingFace.load(config.model.model, config.context).train()
    batch = phase_batches(data, config.phase("finetune"), 0)(0)
    assert batch.keep_BT is not None

    def step(packs: bool) -> None:
        model.packs = packs
        with torch.autocast("cpu", torch.bfloat16, enabled=has_fast_bf16(cpu=True)):
            loss = summed_loss(model, batch.ids_BT, batch.targets_BT, batch.keep_BT)
        loss.backward()
        model.zero_grad()

    ends = (batch.keep_BT * (torch.arange(batch.ids_BT.shape[1]) + 1)).amax(1)
    print(f"{machine()}; {batch.ids_BT.numel()} positions with padding, {int(ends.sum())} without")
    rounds = interleaved({"padded": lambda: step(False), "packed": lambda: step(True)}, rounds=7)
    show("one batch of questions, forward and backward", rounds, "padded")
    return 0


if __name__ == "__main__":
    sys.exit(exit_status(lambda: program(None)))
