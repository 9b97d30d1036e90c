from __future__ import annotations

import json
import re
import string
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from charembed import ENCODERS, AttachError, CharEmbedError, LSTMEncoder, SpellingTable
from charembed.prefixes import Plan, PrefixTree
from charembed.recurrence import last_states
from tests.messages import raises
from tests.plugin.hosts import GPT2, SMALL
from tests.plugin.reference import vectors_one_by_one

# Shared prefixes, no characters, one character, an emoji, cut UTF-8, longer than any max_chars.
VOCABULARY = [
    b"the",
    b"then",
    b"there",
    None,
    b"a",
    "naïve 🍓".encode(),
    b"\xf0\x9f",
    b"b",
    b"ab" * 40,
    b"thex",
    b"",
]
VOCABULARY += ["🍓".encode(), b"th", b"theirs", None]
IDS = torch.arange(len(VOCABULARY))
WITHOUT_CHARACTERS = [3, 10, 14]

kinds = pytest.mark.parametrize("kind", ENCODERS)


def build(
    kind: str, dim: int = 24, vocabulary: list[bytes | None] = VOCABULARY, **arguments: Any
) -> Any:
    """Build a small encoder with vectors that are not zero."""
    unit = getattr(ENCODERS[kind], "unit", "codepoint")
    return ENCODERS[kind](
        SpellingTable.from_bytes(vocabulary, unit),
        dim,
        **{"init": "normal", **SMALL[kind], **arguments},
    )


