"""Training on characters alone: tokens whose rows are dropped, and words that have none."""

from __future__ import annotations

import copy
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import charembed
from charembed import AttachError, CharEmbedding, CharEmbedError, SpellingTable
from charembed.embedding import attached
from tests.messages import raises
from tests.plugin.hosts import NANOGPT, VOCABULARY, Host, V, char_embedding, logits_of

IDS = torch.arange(V).repeat(2, 1)  # each token twice


def dropping(share: float, host: Host = NANOGPT) -> CharEmbedding:
    """The embedding of a model in training mode, with character vectors that are not zero."""
    model = host.attach(host(), init="normal", row_dropout=share)
    return char_embedding(model.train())


def dropped_of(embedding: CharEmbedding) -> list[bool]:
    """By token, whether its vector is the mean row and its character vector, wherever it occurs."""
    with torch.no_grad():
        vectors = embedding(IDS)
        own = embedding.table()
        bare = embedding.table() - embedding.weight + embedding.weight.mean(0)
    found = []
    for token in range(V):
        first, second = vectors[:, token]
        assert torch.equal(first, second), "equal ids of a batch are dropped together"
        dropped = torch.allclose(first, bare[token], atol=1e-5)
        assert dropped or torch.allclose(first, own[token], atol=1e-5)
        found.append(dropped)
    return found


def test_a_share_of_the_rows_is_dropped_in_training_alone() -> None:
    embedding = dropping(0.5)
    share = sum(dropped_of(embedding)) / V
    assert 0.5 - 3 / V**0.5 < share < 0.5 + 3 / V**0.5
    assert dropped_of(embedding) != dropped_of(embedding), "drawn anew"
    embedding.eval()
    assert not any(dropped_of(embedding))
    embedding.train().row_dropout = 0.0
    assert not any(dropped_of(embedding))


def test_a_seed_drops_the_same_rows_again() -> None:
    embedding = dropping(0.5)
    embedding.row_dropout_seed = 3
    before, state = dropped_of(embedding), torch.get_rng_state()
    assert dropped_of(embedding) == before
    assert torch.equal(torch.get_rng_state(), state)
    embedding.row_dropout_seed = 4
    assert dropped_of(embedding) != before


def test_a_dropped_row_gets_no_gradient_and_its_characters_do() -> None:
    embedding = dropping(0.5)
    embedding.row_dropout_seed = 3
    dropped = torch.tensor(dropped_of(embedding))
    embedding(IDS).pow(2).sum().backward()
    assert embedding.weight.grad is not None
    assert dropped.any()
    assert embedding.weight.grad[dropped].eq(0).all()
    assert embedding.weight.grad[~dropped].ne(0).any(1).all()
    assert all(p.grad is not None and p.grad.any() for p in embedding.encoder.parameters())


def test_every_host_trains_with_dropped_rows_and_evaluates_without(host: Host) -> None:
    model = host.attach(host(), init="normal", row_dropout=0.5)
    expected = logits_of(model.eval())
    assert not torch.allclose(logits_of(model.train()), expected)
    torch.testing.assert_close(logits_of(model.eval()), expected, rtol=0, atol=0)


def test_a_compiled_step_drops_rows() -> None:
    embedding = dropping(0.5)
    compiled = torch.compile(embedding, backend="eager", fullgraph=True)
    assert not torch.allclose(compiled(IDS), embedding.table())


