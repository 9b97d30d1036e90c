"""Convert a weight file of the parent experiment to the names of this project.

    python -m examples.parent.convert FILE --out FOLDER

FILE is a torch state dict (gpt_char_encoder publishes two). It is loaded with weights_only, which
runs no code of it. FOLDER gets `model.safetensors`; `training.train.state.load_parameters` loads it
into the arm "lstm" or "matched" of the parent's preset. The command prints the arm and the sizes,
and the file records the arm. A weight file contains neither the tokens nor the order of the
characters: to use the model, build `SpellingTable.from_bytes(tokens, alphabet=...)` in the file's
order; see examples/parent/ask.py.

A tensor is recognised by the kind of its module and by its shape, not by an exact name. A name must
contain the number of its block; if each head is a module, the number of the head; "key", "query"
and "value"; and "pos" for the position table. A file with a tensor in doubt is refused.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from training.errors import BadInput, exit_status
from training.files import write_tensors
from training.flags import Parser
from training.models.hub import first_line
from training.run.machine import check_place

MASKS = ("tril", "mask")  # buffers of attention, not parameters
GATES = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")


class Module(NamedTuple):
    """The tensors of one module of the file, the name before their last dot, and its numbers."""

    name: str
    numbers: tuple[int, ...]
    tensors: dict[str, Tensor]

    @property
    def kind(self) -> str:
        """One of "lstm", "norm" (two vectors), "linear" (matrix and vector), "table" (matrix)."""
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
    """Return the modules of a state dict, in its order, without the attention masks."""
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
    """Return the tensors under this project's names, and their arm: "lstm" or "matched".

    Raises BadInput for a file with a module that is missing, left over or in doubt.
    """
    modules = modules_of(state)
    inside = [module for module in modules if module.numbers]
    outside = [module for module in modules if not module.numbers]
    if unknown := [module.name for module in modules if module.kind == "unknown"]:
        raise BadInput(
            f"The module {unknown[0]!r} is of no kind that the parent's model has. "
            "Name a file of the parent experiment."
        )
    named, dim = _outer(outside)
    # The first number in a name is the block's, the second one may be the head's.
    blocks = sorted({module.numbers[0] for module in inside})
    if not blocks:
        raise BadInput("No name has the number of a block. Name a file of the parent experiment.")
    for number, block in enumerate(blocks):
        found = _block([module for module in inside if module.numbers[0] == block], dim, block)
        named |= {f"blocks.{number}.{name}": tensor for name, tensor in found.items()}
    return named, "lstm" if "wte.encoder.chars.weight" in named else "matched"


def _one(modules: list[Module], what: str, kind: str, **wanted: object) -> Module:
    """Remove and return the one module of a kind with a shape, or with a word in its name."""
    found = [
        module
        for module in modules
        if module.kind == kind
        and ("shape" not in wanted or module.shape == wanted["shape"])
        and ("word" not in wanted or str(wanted["word"]) in module.name.lower())
    ]
    if len(found) != 1:
        raise BadInput(
            f"The file has {len(found)} modules that could be {what}, not one "
            f"({', '.join(m.name for m in found) or kind}). It is not a file of the parent "
            "experiment, or its names lack a part that is needed (see --help)."
        )
    modules[:] = [module for module in modules if module is not found[0]]
    return found[0]


def _outer(modules: list[Module]) -> tuple[dict[str, Tensor], int]:
    """Name the tensors outside the blocks; return the width too."""
    modules = list(modules)  # `_one` removes modules from it, so that any left over is found
    norm = _one(modules, "the last norm", "norm")
    (dim,) = norm.shape
    wpe = _one(modules, "the position table", "table", word="pos")
    with_letters = any(module.kind == "lstm" for module in modules)
    recurrent = _one(modules, "the LSTM", "lstm").tensors if with_letters else {}
    # Without an LSTM, the second table has the width of the extra path; both others have `dim`.
    widths = [module.shape[1] for module in modules if module.kind == "table"]
    other = next((width for width in widths if width != dim), 0)
    hidden = recurrent["weight_hh_l0"].shape[1] if with_letters else other
    projection = _one(modules, "the projection of the extra path", "linear", shape=(dim, hidden))
    head = _one(modules, "the output layer", "linear")
    wte = _one(modules, "the token table", "table", shape=(head.shape[0], dim))
    extra = _one(modules, "the characters' table" if with_letters else "the second table", "table")
    if modules:
        raise BadInput(
            f"The module {modules[0].name!r} is left over. The parent's model has no place for it."
        )
    named = _under("ln_f", norm) | _under("wpe", wpe) | _under("wte", wte) | _under("lm_head", head)
    named |= _under("wte.encoder.projection", projection)
    named |= _under("wte.encoder.chars" if with_letters else "wte.encoder.table", extra)
    return named | {f"wte.encoder.lstm.{part}": tensor for part, tensor in recurrent.items()}, dim


def _block(modules: list[Module], dim: int, block: int) -> dict[str, Tensor]:
    """Name the tensors of one block; qkv is one matrix: all queries, then all keys, all values."""
    heads: dict[str, list[Module]] = {}
    for part in ("query", "key", "value"):
        of_part = [m for m in modules if m.kind == "table" and part in m.name.lower()]
        # By the number of the head: the rows of qkv have this order.
        found = heads[part] = sorted(of_part, key=lambda module: module.numbers)
        widths = {module.shape[1] for module in found}
        if sum(module.shape[0] for module in found) != dim or widths != {dim}:
            raise BadInput(
                f"Block {block} has no {dim} rows of {dim} of {part}. The names of its modules "
                f"must contain {part!r}."
            )
    qkv = torch.cat([module.tensors["weight"] for found in heads.values() for module in found])
    others = [module for module in modules if module.kind != "table"]
    norms = [module for module in others if module.kind == "norm"]
    others = [module for module in others if module.kind != "norm"]
    if len(norms) != 2:
        raise BadInput(f"Block {block} has {len(norms)} norms; it must have 2.")
    # ln_1 comes before attention and ln_2 before the MLP, in the order of their names.
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
            f"The module {others[0].name!r} is left over. The parent's model has no place for it."
        )
    return named


def _under(name: str, module: Module) -> dict[str, Tensor]:
    return {f"{name}.{part}": tensor for part, tensor in module.tensors.items()}


def read_state(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a torch file. Raises BadInput for a file that holds anything else."""
    if not path.is_file():
        raise BadInput(f"{path} is no file. Name a weight file of the parent experiment.")
    try:
        # The one torch file that this project loads. weights_only: no code of the file runs.
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's readers raise errors of many kinds
        raise BadInput(
            f"{path} holds more than tensors, or is damaged ({first_line(error)}). "
            "Name another file."
        ) from None
    if not isinstance(state, dict) or not all(isinstance(t, Tensor) for t in state.values()):
        raise BadInput(f"{path} holds no state dict. Save model.state_dict(), not the model.")
    return state


def main(argv: Sequence[str] | None = None) -> int:
    """Convert a file. Returns 0, or 2 for one that cannot be converted."""
    parser = Parser("python -m examples.parent.convert", __doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="folder for model.safetensors")

    def program() -> int:
        options = parser.parse_args(argv)
        return convert(options.file, options.out / "model.safetensors")

    return exit_status(program)


def convert(source: Path, target: Path) -> int:
    """Write the tensors of a file under this project's names, and print their arm and sizes."""
    check_place("--out", target.parent)
    tensors, arm = converted(read_state(source))
    write_tensors(target, tensors, {"arm": arm, "from": source.name})
    number = sum(tensor.numel() for tensor in tensors.values())
    (vocab_size, width), context = tensors["wte.weight"].shape, len(tensors["wpe.weight"])
    print(
        f"{target}: the arm {arm!r}, {number:,} parameters, {vocab_size} tokens, width {width}, "
        f"context {context}."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
