"""Lexical decision: scores against a slow twin, models that know everything or nothing, the study."""

from __future__ import annotations

import json
import math
import re
import string
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from synthetic_tasks import stream
from synthetic_tasks.lexical_decision import Pair
from tests.messages import says
from training.ask.lexical_decision import ends_word, marks, pairs_of_text, score
from training.data.encodings import _encoding, train_ranks
from training.data.tokenizers import Tiktoken
from training.intervals import Row
from training.models.decoder import Decoder, DecoderConfig
from training.models.language_model import LanguageModel
from training.study import __main__ as study
from training.study.contrasts import Contrast, contrast, share_closed, verdict
from training.study.findings import Measured
from training.study.lexical import PAIRS as POINTS
from training.study.lexical import lexical
from training.study.studies import STUDIES

TEXT = "the harvest of the garden and the summer of the river, to the end and to a Garden. " * 40
BYTES = Tiktoken(_encoding("bytes", [bytes([i]) for i in range(256)]))
PAIRS = [
    Pair("harvest", "harmest", "often"),
    Pair("garden", "gurden", "rare"),
    Pair("end", "ond", "rare"),
    Pair("river", "rivar", "never"),
]


@pytest.fixture(scope="module")
def subwords() -> Tiktoken:
    return Tiktoken(_encoding("subwords", train_ranks(TEXT, 290)))


@pytest.fixture(scope="module")
def decoder(subwords: Tiktoken) -> Decoder:
    torch.manual_seed(0)
    # large weights: a fresh decoder would give all tokens the same probability
    sizes = {"n_layer": 1, "n_head": 2, "n_embd": 16, "init_std": 0.5}
    return Decoder(DecoderConfig(vocab_size=len(subwords.spellings), context=32, **sizes))


# Scores


@torch.no_grad()
def token_by_token(model: Decoder, tokenizer: Tiktoken, context: str, word: str) -> list[float]:
    """log P of a word behind a context, and with its end, one token at a time."""
    ids, total = tokenizer.encode(context), 0.0
    for token in tokenizer.encode(f" {word}"):
        total += float(model(torch.tensor([ids]))[0, -1].double().log_softmax(0)[token])
        ids.append(token)
    probabilities = model(torch.tensor([ids]))[0, -1].double().softmax(0)
    end = 0.0
    for piece, probability in zip(tokenizer.spellings, probabilities, strict=True):
        assert piece
        if chr(piece[0]) not in string.ascii_letters:
            end += float(probability)
    return [total + math.log(end), total]


def test_scores_are_those_of_a_slow_twin(decoder: Decoder, subwords: Tiktoken) -> None:
    contexts = (" the", " of the", ", to")
    found = score(decoder, subwords, PAIRS, contexts)
    for number, (word, nonword, _) in enumerate(PAIRS):
        values = np.mean(
            [
                np.subtract(
                    token_by_token(decoder, subwords, context, word),
                    token_by_token(decoder, subwords, context, nonword),
                )
                for context in contexts
            ],
            axis=0,
        )
        assert found.with_end[number] == pytest.approx(values[0], abs=1e-4)
        assert found.without_end[number] == pytest.approx(values[1], abs=1e-4)


def test_a_score_depends_on_no_other_pair_of_its_batch(
    decoder: Decoder, subwords: Tiktoken
) -> None:
    whole = score(decoder, subwords, PAIRS)
    alone = [score(decoder, subwords, [pair]).with_end[0] for pair in PAIRS]
    assert whole.with_end == pytest.approx(alone, abs=1e-5)


class KnowsWords(LanguageModel):
    """Bytes of a list of words alone are likely: the letters of each, and a space behind it."""

    embedding = "wte"

    def __init__(self, words: list[str]) -> None:
        super().__init__()
        self.wte, self.words = nn.Embedding(256, 1), words

    def forward(
        self, ids_BT: Tensor, keep_BT: Any = None, cache: Any = None, real_BS: Any = None,
        targets_N: Any = None,
    ) -> Tensor:  # fmt: skip
        logits = torch.full((*ids_BT.shape, 256), -20.0)
        for row, ids in enumerate(ids_BT.tolist()):
            for place in range(len(ids)):
                start = bytes(ids[: place + 1]).decode("latin-1").rpartition(" ")[2]
                for word in self.words:
                    if word.startswith(start):
                        logits[row, place, ord(f"{word} "[len(start)])] = 0
        return logits if keep_BT is None else logits[keep_BT]


class Constant(KnowsWords):
    """All bytes are equally likely."""

    def __init__(self) -> None:
        super().__init__([])


def test_a_model_that_knows_the_words_is_right_and_a_constant_one_is_at_chance() -> None:
    found = score(KnowsWords([pair.word for pair in PAIRS]), BYTES, PAIRS)
    assert marks(found.with_end) == marks(found.without_end) == [1.0] * 4
    assert marks(score(Constant(), BYTES, PAIRS).with_end) == [0.5] * 4
    knows_others = score(KnowsWords([pair.nonword for pair in PAIRS]), BYTES, PAIRS)
    assert marks(knows_others.with_end) == [0.0] * 4