def test_a_compiled_step_drops_the_rows_of_each_seed_with_one_graph() -> None:
    embedding, graphs = dropping(0.5), list[Any]()

    def backend(graph: Any, _: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    compiled = torch.compile(embedding, backend=backend, fullgraph=True)
    for seed in [*range(12), None]:
        embedding.row_dropout_seed = seed
        torch.manual_seed(0)
        found = compiled(IDS)
        torch.manual_seed(0)
        torch.testing.assert_close(found, embedding(IDS))
    assert len(graphs) == 1


def test_tokens_without_characters_keep_their_rows() -> None:
    embedding = dropping(0.99)
    for _ in range(20):
        dropped = dropped_of(embedding)
        assert sum(dropped) > V / 2
        assert not dropped[VOCABULARY.index(None)]


@pytest.mark.parametrize("share", [Fraction(1, 2), torch.tensor([0.5]).numpy()[0], 0])
def test_any_real_number_is_a_share(share: Any) -> None:
    assert dropping(share).row_dropout == float(share)


@pytest.mark.parametrize("share", [-0.1, 1.0, 25, float("nan"), "0.5"])
def test_a_share_outside_of_its_bounds_is_refused(share: Any) -> None:
    model = NANOGPT()
    with raises(AttachError, f"{share} below 1"):
        NANOGPT.attach(model, row_dropout=share)
    assert not attached(model)


def test_a_released_embedding_knows_nothing_of_it() -> None:
    embedding = dropping(0.5)
    assert not [name for name in vars(embedding.release()) if name.startswith("row_dropout")]


# Words without a row


def test_a_word_without_a_row_is_the_mean_row_and_its_characters() -> None:
    embedding = dropping(0.0)
    table, letters = embedding.table(), embedding.spellings
    word = b"".join(spelling for spelling in letters.to_bytes()[40:44] if spelling)
    with embedding.whole_words([word, word[:1]]) as first:
        assert first == V
        long, short = embedding(torch.tensor([[V, V + 1]]))[0]
        known = embedding(IDS)[0]
        with raises(CharEmbedError, f"{V + 2} {V} 2"):
            embedding(torch.tensor([V + 2]))
        character = embedding.encoder(torch.tensor([V, V + 1]))
    torch.testing.assert_close(long, embedding.weight.mean(0) + character[0])
    torch.testing.assert_close(short, embedding.weight.mean(0) + character[1])
    torch.testing.assert_close(known, table)
    assert embedding.spellings is letters
    with raises(CharEmbedError, str(V)):
        embedding(torch.tensor([V]))


def test_the_encoder_learns_from_words_without_a_row_and_the_table_does_not_grow() -> None:
    embedding = dropping(0.0)
    with embedding.whole_words([b"aba", b"bab"]):
        embedding(torch.tensor([[V, V + 1, 3]])).pow(2).sum().backward()
    assert embedding.weight.grad is not None
    assert embedding.weight.grad.shape == embedding.weight.shape
    assert embedding.weight.grad.any(1).nonzero().flatten().tolist() == [3]
    assert all(p.grad is not None and p.grad.any() for p in embedding.encoder.parameters())


def test_evaluation_within_the_block_knows_the_vocabulary_alone() -> None:
    embedding = dropping(0.0)
    expected = embedding.eval()(IDS)
    with embedding.whole_words([b"aba"]):
        torch.testing.assert_close(embedding(IDS), expected, rtol=0, atol=0)
        with raises(CharEmbedError, f"{V} train()"):
            embedding(torch.tensor([V]))


def test_every_host_reads_words_without_a_row(host: Host) -> None:
    model = host.attach(host(), init="normal", row_dropout=0.25).train()
    ids = torch.tensor([[1, 2, V, 3, V + 1]])
    with char_embedding(model).whole_words([b"aba", b"bab"]):
        logits = logits_of(model, torch.where(ids < V, ids, 0)), model_logits(model, ids)
    assert logits[0].shape == logits[1].shape
    assert not torch.allclose(*logits)


def model_logits(model: nn.Module, ids: Tensor) -> Tensor:
    """The logits of ids that are no targets."""
    found = model(ids)
    return found if isinstance(found, Tensor) else getattr(found, "logits", found[0])


def test_words_of_unknown_characters_are_refused_and_nothing_changes() -> None:
    embedding = dropping(0.0)
    letters = embedding.spellings
    with raises(AttachError, "1 ☃"), embedding.whole_words(["☃".encode()]):
        pass
    assert embedding.spellings is letters
    assert embedding.num_words == 0


WORDS = [b"aba", b"bab"]


def test_a_block_within_a_block_has_ids_of_its_own() -> None:
    embedding = dropping(0.0)
    ids, letters = torch.tensor([V, V + 1]), embedding.spellings
    with embedding.whole_words(WORDS) as first:
        outer = embedding(ids)
        with embedding.whole_words([b"ab", b"the"]) as second:
            assert (first, second) == (V, V + 2)
            torch.testing.assert_close(embedding(ids), outer)
            inner = embedding(ids + 2)
        assert embedding.num_words == 2
        torch.testing.assert_close(embedding(ids), outer)
    with embedding.whole_words([b"ab", b"the"]):
        torch.testing.assert_close(embedding(ids), inner)
    assert (embedding.num_words, embedding.spellings) == (0, letters)


def test_words_can_be_any_iterable() -> None:
    embedding = dropping(0.0)
    with embedding.whole_words(iter(WORDS)):
        assert embedding.num_words == 2


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_error_within_the_block_ends_the_words(error: type[BaseException]) -> None:
    embedding = dropping(0.0)
    letters = embedding.spellings
    with pytest.raises(error), embedding.whole_words(WORDS):
        raise error
    assert (embedding.num_words, embedding.spellings) == (0, letters)


def test_a_model_is_saved_within_the_block_as_outside(tmp_path: Path) -> None:
    model = NANOGPT.attach(NANOGPT(), init="normal")
    charembed.save(model, tmp_path / "outside")
    with char_embedding(model).whole_words(WORDS):
        charembed.save(model, tmp_path / "inside")
        twin = copy.deepcopy(model)
    charembed.save(twin, tmp_path / "copy")  # the copy keeps the words
    (expected,) = [path.read_bytes() for path in (tmp_path / "outside").iterdir()]
    for name in ("inside", "copy"):
        assert [path.read_bytes() for path in (tmp_path / name).iterdir()] == [expected]
    charembed.update_spellings(twin, VOCABULARY)
    assert char_embedding(twin).num_words == 0


@pytest.mark.parametrize("plain", [charembed.fold, charembed.detach])
def test_the_encoder_can_be_removed_within_the_block(plain: Any) -> None:
    expected = logits_of(plain(NANOGPT.attach(NANOGPT(), init="normal")).eval())
    model = NANOGPT.attach(NANOGPT(), init="normal").eval()
    with char_embedding(model).whole_words(WORDS):
        plain(model)
    torch.testing.assert_close(logits_of(model), expected, rtol=0, atol=0)


def test_new_spellings_end_the_words() -> None:
    model = NANOGPT.attach(NANOGPT(), init="normal").train()
    embedding = char_embedding(model)
    new = SpellingTable.from_bytes([*VOCABULARY[:-1], b"them"])
    with embedding.whole_words(WORDS):
        charembed.update_spellings(model, new)
        with raises(CharEmbedError, f"{V}"):
            embedding(torch.tensor([V]))
    assert embedding.spellings.to_bytes() == new.to_bytes()
