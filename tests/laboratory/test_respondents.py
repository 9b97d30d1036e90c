"""Models under evaluation answer as in a plain loop, but in batches with a shared prefix."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import decoders
from torch import Tensor

import charembed
from synthetic_tasks import Item
from synthetic_tasks.formats import BenchmarkTask, PromptFormat, cute_hub
from tests.laboratory import pretrained
from tests.messages import raises
from training.ask import evaluated_model
from training.ask.eval_sets import EvalSet
from training.ask.evaluated_model import EvalQuestion, EvaluatedLanguageModel, cut
from training.ask.scores import eval_rows
from training.data.prepare import Data
from training.data.tokenizers import HuggingFaceTokenizer
from training.errors import BadInput
from training.evaluate import suites
from training.evaluate.__main__ import main
from training.evaluate.evaluation import Evaluation, evaluate
from training.evaluate.load import FewShotPrompts, from_function, from_pretrained, from_run
from training.models.decoder import Decoder, DecoderConfig
from training.models.generate import SHARED, chunks, generate, log_likelihoods, num_shared
from training.models.huggingface import HuggingFace
from training.models.language_model import LanguageModel

TEMPLATE = "{% for m in messages %}<|end|>{{ m.content }}\n{% endfor %}>>"


@pytest.fixture(scope="module")
def tokenizer(data: Data) -> Any:
    made = pretrained.train_tokenizer(data.tokenizer.decode(data.train_ids[:40_000].tolist()))
    made.chat_template = TEMPLATE
    return made


@pytest.fixture(scope="module")
def words(data: Data, tmp_path_factory: pytest.TempPathFactory) -> Path:
    assert data.splits is not None
    path = tmp_path_factory.mktemp("words") / "words.txt"
    splits = data.splits
    path.write_text(
        "\n".join([*splits.seen[:900], *splits.unseen_words[:300], *splits.longer_words[:200]])
    )
    return path


def llama() -> Any:
    return pretrained.llama(max_position_embeddings=400, initializer_range=0.3).eval()


MODELS = {"llama": llama, "gpt2": lambda: pretrained.gpt2().eval()}


@dataclass(frozen=True)
class Toy:
    """A benchmark with prompts of many lengths through a chat template, and choices."""

    name: str = "toy"

    def generate(self, words: Sequence[str], n: int, seed: int) -> list[BenchmarkTask]:
        chat, choice = [], []
        for i, word in enumerate(words[:n]):
            chat.append(Item(f"Now {'go ' * (i % 5)}spell {word}!", f" {word}", f"say {word}"))
            choices = (f" {word}", " tea", " overstated", " of a")
            choice.append(
                Item(f"The letters of{' the' * (i % 3)}", f" {word}", f"of {word}", choices)
            )
        return [
            BenchmarkTask(
                "toy/say",
                tuple(chat),
                PromptFormat(chat=True, opening=' "', max_new_tokens=9, stop="e"),
            ),
            BenchmarkTask("toy/open", tuple(chat), PromptFormat(max_new_tokens=7, stop="")),
            BenchmarkTask("toy/choice", tuple(choice)),
        ]


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suites, "FORMATS", {"toy": Toy()})


def given(done: Evaluation) -> list[str]:
    return [answer.given for exam in done.eval_sets for answer in done.answers.of(exam)]


def plain_loop(model: Any, tokenizer: Any, exam: EvalSet, room: int) -> list[str]:
    """Answer one prompt after another: generate, then cut the text."""
    texts = []
    for item in exam.items:
        text = item.prompt + exam.prompt_format.opening
        if exam.prompt_format.chat:
            message = [{"role": "user", "content": item.prompt}]
            text = tokenizer.apply_chat_template(
                message, tokenize=False, add_generation_prompt=True
            )
            text += exam.prompt_format.opening
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        mask = torch.ones_like(ids)
        out = model.generate(
            ids, attention_mask=mask, max_new_tokens=room, do_sample=False, pad_token_id=0
        )
        written = out[0, ids.shape[1] :].tolist()
        if tokenizer.eos_token_id in written:
            written = written[: written.index(tokenizer.eos_token_id)]
        texts.append(cut(tokenizer.decode(written), exam.prompt_format.stop))
    return texts


def test_the_stop_text_depends_on_the_chat_template(tokenizer: Any, words: Path) -> None:
    without, model = copy.deepcopy(tokenizer), llama()
    without.chat_template = None
    how = PromptFormat(chat=True, max_new_tokens=9, stop="", stop_without_chat="e")
    items = tuple(Item(f"Spell {word}!", f" {word}", word) for word in ("tea", "onion", "pea"))
    exam = EvalSet(BenchmarkTask("toy/say", items, how), "all", items, how)
    for own, stop in ((tokenizer, ""), (without, "e")):
        prompts = FewShotPrompts(words=str(words))
        asked = from_pretrained(HuggingFace(model), HuggingFaceTokenizer(own), "it", prompts)
        asked.check([exam])
        questions = [EvalQuestion(exam, number) for number in range(3)]
        found = {
            question.number: answer.given
            for batch, answers in asked.answer(questions, 2, lambda number: None)
            for question, answer in zip(batch, answers, strict=True)
        }
        plain = replace(how, chat=own is tokenizer, stop=stop)
        expected = plain_loop(model, own, replace(exam, prompt_format=plain), 9)
        assert [found[number] for number in range(3)] == expected


def test_prompts_of_all_lengths_share_a_batch_if_answers_are_long(
    tokenizer: Any, words: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step for many rows takes hardly longer than for one, and a long answer has hundreds."""
    model = llama()
    how = PromptFormat(chat=True, max_new_tokens=40, stop="")
    items = tuple(Item(f"Now {'go ' * n}spell tea!", " tea", str(n)) for n in range(6))
    exam = EvalSet(BenchmarkTask("toy/long", items, how), "all", items, how)
    prompts = FewShotPrompts(words=str(words))
    asked = from_pretrained(HuggingFace(model), HuggingFaceTokenizer(tokenizer), "it", prompts)
    asked.check([exam])
    questions = [EvalQuestion(exam, number) for number in range(len(items))]
    found = []
    for long in (41, 40):
        monkeypatch.setattr(evaluated_model, "_LONG_ANSWER", long)
        batches = list(asked.answer(questions, 4, lambda number: None))
        texts = {
            q.number: a.given for batch, given in batches for q, a in zip(batch, given, strict=True)
        }
        found.append(([len(batch) for batch, _ in batches], texts))
    (one_each, alone), (shared, together) = found
    assert (one_each, shared) == ([1] * 6, [4, 2])
    assert together == alone


