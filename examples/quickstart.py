"""The drop-in in four lines, on a tiny decoder: attach, train, fold. Takes a second or two.

python -m examples.quickstart
"""

from __future__ import annotations

import torch
from torch import nn

import charembed
from training.models.decoder import Decoder, DecoderConfig

VOCABULARY = [
    b"straw",
    b"berry",
    b"rasp",
    b"blue",
    b" ",
    b"s",
    b"t",
    None,
]  # the bytes of each id; None has no letters


def main() -> None:
    torch.manual_seed(0)
    model = Decoder(
        DecoderConfig(vocab_size=len(VOCABULARY), context=16, n_layer=1, n_head=2, n_embd=32)
    )
    ids = torch.tensor([[0, 1, 4, 2, 1, 4, 3, 1, 7]])
    before = model.eval()(ids)

    charembed.attach(model, VOCABULARY, module="wte")
    print("attached, logits unchanged:", torch.equal(model(ids), before))
    optimizer = torch.optim.AdamW(charembed.param_groups(model, lr=1e-2))
    for step in range(21):
        loss = nn.functional.cross_entropy(model.train()(ids[:, :-1]).flatten(0, 1), ids[0, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 10 == 0:
            print(f"step {step:2}  loss {loss.item():.3f} nats")
    with torch.no_grad():
        trained = model.eval()(ids)
    charembed.fold(model)
    print("folded, logits unchanged:", torch.equal(model(ids), trained))
    print(
        "what is left of charembed:",
        [name for name in model.state_dict() if "encoder" in name] or "nothing",
    )


if __name__ == "__main__":
    main()
