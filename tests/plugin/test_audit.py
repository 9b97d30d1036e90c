"""charembed.audit: the tokens of words, what their rows hold, and words added by the command."""

from __future__ import annotations

import copy
import json
import os
import random
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import charembed
from charembed import AttachError, CharEmbedError, SpellingError
from charembed.audit import __main__ as command
from charembed.audit import asking, letters, report
from charembed.audit.word_list import read_words
from charembed.rows_from_spellings import readable_states
from charembed.tokenizers import token_bytes
from tests.laboratory import pretrained
from tests.messages import raises, says
from tests.plugin.test_new_tokens import TEXT, prepending


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    alphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 "
    return pretrained.train_tokenizer(TEXT + alphabet)


@pytest.fixture(scope="module")
def base(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audit") / "base"
    return pretrained.save(folder, pretrained.llama(vocab_size=len(tokenizer)), tokenizer)


@pytest.fixture
def words(tmp_path: Path) -> Path:
    path = tmp_path / "words.txt"
    path.write_text("blueberry\ncloudberry\nstrawberry\nboysenberry\n")
    return path


def run(*arguments: Any) -> int:
    return command.main([str(argument) for argument in arguments])


# the function


def test_each_word_has_its_tokens_its_gain_and_its_cost(tokenizer: Any) -> None:
    model = pretrained.llama(vocab_size=len(tokenizer) + 2, tie_word_embeddings=False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = charembed.audit(model, tokenizer, {"strawberry": 9, "cloudberry": 3, "qqqqqqq": 1})
    assert [one.word for one in found.words] == ["cloudberry", "qqqqqqq", "strawberry"] or [
        one.word for one in found.words
    ] == ["qqqqqqq", "cloudberry", "strawberry"]
    for one in found.words:
        ids = tokenizer(f" {one.word}", add_special_tokens=False)["input_ids"]
        assert "".join(one.pieces) == f" {one.word}"
        assert one.num_tokens == len(ids)
        assert one.saved == (len(ids) - 1) * one.count
        assert one.spelled is one.answer is None
        assert one.is_token == (one.word == "strawberry")
        assert one.parameters == (0 if one.is_token else 2 * model.config.hidden_size)
    assert found.spare_rows == 2
    assert found.new_parameters(2) == 0
    assert found.new_parameters(3) == found.row_parameters
    assert found.best(2) == [one.word for one in found.words[:2]]
    with raises(SpellingError, "3 2"):
        found.best(3)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_head_with_a_bias_costs_one_parameter_more(tokenizer: Any) -> None:
    model = pretrained.llama(vocab_size=len(tokenizer), tie_word_embeddings=False)
    model.lm_head.bias = torch.nn.Parameter(torch.zeros(len(tokenizer)))
    assert charembed.audit(model, tokenizer, ["cloudberry"]).row_parameters == 65
    tied = pretrained.llama(vocab_size=len(tokenizer))
    assert charembed.audit(tied, tokenizer, ["cloudberry"]).row_parameters == 32


def test_words_of_a_list_count_as_often_as_they_occur(tokenizer: Any) -> None:
    model = pretrained.llama(vocab_size=len(tokenizer))
    found = charembed.audit(model, tokenizer, ["cloudberry", " cloudberry ", "boysenberry"])
    assert {one.word: one.count for one in found.words} == {"cloudberry": 2, "boysenberry": 1}
    assert charembed.audit(model, tokenizer, iter(["cloudberry"])).words[0].word == "cloudberry"
    assert charembed.audit(model, tokenizer, []).words == ()
    says(charembed.audit(model, tokenizer, []), "0 words")


def test_words_without_a_space_are_read_unchanged(tokenizer: Any) -> None:
    model = pretrained.llama(vocab_size=len(tokenizer))
    (one,) = charembed.audit(model, tokenizer, ["cloudberry"], space=False).words
    assert "".join(one.pieces) == "cloudberry"


def test_a_space_that_the_tokenizer_inserts_is_no_token_of_the_word() -> None:
    tokenizer = prepending()
    model = pretrained.llama(vocab_size=len(tokenizer))
    found = {
        one.word: one for one in charembed.audit(model, tokenizer, ["strawberry", "tower"]).words
    }
    assert found["strawberry"].pieces == (" strawberry",)
    assert found["strawberry"].is_token
    assert "".join(found["tower"].pieces).strip() in "tower"


def test_fragments_of_a_character_are_shown_as_bytes(tokenizer: Any) -> None:
    model = pretrained.llama(vocab_size=len(tokenizer))
    (one,) = charembed.audit(model, tokenizer, ["ж"]).words
    assert one.pieces == (" ", "<0xD0>", "<0xB6>")


@pytest.mark.parametrize("seed", [0, 1])
def test_letters_are_read_if_the_rows_hold_them(seed: int) -> None:
    rng = random.Random(seed)
    alphabet = b"abcdefghij"
    texts = sorted({b" " + bytes(rng.choices(alphabet, k=rng.randint(2, 5))) for _ in range(3_000)})
    states = readable_states(texts)
    torch.manual_seed(seed)
    rows = states @ torch.randn(states.shape[1], 128)
    held = letters.read_letters(rows, texts, [0, 1])
    other = letters.read_letters(rows[torch.randperm(len(rows))], texts, [0, 1])
    assert held is not None
    assert other is not None
    assert held.vocabulary > 0.85
    assert other.vocabulary < 0.2
    assert held.baseline < 0.2
    assert held.baseline == other.baseline
    assert len(held.read[0]) == len(texts[0].strip())


def test_no_token_is_read_by_a_fit_on_its_own_text() -> None:
    """Rows that name each text, and nothing else, hold no letters that others could teach."""
    rng = random.Random(0)
    words = sorted({bytes(rng.choices(b"abcdefghij", k=5)) for _ in range(600)})
    texts = [*words, *(b" " + word for word in words), *(word.upper() for word in words)]
    torch.manual_seed(0)
    rows = torch.randn(len(words), 900).repeat(3, 1)
    found = letters.read_letters(rows, texts, [])
    assert found is not None
    assert found.vocabulary < 0.2


def test_the_rows_hold_the_vectors_of_an_attached_encoder(tokenizer: Any) -> None:
    model = pretrained.llama(vocab_size=len(tokenizer), hidden_size=128)
    plain = charembed.audit(model, tokenizer, ["blueberry"])
    charembed.attach(model, tokenizer, init="pretrained", scale=3.0)
    found = charembed.audit(model, tokenizer, ["blueberry"])
    table = model.get_input_embeddings().table()
    expected = letters.read_letters(table, token_bytes(tokenizer), [])
    assert expected is not None
    assert found.vocabulary_letters == expected.vocabulary != plain.vocabulary_letters


def test_a_vocabulary_without_texts_reads_no_letters() -> None:
    tokenizer = prepending()
    model = pretrained.llama(vocab_size=len(tokenizer))
    found = charembed.audit(model, tokenizer, ["blueberry"])
    assert found.vocabulary_letters is None
    assert found.words[0].letters_right is None
    says(found, "letters: not read 100")


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["cloudberry", ""], "''"),
        (["cloudberry", 7], "7 str"),
        (["a<|end|>b"], "a<|end|>b <|end|>"),
        (["h\udcc3"], "character"),
        ({"cloudberry": 1.5}, "cloudberry 1.5 int"),
        ({"cloudberry": -1}, "cloudberry -1"),
        ({"cloudberry": True}, "cloudberry True"),
        ("cloudberry", "cloudberry list"),
        (None, "None list"),
    ],
)
def test_bad_words_are_refused(words: Any, parts: str, tokenizer: Any) -> None:
    model = pretrained.llama(vocab_size=len(tokenizer))
    with raises(SpellingError, parts):
        charembed.audit(model, tokenizer, words)


