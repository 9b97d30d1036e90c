"""Files that are not what a benchmark publishes: one sentence, with the file's name and the way out."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from synthetic_tasks.errors import TaskError
from synthetic_tasks.formats import FORMATS
from tests.tasks.test_formats import DATA, every_format


def broken(tmp_path: Path, name: str, file: str, content: bytes | str | None) -> Path:
    """A copy of a format's files in which one is replaced, or missing."""
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
        (SPELL, "", "spell.tsv is empty: put"),
        (SPELL, "input1\tlabel\n", "spell.tsv holds no rows"),
        (SPELL, "input1\tlabel\ntea\tt e a\tx\n", "row 1 .*spell.tsv has 3 columns, its header 2"),
        (SPELL, "input1\tinput1\na\tb\n", "spell.tsv names a column twice"),
        (
            SPELL,
            "word\tanswer\na\tb\n",
            "spell.tsv has in row 1 the columns .* but not input1, label",
        ),
        (SPELL, b"input1\tlabel\n\xff\tx\n", "spell.tsv is not UTF-8 .byte 13.: save it"),
        (SPELL, 'input1\tlabel\n"tea\tt e a\n', "spell.tsv is no table"),
        (SPELL, "input1\tinput2\tlabel\na\tb\tc\n", "prompt without 2 times {}"),
        (PROMPTS, None, "needs the prompt of spell: put"),
        (PROMPTS, "PROMPTS = dict(spell='{}')\n", "prompts.py computes PROMPTS"),
        (PROMPTS, "PROMPTS = {'spell': open('x')}\n", "prompts.py computes PROMPTS"),
        (PROMPTS, "PROMPTS = {'spell': 1}\n", "PROMPTS in .*prompts.py is no dict of texts"),
        (PROMPTS, "PROMPTS = {\n", "prompts.py is not Python that can be parsed"),
        (PROMPTS, "prompts = {}\n", "prompts.py does not assign PROMPTS"),
        (PROMPTS, "PROMPTS = {'spell': '{0.__class__}'}\n", "prompt without 1 times {}"),
        (PROMPTS, "PROMPTS = {'spell': '{:>99}'}\n", "prompt without 1 times {}"),
    ],
    "charbench": [
        (CHARBENCH, "question,answer\na,1\n", "but not word, character, task"),
        (CHARBENCH, HEADER + "a,1,b,c,d\n", "the task 'd'"),
        (CHARBENCH, HEADER + "a,two,b,c,count_unique_chars\n", "row 1 .* the answer 'two'"),
        (CHARBENCH, None, "is one table, not 0"),
        ("evaluation/utils.py", "x = 1\n", "utils.py has neither get_evaluation_prompt"),
    ],
    "nanochat": [
        ("words_alpha.txt", "", "words_alpha.txt has an empty line, or no word"),
        ("words_alpha.txt", None, "needs spellingbee.py and words_alpha.txt, not spellingbee"),
        (COUNT, "x = 1\n", "spellingbee.py does not assign USER_MSG_TEMPLATES"),
        (
            COUNT,
            "USER_MSG_TEMPLATES = ''\nTEST_RANDOM_SEED_OFFSET = 1\n",
            "no list of texts to USER_MSG",
        ),
        (
            COUNT,
            "USER_MSG_TEMPLATES = ['']\nTEST_RANDOM_SEED_OFFSET = 1\n",
            "lacks .* SimpleSpelling with",
        ),
    ],
    "spelling_bee": [
        ("spelling_bee.jsonl", "{}\n[]\n", "line 2 of .*spelling_bee.jsonl is no JSON object"),
        ("spelling_bee.jsonl", '{"input": "x"}\n', "not target, task_type"),
        (
            "spelling_bee.jsonl",
            '{"input": "", "target": "", "task_type": "z"}\n',
            "choose one of count, index",
        ),
        (
            "spelling_bee.yaml",
            "task: x\n",
            "spelling_bee.yaml has no doc_to_text on one quoted line",
        ),
        ("spelling_bee.yaml", None, "not spelling_bee.jsonl: put both there"),
    ],
    "langgame": [
        (
            "val.jsonl",
            '{"question": "Is longest?", "options": "a, b"}\n',
            "no JSON list of options",
        ),
        (
            "val.jsonl",
            '{"question": "Is best?", "options": ["a", "b"]}\n',
            "none of LangGame's six",
        ),
        (
            "val.jsonl",
            '{"question": "Is longest?", "options": ["a", "a"]}\n',
            "the same option twice",
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
    with pytest.raises(TaskError, match=message) as raised:
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
    with pytest.raises(TaskError, match="does not exist"):
        FORMATS[name].load(tmp_path / "nowhere")
    (tmp_path / "README.md").write_text("nothing")
    with pytest.raises(TaskError, match=f"no file of {name}: it needs .* They are in "):
        FORMATS[name].load(tmp_path)


def test_two_files_for_one_task_are_refused(tmp_path: Path) -> None:
    folder = broken(tmp_path, "cute", "data/ins_char_rand.tsv", "input1\tlabel\na\tb\n")
    tables = FORMATS["cute"].load(folder)
    with pytest.raises(
        TaskError, match=r"ins_char_rand\.tsv and add_char_rand\.tsv are the same task"
    ):
        FORMATS["cute"].read(tables)
    with pytest.raises(TaskError, match="the same task"):
        FORMATS["cute"].read(tables | {"spell.jsonl": tables["spell.tsv"]})
    (folder / "spell.tsv").write_text("input1\tlabel\ntea\tt e a\n")
    with pytest.raises(TaskError, match=r"more than one spell\.tsv"):
        FORMATS["cute"].load(folder)


@every_format
def test_too_few_words_are_refused(name: str) -> None:
    with pytest.raises(TaskError, match="usable words"):
        FORMATS[name].generate(["Tea", "a1", "naïve"], 5, 0)
    similar = ["abcd", "abce", "abcf", "abcg", "abch"]
    with pytest.raises(
        TaskError, match=r"different questions in these words, not 999|finds no four words"
    ):
        FORMATS[name].generate(similar, 999, 0)