def test_the_beginning_of_a_word_is_no_word_because_of_its_end() -> None:
    """The model knows "harvest" and "garde": "harves" is likely, and its end is not."""
    found = score(KnowsWords(["harvest", "gardes"]), BYTES, [Pair("gardes", "harves", "rare")])
    assert found.without_end[0] == pytest.approx(0, abs=1e-3)
    assert found.with_end[0] > 10


def test_a_token_that_begins_with_a_letter_does_not_end_a_word(subwords: Tiktoken) -> None:
    ends_V = ends_word(subwords, len(subwords.spellings) + 2)
    assert ends_V[-2:].all()  # rows of an embedding without a token
    for piece, ends in zip(subwords.spellings, ends_V, strict=False):
        assert piece
        assert bool(ends) == (chr(piece[0]) not in string.ascii_letters)


@pytest.mark.parametrize(("alphabet", "size"), [("bytes", 256), ("printable", 100)])
def test_a_vocabulary_as_large_as_its_alphabet_has_no_merges(alphabet: str, size: int) -> None:
    ranks = train_ranks(TEXT, size, alphabet)
    assert sorted({len(piece) for piece in ranks}) == [1]
    assert len({*ranks}) == size
    tokenizer = Tiktoken(_encoding("characters", ranks))
    assert len(tokenizer.encode("the garden")) == len("the garden")


# Pairs of a text


@pytest.mark.slow
def test_pairs_of_a_text_are_matched_for_its_vocabulary(cache: Path) -> None:
    found = pairs_of_text("sotu", 4096, 300, cache)
    assert {pair.band for pair in found.pairs} == {"often", "rare", "never"}
    shares = {name: np.mean(marks(each)) for name, each in found.baselines.items()}
    assert shares["letter trigrams of the word list"] == pytest.approx(0.5, abs=0.01)
    assert shares["token frequencies"] == pytest.approx(0.5, abs=0.01)
    assert shares["letter 5-grams of the text"] > 0.85


# The share of the gap


def planted(share: float, seeds: int, pairs: int = 2000, gap: float = 0.2) -> list[Any]:
    """Marks of plain, of an arm that closes a share of the gap, and of characters."""
    tables = []
    for arm, chance in enumerate((0.7, 0.7 + share * gap, 0.7 + gap)):
        rows = []
        for seed in range(seeds):
            rng = stream("marks", arm, seed)
            # the same pairs are hard for all arms
            hard = stream("pairs")
            rows.append(
                [float(0.7 * hard.random() + 0.3 * rng.random() < chance) for _ in range(pairs)]
            )
        tables.append(np.array(rows))
    return tables


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_planted_share_lies_in_its_interval(share: float, seeds: int) -> None:
    plain, ours, characters = planted(share, seeds)
    found = share_closed(plain, ours, characters)
    low, high, _ = found.bounds
    truth = (ours - plain).mean() / (characters - plain).mean()
    assert low is not None
    assert high is not None
    assert found.value == pytest.approx(truth)
    assert low < found.value < high
    assert low - 0.1 < share < high + 0.1


def test_without_a_gap_there_is_no_share() -> None:
    plain, ours, _ = planted(0.5, 2)
    for characters in (plain, plain - 0.2):
        found = share_closed(plain, ours, characters)
        assert found.bounds == (None, None, None)
        assert math.isnan(found.value)


@pytest.mark.parametrize(
    ("bounds", "p_holm", "expected"),
    [
        ((0.01, 0.05, 0.001), 0.01, "helps"),
        ((-0.05, -0.01, 0.001), 0.01, "hurts"),
        ((0.01, 0.05, 0.001), 0.2, "not shown"),
        ((-POINTS.margin / 2, POINTS.margin / 2, 0.9), 1.0, "no difference larger than 2 points"),
        ((-0.05, 0.05, 0.9), 1.0, "not shown"),
        ((None, None, None), 1.0, "not shown"),
        ((0.0, 0.0, 1.0), 1.0, "not shown"),  # two arms that are wrong everywhere
    ],
)
def test_verdicts(bounds: Any, p_holm: float, expected: str) -> None:
    assert verdict(Contrast("", 0.0, bounds, POINTS), p_holm) == expected


def measured(seeds: int, share: float) -> list[Measured]:
    """Rows of a cell whose encoder closes a share of the gap, with a control as good as plain."""
    plain, ours, characters = planted(share, seeds)
    arms = {"plain": plain, "matched": plain, "lstm": ours, "characters": characters}
    rows = []
    for arm, table in arms.items():
        reads = "characters" if arm == "characters" else "tokens"
        at = {"size": "0.5M", "vocabulary": 4096, "pairs": 2000, "reads": reads}
        name = "plain" if arm == "characters" else arm
        for seed in range(seeds):
            each = table[seed].tolist()
            common = (name, seed, "lexical_decision", "all", "word_preferred")
            row = Row(*common, float(np.mean(each)), None, None, len(each), 0.5)
            rows.append(Measured(at, row, each))
            cost = Row(name, seed, "all", "all", "parameters", 484_000.0, None, None, 1, None)
            rows.append(Measured(at, cost))
    return rows