def test_bad_models_and_prompts_are_refused(tokenizer: Any) -> None:
    model = pretrained.llama(vocab_size=len(tokenizer))
    for spell in ("Spell it:", 3, None):
        with raises(SpellingError, "{word}"):
            charembed.audit(model, tokenizer, ["cloudberry"], spell=spell)  # type: ignore[arg-type]
    with raises(SpellingError, "spell_at_most -1"):
        charembed.audit(model, tokenizer, ["cloudberry"], spell=True, spell_at_most=-1)
    with raises(AttachError, "Linear resize_token_embeddings()"):
        charembed.audit(torch.nn.Linear(2, 2), tokenizer, ["cloudberry"])
    with raises(SpellingError, "tokens rows"):
        charembed.audit(pretrained.llama(vocab_size=50), tokenizer, ["cloudberry"])


# asking the model


class Speller:
    """Answers of a model, given by the test: the spelling of some words, another text otherwise."""

    def __init__(self, tokenizer: Any, known: list[str]) -> None:
        self.tokenizer, self.known = tokenizer, known

    def generate(self, ids_BT: torch.Tensor, **options: Any) -> torch.Tensor:
        assert options["do_sample"] is False
        assert len(set(options["attention_mask"].flatten().tolist())) == 1
        rows = []
        for ids in ids_BT.tolist():
            word = self.tokenizer.decode(ids).rsplit("Spell ", 1)[1].removesuffix(":")
            text = " " + (" ".join(word) if word in self.known else word) + "\nSpell cat: c a t"
            rows.append(ids + self.tokenizer(text, add_special_tokens=False)["input_ids"])
        width = max(map(len, rows))
        return torch.tensor([row + [0] * (width - len(row)) for row in rows])


