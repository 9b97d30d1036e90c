from __future__ import annotations

import hashlib
from collections import Counter
from random import Random

import pytest
import tiktoken
from hypothesis import strategies as st

from synthetic_tasks import (
    END,
    SPLITS,
    TASKS,
    WORD_TASKS,
    Item,
    Material,
    Task,
    WordSplits,
    WordTask,
    build_task,
    distinct,
    needs_words,
    one_list,
    split_words,
    stream,
    usable_words,
)
from synthetic_tasks.__main__ import split_sample
from synthetic_tasks.registry import RECIPES
from synthetic_tasks.samples import SAMPLE_WORDS
from synthetic_tasks.scoring import corrected, majority_baseline
from synthetic_tasks.sequences.names import NAMES
from synthetic_tasks.task import ANSWER_FORMS, WORDINGS
from synthetic_tasks.word_tasks import varied
from tests.messages import raises
from training.data.corpus import packaged_words

some_words = st.text(alphabet="abcz", min_size=1, max_size=12)
seeds = st.integers(0, 10**6)
LONG = [f"{a}{b}toolong" for a in ("abc", "xyz", "abd") for b in ("xy", "yz")]
word_tasks = pytest.mark.parametrize("task", WORD_TASKS)
WORDS = WordSplits(
    seen=(
        "strawberry",
        "banana",
        "letters",
        "apple",
        "berries",
        "cherry",
        "pepper",
        "lemon",
        "melon",
        "onion",
    ),
    unseen_words=("garlic", "celery", "radish", "carrot"),
    unseen_tokens=("turnip", "spinach", "parsley"),
    longer_words=("watermelons", "elderberries", "pomegranates"),
    held_out=frozenset({b" turn", b"ley", b"ach"}),
)
SAMPLES = split_sample(SAMPLE_WORDS)
SPECS = (
    "path_star:2x2",
    "path_star:2x5",
    "path_star:3x4",
    "path_star:2x3x7",
    "path_star:2x5x13",
    "counting:2x10",
    "counting:10x100",
    "counting_mfc:4x12",
    "counting_mfc:7x10",
)


def built(
    *specs: str, words: WordSplits | None = SAMPLES, wording: str = "compact", form: str = "spelled"
) -> list[Task]:
    return [build_task(spec, Material(words, wording, form)) for spec in specs]


def word_task(name: str, *words: str, wording: str = "compact", form: str = "spelled") -> WordTask:
    return WordTask(RECIPES[name], Material(one_list(words), wording, form))


def drawn_for_training(tasks: list[Task], i: int) -> Item:
    """Draw example i as training does: first the task, then the item, from one stream."""
    rng = stream("question", "finetune", 0, i, 0)
    task = rng.choice(tasks)
    return task.draw(task.splits[0].name, rng)


# All tasks


@pytest.mark.parametrize("spec", [*WORD_TASKS, *SPECS])
def test_an_item_is_a_function_of_its_key_in_every_split(spec: str) -> None:
    (task,) = built(spec)
    assert task.name == spec
    assert task.main_split in [split.name for split in task.splits]
    for split in task.splits:
        assert split.place
        assert split.label
        items = [task.draw(split.name, stream(spec, split.name, i)) for i in range(50)]
        assert [
            task.draw(split.name, stream(spec, split.name, i)) for i in reversed(range(50))
        ] == items[::-1]
        for item in items:
            assert item.answer.startswith(" ") or (
                item.answer.isdigit() and item.prompt[-1].isalpha()
            )
            assert item.text == item.prompt + item.answer + "\n"
            assert END not in item.prompt + item.answer
            assert task.is_right(item.text.removeprefix(item.prompt) + "what else", item)
            assert not task.is_right(item.answer + " a", item)
        by_key = {item.key: item.answer for item in items}
        assert all(by_key[item.key] == item.answer for item in items)


@pytest.mark.parametrize("spec", [*WORD_TASKS, *SPECS])
def test_the_baseline_is_what_the_best_constant_answer_gets(spec: str) -> None:
    (task,) = built(spec)
    items = distinct(task, task.splits[0].name, 50, "baseline")
    best = max(
        sum(task.is_right(answer, item) for item in items) / len(items)
        for answer in {item.answer for item in items}
    )
    if spec in (
        "longer",
        "nearer",
    ):  # "the first word that is named" is a constant answer, and so is the other
        firsts = sum(item.key.split()[1] == item.answer.strip() for item in items) / len(items)
        best = max(firsts, 1 - firsts)
    assert task.baseline(items) == best
    with raises(ValueError, "answers"):
        task.baseline([])


def test_distinct_items_are_distinct_and_end_when_a_split_runs_out() -> None:
    assert (
        len({item.key for item in distinct(word_task("reverse", "abc", "abd"), "seen", 10, 0)}) == 2
    )
    (graphs,) = built("path_star:2x5")
    assert len({item.key for item in distinct(graphs, "fresh", 300, 0)}) == 300


