"""The flags of a comparison, and a config with some of its values changed.

A field of data, model or evaluation has a flag of its own name (`--vocab-size`). A field of a phase
has a flag for each phase (`--finetune-lr`; pretraining's is bare, `--lr`) or one for all phases
(`--warmup`). `--set NAME=VALUE` reaches every field of every phase (`--set finetune_warmup=30`).
"""

from __future__ import annotations

import argparse
import difflib
import shlex
from collections.abc import Callable, Sequence
from dataclasses import Field, dataclass, replace
from functools import cache
from typing import Any

from training.errors import BadInput
from training.flags import Parser, add_options, check_options, flag_of
from training.models.smollm2 import packaged_folder

from .config import DECODER, CompareConfig
from .fields import RETIRED, allowed, applies, described
from .presets import PRESETS, RETROFIT, preset

_PROGRAM = "python -m training.compare"
_SECTIONS = {"data": "Data", "model": "Model", "evaluation": "Evaluation"}  # titles in --help
# How flags began in earlier versions.
_RENAMED = {"gain": "scale", "quiet_share": "low_fisher_share", "warmup_spelling": "spelling"}

_KINDS: dict[type, str] = {int: "a whole number", float: "a number"}

_Place = int | str | None  # the number of a phase, the name of a section, or the config itself


@dataclass(frozen=True)
class Setting:
    """A value of a config that can be changed, under its name in `changed` and --set.

    Attributes:
        places: the parts of the config that hold it; several if it is set in all phases at once.
        group: its group in --help; empty if it has no flag and is only settable with --set.
        values: its present value in each place.
    """

    name: str
    item: Field[Any]
    places: tuple[_Place, ...]
    group: str
    values: tuple[Any, ...]

    @property
    def flag(self) -> str:
        return flag_of(self.name)

    @property
    def value(self) -> Any:
        return self.values[-1]


def settings(config: CompareConfig) -> dict[str, Setting]:
    """Every value that can be changed and applies to the model, by name.

    settings(QUICK)["finetune_lr"].value -> 0.003
    """
    found = dict[str, Setting]()
    for place, group in [(None, "Comparison"), *_SECTIONS.items()]:
        part = getattr(config, place) if place else config
        for item in described(part):
            # a decoder's size does not apply to a pretrained model
            if applies(item, config.model.model):
                group_of, given = item.metadata.get("group", group), (getattr(part, item.name),)
                found[item.name] = Setting(item.name, item, (place,), group_of, given)
    alone = dict[str, Setting]()
    for number, phase in enumerate(config.phases):
        title = phase.title.removeprefix("the ").capitalize()
        for item in filter(phase.uses, described(phase)):
            name, flag = phase.setting(item), item.metadata["flag"]
            group = title if flag in ("each", phase.name) else ""
            one = Setting(name, item, (number,), group, (getattr(phase, item.name),))
            alone[name] = one
            if flag in ("all", None):
                group = "All phases" if flag else ""
                so_far = found.get(item.name, Setting(item.name, item, (), group, ()))
                places, values = so_far.places + one.places, so_far.values + one.values
                found[item.name] = replace(so_far, places=places, values=values)
    return found | alone


def changed(config: CompareConfig, **given: Any) -> CompareConfig:
    """A config with other values, by the names of its settings.

    changed(config, vocab_size=512, finetune_lr=1e-3)

    Raises BadInput for values that cannot work, and for fields that do not apply to the model.
    """
    known = settings(config)
    model = given.get("model", config.model.model)
    inside: dict[_Place, dict[str, Any]] = {}
    # values for all phases come first, so that a value for one of them overrides them
    for name in sorted(given, key=lambda name: -len(known[name].places)):
        item = known[name].item
        if not applies(item, model):
            raise BadInput(
                f"{name} applies to the model {item.metadata['only']!r} only, and the model is "
                f"{model!r}: leave it out."
            )
        for place in known[name].places:
            inside.setdefault(place, {})[item.name] = given[name]
    sections = {name: replace(getattr(config, name), **inside.get(name, {})) for name in _SECTIONS}
    phases = tuple(replace(each, **inside.get(i, {})) for i, each in enumerate(config.phases))
    return replace(config, **inside.get(None, {}), **sections, phases=phases)


def command_for(name: str, config: CompareConfig) -> str:
    """The command that makes this config: the preset `name`, with a flag for each other value.

    "python -m training.compare --preset smollm2 --seeds 3 --finetune-lr 0.0001"
    """
    base = preset(name)
    if config.model.pretrained and not base.model.pretrained:
        base = replace(base, model=RETROFIT)
    words = [*_PROGRAM.split(), "--preset", name]
    # the steps of epochs are those of the text
    done: set[tuple[_Place, str]] = {
        (number, "steps") for number, phase in enumerate(config.phases) if phase.epochs
    }
    usual = {key: setting.values for key, setting in settings(base).items()}
    for key, setting in settings(config).items():
        places = {(place, setting.item.name) for place in setting.places}
        # phases that differ get their own words further on
        if places <= done or len(set(setting.values)) > 1 or setting.values == usual.get(key):
            continue
        done |= places
        given = _shown(setting.value)
        if not setting.group:
            words += ["--set", f"{key}={given}"]
        else:  # "--corpus -old.txt" would be read as two flags
            words += [f"{setting.flag}={given}"] if given[:1] == "-" else [setting.flag, given]
    return shlex.join(words)