@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize("kind", MODELS)
def test_a_model_says_what_a_plain_loop_hears(kind: str, tokenizer: Any, words: Path) -> None:
    model = MODELS[kind]()
    prompts = FewShotPrompts(words=str(words), shots=2 if kind == "llama" else 0)
    how: dict[str, Any] = {"questions": 3, "prompts": prompts, "tokenizer": tokenizer}
    done = evaluate(model, "letters=reverse+count,toy", **how)
    asked = from_pretrained(HuggingFace(model), HuggingFaceTokenizer(tokenizer), "it", prompts)
    asked.check(done.eval_sets)
    assert not model.training, "a user's model stays in its mode"
    for exam in done.eval_sets:
        if not exam.items[0].choices:
            heard = plain_loop(model, tokenizer, exam, asked.max_new_tokens(exam))
            assert [answer.given for answer in done.answers.of(exam)] == heard
    assert len(set(given(done))) > 10
    one_by_one = evaluate(model, "letters=reverse+count,toy", batch_size=1, **how)
    assert given(one_by_one) == given(done)
    assert [(row.metric, row.value) for row in one_by_one.rows] == [
        (r.metric, r.value) for r in done.rows
    ]
    model.train()
    assert given(evaluate(model, "letters=reverse", **how)) == given(done)[:12]
    assert model.training


