#!/usr/bin/env bash
# torch 2.13.0: prune.remove changes the outputs of a model whose embedding and head are tied.
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

cat > "$dir/prune_remove.py" <<'PYTHON'
import torch
from torch import nn
from torch.nn.utils import prune

IDS = torch.arange(8)


class Model(nn.Module):
    def __init__(self, tie):
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.head = nn.Embedding(50, 16), nn.Linear(16, 50, bias=False)
        if tie:
            self.head.weight = self.embedding.weight

    def forward(self, ids):
        return self.head(self.embedding(ids))


@torch.no_grad()
def measure(tie, name):
    """Return by how much prune and prune.remove change the outputs, and zeros in the other part."""
    model = Model(tie)
    pruned, other = model.get_submodule(name), "head" if name == "embedding" else "embedding"
    outputs = [model(IDS)]
    prune.l1_unstructured(pruned, "weight", 0.3)
    outputs.append(model(IDS))
    zeros = [int((model.get_submodule(other).weight == 0).sum())]
    prune.remove(pruned, "weight")
    outputs.append(model(IDS))
    zeros.append(int((model.get_submodule(other).weight == 0).sum()))
    steps = [float((b - a).abs().max()) for a, b in zip(outputs, outputs[1:])]
    return *steps, *zeros


print("tied   pruned     changed by prune  by prune.remove  zeros in the other part: before  after")
seen = True
for tie in (False, True):
    for name in ("embedding", "head"):
        by_prune, by_remove, before, after = measure(tie, name)
        print(f"{tie!s:6} {name:10} {by_prune:15.3f} {by_remove:17.3f} {before:31d} {after:6d}")
        seen &= by_prune > 0 and before == 0 and (by_remove > 0) == (after > 0) == tie
print("seen" if seen else "NOT SEEN")
raise SystemExit(not seen)
PYTHON

echo "torch version: $("$dir/venv/bin/python" -c 'import torch; print(torch.__version__)')"
cat <<'TEXT'
Guess: prune.remove only makes the pruning permanent, so the outputs are the same before and after
it, whether the embedding and the head are tied or not.

Behaviour: if they are tied, prune.remove changes the outputs. l1_unstructured makes the shared
Parameter `weight_orig` of the pruned module and masks a copy of it; the other module keeps the
Parameter itself and stays dense. So the pruned model is evaluated with one sparse and one dense
table. prune.remove then writes the masked values into the shared Parameter, in place, and the other
module becomes sparse too.

TEXT
"$dir/venv/bin/python" -W ignore "$dir/prune_remove.py" || exit 1
cat <<'TEXT'

Consequence: scores that were measured while a tied embedding or head was pruned are not those of
the model after prune.remove. Untie the head first, or measure after prune.remove.
TEXT
