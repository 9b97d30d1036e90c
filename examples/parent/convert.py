"""A weight file of the parent experiment, under this project's names.

    python -m examples.parent.convert FILE --out FOLDER

FILE is a torch state dict (gpt_char_encoder publishes two); it is read with weights_only, so that nothing in
it is run. FOLDER gets `model.safetensors`, which `training.train.state.load_parameters` puts into the arm "lstm" or
"matched" of the parent's preset; which of the two it is, and the sizes, are printed and kept in the file. The
tokens and the order of the characters are not in a weight file: whoever asks such a model needs the spellings
in his order, `SpellingTable.from_bytes(tokens, alphabet=...)`; see examples/parent/ask.py.

A tensor is told by the kind of its module and by its shape, not by an exact name. What must be in a name: the
block's number and, where a head has a module of its own, the head's; "key", "query" and "value"; "pos" in
that of the position table. Whatever is not told for sure is refused.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from training.errors import BadInput, exit_status
from training.files import write_tensors
from training.models.hub import first_line
from training.run.machine import check_place

MASKS = ("tril", "mask")
GATES = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")


class Module(NamedTuple):
    """The tensors of one module of the file: their common name, the numbers in it, what stands behind it."""

    name: str
    numbers: tuple[int, ...]
    tensors: dict[str, Tensor]

    @property
    def kind(self) -> str:
        """ "lstm", "norm" (two vectors), "linear" (a matrix and a vector) or "table" (a matrix alone)."""
        shapes = {part: tensor.dim() for part, tensor in self.tensors.items()}
        kinds = {
            "norm": {"weight": 1, "bias": 1},
            "linear": {"weight": 2, "bias": 1},
            "table": {"weight": 2},
        }
        if shapes.keys() == set(GATES):
            return "lstm"
        return next((kind for kind, expected in kinds.items() if shapes == expected), "unknown")

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.tensors["weight"].shape)


def modules_of(state: dict[str, Tensor]) -> list[Module]:
    """The modules of a state dict, in its order, without the attention masks."""
    found: dict[str, dict[str, Tensor]] = {}
    for name, tensor in state.items():
        path, _, part = name.rpartition(".")
        if part not in MASKS:
            found.setdefault(path, {})[part] = tensor
    return [
        Module(name, tuple(map(int, re.findall(r"\d+", name))), tensors)
        for name, tensors in found.items()
    ]


def converted(state: dict[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """The same tensors under this project's names, and the arm that they belong to: "lstm" or "matched".

    Raises BadInput for a file in which something is missing, left over, or not told for sure.
    """
    modules = modules_of(state)
    inside = [module for module in modules if module.numbers]
    outside = [module for module in modules if not module.numbers]
    if unknown := [module.name for module in modules if module.kind == "unknown"]:
        raise BadInput(
            f"the module {unknown[0]!r} is of no kind that this model has: is this another model's file?"
        )
    named, dim = _outer(outside)
    blocks = sorted({module.numbers[0] for module in inside})
    if not blocks:
        raise BadInput("no name has a block's number in it: is this another model's file?")
    for number, block in enumerate(blocks):
        found = _block([module for module in inside if module.numbers[0] == block], dim, block)
        named |= {f"blocks.{number}.{name}": tensor for name, tensor in found.items()}
    return named, "lstm" if "wte.encoder.chars.weight" in named else "matched"


def _one(modules: list[Module], what: str, kind: str, **wanted: object) -> Module:
    """The one module of a kind, of a shape or with a word in its name; it is taken off the list."""
    found = [
        module
        for module in modules
        if module.kind == kind
        and ("shape" not in wanted or module.shape == wanted["shape"])
        and ("word" not in wanted or str(wanted["word"]) in module.name.lower())
    ]
    if len(found) != 1:
        raise BadInput(
            f"the file has {len(found)} modules that could be {what}, not one "
            f"({', '.join(m.name for m in found) or kind}): "
            f"it is not a file of the parent experiment, or its names say less than they must."
        )
    modules[:] = [module for module in modules if module is not found[0]]
    return found[0]


def _outer(modules: list[Module]) -> tuple[dict[str, Tensor], int]:
    """What stands outside the blocks (tables, output layer, last norm, extra path), and the model's width."""
    modules = list(modules)
    norm = _one(modules, "the last norm", "norm")
    (dim,) = norm.shape
    wpe = _one(modules, "the position table", "table", word="pos")
    with_letters = any(module.kind == "lstm" for module in modules)
    if with_letters:
        recurrent = _one(modules, "the LSTM", "lstm").tensors
        hidden = recurrent["weight_hh_l0"].shape[1]
    else:
        recurrent = {}
        hidden = next(
            (
                module.shape[1]
                for module in modules
                if module.kind == "table" and module.shape[1] != dim
            ),
            0,
        )
    projection = _one(modules, "the projection of the extra path", "linear", shape=(dim, hidden))
    head = _one(modules, "the output layer", "linear")
    wte = _one(modules, "the token table", "table", shape=(head.shape[0], dim))
    extra = _one(modules, "the characters' table" if with_letters else "the second table", "table")
    if modules:
        raise BadInput(
            f"the module {modules[0].name!r} is left over: it has no place in the parent's model."
        )
    named = _under("ln_f", norm) | _under("wpe", wpe) | _under("wte", wte) | _under("lm_head", head)
    named |= _under("wte.encoder.projection", projection)
    named |= _under("wte.encoder.chars" if with_letters else "wte.encoder.table", extra)
    return named | {f"wte.encoder.lstm.{part}": tensor for part, tensor in recurrent.items()}, dim


