#!/usr/bin/env bash
# accelerate 1.15.0, torch 2.13.0: `accelerate launch --cpu --num_processes 2` starts one process.
#
# Installs the pinned packages into a temporary virtual environment, runs a small program on the
# CPU and prints the result. Needs Python 3.11 or later (PYTHON=... selects the interpreter) and
# pip; the programs take some seconds. Exit status: 0 if the behaviour is seen, 1 if it is not seen
# any more, 2 if the packages could not be installed.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

"${PYTHON:-python3}" -m venv "$dir/venv" || exit 2
"$dir/venv/bin/python" -m pip install --quiet torch==2.13.0 numpy==2.4.6 accelerate==1.15.0 || exit 2

cat > "$dir/program.py" <<'PYTHON'
from accelerate import PartialState

state = PartialState(cpu=True)
print(f"process {state.process_index} of {state.num_processes}, {state.distributed_type}")
state.destroy_process_group()
PYTHON

cat > "$dir/cpu.yaml" <<'YAML'
compute_environment: LOCAL_MACHINE
distributed_type: MULTI_CPU
num_machines: 1
machine_rank: 0
num_processes: 2
main_training_function: main
mixed_precision: "no"
use_cpu: true
YAML

echo "versions: $("$dir/venv/bin/python" -c \
    'import accelerate, torch; print("accelerate", accelerate.__version__, "torch", torch.__version__)')"
cat <<'TEXT'
Guess: --num_processes 2 with --cpu, or a config file with distributed_type MULTI_CPU and
num_processes 2, starts two processes that are joined by gloo, as --num_processes 2 does on GPUs.

Behaviour: one process is started, its distributed_type is NO, the exit status is 0, and nothing is
said. So a script or a test that compares "two processes" with one compares one with itself.
accelerate starts several processes on a CPU through mpirun alone (a config with mpirun_config).
torchrun starts two, and accelerate joins them.

TEXT

bin="$dir/venv/bin"
export OMP_NUM_THREADS=1
common=(--num_machines 1 --mixed_precision no --dynamo_backend no --num_cpu_threads_per_process 1)
run() { # a title, then a command; prints the lines of the processes and the status
    echo "$1"
    shift
    status=0
    "$@" > "$dir/out" 2> "$dir/err" || status=$?
    sort "$dir/out"
    echo "    exit status $status, lines of warnings or errors: $(grep -c . "$dir/err" || true)"
}
run "accelerate launch --cpu --num_processes 2:" \
    "$bin/python" -m accelerate.commands.launch --cpu --num_processes 2 "${common[@]}" "$dir/program.py"
flags=$(cat "$dir/out")
run "accelerate launch --config_file (MULTI_CPU, num_processes 2):" \
    "$bin/python" -m accelerate.commands.launch --config_file "$dir/cpu.yaml" "$dir/program.py"
file=$(cat "$dir/out")
run "torchrun --nproc_per_node 2:" \
    "$bin/torchrun" --standalone --nproc_per_node 2 "$dir/program.py"
two=$(sort "$dir/out")

one="process 0 of 1, DistributedType.NO"
if [ "$flags" = "$one" ] && [ "$file" = "$one" ] && [ "$(wc -l <<< "$two")" = 2 ] &&
    grep -q "process 1 of 2, DistributedType.MULTI_CPU" <<< "$two"; then
    echo seen
else
    echo "NOT SEEN"
    exit 1
fi
