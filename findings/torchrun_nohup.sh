#!/usr/bin/env bash
# torch 2.13.0: `nohup torchrun` does not survive a closed terminal.
#
# Installs the pinned packages into a temporary virtual environment, runs a small program on the
# CPU and prints the result. Needs Python 3.11 or later (PYTHON=... selects the interpreter), pip
# and nohup; the programs take some seconds. Exit status: 0 if the behaviour is seen, 1 if it is not
# seen any more, 2 if the packages could not be installed.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

"${PYTHON:-python3}" -m venv "$dir/venv" || exit 2
"$dir/venv/bin/python" -m pip install --quiet torch==2.13.0 numpy==2.4.6 || exit 2

cat > "$dir/program.py" <<'PYTHON'
import os
import sys
import time

folder = sys.argv[1]
open(f"{folder}/begun-{os.environ.get('RANK', 'alone')}", "w").close()
while not os.path.exists(f"{folder}/go"):
    time.sleep(0.05)
open(f"{folder}/finished-{os.environ.get('RANK', 'alone')}", "w").close()
PYTHON

echo "versions: $("$dir/venv/bin/python" -c 'import torch; print("torch", torch.__version__)')"
cat <<'TEXT'
Guess: nohup makes a command ignore SIGHUP, which a terminal sends when it closes. A program under
`nohup torchrun` goes on, as under `nohup python`.

Behaviour: torchrun sets a handler for SIGHUP (also for SIGTERM, SIGINT and SIGQUIT) without a look
at whether SIGHUP is ignored. It then stops all its processes and exits with status 1. The
environment variable TORCHELASTIC_SIGNALS_TO_HANDLE, which the code reads, changes nothing, because
torchrun overwrites it with the default of its flag. The flag --signals-to-handle SIGTERM,SIGINT
keeps the nohup.

TEXT

go() { # a folder, then a command; prints whether the program survives a SIGHUP to the command
    mkdir "$1"
    local folder=$1 status=0
    shift
    nohup "$@" "$dir/program.py" "$folder" > "$folder/out" 2>&1 &
    local pid=$!
    until ls "$folder" | grep -q begun; do
        kill -0 "$pid" 2> /dev/null || break
        sleep 0.1
    done
    kill -HUP "$pid"
    sleep 2
    touch "$folder/go"
    wait "$pid" || status=$?
    ls "$folder" | grep -q finished && echo "finished, exit status $status" ||
        echo "ended before it was finished, exit status $status"
}

python=$dir/venv/bin/python
torchrun=("$python" -m torch.distributed.run --standalone --nproc_per_node 1)
alone=$(go "$dir/alone" "$python")
under=$(go "$dir/under" "${torchrun[@]}")
variable=$(TORCHELASTIC_SIGNALS_TO_HANDLE=SIGTERM,SIGINT go "$dir/variable" "${torchrun[@]}")
flag=$(go "$dir/flag" "${torchrun[@]}" --signals-to-handle SIGTERM,SIGINT)
echo "SIGHUP to nohup python: $alone"
echo "SIGHUP to nohup torchrun: $under"
echo "the same with TORCHELASTIC_SIGNALS_TO_HANDLE=SIGTERM,SIGINT: $variable"
echo "the same with --signals-to-handle SIGTERM,SIGINT: $flag"

if [ "$alone" = "finished, exit status 0" ] && [[ "$under" == "ended before"* ]] &&
    [[ "$variable" == "ended before"* ]] && [ "$flag" = "finished, exit status 0" ]; then
    echo seen
else
    echo "NOT SEEN"
    exit 1
fi
