"""Task examples generated, tokenised and masked, per second and core. Half a minute.

python -m benchmarks.questions
"""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.measure import machine
from training.data import prepare
from training.flags import changed
from training.presets import preset

EXAMPLES = 30_000
BATCH = 64


def main() -> None:
    print(machine())
    for name in ("quick", "parent"):
        for wording in ("compact", "sentences"):
            config = changed(preset(name), wording=wording, finetune_context=256)
            batch_at = prepare(config, Path(".cache")).questions(config).batches(BATCH, "benchmark")
            batch_at(0)
            began = time.process_time()
            for k in range(EXAMPLES // BATCH):
                batch_at(k)
            rate = EXAMPLES // BATCH * BATCH / (time.process_time() - began)
            print(
                f"{name}, {wording}: {rate:,.0f} examples per second of one core ({rate / 3000:.1f} times "
                "the parent's 3,000)"
            )


if __name__ == "__main__":
    main()
