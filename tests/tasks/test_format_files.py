"""Damaged or foreign files: an error in one line, with the file's name and the way out."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from synthetic_tasks.errors import TaskError
from synthetic_tasks.formats import FORMATS
from tests.messages import raises
from tests.tasks.test_formats import DATA, every_format


def broken(tmp_path: Path, name: str, file: str, content: bytes | str | None) -> Path:
    """Copy a format's files with one replaced or missing."""
    folder = shutil.copytree(DATA / name, tmp_path / name)
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


SPELL, PROMPTS = "data/spell.tsv", "prompts.py"
CHARBENCH, COUNT = "benchmark_english.csv", "tasks/spellingbee.py"
HEADER = "question,answer,word,character,task\n"
BAD: dict[str, list[tuple[str, bytes | str | None, str]]] = {
    "cute": [
        (SPELL, "", "spell.tsv empty"),
        (SPELL, "input1\tlabel\n", "spell.tsv rows"),
        (SPELL, "input1\tlabel\ntea\tt e a\tx\n", "1 spell.tsv 3 2"),
        (SPELL, "input1\tinput1\na\tb\n", "spell.tsv"),
        (
            SPELL,
            "word\tanswer\na\tb\n",
            "spell.tsv 1 input1, label",
        ),
        (SPELL, b"input1\tlabel\n\xff\tx\n", "spell.tsv UTF-8 13"),
        (SPELL, 'input1\tlabel\n"tea\tt e a\n', "spell.tsv table"),
        (SPELL, "input1\tinput2\tlabel\na\tb\tc\n", "2 {}"),
        (PROMPTS, None, "spell"),
        (PROMPTS, "PROMPTS = dict(spell='{}')\n", "prompts.py PROMPTS"),
        (PROMPTS, "PROMPTS = {'spell': open('x')}\n", "prompts.py PROMPTS"),
        (PROMPTS, "PROMPTS = {'spell': 1}\n", "PROMPTS prompts.py"),
        (PROMPTS, "PROMPTS = {\n", "prompts.py Python"),
        (PROMPTS, "prompts = {}\n", "prompts.py PROMPTS"),
        (PROMPTS, "PROMPTS = {'spell': '{0.__class__}'}\n", "1 {}"),
        (PROMPTS, "PROMPTS = {'spell': '{:>99}'}\n", "1 {}"),
    ],
    "charbench": [
        (CHARBENCH, "question,answer\na,1\n", "word, character, task"),
        (CHARBENCH, HEADER + "a,1,b,c,d\n", "'d'"),
        (CHARBENCH, HEADER + "a,two,b,c,count_unique_chars\n", "1 two"),
        (CHARBENCH, None, "0"),
        ("evaluation/utils.py", "x = 1\n", "utils.py get_evaluation_prompt"),
    ],
    "nanochat": [
        ("words_alpha.txt", "", "words_alpha.txt empty"),
        ("words_alpha.txt", None, "spellingbee.py words_alpha.txt"),
        (COUNT, "x = 1\n", "spellingbee.py USER_MSG_TEMPLATES"),
        (
            COUNT,
            "USER_MSG_TEMPLATES = ''\nTEST_RANDOM_SEED_OFFSET = 1\n",
            "USER_MSG_TEMPLATES",
        ),
        (
            COUNT,
            "USER_MSG_TEMPLATES = ['']\nTEST_RANDOM_SEED_OFFSET = 1\n",
            "SimpleSpelling",
        ),
    ],
    "spelling_bee": [
        ("spelling_bee.jsonl", "{}\n[]\n", "2 spelling_bee.jsonl JSON"),
        ("spelling_bee.jsonl", '{"input": "x"}\n', "target task_type"),
        (
            "spelling_bee.jsonl",
            '{"input": "", "target": "", "task_type": "z"}\n',
            "count index",
        ),
        (
            "spelling_bee.yaml",
            "task: x\n",
            "spelling_bee.yaml doc_to_text",
        ),
        ("spelling_bee.yaml", None, "spelling_bee.jsonl"),
    ],
    "reasoning_gym": [
        ("utils.py", "x = 1\n", "utils.py SYSTEM_PROMPTS"),
        ("utils.py", "SYSTEM_PROMPTS = {'default': 3}\n", "utils.py SYSTEM_PROMPTS"),
        ("utils.py", None, "utils"),
        ("algorithmic/spell_backward.py", "x = 1\n", "spell_backward.py QUESTION_TEMPLATE"),
        ("algorithmic/word_sorting.py", "QUESTION_TEMPLATE = '{'\n", "word_sorting.py"),
        ("algorithmic/word_sorting.py", "QUESTION_TEMPLATE = '{}'\n", "word_sorting.py 2"),
        ("data/words3to10.txt", None, "words3to10"),
        ("data/words3to10.txt", "", "words3to10.txt empty"),
        ("data/words3to10.txt", "co-op\n", "spell_backward 0 words"),
        ("data/in_the_year_2889.txt", "A short book.\n", "letter_jumble 1 words"),
    ],
    "strawberry_bench": [
        ("data/generate_dataset.py", "SEED = 1\n", "generate_dataset.py EASY_WORDS"),
        ("data/generate_dataset.py", "SEED = 'x'\n", "generate_dataset.py SEED"),
        ("data/generate_dataset.py", None, "generate_dataset.py dataset.jsonl"),
        ("prompts.py", "x = 1\n", "prompts.py SYSTEM_PROMPT"),
        ("prompts.py", "SYSTEM_PROMPT = 1\n", "prompts.py SYSTEM_PROMPT"),
    ],
    "execute": [
        ("prompts.json", "[]", "prompts.json JSON"),
        ("prompts.json", None, "prompts.json pickle"),
        ("data/tasks/de/spell.tsv", "input1\tlabel\n", "spell.tsv rows"),
        ("data/tasks/de/spell.tsv", "input1\ttext\na\tb\n", "spell.tsv label"),
    ],
    "langgame": [
        (
            "val.jsonl",
            '{"question": "Is longest?", "options": "a, b"}\n',
            "JSON",
        ),
        (
            "val.jsonl",
            '{"question": "Is best?", "options": ["a", "b"]}\n',
            "LangGame",
        ),
        (
            "val.jsonl",
            '{"question": "Is longest?", "options": ["a", "a"]}\n',
            "option",
        ),
        # A blank is put before each option, whatever the file has.
        (
            "val.jsonl",
            '{"question": "Is longest?", "options": ["a", " a "]}\n',
            "option",
        ),
        (
            "val.jsonl",
            '{"question": "Is longest?", "options": ["a", " "]}\n',
            "JSON",
        ),
    ],
}


