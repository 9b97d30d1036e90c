"""Probes of tables with known content, and the command."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoTokenizer

import charembed
from charembed.spelling_loss import IGNORED, PLACES
from tests.laboratory import pretrained
from tests.messages import raises, says
from training.errors import BadInput
from training.intervals import Row, read_rows
from training.probe import command as probing
from training.probe import linear_probe, spelling_decoder
from training.probe.__main__ import main
from training.probe.linear_probe import Vectors, areas, read_classes
from training.probe.scores import means, probe, spell_rows
from training.probe.tables import Label, Table, open_source
from training.probe.tokens import ProbedTokens, plain_text

ALPHABET = "aeinst"
LINEAR = ("letter", "contains", "length")


def vocabulary(n: int = 700) -> list[bytes | None]:
    """Return words of random letters, and five tokens that are no words.

    Every third word has twins in capitals and after a space.
    """
    rng, spellings = Random(0), list[bytes | None]([None, b"42", b" ", b"\xc3", b"a-b"])
    for number in range(n):
        word = "".join(rng.choices(ALPHABET, k=rng.randint(1, 7)))
        spellings += [word.encode()] + [word.upper().encode(), b" " + word.encode()] * (
            number % 3 == 0
        )
    return spellings


def letters_table(tokens: ProbedTokens) -> Tensor:
    """Return (N, D), one number for each letter at each place from either end: all can be read."""
    classes_NP = torch.where(tokens.letters_NP == IGNORED, len(ALPHABET), tokens.letters_NP)
    return torch.nn.functional.one_hot(classes_NP, len(ALPHABET) + 1)[:, :, :-1].flatten(1).float()


def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A decoder with almost no training."""
    monkeypatch.setattr(spelling_decoder, "STEPS", 10)
    monkeypatch.setattr(spelling_decoder, "EPOCHS", 0)


@pytest.fixture(scope="module")
def tokens() -> ProbedTokens:
    return ProbedTokens.of(vocabulary())


def asked(
    vectors_ND: Tensor, tokens: ProbedTokens, probes: tuple[str, ...] = LINEAR
) -> dict[tuple[str, str], Row]:
    """Return the means over five splits, by task and split."""
    rows = [
        row
        for k in range(5)
        for row in probe("table", vectors_ND, tokens, tokens.split(k), probes)[0]
    ]
    return {(row.task, row.split): row for row in means(rows)}


def dealt(table: Tensor, part: str, tokens: ProbedTokens) -> Tensor:
    """Return a control of a table, made as by the command."""
    whole = torch.zeros(int(tokens.ids_N.max()) + 1, table.shape[1]).index_put_(
        (tokens.ids_N,), table
    )
    return probing.vectors_of(Table(Label("m", part), whole), tokens, tokens.split(0))


def test_all_is_read_off_a_table_made_of_the_letters(tokens: ProbedTokens) -> None:
    rows = asked(letters_table(tokens), tokens)
    for cell in (
        ("letter", "start"),
        ("letter", "end"),
        ("letter", "start 1"),
        ("letter", "end 3"),
        ("length", "all"),
    ):
        assert rows[cell].value > 0.995, cell
    assert rows["contains", "all"].value > 0.97  # a sum over places is not quite "anywhere"
    assert rows["letter", "start"].majority == pytest.approx(1 / len(ALPHABET), abs=0.06)


@pytest.mark.parametrize("part", ["shuffled", "random"])
def test_nothing_is_read_off_the_letters_of_other_tokens_or_off_random_numbers(
    tokens: ProbedTokens, part: str
) -> None:
    rows = asked(dealt(letters_table(tokens), part, tokens), tokens)
    for cell in (("letter", "start"), ("letter", "end"), ("length", "all")):
        row = rows[cell]
        assert row.low is not None
        assert row.high is not None
        assert row.majority is not None
        assert row.low <= row.majority <= row.high, row
    assert rows["contains", "all"].value == pytest.approx(0.5, abs=0.03)


def test_what_was_learnt_by_heart_from_twins_is_not_read(tokens: ProbedTokens) -> None:
    """Vectors identify a token's text but not its letters; twins share them."""
    numbers = {text: number for number, text in enumerate(dict.fromkeys(tokens.texts))}
    codes = torch.randn(len(numbers), 400, generator=torch.Generator().manual_seed(0))
    row = asked(codes[[numbers[text] for text in tokens.texts]], tokens, ("letter",))[
        "letter", "start"
    ]
    assert row.value < (row.majority or 0) + 0.03


words = st.text("abcäé", min_size=1, max_size=6)
variants = st.sampled_from(
    [str, str.upper, str.capitalize, lambda word: f" {word}", lambda word: f"{word} "]
)