def test_sentences_of_one_question_count_as_one() -> None:
    task = word_task("reverse", "abc", wording="sentences")
    assert len({task.draw("seen", stream(i)).prompt for i in range(50)}) > 40
    assert len(distinct(task, "seen", 10, 0)) == 1


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            "spelled",
            "spelled",
        ),
        ("", "'' reverse"),
        ("reverse:3", "reverse:3"),
        (
            "reverse*",
            "reverse* 0 reverse*3",
        ),
        ("reverse*0", "reverse*0 0"),
        ("reverse*-1", "-1"),
        ("reverse*1e9", "1e9"),
        ("reverse*nan", "nan"),
        ("reverse:3*2", "reverse:3"),
        (
            "path_star:",
            "path_star",
        ),
        (
            "path_star:0x5",
            "path_star:0x5 path_star:DxL path_star:DxLxN",
        ),
        ("path_star:2x1", "path_star:2x5"),
        ("path_star:5", "path_star:DxL"),
        ("path_star:2x5x13x1", "path_star:DxL"),
        ("path_star:2x5x12", "names"),
        ("path_star:2x2x13", "1000"),
        (f"path_star:2x5x{len(NAMES) + 1}", f"{len(NAMES)}"),
        ("path_star:-2x5", "path_star:DxL"),
        ("path_star:20x20", "names"),
        (
            "counting:x",
            "counting:x counting:MxN",
        ),
        ("counting:1", "2 151"),
        ("counting:152", "2 151"),
        ("counting:10x9", "M N"),
        ("counting:2x9", "1000"),
        ("counting_mfc:99999999999", "counting_mfc:M counting_mfc:MxN"),
    ],
)
def test_a_bad_spec_gets_one_sentence_with_the_way_out(spec: str, message: str) -> None:
    with raises(ValueError, message) as refused:
        build_task(spec, Material(WORDS))
    assert "\n" not in str(refused.value)


def test_sizes_have_defaults_and_one_spelling() -> None:
    specs = {
        "path_star": "path_star:2x5",
        "path_star:02x05": "path_star:2x5",
        "path_star:2x5x50": "path_star:2x5",
        "path_star:2x5x013": "path_star:2x5x13",
        "path_star:2x2x14": "path_star:2x2x14",  # 1,092 graphs
        "path_star:9x9": "path_star:9x9",  # of 82 names
        "path_star:9x9x82": "path_star:9x9",
        "counting": "counting:10x100",
        "counting:20": "counting:20x200",
        "counting_mfc": "counting_mfc:10x100",
        "counting:4x12*2.5": "counting:4x12",
        "reverse*3": "reverse",
    }
    assert [task.name for task in built(*specs)] == list(specs.values())


def test_words_are_needed_by_word_tasks_alone_and_only_to_draw() -> None:
    assert needs_words(["path_star:2x5", "swap"])
    assert needs_words(["swap*3"])
    assert not needs_words(["path_star:2x5", "counting"])
    for task in built(*WORD_TASKS, words=None):
        assert task.fixed_texts()
        assert [split.name for split in task.splits] == list(SPLITS)
        with raises(ValueError, f"{task.name}"):
            task.draw("seen", Random(0))
    for task in built("path_star", "counting", words=None):
        task.draw(task.splits[0].name, Random(0))
    with raises(ValueError, "verse"):
        Material(WORDS, "verse")
    with raises(ValueError, "form loud plain"):
        Material(WORDS, "compact", "loud")


