#!/usr/bin/env bash
# torch 2.13.0: an optimizer that is built after an evaluation under FSDP2 leaves weights untrained.
#
# Installs the pinned packages into a temporary virtual environment, runs a small program on the
# CPU and prints the result. Needs Python 3.11 or later (PYTHON=... selects the interpreter) and
# pip; the program takes a few seconds. Exit status: 0 if the behaviour is seen, 1 if it is not seen
# any more, 2 if the packages could not be installed.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

"${PYTHON:-python3}" -m venv "$dir/venv" || exit 2
"$dir/venv/bin/python" -m pip install --quiet torch==2.13.0 numpy==2.4.6 || exit 2

cat > "$dir/program.py" <<'PYTHON'
import sys
import warnings

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

warnings.simplefilter("ignore")
dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
mesh = init_device_mesh("cpu", (1,))
ids = torch.arange(6).view(2, 3)


def moved(evaluate_first):
    """Names of the weights that one step of SGD changes."""
    torch.manual_seed(0)
    block = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    model = nn.Sequential(nn.Embedding(8, 4), block, nn.Linear(4, 8))
    fully_shard(model[1], mesh=mesh)
    fully_shard(model, mesh=mesh)
    before = {name: value.full_tensor().clone() for name, value in model.named_parameters()}
    if evaluate_first:
        with torch.no_grad():
            model.eval()(ids)
    kinds = {name: type(value).__name__ for name, value in model.named_parameters()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loss = nn.functional.cross_entropy(model.train()(ids).flatten(0, 1), ids.flatten())
    loss.backward()
    optimizer.step()
    after = {name: value.full_tensor() for name, value in model.named_parameters()}
    return kinds, [name for name in before if not torch.equal(before[name], after[name])]


kinds, usual = moved(evaluate_first=False)
print("optimizer before any forward:  trained", usual)
later, fewer = moved(evaluate_first=True)
print("optimizer after an evaluation: trained", fewer)
print("parameters at that moment:", later)
every = ["0.weight", "1.0.weight", "1.0.bias", "2.weight", "2.bias"]
seen = usual == every and fewer == ["1.0.weight", "1.0.bias"] and set(kinds.values()) == {"DTensor"}
print("seen" if seen else "NOT SEEN")
dist.destroy_process_group()
sys.exit(not seen)
PYTHON

echo "versions: $("$dir/venv/bin/python" -c 'import torch; print("torch", torch.__version__)')"
cat <<'TEXT'
Guess: model.parameters() of a model under fully_shard are its sharded parameters at any time, so it
does not matter whether an optimizer is built before or after a measurement of the model.

Behaviour: the parameters of the root (here the embedding and the head) stay gathered after an
evaluation, because the root is not sharded again after its forward. model.parameters() then returns
other tensors. An optimizer that holds them never gets a gradient: embedding and head are not
trained. No error and no warning; the loss still falls, by the other weights. Call model.reshard()
before the optimizer is built, or build it first.

TEXT

"$dir/venv/bin/python" "$dir/program.py"
