"""Files and folders with one fault each, and a small pretrained model without faults."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from tests.laboratory.pretrained import llama, save, train_tokenizer

TEXT = "the cat sat on the mat and the dog lay by the door of the house " * 400


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    (folder / "text.txt").write_text(TEXT)
    (folder / "empty.txt").write_text(" \n")
    (folder / "latin1.txt").write_bytes("un éléphant".encode("latin1").replace(b"un ", b"une "))
    (folder / "german.txt").write_text("Straße\nÄpfel\n")
    (folder / "greek.txt").write_text("αβγ δεζ")
    for name in ("no_texts", "some_latin1", "broken_link", "numbers"):
        (folder / name).mkdir()
    (folder / "no_texts" / "notes.md").write_text("mine")
    (folder / "some_latin1" / "a.txt").write_text(TEXT)
    (folder / "some_latin1" / "b.txt").write_bytes(b"\xff\xfd")
    (folder / "cut16.txt").write_bytes(TEXT.encode("utf-16")[:-1])
    (folder / "unmarked16.txt").write_bytes(TEXT.encode("utf-16-le"))
    (folder / "broken_link" / "gone.txt").symlink_to(folder / "nowhere")
    (folder / "numbers" / "train.jsonl").write_text('{"text": 1}\n{"text": 2}\n')
    prepare_models(folder)
    return folder


def prepare_models(folder: Path) -> None:
    """Save a model without faults, and copies in which one file is missing or broken."""
    tokenizer = train_tokenizer(TEXT)
    broken: dict[str, dict[str, str | bytes | None]] = {
        "model": {},
        "broken_config": {"config.json": "{"},
        "list_config": {"config.json": "[]"},
        "unknown_kind": {"config.json": '{"model_type": "abacus"}'},
        "no_tokenizer": {"tokenizer.json": None, "tokenizer_config.json": None},
        "broken_tokenizer": {"tokenizer.json": "{"},
        "no_weights": {"model.safetensors": None},
        "broken_weights": {"model.safetensors": b"not a weight"},
        "cut_weights": {},
        "half_the_weights": {},
    }
    for name, changes in broken.items():
        save(folder / name, llama(vocab_size=len(tokenizer)), tokenizer)
        for file, content in changes.items():
            if content is None:
                (folder / name / file).unlink(missing_ok=True)
            else:
                (folder / name / file).write_bytes(
                    content.encode() if isinstance(content, str) else content
                )
    weights = folder / "cut_weights" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    weights = folder / "half_the_weights" / "model.safetensors"
    kept = {name: tensor for name, tensor in load_file(weights).items() if "layers.1" not in name}
    save_file(kept, weights, metadata={"format": "pt"})