@given(
    st.lists(st.tuples(words, variants), min_size=150, max_size=250),
    st.integers(0, 12),
    st.sampled_from([None, 1]),
)
@settings(max_examples=20, deadline=None)
def test_held_out_tokens_share_no_text_with_those_a_probe_learns_from(
    drawn: list[tuple[str, Any]], number: int, prefix: int | None
) -> None:
    base = [
        f"{'xyz'[i % 3]}{'abcdefghij'[i // 3 % 10]}{'klmno'[i // 30]}" for i in range(120)
    ]  # enough texts
    spelled = [variant(word).encode() for word, variant in drawn] + [word.encode() for word in base]
    if prefix:
        spelled = [
            chr(0x4E00 + i // 2).encode() + spelling.strip() for i, spelling in enumerate(spelled)
        ]
    tokens = ProbedTokens.of(spelled, prefix=prefix)
    split = tokens.split(number)
    parts = [set(part.tolist()) for part in (split.fit, split.check, split.held)]
    assert sorted(n for part in parts for n in part) == list(range(len(spelled)))
    fit, check, held = ({tokens.texts[n][:prefix] for n in part} for part in parts)
    assert held
    assert not held & (fit | check)
    assert not fit & check
    rounds = [tokens.split(5 * (number // 5) + k).held.tolist() for k in range(5)]
    assert sorted(n for part in rounds for n in part) == list(
        range(len(spelled))
    )  # each is held out once


def test_the_text_of_a_token() -> None:
    texts = {
        b" The": "the",
        b"the": "the",
        b"42": "",
        b"a b": "",
        b"\xc3": "",
        " Ünde".encode(): "ünde",
        None: "",
    }
    assert {spelling: plain_text(spelling) for spelling in texts} == texts


def slow_discriminant(vectors: Vectors, fit: Any, check: Any) -> Any:
    """Linear discriminant analysis from its definition, class by class, in float64."""
    x, classes = vectors.fit.double().numpy(), np.unique(fit)
    centred = np.concatenate([x[fit == k] - x[fit == k].mean(0) for k in classes])
    within = centred.T @ centred / len(x)
    best, read = -1, None
    for strength in linear_probe.STRENGTHS:
        inverse = np.linalg.inv(
            within
            + (strength * np.trace(within) / len(within) + linear_probe.LEAST) * np.eye(len(within))
        )

        def says(some: Tensor, inverse: Any = inverse) -> Any:
            scores = []
            for k in classes:
                mean = x[fit == k].mean(0)
                scores.append(
                    (some.double().numpy() - mean / 2) @ inverse @ mean + np.log((fit == k).mean())
                )
            return classes[np.argmax(scores, axis=0)]

        there = check != IGNORED
        if (right := (says(vectors.check)[there] == check[there]).sum()) > best:
            best, read = right, says(vectors.held)
    return read


def test_the_discriminants_are_those_of_the_textbook(tokens: ProbedTokens) -> None:
    split, generator = tokens.split(1), torch.Generator().manual_seed(0)
    table = letters_table(tokens)
    mixed = table @ torch.randn(table.shape[1], 20, generator=generator)
    vectors = Vectors.of(mixed + 2 * torch.randn(mixed.shape, generator=generator), split)
    read_HP = read_classes(vectors, split, tokens.letters_NP)
    for place in (0, 3, PLACES, PLACES + 4):
        there = tokens.letters_NP[split.fit, place] != IGNORED
        some = Vectors(vectors.fit[there], vectors.check, vectors.held)
        classes = tokens.letters_NP[:, place]
        slow = slow_discriminant(
            some, classes[split.fit][there].numpy(), classes[split.check].numpy()
        )
        assert (read_HP[:, place].numpy() == slow).mean() > 0.995  # float32 against float64 at ties


def test_areas_are_the_chance_that_one_with_stands_above_one_without() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(6, (40, 3), generator=generator).float()
    has = torch.rand(40, 3, generator=generator) < torch.tensor([0.5, 0.2, 0.0])
    for k in range(2):
        above = [
            (a > b) + 0.5 * (a == b) for a in scores[has[:, k], k] for b in scores[~has[:, k], k]
        ]
        assert float(areas(scores, has)[k]) == pytest.approx(float(np.mean(above)))
    assert torch.isnan(areas(scores, has)[2])


def test_a_probe_does_not_look_at_what_it_is_asked(
    tokens: ProbedTokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the held-out tokens had other letters, the predictions for them would not change."""
    quick(monkeypatch)
    split = tokens.split(0)
    vectors = Vectors.of(letters_table(tokens)[:, :30], split)
    wrong_NP = tokens.letters_NP.clone()
    wrong_NP[split.held] = torch.where(wrong_NP[split.held] == IGNORED, IGNORED, 0)
    read_HP = read_classes(vectors, split, tokens.letters_NP)
    assert torch.equal(read_HP, read_classes(vectors, split, wrong_NP))
    held = set(split.held.tolist())
    lies = ["a" * len(text) if n in held else text for n, text in enumerate(tokens.texts)]
    other = ProbedTokens(tokens.ids_N, lies, tokens.keys, tokens.table, wrong_NP, tokens.lengths_N)
    written = spelling_decoder.spell_out(vectors, tokens, split)
    assert written == spelling_decoder.spell_out(vectors, other, split)
    assert written == spelling_decoder.spell_out(vectors, tokens, split)  # and the same each time


def test_the_decoder_spells_new_tokens_from_their_letters_and_not_from_others(
    tokens: ProbedTokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = letters_table(tokens)
    found = {}
    for name, vectors_ND, steps in (
        ("true", table, 300),
        ("others", dealt(table, "shuffled", tokens), 60),
    ):
        monkeypatch.setattr(spelling_decoder, "STEPS", steps)
        rows, texts = probe(name, vectors_ND, tokens, tokens.split(0), ("spell",))
        found[name] = {(row.metric, row.split): row.value for row in rows}
        assert len(texts) == len(tokens.split(0).held)
    assert found["true"]["exact_match", "all"] > 0.5
    assert found["true"]["letter_accuracy", "all"] > 0.8
    assert found["others"]["exact_match", "all"] < 0.1


def test_places_that_a_single_token_has_are_no_trouble(tokens: ProbedTokens) -> None:
    """Nothing varies there, so that the result is rounding error."""
    texts = [text[:4] if n else text[:2] + "aeinstaeinst" for n, text in enumerate(tokens.texts)]
    few = ProbedTokens.of([text.encode() for text in texts])
    for scale in (1.0, 1e4):
        vectors_ND = (
            scale * torch.randn(len(texts), 30, generator=torch.Generator().manual_seed(0)) + 1e3
        )
        for number in range(5):
            split = few.split(number)
            read_classes(Vectors.of(vectors_ND, split), split, few.letters_NP)


def test_a_spelled_text_is_marked_place_by_place(tokens: ProbedTokens) -> None:
    split = tokens.split(0)
    true = [tokens.texts[n] for n in split.held.tolist()]
    said = [text[:-1] + "?" for text in true]
    rows = {(row.metric, row.split): row for row in spell_rows("m", said, tokens, split)}
    letters = sum(map(len, true))
    assert rows["letter_accuracy", "all"].value == pytest.approx((letters - len(true)) / letters)
    assert rows["letter_accuracy", "length 4"].value == 0.75
    assert rows["exact_match", "all"].value == rows["exact_match", "all"].majority == 0


def test_a_table_of_zeros_is_read_as_the_most_frequent_answer(tokens: ProbedTokens) -> None:
    """The character vectors of an encoder with init "zero"."""
    rows = asked(torch.zeros(len(tokens.texts), 8), tokens)
    assert rows["letter", "start"].value == rows["letter", "start"].majority
    assert rows["contains", "all"].value == 0.5


def test_a_run_is_probed_to_the_end(
    half_run: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick(monkeypatch)
    out = tmp_path / "out"
    command = [str(half_run), "--seed", "0", "--splits", "2", "--cache", str(cache), "--quiet"]
    assert main([*command, "--out", str(out)]) == 0
    rows = read_rows(out / "results.json")
    parts = {"lstm": ("base", "letters", "sum"), "matched": ("base", "extra", "sum")}
    tables = {
        f"{arm} {part} {when}"
        for arm in parts
        for part in parts[arm]
        for when in ("before", "after")
    }
    tables |= {f"{arm} {control}" for arm in parts for control in ("shuffled", "random")}
    assert {row.arm for row in rows if "difference" not in row.metric} == tables
    assert {row.seed for row in rows} == {0, 1, "mean"}
    found = {
        (row.arm, row.metric): row.value
        for row in rows
        if (row.task, row.split, row.seed) == ("letter", "start", "mean")
    }
    assert found["lstm letters before", "accuracy"] > found["lstm base before", "accuracy"] + 0.1
    added = found["lstm sum after", "accuracy"] - found["lstm base after", "accuracy"]
    assert found["lstm sum after - lstm base after", "accuracy_difference"] == pytest.approx(added)
    base = [found[f"{arm} base before", "accuracy"] for arm in parts]
    assert base[0] == base[1]  # the arms begin with the same table
    page = (out / "probe.html").read_text("utf-8")
    assert page.count("<svg") == 2 * (5 + 3)
    says(page.split("get the same numbers")[1], "python -m training.probe --seed 0 --splits 2")
    assert "lstm sum after" in page


def test_a_pretrained_model_and_its_table_in_a_file_say_the_same(
    pretrained_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight = pretrained.llama().get_input_embeddings().weight.detach()
    save_file({"table": weight.clone(), "norm": torch.ones(3)}, tmp_path / "llama.safetensors")
    quick(monkeypatch)
    command = ["--probes", "letter,contains,spell", "--splits", "1", "--quiet"]
    assert main([str(pretrained_folder), *command, "--out", str(tmp_path / "model")]) == 0
    file = [str(tmp_path / "llama.safetensors"), "--tokenizer", str(pretrained_folder)]
    assert main([*file, *command, "--out", str(tmp_path / "file")]) == 0
    model, table = (
        json.loads((tmp_path / name / "results.json").read_text()) for name in ("model", "file")
    )
    assert model == table
    assert {row["arm"] for row in model} == {f"llama {p}" for p in ("base", "shuffled", "random")}


def test_letters_that_were_saved_are_probed_with_their_base(
    pretrained_folder: Path, tmp_path: Path
) -> None:
    model, tokenizer = pretrained.llama(), AutoTokenizer.from_pretrained(pretrained_folder)
    charembed.save(charembed.attach(model, tokenizer, init="normal"), tmp_path / "letters")
    source = open_source(str(pretrained_folder), tmp_path, encoder=str(tmp_path / "letters"))
    tables = {table.label.part: table.vectors_VD for table in source.tables(0)}
    embedding = model.get_input_embeddings()
    assert list(tables) == ["base", "letters", "sum"]
    assert torch.equal(tables["base"], embedding.weight)
    assert torch.equal(tables["sum"], embedding.table())
    assert torch.equal(tables["sum"], tables["base"] + tables["letters"])


def test_a_page_fits_a_phone(
    half_run: Path, cache: Path, tmp_path: Path, browser: Any, monkeypatch: Any
) -> None:
    quick(monkeypatch)
    flags = ["--arm", "lstm", "--seed", "0", "--splits", "1", "--cache", str(cache), "--quiet"]
    assert main([str(half_run), *flags, "--out", str(tmp_path / "out")]) == 0
    page = browser.new_page(viewport={"width": 400, "height": 800})
    page.goto(f"file://{tmp_path / 'out' / 'probe.html'}")
    assert page.evaluate("document.documentElement.scrollWidth") == 400


def test_bad_input_is_told_before_anything_is_made(
    half_run: Path,
    pretrained_folder: Path,
    cache: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    narrow, wide = tmp_path / "narrow.safetensors", tmp_path / "wide.safetensors"
    save_file({"table": torch.zeros(500, 4)}, narrow)
    save_file({"table": torch.zeros(900, 4), "other": torch.zeros(608, 4)}, wide)
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"no tensors")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    run, model, tokenizer = (
        str(half_run),
        str(pretrained_folder),
        ["--tokenizer", str(pretrained_folder)],
    )
    for flags, said in (
        ([str(tmp_path / "nowhere" / "x" / "y")], "hub"),
        ([run, "--arm", "gru"], "gru"),
        ([run, "--seed", "7"], "7"),
        ([run, "--seed", "1"], "exist"),  # not finished
        ([run, "--encoder", "letters"], "--encoder"),
        ([model, "--arm", "lstm"], "--arm"),
        ([str(narrow)], "--tokenizer"),
        ([str(narrow), *tokenizer], "500 600"),
        ([str(wide), *tokenizer], "--tensor"),
        ([str(wide), *tokenizer, "--tensor", "table"], "900 600"),
        ([str(wide), *tokenizer, "--tensor", "third"], "third"),
        ([str(broken), *tokenizer], "safetensors"),
        ([model, "--tokens", "50"], "100"),
        ([model, "--splits", "0"], "--splits 0"),
        ([model, "--probes", "letter,meaning"], "meaning"),
        ([model, "--out", str(tmp_path / "full")], "something"),
    ):
        assert main(["--cache", str(cache), "--quiet", "--out", str(out), *flags]) == 2, flags
        told = capsys.readouterr().err
        says(told, said)
        assert told.count("\n") == 1, (flags, told)
    assert not out.exists()
    assert sorted(path.name for path in (tmp_path / "full").iterdir()) == ["mine.txt"]


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path, pretrained_folder: Path) -> None:
    save_file({"table": torch.full((608, 4), float("nan"))}, tmp_path / "nan.safetensors")
    with raises(BadInput, "finite"):
        open_source(str(tmp_path / "nan.safetensors"), tmp_path, tokenizer=str(pretrained_folder))


def test_ctrl_c_leaves_nothing(
    pretrained_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(probing, "probe", stopped)
    assert main([str(pretrained_folder), "--quiet", "--out", str(tmp_path / "out")]) == 130
    assert capsys.readouterr().err.startswith("Stopped")
    assert not (tmp_path / "out").exists()
