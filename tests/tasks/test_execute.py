"""EXECUTE: items by language and task, prompts from JSON, and no pickle is ever read."""

from __future__ import annotations

import json
import pickle
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from synthetic_tasks.errors import TaskError
from synthetic_tasks.formats import FORMATS, execute
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
    assert all(task.prompt_format == execute.PROMPT_FORMAT for task in tasks.values())


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


def test_the_command_of_the_message_converts_all_prompts(tmp_path: Path) -> None:
    folder = converted_checkout(tmp_path).rename(tmp_path / "EXECUTE")
    expected = {
        task.name: task.items for task in FORMATS["execute"].read(FORMATS["execute"].load(folder))
    }
    for path in folder.rglob("prompts.json"):
        path.with_suffix(".pkl").write_bytes(pickle.dumps(json.loads(path.read_text("utf-8"))))
        path.unlink()
    with raises(TaskError) as raised:
        FORMATS["execute"].read(FORMATS["execute"].load(folder))
    command = shlex.split(str(raised.value).partition("python -c ")[2].removesuffix("."))[0]
    subprocess.run([sys.executable, "-c", command], cwd=tmp_path, check=True)
    tasks = FORMATS["execute"].read(FORMATS["execute"].load(folder))
    assert {task.name: task.items for task in tasks} == expected


def converted_checkout(tmp_path: Path) -> Path:
    """A checkout whose pickles are converted beside them: one per language, and extra tasks."""
    folder = shutil.copytree(DATA / "execute", tmp_path / "checkout")
    by_task = json.loads((folder / "prompts.json").read_text("utf-8"))
    (folder / "prompts.json").unlink()
    word = by_task["sub_word"]
    files = {
        "tasks/am/prompts.json": {"spell": by_task["spell"]["am"]},
        "tasks/de/prompts.json": {"spell": by_task["spell"]["de"], "sub_word": word},
        "tasks/kor/prompts.json": {"spell": "Letters of {}?"},
        "extra_tasks/kor/prompts.json": {"kor_contains": "Is {} in {}?", "kor_g2c": "Join {}."},
    }
    tables = {
        "tasks/kor/spell.tsv": "input1\tlabel\n나무\t나 무\n",
        "extra_tasks/kor/g2c.tsv": "input1\tlabel\nㄴㅏ\t나\n",
        "extra_tasks/kor/contains.tsv": "input1\tinput2\tlabel\nㄴ\t나\tYes\n",
    }
    texts = {name: json.dumps(prompts) for name, prompts in files.items()} | tables
    for name, text in texts.items():
        (folder / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "data" / name).write_text(text, "utf-8")
    return folder


def test_each_language_and_the_extra_tasks_have_prompts_of_their_own(tmp_path: Path) -> None:
    folder, form = converted_checkout(tmp_path), FORMATS["execute"]
    tasks = {task.name: task for task in form.read(form.load(folder))}
    expected = published("execute")
    for name, task in expected.items():
        assert tasks[name].items == task.items
    added = {name: task.items[0].prompt for name, task in tasks.items() if name not in expected}
    assert added == {
        "execute/kor/spell": "Letters of 나무?",
        "execute/kor/g2c": "Join ㄴㅏ.",
        "execute/kor/contains": "Is ㄴ in 나?",
    }
    assert tasks["execute/kor/contains"].is_right('Yes"', tasks["execute/kor/contains"].items[0])
    # a part of the checkout alone
    one = form.read(form.load(folder / "data" / "extra_tasks" / "kor"))
    assert {task.name: task.items[0].prompt for task in one}.items() <= added.items()
    # a second general file would be a choice that nobody made
    for name in ("one", "two"):
        (folder / name).mkdir()
        (folder / name / "prompts.json").write_text('{"spell": "{}"}')
    with raises(TaskError, "one/prompts.json two/prompts.json"):
        form.read(form.load(folder))


def test_columns_that_are_no_input_are_left_out(tmp_path: Path) -> None:
    folder, form = converted_checkout(tmp_path), FORMATS["execute"]
    (folder / "data" / "tasks" / "kor" / "spell.tsv").write_text(
        "label\tnote\tinput1\n나 무\teasy\t나무\n", "utf-8"
    )
    tasks = {task.name: task for task in form.read(form.load(folder))}
    assert tasks["execute/kor/spell"].items[0].prompt == "Letters of 나무?"


def test_answers_have_500_tokens_and_end_where_its_program_ends_them() -> None:
    task = published("execute")["execute/am/spell"]
    item, form = task.items[0], task.prompt_format
    assert (form.max_new_tokens, form.opening, form.chat) == (500, ' Answer: "', True)
    for right in ('ጣ ዕ ም"', " ጣ ዕ ም ", "ጣ ዕ ም</s> and more", "ጣ ዕ ም<|eot_id|> and more"):
        assert task.is_right(right, item), right
    for wrong in ("", '"', '<|eot_id|>ጣ ዕ ም"', 'ጣ ዕ ም" Answer: "no"'):
        assert not task.is_right(wrong, item), wrong


def test_linked_files_have_the_folder_of_their_link(tmp_path: Path) -> None:
    """The hub's cache and some installers keep files elsewhere, under other names."""
    folder = converted_checkout(tmp_path)
    for number, path in enumerate(sorted(p for p in folder.rglob("*") if p.is_file())):
        path.rename(tmp_path / f"blob{number}")
        path.symlink_to(tmp_path / f"blob{number}")
    tasks = {task.name for task in FORMATS["execute"].read(FORMATS["execute"].load(folder))}
    assert {"execute/am/spell", "execute/kor/g2c"} < tasks
