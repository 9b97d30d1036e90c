from __future__ import annotations

import re
from collections import Counter
from random import Random

import pytest
import tiktoken
from hypothesis import given
from hypothesis import strategies as st

from synthetic_tasks import (
    SPLITS,
    TASKS,
    QuestionPool,
    all_wordings,
    is_right,
    majority_baseline,
    read_answer,
    render,
    split_words,
    stream,
    usable_words,
)
from synthetic_tasks.rendering import ANSWER_FORMS, WORDINGS, write_answer
from tests import reference
from training.corpus import load_words
from training.data import Data

words = st.text(alphabet="abcz", min_size=1, max_size=12)
LONG = [f"{a}{b}toolong" for a in ("abc", "xyz", "abd") for b in ("xy", "yz")]
all_tasks = pytest.mark.parametrize("task", TASKS)


@given(word=words, seed=st.integers(0, 1000))
def test_answers_equal_the_slow_twin(word: str, seed: int) -> None:
    for name, task in TASKS.items():
        for kind in task.kinds(word):
            question = task.ask(word, kind, Random(seed))
            assert question.answer == reference.solve(name, word, question.letters)
            assert set(question.letters) <= set(word)


@all_tasks
@pytest.mark.parametrize("word", ["aaaaa", "a", "zzzzzzzzzz"])
def test_a_word_of_one_letter_never_crashes(task: str, word: str) -> None:
    question = QuestionPool([word], [task]).draw(Random(0))
    for wording in WORDINGS:
        for form in ANSWER_FORMS:
            assert render(question, TASKS[task], wording=wording, form=form, rng=Random(0)).text.endswith("\n")


def test_count_asks_for_the_most_frequent_letter_and_index_for_the_first_occurrence() -> None:
    assert {TASKS["count"].ask("banana", 3, Random(i)).letters for i in range(9)} == {("a",)}
    assert TASKS["index"].kinds("banana") == [0, 1, 2]
    assert TASKS["index"].ask("banana", 2, Random(0)).answer == "2"
    assert TASKS["swap"].ask("ab", 0, Random(0)).answer in ("bb", "aa")


@all_tasks
def test_there_are_twenty_wordings_each_and_the_word_stands_alone(task: str) -> None:
    assert len(set(TASKS[task].questions)) == 20
    assert len(set(TASKS[task].answers)) == 20
    for question in (*TASKS[task].questions, TASKS[task].compact):
        assert re.search(r" \{word\}([^a-zA-Z']|$)", question), question
        assert ("{a}" in question) == (task != "reverse")
        assert ("{b}" in question) == (task == "swap")


def test_example_i_depends_on_seed_and_i_alone() -> None:
    pool = QuestionPool(["strawberry", "banana", "letters"])
    forwards = [pool.draw(stream(3, i)) for i in range(50)]
    backwards = [pool.draw(stream(3, i)) for i in reversed(range(50))]
    assert forwards == backwards[::-1]
    assert forwards != [pool.draw(stream(4, i)) for i in range(50)]


def test_answers_of_count_and_index_are_balanced() -> None:
    pool = QuestionPool(usable_words(load_words("wordsegment", 50_000), 5, 10))
    for task, limit in (("count", 0.33), ("index", 0.19)):
        answers = [question.answer for question in pool.distinct(task, 250, "balance")]
        assert majority_baseline(answers) < limit, Counter(answers)


def test_distinct_questions_are_distinct_and_end_when_words_run_out() -> None:
    assert len(set(QuestionPool(["abc", "abd"]).distinct("reverse", 10, 0))) == 2


@pytest.mark.parametrize("form", ANSWER_FORMS)
@all_tasks
def test_compact_prompt_and_answer(task: str, form: str) -> None:
    question = QuestionPool(["strawberry"], [task]).draw(Random(1))
    rendered = render(question, TASKS[task], wording="compact", form=form, rng=Random(0))
    assert rendered.prompt == " ".join([task, *question.letters, "strawberry:"])
    assert rendered.answer.replace(" ", "") == question.answer


def test_sentences_vary_and_name_everything() -> None:
    pool = QuestionPool(["strawberry"], ["swap"])
    texts = [render(pool.draw(stream(i)), TASKS["swap"], wording="sentences", rng=stream(i)).prompt for i in range(200)]
    assert len(set(texts)) > 150
    assert all(" strawberry" in text and "{" not in text for text in texts)


def test_every_wording_is_listed_for_the_split() -> None:
    listed = " ".join(all_wordings(TASKS["count"], "sentences"))
    for i in range(50):
        question = QuestionPool(["q"], ["count"]).draw(stream(i))
        prompt = render(question, TASKS["count"], wording="sentences", rng=stream(i)).prompt
        assert all(word in listed for word in prompt.split())


@given(st.text(alphabet="abc", min_size=1, max_size=9))
def test_marking_goes_there_and_back(word: str) -> None:
    for form in ANSWER_FORMS:
        written = write_answer(word, form)
        assert is_right(written + "\nreverse", written)
        assert is_right(written, written)
        assert not is_right(written + " a\n", written)
        assert not is_right(written[:-1], written) or len(word) == 0
    assert read_answer(" a e t\nreverse tea:") == "a e t"


def test_majority_baseline() -> None:
    assert majority_baseline(["1", "1", "2"]) == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match="no answers to score"):
        majority_baseline([])


def test_splits_are_disjoint_by_word_and_by_token(data: Data) -> None:
    splits, encoding = data.splits, data.encoding
    pieces = {split: {piece for word in splits[split] for piece in encoding.encode_ordinary(" " + word)} for split in SPLITS}
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

    first, again, other = (split_words(names, pieces_of, seed=seed, max_letters=4) for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_protected_pieces_are_never_held_out() -> None:
    names = [f"{a}{b}{c}{d}" for a in "abcd" for b in "efgh" for c in "ijkl" for d in "mn"] + LONG
    protected = {f"{a}{b}".encode() for a in "abcd" for b in "efgh"} | {piece for word in LONG for piece in (word[:2].encode(), word[2:].encode())}
    for seed in range(5):
        splits = split_words(names, lambda w: [w[:2].encode(), w[2:].encode()], seed=seed, max_letters=4, token_share=0.3, protected=protected)
        assert splits.held_out
        assert splits.held_out.isdisjoint(protected)


def test_bad_words_and_shares_are_refused(encoding: tiktoken.Encoding) -> None:
    with pytest.raises(ValueError, match="none of the 3 words in the list is usable: they must be lower-case ASCII words of 5 to 9"):
        usable_words(["Paris", "naïve", "don't"], 5, 9)
    with pytest.raises(ValueError, match="the split 'unseen_words' is empty: 1 words are too few"):
        split_words(["abcde"], lambda word: [b"abc", b"de"], seed=0, max_letters=9)
    with pytest.raises(ValueError, match="there is no task 'spell'; choose from reverse, count, index, swap"):
        QuestionPool(["abc"], ["spell"])
    with pytest.raises(ValueError, match="0 words and 4 tasks make no question"):
        QuestionPool([])
    with pytest.raises(ValueError, match="there is no split 'new'"):
        split_words(
            ["abcde", "abcfg", "xyzde", "xyzfg", *LONG], lambda w: [w[:3].encode(), w[3:].encode()], seed=0, max_letters=5, token_share=0.3, word_share=0.5
        )["new"]
