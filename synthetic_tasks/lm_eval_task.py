"""Write a task in the form of lm-evaluation-harness: a .yaml, and a .jsonl with its items."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from .errors import TaskError
from .formats import BenchmarkTask, PromptFormat
from .formats.charbench import whole_number
from .formats.cute_tasks import between_quotes
from .formats.execute import between_quotes_of_turn
from .formats.nanochat import after_hashes
from .scoring import END, read_answer, same_in_any_case
from .task import Item

TAG = "charembed"
CHAT_TAG = f"{TAG}_chat"  # these tasks need lm-eval's chat template, the others must not have it
_STRIP = ["\\A\\s+", "\\s+\\Z"]
RESULT_PATTERN = "^(?:.* )?= (.*)$"  # the result of a scratchpad answer follows the last " = "

# The answer of CUTE: no "Answer:" follows, or it is behind the last one and its quote; up to a quote.
_QUOTED = r'(?s)\A(?:(?!.*Answer:)|.*Answer:(?!.*Answer:)%s")(%s)'
_IN_CUTE = _QUOTED % (('(?:(?!</s>)[^"])*',) * 2)
_IN_EXECUTE = _QUOTED % ((r'(?:(?!</s>|<\|eot_id\|>)[^"])*',) * 2)
# The digits of a text that int() takes, without sign and leading zeros; a negative number is wrong.
_INTEGER = r"\A\s*(?:\+|-(?=[0_]*\s*\Z))?(?:0_?)*([0-9]+(?:_[0-9]+)*)\s*\Z"


@dataclass(frozen=True)
class Rule:
    """A scoring rule in lm-eval's terms.

    Attributes:
        pattern: regular expression whose first group is the answer; "" for the whole text.
        ignored: patterns that are removed from answers, besides the space around them.
    """

    pattern: str = ""
    ignored: tuple[str, ...] = ()


# A benchmark's function that reads the answer from a text -> the same in lm-eval.
RULES: dict[Callable[[str], str | None], Rule] = {
    read_answer: Rule(),
    between_quotes: Rule(_IN_CUTE),
    between_quotes_of_turn: Rule(_IN_EXECUTE),
    whole_number: Rule(_INTEGER, ("_",)),
    after_hashes: Rule("#### (-?[0-9.,]+)", (",",)),
}


def as_lm_eval(
    name: str,
    items: Sequence[Item],
    facts: dict[str, object],
    fields: Mapping[str, object] | None = None,
    tag: str = TAG,
) -> tuple[str, str]:
    """Return the .yaml of a task of lm-evaluation-harness, and the .jsonl of its items.

    [Item("count a banana:", " 3", ...)] -> one line, {"prompt": "count a banana:", "target": "3"}

    Arguments:
        facts: for the metadata of the .yaml.
        fields: how the model is asked and scored; by default as for this project's own tasks.
        tag: lm-eval runs all tasks of a tag together.
    """
    config: dict[str, object] = {
        "task": name,
        "tag": tag,
        "dataset_path": "json",  # the loader for local files
        "dataset_kwargs": {"data_files": {"test": f"{name}.jsonl"}},
        "test_split": "test",
        # Names of columns. Not "{{target}}": lm-eval evaluates such a text if it looks like a list.
        "doc_to_text": "prompt",
        "num_fewshot": 0,  # the prompt is complete
        **(fields or (_BY_CHOICE if items[0].choices else _by_generation(items))),
        "metadata": {"version": 1.0, **facts},
    }
    # JSON values are YAML values too, so no YAML writer is needed.
    yaml = "".join(f"{key}: {_as_json(value)}\n" for key, value in config.items())
    return yaml, "".join(f"{_as_json(_row(item))}\n" for item in items)


def benchmark_as_lm_eval(
    name: str, task: BenchmarkTask, facts: dict[str, object], chat: bool
) -> tuple[str, str]:
    """Return the .yaml and the .jsonl of a benchmark's task, with its authors' prompt and scoring.

    `chat`: for a model with a chat template, which lm-eval has to apply.

    Raises TaskError if the task's rule is not among RULES.
    """
    form, items = task.prompt_format, task.items
    if form.greedy:
        yaml, _ = as_lm_eval(name, items, facts, _GREEDY)
        # Subtle: of this type, lm-eval puts no target_delimiter before the target.
        lines = [_as_json(_row(item) | {"target": item.answer}) for item in items]
        return yaml, "".join(f"{line}\n" for line in lines)
    unwritten = f"The scoring rule of {task.name} is not written for lm-eval. "
    unwritten += "Leave it out, and run it with python -m training.evaluate."
    if form.ends_choice:  # a request of lm-eval cannot end in a special token of any tokenizer
        raise TaskError(unwritten)
    if items[0].choices:
        return as_lm_eval(name, items, facts)
    rule = RULES.get(task.read)
    if rule is None or task.keeps_blanks or task.equal not in (str.__eq__, same_in_any_case):
        raise TaskError(unwritten)
    chat = chat and form.chat
    fields = _benchmark_fields(task, rule, chat)
    if not chat:  # the answer's opening is text like any other
        items = tuple(item._replace(prompt=item.prompt + form.opening) for item in items)
    return as_lm_eval(name, items, facts, fields, CHAT_TAG if chat else TAG)


def _benchmark_fields(task: BenchmarkTask, rule: Rule, chat: bool) -> dict[str, object]:
    form: PromptFormat = task.prompt_format
    usual = _by_generation(task.items)
    settings = {
        "until": list(filter(None, [form.stop_of(chat)])),
        "do_sample": False,
        "max_gen_toks": form.max_new_tokens or _room(task.items),
    }
    ignored = [*rule.ignored, *_STRIP]
    in_any_case = {"ignore_case": True} if task.equal is same_in_any_case else {}
    metric = _metric("exact_match", regexes_to_ignore=ignored, **in_any_case)
    found = {"function": "regex", "regex_pattern": rule.pattern, "fallback": ""}
    filters = [found] if rule.pattern else []
    chosen = [{"name": "answer", "filter": [*filters, {"function": "take_first"}]}]
    prefix = {"gen_prefix": form.opening} if chat and form.opening else {}
    system = {"description": form.system} if chat and form.system else {}
    both = {"generation_kwargs": settings, "filter_list": chosen, "metric_list": [metric]}
    return usual | both | prefix | system


def _as_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _metric(name: str, **more: object) -> dict[str, object]:
    return {"metric": name, "aggregation": "mean", "higher_is_better": True, **more}


_BY_CHOICE = {
    "output_type": "multiple_choice",
    "doc_to_choice": "choices",
    "doc_to_target": "target",
    "target_delimiter": "",  # each choice begins with its space
    "metric_list": [_metric("acc"), _metric("acc_norm")],
}


# lm-eval's "acc": each token of the answer is the most likely one.
_GREEDY: dict[str, object] = {
    "output_type": "loglikelihood",
    "doc_to_target": "target",
    "metric_list": [_metric("acc")],
}


def _by_generation(items: Sequence[Item]) -> dict[str, object]:
    written = [item.text.removeprefix(item.prompt) for item in items]
    has_scratchpad = written[0] != items[0].answer + END
    result = {"function": "regex", "regex_pattern": RESULT_PATTERN, "fallback": ""}
    filters = [result] if has_scratchpad else []
    return {
        "output_type": "generate_until",
        "doc_to_target": "target",
        "generation_kwargs": {
            "until": [END],
            "do_sample": False,
            "max_gen_toks": _room(items),
        },
        "filter_list": [{"name": "answer", "filter": [*filters, {"function": "take_first"}]}],
        "metric_list": [_metric("exact_match", regexes_to_ignore=_STRIP)],
    }


def _room(items: Sequence[Item]) -> int:
    # A token is at least one byte, so the bytes of the longest answer suffice.
    return max(len(item.text.removeprefix(item.prompt).encode()) for item in items)


def _row(item: Item) -> dict[str, object]:
    choices = list(item.choices)
    target = choices.index(item.answer) if choices else item.answer.strip()
    offered = {"choices": choices} if choices else {}
    return {"prompt": item.prompt, **offered, "target": target, "key": item.key}
