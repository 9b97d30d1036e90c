"""Measure an evaluation: against a plain loop over `generate`, and the whole suite of word tasks.

Takes a minute or two of one core (with CTranslate2 four). All times are CPU seconds of this
process, so that other work on the machine does not count. --ctranslate2 needs
`pip install ctranslate2==4.8.5`.

    python -m benchmarks.evaluate
    python -m benchmarks.evaluate --model smollm2 --questions 2   # a real model, fewer questions
    python -m benchmarks.evaluate --model smollm2 --by-length --questions 10 --suite-questions 0
    python -m benchmarks.evaluate --model smollm2 --ctranslate2 --questions 10 --suite-questions 0
    python -m benchmarks.evaluate --run runs/quick-1234abcd       # the whole suite on a trained run
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Collection
from itertools import chain
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks.measure import machine
from training.ask.eval_sets import EvalSet, stop_ids
from training.ask.evaluated_model import EvalQuestion, EvaluatedLanguageModel, cut
from training.config.presets import preset
from training.data.prepare import prepare
from training.evaluate.evaluation import evaluate
from training.evaluate.load import FewShotPrompts, from_run, load_model
from training.models.generate import num_shared
from training.models.smollm2 import packaged_folder
from training.run.build import build_arm

TASKS = "letters=reverse+count+index+swap"
SMALL = {
    "hidden_size": 256,
    "intermediate_size": 768,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 1024,
    "initializer_range": 0.2,  # so that answers differ
}


def seconds(action: Callable[[], Any]) -> tuple[float, Any]:
    """Return the CPU seconds of an action, and its result."""
    began = time.process_time()
    found = action()
    return time.process_time() - began, found


def plain_loop(asked: EvaluatedLanguageModel, exams: list[EvalSet]) -> list[str]:
    """Generate from one prompt after another, as many scripts do.

    It stops at the same tokens, given by their ids, because `stop_strings` would be slower.
    """
    host: Any = asked.model.get_submodule("model")
    tokenizer = asked.source
    ends = sorted(asked.end | stop_ids(asked.tokenizer))
    texts = []
    for exam in exams:
        for item in exam.items:
            ids = tokenizer(item.prompt, return_tensors="pt")
            out = host.generate(
                **ids,
                max_new_tokens=asked.max_new_tokens(exam),
                do_sample=False,
                eos_token_id=ends,
                pad_token_id=0,
            )
            texts.append(text_of(asked, exam, out[0, ids["input_ids"].shape[1] :].tolist()))
    return texts


def text_of(asked: EvaluatedLanguageModel, exam: EvalSet, written: list[int]) -> str:
    """Decode an answer up to its stop text."""
    ids = [token for token in written if token not in asked.end]
    return cut(asked.source.decode(ids), exam.prompt_format.stop)


def against_a_plain_loop(name: str, cache: Path, questions: int) -> None:
    asked = load_model(name, cache_folder=cache, prompts=FewShotPrompts(), device="cpu")
    evaluate(asked, "letters=count", questions=1)  # untimed: words and splits are made once
    took, done = seconds(lambda: evaluate(asked, TASKS, questions=questions))
    given = [answer.given for exam in done.eval_sets for answer in done.answers.of(exam)]
    loop_took, heard = seconds(lambda: plain_loop(asked, done.eval_sets))
    alike = sum(ours == theirs for ours, theirs in zip(given, heard, strict=True))
    print(f"{name}: {len(given)} questions of {TASKS}, 4 shots; {alike} answers are identical")
    print(
        f"  plain loop {loop_took:.1f} s, evaluation {took:.1f} s: {loop_took / took:.1f} times faster"
    )


def against_batches_by_length(name: str, cache: Path, questions: int, rounds: int = 2) -> None:
    """Compare batches of all tasks and lengths with those of one task and one length, in turn."""
    asked = load_model(name, cache_folder=cache, prompts=FewShotPrompts(), device="cpu")
    evaluate(asked, "letters=count", questions=1)  # untimed, as above; and tries joined caches
    took, given = {True: [], False: []}, {}
    for joins in [True, False] * rounds:
        vars(asked.model)["joins"] = joins  # in the place of the trial's result
        spent, done = seconds(lambda: evaluate(asked, TASKS, questions=questions))
        took[joins].append(spent)
        given[joins] = [answer.given for one in done.eval_sets for answer in done.answers.of(one)]
    alike = sum(one == other for one, other in zip(given[True], given[False], strict=True))
    together, apart = min(took[True]), min(took[False])
    print(
        f"{name}: {len(given[True])} questions of {TASKS}, 4 shots; {alike} answers are identical"
    )
    print(
        f"  by length {apart:.1f} s, together {together:.1f} s: {together / apart:.2f} of the time"
    )


class CTranslate2:
    """The same questions to CTranslate2: fp32, one thread, greedy, at most 32 in a batch.

    CTranslate2 sorts its prompts by length and stops at the same tokens. One call has one limit of
    new tokens and one static prompt.
    """

    def __init__(self, asked: EvaluatedLanguageModel, folder: str, exams: list[EvalSet]) -> None:
        import ctranslate2

        converter = ctranslate2.converters.TransformersConverter(folder)
        with tempfile.TemporaryDirectory() as place:
            self.generator = ctranslate2.Generator(
                converter.convert(f"{place}/model"), compute_type="float32", inter_threads=1,
                intra_threads=1,
            )  # fmt: skip
        self.asked = asked
        self.questions = [EvalQuestion(one, n) for one in exams for n in range(len(one.items))]
        self.prompts = [asked.encode(one.eval_set, one.item) for one in self.questions]
        self.ends = sorted(asked.end | stop_ids(asked.tokenizer))

    def together(self) -> list[str]:
        """Ask the questions of all tasks in one call, with the longest limit."""
        return self._texts([list(range(len(self.prompts)))], reads_once=False)

    def by_task(self, reads_once: bool) -> list[str]:
        """Ask one task after another; `reads_once`: the common prefix is a static prompt."""
        tasks: defaultdict[str, list[int]] = defaultdict(list)
        for row, question in enumerate(self.questions):
            tasks[question.eval_set.task.name].append(row)
        return self._texts(tasks.values(), reads_once)

    def _texts(self, calls: Collection[list[int]], reads_once: bool) -> list[str]:
        texts = {}
        for rows in calls:
            shared = num_shared([self.prompts[row] for row in rows]) if reads_once else 0
            words = [self.asked.source.convert_ids_to_tokens(self.prompts[row]) for row in rows]
            limits = [self.asked.max_new_tokens(self.questions[row].eval_set) for row in rows]
            found = self.generator.generate_batch(
                [tokens[shared:] for tokens in words], static_prompt=words[0][:shared] or None,
                cache_static_prompt=False, max_batch_size=32, max_length=max(limits),
                sampling_topk=1, include_prompt_in_result=False, end_token=self.ends,
                return_end_token=True,
            )  # fmt: skip
            for row, limit, each in zip(rows, limits, found, strict=True):
                ids = each.sequences_ids[0][:limit]
                texts[row] = text_of(self.asked, self.questions[row].eval_set, ids)
        return [texts[row] for row in range(len(texts))]


def against_ctranslate2(name: str, cache: Path, questions: int, rounds: int = 3) -> None:
    """Compare with CTranslate2 in its ways, in turn; the least CPU time of each counts."""
    asked = load_model(name, cache_folder=cache, prompts=FewShotPrompts(), device="cpu")
    done = evaluate(asked, TASKS, questions=questions)  # untimed: words and splits are made once
    other = CTranslate2(asked, packaged_folder(name, cache), done.eval_sets)

    def here() -> list[str]:
        answers = evaluate(asked, TASKS, questions=questions).answers.by_set()
        return [answer.given for answer in chain.from_iterable(answers)]

    ways: dict[str, Callable[[], list[str]]] = {
        "evaluation": here,
        "CTranslate2, all tasks in one call": other.together,
        "CTranslate2, one call a task": lambda: other.by_task(reads_once=False),
        "CTranslate2, the examples of a task as its static prompt": lambda: other.by_task(True),
    }
    took: defaultdict[str, list[float]] = defaultdict(list)
    texts = {}
    for way, ask in list(ways.items()) * rounds:
        spent, texts[way] = seconds(ask)
        took[way].append(spent)
    ours, given = min(took["evaluation"]), texts["evaluation"]
    print(f"{name}: {len(given)} questions of {TASKS}, 4 shots; evaluation {ours:.1f} s")
    for way in list(ways)[1:]:
        alike = sum(one == two for one, two in zip(given, texts[way], strict=True))
        best = min(took[way])
        print(f"  {way}: {best:.1f} s; evaluation {ours / best:.2f} of it; {alike} alike")


def small_model(cache: Path, folder: Path) -> str:
    """Build an untrained Llama: 5 million weights and its tables, packaged tokenizer."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(cache / "smollm2")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        **SMALL, vocab_size=len(tokenizer), eos_token_id=tokenizer.eos_token_id, pad_token_id=0
    )
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def whole_suite(run: Path | None, cache: Path, questions: int) -> None:
    """Evaluate all word tasks on all splits of a run, or of the untrained quick preset."""
    if run is not None:
        asked = from_run(run, None, None, cache)
    else:
        config = preset("quick")
        data = prepare(config, cache)
        assert data.splits is not None
        model = build_arm(config, "lstm", 0, data.spellings).eval()
        asked = EvaluatedLanguageModel.of_arm(model, data, "lstm, untrained", 0)
    took, done = seconds(lambda: evaluate(asked, "letters", questions=questions))
    answers = [answer for exam in done.eval_sets for answer in done.answers.of(exam)]
    tokens = sum(len(asked.tokenizer.encode(answer.given)) for answer in answers) / len(answers)
    print(
        f"{asked.name}: the suite letters, {len(done.eval_sets)} exams, {len(answers)} questions, "
        f"{tokens:.1f} tokens an answer: {took:.0f} s of one core"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="a pretrained model [a small one without knowledge]")
    parser.add_argument(
        "--questions", type=int, default=15, help="per task and split, for both ways"
    )
    parser.add_argument("--suite-questions", type=int, default=250, help="0 leaves the suite out")
    parser.add_argument("--run", type=Path)
    parser.add_argument("--by-length", action="store_true", help="batches by length, not the loop")
    parser.add_argument("--ctranslate2", action="store_true", help="CTranslate2, not the loop")
    parser.add_argument("--cache", type=Path, default=Path(".cache"))
    options = parser.parse_args()
    print(machine())
    if options.questions:
        with tempfile.TemporaryDirectory() as folder:
            name = options.model or small_model(options.cache, Path(folder) / "small-llama")
            compared = against_a_plain_loop
            if options.by_length or options.ctranslate2:
                compared = against_batches_by_length if options.by_length else against_ctranslate2
            compared(name, options.cache, options.questions)
    if options.suite_questions:
        whole_suite(options.run, options.cache, options.suite_questions)


if __name__ == "__main__":
    main()
