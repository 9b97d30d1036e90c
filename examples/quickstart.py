"""Attach character embeddings to a tiny decoder, train it, and fold them into its table.

    python -m examples.quickstart

It takes one or two seconds.
"""

from __future__ import annotations

import torch
from torch import nn

import charembed
from training.models.decoder import Decoder, DecoderConfig

# The bytes of each token; None is a token without a spelling, such as <|end|>.
VOCABULARY = [b"straw", b"berry", b"rasp", b"blue", b" ", b"s", b"t", None]


def main() -> None:
    torch.manual_seed(0)
    model = Decoder(
        DecoderConfig(vocab_size=len(VOCABULARY), context=16, n_layer=1, n_head=2, n_embd=32)
    )
    ids = torch.tensor([[0, 1, 4, 2, 1, 4, 3, 1, 7]])
    before = model.eval()(ids)

    # The new path starts at zero, so the model computes what it did before.
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
    # All character vectors are added to the table; the encoder is no longer needed.
    charembed.fold(model)
    print("folded, logits unchanged:", torch.equal(model(ids), trained))
    left = [name for name in model.state_dict() if "encoder" in name]
    print("modules of charembed in the model:", left or "none")


if __name__ == "__main__":
    main()