def test_the_model_is_asked_only_if_the_caller_wants_it(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = pretrained.llama(vocab_size=len(tokenizer), max_position_embeddings=512).train()
    speller = Speller(tokenizer, ["cloudberry", "2-ol"])
    monkeypatch.setattr(type(model), "generate", lambda _, *a, **k: speller.generate(*a, **k))
    words = ["cloudberry", "boysenberry", "2-ol", "blueberry"]
    found = {one.word: one for one in charembed.audit(model, tokenizer, words, spell=True).words}
    assert {word: one.spelled for word, one in found.items()} == {
        "cloudberry": True, "boysenberry": False, "2-ol": True, "blueberry": False,
    }  # fmt: skip
    assert found["cloudberry"].answer == "c l o u d b e r r y"
    assert model.training
    some = charembed.audit(model, tokenizer, words, spell="Now. Spell {word}:", spell_at_most=2)
    assert [one.spelled is None for one in some.words] == [False, False, True, True]
    says(some, "of 2 asked")
    assert all(one.spelled is None for one in charembed.audit(model, tokenizer, words).words)


def test_a_real_model_is_asked_greedily(tokenizer: Any) -> None:
    model = pretrained.llama(vocab_size=len(tokenizer), max_position_embeddings=512).eval()
    model.generation_config.repetition_penalty = 1.7
    model.generation_config.do_sample = True
    words = ["cloudberry", "boysenberry"]
    first = charembed.audit(model, tokenizer, words, spell=True)
    by_word = {one.word: one.answer for one in first.words}
    for word in words:
        ids = tokenizer(asking.FEW_SHOT.replace("{word}", word))["input_ids"]
        start = len(ids)
        with torch.no_grad():
            for _ in range(2 * len(word) + 8):
                ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
                if "\n" in tokenizer.decode(ids[-1:]) or ids[-1] == model.config.eos_token_id:
                    break
        text = tokenizer.decode(ids[start:], skip_special_tokens=True)
        assert by_word[word] is not None
        assert asking._first_line(text).startswith(by_word[word][:20])


def test_a_word_without_letters_or_beyond_the_context_is_not_asked(tokenizer: Any) -> None:
    model = pretrained.llama(vocab_size=len(tokenizer), max_position_embeddings=128)
    found = charembed.audit(model, tokenizer, ["x" * 200, "--"], spell=True)
    assert [one.spelled for one in found.words] == [None, None]
    says(found, "0 of 0 asked")


@pytest.mark.parametrize(
    ("answer", "word", "right"),
    [
        ("c a t", "cat", True),
        ("C-A-T", "Cat", True),
        ("c, a, t.", "cat", True),
        ("cat", "cat", False),
        ("c a t s", "cat", False),
        ("ca t", "cat", False),
        ("", "cat", False),
        ("2 - o l", "2-ol", True),
        ("2 o l", "2-ol", True),
        ("a", "a", True),
        ("e\u0301 t e\u0301", "\u00e9t\u00e9", True),
    ],
)
def test_an_answer_is_right_if_it_is_the_letters_one_by_one(
    answer: str, word: str, right: bool
) -> None:
    assert asking._spells(answer, word) is right


# the file of words


def test_words_are_read_with_their_counts(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_bytes("\ufeffibuprofen\t12\r\n\r\nvitamin b 12\t7\nibuprofen\t1\n".encode())
    found = read_words(path)
    assert found.counts == {"ibuprofen": 13, "vitamin b 12": 7}
    says(" ".join(found.notes), "1 empty 1 repeat")
    path.write_text("aspirin\n  codeine\naspirin")
    assert read_words(path).counts == {"aspirin": 2, "codeine": 1}
    path.write_text("you 120\nthe 119\n")
    says(" ".join(read_words(path).notes), "tab")
    path.write_text("a\u2028b\n1,2-diol\n")
    assert read_words(path).counts == {"a\u2028b": 1, "1,2-diol": 1}


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (b"", "no word"),
        (b"\n \n\t\n", "no word"),
        (b"aspirin\tmany\n", "Line 1 many whole number"),
        (b"aspirin\t-3\n", "Line 1 -3"),
        (b"aspirin\t1\ncodeine\n", "Line 2 codeine count"),
        (b"aspirin\ncodeine\t1\n", "Line 2 codeine count"),
        (b"aspirin\t1\t2\n", "Line 1 3 columns"),
        (b"aspirin\t1\n\t5\n", "Line 2 5 no word"),
        (b"aspirin\ncod\xffeine\n", "Line 2 0xff UTF-8"),
    ],
)
def test_a_bad_file_is_refused_with_the_line(
    content: bytes, parts: str, base: Path, tmp_path: Path, capsys: Any
) -> None:
    path = tmp_path / "words.txt"
    path.write_bytes(content)
    assert run(base, path) == 2
    errors = capsys.readouterr().err
    says(errors, "words.txt", parts)
    assert errors.count("\n") == 1