def _shown(value: Any) -> str:
    return ",".join(value) if isinstance(value, tuple) else str(value)


def parse(
    argv: Sequence[str] | None, manual: str | None
) -> tuple[CompareConfig, argparse.Namespace]:
    """Read the config, a preset with the values of the flags, and the options of the run.

    Without --preset, the preset is quick, or smollm2 if --model names a pretrained model: quick's
    learning rates are for training from scratch and would ruin it. The last of equal flags counts.

    Raises BadInput for unknown flags and for values that cannot work.
    """
    # --help shows the preset's values, so its name comes before all other flags
    first = Parser(_PROGRAM, add_help=False)
    first.add_argument("--preset")
    first.add_argument("--model", default=DECODER)
    early, _ = first.parse_known_args(argv)
    usual = "quick" if early.model == DECODER else "smollm2"
    name = usual if early.preset is None else early.preset  # "" is no preset: an error
    base = preset(name)
    known = settings(base)
    options, unknown = _parser(name, known, manual).parse_known_args(argv)
    if unknown:
        # "--lr=1" is one argument
        key = unknown[0].partition("=")[0].removeprefix("--").replace("-", "_")
        flags = [*vars(options), *(each for each in known if known[each].group)]
        hint = f" (use --set {key}=VALUE)" if key in known else _hint(key, flags, flag_of)
        first.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
    check_options(options)
    given = {key: getattr(options, key) for key in known if hasattr(options, key)}
    given |= dict(_assignment(text, known) for text in options.set)
    if given.get("model", DECODER) != DECODER and not base.model.pretrained:
        for key, setting in settings(replace(base, model=RETROFIT)).items():
            if setting.places == ("model",):  # the character encoder as a trained model needs it
                given.setdefault(key, setting.value)
    if given.get("epochs") and "steps" in given:
        raise BadInput(
            f"epochs is {given['epochs']} and steps is {given['steps']}, and each decides the steps: "
            "leave one of them out."
        )
    config = changed(base, **given)
    # the name of the packaged model becomes its folder in the cache
    model = replace(config.model, model=packaged_folder(config.model.model, options.cache))
    return replace(config, model=model), options


def _parser(name: str, known: dict[str, Setting], manual: str | None) -> Parser:
    usage = (
        f"{_PROGRAM} [--preset NAME] [--FLAG VALUE ...]\n\nIn brackets: allowed values; default."
    )
    parser = Parser(_PROGRAM, manual, usage=usage)
    run = add_options(parser)
    usual = "quick, or smollm2 if --model names a pretrained model"
    values = f"values of all fields that no flag sets [one of {', '.join(PRESETS)}; {usual}]"
    run.add_argument("--preset", metavar="NAME", default=name, help=values)
    group = cache(parser.add_argument_group)
    for setting in known.values():
        if setting.group:
            group(setting.group).add_argument(
                setting.flag,
                dest=setting.name,
                help=_help(setting),
                # only flags that were given become attributes, so the preset's values stay
                default=argparse.SUPPRESS,
                type=_names if isinstance(setting.value, tuple) else type(setting.value),
                metavar=setting.item.name.split("_")[-1].upper(),
            )
    # of the fields without a flag, each is listed once and not for each phase
    rest = [each for each in known.values() if not each.group and len(each.places) > 1]
    listed = "; ".join(f"{each.name}: {_help(each)}" for each in rest)
    parser.add_argument_group("Other fields").add_argument(
        "--set",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="set any field of the config; may be repeated. The name of a phase's field begins "
        f"with the phase: finetune_warmup=30. Fields of all phases without a flag: {listed}",
    )
    return parser


def _help(setting: Setting) -> str:
    """The help of a field, with its bounds and its value in the preset in brackets."""
    shown = _shown(setting.value)
    if len(set(setting.values)) > 1:
        shown += ", other phases differ"
    brackets = "; ".join(filter(None, (allowed(setting.item), shown)))
    return f"{setting.item.metadata['help']} [{brackets}]".replace("%", "%%")


def _hint(name: str, known: Sequence[str], show: Callable[[str], str]) -> str:
    """The way out for an unknown name: its new name, or the most similar one of `known`."""
    for old, new in _RENAMED.items():
        if name.startswith(old):
            return f" ({show(name)} is now {show(name.replace(old, new))})"
    if name in RETIRED:
        return f" ({show(name)} was removed; its value is always {RETIRED[name]})"
    near = difflib.get_close_matches(name, known, 1)
    return f" (did you mean {show(near[0])}?)" if near else ""


def _assignment(text: str, known: dict[str, Setting]) -> tuple[str, Any]:
    """An argument of --set: "finetune_warmup=30" -> ("finetune_warmup", 30)."""
    name, equals, given = text.partition("=")
    name = name.strip().replace("-", "_")
    if not equals:
        raise BadInput(f"--set is {text!r}; it must be NAME=VALUE, such as finetune_warmup=30.")
    if name not in known:
        raise BadInput(
            f"--set is {text!r}, but there is no field {name!r}{_hint(name, list(known), str)}."
        )
    # the type of the present value; no field has None
    kind = type(known[name].value)
    try:
        return name, _names(given) if kind is tuple else kind(given)
    except ValueError:
        raise BadInput(
            f"--set is {text!r}; {name} must be {_KINDS.get(kind, kind.__name__)}."
        ) from None


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))
