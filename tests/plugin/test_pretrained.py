"""init "pretrained", the scale of the vectors, and warm_up."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import charembed
from charembed import AttachError, SpellingHeads, SpellingTable
from charembed.encoders.pretrained import HIDDEN_SIZE, PATH
from charembed.scale import SCALE
from charembed.spelling_loss import ids_with_characters, spelling_targets
from tests.laboratory import pretrained
from tests.messages import raises
from tests.plugin.hosts import IDS, TABLE, NanoGPT
from training.data.corpus import load_words
from training.train.loss import letters_read

WORDS = [b" " + word.encode() for word in load_words("wordsegment", 6000)]
PRETRAINED: dict[str, Any] = {"init": "pretrained"}


class Host(nn.Module):
    """A model with an embedding alone."""

    def __init__(self, rows: int, width: int = 192) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.wte = nn.Embedding(
            rows, width, _weight=0.3 * torch.randn(rows, width, generator=generator)
        )

    def get_input_embeddings(self) -> nn.Embedding:
        return self.wte


def vectors(model: Any) -> Tensor:
    with torch.no_grad():
        return model.wte.table() - model.wte.weight.detach()


def spread(rows: Tensor) -> float:
    """Return the standard deviation around the mean row."""
    return float((rows.detach() - rows.detach().mean(0)).float().square().mean().sqrt())


def linear_reading(vectors_VD: Tensor, letters_V: Tensor) -> float:
    """Return the share of characters that a linear map predicts.

    It is fitted by least squares to the even tokens and tested on the odd ones.
    """
    x = torch.cat([vectors_VD / vectors_VD.std(), torch.ones(len(vectors_VD), 1)], 1).double()
    y = nn.functional.one_hot(letters_V).double()
    ridge = x[::2].T @ x[::2] + 0.1 * torch.eye(x.shape[1], dtype=torch.float64)
    found = x[1::2] @ torch.linalg.solve(ridge, x[::2].T @ y[::2])
    return float((found.argmax(1) == letters_V[1::2]).double().mean())


def test_the_characters_of_unseen_tokens_are_decoded_linearly() -> None:
    table = SpellingTable.from_bytes(WORDS)
    added = vectors(charembed.attach(Host(len(WORDS)), table, **PRETRAINED))
    random = vectors(charembed.attach(Host(len(WORDS)), table, init="normal"))
    for place, least, fresh in ((1, 0.95, 1.0), (3, 0.9, 0.7), (-1, 0.95, 1.0), (-3, 0.9, 0.95)):
        letters = torch.tensor([word[place] - 97 for word in WORDS if len(word) > 4])
        rows = torch.tensor([len(word) > 4 for word in WORDS])
        assert linear_reading(added[rows], letters) > least, place
        assert linear_reading(random[rows], letters) < fresh, place


def test_a_new_script_gets_vectors_that_tell_its_tokens_apart() -> None:
    tokens = [text.encode() for text in ("ჭადრაკი", "ჭადრაკო", "მზე", "მზა")]
    added = vectors(charembed.attach(Host(4), tokens, **PRETRAINED))
    apart = torch.cdist(added, added) + 99 * torch.eye(4)
    assert float(apart.min()) > 0.1 * float(added.norm(dim=1).mean())


@pytest.mark.parametrize("scale", [0.25, 0.5, 2.0])
def test_the_scale_is_relative_to_the_token_table(scale: float) -> None:
    tokens = [*WORDS[:500], None]
    model = charembed.attach(Host(501), tokens, **PRETRAINED, scale=scale)
    added = vectors(model)
    assert abs(spread(added[:500]) / spread(model.wte.weight[:500]) - scale) < 1e-4 * scale
    assert float(added[:500].mean(0).abs().max()) < 1e-5
    assert not added[500].any(), "a special token has no letters"
    charembed.set_scale(model, 2 * scale)
    torch.testing.assert_close(vectors(model), 2 * added, rtol=1e-4, atol=1e-6)


def test_pretrained_vectors_have_a_default_scale_and_zero_disables_them() -> None:
    tokens = WORDS[:300]
    usual = vectors(charembed.attach(Host(300), tokens, **PRETRAINED))
    assert torch.equal(
        usual, vectors(charembed.attach(Host(300), tokens, **PRETRAINED, scale=SCALE))
    )
    zero = charembed.attach(Host(300), tokens, **PRETRAINED, scale=0)
    assert not vectors(zero).any()
    torch.testing.assert_close(vectors(charembed.set_scale(zero, SCALE)), usual)


def test_the_seed_makes_the_projection_and_nothing_else_is_drawn() -> None:
    state = torch.get_rng_state()
    one, same, other = (
        vectors(charembed.attach(Host(300), WORDS[:300], **PRETRAINED, seed=seed))
        for seed in (1, 1, 2)
    )
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(one, same)
    assert not torch.allclose(one, other)


def test_characters_that_come_later_are_those_that_were_there_from_the_start() -> None:
    tokens = [b"ab", b"ba", "aß".encode()]
    late = charembed.attach(Host(3), [*tokens[:2], b"b"], **PRETRAINED, seed=5, scale=None)
    charembed.update_spellings(late, tokens)
    charembed.set_scale(late)
    torch.testing.assert_close(
        vectors(late), vectors(charembed.attach(Host(3), tokens, **PRETRAINED, seed=5))
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_half_and_double_precision_hosts_are_attached(dtype: torch.dtype) -> None:
    model = charembed.attach(Host(300).to(dtype), WORDS[:300], **PRETRAINED)
    assert model.wte.table().dtype == dtype
    assert abs(spread(vectors(model)) / spread(model.wte.weight) - SCALE) < 0.02


@pytest.mark.filterwarnings("ignore:.* rows have no characters")
@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_pretrained_families_are_attached_and_folded(
    family: str, dtype: torch.dtype, tmp_path: Any
) -> None:
    model = (
        getattr(pretrained, family)().to(dtype).eval()
    )  # their tables have more rows than the tokenizer has tokens
    tokenizer = pretrained.train_tokenizer(
        "the straw berry and the strawberry by the blue berry. " * 40
    )
    ids = torch.tensor([tokenizer("the strawberry")["input_ids"]])
    before = model(ids).logits
    charembed.attach(model, tokenizer, init="pretrained")
    with_letters = model(ids).logits
    assert not torch.equal(with_letters, before)
    with charembed.disabled(model):
        assert torch.equal(model(ids).logits, before)
    charembed.fold(model).save_pretrained(tmp_path)
    assert torch.equal(
        type(model).from_pretrained(tmp_path, dtype=dtype).eval()(ids).logits, with_letters
    )


@torch.no_grad()
def test_pretrained_encoders_are_saved_loaded_and_folded(tmp_path: Any) -> None:
    model = charembed.attach(
        NanoGPT(tie=True), TABLE, module="transformer.wte", **PRETRAINED
    ).eval()
    expected = model(IDS)[0]
    charembed.save(model, tmp_path)
    fresh = NanoGPT(tie=True).eval()
    plain = {name: value for name, value in model.state_dict().items() if ".encoder." not in name}
    fresh.load_state_dict(plain)
    assert torch.equal(charembed.load(fresh, TABLE, tmp_path)(IDS)[0], expected)
    assert torch.equal(charembed.fold(model)(IDS)[0], expected)


# Bit-equality is promised without gradients: with them, the vectors of a batch are encoded alone.
@torch.no_grad()
def test_a_fold_that_fails_leaves_everything_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = pretrained.train_tokenizer(" ".join(word.decode() for word in WORDS[:300]))
    model = charembed.attach(pretrained.llama().eval(), tokenizer, init="pretrained")
    ids, embedding, head = (
        torch.arange(8)[None],
        model.get_input_embeddings(),
        model.get_output_embeddings(),
    )
    before = model(ids).logits

    def fails(*args: Any) -> None:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(copy, "deepcopy", fails)  # of the config
        with pytest.raises(MemoryError):
            charembed.fold(model)
    assert isinstance(model.get_input_embeddings(), charembed.CharEmbedding)
    assert head.weight is embedding.weight
    assert model.config.tie_word_embeddings
    assert torch.equal(model(ids).logits, before)
    assert torch.equal(charembed.fold(model)(ids).logits, before)
    assert not model.config.tie_word_embeddings


def test_the_file_is_small_and_its_sizes_are_the_encoders() -> None:
    assert PATH.stat().st_size <= 2_000_000
    assert (
        charembed.attach(Host(300), WORDS[:300], **PRETRAINED).wte.encoder.sizes["hidden_size"]
        == HIDDEN_SIZE
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"init": "pretrained", "hidden_size": 64}, "char_dim=128 hidden_size=256 128"),
        ({"init": "pretrained", "encoder": "gru"}, "parent charembed.warm_up"),
        ({"init": "pretrained", "scale": -1}, "-1 0 0.35"),
        ({"init": "pretrained", "scale": float("nan")}, "nan"),
        ({"init": "pretrained", "scale": "high"}, "high"),
        ({"scale": 0.5}, "init zero"),
        ({"encoder": "bee", "init": "normal", "scale": 0.5}, "BeeEncoder projection"),
    ],
)  # fmt: skip
def test_bad_arguments_are_refused_and_change_nothing(
    arguments: dict[str, Any], message: str
) -> None:
    model = Host(300)
    with raises(AttachError, message):
        charembed.attach(model, WORDS[:300], **arguments)
    assert type(model.wte) is nn.Embedding


def test_a_table_on_the_meta_device_has_no_scale_yet() -> None:
    with torch.device("meta"):
        model = nn.Module()
        model.wte = nn.Embedding(300, 16)
    with raises(AttachError, "meta"):
        charembed.attach(model, WORDS[:300], module="wte", **PRETRAINED)
    charembed.attach(
        model, WORDS[:300], module="wte", **PRETRAINED, scale=None
    )  # the fix in the message
    model.to_empty(device="cpu")
    torch.nn.init.normal_(model.wte.weight)
    charembed.set_scale(model, 0.5)
    assert spread(vectors(model)) == pytest.approx(0.5 * spread(model.wte.weight), rel=1e-3)


def test_values_that_are_not_finite_are_refused() -> None:
    model = charembed.attach(Host(300), WORDS[:300], **PRETRAINED)
    before = vectors(model)
    with raises(AttachError, "1e+300 torch.float32"):
        charembed.set_scale(model, 1e300)
    row = model.wte.weight[7].detach().clone()
    with torch.no_grad():
        model.wte.weight[7] = torch.nan
        with raises(AttachError, "table finite"):
            charembed.set_scale(model)
        model.wte.weight[7] = row
    assert torch.equal(vectors(model), before)
    broken = Host(300)
    with torch.no_grad():
        broken.wte.weight[7] = torch.nan
    with raises(AttachError, "table finite"):
        charembed.attach(broken, WORDS[:300], **PRETRAINED)
    assert type(broken.wte) is nn.Embedding


def test_without_an_encoder_there_is_no_scale_and_no_warm_up() -> None:
    for call in (charembed.set_scale, charembed.warm_up):
        with raises(AttachError, "CharEmbedding"):
            call(Host(10))


@pytest.mark.parametrize("encoder", ["lstm", "cnn"])
def test_a_warm_up_teaches_any_encoder_to_spell(encoder: str) -> None:
    sizes = {"lstm": {"hidden_size": 64}, "cnn": {}}[encoder]
    model = charembed.attach(Host(400), WORDS[:400], encoder=encoder, init="normal", **sizes)
    told: list[float] = []
    state = torch.get_rng_state()
    charembed.warm_up(
        model, steps=120, tokens=128, progress=lambda step, steps, loss: told.append(loss)
    )
    assert torch.equal(state, torch.get_rng_state())
    assert len(told) == 120
    assert told[-1] < 0.5 * told[0]
    assert abs(spread(vectors(model)) / spread(model.wte.weight) - SCALE) < 0.01


def test_an_interrupted_warm_up_leaves_the_encoder_as_it_was() -> None:
    model = charembed.attach(Host(300), WORDS[:300], init="normal", hidden_size=16)
    before = vectors(model)

    def interrupt(step: int, steps: int, loss: float) -> None:
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        charembed.warm_up(model, steps=9, progress=interrupt)
    assert torch.equal(vectors(model), before)
    for arguments, message in (
        ({"steps": 0}, "steps 0 1"),
        ({"tokens": 1.5}, "tokens 1.5"),
        ({"scale": -1.0}, "-1.0"),
        ({"scale": True}, "True"),
        ({"lr": float("inf")}, "lr inf 0"),
        ({"lr": "fast"}, "lr fast"),
    ):
        with raises(AttachError, message):
            charembed.warm_up(model, **arguments)
    told: list[int] = []
    bee = charembed.attach(Host(300), WORDS[:300], encoder="bee", init="normal")
    with raises(AttachError, "BeeEncoder projection"):
        charembed.warm_up(bee, progress=lambda step, steps, loss: told.append(step))
    assert not told, "before time is spent"
    for parameter in charembed.parameters(model):
        parameter.requires_grad_(False)
    with raises(AttachError, "frozen"):
        charembed.warm_up(model)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_encoders_of_any_precision_are_warmed_up(dtype: torch.dtype) -> None:
    model = charembed.attach(Host(300), WORDS[:300], init="normal", hidden_size=16).to(dtype)
    letters = charembed.parameters(model)
    letters[0].grad = gradient = torch.ones_like(letters[0])
    told: list[float] = []
    with torch.inference_mode():
        charembed.warm_up(model, steps=40, progress=lambda step, steps, loss: told.append(loss))
    assert told[-1] < told[0]
    assert {parameter.dtype for parameter in letters} == {dtype}
    assert letters[0].grad is gradient
    assert all(parameter.grad is None for parameter in letters[1:])
    model.wte(torch.tensor([5, 6])).sum().backward()


def test_heads_trained_on_one_vocabulary_work_on_another() -> None:
    one, other = (
        SpellingTable.from_bytes(WORDS[part]) for part in (slice(0, 4000, 2), slice(1, 4000, 2))
    )
    known, unknown = (
        charembed.attach(Host(2000), table, **PRETRAINED, scale=None, seed=3).wte.encoder
        for table in (one, other)
    )
    heads, same = (SpellingHeads(table, 192, seed=0, from_end=0) for table in (one, other))
    optimizer = torch.optim.Adam(heads.parameters(), lr=1e-2)
    ids = ids_with_characters(one)
    added = known(ids).detach()
    for _ in range(60):
        optimizer.zero_grad()
        (heads(added, ids) / heads.num_targets(ids)).backward()
        optimizer.step()
    same.heads.load_state_dict(heads.heads.state_dict())
    letters, _ = letters_read(unknown, same, ids)
    assert letters > 0.9


def test_spelling_targets_count_from_both_ends() -> None:
    table = SpellingTable.from_bytes([b"the", b"he", None])
    e, h, t = (table.alphabet.index(ord(letter)) for letter in "eht")
    end, none = len(table.alphabet), -100
    assert spelling_targets(table, 5, 3).tolist() == [
        [t, h, e, end, none, e, h, t],
        [h, e, end, none, none, e, h, end],
        [none] * 8,
    ]