def test_no_file_and_a_folder_are_refused(base: Path, tmp_path: Path, capsys: Any) -> None:
    for path in (tmp_path / "none.txt", tmp_path):
        assert run(base, path) == 2
        says(capsys.readouterr().err, str(path))


# the command


def test_the_command_prints_a_table_and_writes_json(
    base: Path, words: Path, tmp_path: Path, capsys: Any
) -> None:
    assert run(base, words, "--json", tmp_path / "new" / "audit.json", "--rows", 3) == 0
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert [line.split()[0] for line in lines[1:4]] != ["strawberry"] * 3
    says(out, "word tokens saved pieces 1 more 4 words, 1 of")
    assert "spelled" not in lines[0]
    found = json.loads((tmp_path / "new" / "audit.json").read_text())
    assert [one["word"] for one in found["words"]][-1] == "strawberry"
    assert found["words"][-1]["saved"] == found["words"][-1]["parameters"] == 0
    assert found["prompt"] is None


def test_columns_are_aligned_whatever_the_words_hold(tokenizer: Any) -> None:
    model = pretrained.llama(vocab_size=len(tokenizer))
    words = ["cloudberry", "漢字", "e\u0301te\u0301", "a\x1b[31mb", "z" * 200]
    text = charembed.audit(model, tokenizer, words).table()
    assert "\x1b" not in text
    head, *rows = text.splitlines()[: len(words) + 1]
    place = report._width(head[: head.index("pieces")])
    for row in rows:
        start = next(i for i in range(len(row)) if report._width(row[:i]) == place)
        assert row[start] == "·"
        assert row[start - 1] == " "


