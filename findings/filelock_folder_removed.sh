#!/usr/bin/env bash
# filelock 4.2.11: a process that waits for a lock ends with FileNotFoundError if the folder goes.
#
# Installs the pinned package into a temporary virtual environment, runs a small program and prints
# the result. Needs Python 3.11 or later (PYTHON=... selects the interpreter) and pip; the program
# takes some seconds. Exit status: 0 if the behaviour is seen, 1 if it is not seen any more, 2 if
# the package could not be installed.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

"${PYTHON:-python3}" -m venv "$dir/venv" || exit 2
"$dir/venv/bin/python" -m pip install --quiet filelock==4.2.11 || exit 2

cat > "$dir/program.py" <<'PYTHON'
import shutil
import sys
import threading
import time
from pathlib import Path

import filelock

folder = Path(sys.argv[1])
first = filelock.FileLock(folder / "new" / "folders" / "data.lock")
first.acquire()
print("acquire makes the folders:", (folder / "new" / "folders").is_dir())


def wait(results):
    try:
        with filelock.FileLock(folder / "new" / "folders" / "data.lock"):
            results.append("acquired")
    except OSError as error:
        results.append(type(error).__name__)


# the first one has failed: it removes what it made, and gives up the lock
results = []
waits = threading.Thread(target=wait, args=(results,))
waits.start()
time.sleep(1)
shutil.rmtree(folder / "new")
first.release()
waits.join()
print("the one that waited:", *results)
wait(results)
print("a second attempt of it:", results[1])
PYTHON

echo "versions: filelock $("$dir/venv/bin/python" -c 'import filelock; print(filelock.__version__)')"
cat <<'TEXT'
Guess: FileLock.acquire makes the missing folders of its file, and a waiting acquire opens the file
anew in each attempt. So a process that waits goes on, and makes the folders again, if the first
process fails and removes the folder that it had made for its results.

Behaviour: the folders are made once, before the first attempt. The waiting acquire raises
FileNotFoundError, although timeout is -1 and nobody holds the lock. A second acquire succeeds.
Programs that make a result folder under a lock and remove it after a fault must catch it and acquire
again.

TEXT

"$dir/venv/bin/python" "$dir/program.py" "$dir/place" | tee "$dir/out"
if [ "$(cat "$dir/out")" = "acquire makes the folders: True
the one that waited: FileNotFoundError
a second attempt of it: acquired" ]; then
    echo seen
else
    echo "NOT SEEN"
    exit 1
fi
