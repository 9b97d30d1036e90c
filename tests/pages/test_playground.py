"""The playground through its URLs and in a real browser."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.serving import make_server

from examples import playground
from examples.asking import Panel, panel_of, suggestions
from tests.conftest import ROOT
from tests.messages import says
from tests.pages.panels import run_in
from training.config.presets import QUICK
from training.data.prepare import Data

texts = st.text(alphabet="abc", max_size=12)


@pytest.fixture
def client(panel: Panel) -> FlaskClient:
    return playground.build_app(panel).test_client()


# How an answer is shown


@given(got=texts, wanted=texts.filter(bool))
def test_aligned_letters_are_those_of_both_texts_in_their_order(got: str, wanted: str) -> None:
    pairs = playground.align(got, wanted)
    assert "".join(letter for letter, _ in pairs) == got
    assert "".join(letter for _, letter in pairs) == wanted
    assert ("", "") not in pairs
    assert all(a == b for a, b in pairs) == (got == wanted)


@given(word=texts.filter(bool), place=st.integers(0, 11))
def test_one_slip_is_one_mark(word: str, place: int) -> None:
    place %= len(word)
    before, letter, after = word[:place], word[place], word[place + 1 :]
    for slip, mark in (("", ("", letter)), ("x", ("x", letter)), (letter + "x", ("x", ""))):
        assert [(a, b) for a, b in playground.align(before + slip + after, word) if a != b] == [
            mark
        ]


def test_a_number_is_one_thing() -> None:
    assert playground.align("12", "2") == [("12", "2")]
    assert playground.align("", "2") == [("", "2")]


# The page


@pytest.mark.parametrize("task", QUICK.data.tasks)
def test_a_question_has_a_url_and_all_arms_answer(
    client: FlaskClient, panel: Panel, task: str
) -> None:
    page = client.get("/", query_string={"word": "parallel", "task": task})
    item = panel.item(task, "parallel")
    assert page.status_code == 200
    assert f"<code>{item.prompt}</code>" in page.text
    for arm in ("matched", "lstm"):
        assert re.search(rf"<h3 [^>]*>{arm}</h3>", page.text)
    assert page.text.count('<article class="card"') == 2
    assert len(re.findall("✓ right|✗ wrong", page.text)) == 2
    assert re.search(rf'value="{task}" checked', page.text)
    assert "<script" not in page.text


def test_one_can_choose_the_letters(client: FlaskClient) -> None:
    page = client.get("/?word=banana&task=swap&letters=nb").text
    assert "Replace the first n in banana by b." in page
    assert "<code>swap n b banana:</code>" in page
    assert 'href="/?word=banana&amp;task=swap&amp;letters=ab"' in page
    assert 'href="/?word=banana&amp;task=swap&amp;letters=na"' in page


def test_tokens_are_shown_with_their_letters_and_the_unseen_ones_are_flagged(
    client: FlaskClient, panel: Panel, data: Data
) -> None:
    assert data.splits is not None
    asked = [
        (word, split)
        for split in panel.tasks["reverse"].splits
        for word in data.splits[split.name][:2]
    ]
    for word, split in asked:
        tokens = panel.tokens(word)
        assert "".join(token.text for token in tokens) == f" {word}"
        page = client.get("/", query_string={"word": word}).text
        flags = page.count("no question contained this token")
        assert flags == sum(token.id in data.held_out_ids for token in tokens)
        assert (flags > 0) == (word in data.splits.unseen_tokens)
        for token in tokens:
            assert f">token {token.id}<" in page
        assert f"split <b>{split.label}</b>" in page
    assert "This word is not in the run’s word list" in client.get("/?word=qqq").text


BAD = {
    "": "Nothing was typed",
    "   ": "Nothing was typed",
    "Straße": "&#39;Straße&#39; has &#39;Sß&#39; in it",
    "two words": "&#39; &#39;",
    "r2d2": "&#39;2&#39;",
    "a" * 41: "41",
    "<script>alert(1)</script>": "&lt;script&gt;",
    '"><b>': "&#39;&#34;&gt;&lt;&#39;",
    "\0": "letter",
    "🍓" * 5000: "…",
    "naïve": "&#39;ï&#39;",
}


@pytest.mark.parametrize("word", BAD, ids=[repr(word[:12]) for word in BAD])
def test_a_bad_word_gets_its_sentence_and_stays_in_the_form(client: FlaskClient, word: str) -> None:
    page = client.get("/", query_string={"word": word, "task": "index"})
    assert page.status_code == 400
    (problem,) = re.findall(r'role="alert">(.*?)</p>', page.text)
    assert BAD[word] in problem
    says(problem, "1 40 a z")
    assert len(problem) < 300
    assert "<script>alert" not in page.text
    assert "<b>" not in page.text.split("<form")[1].split("</form>")[0]
    assert 'value="index" checked' in page.text
    if word.isalnum():
        assert f'value="{word}"' in page.text


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (
            "word=banana&task=anagram",
            "anagram reverse count",
        ),
        ("word=banana&task=<i>", "&lt;i&gt;"),
        (
            "word=banana&task=count&letters=z",
            "count banana",
        ),
        ("word=banana&task=swap&letters=b", "a b n"),
        ("word=banana&task=reverse&letters=b", "Reverse letter"),
        ("word=banana&task=count&letters=%FF", "about"),
    ],
)
def test_a_bad_task_or_letter_gets_its_sentence(
    client: FlaskClient, query: str, message: str
) -> None:
    page = client.get(f"/?{query}")
    assert page.status_code == 400
    says(page.text, message)
    assert 'value="banana"' in page.text
    assert page.text.count(" checked>") == 1


def test_the_longest_word_is_answered_or_refused(client: FlaskClient) -> None:
    for letter in "aq":
        page = client.get("/", query_string={"word": letter * 40})
        assert (page.status_code == 200) or "48 tokens" in page.text


def test_a_model_that_knows_the_answer_is_marked_right(panel: Panel) -> None:
    """The answer goes through the run's own objective, here one that writes the correct answer."""
    item = panel.item("reverse", "banana")
    ids = panel.models["lstm"].tokenizer.encode(item.answer)

    class Knows(type(panel.models["lstm"].objective)):  # type: ignore[misc]
        def answers(self, model: Any, *_: Any) -> list[list[int]]:
            return [ids if model is panel.models["lstm"].model else ids[:-1]]

    models = {name: replace(model, objective=Knows()) for name, model in panel.models.items()}
    page = (
        playground.build_app(replace(panel, models=models)).test_client().get("/?word=banana").text
    )
    wrong, right = page.split('<article class="card"')[1:]
    assert "✗ wrong" in wrong
    assert "5 of 6 letters right" in wrong
    assert wrong.split("</article>")[0].count('class="tile gap"') == 1
    assert "✓ right" in right
    assert right.split("</article>")[0].count('class="tile right"') == 6


