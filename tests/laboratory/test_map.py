"""The map: its grid, cells that fail, its estimate, its table and its page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.messages import says
from training.run.folder import read_facts
from training.run.run import Run
from training.study import __main__ as study
from training.study.studies import STUDIES

MAP = STUDIES["map"]
FLAGS = ["map", "--size", "tiny", "--quiet", "--cpu"]


def test_each_vocabulary_is_a_run_with_its_own_seeds_and_arms() -> None:
    by_name = {point.name: point for point in MAP.points("published")}
    seeds = {name: point.config.seeds for name, point in by_name.items()}
    assert seeds == {"v512": 5, "v4096": 5, "aa-v4096": 5, "v32768": 3}
    for name, point in by_name.items():
        assert point.config.data.vocab_size == point.at["vocabulary"] == int(name.split("v")[1])
    assert by_name["aa-v4096"].config.arms == ("again",)
    assert {"plain", "matched", "shuffled", "lstm"} < set(by_name["v32768"].config.arms)
    assert {point.config.seeds for point in MAP.points("published", 2)} == {2}


@pytest.fixture(scope="module")
def mapped(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished tiny map."""
    out = tmp_path_factory.mktemp("maps") / "map"
    assert study.main([*FLAGS, "--jobs", "1", "--out", str(out), "--cache", str(cache)]) == 0
    return out


def test_a_map_is_a_folder_of_ordinary_runs(mapped: Path, cache: Path) -> None:
    for point in MAP.points("tiny"):
        run = Run.open(mapped / point.name, cache)
        assert run.config == point.config
        assert all(arm.is_finished for arm in run.arms())
        command = read_facts(run.folder)["begun"][0]["command"]
        assert command == "python -m training.study map --size tiny"


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_cell_that_fails_is_named_and_stops_no_other(
    jobs: str, mapped: Path, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file of the cell's name is in the place of its folder; without it the cell is trained."""
    flags = [*FLAGS, "--seeds", "1", "--jobs", jobs, "--cache", str(cache)]
    flags += ["--out", str(tmp_path / "map")]
    blocked = tmp_path / "map" / "v512" / "seed0" / "shuffled"
    blocked.parent.mkdir(parents=True)
    blocked.write_text("in the way")
    assert study.main([*flags, "--resume"]) == 1
    says(capsys.readouterr().err, "1 v512 seed 0 shuffled --resume")
    done = {path.parent.name for path in (tmp_path / "map").rglob("done.json")}
    assert done == {"plain", "lstm", "again"}
    blocked.unlink()
    assert study.main([*flags, "--resume"]) == 0
    whole, again = (
        json.loads((out / "v512/seed0/lstm/done.json").read_text())["batches"]
        for out in (mapped, tmp_path / "map")
    )
    assert whole == again
