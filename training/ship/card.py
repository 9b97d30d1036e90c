"""The model card of a shipped arm: the added vectors, the results of its run, and its training."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jinja2

import charembed
from training.ask.eval_sets import make_eval_sets
from training.config.config import CompareConfig
from training.config.flags import command_for
from training.config.phase import Phase
from training.data.prepare import Data
from training.intervals import Row, read_rows
from training.models.arms import ARMS, num_parameters
from training.models.smollm2 import HUB_NAMES, LICENCES, SMOLLM2
from training.report.formats import percent, replay_sentence
from training.report.report import setting
from training.run.run import RESULTS, ArmRun


def model_card(arm: ArmRun, model: Any, *, licence: str | None, untied: int, folder: str) -> str:
    """Return the README.md of a model, made from the results of its run.

    Arguments:
        licence: the licence of the base, as the hub writes it; None: that of the packaged model, if
            the base is this one, else unknown.
        untied: the parameters that the model has more than the base, because its output layer no
            longer shares the input's table.
        folder: the name of the folder that will hold the model.
    """
    config, data = arm.run.config, arm.data  # a rival may have prompts of its own
    rows = read_rows(arm.run.folder / RESULTS)
    base = Path(config.model.model)
    name = HUB_NAMES.get(base.name, base.name if base.is_dir() else config.model.model)
    known = licence or LICENCES.get(base.name)
    licence_sentence = (
        f"The licence of the base, as far as it is known: {known}."
        if known
        else "The licence of the base, which is not known here. Ask its authors before publishing."
    )
    # An example from the evaluation: the model has been trained on its form, not on itself.
    first = make_eval_sets(data, arm.seed)[0].items[0]
    form = "Questions have many wordings."
    if config.data.wording == "compact":
        form = f"All questions look like `{first.prompt}`: the model does not chat about letters."
    # In the command the packaged model has its short name, which works on every machine.
    made_of = SMOLLM2 if base.name in HUB_NAMES else name
    return render_card(
        {
            "base": name,
            "title": name.rpartition("/")[2],
            "added": ARMS[arm.name].sentence if has_encoder(arm.name) else None,
            "rival": ARMS[arm.name].sentence if ARMS[arm.name].role == "rival" else None,
            "licence": known or "other",
            "licence_sentence": licence_sentence,
            "kind": type(model).__name__,
            "parameters": num_parameters(model),
            "untied": untied,
            "folder": folder,
            "example": first.prompt,
            "seeds": config.seeds,
            "seed": arm.seed,
            "arm": arm.name,
            "arms": config.arms,
            "answers": list(_answer_lines(config, data, rows)),
            "sentences": {one: ARMS[one].sentence for one in config.arms},
            "texts": list(_text_lines(config, rows)),
            "setting": setting(config, data).replace(config.model.model, name),
            "form": form,
            "phases": list(_phase_lines(arm.phases)),
            "version": charembed.__version__,
            "command": command_for(
                arm.run.record["preset"],
                replace(config, model=replace(config.model, model=made_of)),
            ),
        }
    )


def has_encoder(arm: str) -> bool:
    """Whether an arm adds vectors to the token embeddings: not plain, and not the rivals."""
    return arm != "plain" and ARMS[arm].role != "rival"


def render_card(values: Mapping[str, Any]) -> str:
    """Return the text of a model card, with names quoted for YAML, Python and Markdown."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        # An unknown name in the template is an error, not an empty text.
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    environment.policies["json.dumps_function"] = _quoted
    return environment.get_template("card.md.jinja").render(values)


def _quoted(text: str, **_: Any) -> str:
    """Quote a text for YAML and Python alike: a"b -> "a\\"b"; 🍓 stays as it is."""
    # YAML pairs no surrogates and refuses other signs that cannot be printed, unless escaped.
    return "".join(
        one if one.isprintable() else f"\\U{ord(one):08x}"
        for one in json.dumps(text, ensure_ascii=False)
    )


def _answer_lines(config: CompareConfig, data: Data, rows: list[Row]) -> Iterator[dict[str, Any]]:
    """Yield a line for each task and split on which all arms have results."""
    means = {(row.arm, row.task, row.split, row.metric): row for row in rows if row.seed == "mean"}
    for task in data.tasks:
        for split in task.splits:
            found = {
                one: means.get((one, task.name, split.name, "exact_match")) for one in config.arms
            }
            if all(found.values()):
                values = {one: _share(row) for one, row in found.items() if row}
                # The same for all arms: it depends on the questions alone.
                majority = next(row.majority for row in found.values() if row)
                line = {"split": split.label, "task": task.name, "by_arm": values}
                yield line | {"majority": percent(majority or 0.0)}


def _text_lines(config: CompareConfig, rows: list[Row]) -> Iterator[dict[str, Any]]:
    """Yield a line for each loss on text, by arm."""
    losses = [row for row in rows if row.metric == "loss_nats"]
    means = {(row.arm, row.task): f"{row.value:.3f}" for row in losses if row.seed == "mean"}
    for when in dict.fromkeys(row.task for row in losses):
        values = {one: means[one, when] for one in config.arms if (one, when) in means}
        yield {"when": when, "by_arm": values}


def _phase_lines(phases: Iterable[Phase]) -> Iterator[str]:
    """Yield a sentence for each phase of training, with the learning rates of the arm."""
    for phase in phases:
        if phase.steps:
            size = f"{phase.steps:,} steps of {phase.batch_size}, rate {phase.lr:g}."
            replay = replay_sentence(phase.replay_share, phase.replay_target, phase.replay_text)
            yield f"{phase.title.capitalize()}: {size} {replay}".strip()


def _share(row: Row) -> str:
    if row.low is None or row.high is None:
        return percent(row.value)
    return f"{percent(row.value)} [{100 * row.low:.0f} to {100 * row.high:.0f}]"
