"""Every field of a config as a flag, and a config with some of its values changed.

A field of data, model or exam has its own name (`--vocab-size`). A field of a phase has the phase's name
before it (`--finetune-lr`), but for the phase whose flag is bare: pretraining's (`--lr`). What all phases
have alike is changed for all of them by the bare flag (`--warmup`), for one of them by its own
(`--finetune-warmup`).
"""

from __future__ import annotations

import argparse
import os
import shlex
import textwrap
from collections.abc import Sequence
from dataclasses import Field, dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from training.errors import BadInput
from training.models.smollm2 import packaged_folder

from .config import DECODER, CompareConfig
from .fields import allowed, described
from .presets import PRESETS, RETROFIT, preset

PROGRAM = "python -m training.compare"
SECTIONS = ("data", "model", "exam")


@dataclass(frozen=True)
class Setting:
    """One value of a config, by the name of its flag.

    `places` are the phases that hold it, or its one section, or nothing.
    """

    name: str
    item: Field[Any]
    places: tuple[int | str, ...]
    value: Any


def settings(config: CompareConfig) -> dict[str, Setting]:
    """Every value that can be changed and that the model looks at, by name, in the order of the config."""
    found = {
        item.name: Setting(item.name, item, (), getattr(config, item.name))
        for item in described(config)
    }
    for section in SECTIONS:
        held = getattr(config, section)
        looked_at = [
            item
            for item in described(held)
            if item.metadata.get("only", config.model.model) == config.model.model
        ]
        found |= {
            item.name: Setting(item.name, item, (section,), getattr(held, item.name))
            for item in looked_at
        }
    for number, phase in enumerate(config.phases):
        for item in filter(phase.uses, described(phase)):
            if item.metadata.get("bare") == "every":
                before = found.get(item.name)
                places = (*(before.places if before else ()), number)
                found[item.name] = Setting(
                    item.name, item, places, before.value if before else getattr(phase, item.name)
                )
            found[phase.flag(item)] = Setting(
                phase.flag(item), item, (number,), getattr(phase, item.name)
            )
    return found


def changed(config: CompareConfig, **given: Any) -> CompareConfig:
    """A config with other values, by the names of their flags.

    changed(config, vocab_size=512, finetune_lr=1e-3)

    Raises BadInput for values that cannot work, and for values that the model would not look at.
    """
    known = settings(config)
    model = given.get("model", config.model.model)
    top: dict[str, Any] = {}
    inside: dict[int | str, dict[str, Any]] = {}
    for name in sorted(
        given, key=lambda name: -len(known[name].places)
    ):  # what is for all phases first
        setting = known[name]
        if (only := setting.item.metadata.get("only")) and only != model:
            raise BadInput(
                f"{name} is a matter of the model {only!r}, and the model is {model!r}: leave it out."
            )
        for place in setting.places:
            inside.setdefault(place, {})[setting.item.name] = given[name]
        if not setting.places:
            top[name] = given[name]
    for section in SECTIONS:
        top[section] = replace(getattr(config, section), **inside.get(section, {}))
    top["phases"] = tuple(
        replace(phase, **inside.get(number, {})) for number, phase in enumerate(config.phases)
    )
    return replace(config, **top)


def command_for(name: str, config: CompareConfig) -> str:
    """The command that compares what the config says, with the flags that differ from the preset `name`.

    "python -m training.compare --preset smollm2 --seeds 3 --finetune-lr 0.0001"
    """
    base = preset(name)
    if config.model.pretrained and not base.model.pretrained:
        base = replace(base, model=RETROFIT)
    usual, flags = settings(base), ["--preset", name]
    for key, setting in settings(config).items():
        of_several_phases = len(setting.places) > 1  # each of them has its own flag besides
        if of_several_phases or setting.value == usual[key].value:
            continue
        flag, value = key.replace("_", "-"), setting.value
        if isinstance(value, bool):
            flags.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            flags += [f"--{flag}", ",".join(value) if isinstance(value, tuple) else str(value)]
    return shlex.join([*PROGRAM.split(), *flags])


class Parser(argparse.ArgumentParser):
    """One whose errors are BadInput."""

    def error(self, message: str) -> NoReturn:
        raise BadInput(f"{message}. Run '{self.prog} --help' for what there is.")


class Help(argparse.HelpFormatter):
    """Paragraphs are filled to the terminal's width. A command, which is indented, stays on its line, with
    its comment above it where both do not fit.
    """

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        shown: list[str] = []
        for paragraph in text.strip().split("\n\n"):
            if not paragraph.startswith(" "):
                shown += [*textwrap.wrap(paragraph, width), ""]
                continue
            for line in paragraph.splitlines():
                command, _, comment = (part.strip() for part in line.partition("  #"))
                fits = len(line) <= width
                shown += (
                    [line] if fits else [f"    # {comment}"] * bool(comment) + [f"    {command}"]
                )
            shown.append("")
        return "\n".join(shown)


