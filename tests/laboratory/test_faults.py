"""Faults from outside of a run: SIGKILL, other signals, a second start, a full disk."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.laboratory.runs import (
    COMMAND,
    ROOT,
    TINY,
    alive,
    children,
    finish,
    left_overs,
    losses,
    numbers,
    start,
)
from tests.messages import says
from training import compare
from training.evaluate import __main__ as evaluate
from training.interrupts import held_back, listening
from training.run.folder import locked

LONG = ["--steps", "60", "--finetune-steps", "10", "--save-every", "10"]
PATIENCE = 300  # seconds; only a hang waits as long


def wait_until(true: Callable[[], object], process: subprocess.Popen[str]) -> None:
    """Wait until `true()` holds; the process must not end before."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def some_steps(out: Path) -> bool:
    """Return True if any arm has written to its metrics."""
    return any(path.stat().st_size for path in out.glob("seed*/*/metrics.jsonl"))


def wait_for_death(pids: list[int]) -> None:
    deadline = time.monotonic() + PATIENCE
    while any(map(alive, pids)):
        assert time.monotonic() < deadline, "an orphan lives on"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def whole(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run; the numbers of all other runs must equal its numbers."""
    out = tmp_path_factory.mktemp("whole") / "run"
    finish(*LONG, "--out", out, "--cache", cache)
    return out


def goes_on_to_the_same_numbers(out: Path, whole: Path, cache: Path) -> None:
    finish(*LONG, "--out", out, "--cache", cache, "--resume")
    assert numbers(out) == numbers(whole)
    assert losses(out) == losses(whole)
    assert left_overs(out) == left_overs(cache) == []
    assert not list(out.rglob("state.safetensors")), "a finished arm needs no optimizer state"


@pytest.mark.parametrize(
    ("number", "jobs"),
    [
        (signal.SIGINT, 1),
        (signal.SIGINT, 2),
        # The same handler serves all three signals; the default tests send SIGINT.
        pytest.param(signal.SIGTERM, 2, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, 2, marks=pytest.mark.slow),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_asked_to_stop_it_saves_and_leaves_nobody_behind(
    number: signal.Signals, jobs: int, whole: Path, cache: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    process = start(*LONG, "--jobs", str(jobs), "--out", out, "--cache", cache)
    wait_until(lambda: some_steps(out), process)
    family = children(process.pid)
    if jobs == 2 and number == signal.SIGINT:
        os.killpg(process.pid, number)  # what Ctrl-C does in a terminal
    else:
        process.send_signal(number)
    errors = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 130, errors
    assert errors.startswith("Stopped")
    assert errors.count("\n") == 1, errors
    says(errors, "--resume")
    assert not (out / "results.json").exists()
    assert not any(map(alive, family))
    goes_on_to_the_same_numbers(out, whole, cache)


@pytest.mark.parametrize("jobs", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_killed_it_leaves_nobody_behind_and_goes_on(
    jobs: int, whole: Path, cache: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    process = start(*LONG, "--jobs", str(jobs), "--out", out, "--cache", cache)
    wait_until(lambda: some_steps(out), process)
    family = children(process.pid)
    assert len(family) == (2 if jobs == 2 else 0)
    process.kill()
    errors = process.communicate(timeout=PATIENCE)[1]
    assert errors == ""
    wait_for_death(family)
    goes_on_to_the_same_numbers(out, whole, cache)


def test_a_killed_arm_is_named_with_the_likely_reason(
    whole: Path, cache: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    process = start(*LONG, "--jobs", "2", "--out", out, "--cache", cache)
    wait_until(lambda: some_steps(out), process)
    os.kill(children(process.pid)[0], signal.SIGKILL)
    errors = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 1
    says(errors, "seed 0")
    says(errors, "SIGKILL")
    assert "Traceback" not in errors
    goes_on_to_the_same_numbers(out, whole, cache)


def test_a_stop_while_the_arms_are_still_starting(whole: Path, cache: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = start(*LONG, "--jobs", "2", "--out", out, "--cache", cache)
    wait_until(lambda: children(process.pid), process)
    family = children(process.pid)
    os.killpg(process.pid, signal.SIGINT)
    errors = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 130, errors
    assert errors.startswith("Stopped"), errors
    assert not any(map(alive, family))
    goes_on_to_the_same_numbers(out, whole, cache)


@pytest.mark.parametrize(
    "command", ["compare", "evaluate smollm2", "probe smollm2", "study functions"]
)
def test_a_stop_before_anything_began(command: str, cache: Path, tmp_path: Path) -> None:
    name, *flags = command.split()
    python = [sys.executable, "-m", f"training.{name}"]
    process = start(*flags, "--out", tmp_path / "run", "--cache", cache, command=python, cold=True)
    maps = Path(f"/proc/{process.pid}/maps")
    wait_until(lambda: "libtorch" in maps.read_text(), process)
    process.send_signal(signal.SIGINT)
    errors = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 130, errors
    assert errors.startswith("Stopped"), errors
    assert errors.count("\n") == 1, errors
    assert not (tmp_path / "run").exists()


def test_ctrl_c_is_heard_where_it_was_ignored_at_the_start(cache: Path, tmp_path: Path) -> None:
    """As in `command &` of a script."""
    out = tmp_path / "run"
    flags = [*LONG, "--jobs", "2", "--out", out, "--cache", cache]
    process = start(*flags, ignored=[signal.SIGINT])
    wait_until(lambda: some_steps(out), process)
    process.send_signal(signal.SIGINT)
    errors = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 130, errors
    assert errors.startswith("Stopped")


def test_nohup_lets_a_closed_terminal_pass(whole: Path, cache: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    flags = [*LONG, "--jobs", "2", "--out", out, "--cache", cache]
    process = start(*flags, ignored=[signal.SIGHUP])
    wait_until(lambda: some_steps(out), process)
    os.killpg(process.pid, signal.SIGHUP)
    errors = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 0, errors
    assert numbers(out) == numbers(whole)


def test_of_two_runs_in_one_folder_one_loses(
    finished: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*")}
    with locked(finished):
        flags = ["--seeds", "2", "--out", str(finished), "--cache", str(cache), "--resume"]
        assert compare.main([*TINY, *flags]) == 2
    says(capsys.readouterr().err, f"{finished}")
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*")} == before


def test_what_dead_processes_left_is_cleared(tmp_path: Path, cache: Path) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    host = socket.gethostname().split(".")[0]
    theirs = cache / f".vocabulary.json.{host}.{dead.pid}.1.part"
    living = cache / f".vocabulary.json.{host}.{os.getpid()}.1.part"
    other = cache / f".vocabulary.json.elsewhere.{dead.pid}.1.part"
    for path in (theirs, living, other):
        path.write_text("half")
    out = tmp_path / "run"
    finish("--out", out, "--cache", cache)
    assert not theirs.exists()
    assert living.exists()
    assert other.exists()
    living.unlink()
    other.unlink()
    ours = out / "seed0" / "lstm" / f".state.safetensors.elsewhere.{dead.pid}.1.part"
    ours.write_text("half")
    finish("--out", out, "--cache", cache, "--resume")
    assert left_overs(out) == []


@pytest.mark.usefixtures("data")  # whose files in the cache are larger than the limit
@pytest.mark.parametrize("jobs", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_a_disk_that_takes_no_more_gets_a_sentence(jobs: int, cache: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    flags = ["--jobs", str(jobs), "--out", out, "--cache", cache]
    process = start(*flags, file_size=60_000)
    errors = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 1, errors
    says(errors, "pretrain.safetensors")
    says(errors, "File too large")
    assert "Traceback" not in errors
    assert left_overs(out) == []
    finish("--out", out, "--cache", cache, "--resume")


def test_signals_are_held_back_whatever_thread_hears_them() -> None:
    """The signal mask belongs to one thread; the system may deliver the signal to another."""
    waiting = threading.Event()
    thread = threading.Thread(target=waiting.wait)
    thread.start()
    reached: list[None] = []

    def interrupted() -> None:
        with listening(), held_back():
            os.kill(os.getpid(), signal.SIGINT)
            reached.extend(time.sleep(0.01) for _ in range(20))

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    waiting.set()
    thread.join()
    assert len(reached) == 20


def test_the_second_signal_does_not_break_what_the_first_began() -> None:
    stopped = False
    with listening():
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt:
            stopped = True
            signal.raise_signal(signal.SIGTERM)
    assert stopped


def test_nobody_reads_the_progress_any_more(whole: Path, cache: Path, tmp_path: Path) -> None:
    """Standard error is a pipe without a reader: the run continues."""
    reader, writer = os.pipe()
    os.close(reader)
    flags = [flag for flag in (*COMMAND, *LONG) if flag != "--quiet"]
    out = tmp_path / "run"
    done = subprocess.run(
        [*flags, "--jobs", "2", "--out", out, "--cache", cache],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=writer,
        check=False,
    )
    os.close(writer)
    assert done.returncode == 0
    assert numbers(out) == numbers(whole)


# Evaluations

EVALUATE = [sys.executable, "-m", "training.evaluate"]


def evaluating(run: Path, out: Path, cache: Path, *more: str) -> list[str]:
    asked = ["--suite", "letters=reverse+count", "--questions", "20", "--batch-size", "4"]
    place = ["--out", str(out), "--cache", str(cache), "--cpu", "--quiet"]
    return [str(run), *asked, *place, *more]


@pytest.fixture(scope="module")
def evaluated(finished: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The results of an undisturbed evaluation."""
    out = tmp_path_factory.mktemp("evaluated") / "out"
    assert evaluate.main(evaluating(finished, out, cache)) == 0
    return (out / "results.json").read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_disturbed_evaluation_asks_the_remaining_questions(
    number: signal.Signals, finished: Path, evaluated: str, cache: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    process = start(*evaluating(finished, out, cache), command=EVALUATE)
    wait_until(lambda: list(out.glob("answers/*.jsonl")), process)
    process.send_signal(number)
    errors = process.communicate(timeout=PATIENCE)[1]
    if number == signal.SIGINT:
        assert process.returncode == 130, errors
        assert errors.startswith("Stopped")
        assert errors.count("\n") == 1, errors
        says(errors, "160 kept --resume")
    else:
        assert (process.returncode, errors) == (-number, "")
    kept = sum(len(path.read_text().splitlines()) for path in out.glob("answers/*"))
    assert 0 < kept < 160
    assert not (out / "results.json").exists()
    assert evaluate.main(evaluating(finished, out, cache, "--resume")) == 0
    assert (out / "results.json").read_text() == evaluated
    assert sum(len(path.read_text().splitlines()) for path in out.glob("answers/*")) == 160
    assert left_overs(out) == []


def signalled(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("place", ["evaluation._write", "load.load_model", "evaluation._open"])
def test_a_stop_beside_the_questions_says_what_is_kept(
    place: str, finished: Path, evaluated: str, cache: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Reading a model and making the page take seconds to minutes of a large evaluation."""
    out = tmp_path / "out"
    flags = evaluating(finished, out, cache)
    if place != "evaluation._open":
        # nobody answers again what was answered
        with monkeypatch.context() as patch:
            patch.setattr("training.evaluate.evaluation._write", signalled)
            assert evaluate.main(flags) == 130
        says(errors := capsys.readouterr().err, "Stopped --resume")
        assert errors.count("\n") == 1
        flags.append("--resume")
    with monkeypatch.context() as patch:
        patch.setattr(f"training.evaluate.{place}", lambda *_, **__: signalled())
        assert evaluate.main(flags) == 130
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1
    assert ("--resume" in errors) == ("--resume" in flags), errors
    assert evaluate.main(evaluating(finished, out, cache, "--resume")) == 0
    assert (out / "results.json").read_text() == evaluated


def test_a_kill_before_the_first_answer_lets_the_command_begin_again(
    finished: Path, evaluated: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"

    def killed(*_: object) -> None:
        raise SystemExit  # nothing is cleared up, as after SIGKILL

    with monkeypatch.context() as patch:
        patch.setattr("training.ask.answers.write_record", killed)
        with pytest.raises(SystemExit):
            evaluate.main(evaluating(finished, out, cache))
    assert evaluate.main(evaluating(finished, out, cache)) == 0
    assert (out / "results.json").read_text() == evaluated