def _block(modules: list[Module], dim: int, block: int) -> dict[str, Tensor]:
    """One block: its heads side by side in one matrix, first all queries, then all keys, then all values."""
    heads = {
        part: [
            module for module in modules if module.kind == "table" and part in module.name.lower()
        ]
        for part in ("query", "key", "value")
    }
    for part, found in heads.items():
        found.sort(key=lambda module: module.numbers)
        if sum(module.shape[0] for module in found) != dim or {
            module.shape[1] for module in found
        } != {dim}:
            raise BadInput(
                f"block {block} has no {dim} rows of {dim} of {part}: its modules must say {part!r} in "
                "their names."
            )
    qkv = torch.cat([module.tensors["weight"] for found in heads.values() for module in found])
    others = [module for module in modules if module.kind != "table"]
    norms = [module for module in others if module.kind == "norm"]
    others = [module for module in others if module.kind != "norm"]
    if len(norms) != 2:
        raise BadInput(f"block {block} has {len(norms)} norms, not two.")
    norms.sort(key=lambda module: (module.numbers, module.name))
    named = {"attn.qkv.weight": qkv} | _under("ln_1", norms[0]) | _under("ln_2", norms[1])
    for name, what, shape in (
        ("attn.proj", "the attention's output", (dim, dim)),
        ("mlp.0", "the first layer of the MLP", (4 * dim, dim)),
        ("mlp.2", "the second layer of the MLP", (dim, 4 * dim)),
    ):
        named |= _under(name, _one(others, f"{what} of block {block}", "linear", shape=shape))
    if others:
        raise BadInput(
            f"the module {others[0].name!r} is left over: it has no place in the parent's model."
        )
    return named


def _under(name: str, module: Module) -> dict[str, Tensor]:
    return {f"{name}.{part}": tensor for part, tensor in module.tensors.items()}


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a torch file. Raises BadInput for a file that holds anything else."""
    if not path.is_file():
        raise BadInput(f"{path} is no file: name a weight file of the parent experiment.")
    try:  # the only torch file that is read anywhere: its tensors, and nothing that would run
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (
        Exception
    ) as error:  # whatever torch finds wrong with it: its readers have errors of many kinds
        raise BadInput(
            f"{path} holds more than tensors, or is damaged ({first_line(error)}): name another file."
        ) from None
    if not isinstance(state, dict) or not all(
        isinstance(tensor, Tensor) for tensor in state.values()
    ):
        raise BadInput(f"{path} holds no state dict: save model.state_dict(), not the model.")
    return state


def main(argv: Sequence[str] | None = None) -> int:
    """Convert a file. Returns 0, or 2 for one that cannot be converted."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.parent.convert",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="folder for model.safetensors")
    options = parser.parse_args(argv)
    return exit_status(lambda: convert(options.file, options.out / "model.safetensors"))


def convert(source: Path, target: Path) -> int:
    """Write a file's tensors under this project's names, and say what they are."""
    check_place("--out", target.parent)
    tensors, arm = converted(read_state(source))
    write_tensors(target, tensors, {"arm": arm, "from": source.name})
    number = sum(tensor.numel() for tensor in tensors.values())
    (vocab_size, width), context = tensors["wte.weight"].shape, len(tensors["wpe.weight"])
    print(
        f"{target}: the arm {arm!r}, {number:,} parameters, {vocab_size} tokens, width {width}, context "
        f"{context}."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
