"""Save an arm of a finished run as a plain model, after a check that plain transformers agrees."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

import torch

import charembed
from training.errors import BadInput
from training.models.arms import num_parameters, num_parameters_after_fold
from training.run.folder import read_config
from training.run.machine import check_place, readable
from training.run.run import RESULTS, Run

from .card import has_encoder, model_card

_LICENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]*")


def ship(
    folder: Path, out: Path, name: str, seed: int | None, licence: str | None, cache: Path
) -> None:
    """Write an arm of a finished run as a plain model.

    Raises BadInput, with nothing written, if this cannot be done.
    """
    check_place("OUT", out)
    if out.is_symlink() or (out.exists() and any(out.iterdir())):
        raise BadInput(f"{out} exists and is not empty, or is a link: name another folder.")
    if licence is not None and not _LICENCE.fullmatch(licence):
        raise BadInput(
            f"The licence is {licence!r}; it must be a name as the hub writes it, such as mit."
        )
    # The config alone tells; opening the run prepares its data, which takes seconds.
    if not read_config(folder).model.pretrained:
        raise BadInput(
            f"The run in {folder} trained the decoder of this laboratory, which transformers does "
            "not know. Ship a run of a pretrained model (--model NAME)."
        )
    run = Run.open(folder, cache, name, seed)
    arm = run.arm(name, seed)
    if not (folder / RESULTS).is_file():
        raise BadInput(
            f"The run in {folder} is not finished. Finish it with --resume, then ship it."
        )
    language_model = arm.model()
    model: Any = language_model.get_submodule("model")
    added = charembed.count_parameters(model).encoder
    after = num_parameters_after_fold(language_model)
    # Folding removes the encoder, and gives a tied output layer a table of its own.
    untied = after - num_parameters(language_model) + added
    if untied:
        print(
            "The output layer shares the input's table and will have its own table: "
            f"{untied:,} parameters more, {readable(4 * untied)} of disk."
        )
    # Running text that the model was not trained on, cut to its context.
    ids = run.data.held_out_texts["text"].ids[None, : min(64, language_model.context or 64)].long()
    # Written beside OUT and renamed: OUT is complete or absent.
    out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = out.parent / f".{out.name}.{os.getpid()}"
    unfinished.mkdir()  # not tempfile: only their owner may read its folders
    try:
        expected = _logits(model, ids)
        if has_encoder(arm.name):
            charembed.save(model, unfinished / "letters")
        charembed.fold(model).save_pretrained(unfinished)
        charembed.complete_config(unfinished)  # for tools that read transformers 4's fields
        run.data.tokenizer.source.save_pretrained(unfinished)
        card = model_card(arm, model, licence=licence, untied=untied, folder=out.name)
        (unfinished / "README.md").write_text(card, "utf-8")
        import transformers  # takes a second, which a refused command saves

        again = transformers.AutoModelForCausalLM.from_pretrained(unfinished, dtype=torch.float32)
        if not torch.equal(_logits(again, ids), expected):
            raise AssertionError("plain transformers computes other logits from the folded model")
        if out.exists():  # it is empty, as checked at the start
            out.rmdir()
        unfinished.rename(out)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    print(
        f"{out}: plain transformers computes bit-equal logits from it. The model card is "
        f"{out / 'README.md'}."
    )


@torch.no_grad()
def _logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    found: torch.Tensor = model.eval()(ids).logits
    return found
