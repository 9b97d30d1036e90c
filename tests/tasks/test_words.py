"""Usable words, the reasons for leaving words out, and the splits."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthetic_tasks import (
    SPLITS,
    WordSplits,
    build_task,
    one_list,
    sort_words,
    split_words,
    stream,
    usable_words,
)
from synthetic_tasks.samples import SAMPLE_WORDS
from synthetic_tasks.task import ANSWER_FORMS, Material
from synthetic_tasks.words import describe_left_out, num_letters, vary_form
from tests.messages import raises
from tests.tasks.test_synthetic_tasks import WORDS, built
from training.data.prepare import Data

LONG = [f"{a}{b}toolong" for a in ("abc", "xyz", "abd") for b in ("xy", "yz")]
JUNK = {
    "": "empty",
    "  ": "empty",
    "a": "shorter than 3 letters",
    "a" * 10_000: "longer than 13 letters",
    "🍓berry": "with other characters",
    "👩‍👩‍👧": "with control characters",  # joined by U+200D
    "te\0a": "with control characters",
    "tea\n": "with control characters",
    "two words": "with other characters",
    "don't": "with other characters",
    "\ud800lone": "with control characters",
    "q\u030aqqq": "with combining marks",  # no single character is a q with a ring
    "שלום": "from right to left",
    "مرحبا": "from right to left",
    "日本語": "with other characters",
    "١٢٣": "from right to left",
    "12345": "without a letter",
}
MIXED = ("Paris", "NASA", "naïve", "cafe\u0301", "r2d2", "Straße", "Ωμέγα")


@pytest.mark.parametrize("forms", ["lower", "mixed"])
def test_junk_is_counted_by_its_reason_and_never_used(forms: str) -> None:
    usable, left_out = sort_words([*JUNK, "tea", "tea", *MIXED], 3, 13, forms)
    reasons = dict.fromkeys(JUNK.values(), 0)
    for reason in JUNK.values():
        reasons[reason] += 1
    expected = {**reasons, "twice": 1}
    if forms == "lower":
        assert usable == ["tea"]
        expected |= {"with capitals, digits or accents": len(MIXED)}
        assert (
            expected.pop("without a letter") == 1
        )  # it has capitals, digits or accents in this view
        expected["without a letter"] = 1
    else:
        assert usable == [
            vary_form("tea"),
            *(unicodedata.normalize("NFC", word) for word in MIXED),
        ]
    assert left_out == expected
    assert describe_left_out(left_out).startswith(f"{left_out.most_common(1)[0][1]} ")
    assert len(usable) + left_out.total() == len(JUNK) + 2 + len(MIXED)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(max_size=9), max_size=9))
def test_any_text_at_all_is_used_or_counted_and_used_words_can_be_asked_about(
    words: list[str],
) -> None:
    for forms in ("lower", "mixed"):
        usable, left_out = sort_words([*words, "tea", "strawberry"], 1, 12, forms)
        assert len(usable) + left_out.total() == len(words) + 2
        for name in ("reverse", "count", "nth_letter", "spell"):
            for form in ANSWER_FORMS:
                task = build_task(name, Material(one_list(usable), form=form))
                for word in usable:
                    item = task.ask(word, stream(0))
                    assert item.key.split()[-1] == word
                    assert task.is_right(item.written, item)


def test_words_take_five_forms_of_the_same_length_and_are_normal() -> None:
    found = [vary_form(word) for word in SAMPLE_WORDS]
    assert [len(word) for word in found] == [len(word) for word in SAMPLE_WORDS]
    assert all(unicodedata.normalize("NFC", word) == word for word in found)
    shares = [
        sum(map(str.istitle, found)),
        sum(map(str.isupper, found)),
        sum(any(letter.isdigit() for letter in word) for word in found),
        sum(not word.isascii() for word in found),
        sum(word in SAMPLE_WORDS for word in found),
    ]
    assert all(share > len(found) / 8 for share in shares), shares
    assert [vary_form(word) for word in found if word not in SAMPLE_WORDS] == [
        word for word in found if word not in SAMPLE_WORDS
    ]


def test_letters_of_mixed_words_are_characters_and_case_counts() -> None:
    task = build_task("count", Material(one_list(["Éclair", "Anna"])))
    assert task.ask_about("Éclair", "É", stream(0)).answer == " 1"
    assert task.ask_about("Anna", "a", stream(0)).answer == " 1"
    with raises(ValueError, "a c i l r É"):
        task.ask_about("Éclair", "é", stream(0))
    reverse = build_task("reverse", Material(one_list(["Éclair"])))
    assert reverse.ask("Éclair", stream(0)).answer == " r i a l c É"
    contains = build_task("contains", Material(one_list(map(vary_form, SAMPLE_WORDS))))
    items = [contains.draw("seen", stream(i)) for i in range(500)]
    letters = {item.key.split()[1] for item in items}
    assert letters & set("ABCDE")
    assert letters & set("éïö")
    assert letters & set("0134")


def test_bad_words_and_shares_are_refused() -> None:
    with raises(ValueError, "3 ASCII 5 9 2 1"):
        usable_words(["Paris", "naïve", "don't"], 5, 9)
    with raises(ValueError, "0 empty"):
        usable_words([], 5, 9)
    with raises(ValueError, "upper lower mixed"):
        usable_words(["tea"], 1, 9, "upper")
    with raises(ValueError, "unseen_words 1"):
        split_words(["abcde"], lambda word: [b"abc", b"de"], seed=0, max_letters=9)
    with raises(ValueError, "new unseen_words"):
        built("reverse")[0].draw("new", stream(0))


# Splits


def test_splits_that_share_a_word_are_refused_at_construction() -> None:
    with raises(ValueError, "seen longer_words 1 tea"):
        WordSplits(("tea", "pea"), ("bee",), ("sea",), ("tea", "strawberry"), frozenset())
    splits = one_list(["tea", "pea"])
    assert all(splits[split] == ("tea", "pea") for split in SPLITS)


def test_only_pieces_of_two_or_more_characters_are_held_out() -> None:
    assert num_letters(" é".encode()) == 1
    assert num_letters(" éc".encode()) == 2
    assert num_letters(b" a") == 1
    words = [f"{a}{b}{c}é" for a in "abcdé" for b in "efghí" for c in "ijkló"] + LONG
    for seed in range(5):
        splits = split_words(words, lambda word: [letter.encode() for letter in (word[:2], *word[2:])],
                             seed=seed, max_letters=4, token_share=0.3)  # fmt: skip
        assert splits.held_out
        assert all(len(piece.decode()) > 1 for piece in splits.held_out)


def test_word_splits_say_their_sizes() -> None:
    about = {split.name: split.about for split in built("reverse", words=WORDS)[0].splits}
    assert about["longer_words"] == "11 to 12 letters, after training on 5 to 10"
    assert about["unseen_tokens"] == "each word holds one of 3 tokens that no training question had"


def test_splits_are_disjoint_by_word_and_by_token(data: Data) -> None:
    splits, encoding = data.splits, data.tokenizer.source
    pieces = {
        split: {piece for word in splits[split] for piece in encoding.encode_ordinary(" " + word)}
        for split in SPLITS
    }
    every = [word for split in SPLITS for word in splits[split]]
    assert len(every) == len(set(every))
    for split in ("seen", "unseen_words", "longer_words"):
        assert pieces[split].isdisjoint(data.held_out_ids)
    for word in splits.unseen_tokens:
        assert not data.held_out_ids.isdisjoint(encoding.encode_ordinary(" " + word))
    assert max(map(len, splits.seen)) < min(map(len, splits.longer_words))
    assert max(map(len, splits.unseen_tokens)) <= max(map(len, splits.seen))


def test_splits_repeat_and_follow_the_seed() -> None:
    names = [f"{a}{b}{c}{d}" for a in "abcd" for b in "efgh" for c in "ijkl" for d in "mn"] + LONG

    def pieces_of(word: str) -> list[bytes]:
        return [word[:2].encode(), word[2:].encode()]

    first, again, other = (
        split_words(names, pieces_of, seed=seed, max_letters=4) for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other


def test_protected_pieces_are_never_held_out() -> None:
    names = [f"{a}{b}{c}{d}" for a in "abcd" for b in "efgh" for c in "ijkl" for d in "mn"] + LONG
    protected = {f"{a}{b}".encode() for a in "abcd" for b in "efgh"}
    protected |= {piece for word in LONG for piece in (word[:2].encode(), word[2:].encode())}
    for seed in range(5):
        splits = split_words(
            names,
            lambda w: [w[:2].encode(), w[2:].encode()],
            seed=seed,
            max_letters=4,
            token_share=0.3,
            protected=protected,
        )
        assert splits.held_out
        assert splits.held_out.isdisjoint(protected)
