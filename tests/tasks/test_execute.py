"""EXECUTE: items by language and task, prompts from JSON, and no pickle is ever read."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

from synthetic_tasks.errors import TaskError
from synthetic_tasks.formats import FORMATS, cute
from tests.messages import raises
from tests.tasks.test_formats import DATA, named, published


def test_the_items_of_each_language_have_its_prompt() -> None:
    tasks = published("execute")
    assert list(tasks) == ["execute/am/spell", "execute/de/spell", "execute/de/sub_word"]
    first = tasks["execute/am/spell"].items[0]
    assert first.prompt == 'In Amharic.\n\nQuestion: "ጣዕም"?'
    assert (named(first.key), first.answer) == (["ጣዕም"], " ጣ ዕ ም")
    assert tasks["execute/am/spell"].is_right('ጣ ዕ ም"', first)
    item = tasks["execute/de/sub_word"].items[0]
    assert item.prompt.startswith("Any language.")
    assert tasks["execute/de/sub_word"].is_right('Die gurke wächst"', item)
    assert not tasks["execute/de/spell"].is_right('g u r k e"', tasks["execute/de/spell"].items[0])
    assert all(task.prompt_format == cute.PROMPT_FORMAT for task in tasks.values())


def test_prompts_may_be_by_language_or_by_task_alone(tmp_path: Path) -> None:
    folder = shutil.copytree(DATA / "execute", tmp_path / "execute")
    by_task = json.loads((folder / "prompts.json").read_text("utf-8"))
    expected = [task.items for task in published("execute").values()]
    word = by_task["sub_word"]
    by_language = {
        "am": {"spell": by_task["spell"]["am"]},
        "de": {"spell": by_task["spell"]["de"], "sub_word": word},
    }
    (folder / "prompts.json").write_text(json.dumps(by_language), "utf-8")
    form = FORMATS["execute"]
    assert [task.items for task in form.read(form.load(folder))] == expected
    (folder / "prompts.json").write_text(json.dumps({"spell": "All: {}", "sub_word": word}))
    assert form.read(form.load(folder))[0].items[0].prompt == "All: ጣዕም"
    (folder / "prompts.json").write_text('{"sub_word": "{} {} {}"}')
    with raises(TaskError, "spell am prompts.json"):
        form.read(form.load(folder))
    (folder / "prompts.json").write_text('{"spell": 3}')
    with raises(TaskError, "prompts.json JSON"):
        form.load(folder)


class Mine:
    """A pickle of this object writes a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> object:
        return (open, (str(self.path), "w"))


def test_a_pickle_is_not_read(tmp_path: Path) -> None:
    folder = shutil.copytree(DATA / "execute", tmp_path / "execute")
    (folder / "prompts.json").unlink()
    (folder / "prompts.pkl").write_bytes(pickle.dumps(Mine(tmp_path / "ran")))
    tables = FORMATS["execute"].load(folder)
    with raises(TaskError, "prompts.json pickle"):
        FORMATS["execute"].read(tables)
    assert not (tmp_path / "ran").exists()