# A pretrained model


def test_suggested_words_are_links_and_the_first_one_is_on_the_first_page(
    panel: Panel, telling_run: Path, data: Data
) -> None:
    found = list(suggestions(run_in(telling_run, data), 0))
    page = playground.build_app(replace(panel, suggestions=tuple(found))).test_client()
    first = page.get("/").text
    assert "Words that show the difference" in first
    assert f'value="{found[0].word}"' in first
    assert 'aria-current="page"' in first
    assert "Words that show the difference" not in page.get("/?word=banana&task=index").text
    for url in re.findall(
        r'<a class="chip" href="([^"]*)"', page.get("/?word=banana&task=swap").text
    ):
        assert page.get(url.replace("&amp;", "&")).status_code == 200


def test_a_pretrained_model_answers_alone_in_sentences(
    pretrained_folder: Path, cache: Path
) -> None:
    panel = panel_of(str(pretrained_folder), None, cache)
    client = playground.build_app(panel).test_client()
    for task in QUICK.data.tasks:
        page = client.get("/", query_string={"word": "strawberry", "task": task})
        assert page.status_code == 200
        assert page.text.count('<article class="card"') == 1
        assert '<h3 id="card1">llama</h3>' in page.text
        assert "It wrote <code>" in page.text
        assert "no question contained" not in page.text
        assert "split" not in page.text.split("<main>")[1]
    assert "".join(token.text for token in panel.tokens("strawberry")).strip() == "strawberry"
    assert client.get("/").status_code == 200
    assert client.get("/?word=Nope").status_code == 400


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        ("localhost:7860", True),
        ("LOCALHOST", True),
        ("localhost.", True),
        ("play.localhost:7860", True),
        ("127.0.0.1:7860", True),
        ("127.8.9.1", True),
        ("[::1]:7860", True),
        ("evil.example", False),
        ("evil.example:7860", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example", False),
        ("evil.example@127.0.0.1.nip.example", False),
        ("192.168.0.7:7860", False),
        ("0.0.0.0", False),
        ("[::1", False),
    ],
)
def test_a_local_page_answers_loopback_names_alone(
    panel: Panel, asked: str, answered: bool
) -> None:
    """Another site could let its name point to 127.0.0.1, and its page read the answers."""
    client = playground.build_app(panel).test_client()
    for path in ("/", "/?word=banana", "/nowhere"):
        refused = client.get(path, headers={"Host": asked}).status_code in (400, 403)
        assert refused != answered
    public = playground.build_app(panel, local=False).test_client()
    if not asked.startswith("[::1") and "@" not in asked:
        assert public.get("/", headers={"Host": asked}).status_code == 200
    named = playground.build_app(panel, host="Evil.example").test_client()
    assert named.get("/", headers={"Host": "evil.example:1"}).status_code == 200