@pytest.mark.usefixtures("toy")
def test_choices_are_taken_by_their_likelihood(tokenizer: Any, words: Path) -> None:
    model = llama()
    prompts = FewShotPrompts(words=str(words))
    done = evaluate(model, "toy", questions=12, prompts=prompts, tokenizer=tokenizer)
    exam = done.eval_sets[2]
    hits = {"exact_match": 0, "exact_match_per_token": 0, "exact_match_per_character": 0}
    for item, answer in zip(exam.items, done.answers.of(exam), strict=True):
        sums = []
        for choice in item.choices:
            before, whole = (
                tokenizer(text)["input_ids"] for text in (item.prompt, item.prompt + choice)
            )
            assert whole[: len(before)] == before
            with torch.no_grad():
                said = model(torch.tensor([whole])).logits[0].log_softmax(-1)
            sums.append(sum(float(said[i - 1, whole[i]]) for i in range(len(before), len(whole))))
        assert answer.sums == pytest.approx(sums, rel=1e-4)
        per_character = [
            total / len(c.strip()) for total, c in zip(sums, item.choices, strict=True)
        ]
        per_token = [total / n for total, n in zip(sums, answer.tokens, strict=True)]
        for metric, values in zip(hits, (sums, per_token, per_character), strict=True):
            hits[metric] += item.choices[values.index(max(values))] == item.answer
    for metric, count in hits.items():
        assert done.value("toy/choice", metric=metric) == count / 12
    with raises(BadInput, "toy/choice"):
        evaluate(lambda p: "", "toy", questions=2, prompts=prompts, name="f")


def test_a_greedy_answer_is_right_if_every_token_is_the_likeliest(
    tokenizer: Any, words: Path
) -> None:
    # it repeats one token, so that its text has these tokens again
    model = pretrained.llama(max_position_embeddings=400).eval()
    texts = ["The end of", "a quiet day", "We the people", "of the", "once more:"]
    items = []
    for number, text in enumerate(texts):
        likely = token_by_token(model, tokenizer.encode(text), 4)
        if number % 2:  # another last token, so that the answer is wrong
            likely[-1] = tokenizer.encode("x")[0]
        items.append(Item(text, tokenizer.decode(likely), text))
    how = PromptFormat(greedy=True)
    task = BenchmarkTask("toy/greedy", tuple(items), how, cute_hub.whole, keeps_blanks=True)
    exam = EvalSet(task, "all", items, how, task.read)
    prompts = FewShotPrompts(words=str(words))
    asked = from_pretrained(HuggingFace(model), HuggingFaceTokenizer(tokenizer), "it", prompts)
    asked.check([exam])
    questions = [EvalQuestion(exam, number) for number in range(len(items))]
    found = {}
    for batch, answers in asked.answer(questions, 3, lambda number: None):
        for question, answer in zip(batch, answers, strict=True):
            found[question.number] = task.is_right(answer.given, question.item)
    for number, item in enumerate(items):
        before, after = asked._encode_pair(exam, item, item.answer)
        assert found[number] == (token_by_token(model, before, len(after)) == list(after))
    assert 0 < sum(found.values()) < len(items)
    assert how.as_dict()["greedy"]
    with raises(BadInput, "toy/greedy"):
        from_function(str, prompts=prompts).check([exam])


@torch.no_grad()
def token_by_token(model: Any, ids: Sequence[int], n: int) -> list[int]:
    written: list[int] = []
    for _ in range(n):
        logits = model(torch.tensor([[*ids, *written]])).logits[0, -1]
        written.append(int(logits.argmax()))
    return written