def test_the_best_words_become_tokens_of_a_new_folder(
    base: Path, words: Path, tmp_path: Path, capsys: Any
) -> None:
    out = tmp_path / "out"
    before = {path.name: path.read_bytes() for path in base.iterdir()}
    assert run(base, words, "--apply", 2, "--out", out) == 0
    says(capsys.readouterr().out, "2 new tokens 64 parameters")
    assert {path.name: path.read_bytes() for path in base.iterdir()} == before
    model = transformers.AutoModelForCausalLM.from_pretrained(out)
    tokenizer = transformers.AutoTokenizer.from_pretrained(out)
    old = transformers.AutoModelForCausalLM.from_pretrained(base)
    by_hand = transformers.AutoTokenizer.from_pretrained(base)
    best = charembed.audit(old, by_hand, read_words(words).counts).best(2)
    ids = charembed.add_tokens(old, by_hand, best)
    assert torch.equal(model.get_input_embeddings().weight, old.get_input_embeddings().weight)
    assert [
        tokenizer(f"a {word}", add_special_tokens=False)["input_ids"][-1] for word in best
    ] == ids
    assert stat.S_IMODE(out.stat().st_mode) == 0o777 & ~umask()
    assert {stat.S_IMODE(path.stat().st_mode) for path in out.iterdir()} == {0o666 & ~umask()}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "words.txt"]


def umask() -> int:
    os.umask(mask := os.umask(0))
    return mask


def test_an_encoder_grows_and_is_saved_too(
    base: Path, tokenizer: Any, words: Path, tmp_path: Path
) -> None:
    model = transformers.AutoModelForCausalLM.from_pretrained(base)
    charembed.attach(model, tokenizer, init="pretrained")
    charembed.save(model, tmp_path / "encoder")
    out = tmp_path / "out"
    arguments = (base, words, "--encoder", tmp_path / "encoder", "--apply", 1, "--out", out)
    assert run(*arguments) == 0
    grown = transformers.AutoTokenizer.from_pretrained(out)
    loaded = transformers.AutoModelForCausalLM.from_pretrained(out)
    charembed.load(loaded, grown, out / "characters")
    twin = copy.deepcopy(tokenizer)
    best = charembed.audit(model, twin, read_words(words).counts).best(1)
    (token,) = charembed.add_tokens(model, twin, best)
    ids = torch.tensor([[5, token, 6]])
    with torch.no_grad():
        assert torch.equal(loaded.eval()(ids).logits, model.eval()(ids).logits)


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        (["--apply", "4", "--out", "OUT"], "--apply 4 3"),
        (["--apply", "0", "--out", "OUT"], "--apply 0"),
        (["--apply", "-2", "--out", "OUT"], "--apply -2"),
        (["--apply", "2"], "--apply --out"),
        (["--out", "OUT"], "--out --apply"),
        (["--apply", "2", "--out", "THERE"], "--out exists"),
        (["--apply", "2", "--out", "no/such/OUT"], "--out no/such"),
        (["--rows", "0"], "--rows 0"),
        (["--json", "THERE"], "--json folder"),
        (["--spell", "Spell it"], "{word}"),
        (["--encoder", "none"], "none"),
        (["--nosuch"], "--nosuch --help"),
    ],
)
def test_bad_flags_are_refused_and_nothing_is_written(
    flags: list[str], parts: str, base: Path, words: Path, tmp_path: Path,
    capsys: Any, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "THERE").mkdir()
    assert run(base, words, "--json", "x.json", *flags) == 2
    printed = capsys.readouterr()
    says(printed.err, parts)
    assert printed.err.count("\n") == 1
    assert printed.out == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["THERE", "words.txt"]


def test_bad_words_of_a_file_are_refused(base: Path, words: Path, capsys: Any) -> None:
    words.write_text("cloudberry\na<|end|>b\n")
    assert run(base, words) == 2
    says(capsys.readouterr().err, "a<|end|>b <|end|>")


