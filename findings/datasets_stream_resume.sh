#!/usr/bin/env bash
# datasets 5.2.0: a resumed stream is in another epoch, and with set_epoch it misses and repeats rows.
#
# IterableDataset.state_dict() is meant for resuming. A shuffled stream of 12 rows is read for 5 rows
# of epoch 1, and its state is loaded into a new stream. The guess beforehand: the other 7 rows
# follow. The state does not hold the epoch: the new stream begins epoch 0, with all 12 rows. After
# set_epoch(1) it goes on in epoch 1, but the rows of the shuffle buffer are missing, and a row that
# was read comes again. The warning says that the buffer is refilled, and not that its rows are lost.
#
# Installs the pinned packages into a temporary virtual environment, runs a small program and prints
# the result. Needs Python 3.11 or later (PYTHON=... selects the interpreter) and pip. Exit status: 0
# if the behaviour is seen, 1 if it is not seen any more, 2 if the packages could not be installed.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

"${PYTHON:-python3}" -m venv "$dir/venv" || exit 2
"$dir/venv/bin/python" -m pip install --quiet datasets==5.2.0 pyarrow==26.0.1 || exit 2

cat > "$dir/resume.py" <<'PYTHON'
import sys
from importlib.metadata import version

import datasets

ROWS, READ = 12, 5


def stream():
    rows = datasets.Dataset.from_dict({"row": list(range(ROWS))})
    return rows.to_iterable_dataset(num_shards=3).shuffle(seed=0, buffer_size=4)


def rest_of(rows):
    return [each["row"] for each in rows]


one = stream()
one.set_epoch(1)
reading = iter(one)
first = [next(reading)["row"] for _ in range(READ)]
state = one.state_dict()
rest = rest_of(reading)
assert sorted(first + rest) == list(range(ROWS))

bare = stream()
bare.load_state_dict(state)
resumed = rest_of(bare)
told = stream()
told.set_epoch(1)
told.load_state_dict(state)
in_epoch = rest_of(told)

print(f"datasets {version('datasets')}")
print(f"epoch 1: {first}, then {rest}")
print(f"resumed from the state: {resumed}")
print(f"resumed from the state, after set_epoch(1): {in_epoch}")
print(f"  missed {sorted(set(rest) - set(in_epoch))}, read twice {sorted(set(first) & set(in_epoch))}")
seen = sorted(resumed) == list(range(ROWS)) and bool(set(rest) - set(in_epoch))
print("behaviour seen" if seen else "behaviour not seen")
sys.exit(0 if seen else 1)
PYTHON

HF_HUB_OFFLINE=1 HF_HOME="$dir/home" "$dir/venv/bin/python" -W ignore "$dir/resume.py"