# The command


def test_the_command_serves_until_ctrl_c(pretrained_folder: Path) -> None:
    command = [sys.executable, "-m", "examples.playground", pretrained_folder, "--port", "0"]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.SIG_DFL
        ),  # a suite behind & is deaf to it
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.fullmatch(r".*(http://127\.0\.0\.1:\d+/).*\n", line)
        with urlopen(f"{found[1]}?word=banana" if found else line) as page:
            assert b"Reverse the word banana." in page.read()
        other = Request(found[1] if found else line, headers={"Host": "evil.example"})
        with pytest.raises(HTTPError, match="403"):
            urlopen(other)
        os.kill(process.pid, signal.SIGINT)
        said, errors = process.communicate(timeout=60)
    assert (process.returncode, said, errors) == (0, "\nThe playground is closed.\n", "")


def test_a_busy_port_gets_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert playground.main(["--port", port]) == 2
    errors = capsys.readouterr().err
    says(errors, f"127.0.0.1:{port} --port")
    assert len(errors.splitlines()) == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--port", "70000"], "--port 70000 1 65535 0"),
        (
            ["--port", "0", "--host", "no.such.host.invalid"],
            "no.such.host.invalid:0",
        ),
        (["--port", "0", "--host", "a..b"], "port"),
        (["--port", "0", "--host", "a\0b"], "--host null"),
        (["--port", "0", "--host", ""], "--host empty"),
        (["--port", "0", "EMPTY"], "config.json"),
    ],
)
def test_bad_arguments_get_one_sentence(
    flags: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert playground.main([str(tmp_path) if flag == "EMPTY" else flag for flag in flags]) == 2
    errors = capsys.readouterr().err
    says(errors, message)
    assert len(errors.splitlines()) == 1


def test_a_missing_flask_gets_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "flask", None)
    assert playground.main([]) == 2
    says(capsys.readouterr().err, "pip install flask")


# In a browser


