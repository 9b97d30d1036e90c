"""From a finished run of a pretrained model to a folder that plain transformers reads, with its model card.

    python -m training.ship runs/smollm2-1234abcd smollm2-with-letters
    python -m training.ship RUN OUT --arm lstm --seed 0 --licence mit

The arm is taken from the run, its letters are saved by themselves (OUT/letters, to go on training from), then
folded into the embedding. What was written is read again by plain transformers and must give the same logits,
bit for bit; only then does OUT appear.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

import charembed
from training.errors import BadInput, exit_status
from training.models.arms import num_parameters, num_parameters_after_fold
from training.run.machine import check_place, readable
from training.run.run import RESULTS, Run

from .card import is_plain, model_card

LICENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]*")


def ship(
    folder: Path, out: Path, name: str, seed: int | None, licence: str | None, cache: Path
) -> None:
    """Write the arm of a finished run as a plain model. Raises BadInput, with nothing written."""
    check_place("OUT", out)
    if out.is_symlink() or (out.exists() and any(out.iterdir())):
        raise BadInput(f"{out} exists and is not empty, or is a link: name another folder.")
    if licence is not None and not LICENCE.fullmatch(licence):
        raise BadInput(
            f"the licence is {licence!r}; it must be a name as the hub writes it, such as mit."
        )
    run = Run.open(folder, cache)
    if not run.config.model.pretrained:
        raise BadInput(
            f"the run in {folder} trained the laboratory's own decoder, which transformers does not know: "
            "ship a run of a pretrained model (--model NAME)."
        )
    arm = run.arm(name, seed)
    if not (folder / RESULTS).is_file():
        raise BadInput(
            f"the run in {folder} is not finished: go on with it (--resume), then ship it."
        )
    language_model = arm.model()
    model: Any = language_model.get_submodule("model")
    untied = (
        num_parameters_after_fold(language_model)
        - num_parameters(language_model)
        + num_letters(model)
    )
    if untied:
        print(
            f"Its output layer shares the input's table and will have its own: {untied:,} parameters more, "
            f"{readable(4 * untied)} of disk."
        )
    ids = run.data.held_out_texts["text"].ids[None, : min(64, language_model.context or 64)].long()
    out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = out.parent / f".{out.name}.{os.getpid()}"
    unfinished.mkdir()
    try:
        expected = logits(model, ids)
        if not is_plain(arm.name):
            charembed.save(model, unfinished / "letters")
        charembed.fold(model).save_pretrained(unfinished)
        run.data.tokenizer.source.save_pretrained(unfinished)
        card = model_card(arm, model, licence=licence, untied=untied, folder=out.name)
        (unfinished / "README.md").write_text(card, "utf-8")
        import transformers

        again = transformers.AutoModelForCausalLM.from_pretrained(unfinished, dtype=torch.float32)
        if not torch.equal(logits(again, ids), expected):
            raise AssertionError(
                "read again by plain transformers, the folded model has other logits"
            )
        if out.exists():
            out.rmdir()
        unfinished.rename(out)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    print(
        f"{out}: read again by plain transformers, its logits are bit-equal; the card is {out / 'README.md'}"
    )


def num_letters(model: Any) -> int:
    return charembed.count_parameters(model).encoder


@torch.no_grad()
def logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    found: torch.Tensor = model.eval()(ids).logits
    return found


def program(argv: Sequence[str] | None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="folder of a finished run of a pretrained model")
    parser.add_argument("out", type=Path, help="folder to write, new or empty")
    parser.add_argument("--arm", default="lstm", help="[lstm]")
    parser.add_argument("--seed", type=int, help="[the run's first]")
    parser.add_argument(
        "--licence", help="of the base, as the hub writes it: apache-2.0, mit, llama3.2"
    )
    parser.add_argument("--cache", type=Path, default=Path(".cache"))
    options = parser.parse_args(argv)
    with Console(stderr=True).status("Reading the run ..."):
        ship(options.run, options.out, options.arm, options.seed, options.licence, options.cache)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    return exit_status(lambda: program(argv))


if __name__ == "__main__":
    sys.exit(main())
