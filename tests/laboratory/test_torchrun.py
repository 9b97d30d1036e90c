"""Runs under the real torchrun: Ctrl-C and SIGKILL, of torchrun itself and of one process.

python -m pytest -m slow tests/laboratory/test_torchrun.py      # some minutes
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.laboratory.runs import TINY, left_overs, losses, numbers
from tests.messages import says
from tests.warm import Process

FLAGS = [*TINY, "--arms", "plain,lstm", "--steps", "60", "--finetune-steps", "10"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
PATIENCE = 600  # seconds; only a hang waits as long

pytestmark = pytest.mark.slow


def torchrun(out: Path, cache: Path, moment: str, name: str, who: str, way: str, *more: str) -> str:
    """Run the command over two processes; return what they and torchrun print as errors."""
    module = ["-m", "tests.laboratory.under_torchrun", moment, name, who, way]
    given = [*FLAGS, "--save-every", "10", "--out", str(out), "--cache", str(cache), *more]
    process = Process(
        [*TORCHRUN, *module, *given], cwd=ROOT, text=True, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    # the pipe closes when torchrun and both processes have ended
    errors: str = process.communicate(timeout=PATIENCE)[1]
    expected = {"never": [0], "torchrun SIGKILL": [-9]}
    key = moment if moment == "never" else f"{who} {name}"
    assert process.returncode in expected.get(key, [1]), errors
    return errors


def sentences(errors: str) -> list[str]:
    """The lines that are ours: torchrun's own begin with a level, a space or a frame."""
    return [line for line in errors.splitlines() if "--resume" in line]


@pytest.fixture(scope="module", params=["ddp", "fsdp2"])
def whole(
    request: pytest.FixtureRequest, cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    """An undisturbed run over two processes."""
    out = tmp_path_factory.mktemp("whole") / "run"
    torchrun(out, cache, "never", "", "", request.param)
    return request.param, out


@pytest.mark.parametrize("moment", ["step", "save", "question"])
@pytest.mark.parametrize(
    ("name", "who"),
    [("SIGINT", "torchrun"), ("SIGKILL", "torchrun"), ("SIGKILL", "0"), ("SIGKILL", "1")],
)
def test_it_ends_with_one_sentence_and_goes_on_to_the_same_numbers(
    moment: str, name: str, who: str, whole: tuple[str, Path], cache: Path, tmp_path: Path
) -> None:
    way, undisturbed = whole
    if (way, moment) in [("ddp", "save"), ("fsdp2", "step")]:
        pytest.skip("DDP has no shards, and a step under FSDP2 is tested in test_processes.py")
    out = tmp_path / "run"
    errors = torchrun(out, cache, moment, name, who, way)
    (sentence,) = sentences(errors)
    says(sentence, "saved")
    if who == "torchrun":
        says(sentence, "Stopped")
    else:
        # torchrun also signals the process that is left: either may come first
        assert re.search(r"\bended\b|\bStopped\b", sentence), sentence
    assert not (out / "results.json").exists()
    torchrun(out, cache, "never", "", "", way, "--resume")
    assert numbers(out) == numbers(undisturbed)
    assert losses(out) == losses(undisturbed)
    assert left_overs(out) == []
    assert not [path for path in out.rglob("*") if path.name in ("shards", "state.safetensors")]