def test_a_choice_may_be_followed_by_the_end_of_text(tokenizer: Any, words: Path) -> None:
    """LangGame's own rule: question, two blanks, option and the end-of-text token, one text each."""
    choices = ("  tea", "  overstated", "  of")
    item = Item("The letters of the. Answer:", choices[0], "k", choices)
    format_ = PromptFormat(ends_choice=True)
    exam = EvalSet(BenchmarkTask("t", (item,), format_), "all", [item], format_)
    model = llama()
    prompts = FewShotPrompts(words=str(words))
    asked = from_pretrained(HuggingFace(model), HuggingFaceTokenizer(tokenizer), "it", prompts)
    asked.check([exam])
    ((_, (answer,)),) = asked.answer([EvalQuestion(exam, 0)], 8, lambda done: None)
    for choice, total, length in zip(choices, answer.sums, answer.tokens, strict=True):
        ids = tokenizer(item.prompt + choice, add_special_tokens=False)["input_ids"]
        ids.append(tokenizer.eos_token_id)
        before = len(tokenizer(item.prompt, add_special_tokens=False)["input_ids"])
        with torch.no_grad():
            logits = model(torch.tensor([[*asked.start, *ids]])).logits[0].log_softmax(-1)
        places = range(before, len(ids))
        expected = sum(float(logits[len(asked.start) + i - 1, ids[i]]) for i in places)
        assert (total, length) == (pytest.approx(expected, abs=1e-4), len(places))
    rows = {row.metric: row for row in eval_rows([exam], [[answer]], "x", 0)}
    fewest = [c for c, n in zip(choices, answer.tokens, strict=True) if n == min(answer.tokens)]
    floor = (choices[0] in fewest) / len(fewest)
    assert rows["fewest_tokens"].value == floor


def test_likelihoods_do_not_depend_on_their_neighbours() -> None:
    model = HuggingFace(llama())
    pairs = [([5, 6, 7], [8]), ([5], [9, 10, 11, 12]), ([1, 2], [3, 4]), ([5, 6, 7], [9, 8])]
    together = log_likelihoods(model, pairs)
    assert together == pytest.approx(
        [log_likelihoods(model, [pair])[0] for pair in pairs], rel=1e-5
    )


def loud_model(kind: str) -> LanguageModel:
    """Build a model with different answers to different prompts."""
    torch.manual_seed(0)
    model: LanguageModel = (
        Decoder(DecoderConfig(vocab_size=50, context=64, n_layer=2, n_head=2, n_embd=16))
        if kind == "decoder"
        else HuggingFace(MODELS[kind]())
    )
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.5)
    return model


def asked_shapes(model: LanguageModel) -> list[tuple[int, ...]]:
    """Return a list that collects the shapes of all later batches of the model."""
    seen: list[tuple[int, ...]] = []
    model.register_forward_pre_hook(lambda module, args: seen.append(tuple(args[0].shape)))
    return seen


@pytest.mark.parametrize("kind", ["decoder", *MODELS])
def test_a_shared_beginning_is_read_once_and_changes_nothing(kind: str) -> None:
    model = loud_model(kind)
    shared = [int(i) for i in torch.randint(0, 50, (SHARED + 3,))]
    prompts = [[*shared, first, second] for first in range(4) for second in (7, 8)]
    seen = asked_shapes(model)
    options: dict[str, Any] = {"max_new_tokens": 6, "context": 64}
    together = generate(model, prompts, **options)
    assert model.shares
    assert (1, SHARED + 3) in seen
    assert (8, 2) in seen
    assert together == [generate(model, [prompt], **options)[0] for prompt in prompts]
    assert len(set(map(tuple, together))) > 1
    assert num_shared([[5, 6, 7, 8], [5, 6, 9, 8], [5, 6, 9]]) == 2
    assert num_shared([[5, 6], [5, 6]]) == 1
    assert num_shared([[5, 6, 7], [5]]) == 0


