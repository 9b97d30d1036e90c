"""Export of a finished arm as a plain model with its card, or with new tokens."""

from __future__ import annotations

import ast
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
import yaml
from markdown_it import MarkdownIt

import charembed
from examples import new_tokens
from tests.laboratory.pretrained import ROWS
from tests.laboratory.runs import TINY
from tests.laboratory.test_models import finished as finished
from tests.laboratory.test_models import pretrained as pretrained
from tests.laboratory.test_models import tokenizer as tokenizer
from tests.messages import says
from training import compare
from training.config.flags import parse
from training.intervals import read_rows
from training.run.folder import read_config
from training.ship import __main__ as ship
from training.ship.card import render_card


@pytest.mark.parametrize("arm", ["plain", "lstm"])
def test_the_example_gives_a_run_words_of_its_own(
    arm: str, finished: Path, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "extended"
    flags = [str(finished), "--arm", arm, "--words", "strawberry,quokka", "--cache", str(cache)]
    assert new_tokens.main([*flags, "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert re.search(r"\d of 2 .*\n.* \d of 2 ", told)
    tokenizer = transformers.AutoTokenizer.from_pretrained(out)
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(out)
    assert len(tokenizer.encode(" quokka", add_special_tokens=False)) == 1
    assert (out / "letters").exists() == ("charembed.load(" in told) == (arm == "lstm")
    if arm == "lstm":
        charembed.load(model, tokenizer, out / "letters")
        (token,) = tokenizer.encode(" quokka", add_special_tokens=False)
        assert "".join(model.get_input_embeddings().spellings.spell(token)) == " quokka"
    assert new_tokens.main([*flags, "--out", str(out)]) == 2
    says(capsys.readouterr().err, "exists folder")


def test_an_arm_is_shipped_as_a_plain_model_with_its_card(
    finished: Path, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "with-letters"
    assert ship.main([str(finished), str(out), "--licence", "mit", "--cache", str(cache)]) == 0
    (beside := tmp_path / "beside").mkdir()
    assert (
        out.stat().st_mode == beside.stat().st_mode
    )  # whoever may read other folders may read this one
    told = capsys.readouterr().out
    says(told, f"{ROWS * 32:,} 0.1 MB")
    says(told, "bit-equal")
    plain = transformers.AutoModelForCausalLM.from_pretrained(out)
    assert type(plain) is transformers.LlamaForCausalLM
    assert not plain.config.tie_word_embeddings
    base = transformers.AutoModelForCausalLM.from_pretrained(plain_base(finished))
    tokenizer = transformers.AutoTokenizer.from_pretrained(out)
    ids = torch.tensor([tokenizer(" reverse strawberry:")["input_ids"]])
    letters = charembed.load(base, tokenizer, out / "letters", check_base=False)
    assert letters.get_input_embeddings().spellings.num_tokens == ROWS
    assert plain(ids).logits.isfinite().all()
    card = (out / "README.md").read_text("utf-8")
    assert card.startswith("---\nbase_model: ")
    for promise in (
        "license: mit",
        "| unseen tokens | reverse |",
        "| text, after fine-tuning |",
        "seed 0 of the arm",
    ):
        assert promise in card
    for row in read_rows(finished / "results.json"):
        if (row.arm, row.task, row.metric, row.seed) == (
            "lstm",
            "text, after fine-tuning",
            "loss_nats",
            "mean",
        ):
            assert f"{row.value:.3f}" in card
    assert not re.search(r"\{[{%]|\n\n\n", card)
    (command,) = re.findall("`(python -m training.compare .*)`", card)
    again, _ = parse(shlex.split(command)[3:], None)
    wanted = read_config(finished).as_dict()
    wanted["model"]["model"] = Path(wanted["model"]["model"]).name  # nobody else has the folder
    assert again.as_dict() == wanted

    broke = ship.main([str(finished), str(out), "--cache", str(cache)])
    assert broke == 2
    says(capsys.readouterr().err, "empty")


@pytest.mark.slow
def test_a_rival_is_shipped_without_an_encoder_and_its_card_speaks_of_it(
    pretrained: Path, cache: Path, tmp_path: Path
) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    flags = ["--model", str(pretrained), "--arms", "spelled_prompt,stochastok", "--jobs", "1"]
    flags += ["--lr-factors", "spelled_prompt=0.5", "--out", str(run), "--cache", str(cache)]
    assert compare.main([*TINY, *flags]) == 0
    flags = [str(run), str(out), "--arm", "spelled_prompt", "--cache", str(cache)]
    assert ship.main(flags) == 0
    assert not (out / "letters").exists()
    card = (out / "README.md").read_text("utf-8")
    assert "with characters" not in card
    assert "Added vectors" not in card
    assert "each question also gives the letters of its word" in card.split("## Results")[0]
    # the prompt that the arm was trained to read: "reverse tea t e a:"
    assert re.search(r"All questions look like `\w+( \w+)* \w{3,}( \w){3,}:`", card)
    rate = read_config(run).phase("finetune").lr
    assert f"rate {rate / 2:g}." in card
    assert f"rate {rate:g}." not in card


def plain_base(run: Path) -> str:
    folder: str = json.loads((run / "config.json").read_text())["config"]["model"]["model"]
    return folder


def test_what_cannot_be_shipped_is_said_and_nothing_written(
    finished: Path, half_run: Path, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for flags, message in (
        ([str(half_run)], "decoder"),
        ([str(tmp_path)], "run folder"),
        (
            [str(finished), "--arm", "gru"],
            "gru 0",
        ),
        ([str(finished), "--seed", "3"], "lstm 3"),
        (
            [str(finished), "--licence", "mit\ntitle: x"],
            "licence mit",
        ),
    ):
        run, *others = flags
        assert ship.main([run, str(tmp_path / "x"), *others, "--cache", str(cache)]) == 2
        errors = capsys.readouterr().err
        says(errors, message)
        assert not (tmp_path / "x").exists()


NAMES = [
    "SmolLM2-135M", "my model: v2", "model #2", "@x", "*star", "- dash", "true", "1e3", "null",
    "2024-01-01", "it's", 'a"b', "back\\slash", "{{ 7 }}", "[x](javascript:alert(1))", "a`b``c",
    "\U0001f353", "\x7f\U000e0001", "<img src=x onerror=alert(1)>", "x\nlicense: gpl",
    "x\r\n---\n# y", "a\u2028b", "ends in space ", "é|f",
]  # fmt: skip


def card(**changes: Any) -> str:
    values = {
        "base": "b", "title": "b", "folder": "out", "added": "x", "licence": "mit", "kind": "K",
        "rival": None, "licence_sentence": "y", "parameters": 1, "untied": 0,
        "example": "spell a:", "seeds": 1, "seed": 0, "arm": "lstm", "arms": ["lstm"],
        "answers": [], "sentences": {"lstm": "s"},
        "texts": [], "setting": "s", "form": "f", "phases": [], "version": "1", "command": "c",
    }  # fmt: skip
    return render_card(values | changes)


@pytest.mark.parametrize("name", NAMES)
def test_a_card_holds_any_name_of_base_and_folder(name: str) -> None:
    shown = {"title": name.rpartition("/")[2], "setting": f"Of {name}.", "command": f"c '{name}'"}
    text = card(base=name, folder=name, **shown)
    nothing, front, body = text.split("---\n", 2)
    assert not nothing
    facts = yaml.safe_load(front)
    assert (facts["base_model"], facts["license"]) == (name, "mit")
    assert set(facts) == {"base_model", "license", "library_name", "pipeline_tag", "tags"}
    (code,) = re.findall(r"```python\n(.*?)```", body, re.DOTALL)
    found = [node.value for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Constant)]
    assert found.count(name) == 2
    # a sign of Markdown or HTML has no effect: the page has the headings of the template alone
    page = MarkdownIt("commonmark", {"html": True}).render(body)
    assert not re.search(r"<(img|a)\b", page)
    assert re.findall("<h2>(.*)</h2>", page) == ["Results", "Loss on text", "Training", "Licence"]
    assert page.count("<h1>") == 1


@pytest.mark.parametrize("licence", ["mit", "llama3.2", "true", "No", "1e3", "0bsd", "2024-01-01"])
def test_a_licence_is_a_text(licence: str) -> None:
    front = card(licence=licence).split("---")[1]
    assert yaml.safe_load(front)["license"] == licence