@contextmanager
def served(panel: Panel) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, playground.build_app(panel), threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def address(panel: Panel, telling_run: Path, data: Data) -> Iterator[str]:
    found = tuple(suggestions(run_in(telling_run, data), 0))
    with served(replace(panel, suggestions=found)) as url:
        yield url


@pytest.mark.parametrize(
    ("width", "scheme"), [(400, "dark"), pytest.param(1400, "light", marks=pytest.mark.slow)]
)
def test_in_a_browser_one_types_a_word_and_sees_both_answers(
    browser: Any, address: str, width: int, scheme: str
) -> None:
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(address)
    page.get_by_label("Word", exact=True).fill("parallel")
    page.get_by_text("count", exact=True).click()
    page.get_by_role("button", name="Ask").click()
    assert page.url == f"{address}?word=parallel&task=count"
    assert (
        page.get_by_role("heading", level=2).first.inner_text()
        == "How often does l occur in parallel?"
    )
    page.get_by_role("link", name="p", exact=True).click()
    assert (
        page.get_by_role("heading", level=2).first.inner_text()
        == "How often does p occur in parallel?"
    )
    for arm in ("matched", "lstm"):
        answer = page.get_by_role("article", name=arm)
        assert answer.is_visible()
        assert answer.locator(".mark").inner_text() in ("✓ right", "✗ wrong")
    assert "".join(page.locator(".token .mono").all_inner_texts()) == "␣parallel"
    page.get_by_label("Word", exact=True).press("Enter")
    assert page.url == f"{address}?word=parallel&task=count"
    page.goto(f"{address}?word=parallel&task=swap")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert problems == []
    page.goto(f"{address}?word=Parallel")
    assert page.get_by_role("alert").is_visible()
    assert page.get_by_label("Word", exact=True).input_value() == "Parallel"
    page.close()


def test_long_words_do_not_widen_a_phone(
    browser: Any, pretrained_folder: Path, cache: Path
) -> None:
    page = browser.new_page(viewport={"width": 400, "height": 800})
    with served(panel_of(str(pretrained_folder), None, cache)) as url:
        for word, heading in (
            ("m" * 40, "m" * 40),
            ("abcdefghijklmnopqrst" * 2, "Replace"),
            ("W" * 300, None),
        ):
            page.goto(f"{url}?word={word}&task=swap")
            assert page.evaluate("document.documentElement.scrollWidth") <= 400
            assert (
                heading is None
                or heading in page.get_by_role("heading", level=2).first.inner_text()
            )
    page.close()


def test_the_keyboard_is_enough(browser: Any, address: str) -> None:
    page = browser.new_page()
    page.goto(address)
    page.keyboard.press("Tab")
    page.keyboard.type("x")
    page.keyboard.press("Control+A")
    page.keyboard.type("banana")
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_url(f"{address}?word=banana&task=count")
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_text_is_faint(browser: Any, address: str, scheme: str) -> None:
    """The contrast of every text is at least 4.5 to 1, the WCAG bound for body text."""
    page = browser.new_page(color_scheme=scheme)
    page.goto(address)
    ratios = page.evaluate(CONTRASTS)
    assert len(ratios) > 20
    assert {text: ratio for text, ratio in ratios if ratio < 4.5} == {}
    page.close()


CONTRASTS = """() => {
  const channel = c => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const parse = s => s.match(/[\\d.]+/g).map(Number);
  const opaque = s => s.startsWith("rgb") && (parse(s)[3] ?? 1) === 1;
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.data.trim();
    let host = walker.currentNode.parentElement;
    if (!text || host.closest(".hidden")) continue;
    const ink = light(parse(getComputedStyle(host).color));
    while (!opaque(getComputedStyle(host).backgroundColor)) host = host.parentElement;
    const paper = light(parse(getComputedStyle(host).backgroundColor));
    found.push([text, (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05)]);
  }
  return found;
}"""