def test_a_model_that_cannot_read_in_pieces_reads_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = HuggingFace(llama())

    def wrong(
        self: Any, ids_BT: Tensor, keep_BT: Any = None, cache: Any = None, real: Any = None
    ) -> Tensor:
        found: Tensor = original(self, ids_BT, keep_BT, cache, real)
        return found + (ids_BT.shape[1] if cache is not None else 0)

    original = HuggingFace.forward
    monkeypatch.setattr(HuggingFace, "forward", wrong)
    assert not model.shares


@pytest.mark.parametrize("kind", ["decoder", *MODELS])
@pytest.mark.parametrize("shared", [0, SHARED])
def test_prompts_of_unlike_lengths_are_answered_as_alone(kind: str, shared: int) -> None:
    model = loud_model(kind)
    beginning = [int(i) for i in torch.randint(0, 50, (shared,))]
    prompts = [[*beginning, *range(first, first + 3 + first % 4)] for first in range(9)]
    seen = asked_shapes(model)
    options: dict[str, Any] = {"max_new_tokens": 6, "context": 64, "stop": {1, 2, 3, 4, 5, 6, 7}}
    together = generate(model, prompts, **options)
    assert model.pads == (kind != "decoder")
    if model.pads:
        assert (9, 6) in seen
    else:
        assert all(rows <= 3 for rows, _ in seen)
    assert together == [generate(model, [prompt], **options)[0] for prompt in prompts]
    assert len(set(map(tuple, together))) > 3


def test_a_model_that_counts_its_padding_gets_none() -> None:
    assert HuggingFace(llama()).pads
    assert not HuggingFace(pretrained.gemma2().eval()).pads  # its window may count the padding
    deaf = pretrained.gpt2().eval()
    hears = deaf.forward
    deaf.forward = lambda position_ids=None, **options: hears(**options)
    assert not HuggingFace(deaf).pads
    assert HuggingFace(pretrained.gpt2().eval()).pads


def test_padding_is_used_where_few_prompts_have_one_length() -> None:
    many = [[0] * 5] * 64 + [[0] * 6] * 3 + [[0] * 7] * 2 + [[0] * 15]
    lengths = [[len(many[number]) for number in numbers] for numbers in chunks(many, padded=True)]
    assert lengths == [[5] * 64, [6, 6, 6, 7, 7], [15]]
    lengths = [[len(many[number]) for number in numbers] for numbers in chunks(many)]
    assert lengths == [[5] * 64, [6] * 3, [7] * 2, [15]]
    assert [len(numbers) for numbers in chunks([[0] * 4000] * 20)] == [8, 8, 4]


# Who is asked


def test_a_run_is_asked_as_in_its_exam(half_run: Path, cache: Path, tmp_path: Path) -> None:
    assert main([str(half_run), "--cache", str(cache), "--questions", "8", "--arm", "matched", "--quiet",
                 "--against-arm", "lstm", "--out", str(tmp_path / "out"), "--cpu",
                 "--suite", "letters=reverse+count+index+swap"]) == 0  # fmt: skip
    lines = map(json.loads, (tmp_path / "out" / "marks.jsonl").read_text().splitlines())
    found = {(line["task"], line["split"], line["prompt"]): line["right"] for line in lines}
    recorded = map(
        json.loads, (half_run / "seed0" / "matched" / "answers.jsonl").read_text().splitlines()
    )
    exam = {(line["task"], line["split"], line["prompt"]): line["right"] for line in recorded}
    assert found == exam
    assert len(found) == 128
    rows = json.loads((tmp_path / "out" / "results.json").read_text())
    assert {row["arm"] for row in rows} == {"matched", "lstm", "matched - lstm"}
    assert any(row["metric"].startswith("exact_match[token count=") for row in rows)
    assert "the training part of the corpus sotu" in (tmp_path / "out" / "report.html").read_text()