def test_the_page_says_which_share_of_the_gap_is_closed() -> None:
    found = lexical(measured(3, 0.5))
    says(found.headline, "0.5M 4,096 closes gap")
    lines = {line[1]: line for line in found.lines}
    assert list(lines) == ["plain", "matched", "lstm", "characters"]
    assert lines["plain"][-1] == "484,000"
    told = {row["arm"]: row for row in found.rows if "verdict" in row}
    assert told["characters - plain"]["verdict"] == told["lstm - plain"]["verdict"] == "helps"
    assert told["lstm - plain"]["value"] == told["lstm - matched"]["value"]
    share = next(row for row in found.rows if row["metric"] == "share_of_gap_closed")
    assert share["low"] < share["value"] < share["high"]
    assert contrast("none", np.ones((2, 5)), np.ones((2, 5)), POINTS).value == 0


def test_an_encoder_without_an_effect_is_not_found_to_help() -> None:
    rows = measured(3, 0.0)
    told = {row["arm"]: row["verdict"] for row in lexical(rows).rows if "verdict" in row}
    assert told["lstm - plain"] in ("not shown", "no difference larger than 2 points")


def test_one_size_has_a_bar_for_each_arm_and_several_sizes_have_curves() -> None:
    """Points at one size cover each other. Arms have the colours of all pages in both pictures."""
    rows = measured(2, 0.5)
    larger = [one._replace(at={**one.at, "size": "2M"}) for one in rows]
    (one,), (two,) = lexical(rows).pictures, lexical(rows + larger).pictures
    for arm in ("plain", "matched", "lstm", "characters"):
        assert f">{arm}</text>" in one.svg
        assert f">{arm}</text>" in two.svg
        assert arm == "characters" or f"var(--{arm}," in one.svg
        assert arm == "characters" or f"var(--{arm}," in two.svg
    assert "parameters" not in one.svg
    assert "parameters of plain, millions" in two.svg
    says(one.caption, "0.5M", "4,096")
    assert re.search(r">\d\d\.\d %</text>", one.svg), "arms may differ by less than a point"
    (single,) = lexical(measured(1, 0.5)).pictures
    assert single.svg.count("<use") < one.svg.count("<use"), "the bar of one seed has no dots"


# The study


def test_both_runs_of_a_cell_read_as_much_text_with_as_many_parameters() -> None:
    for size in ("published", "large"):
        points = STUDIES["lexical"].points(size)
        for tokens, characters in zip(points[::2], points[1::2], strict=True):
            assert tokens.at["vocabulary"] == characters.at["vocabulary"]
            counts = []
            for point in (tokens, characters):
                config = point.config
                shape = DecoderConfig(
                    vocab_size=config.data.vocab_size, context=config.text.context,
                    n_layer=config.model.layers, n_head=config.model.heads,
                    n_embd=config.model.width,
                )  # fmt: skip
                with torch.device("meta"):
                    counts.append(sum(each.numel() for each in Decoder(shape).parameters()))
            assert counts[0] == pytest.approx(counts[1], rel=0.06), point.name
            one, other = tokens.config, characters.config
            assert one.text.steps == other.text.steps
            assert one.text.batch_size == other.text.batch_size
            assert one.seeds == other.seeds
            assert one.phase("finetune").steps == 0


FLAGS = ["--size", "tiny", "--jobs", "1", "--quiet", "--cpu"]


@pytest.mark.slow
def test_a_tiny_study_has_scores_of_every_arm_and_of_the_baselines(
    cache: Path, tmp_path: Path
) -> None:
    flags = ["lexical", *FLAGS, "--out", str(tmp_path / "one"), "--cache", str(cache)]
    assert study.main(flags) == 0
    rows = json.loads((tmp_path / "one" / "results.json").read_text())
    scored = [row for row in rows if row.get("metric") == "word_preferred"]
    arms = {(row["arm"], row["reads"]) for row in scored if row["split"] == "all"}
    assert {("lstm", "tokens"), ("plain", "characters")} <= arms
    assert ("token frequencies", "tokens") in arms
    assert all(row["n"] == 60 for row in scored if row["split"] == "all")
    page = (tmp_path / "one" / "report.html").read_text()
    assert "chance is 0.50" in page
    # kept scores are read, not made again
    files = sorted((tmp_path / "one").rglob("lexical_decision.json"))
    assert len(files) == 5
    before = [path.stat().st_mtime_ns for path in files]
    assert study.main([*flags, "--resume"]) == 0
    assert [path.stat().st_mtime_ns for path in files] == before
    assert json.loads((tmp_path / "one" / "results.json").read_text()) == rows
