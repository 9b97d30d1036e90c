"""The report in a browser: on a phone, on a screen, light, dark, on paper, with up to four arms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.pages.made_up import MIXED, built, page_of
from training.models.arms import ARMS

SHAPES = {
    "one arm": (("lstm",), ("reverse",), 1),
    "two arms": (("matched", "lstm"), MIXED, 1),
    "eight arms": (tuple(ARMS)[:8], ("reverse",), 2),
    "four arms": (
        ("plain", "matched", "shuffled", "lstm"),
        ("reverse", "count", "index", "swap"),
        3,
    ),
}
SEES = """() => {
  const page = document.documentElement, all = [...document.body.querySelectorAll("*")];
  const ids = all.map(e => e.id).filter(Boolean);
  const box = e => e.getBoundingClientRect();
  const boxes = query => [...document.querySelectorAll(query)].filter(e => e.checkVisibility())
    .map(e => ({left: box(e).left, right: box(e).right, text: e.textContent}));
  const scale = e => Math.hypot(e.getScreenCTM().a, e.getScreenCTM().b);
  const size = e => parseFloat(getComputedStyle(e).fontSize) * scale(e);
  const texts = [...document.querySelectorAll("svg text")];
  const beyond = (text, svg) =>
    text.left < svg.left - 3 || text.right > svg.right + 3 || text.bottom > svg.bottom + 3;
  const scrolls = all.filter(e => ["auto", "scroll"].includes(getComputedStyle(e).overflowX));
  return {
    overflow: page.scrollWidth - page.clientWidth, width: page.clientWidth,
    edge: box(document.querySelector("h2")).right, ids: ids.length, distinct: new Set(ids).size,
    smallest: Math.min(...texts.map(size)),
    outside: texts.filter(e => beyond(box(e), box(e.ownerSVGElement))).map(e => e.textContent),
    colours: [...new Set(texts.map(e => getComputedStyle(e).fill))], scrolls: scrolls.length,
    answers: boxes(".card .said"), cells: boxes("td, th"),
    paper: getComputedStyle(document.body).backgroundColor,
  };
}"""


@pytest.fixture(scope="module", params=SHAPES)
def page_file(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, int]:
    arms, specs, seeds = SHAPES[request.param]
    folder = tmp_path_factory.mktemp("page")
    page_of(folder, arms, built(*specs), seeds=seeds)
    return folder / "report.html", len(arms)


def opened(
    browser: Any, path: Path, width: int, scheme: str = "light", media: str = "screen"
) -> tuple[Any, list[str]]:
    """Return the page with every fold open, and the browser's complaints."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", lambda request: complaints.append(request.url))
    page.emulate_media(media=media)
    page.goto(path.as_uri())
    if media == "screen":
        page.evaluate("document.querySelectorAll('details').forEach(e => e.open = true)")
    return page, complaints


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 800, 1400])
def test_everything_is_readable_and_nothing_is_cut(
    browser: Any, page_file: tuple[Path, int], width: int, scheme: str
) -> None:
    path, num_arms = page_file
    page, complaints = opened(browser, path, width, scheme)
    seen = page.evaluate(SEES)
    assert complaints == []
    assert seen["overflow"] <= 0
    assert seen["ids"] == seen["distinct"] > 0
    assert seen["smallest"] >= 9, "CSS pixels"
    assert seen["outside"] == [], "text of a picture beyond its edge"
    assert seen["scrolls"] == 0, "nothing has to be scrolled sideways"
    for box in seen["answers"] + seen["cells"]:
        assert box["left"] >= 0, box
        assert box["right"] <= seen["edge"] + 1, box
    assert len(seen["answers"]) >= 1 + num_arms, "the right answer and those of all arms"
    dark = seen["paper"] == "rgb(21, 24, 28)"
    assert dark == (scheme == "dark")
    assert ("rgb(32, 33, 36)" in seen["colours"]) != dark, "pictures follow the scheme"
    page.close()


def test_on_paper_everything_is_there_and_light(browser: Any, page_file: tuple[Path, int]) -> None:
    path, _ = page_file
    page, _ = opened(browser, path, 700, "dark", "print")  # A4 without its margins, in CSS pixels
    seen = page.evaluate(SEES)
    assert seen["overflow"] <= 0
    assert seen["scrolls"] == 0
    assert seen["paper"] == "rgb(255, 255, 255)"
    for box in seen["cells"]:
        assert box["right"] <= seen["edge"] + 1, box
    folded = page.evaluate(
        "[...document.querySelectorAll('details:not(.long)')].map(e => e.offsetHeight)"
    )
    assert all(height > 100 for height in folded), "folds are open on paper"
    assert page.pdf(format="A4").startswith(b"%PDF")
    page.close()


def test_without_scripts_the_page_is_the_same(browser: Any, page_file: tuple[Path, int]) -> None:
    path, _ = page_file
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(path.as_uri())
    assert "text" in page.inner_text("main")
    if page.locator(".folds details").count():
        page.locator(".folds summary").first.click()
        assert page.locator(".folds li").first.is_visible()
    context.close()


def test_the_picture_for_a_readme_can_be_read_on_white_and_on_dark(
    browser: Any, page_file: tuple[Path, int]
) -> None:
    """In a README the picture is an image: its background and its text change together."""
    path, _ = page_file
    looks = {}
    for scheme in ("light", "dark"):
        page = browser.new_page(viewport={"width": 900, "height": 900}, color_scheme=scheme)
        page.goto(path.with_name("answers.svg").as_uri())
        looks[scheme] = page.evaluate(
            "[getComputedStyle(document.querySelector('rect')).fill, "
            "getComputedStyle(document.querySelector('text')).fill]"
        )
        page.close()
    assert looks["light"][0] == "rgb(255, 255, 255)"
    assert looks["dark"][0] == "rgb(21, 24, 28)"
    assert looks["light"][1] != looks["dark"][1]
