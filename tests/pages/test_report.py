"""The report from made-up rows: tasks with different splits, one to four arms, one to five seeds."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.messages import says
from tests.pages.made_up import MIXED, PHASES, built, made_up, page_of
from training.config.flags import changed
from training.config.presets import PRESETS
from training.data.prepare import prepare
from training.models.arms import ARMS
from training.report.figures import DARK, LIGHT, colours, smoothed, smoothing_window
from training.report.report import models_in_words, sample_answers, setting, split_notes

PAIR = ("matched", "lstm")


def svgs(page: str) -> list[str]:
    return re.findall(r"<svg.*?</svg>", page, re.DOTALL)


def test_tasks_with_different_splits_stand_in_one_report(tmp_path: Path) -> None:
    tasks = built(*MIXED)
    page = page_of(tmp_path, PAIR, tasks)
    for task in tasks:
        assert f"<h3>{task.name}</h3>" in page
        for split in task.splits:
            assert f">{split.label}</text>" in page, (
                "split names are the same in plots, tables and notes"
            )
            assert re.search(f"<td [^>]*>{split.label}</td>", page)
    cell = r"<td [^>]*>([^<]+)</td>"
    lines = re.findall(rf'<tr>{cell}{cell}(?=<td data-label="n per arm")', page)
    assert sorted(lines) == sorted(
        (split.label, task.name) for task in tasks for split in task.splits
    )
    assert re.search(r"<b>Longer words</b>[^<]* 11 [^<]* 5\b", page)
    assert re.search(r"<b>Longer arms, path_star:3x4</b>[^<]* 3 arms of 5", page)
    assert re.search(r"<b>Longer sequences</b>[^<]* 150 [^<]* 10 ", page)
    says(page, "299")


def test_the_page_loads_nothing_and_needs_no_script(tmp_path: Path) -> None:
    page = page_of(tmp_path, PAIR, built("reverse", "path_star:2x5"))
    assert not re.search(r'(src|href)="(?!#)', page)
    assert "@import" not in page
    assert "<script" not in page


def test_every_picture_has_a_role_a_label_and_ids_of_its_own(tmp_path: Path) -> None:
    page = page_of(tmp_path, PAIR, built(*MIXED), seeds=2)
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    for reference in re.findall(r'(?:href="|url\()#([^")]+)', page):
        assert reference in ids
    for svg in svgs(page):
        name = re.match(
            r'<svg[^>]* role="img" aria-labelledby="([^"]+)"><title id="([^"]+)">([^<]+)</title>',
            svg,
        )
        assert name is not None
        assert name[1] == name[2]
        assert len(name[3]) > 20
        ElementTree.fromstring(svg)
    assert re.search(r"<title[^>]*>[^<]* reverse: [a-z ]+: matched [\d.]+ %, lstm", page)


def test_pictures_take_their_colours_from_the_page(tmp_path: Path) -> None:
    page = page_of(tmp_path, ("plain", "matched", "shuffled", "lstm"), built("reverse"))
    for svg in svgs(page):
        assert set(re.findall("#[0-9a-f]{6}", re.sub(r"var\([^)]*\)", "", svg))) == set()
    assert "prefers-color-scheme: dark" in page


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of WCAG 2, 1 to 21."""

    def light(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [
            part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
        ]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] + 0.05

    ratio = light(one) / light(other)
    return max(ratio, 1 / ratio)


def test_text_and_arms_stand_out_from_the_paper_in_light_and_dark() -> None:
    for scheme, names in colours().items():
        paper = {"light": LIGHT, "dark": DARK}[scheme]["paper"]
        for name in ("ink", "soft"):
            assert contrast(names[name], paper) >= 4.5, (scheme, name)
        for arm in ARMS:
            assert contrast(names[arm], paper) >= 3, (scheme, arm, names[arm])


