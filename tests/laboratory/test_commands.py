"""All commands: --help and wrong flags need no torch, an error is one sentence, Ctrl-C is quiet."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import synthetic_tasks.__main__ as tasks
from examples import look_inside_a_token
from synthetic_tasks import export
from tests.conftest import ROOT
from tests.messages import says
from training import compare
from training.evaluate import __main__ as evaluate
from training.probe import PROBES, scores
from training.report.page import print_sentences
from training.run import run
from training.study import NAMES
from training.study import __main__ as study
from training.study.studies import STUDIES

# Packages that take from tenths of a second to seconds to import.
HEAVY = {
    "torch", "transformers", "tokenizers", "numpy", "scipy", "matplotlib", "statsmodels", "datasets",
    "accelerate", "huggingface_hub", "charembed", "jinja2", "rich", "flask", "werkzeug",
}  # fmt: skip
LIGHT = [
    "training.evaluate", "training.probe", "training.study", "training.ship", "examples.playground",
    "examples.ask", "synthetic_tasks", "synthetic_tasks.export",
]  # fmt: skip
OTHERS = [
    "training.compare", "training.ship.speller", "charembed.audit", "charembed.check",
    "examples.new_tokens", "examples.look_inside_a_token", "examples.parent.convert", "examples.parent.ask",
]  # fmt: skip
SCRIPT = """
import runpy, sys
command, heavy, *sys.argv[1:] = sys.argv[1:]
try:
    runpy.run_module(command, run_name="__main__", alter_sys=True)
except SystemExit as end:
    print("status", end.code, *sorted({name for name in heavy.split(",") if name in sys.modules}))
"""


def fresh(command: str, *flags: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a new process, which then prints its status and the HEAVY modules."""
    line = [sys.executable, "-c", SCRIPT, command, ",".join(HEAVY), *flags]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize("command", LIGHT)
def test_help_imports_nothing_that_takes_seconds(command: str) -> None:
    done = fresh(command, "--help")
    says(done.stdout, f"usage: {command} --help")
    # the examples use flags that the help lists, and none of an earlier version
    listed = set(re.findall(r"(?m)^ +(?:-\w, )?(--[\w-]+)", done.stdout))
    examples = re.findall(rf"python -m {re.escape(command)} .*", done.stdout)
    assert set(re.findall(r" (--[\w-]+)", " ".join(examples))) <= listed
    assert done.stdout.splitlines()[-1] == "status 0", done.stdout + done.stderr


@pytest.mark.parametrize("command", LIGHT)
def test_a_wrong_flag_is_refused_in_one_line_before_anything_is_imported(command: str) -> None:
    done = fresh(command, "--nosuch", "a\nb")
    says(done.stderr, f"{command} --help")
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stdout == "status 2\n"


@pytest.mark.slow
@pytest.mark.parametrize("command", OTHERS)
def test_a_wrong_flag_is_refused_in_one_line(command: str) -> None:
    done = fresh(command, "--nosuch", "a\nb")
    says(done.stderr, f"{command} --help")
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stdout.startswith("status 2")


def test_the_names_in_help_are_those_of_the_objects() -> None:
    assert tuple(STUDIES) == NAMES
    assert (*scores._LINEAR, "spell") == PROBES