def shaken(encoder: nn.Module) -> Any:
    """Change biases and all other parameters away from their initial values."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
    return encoder


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.one_of(st.none(), st.text(alphabet="abc", max_size=5).map(str.encode)),
        min_size=1,
        max_size=20,
    ).filter(any),
    st.data(),
)
def test_a_plan_has_exactly_the_nodes_of_its_tokens(
    spellings: list[bytes | None], draw: st.DataObject
) -> None:
    table = SpellingTable.from_bytes(spellings)
    ids = draw.draw(st.lists(st.integers(0, len(spellings) - 1), min_size=1, unique=True))
    plan = PrefixTree.from_spellings(table).plan(torch.tensor(ids))
    texts: list[str] = []
    shorter = [""]
    for chars, parents in zip(
        plan.chars_N.split(plan.sizes), plan.parents_N.split(plan.sizes), strict=True
    ):
        shorter = [
            shorter[parent] + chr(table.alphabet[char])
            for char, parent in zip(chars.tolist(), parents.tolist(), strict=True)
        ]
        texts += shorter
    wanted = [(spellings[i] or b"").decode() for i in ids]
    assert [["", *texts][node] for node in plan.last_U.tolist()] == wanted
    assert sorted(texts) == sorted({word[:n] for word in wanted for n in range(1, len(word) + 1)})
    check_families(plan)


def check_families(plan: Plan) -> None:
    """The nodes with children, and for each node the number of its parent among them."""
    levels = [part.tolist() for part in plan.parents_N.split(plan.sizes)]
    siblings = [part.tolist() for part in plan.siblings_N.split(plan.sizes)]
    inner = [part.tolist() for part in plan.inner_P.split(plan.inner_sizes)]
    first, number = plan.first_P.tolist(), plan.sizes[0]
    assert len(inner) == len(levels)
    assert inner[-1] == []
    for above, parents, ranks in zip(inner, levels[1:], siblings[1:], strict=False):
        assert above == sorted(set(parents))
        assert [above[rank] for rank in ranks] == parents
        assert first[: len(above)] == [number + parents.index(parent) for parent in above]
        first, number = first[len(above) :], number + len(parents)
    assert first == []


@kinds
@pytest.mark.parametrize("init", ["normal", "parent"])
def test_vectors_and_gradients_equal_the_slow_twins(kind: str, init: str) -> None:
    encoder = shaken(build(kind, init=init))
    weights = torch.randn(len(IDS), 24, generator=torch.Generator().manual_seed(1))
    outputs, gradients = [], []
    for output in (encoder(IDS), vectors_one_by_one(encoder, IDS.tolist())):
        encoder.zero_grad()
        (output * weights).sum().backward()
        outputs.append(output.detach())
        gradients.append(
            {name: parameter.grad.clone() for name, parameter in encoder.named_parameters()}
        )
    torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-5, atol=1e-5)
    for name, ours in gradients[0].items():
        theirs = gradients[1][name]
        assert theirs.abs().max() > 0, name
        torch.testing.assert_close(
            ours, theirs, rtol=1e-4, atol=1e-5 * float(theirs.abs().max()), msg=name
        )


@kinds
def test_gradients_pass_gradcheck_in_double_precision(kind: str) -> None:
    sizes = {
        "char_dim": 2,
        "hidden_size": 3,
        "widths": (1, 2),
        "filters": 2,
        "max_chars": 2,
        "heads": 1,
        "layers": 1,
    }
    own = {name: size for name, size in sizes.items() if name in SMALL[kind]}
    encoder = build(kind, 4, [b"ab", b"abc", b"b", None], **own).double()
    used = dict(encoder.named_parameters())
    if kind == "bee":  # three of 256 bytes are used
        used["chars.weight"] = encoder.chars.weight[97:100].detach().requires_grad_()

    def vectors(*values: torch.Tensor) -> torch.Tensor:
        given = dict(zip(used, values, strict=True))
        if kind == "bee":
            given["chars.weight"] = nn.functional.pad(given["chars.weight"], (0, 0, 97, 156))
        result: torch.Tensor = torch.func.functional_call(encoder, given, (torch.arange(4),))
        return result

    assert torch.autograd.gradcheck(vectors, tuple(used.values()))


@kinds
def test_a_token_alone_and_among_others_has_the_same_vector(kind: str) -> None:
    encoder = shaken(build(kind))
    alone = torch.cat([encoder(IDS[i : i + 1]) for i in range(len(IDS))])
    torch.testing.assert_close(encoder(IDS), alone, rtol=1e-5, atol=1e-6)
    order = torch.randperm(len(IDS), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(encoder(IDS[order]), alone[order], rtol=1e-5, atol=1e-6)


@kinds
def test_padding_never_changes_the_vector(kind: str) -> None:
    """A vector is the same beside a longer token and in a row of its own length."""
    words = [b"the", b"a", b"then", b"the" * 9]
    encoder = shaken(build(kind, vocabulary=words))
    together, unit = encoder(torch.arange(4)).detach(), encoder.spellings.unit
    for word, expected in zip(words, together, strict=True):
        encoder.update_spellings(
            SpellingTable.from_bytes([word], unit).over(encoder.spellings.alphabet)
        )
        torch.testing.assert_close(encoder(torch.tensor([0]))[0], expected, rtol=1e-5, atol=1e-6)


@kinds
def test_characters_after_max_chars_are_passed_by(kind: str) -> None:
    words = [b"abcdefghi", b"abcdefghijkl", b"abcdefghz"]  # the first nine characters are used
    same, cut, other = shaken(build(kind, vocabulary=words))(torch.arange(3))
    reads_all = "max_chars" not in SMALL[kind]
    assert torch.allclose(same, cut, rtol=1e-5, atol=1e-6) == (not reads_all)
    assert not torch.allclose(same, other, rtol=1e-2, atol=1e-2)


@kinds
def test_a_token_without_characters_is_exactly_zero_even_alone(kind: str) -> None:
    encoder = shaken(build(kind))
    for ids in (IDS, torch.tensor(WITHOUT_CHARACTERS), torch.tensor(WITHOUT_CHARACTERS[:1])):
        vectors = encoder(ids)
        assert all(
            bool((row == 0).all()) == (int(i) in WITHOUT_CHARACTERS)
            for i, row in zip(ids, vectors, strict=True)
        )
        encoder.zero_grad()
        vectors.sum().backward()
        assert all(
            parameter.grad is not None and parameter.grad.isfinite().all()
            for parameter in encoder.parameters()
        )
    assert torch.equal(
        encoder(torch.tensor([len(IDS), len(IDS) + 9])), torch.zeros(2, 24)
    )  # rows of a grown embedding


@kinds
def test_building_draws_nothing_from_the_global_generator_and_depends_on_the_seed(
    kind: str,
) -> None:
    before = torch.get_rng_state()
    first, again, other = (build(kind, seed=seed) for seed in (0, 0, 1))
    first(IDS)
    assert torch.equal(before, torch.get_rng_state())
    for name, parameter in first.named_parameters():
        assert torch.equal(parameter, again.get_parameter(name)), name
        constant = bool((parameter == parameter.flatten()[0]).all())  # as most biases are
        assert torch.equal(parameter, other.get_parameter(name)) == constant, name


@kinds
def test_zero_init_contributes_nothing_yet_learns(kind: str) -> None:
    encoder = build(kind, init="zero")
    optimizer = torch.optim.SGD(encoder.parameters(), lr=0.1)
    vectors = encoder(IDS)
    assert torch.equal(vectors, torch.zeros_like(vectors))
    (vectors - 1).square().sum().backward()
    optimizer.step()
    assert ((encoder(IDS) != 0).any(dim=1)).tolist() == [
        i not in WITHOUT_CHARACTERS for i in IDS.tolist()
    ]


@kinds
def test_its_config_builds_it_again(kind: str) -> None:
    encoder = build(kind, init="parent", seed=3)
    config = json.loads(json.dumps(encoder.config))
    assert {"init": "parent", "seed": 3}.items() <= config.items()
    again = ENCODERS[kind](encoder.spellings, 24, **config)
    assert again.config == encoder.config
    assert all(
        torch.equal(value, again.state_dict()[name]) for name, value in encoder.state_dict().items()
    )


@kinds
def test_updated_spellings_keep_the_trained_weights(kind: str) -> None:
    encoder = shaken(build(kind))
    before, known = encoder(IDS).detach(), encoder.spellings.alphabet
    parameter = encoder.chars.weight
    grown = SpellingTable.from_bytes(
        [*VOCABULARY, "жук".encode(), b"then"], encoder.spellings.unit
    ).over(known)
    encoder.update_spellings(grown)
    after = encoder(torch.arange(len(VOCABULARY) + 2)).detach()
    torch.testing.assert_close(after[: len(IDS)], before, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(after[-1], before[1], rtol=1e-5, atol=1e-6)
    assert after[-2].abs().sum() > 0
    assert encoder.chars.weight is parameter
    assert len(parameter) == grown.num_chars
    encoder.update_spellings(
        SpellingTable.from_bytes(VOCABULARY[:3], grown.unit).over(grown.alphabet)
    )
    torch.testing.assert_close(encoder(torch.arange(3)), before[:3], rtol=1e-5, atol=1e-6)
    assert torch.equal(encoder(torch.tensor([3, 5])), torch.zeros(2, 24))
    again = ENCODERS[kind](encoder.spellings, 24, **encoder.config)
    again.load_state_dict(encoder.state_dict())
    assert torch.equal(again(torch.arange(3)), encoder(torch.arange(3)))


@kinds
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
def test_half_precision_stays_close(kind: str, dtype: torch.dtype) -> None:
    encoder = shaken(build(kind))
    exact = encoder(IDS).detach()
    rounded = encoder.to(dtype)(IDS)
    assert rounded.dtype == dtype
    torch.testing.assert_close(rounded.float(), exact, rtol=0.1, atol=0.1)
    rounded.float().square().sum().backward()
    assert all(
        parameter.grad.dtype == dtype and parameter.grad.isfinite().all()
        for parameter in encoder.parameters()
    )


@kinds
def test_bf16_autocast_stays_close(kind: str) -> None:
    encoder = shaken(build(kind))
    gradients = []
    for enabled in (False, True):
        encoder.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            vectors = encoder(IDS)
        vectors.float().square().sum().backward()
        gradients.append(
            (
                vectors.detach().float(),
                *(parameter.grad.clone() for parameter in encoder.parameters()),
            )
        )
    for exact, rounded in zip(*gradients, strict=True):
        assert (
            rounded - exact
        ).norm() < 0.1 * exact.norm()  # in a CNN another position may be the maximum
    assert torch.equal(gradients[0][0], gradients[1][0]) == (
        kind == "bee"
    )  # it has no matrix products


@kinds
def test_built_on_meta_it_is_filled_in_place(kind: str) -> None:
    with torch.device("meta"):
        encoder = build(kind)
    assert all(parameter.is_meta for parameter in encoder.parameters())
    with raises(CharEmbedError, "meta load_state_dict"):
        encoder(IDS)
    moved = build(kind).to("meta")
    for empty in (encoder, moved):
        empty.to_empty(device="cpu")
        with torch.no_grad():
            for parameter in empty.parameters():
                parameter.fill_(77)
        empty.reset_parameters()
        assert torch.equal(empty(IDS), build(kind)(IDS))
    with torch.device("meta"):
        encoder, other = build(kind), build(kind)
    assert torch.equal(other.to_empty(device="cpu")(IDS), moved(IDS))  # it is still without values
    with torch.device("meta"):
        other = build(kind, init="zero")
    nn.utils.vector_to_parameters(
        nn.utils.parameters_to_vector(moved.parameters()), other.to_empty(device="cpu").parameters()
    )
    assert torch.equal(other(IDS), moved(IDS))
    encoder.load_state_dict(moved.state_dict(), assign=True)
    assert torch.equal(encoder(IDS), moved(IDS))


BAD: dict[str, list[tuple[str, Any]]] = {
    "lstm": [("char_dim", 0), ("hidden_size", -3)],
    "gru": [("char_dim", 2.5), ("hidden_size", "8")],
    "cnn": [("widths", 3), ("widths", ()), ("filters", 0)],
    "bag": [("char_dim", None), ("max_chars", 0)],
    "bee": [("max_chars", 0), ("max_chars", True)],
    "transformer": [("heads", 0), ("layers", -1), ("char_dim", 2.5), ("heads", "2")],
}


@kinds
def test_bad_arguments_are_refused(kind: str) -> None:
    for name, value in BAD[kind]:
        said = f"{name} {value!r}"
        with raises(AttachError, said):
            build(kind, **{name: value})
        model = GPT2()
        with raises(AttachError, said):
            GPT2.attach(model, encoder=kind, **{name: value})
        assert type(model.transformer.wte) is nn.Embedding
    with raises(AttachError, "init quiet zero parent"):
        build(kind, init="quiet")
    with raises(AttachError, f"{kind} width init seed"):
        GPT2.attach(GPT2(), encoder=kind, width=3)


def test_sizes_that_do_not_fit_each_other_are_refused() -> None:
    with raises(AttachError, "char_dim 9 2"):
        build("transformer", char_dim=9)
    with raises(AttachError, "widths 0 1"):
        build("cnn", widths=(1, 0))
    with raises(AttachError, "7 bee"):
        build("bee", 7)


DOCUMENTED = {
    "lstm": "A E + 4H (E + H + 2) + D (H + 1)",
    "gru": "A E + 3H (E + H + 2) + D (H + 1)",
    "cnn": "A E + K E (sum of widths) + F + 2F (F + 1) + D (F + 1)",
    "bag": "A E + D (E + 1)",
    "bee": "A D",
    "transformer": "A E + C E + layers * (12 E E + 9 E) + D (E + 1)",
}
LETTERS = {
    "char_dim": "E",
    "hidden_size": "H",
    "filters": "K",
    "max_chars": "C",
    "layers": "layers",
}


@kinds
def test_the_documented_number_of_parameters_is_true(kind: str) -> None:
    assert f"{DOCUMENTED[kind]} parameters" in " ".join((ENCODERS[kind].__doc__ or "").split())
    encoder, sizes = build(kind), SMALL[kind]
    values = {"A": encoder.spellings.num_chars, "D": 24, "S": sum(sizes.get("widths", ()))}
    values |= {LETTERS[name]: size for name, size in sizes.items() if name in LETTERS}
    values["F"] = values.get("K", 0) * len(sizes.get("widths", ()))
    product = re.sub(
        r"(?<=[0-9A-Z)]) ?(?=[A-Z(])", "*", DOCUMENTED[kind].replace("(sum of widths)", "S")
    )
    assert sum(parameter.numel() for parameter in encoder.parameters()) == eval(product, values)


def test_the_lstms_number_at_its_default_sizes_is_true() -> None:
    assert "231,168 + 128 A at the default sizes and D = 768" in " ".join(
        (LSTMEncoder.__doc__ or "").split()
    )
    encoder = LSTMEncoder(SpellingTable.from_bytes([b"abc"]), 768)
    assert sum(p.numel() for p in encoder.parameters()) == 231_168 + 128 * 3


def test_the_parents_character_path_has_161408_parameters() -> None:
    table = SpellingTable.from_bytes([character.encode() for character in string.printable])
    assert sum(p.numel() for p in LSTMEncoder(table, 128, init="parent").parameters()) == 161_408


@kinds
def test_it_learns_the_last_letter_unless_it_cannot(kind: str) -> None:
    words = [f"{a}{b}{c}".encode() for a in "abcd" for b in "abcd" for c in "abcd"]
    own = {name: 16 for name in ("char_dim", "hidden_size", "filters") if name in SMALL[kind]}
    encoder, head = build(kind, vocabulary=words, **own), nn.Linear(24, 4)
    targets = torch.tensor([word[-1] - ord("a") for word in words])
    seen = torch.randperm(64, generator=torch.Generator().manual_seed(0))[:32]
    optimizer = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=0.03)
    for _ in range(80):
        optimizer.zero_grad()
        nn.functional.cross_entropy(head(encoder(seen)), targets[seen]).backward()
        optimizer.step()
    right = float((head(encoder(torch.arange(64))).argmax(1) == targets).float().mean())
    assert (right > 0.9) == (kind != "bag"), right  # a bag has no last letter


LARGE = [f"{chr(0x4E00 + i)}{'abc'[i % 3]}{chr(0x4E00 + i // 7)}" for i in range(3_000)]
recurrent = pytest.mark.parametrize("kind", ["lstm", "gru"])


@recurrent
def test_a_step_costs_the_same_whatever_the_size_of_the_alphabet(kind: str) -> None:
    costs = []
    for words in (LARGE, LARGE[:50]):
        encoder = build(kind, vocabulary=[word.encode() for word in words])
        with FlopCounterMode(display=False) as counter:
            encoder(torch.arange(20)).sum().backward()
        costs.append(counter.get_total_flops())
    assert costs[0] == costs[1]


@recurrent
def test_vectors_and_gradients_of_a_large_alphabet_equal_the_slow_twins(kind: str) -> None:
    words: list[bytes | None] = [word.encode() for word in LARGE]
    encoder = shaken(build(kind, vocabulary=[*words, None])).double()
    ids = torch.tensor([2_999, 5, 17, 3_000, 18, 5, 2_998])
    weights = torch.randn(len(ids), 24, dtype=torch.float64)
    outputs, gradients = [], []
    for output in (encoder(ids), vectors_one_by_one(encoder, ids.tolist())):
        encoder.zero_grad()
        (output * weights).sum().backward()
        outputs.append(output.detach())
        gradients.append({name: p.grad.clone() for name, p in encoder.named_parameters()})
    torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-12, atol=1e-12)
    for name, ours in gradients[0].items():
        torch.testing.assert_close(ours, gradients[1][name], rtol=1e-11, atol=1e-12, msg=name)
    assert int((gradients[0]["chars.weight"] != 0).any(1).sum()) == len(
        set("".join(LARGE[i] for i in (2_999, 5, 17, 18, 2_998)))
    )


@recurrent
def test_autocast_rounds_the_products_and_not_the_states(kind: str) -> None:
    encoder = shaken(build(kind))
    plan = encoder.token_chars.plan(IDS)
    exact = last_states(kind, encoder.weights(), plan)
    with torch.autocast("cpu", torch.bfloat16):
        states = last_states(kind, encoder.weights(), plan)
    assert states.dtype == torch.float32
    assert 0 < (states - exact).abs().max() < 0.05
    assert not torch.equal(states, states.bfloat16().float())


@recurrent
def test_a_second_backward_pass_adds_the_same_gradients(kind: str) -> None:
    encoder = shaken(build(kind))
    loss = encoder(IDS).square().sum()
    loss.backward(retain_graph=True)
    once = [parameter.grad.clone() for parameter in encoder.parameters()]
    loss.backward()
    for parameter, gradient in zip(encoder.parameters(), once, strict=True):
        assert torch.equal(parameter.grad, 2 * gradient)


@recurrent
def test_another_projection_still_gives_zeros_without_characters(kind: str) -> None:
    encoder = shaken(build(kind))
    encoder.projection = nn.Sequential(nn.Linear(encoder.projection.weight.shape[1], 24), nn.Tanh())
    vectors = encoder(IDS)
    vectors.sum().backward()
    assert torch.equal(vectors[WITHOUT_CHARACTERS], torch.zeros(3, 24))
    assert (vectors != 0).any(1).sum() == len(IDS) - 3


def test_a_subclass_with_a_read_of_its_own_gives_zeros_without_characters() -> None:
    class Shifted(LSTMEncoder):
        def read(self, ids_U: torch.Tensor) -> torch.Tensor:
            return super().read(ids_U) + 1

    class Same(LSTMEncoder):
        pass

    encoders = [shaken(kind(SpellingTable.from_bytes(VOCABULARY), 24)) for kind in (Shifted, Same)]
    vectors = [encoder(IDS) for encoder in encoders]
    assert torch.equal(vectors[0][WITHOUT_CHARACTERS], torch.zeros(3, 24))
    assert torch.equal(vectors[0][:3], vectors[1][:3] + 1)