@pytest.mark.parametrize(
    ("name", "file", "content", "message"),
    [(name, *case) for name, cases in BAD.items() for case in cases],
)
def test_a_bad_file_is_named_with_the_way_out(
    tmp_path: Path, name: str, file: str, content: bytes | str | None, message: str
) -> None:
    folder = broken(tmp_path, name, file, content)
    with raises(TaskError, message) as raised:
        FORMATS[name].read(FORMATS[name].load(folder))
    assert "\n" not in str(raised.value)


def test_a_python_file_is_never_run(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    text = f"open({str(mark)!r}, 'w')\nPROMPTS = {{'spell': '{{}}'}}\n"
    FORMATS["cute"].load(broken(tmp_path, "cute", "prompts.py", text))
    assert not mark.exists()


@every_format
def test_a_folder_without_the_files_says_which_and_where_they_are(
    tmp_path: Path, name: str
) -> None:
    with raises(TaskError, "exist"):
        FORMATS[name].load(tmp_path / "nowhere")
    (tmp_path / "README.md").write_text("nothing")
    with raises(TaskError, f"{name}"):
        FORMATS[name].load(tmp_path)


def test_two_files_for_one_task_are_refused(tmp_path: Path) -> None:
    folder = broken(tmp_path, "cute", "data/ins_char_rand.tsv", "input1\tlabel\na\tb\n")
    tables = FORMATS["cute"].load(folder)
    with raises(TaskError, "ins_char_rand.tsv add_char_rand.tsv"):
        FORMATS["cute"].read(tables)
    with raises(TaskError, "spell.jsonl"):
        FORMATS["cute"].read(tables | {"spell.jsonl": tables["spell.tsv"]})
    (folder / "spell.tsv").write_text("input1\tlabel\ntea\tt e a\n")
    with raises(TaskError, "spell.tsv"):
        FORMATS["cute"].load(folder)


@every_format
def test_too_few_words_are_refused(name: str) -> None:
    with raises(TaskError, "words"):
        FORMATS[name].generate(["Tea", "a1", "naïve"], 5, 0)
    similar = ["abcd", "abce", "abcf", "abcg", "abch"]
    with pytest.raises(TaskError, match=r"999|four"):
        FORMATS[name].generate(similar, 999, 0)