def parse(
    argv: Sequence[str] | None, manual: str | None
) -> tuple[CompareConfig, argparse.Namespace]:
    """The config, from a preset and the flags that differ from it, and the options of this run.

    Without --preset it is quick, and smollm2 where --model names a pretrained model, which quick's learning
    rates, made for training from scratch, would ruin. Of two equal flags the last one counts. Raises BadInput
    for unknown flags and values that cannot work.
    """
    first = Parser(prog=PROGRAM, add_help=False, allow_abbrev=False)
    first.add_argument("--preset")
    first.add_argument("--model", default=DECODER)
    told, _ = first.parse_known_args(argv)
    usual = "quick" if told.model == DECODER else "smollm2"
    chosen: dict[str, Any] = {
        "default": usual if told.preset is None else told.preset,
        "help": f"where the other values come from [one of {', '.join(PRESETS)}; quick, and smollm2 where "
        "--model names a pretrained model]",
    }
    base = preset(chosen["default"])
    parser = Parser(
        prog=PROGRAM,
        usage=f"{PROGRAM} [--preset NAME] [--resume] [--FIELD VALUE ...]",
        description=manual,
        formatter_class=Help,
        allow_abbrev=False,
    )
    parser.add_argument("--preset", metavar="NAME", **chosen)
    add_options(parser)
    group = parser.add_argument_group(
        "what to compare",
        "Every field of the config. In brackets: what it may be, and its value in this preset.",
    )
    known = settings(base)
    for setting in known.values():
        _add_flag(group, setting, base)
    options = parser.parse_args(argv)
    check_options(options)
    given = {name: getattr(options, name) for name in known if hasattr(options, name)}
    if given.get("model", DECODER) != DECODER and not base.model.pretrained:
        for name, setting in settings(replace(base, model=RETROFIT)).items():
            if setting.places == ("model",):  # as letters come to a model that is already trained
                given.setdefault(name, setting.value)
    config = changed(base, **given)
    model = replace(config.model, model=packaged_folder(config.model.model, options.cache))
    return replace(config, model=model), options


def add_options(
    parser: argparse.ArgumentParser, out: str = "run folder [runs/PRESET-DIGEST]"
) -> None:
    """The flags that say how to run something, not what; `out` is the help of --out."""
    run = parser.add_argument_group("how to run it")
    run.add_argument("--out", type=_folder, metavar="FOLDER", help=out)
    run.add_argument(
        "--resume",
        action="store_true",
        help="go on with an interrupted run, or render a finished one again",
    )
    run.add_argument(
        "--jobs",
        type=int,
        metavar="N",
        help="arms trained side by side, each in a process of its own [1 or more; 2 on a CPU, 1 on a GPU]",
    )
    run.add_argument(
        "--threads", type=int, metavar="N", default=1, help="CPU threads per arm [1 or more; 1]"
    )
    run.add_argument("--cpu", action="store_true", help="leave the GPU alone")
    run.add_argument(
        "--save-every",
        type=int,
        metavar="N",
        default=200,
        help="steps between saved states [1 or more; 200]",
    )
    run.add_argument(
        "--cache",
        type=_folder,
        metavar="FOLDER",
        default=Path(".cache"),
        help="folder for vocabularies and token ids [.cache]",
    )
    run.add_argument("--quiet", action="store_true", help="no progress bars")


def check_options(options: argparse.Namespace) -> None:
    """Raise BadInput for the first option of a run that cannot be."""
    for name in ("threads", "jobs", "save_every"):
        given, flag = getattr(options, name), f"--{name.replace('_', '-')}"
        if given is not None and given < 1:
            raise BadInput(f"{flag} is {given}; it must be 1 or more.")
    cores = os.cpu_count() or 1
    if options.threads > cores:
        raise BadInput(
            f"--threads is {options.threads}, and this machine has {cores} cores: choose {cores} or fewer."
        )


def _add_flag(group: argparse._ArgumentGroup, setting: Setting, config: CompareConfig) -> None:
    value = setting.value
    kind: dict[str, Any] = {
        "type": _names if isinstance(value, tuple) else type(value),
        "metavar": setting.item.name.split("_")[-1].upper(),
    }
    if isinstance(value, bool):
        kind = {"action": argparse.BooleanOptionalAction}
    where = ""
    if setting.places and isinstance(setting.places[0], int):
        titles = [
            config.phases[number].title for number in setting.places if isinstance(number, int)
        ]
        where = (
            "in all phases: "
            if setting.item.metadata.get("bare") == "every" and setting.name == setting.item.name
            else f"in {titles[0]}: "
        )
    shown = ",".join(value) if isinstance(value, tuple) else "no" if value is False else str(value)
    brackets = "; ".join(filter(None, (allowed(setting.item), shown)))
    text = f"{where}{setting.item.metadata['help']} [{brackets}]".replace("%", "%%")
    group.add_argument(
        f"--{setting.name.replace('_', '-')}",
        dest=setting.name,
        help=text,
        default=argparse.SUPPRESS,
        **kind,
    )


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def _folder(text: str) -> Path:
    if not text.strip():
        raise argparse.ArgumentTypeError("an empty name is no folder")
    return Path(text)