def test_the_last_arm_and_the_first_seed_are_asked_by_default(half_run: Path, cache: Path) -> None:
    asked = from_run(half_run, None, None, cache)
    assert (asked.name, asked.seed, asked.context) == ("lstm", 0, 48)
    with raises(BadInput, "gru 0 1"):
        from_run(half_run, "gru", None, cache)


def test_a_folder_with_letters_beside_it_is_asked(
    tokenizer: Any, words: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = pretrained.save(tmp_path / "base", llama(), tokenizer)
    model = charembed.attach(llama(), tokenizer, init="normal")
    charembed.save(model, tmp_path / "letters")
    monkeypatch.chdir(tmp_path)
    flags = [
        "base",
        "--suite",
        "letters=reverse",
        "--questions",
        "2",
        "--words",
        str(words),
        "--quiet",
    ]
    assert (
        main([*flags, "--encoder", "letters", "--against", str(base), "--cpu", "--shots", "1"]) == 0
    )
    (out,) = (tmp_path / "evaluations").iterdir()
    direct = evaluate(model, "letters=reverse", questions=2, tokenizer=tokenizer,
                      prompts=FewShotPrompts(words=str(words), shots=1))  # fmt: skip
    lines = map(json.loads, (out / "marks.jsonl").read_text().splitlines())
    assert [line["given"] for line in lines] == given(direct)
    assert (out / "against" / "evaluation.json").is_file()


def test_what_does_not_fit_or_is_empty_is_refused_first(tokenizer: Any, words: Path) -> None:
    model: LanguageModel = HuggingFace(llama())
    prompts = FewShotPrompts(words=str(words))
    asked = from_pretrained(model, HuggingFaceTokenizer(tokenizer), "it", prompts)
    for prompt, message in (
        ("", "empty"),
        ("x" * 999, "400"),
    ):
        item = Item(prompt, " a", "k")
        exam = EvalSet(BenchmarkTask("t", (item,)), "all", [item])
        with raises(BadInput, message):
            asked.check([exam])
    with raises(BadInput, "LlamaForCausalLM"):
        evaluate(llama(), prompts=prompts)
    with raises(BadInput, "str fast"):
        evaluate(llama(), prompts=prompts, tokenizer="base")


def test_what_a_tokenizer_puts_before_a_text_stands_there(tokenizer: Any, words: Path) -> None:
    from tokenizers.processors import TemplateProcessing

    starting = pretrained.train_tokenizer("the letters of the words " * 40)
    starting.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|end|> $A", special_tokens=[("<|end|>", 0)]
    )
    asked: EvaluatedLanguageModel = from_pretrained(
        HuggingFace(llama()), HuggingFaceTokenizer(starting), "it", FewShotPrompts(words=str(words))
    )
    item = Item("the letters", " of", "k")
    exam = EvalSet(BenchmarkTask("t", (item,)), "all", [item])
    assert asked.encode(exam, item) == starting("the letters")["input_ids"]
    assert list(asked.start) == [0]
    assert (
        asked.encode(replace(exam, prompt_format=PromptFormat(opening=" of")), item)
        == starting("the letters of")["input_ids"]
    )


def test_a_tokenizer_that_cannot_write_its_text_is_refused_before_questions(
    tokenizer: Any, words: Path
) -> None:
    """Without a decoder the right answer reads "Ġa Ġn Ġa", so that no answer could be right."""
    mute = copy.deepcopy(tokenizer)
    mute.backend_tokenizer.decoder = decoders.Fuse()
    prompts = FewShotPrompts(words=str(words), shots=1)
    with raises(BadInput, "ĠaĠnĠb decoders.ByteLevel()"):
        evaluate(llama(), "letters=reverse", tokenizer=mute, questions=2, prompts=prompts)
    # choices are scored by likelihood, for which no text is decoded
    assert evaluate(llama(), "langgame", tokenizer=mute, questions=2, prompts=prompts).rows