def test_the_picture_for_a_readme_stands_alone(tmp_path: Path) -> None:
    page_of(tmp_path, PAIR, built(*MIXED))
    picture = (tmp_path / "answers.svg").read_text("utf-8")
    root = ElementTree.fromstring(picture)
    texts = ["".join(text.itertext()) for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {*PAIR, "majority baseline", *MIXED, "unseen tokens", "more arms"} <= set(texts)
    assert "<rect " in picture, "it has a paper of its own"
    assert "prefers-color-scheme: dark" in picture


def test_a_report_without_words_says_nothing_of_words(tmp_path: Path) -> None:
    page = page_of(tmp_path, ("plain", "lstm"), built("path_star:2x5"))
    words = (
        page.replace("The 299 tokens", "").replace('class="unseen"', "").replace(".unseen {", "")
    )
    assert "nseen" not in words
    assert "onger words" not in words


def test_there_is_a_curve_for_each_phase_that_was_run(tmp_path: Path) -> None:
    page = page_of(tmp_path, PAIR, built("reverse"))
    headings = re.findall("<h2>([^<]+)</h2>", page)
    for title in ("The spelling warm-up", "Pretraining", "Fine-tuning", "Tasks alone"):
        assert title in headings
    assert len(svgs(page)) == 2 + 4 + 1 + 1 + 3 * 2 + 1, (
        "at a glance and by task; differences by split and of text; spelling; loss and difference; "
        "cost"
    )
    says(page, "10 %")
    for phase in ("pretraining", "fine-tuning", "tasks alone"):
        assert re.search(f"<td [^>]*>text, after {phase}</td>", page)
    says(page, "median seconds")
    page = page_of(tmp_path, PAIR, built("reverse"), phases=PHASES[2:3])
    assert len(svgs(page)) == 2 + 4 + 1 + 2 + 1
    assert "<h2>Pretraining</h2>" not in page


def test_one_arm_alone_is_reported_without_comparison(tmp_path: Path) -> None:
    page = page_of(tmp_path, ("lstm",), built("reverse", "path_star:2x5"))
    says(page, "one arm")
    assert "charembed · 1 model<" in page
    for word in ("Difference", "−", "omparisons", "Holm", "All arms", "multiple of"):
        assert word not in page, word


def test_models_are_counted_in_words() -> None:
    counted = {
        (arms, seeds): models_in_words(arms, seeds) for arms in (1, 2, 4) for seeds in (1, 5)
    }
    assert counted == {
        (1, 1): "1 model", (1, 5): "5 models", (2, 1): "1 pair of models", (2, 5): "5 pairs of models",
        (4, 1): "1 set of 4 models", (4, 5): "5 sets of 4 models",
    }  # fmt: skip


def test_several_controls_give_one_comparison_with_the_strongest(tmp_path: Path) -> None:
    page = page_of(
        tmp_path, ("plain", "shuffled", "lstm"), built("reverse", "path_star:2x5"), seeds=3
    )
    assert "3 sets of 3 models" in page
    assert "<th>lstm − strongest</th>" in page
    control = '<td class="left" data-label="strongest control">shuffled</td>'
    assert page.count(control) == 8, "the table names the control of each line"
    assert re.search("<summary>.*lstm</span> against the strongest control", page)
    for arm in ("plain", "shuffled", "lstm"):
        assert f"<dd>{ARMS[arm].sentence}</dd>" in page
        assert f"--{arm}: {ARMS[arm].colour};" in page
    says(page, "3 pairs")
    assert "11 comparisons" in page, "8 cells of answers and 3 of text"


def test_without_an_encoder_arm_each_is_compared_with_the_first(tmp_path: Path) -> None:
    page = page_of(tmp_path, ("plain", "matched", "shuffled"), built("reverse"), seeds=3)
    for arm in ("matched", "shuffled"):
        assert f"<th>{arm} − plain</th>" in page
        assert re.search(rf"<summary>.*{arm}</span> against .*plain</span>", page)
    assert "14 comparisons" in page, "4 cells of answers and 3 of text, twice"


def test_the_page_names_everything_in_which_the_arms_differ(tmp_path: Path) -> None:
    tasks, embedding = built("reverse"), "differ only in the input embedding"
    assert f"{embedding}." in page_of(tmp_path, ("plain", "lstm"), tasks, lr_factors="none")
    page = page_of(tmp_path, ("plain", "lstm"), tasks, lr_factors="lstm=0.5")
    assert f"{embedding} and the learning rates (--lr-factors lstm=0.5)." in page
    assert "on the same batches" in page
    page = page_of(tmp_path, ("plain", "stochastok"), tasks)
    assert "input embedding" not in page
    says(page, "share differ only rows of the batches, or the loss, of rivals")
    says(page, "on the same batches, except for rivals")
    page = page_of(tmp_path, ("plain", "stochastok", "lstm"), tasks, lr_factors="lstm=2")
    assert re.search(r"the input embedding, rows .* of rivals and the learning rates", page)


@pytest.mark.parametrize(
    ("output", "weight"),
    [("own", ""), ("tokens", "token table"), ("vectors", "token table plus character vectors")],
)
def test_the_sentence_about_the_model_names_its_output_layer(
    output: str, weight: str, cache: Path
) -> None:
    config = replace(PRESETS["tiny"], model=replace(PRESETS["tiny"].model, output=output))
    sentence = setting(config, prepare(config, cache))
    assert ("output layer" in sentence) == (output != "own")
    if output != "own":
        says(sentence, weight, f"(--output {output})")


def test_settings_that_only_arms_with_character_vectors_have_are_named(
    cache: Path, tmp_path: Path
) -> None:
    config = changed(PRESETS["tiny"], row_dropout=0.25, whole_words=0.5)
    says(setting(config, prepare(config, cache)), "25 % --row-dropout 50 % --whole-words")
    assert "--row-dropout" not in setting(PRESETS["tiny"], prepare(PRESETS["tiny"], cache))
    phases = config.as_dict()["phases"]
    page = page_of(tmp_path, ("plain", "lstm"), built("reverse"), trained=phases)
    assert re.search("differ only in .*input embedding, .*--row-dropout.*--whole-words", page)
    page = page_of(tmp_path, ("plain", "stochastok"), built("reverse"), trained=phases)
    assert "--whole-words" not in page


def test_an_output_layer_of_the_input_vectors_differs_too(tmp_path: Path) -> None:
    tasks, also = built("reverse"), r"differ only in the input embedding \(.*output layer.*tied"

    def page(output: str, *arms: str, model: str = "decoder") -> str:
        return page_of(tmp_path, arms, tasks, model={"model": model, "output": output})

    assert re.search(also, page("vectors", "plain", "lstm"))
    assert re.search(
        also + r".* and rows .* of rivals", page("vectors", "plain", "gru", "stochastok")
    )
    assert "output layer" not in page("vectors", "plain", "stochastok")
    # in both, the weight of the output layer has no character vectors
    for output in ("own", "tokens"):
        assert "output layer" not in page(output, "plain", "lstm")
    # a field of the decoder alone
    assert "output layer" not in page("vectors", "plain", "lstm", model="a/b")


def test_a_sample_shows_the_prompt_without_the_letters_of_a_rival() -> None:
    tasks = built("reverse")
    plain, longer = "reverse lemon:", "reverse lemon l e m o n:"
    answers = [
        {"task": "reverse", "split": tasks[0].main_split, "key": "reverse lemon", "given": "x",
         "expected": "n", "right": False, "arm": arm, "prompt": prompt}
        for arm, prompt in (("spelled_prompt", longer), ("plain", plain), ("lstm", plain))
    ]  # fmt: skip
    (sample,) = sample_answers(tasks, answers)["reverse"]
    assert sample.prompt == plain
    assert [answer[0] for answer in sample.given] == ["spelled_prompt", "plain", "lstm"]


def test_text_of_one_seed_has_no_intervals(tmp_path: Path) -> None:
    page = page_of(tmp_path, PAIR, built("reverse"))
    text = page.split("<h2>Text</h2>")[1].split("</table>")[0]
    assert "no intervals" in text
    assert "<small>" not in text


def test_four_arms_of_five_seeds_with_thousands_of_steps_stay_small(tmp_path: Path) -> None:
    page_of(
        tmp_path,
        ("plain", "matched", "shuffled", "lstm"),
        built("reverse", "count", "index", "swap"),
        seeds=5,
        steps=3000,
        phases=PHASES[1:3],
    )
    assert (tmp_path / "report.html").stat().st_size < 1_500_000


def test_the_same_numbers_make_the_same_page(tmp_path: Path) -> None:
    first, again = (page_of(tmp_path, PAIR, built("swap", "counting:4x12")) for _ in range(2))
    assert first == again


def test_samples_come_from_each_tasks_most_telling_split() -> None:
    tasks = built("reverse", "path_star:2x5")
    samples = sample_answers(tasks, made_up(PAIR, tasks)[2])
    assert {task: len(found) for task, found in samples.items()} == {
        "reverse": 1,  # one word makes one question
        "path_star:2x5": 3,
    }
    assert samples["reverse"][0].title.endswith("unseen tokens")
    assert all(sample.title.endswith("new graphs") for sample in samples["path_star:2x5"])
    for sample in (*samples["reverse"], *samples["path_star:2x5"]):
        assert [name for name, *_ in sample.given] == ["matched", "lstm"]


def test_notes_name_the_task_if_tasks_differ() -> None:
    notes = dict(split_notes(built("reverse", "swap")))
    assert list(notes) == ["training words", "unseen words", "unseen tokens", "longer words"]
    says(notes["longer words"], "11 5")
    labels = [label for label, _ in split_notes(built("path_star:2x5", "path_star:3x4"))]
    assert labels[:3] == [
        "training graphs",
        "new graphs, path_star:2x5",
        "new graphs, path_star:3x4",
    ]


def test_smoothing_keeps_the_middle_of_its_window_and_no_more_points_than_are_seen() -> None:
    steps, values = smoothed(range(8), [0.0, 2.0] * 4, 2)
    assert steps.tolist() == [0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5]
    assert values.tolist() == [1.0] * 7
    steps, values = smoothed(range(3000), range(3000), 25)
    assert len(steps) == len(values) == 240
    assert steps[0] == values[0] == pytest.approx(12)
    assert steps[-1] == pytest.approx(2987)


def test_the_window_is_of_the_steps_that_all_curves_have() -> None:
    assert smoothing_window([range(400), range(400)]) == 25
    assert smoothing_window([range(400), range(0, 400, 10)]) == 10, "a quarter of the shared steps"
    assert smoothing_window([range(6)]) == smoothing_window([[]]) == 1


@pytest.mark.parametrize(("steps", "window"), [(6, ""), (80, "20"), (400, "25")])
def test_the_page_says_how_many_steps_a_point_averages(
    tmp_path: Path, steps: int, window: str
) -> None:
    """A run of six steps drew each step, and its page said "a moving average over 25 steps"."""
    page = page_of(tmp_path, PAIR, built("reverse"), phases=PHASES[1:2], steps=steps)
    sentence = page.split("<h2>Pretraining</h2>")[1].split("</p>")[0]
    says(sentence, f"mean of {window} steps" if window else "one step")
    assert ("25" in sentence) == (window == "25")


@pytest.mark.parametrize(
    "arms", [("plain",), ("lstm",), ("spelling_data",), ("plain", "stochastok")]
)
def test_a_run_without_a_second_embedding_has_its_page(
    tmp_path: Path, arms: tuple[str, ...]
) -> None:
    page = page_of(tmp_path, arms, built("reverse"))
    assert ("they differ only in" in page) == (len(arms) > 1)