@pytest.mark.parametrize("kind", ["empty", "none", "tokenizer", "no weights", "no head"])
def test_a_folder_that_is_no_model_is_refused(
    kind: str, base: Path, words: Path, tmp_path: Path, capsys: Any
) -> None:
    folder = tmp_path / "folder"
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    if kind != "none":
        folder.mkdir()
    if kind not in ("none", "empty"):
        tokenizer.save_pretrained(folder)
    if kind == "no weights":
        pretrained.llama(vocab_size=len(tokenizer)).config.save_pretrained(folder)
    if kind == "no head":
        model = pretrained.llama(vocab_size=len(tokenizer), tie_word_embeddings=False)
        model.model.save_pretrained(folder)
    assert run(folder, words) == 2
    errors = capsys.readouterr().err
    says(errors.splitlines()[-1], str(folder))


def test_without_transformers_one_sentence_names_it(
    base: Path, words: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert run(base, words) == 2
    says(capsys.readouterr().err, "transformers pip install")


@pytest.mark.parametrize("place", ["model", "tokenizer", "words"])
def test_ctrl_c_leaves_no_folder(
    place: str,
    base: Path,
    words: Path,
    tmp_path: Path,
    capsys: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stopped(self: Any, folder: Any, *_: Any, **__: Any) -> None:
        (Path(folder) / "half").write_text("")
        raise KeyboardInterrupt

    def at_once(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    if place == "words":
        monkeypatch.setattr(command, "add_tokens", at_once)
    else:
        owner = {
            "model": transformers.PreTrainedModel,
            "tokenizer": transformers.PreTrainedTokenizerFast,
        }
        monkeypatch.setattr(owner[place], "save_pretrained", stopped)
    assert run(base, words, "--apply", 1, "--out", tmp_path / "out") == 130
    says(capsys.readouterr().err, "stopped")
    assert [path.name for path in tmp_path.iterdir()] == ["words.txt"]


def test_what_a_killed_command_left_is_removed(
    base: Path, words: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True
    )
    monkeypatch.setattr("charembed.files.os.getpid", lambda: int(done.stdout))
    left = command.temporary_name(tmp_path / "out")
    monkeypatch.undo()
    left.mkdir()
    assert run(base, words, "--apply", 1, "--out", tmp_path / "out") == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "words.txt"]


def test_a_disk_error_is_named(
    base: Path, words: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(transformers.PreTrainedModel, "save_pretrained", full)
    assert run(base, words, "--apply", 1, "--out", tmp_path / "out") == 2
    says(capsys.readouterr().err, "--out space")
    assert [path.name for path in tmp_path.iterdir()] == ["words.txt"]


def test_the_package_is_a_function_and_a_command() -> None:
    """`python -m charembed.audit` must not warn that the package was imported before."""
    code = "import charembed.audit, charembed.audit.__main__; assert callable(charembed.audit)"
    subprocess.run([sys.executable, "-c", code], check=True)
    line = [sys.executable, "-W", "error", "-m", "charembed.audit", "--help"]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stderr == ""


def test_a_long_list_is_read_in_batches(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, genuine = [], type(tokenizer).__call__

    def counted(self: Any, text: Any, **options: Any) -> Any:
        calls.append(text)
        return genuine(self, text, **options)

    model, seen = pretrained.llama(vocab_size=len(tokenizer)), list[tuple[int, int]]()
    monkeypatch.setattr(type(tokenizer), "__call__", counted)
    words = [f"berry{i}" for i in range(10_000)]
    charembed.audit(model, tokenizer, words, progress=lambda *numbers: seen.append(numbers))
    assert len(calls) < 10
    assert (10_000, 10_000) in seen


def test_tokens_are_those_of_the_model(tokenizer: Any) -> None:
    """A token beyond the rows, or one without characters, is shown by its name."""
    model = pretrained.llama(vocab_size=len(tokenizer))
    found = charembed.audit(model, tokenizer, ["blueberry"])
    known = token_bytes(tokenizer)
    ids = tokenizer(" blueberry", add_special_tokens=False)["input_ids"]
    assert found.words[0].pieces == tuple((known[i] or b"").decode() for i in ids)
    with pytest.raises(CharEmbedError):
        found.best(-1)