@pytest.mark.parametrize("spec", [*WORD_TASKS, *SPECS])
def test_fixed_texts_hold_every_token_around_the_words(
    spec: str, encoding: tiktoken.Encoding, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All other tokens of a question are words or single letters, which are never held out."""
    # Solved examples are words, numbers and letters, joined by texts that are fixed too.
    monkeypatch.setattr(varied, "_examples", lambda *_: [])
    for wording in WORDINGS:
        (task,) = built(spec, wording=wording)
        fixed = {i for text in task.fixed_texts() for i in encoding.encode_ordinary(text)}
        for split in task.splits:
            for i in range(30):
                item = task.draw(split.name, stream(i))
                words = (
                    [] if spec in SPECS else [word for word in item.key.split() if len(word) > 1]
                )
                known = fixed.union(*(encoding.encode_ordinary(f" {word}") for word in words))
                left = set(encoding.encode_ordinary(item.prompt)) - known
                assert all(len(encoding.decode([token]).strip()) <= 1 for token in left)


@pytest.mark.parametrize("spec", [*WORD_TASKS, *SPECS])
def test_every_task_says_what_it_asks_and_what_makes_it_harder(spec: str) -> None:
    (task,) = built(spec)
    assert 10 < len(task.description) < 110
    assert 10 < len(task.difficulty) < 110
    assert task.verb_phrase


def test_majority_baseline() -> None:
    assert majority_baseline(["1", "1", "2"]) == pytest.approx(2 / 3)


@pytest.mark.parametrize("form", ANSWER_FORMS)
@pytest.mark.parametrize("spec", [*WORD_TASKS, *SPECS])
def test_after_correction_the_majority_scores_0_and_the_oracle_1(spec: str, form: str) -> None:
    """Two models, scored as usual: one always gives the majority answer, one is always right."""
    (task,) = built(spec, form=form)
    items = distinct(task, task.splits[0].name, 60, "corrected")
    constant = Counter(item.answer for item in items).most_common(1)[0][0]
    before = " a b =" if items[0].work else ""
    majority = sum(task.is_right(before + constant, item) for item in items) / len(items)
    oracle = sum(task.is_right(item.written + END, item) for item in items) / len(items)
    if spec in ("longer", "nearer"):
        assert corrected(majority, task.baseline(items)) < 0, (
            "the best one is to take the first, or the other"
        )
    else:
        assert corrected(majority, task.baseline(items)) == 0
    assert corrected(oracle, task.baseline(items)) == 1


def test_correction_is_a_line_and_has_its_limits() -> None:
    assert corrected(0.8, 0.6) == pytest.approx(0.5)
    assert corrected(0.0, 0.5) == -1
    for majority in (1.0, 1.5, -0.1, float("nan")):
        with raises(ValueError, "majority"):
            corrected(0.5, majority)


# Questions drawn by an early version of the code: later versions must draw the same.

TRAINED_COMPACT = [
    "index e melon: 1\n",
    "index o onion: 0\n",
    "index n melon: 4\n",
    "swap m o melon: o e l o n\n",
    "index r cherry: 3\n",
    "swap n o onion: o o i o n\n",
    "swap i e berries: b e r r e e s\n",
    "reverse onion: n o i n o\n",
    "count p apple: 2\n",
]
TRAINED_SENTENCES = [
    "Exercise: What is the index of e in melon?\nThe number is 1\n",
    "Task: Point to o in onion with a number, zero for the start. Solution: It stands at 0\n",
    "Q: How many steps from the start of melon to its first n?\nAnswer: Its position is 4\n",
    "Question: In the word melon, change the first m to o. \nWith the letter in place: oelon\n",
    "Search cherry for r: at what index is it found? It carries the number 3\n",
    "Task: With o for the first n, how does onion read? Solution: It becomes ooion\n",
]
EVALUATION_ITEMS = {
    ("reverse", "seen"): [
        "reverse pepper: r e p p e p\n",
        "reverse strawberry: y r r e b w a r t s\n",
        "reverse lemon: n o m e l\n",
    ],
    ("count", "unseen_words"): [
        "count e celery: 2\n",
        "count r carrot: 2\n",
        "count s radish: 1\n",
    ],
    ("index", "unseen_tokens"): [
        "index c spinach: 5\n",
        "index s parsley: 3\n",
        "index n spinach: 3\n",
    ],
    ("swap", "longer_words"): [
        "swap l m watermelons: w a t e r m e m o n s\n",
        "swap d s elderberries: e l s e r b e r r i e s\n",
        "swap g a pomegranates: p o m e a r a n a t e s\n",
    ],
}


FIRST_FOUR = ("reverse", "count", "index", "swap")


def test_questions_of_training_and_evaluation_stay_the_same() -> None:
    compact = built(*FIRST_FOUR, words=WORDS)
    sentences = built(*FIRST_FOUR, words=WORDS, wording="sentences", form="plain")
    assert [
        drawn_for_training(compact, i).text for i in range(len(TRAINED_COMPACT))
    ] == TRAINED_COMPACT
    assert [
        drawn_for_training(sentences, i).text for i in range(len(TRAINED_SENTENCES))
    ] == TRAINED_SENTENCES
    for (name, split), texts in EVALUATION_ITEMS.items():
        (task,) = built(name, words=WORDS)
        assert [item.text for item in distinct(task, split, 3, "exam", split, 0)] == texts


def test_thousands_of_questions_stay_the_same() -> None:
    words = usable_words(packaged_words()[:5000], 5, 13)
    splits = split_words(words, pairs_of_letters, seed=0, max_letters=10, token_share=0.02)
    for wording, form, expected in (
        ("compact", "spelled", "f431964db608065b95ee791467cbb7e8e8fc9ea9eaa09b253c1d76da91ca5771"),
        ("sentences", "plain", "2c5fb0792effc66fb8f7dff99a250456be40f5b05122f8a2149c16c2970f4d27"),
    ):
        tasks = built(*FIRST_FOUR, words=splits, wording=wording, form=form)
        assert sha256("".join(drawn_for_training(tasks, i).text for i in range(2000))) == expected
    tasks = built(*FIRST_FOUR, words=splits)
    evaluation = [
        item.text
        for split in SPLITS
        for task in tasks
        for item in distinct(task, split, 100, "exam", split, 7)
    ]
    assert len(evaluation) == 1600
    assert (
        sha256("".join(evaluation))
        == "be3756575ad7638811a5a101974217cea87a4393ef441125e36ce00afbb148f6"
    )


def pairs_of_letters(word: str) -> list[bytes]:
    return [word[i : i + 2].encode() for i in range(0, len(word), 2)]


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_every_task_is_listed_once() -> None:
    assert list(TASKS) == [*WORD_TASKS, "counting", "counting_mfc", "path_star", "functions"]
    assert WORD_TASKS[:5] == (*FIRST_FOUR, "spell")
    assert len(set(WORD_TASKS)) == 18
