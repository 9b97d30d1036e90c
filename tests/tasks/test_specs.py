"""Specs of benchmarks: format, scoring rule, source and tasks."""

from __future__ import annotations

from pathlib import Path

import pytest

from synthetic_tasks.errors import TaskError
from synthetic_tasks.formats import FORMATS
from synthetic_tasks.formats.spec import BenchmarkSpec, parse_spec
from tests.messages import raises
from tests.tasks.test_formats import DATA


@pytest.mark.parametrize(
    ("spec", "parts"),
    [
        ("cute", ("cute", "", "", ())),
        ("cute:spell+orth", ("cute", "", "", ("spell", "orth"))),
        ("cute=CUTE", ("cute", "", "CUTE", ())),
        ("cute@paper=a/CUTE:spell", ("cute", "paper", "a/CUTE", ("spell",))),
        ("cute=CUTE:spell+orth+spell", ("cute", "", "CUTE", ("spell", "orth"))),
        ("cute=hf:NAME", ("cute", "", "hf:NAME", ())),
        ("cute-hub@olmes=hf:leukas/cute", ("cute-hub", "olmes", "hf:leukas/cute", ())),
        ("cute-hub=hf:leukas/cute:sem", ("cute-hub", "", "hf:leukas/cute", ("sem",))),
        ("execute=FOLDER:eng/spell", ("execute", "", "FOLDER", ("eng/spell",))),
        (r"cute=C:\CUTE", ("cute", "", r"C:\CUTE", ())),
    ],
)
def test_a_spec_has_four_parts(spec: str, parts: tuple[object, ...]) -> None:
    assert tuple(parse_spec(spec)) == parts


def test_a_colon_in_an_existing_path_is_part_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "CUTE:spell").mkdir()
    assert parse_spec("cute=CUTE:spell") == BenchmarkSpec("cute", "", "CUTE:spell")
    assert parse_spec("cute=CUTE:orth") == BenchmarkSpec("cute", "", "CUTE", ("orth",))


def test_unknown_tasks_and_rules_are_refused_with_those_there_are() -> None:
    form = FORMATS["cute"]
    tasks = form.read(form.load(DATA / "cute"))
    chosen = parse_spec("cute@paper=x:orth+spell").choose(form, tasks)
    assert [task.name for task in chosen] == ["cute@paper/orth", "cute@paper/spell"]
    with raises(TaskError, "'spel' spell orth"):
        parse_spec("cute:spel").choose(form, tasks)
    with raises(TaskError, "'olmes' cute@paper"):
        parse_spec("cute@olmes").choose(form, tasks)
