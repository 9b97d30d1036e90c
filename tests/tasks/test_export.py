"""Export to lm-evaluation-harness: files, refused options, and the program's own scores."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import settings as settings_of_hypothesis
from hypothesis import strategies as st

from synthetic_tasks import SPLITS, Item, Material, WordSplits, build_task, distinct
from synthetic_tasks.errors import TaskError
from synthetic_tasks.export import RESULT_PATTERN, main
from synthetic_tasks.lm_eval_task import as_lm_eval, benchmark_as_lm_eval
from synthetic_tasks.words import fingerprint, load_splits, save_splits
from tests.laboratory.pretrained import gpt2, llama, save, train_tokenizer
from tests.messages import raises, says
from tests.tasks.test_formats import DATA, WORDS, junk, made
from training.ask.evaluated_model import cut

NAME = "charembed_count_seen"
COUNT_NAME = "spelling_bee_count"
SPLIT = WordSplits(
    seen=tuple(word for word in WORDS if 2 < len(word) < 7),
    unseen_words=(
        "garden",
        "melon",
        "fig",
        "nut",
        "kale",
        "ox",
        "blueberry",
        "peppermint",
        "aubergine",
    ),
    unseen_tokens=(),
    longer_words=("strawberry", "watermelon"),
    held_out=frozenset({b" straw", b"\xc3"}),
)


@pytest.fixture
def splits_file(tmp_path: Path) -> Path:
    save_splits(tmp_path / "splits.json", SPLIT)
    return tmp_path / "splits.json"


@pytest.fixture
def words_file(tmp_path: Path) -> Path:
    (tmp_path / "words.txt").write_text("\n".join(WORDS) + "\n")
    return tmp_path / "words.txt"


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_splits_come_back_with_the_hash_that_results_name(splits_file: Path) -> None:
    assert load_splits(splits_file) == SPLIT
    assert json.loads(splits_file.read_text())["sha256"] == fingerprint(SPLIT)


def test_a_changed_file_of_splits_is_refused(splits_file: Path, tmp_path: Path) -> None:
    splits_file.write_text(splits_file.read_text().replace("melon", "lemon"))
    with raises(TaskError, "hash"):
        load_splits(splits_file)
    for text in ("", "[]", '{"seen": 1}'):
        splits_file.write_text(text)
        with raises(TaskError, "splits.json"):
            load_splits(splits_file)
    with raises(TaskError, "nowhere.json"):
        load_splits(tmp_path / "nowhere.json")


def test_direct_and_scratchpad_answers_of_one_wording_are_two_tasks(
    splits_file: Path, tmp_path: Path
) -> None:
    flags = ["--splits-file", str(splits_file), "--questions", "20", "--wording", "varied"]
    assert main([str(tmp_path / "out"), *flags, "--tasks", "count,first_letter"]) == 0
    task = build_task("count", Material(SPLIT, "varied", "plain"))
    for split in task.splits:
        if not SPLIT[split.name.replace("unseen_wordings", "seen").replace("_and_wordings", "")]:
            continue
        items = distinct(task, split.name, 20, "exam", split.name, 0)
        for rule in ("direct", "scratchpad"):
            expected = [item.prompt for item in items if bool(item.work) == (rule == "scratchpad")]
            name = f"charembed_count_{split.name}_{rule}"
            assert [row["prompt"] for row in rows(tmp_path / "out" / f"{name}.jsonl")] == expected
            yaml = (tmp_path / "out" / f"{name}.yaml").read_text()
            assert ("regex_pattern" in yaml) == (rule == "scratchpad")
    assert (tmp_path / "out" / "charembed_first_letter_unseen_wordings.jsonl").exists()


@pytest.mark.parametrize("wording", ["compact", "sentences"])
def test_the_items_are_those_of_the_laboratory(
    splits_file: Path, tmp_path: Path, wording: str
) -> None:
    folder = tmp_path / "out"
    command = [
        str(folder),
        "--splits-file",
        str(splits_file),
        "--questions",
        "5",
        "--wording",
        wording,
    ]
    assert main([*command, "--tasks", "count,reverse", "--answer-form", "spelled"]) == 0
    assert load_splits(folder / "splits.json") == SPLIT
    names = {path.stem for path in folder.glob("*.yaml")}
    with_words = [split for split in SPLITS if SPLIT[split]]
    assert names == {
        f"charembed_{task}_{split}" for task in ("count", "reverse") for split in with_words
    }
    for task_name in ("count", "reverse"):
        task = build_task(task_name, Material(SPLIT, wording, "spelled"))
        for split in with_words:
            items = distinct(task, split, 5, "exam", split, 0)
            assert rows(folder / f"charembed_{task_name}_{split}.jsonl") == [
                {"prompt": item.prompt, "target": item.answer.strip(), "key": item.key}
                for item in items
            ]
    assert fingerprint(SPLIT) in (folder / f"{NAME}.yaml").read_text()


def test_a_list_of_words_is_one_list_and_has_no_splits(words_file: Path, tmp_path: Path) -> None:
    command = ["--words", str(words_file), "--questions", "4", "--tasks"]
    assert main([str(tmp_path / "out"), *command, "spell,langgame"]) == 0
    names = sorted(path.stem for path in (tmp_path / "out").glob("*.jsonl"))
    assert names[0] == "charembed_langgame_like_contains"
    assert names[-1] == "charembed_spell"
    for row in rows(tmp_path / "out" / f"{names[0]}.jsonl"):
        assert len(row["choices"]) == 4
        assert row["choices"][row["target"]].strip() in row["prompt"]
    assert main([str(tmp_path / "other"), "--tasks", "path_star:2x5", "--questions", "3"]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tasks", "count"], "--words --splits-file"),
        (
            ["--tasks", "count", "--words", "WORDS", "--splits", "seen"],
            "--splits",
        ),
        (
            ["--tasks", "count", "--words", "WORDS", "--splits-file", "SPLITS"],
            "--words --splits-file",
        ),
        (
            ["--tasks", "count", "--splits-file", "SPLITS", "--splits", "unseen_tokens"],
            "unseen_tokens",
        ),
        (
            ["--tasks", "count", "--splits-file", "SPLITS", "--splits", "unseen"],
            "unseen",
        ),
        (["--tasks", "cuont", "--words", "WORDS"], "cuont"),
        (["--tasks", "cute", "--questions", "3"], "--words --splits-file"),
        (["--tasks", f"cute@paper={DATA / 'cute'}"], "cute@paper"),
        (["--tasks", f"langgame@stochastok={DATA / 'langgame'}"], "langgame@stochastok"),
        (["--tasks", f"cute={DATA / 'cute'}:spel"], "'spel' spell"),
        (["--tasks", "cute=nowhere"], "nowhere cute"),
        (["--tasks", "cute=hf:leukas/cute"], "hf:leukas/cute"),
        (["--tasks", "count", "--words", "nowhere.txt"], "nowhere.txt"),
    ],
)
def test_what_cannot_be_exported_is_one_sentence_and_writes_nothing(
    words_file: Path,
    splits_file: Path,
    tmp_path: Path,
    capsys: Any,
    arguments: list[str],
    message: str,
) -> None:
    places = {"WORDS": str(words_file), "SPLITS": str(splits_file)}
    folder = tmp_path / "out"
    assert main([str(folder), *(places.get(argument, argument) for argument in arguments)]) == 2
    error = capsys.readouterr().err.strip()
    says(error, message)
    assert "\n" not in error
    assert not folder.exists()


def test_a_folder_with_files_in_it_is_left_alone(
    words_file: Path, tmp_path: Path, capsys: Any
) -> None:
    assert main([str(tmp_path), "--words", str(words_file)]) == 2
    says(capsys.readouterr().err, "new folder")


class Working(Item):
    """An item with a scratchpad before the result."""

    @property
    def text(self) -> str:
        return f"{self.prompt} b a n ={self.answer}\n"


def test_of_shown_work_the_result_is_marked_and_there_is_room_for_all_of_it() -> None:
    yaml, _ = as_lm_eval("worked", [Working("index n banana:", " 2", "index n banana")], {})
    assert json.dumps(RESULT_PATTERN) in yaml
    assert f'"max_gen_toks": {len(" b a n = 2") + 1}' in yaml
    yaml, _ = as_lm_eval("plain", [Item("index n banana:", " 2", "index n banana")], {})
    assert "regex_pattern" not in yaml


def settings(path: Path) -> dict[str, Any]:
    """Read an exported .yaml, whose values are JSON."""
    lines = (line.partition(": ") for line in path.read_text("utf-8").splitlines())
    return {key: json.loads(value) for key, _, value in lines}


def test_a_benchmarks_own_files_are_exported_with_its_prompts_and_limits(
    tmp_path: Path, capsys: Any
) -> None:
    suites = ",".join(f"{name}={DATA / name}" for name in ("cute", "charbench", "spelling_bee"))
    suites += f",nanochat={DATA / 'nanochat'}:SpellingBee,cute-hub@olmes={DATA / 'cute-hub'}:orth"
    for chat in ([], ["--chat"]):
        out = tmp_path / f"out{len(chat)}"
        assert main([str(out), "--tasks", suites, "--questions", "2", *chat]) == 0
        printed = capsys.readouterr().out.splitlines()
        tagged = {"charembed", "charembed_chat"} if chat else {"charembed"}
        assert {line.split()[-1] for line in printed[1:]} == tagged
        assert all(
            ("--apply_chat_template" in line) == line.endswith("_chat") for line in printed[1:]
        )
        spell, count = (settings(out / f"charembed_{n}.yaml") for n in ("cute_spell", COUNT_NAME))
        assert [spell["generation_kwargs"]["until"], count["generation_kwargs"]["until"]] == (
            [[], ["\n"]] if chat else [['"'], ["\n"]]
        )
        assert spell["generation_kwargs"]["max_gen_toks"] == 100
        assert spell.get("gen_prefix") == (' Answer: "' if chat else None)
        assert spell["doc_to_target"] == "target"
        asked = rows(out / "charembed_cute_spell.jsonl")
        assert len(asked) == 2
        assert all(row["prompt"].endswith(' Answer: "') != bool(chat) for row in asked)
        assert count["metric_list"][0]["ignore_case"]
        numbers = settings(out / "charembed_charbench_find_first_occurrence.yaml")
        assert numbers.get("description") == ("You answer briefly." if chat else None)
        (olmes,) = rows(out / "charembed_cute_hub_olmes_orth.jsonl")
        assert (olmes["prompt"][-9:], olmes["target"]) == (". Answer:", ' " beam')
        assert settings(out / "charembed_cute_hub_olmes_orth.yaml")["output_type"] == (
            "loglikelihood"
        )


def scored_by_lm_eval(config: dict[str, Any], text: str, target: str) -> bool:
    """The filters and the metric of lm-eval, written out."""
    for stop in config["generation_kwargs"]["until"]:
        text = text.split(stop)[0]
    for step in config["filter_list"][0]["filter"]:
        if step["function"] == "regex":
            found = re.findall(step["regex_pattern"], text)
            text = found[0].strip() if found else step["fallback"]
    (metric,) = config["metric_list"]
    texts = [text, target]
    for pattern in metric["regexes_to_ignore"]:
        texts = [re.sub(pattern, "", each) for each in texts]
    if metric.get("ignore_case"):
        texts = [each.lower() for each in texts]
    return texts[0] == texts[1]


@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize("name", ["cute", "charbench", "nanochat", "spelling_bee"])
@given(text=junk, number=st.integers(0, 50), place=st.integers(0, 3))
@settings_of_hypothesis(max_examples=150, deadline=None)
def test_lm_evals_filters_find_the_benchmarks_own_score(
    name: str, chat: bool, text: str, number: int, place: int
) -> None:
    tasks = made(name, 3)
    task = tasks[number % len(tasks)]
    item = task.items[0]
    # the right answer somewhere in the text, so that some texts are right
    answer = item.answer.strip()
    text = [text, answer + text, text + answer, text + f'"{answer}"' + text][place]
    yaml, _ = benchmark_as_lm_eval("it", task, {}, chat)
    lines = (line.partition(": ") for line in yaml.splitlines())
    config = {key: json.loads(value) for key, _, value in lines}
    given_text = cut(text, task.prompt_format.stop_of(chat))
    if any(letter.isdigit() and not letter.isascii() for letter in text):
        return  # int() reads digits of other scripts, the filter does not
    assert scored_by_lm_eval(config, text, answer) == task.is_right(given_text, item)


def half_taught(folder: Path, items: list[Item]) -> tuple[Any, Any]:
    """Save a tiny model that has memorised the first half of the answers."""
    tokenizer = train_tokenizer("".join(item.text for item in items))
    model = gpt2()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(30):
        for item in items[: len(items) // 2]:
            ids = torch.tensor([tokenizer.encode(item.text)])
            optimizer.zero_grad()
            model(input_ids=ids, labels=ids).loss.backward()
            optimizer.step()
    save(folder, model.eval(), tokenizer)
    return model, tokenizer


@pytest.mark.slow
@pytest.mark.skipif(find_spec("lm_eval") is None, reason="needs the extra lm-eval")
def test_the_real_program_finds_our_scores(splits_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [
        str(out),
        "--splits-file",
        str(splits_file),
        "--questions",
        "12",
        "--tasks",
        "count,langgame",
    ]
    assert main([*command, "--wording", "compact"]) == 0
    task = build_task("count", Material(SPLIT, "compact", "plain"))
    items = distinct(task, "seen", 12, "exam", "seen", 0)
    choices = rows(out / "charembed_langgame_like_contains.jsonl")
    chosen = [Item(row["prompt"], row["choices"][row["target"]], row["key"]) for row in choices]
    model, tokenizer = half_taught(
        tmp_path / "model", [*items[::2], *chosen[::2], *items[1::2], *chosen[1::2]]
    )
    found = run_lm_eval(
        out, tmp_path / "model", ["charembed_count_seen", "charembed_langgame_like_contains"]
    )

    right = []
    for item in items:
        ids = tokenizer(item.prompt, return_tensors="pt")
        written = model.generate(**ids, max_new_tokens=3, do_sample=False, pad_token_id=0)[0]
        right.append(task.is_right(tokenizer.decode(written[ids["input_ids"].shape[1] :]), item))
    assert 0 < sum(right) < len(right)
    assert found["charembed_count_seen"]["exact_match,answer"] == pytest.approx(
        sum(right) / len(right)
    )

    taken, taken_per_letter = [], []
    for row in choices:
        sums = [likelihood(model, tokenizer, row["prompt"], choice) for choice in row["choices"]]
        best = max(range(len(sums)), key=sums.__getitem__)
        per_letter = max(range(len(sums)), key=lambda i: sums[i] / len(row["choices"][i]))
        taken.append(best == row["target"])
        taken_per_letter.append(per_letter == row["target"])
    assert sum(taken) > 0
    scores = found["charembed_langgame_like_contains"]
    assert scores["acc,none"] == pytest.approx(sum(taken) / len(taken))
    assert scores["acc_norm,none"] == pytest.approx(sum(taken_per_letter) / len(taken_per_letter))


def taught(folder: Path, items: list[Item], template: str | None) -> None:
    """Save a small model that has memorised all answers."""
    tokenizer = train_tokenizer("".join(item.text for item in items))
    tokenizer.chat_template = template
    model = llama(max_position_embeddings=1024, hidden_size=64, intermediate_size=128)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    rows = [(tokenizer.encode(item.prompt), tokenizer.encode(item.text)) for item in items]
    longest = max(len(ids) for _, ids in rows)
    ids_BT = torch.tensor([ids + [0] * (longest - len(ids)) for _, ids in rows])
    targets_BT = ids_BT.clone()
    for row, (prompt, ids) in enumerate(rows):
        targets_BT[row, : len(prompt)] = targets_BT[row, len(ids) :] = -100
    for _ in range(180):
        optimizer.zero_grad()
        model(input_ids=ids_BT, labels=targets_BT).loss.backward()
        optimizer.step()
    save(folder, model.eval(), tokenizer)


TEMPLATE = (
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("lm_eval") is None, reason="needs the extra lm-eval")
@pytest.mark.parametrize("chat", [False, True])
def test_the_real_program_finds_our_scores_of_benchmarks(chat: bool, tmp_path: Path) -> None:
    from training.evaluate.evaluation import evaluate  # torch takes seconds

    suites = [f"cute={DATA / 'cute'}:spell+contains_char+orth+swap_word"]
    suites += [f"charbench={DATA / 'charbench'}", f"nanochat={DATA / 'nanochat'}"]
    if not chat:  # answered without the template in both programs
        suites += [f"spelling_bee={DATA / 'spelling_bee'}", f"cute-hub@olmes={DATA / 'cute-hub'}"]
    out, n = tmp_path / "out", 4
    command = [str(out), "--tasks", ",".join(suites), "--questions", str(n)]
    assert main([*command, *["--chat"] * chat]) == 0
    shown = {path.stem: rows(path) for path in out.glob("*.jsonl")}
    items = []
    for name, questions in sorted(shown.items()):
        config = settings(out / f"{name}.yaml")
        opening = config.get("gen_prefix", "")
        for number, row in enumerate(questions):
            # the way each benchmark reads an answer; some are wrong on purpose
            end = '" and so on' if "_cute_" in name else ""
            written = row["target"] if number % 3 else "x"
            written = f" #### {written}" if name.endswith("SpellingBee") else written
            written = f" {written}" if "spelling_bee" in name else written
            system = config.get("description")
            before = f"[system]{system}\n" * bool(system) + f"[user]{row['prompt']}\n[assistant]"
            prompt = before if chat else row["prompt"]
            items.append(Item(prompt + opening, written + end, name))
    taught(tmp_path / "model", items, TEMPLATE if chat else None)
    done = evaluate(str(tmp_path / "model"), ",".join(suites), questions=n)
    extra = ["--apply_chat_template"] * chat
    found = run_lm_eval(out, tmp_path / "model", sorted(shown), extra)
    scores = []
    for exam in done.eval_sets:
        name = "charembed_" + "".join(c if c.isalnum() else "_" for c in exam.task.name)
        metric = "acc,none" if exam.prompt_format.greedy else "exact_match,answer"
        ours = done.value(exam.task.name)
        assert found[name][metric] == pytest.approx(ours), name
        scores.append(ours)
    assert max(scores) > 0
    assert min(scores) < 1


@torch.no_grad()
def likelihood(model: Any, tokenizer: Any, prompt: str, choice: str) -> float:
    before, after = tokenizer.encode(prompt), tokenizer.encode(prompt + choice)
    log_probs = model(torch.tensor([after])).logits[0].log_softmax(-1)
    return sum(float(log_probs[i - 1, after[i]]) for i in range(len(before), len(after)))


def run_lm_eval(
    folder: Path, model: Path, names: list[str], extra: Sequence[str] = ()
) -> dict[str, dict[str, float]]:
    """Run the command that an export prints, offline. Return its results by task."""
    command = [
        sys.executable,
        "-m",
        "lm_eval",
        "run",
        "--model",
        "hf",
        "--model_args",
        f"pretrained={model},dtype=float32",
    ]
    command += ["--include_path", ".", "--tasks", *names, "--device", "cpu", "--batch_size", "4"]
    command += extra
    offline = {
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_HOME": str(folder.parent / "hf"),
    }
    done = subprocess.run(
        [*command, "--output_path", str(folder.parent / "results")],
        cwd=folder, env=os.environ | offline, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    (path,) = (folder.parent / "results").rglob("results*.json")
    results: dict[str, dict[str, float]] = json.loads(path.read_text())["results"]
    return results
