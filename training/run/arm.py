"""Train one arm: all its phases, then its evaluation, in a folder of its own.

During training the folder holds `metrics.jsonl`, `state.safetensors` (the state in the current
phase) and a file of weights for each finished phase. run.py lists the files of a finished arm.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from accelerate import Accelerator

from charembed.spelling_loss import SpellingHeads
from training.ask.eval_sets import EvalSet, make_eval_sets
from training.ask.learning_curve import LearningCurve
from training.ask.run_evaluation import TextLosses, evaluate_arm, text_losses
from training.data.rivals import share_split
from training.errors import Interrupted
from training.interrupts import deferred
from training.intervals import Row
from training.models.arms import num_parameters, num_parameters_after_fold
from training.models.language_model import LanguageModel
from training.progress import Bars, no_bars
from training.train.kinds import phase_batches
from training.train.lines import curve_file
from training.train.loop import Training, stopping, train
from training.train.loss import heads_for
from training.train.shards import forget
from training.train.state import (
    METRICS,
    Position,
    check_curve,
    check_metrics,
    load_trained,
    save_state,
)

from .build import build_model, extend_context, settle, whole_words
from .machine import Machine
from .processes import accelerator_of
from .run import DONE, TOKENS_PER_SECOND, ArmRun, read_lines


def train_arm(arm: ArmRun, machine: Machine, bars: Bars = no_bars) -> None:
    """Train an arm through all phases and evaluate it, from the state that its folder holds.

    A missing file is made again. Raises Damaged for a file with changed content, and Interrupted
    for a Ctrl-C, after the state is saved.
    """
    data, config, seed = arm.data, arm.run.config, arm.seed
    # A signal is only recorded in this block; the loop looks at it between two steps.
    with deferred() as stop:
        if arm.is_finished:
            return
        torch.set_num_threads(machine.threads)
        accelerator = accelerator_of(machine, config)
        main = accelerator.is_main_process
        if main:
            (arm.folder / DONE).unlink(missing_ok=True)  # from here on the arm is not finished
        model = arm.first_model(accelerator.device)
        if machine.gradient_checkpointing:
            model.checkpoint_gradients()
        # One set of heads for all phases: a later phase goes on with the trained ones.
        heads = heads_of(arm, model, accelerator)
        position = Position(arm.identity)
        rows: list[Row] = []
        batches: dict[str, str] = {}
        tokens: dict[str, dict[str, int]] = {}
        texts: dict[str, TextLosses] = {}
        for phase in arm.phases:
            # All processes of an arm call this together: one of them may have got the signal.
            if stopping(accelerator, stop):
                done = f"{phase.name} has not begun; what was done before is saved."
                raise Interrupted(done, others_tell=not main)
            extend_context(model, phase, seed)
            if phase.steps:
                curve = LearningCurve.of(
                    model, data, phase, arm.name, seed, machine.measures, accelerator.autocast
                )
                with whole_words(model, data, phase, arm.name, seed) as asked:
                    training = Training(
                        model=model,
                        phase=phase,
                        batch_at=phase_batches(asked, phase, seed, arm.name),
                        folder=arm.folder,
                        accelerator=accelerator,
                        seed=seed,
                        position=position,
                        heads=heads,
                        measure=curve,
                        measured=curve.steps,
                        save_every=machine.save_every,
                        accumulate=machine.accumulate,
                        compile=machine.compile,
                    )
                    position = _train_or_load(arm, training, bars)
                batches[phase.name] = position.batches
                if position.tokens is not None:
                    tokens[phase.name] = position.tokens
            if phase.reads_rows:
                rows += _text_rows(arm, model, phase.title, texts)
            elif phase.steps:  # the warm-up on spelling has changed scale and directions
                settle(model, data)
        if stopping(accelerator, stop):
            done = "Training is finished and saved; the questions come when it goes on."
            raise Interrupted(done, others_tell=not main)
        # Answers are not saved in between: after a stop the evaluation starts again.
        eval_sets = make_eval_sets(data, seed)
        scored, marked = evaluate_arm(model, data, eval_sets, arm.name, seed, bars)
        rows += [*scored, *_cost_rows(arm, model, tokens), _prompt_row(arm, eval_sets)]
        if main:
            arm.finish(rows, marked, batches, tokens, texts)
        accelerator.wait_for_everyone()


def heads_of(arm: ArmRun, model: LanguageModel, accelerator: Accelerator) -> SpellingHeads | None:
    """Return the heads of the spelling loss, if a phase of the run has one."""
    if not any(phase.spells for phase in arm.trained_phases):
        return None
    spellings = arm.run.data.spellings
    return heads_for(model, model.embedding, spellings, arm.seed).to(accelerator.device)


def _train_or_load(arm: ArmRun, training: Training, bars: Bars) -> Position:
    """Train a phase, or load its weights. Return the position at its end.

    If a phase is trained again, the files of later phases are deleted: their weights are older.
    """
    phase, folder, accelerator = training.phase, training.folder, training.accelerator
    path, main = arm.weights(phase), accelerator.is_main_process
    # Weights without metrics are of no use: the report needs every step of the training.
    has_metrics = (folder / METRICS).exists()
    if path.exists() and has_metrics:
        position = load_trained(path, training.parts, training.position.run, phase.name)
        check_metrics(folder / METRICS, position)
        check_curve(folder / curve_file(phase.name), position)
        return position
    if main:
        phases = arm.trained_phases
        for later in phases[phases.index(phase) :]:
            arm.weights(later).unlink(missing_ok=True)
        if not has_metrics:
            forget(folder)
    accelerator.wait_for_everyone()
    if phase.replay_target == "base":
        # The base is the model before any training; its weights come from the seed or its folder.
        training.base = build_model(arm.run.config, arm.seed).to(accelerator.device).eval()
    position = train(training, bars)
    if main:
        # In this order: after a kill between the two, the finished weights count.
        save_state(path, position, training.parts)
        forget(folder)
    accelerator.wait_for_everyone()
    return position


def _row(arm: ArmRun, task: str, metric: str, value: float, n: int = 1) -> Row:
    return Row(arm.name, arm.seed, task, "all", metric, value, None, None, n, None)


def _text_rows(
    arm: ArmRun, model: LanguageModel, title: str, texts: dict[str, TextLosses]
) -> Iterator[Row]:
    """Yield the loss on held-out text, and on the other corpus if the config names one.

    The losses of each row's windows are added to `texts`.
    """
    config, data = arm.run.config, arm.run.data
    context, rows = config.text.context, config.evaluation.validation_rows
    for name, text in data.held_out_texts.items():
        loss_nats, losses = text_losses(model, text.ids, rows, context, data.counts_V)
        n = len(losses.window_nats) * losses.tokens_per_window
        task, bits = f"{name}, after {title}", loss_nats / math.log(2) / text.bytes_per_token
        texts[task] = losses
        yield _row(arm, task, "loss_nats", loss_nats, n)
        yield _row(arm, task, "bits_per_byte", bits, n)


def _cost_rows(
    arm: ArmRun, model: LanguageModel, tokens: dict[str, dict[str, int]]
) -> Iterator[Row]:
    """Yield the numbers of parameters, the seconds of training, and tokens read per second.

    `tokens`: see `ArmRun.tokens`.
    """
    path = arm.folder / METRICS
    steps: list[dict[str, Any]] = read_lines(path.read_bytes()) if path.exists() else []
    yield _row(arm, "all", "parameters", num_parameters(model))
    for phase in arm.run.config.phases:
        in_phase = [step for step in steps if step["phase"] == phase.name]
        # A phase of questions also has steps on replayed text, which take another time.
        seconds = [step["seconds"] for step in in_phase if step["kind"] == phase.kind]
        if seconds:
            # The median: the first steps, and steps beside other programs, are slower.
            median = statistics.median(seconds)
            yield _row(arm, phase.name, "median_step_seconds", median, len(seconds))
            total = sum(step["seconds"] for step in in_phase)
            yield _row(arm, phase.name, "training_seconds", total, len(in_phase))
            if read := tokens.get(phase.name, {}).get(phase.kind, 0):
                # The median again, so that the rate is of the same steps as the seconds above.
                rate = read / len(seconds) / median
                yield _row(arm, phase.name, TOKENS_PER_SECOND, rate, len(seconds))
    if steps:
        total = sum(step["seconds"] for step in steps)
        yield _row(arm, "all", "training_seconds", total, len(steps))
    yield _row(arm, "all", "parameters_after_fold", num_parameters_after_fold(model))
    if arm.name == "stochastok":
        yield _row(arm, "all", "words_split", share_split(arm.data))


def _prompt_row(arm: ArmRun, eval_sets: Sequence[EvalSet]) -> Row:
    """The mean number of tokens of a question of the evaluation, without its answer."""
    encode = arm.data.tokenizer.encode
    lengths = [len(encode(item.prompt)) for one in eval_sets for item in one.items]
    return _row(arm, "all", "prompt_tokens", statistics.mean(lengths), len(lengths))