@pytest.mark.parametrize(
    ("command", "flags", "message"),
    [
        (evaluate, "", "MODEL --help"),
        (evaluate, "MODEL --shots 1001", "--shots 1001 0 1000"),
        (evaluate, "MODEL --shots -1", "--shots -1 0 1000"),
        (evaluate, f"MODEL --shots {10**30}", f"--shots {10**30} 1000"),
        (evaluate, "MODEL --shots two", "--shots 'two'"),
        (evaluate, "MODEL --questions 0", "--questions 0 1"),
        (evaluate, f"MODEL --questions {10**12}", f"--questions {10**12} 1 1000000"),
        (evaluate, "MODEL --questions 1e3", "--questions '1e3'"),
        (evaluate, f"MODEL --questions {'9' * 5000}", f"--questions {'9' * 40}"),
        (evaluate, "MODEL --batch-size 0", "--batch-size 0 1"),
        (evaluate, "MODEL --threads 100000", "--threads 100000 cores"),
        (evaluate, "MODEL --out ''", "--out empty"),
        (evaluate, "MODEL --cache ''", "--cache empty"),
        (evaluate, "MODEL OTHER", "OTHER --help"),
        (evaluate, "MODEL --quest 5", "--quest 5"),
        (evaluate, "''", "MODEL empty"),
        (evaluate, "MODEL --against ''", "--against empty"),
        (study, "counting --seeds many", "--seeds 'many'"),
        (study, "counting --jobs 0", "--jobs 0 1"),
        (study, "count", "'count' counting path_star"),
        (study, "counting --size big", "'big' small published"),
        (tasks, "index --seed one", "--seed 'one' --help"),
        (tasks, "--words", "--words --help"),
        (tasks, "index reverse", "reverse --help"),
        (tasks, "index --words ''", "--words empty"),
        (tasks, "index --words /dev/zero", "/dev/zero device file"),
        (export, "", "DIR --help"),
        (export, "out --questions 1.5", "--questions '1.5'"),
        (export, "out --questions 0", "--questions 0 1"),
        (export, f"out --questions {10**12}", f"--questions {10**12} 1000000"),
        (export, "out --tasks ''", "--tasks nothing"),
        (export, "/dev/null/x --tasks path_star:2x5", "/dev/null/x another"),
        (export, "out --format tsv", "--format 'tsv' lm-eval"),
        (export, "out --answer-form long", "--answer-form 'long' plain"),
    ],
)
def test_a_wrong_value_is_named_with_the_way_out(
    command: Any,
    flags: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    given = ["" if flag == "''" else flag for flag in flags.split()]
    assert command.main(given) == 2
    errors = capsys.readouterr().err
    says(errors, message)
    assert errors.count("\n") == 1, errors
    assert len(errors) < 500
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("command", "flags"),
    [(compare, "--preset tiny --quiet --cpu"), (study, "counting --size tiny --quiet --cpu")],
)
def test_a_stop_before_the_folder_exists_offers_no_resume(
    command: Any,
    flags: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "run"
    given = [*flags.split(), "--out", str(out), "--cache", str(tmp_path)]
    monkeypatch.setattr(run, "prepare", interrupted)
    assert command.main(given) == 130
    errors = capsys.readouterr().err
    says(errors, "Stopped")
    assert "--resume" not in errors
    assert not list(out.rglob("config.json"))


@pytest.mark.parametrize(
    ("command", "flags", "message"),
    [
        (evaluate, "MODEL --suite letters=reverse --out FILE", "--out FILE folder"),
        (evaluate, "MODEL --suite letters=reverse --out FILE/below", "--out FILE folder"),
        (
            evaluate,
            "MODEL --suite letters=reverse --out /proc/nowhere",
            "--out /proc/nowhere folder",
        ),
    ],
)
def test_a_place_that_cannot_be_written_is_refused_before_a_model_is_loaded(
    command: Any, flags: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (file := tmp_path / "file").write_text("mine")
    assert command.main(flags.replace("FILE", str(file)).split()) == 2
    says(capsys.readouterr().err, message.replace("FILE", str(file)))


def test_a_path_with_brackets_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """In rich's markup "[/b]" closes a style, and is an error if none is open."""
    console = Console(soft_wrap=True, width=200)
    print_sentences(console, ["[x]"], Path("runs/x[/b]/report.html"))
    assert "runs/x[/b]/report.html" in capsys.readouterr().out


def test_a_token_with_brackets_is_shown(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--preset", "tiny", "--cache", str(cache), "[/b] [red]"]
    assert look_inside_a_token.main(flags) == 0
    assert "'[/b] [red]'" in capsys.readouterr().out


@pytest.mark.parametrize("command", [tasks, export])
def test_ctrl_c_ends_a_preview_without_a_traceback(
    command: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "build_task", interrupted)
    given = ["index"] if command is tasks else ["out", "--tasks", "path_star:2x5"]
    assert command.main(given) == 130
    assert capsys.readouterr().err == "Stopped.\n"
