#!/usr/bin/env bash
# torch 2.13.0: FlopCounterMode counts an LSTM and attention on the CPU as 0, without a warning.
#
# A GRU and an RNN are counted; an LSTM of the same sizes is not, although it has more products.
# Attention by scaled_dot_product_attention is not counted; the same attention as two products is.
# An encoder layer in evaluation mode is counted if gradients are enabled, and is 0 under no_grad.
# addmm is counted, addmm_ in place is not. So a count on the CPU depends on the kernel that torch
# selects: an operator without a formula in the counter's registry adds nothing.
#
# Installs the pinned packages into a temporary virtual environment, runs a small program on the
# CPU and prints the result. Needs Python 3.11 or later (PYTHON=... selects the interpreter) and
# pip; the program takes a few seconds of CPU time. Exit status: 0 if the behaviour is seen, 1 if
# it is not seen any more, 2 if the packages could not be installed.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

"${PYTHON:-python3}" -m venv "$dir/venv" || exit 2
"$dir/venv/bin/python" -m pip install --quiet torch==2.13.0 numpy==2.4.6 || exit 2

cat > "$dir/flop_counter.py" <<'PYTHON'
import sys

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

ROWS, STEPS, WIDTH, HIDDEN, HEADS = 2, 5, 32, 16, 4
x = torch.randn(ROWS, STEPS, WIDTH)
a, b, c = torch.randn(64, 32), torch.randn(32, 16), torch.zeros(64, 16)
q, k, v = (torch.randn(ROWS, HEADS, STEPS, WIDTH // HEADS) for _ in range(3))
layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 64, batch_first=True).eval()


def flops(run):
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def by_hand():
    scores = q @ k.transpose(-2, -1) / (WIDTH // HEADS) ** 0.5
    return scores.softmax(-1) @ v


def without_gradients():
    with torch.no_grad():
        layer(x)


# the same function in two ways
assert torch.allclose(
    by_hand(), nn.functional.scaled_dot_product_attention(q, k, v), rtol=1e-4, atol=1e-5
)
with torch.no_grad():
    fast = layer(x)
assert torch.allclose(layer(x), fast, rtol=1e-4, atol=1e-5)

products = 2 * ROWS * STEPS * 4 * HIDDEN * (WIDTH + HIDDEN)  # of the LSTM, at least
counts = {
    "nn.RNN": flops(lambda: nn.RNN(WIDTH, HIDDEN, batch_first=True)(x)),
    "nn.GRU": flops(lambda: nn.GRU(WIDTH, HIDDEN, batch_first=True)(x)),
    "nn.LSTM": flops(lambda: nn.LSTM(WIDTH, HIDDEN, batch_first=True)(x)),
    "attention as two products": flops(by_hand),
    "scaled_dot_product_attention": flops(
        lambda: nn.functional.scaled_dot_product_attention(q, k, v)
    ),
    "encoder layer, gradients enabled": flops(lambda: layer(x)),
    "encoder layer, no_grad": flops(without_gradients),
    "torch.addmm(c, a, b)": flops(lambda: torch.addmm(c, a, b)),
    "c.addmm_(a, b)": flops(lambda: c.addmm_(a, b)),
}
print(f"torch {torch.__version__}, FLOPs counted on the CPU (the LSTM has at least {products:,}):")
for name, count in counts.items():
    print(f"  {name}: {count:,}")
rnn, gru, lstm, two, sdpa, enabled, disabled, out, inplace = counts.values()
seen = min(rnn, gru, two, enabled, out) > 0 and lstm == sdpa == disabled == inplace == 0
print("behaviour seen" if seen else "behaviour not seen")
sys.exit(0 if seen else 1)
PYTHON

"$dir/venv/bin/python" -W ignore "$dir/flop_counter.py"
