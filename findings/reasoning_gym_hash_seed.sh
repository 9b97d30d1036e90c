#!/usr/bin/env bash
# reasoning-gym 0.1.25: with the same seed two tasks have other questions in each process, and one has
# other answers.
#
# Installs a pinned package and its dependencies into a temporary virtual environment, runs a small
# program on the CPU in several processes and prints the results. Needs Python 3.11 or later
# (PYTHON=... selects the interpreter) and pip. Exit status: 0 if the behaviour is seen, 1 if it is
# not seen any more, 2 if the packages could not be installed.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

"${PYTHON:-python3}" -m venv "$dir/venv" || exit 2
"$dir/venv/bin/python" -m pip install --quiet reasoning-gym==0.1.25 || exit 2

cat > "$dir/draw.py" <<'PYTHON'
import sys
from importlib.metadata import version

import reasoning_gym

print("reasoning-gym", version("reasoning-gym"))
for task in sys.argv[1:]:
    items = reasoning_gym.create_dataset(task, seed=45, size=3)
    # the end of each question holds what was drawn
    print(task, [item["question"].strip()[-20:] for item in items], [item["answer"] for item in items])
PYTHON

cat <<'TEXT'
Guess: item i of seed s is drawn by random.Random(s + i), so a seed gives the same items everywhere.

Behaviour: isomorphic_strings and ransom_note draw from list(set of letters), and word_ladder walks
over sets of words. The order of a set of strings depends on the process (PYTHONHASHSEED), so the
first two have other questions in each process, and word_ladder has other answers to the same
questions. Other tasks, such as spell_backward, have the same items.

TEXT
draw() {
    PYTHONHASHSEED=$1 "$dir/venv/bin/python" -W ignore "$dir/draw.py" "${@:2}"
}
for task in isomorphic_strings ransom_note word_ladder spell_backward; do
    for seed in 0 1; do draw "$seed" "$task" > "$dir/$task.$seed"; done
    # the same hash seed again: nothing else differs between two processes
    draw 0 "$task" | cmp -s - "$dir/$task.0" || exit 1
    echo "PYTHONHASHSEED 0: $(tail -n 1 "$dir/$task.0")"
    echo "PYTHONHASHSEED 1: $(tail -n 1 "$dir/$task.1")"
done
head -n 1 "$dir/spell_backward.0"
cmp -s "$dir/spell_backward.0" "$dir/spell_backward.1" || exit 1
for task in isomorphic_strings ransom_note word_ladder; do
    ! cmp -s "$dir/$task.0" "$dir/$task.1" || exit 1
done
cat <<'TEXT'

Consequence: a score on isomorphic_strings or ransom_note is of items that nobody else has. Save the
items with the answers, or set PYTHONHASHSEED to the same number before Python starts.
TEXT
