#!/usr/bin/env bash
# torch 2.13.0: processes of a torchrun that was killed go on, and train with each other.
#
# Installs the pinned packages into a temporary virtual environment, runs a small program on the
# CPU and prints the result. Needs Python 3.11 or later (PYTHON=... selects the interpreter) and
# pip; the programs take some seconds. Exit status: 0 if the behaviour is seen, 1 if it is not seen
# any more, 2 if the packages could not be installed.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

"${PYTHON:-python3}" -m venv "$dir/venv" || exit 2
"$dir/venv/bin/python" -m pip install --quiet torch==2.13.0 numpy==2.4.6 || exit 2

cat > "$dir/program.py" <<'PYTHON'
import os
import sys
import time

import torch
import torch.distributed as dist

folder, launcher = sys.argv[1], os.getppid()
dist.init_process_group("gloo")
dist.all_reduce(torch.ones(1))
if dist.get_rank() == 0:
    open(f"{folder}/begun", "w").close()
while os.getppid() == launcher:  # until torchrun has been killed
    time.sleep(0.05)
for _ in range(20):
    total = torch.ones(1)
    dist.all_reduce(total)
    time.sleep(0.1)
with open(f"{folder}/after-{dist.get_rank()}", "w") as file:
    file.write(f"process {dist.get_rank()}: 20 sums over {int(total)} processes after the kill\n")
PYTHON

echo "versions: $("$dir/venv/bin/python" -c 'import torch; print("torch", torch.__version__)')"
cat <<'TEXT'
Guess: the processes of a torchrun that dies by SIGKILL (the out-of-memory killer, a batch system)
end too, or fail at their next collective: torchrun hosts the store that joined them, and it ends
them in all other cases.

Behaviour: they go on. Each has a session of its own, no signal for the death of its parent is set,
and gloo's connections do not need the store. They train to the end, with no one who would end them
if one fails, and beside the next start of the same command.

TEXT

setsid "$dir/venv/bin/python" -m torch.distributed.run --standalone --nproc_per_node 2 \
    "$dir/program.py" "$dir" > "$dir/out" 2>&1 &
pid=$!
until [ -e "$dir/begun" ]; do
    kill -0 "$pid" 2> /dev/null || { cat "$dir/out"; exit 1; }
    sleep 0.1
done
kill -KILL "$pid"
status=0
wait "$pid" 2> /dev/null || status=$?
echo "torchrun: exit status $status"
for _ in $(seq 600); do
    [ -e "$dir/after-0" ] && [ -e "$dir/after-1" ] && break
    sleep 0.1
done
cat "$dir"/after-* || true
if [ "$status" = 137 ] && [ -e "$dir/after-0" ] && [ -e "$dir/after-1" ]; then
    echo seen
else
    echo "NOT SEEN"
    exit 1
fi
