#!/usr/bin/env bash
# torch 2.13.0 on x86 CPUs: softmax over a last axis of 7 numbers takes several times as long as over
# the same numbers with that axis in the middle, and longer than over twice as many in rows of 16.
#
# Installs the pinned packages into a temporary virtual environment, times softmax in one thread and
# prints the result. Needs Python 3.11 or later (PYTHON=... selects the interpreter) and pip. Exit
# status: 0 if the behaviour is seen, 1 if it is not seen any more, 2 if the packages could not be
# installed.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

"${PYTHON:-python3}" -m venv "$dir/venv" || exit 2
"$dir/venv/bin/python" -m pip install --quiet torch==2.13.0 numpy==2.4.6 || exit 2

cat > "$dir/softmax.py" <<'PYTHON'
import sys
import time

import torch

torch.set_num_threads(1)


def milliseconds(x, axis, rounds=30):
    """The least CPU time of a softmax over an axis."""
    times = []
    for _ in range(rounds):
        began = time.process_time()
        x.softmax(axis)
        times.append(time.process_time() - began)
    return 1000 * min(times)


print(f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, one thread, fp32")
rows = torch.randn(96, 42, 7)  # as the scores of attention over 7 tokens
swapped = rows.transpose(1, 2).contiguous()
wide = torch.randn(96, 42, 16)
assert torch.allclose(rows.softmax(2), swapped.softmax(1).transpose(1, 2))
found = {
    "(96, 42, 7), last axis": milliseconds(rows, 2),
    "(96, 7, 42), middle axis": milliseconds(swapped, 1),
    "(96, 42, 16), last axis": milliseconds(wide, 2),
}
for name, value in found.items():
    print(f"  {name:26} {value:.3f} ms")
last, middle, wider = found.values()
seen = last > 2.5 * middle and last > wider
print("short rows are slow" if seen else "short rows are not slow")
sys.exit(0 if seen else 1)
PYTHON

"$dir/venv/bin/python" "$dir/softmax.py"
