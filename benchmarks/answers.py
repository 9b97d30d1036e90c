"""Compare greedy answers in batches with one by one, and a folded model with a plain one.

The batches use a cache, the single answers do not. Takes one minute.

    python -m benchmarks.answers
"""

from __future__ import annotations

import copy
from pathlib import Path

import torch

import charembed
from benchmarks.measure import interleaved, machine, show
from tests.plugin.reference import generate_one_by_one
from training.ask.eval_sets import make_eval_sets
from training.config.presets import preset
from training.data.prepare import prepare
from training.models.generate import generate
from training.run.build import build_arm
from training.train.kinds import phase_batches

NEW_TOKENS = 12


def main() -> None:
    print(machine())
    config = preset("quick")
    data = prepare(config, Path(".cache"))
    model = build_arm(config, "lstm", 0, data.spellings).eval()
    prompts = [
        data.tokenizer.encode(item.prompt)
        for exam in make_eval_sets(data, 0)
        for item in exam.items[:20]
    ]

    def batched() -> list[list[int]]:
        return generate(model, prompts, max_new_tokens=NEW_TOKENS, context=config.context)

    def one_by_one() -> list[list[int]]:
        return generate_one_by_one(model, prompts, max_new_tokens=NEW_TOKENS)

    print(f"{len(prompts)} prompts, identical answers: {batched() == one_by_one()}")
    show(
        "answers of 12 tokens",
        interleaved({"one by one, no cache": one_by_one, "batched, cached": batched}, 3),
        "one by one, no cache",
        faster=True,
    )

    plain = build_arm(config, "plain", 0, data.spellings).eval()
    ids_BT = phase_batches(data, config.text, 0)(0).ids_BT
    with torch.no_grad():
        unfolded = model(ids_BT)
        folded = charembed.fold(copy.deepcopy(model))
        print(
            "folded logits equal to the unfolded model's, bit for bit:",
            torch.equal(folded(ids_BT), unfolded),
        )
        candidates = {
            "plain": plain,
            "plain, again": copy.deepcopy(plain),
            "lstm, unfolded": model,
            "lstm, folded": folded,
        }
        show(
            "evaluation, 32 x 64 tokens",
            interleaved(
                {name: lambda m=candidate: m(ids_BT) for name, candidate in candidates.items()}, 41
            ),
            "plain",
        )


if __name__ == "__main__":
    main()
