"""Serve a page that asks arms of a run, or a pretrained model, about the letters of a word.

    pip install -c constraints.txt -e ".[lab,playground]"
    python -m examples.playground                              # the newest run in runs/
    python -m examples.playground runs/quick-1234abcd --seed 2
    python -m examples.playground HuggingFaceTB/SmolLM2-135M   # or a folder of save_pretrained

It prints its address after some seconds of loading; Ctrl-C ends it. Every question has its own URL,
and the page needs no script. Only this machine can open it, under a loopback name such as localhost,
unless --host gives another address.
"""

from __future__ import annotations

import logging
import socket
import sys
import threading
from collections.abc import Sequence
from difflib import SequenceMatcher
from importlib.util import find_spec
from ipaddress import ip_address
from itertools import zip_longest
from pathlib import Path
from string import ascii_lowercase
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from synthetic_tasks import Item, read_work
from synthetic_tasks.word_tasks.recipe import Recipe, choices
from synthetic_tasks.word_tasks.word_task import fill_wording, word_and_arguments
from training.errors import BadInput, user_errors
from training.flags import Parser, check_texts
from training.interrupts import Stop, run_program

if TYPE_CHECKING:  # torch takes seconds, which --help and wrong flags must not take
    from flask import Flask

    from examples.asking import Panel, ShownAnswer

PORT = 7860
ACCENT = "#1f6f8b"  # of a model that is no arm
PURPOSE = {  # label of an argument by its kind
    "letter": "Letter in question",
    "any letter": "Letter",
    "place": "Place, from 0",
    "gap": "Place, from 0",
    "word": "Other word",
}
PURPOSES = {task: ("Letter to replace", "Letter to put there") for task in ("swap", "substitute")}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def align(given: str, expected: str) -> list[tuple[str, str]]:
    """Pair the letters of an answer with the right ones; "" if one of the two is missing.

    align("anb", "anab") -> [("a", "a"), ("n", "n"), ("", "a"), ("b", "b")]

    A number stays whole: align("12", "2") -> [("12", "2")].
    """
    return _aligned(given, expected) if expected.isalpha() else [(given, expected)]


def _aligned(given: str, expected: str) -> list[tuple[str, str]]:
    # Common beginnings and ends come first: SequenceMatcher alone takes the longest match, and so
    # finds three slips between "aaa" and "abaa" instead of one.
    if given and expected and given[0] == expected[0]:
        return [(given[0], expected[0]), *_aligned(given[1:], expected[1:])]
    if given and expected and given[-1] == expected[-1]:
        return [*_aligned(given[:-1], expected[:-1]), (given[-1], expected[-1])]
    steps = SequenceMatcher(None, given, expected, autojunk=False).get_opcodes()
    return [
        pair
        for _, start, end, first, last in steps
        for pair in zip_longest(given[start:end], expected[first:last], fillvalue="")
    ]


def _card(name: str, answer: ShownAnswer, item: Item, spells: bool) -> dict[str, Any]:
    """Return one model's answer for the page; letter by letter if the answer `spells` a word."""
    from training.models.arms import ARMS

    result = read_work(answer.text)[1] if item.work else answer.text
    given, expected = ("".join(text.split()) for text in (result, item.answer))
    pairs = align(given, expected) if spells else [(given, expected)]
    arm = ARMS.get(name)
    return {
        "name": name,
        "sentence": arm.sentence if arm else "a pretrained model, with its own tokenizer",
        "colour": arm.colour if arm else ACCENT,
        "answer": answer,
        "given": given,
        "pairs": pairs,
        "num_right": sum(got == wanted for got, wanted in pairs),
        "num_letters": len(expected),
        "spells": spells,
    }


def _rows_to_choose(recipe: Recipe, word: str, arguments: Sequence[str]) -> list[dict[str, Any]]:
    """Return the label, the value and the choices of each argument of a question.

    A choice is a pair: the value, and all arguments of the question with that value.

    count, "tent", ["n"] ->
        [{"purpose": "Letter in question", "value": "n", "choices": [("e", "e"), ...]}]
    """
    from examples.asking import join_arguments

    rows = []
    for number, (kind, value) in enumerate(zip(recipe.arguments, arguments, strict=True)):
        possible = ascii_lowercase if kind == "any letter" else choices(kind, word)
        before, after = arguments[:number], arguments[number + 1 :]
        texts = [join_arguments([*before, other, *after]) for other in possible]
        purpose = PURPOSES[recipe.name][number] if recipe.name in PURPOSES else PURPOSE[kind]
        if texts:  # a second word is no choice from a list
            pairs = list(zip(possible, texts, strict=True))
            rows.append({"purpose": purpose, "value": value, "choices": pairs})
    return rows


def _result(panel: Panel, task: str, word: str, letters: str) -> dict[str, Any]:
    """Return a question with all answers. Raises BadInput or TaskError if there is no such question."""
    from examples.asking import join_arguments

    item, recipe = panel.item(task, word, letters), panel.tasks[task].recipe
    _, *arguments = word_and_arguments(item)
    expected = "".join(item.answer.split())
    spells = expected.isalpha() and expected not in recipe.fixed_answers
    return {
        "question": fill_wording(recipe.wordings.questions[0], recipe, word, arguments),
        "prompt": item.prompt,
        "work": item.work.strip(" ="),
        "expected": expected if spells else [expected],
        "letters": join_arguments(arguments),
        "choices": _rows_to_choose(recipe, word, arguments),
        "cards": [_card(name, answer, item, spells) for name, answer in panel.answers(task, item)],
        "tokens": panel.tokens(word),
        "split": panel.split(word),
    }


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine's own: "localhost", "127.0.0.1", "[::1]"."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def build_app(panel: Panel, *, local: bool = True, host: str = "localhost") -> Flask:
    """Build the WSGI application: one page, GET / with `word`, `task` and `letters`.

    Arguments:
        local: only requests for a loopback name, or for `host`, are answered. Else a page of
            another site, whose name it lets point to 127.0.0.1, could read the answers.
        host: the name that the server was started with.
    """
    from flask import Flask, abort, render_template, request

    from charembed import ENCODERS

    app = Flask("playground", template_folder=str(Path(__file__).parent), static_folder=None)
    app.jinja_options = {"trim_blocks": True, "lstrip_blocks": True}
    app.jinja_env.autoescape = True
    asking = threading.Lock()  # a model keeps the limits of one question at a time

    @app.before_request
    def refuse_other_hosts() -> None:
        try:
            asked = urlsplit(f"//{request.host}").hostname or ""
        except ValueError:  # such as "[::1"
            asked = ""
        if local and asked != host.lower() and not is_loopback(asked.removesuffix(".")):
            abort(403, "This page is served to this machine alone. Open it as http://127.0.0.1.")

    @app.get("/")
    def page() -> tuple[str, int, dict[str, str]]:
        task, letters = (request.args.get(name, "").strip() for name in ("task", "letters"))
        word: str | None = request.args.get("word", type=str.strip)
        task = task or next(iter(panel.tasks))
        suggested = [suggestion for suggestion in panel.suggestions if suggestion.task == task]
        if word is None and suggested:  # the first page shows an example
            word, letters = suggested[0].word, suggested[0].letters
        found, problem = None, ""
        try:
            if task not in panel.tasks:
                names = ", ".join(panel.tasks)
                raise BadInput(f"There is no task {task[:40]!r} here. Choose one of {names}.")
            if word is not None:
                with asking:
                    found = _result(panel, task, word, letters)
        except user_errors() as error:
            problem = str(error)
        html = render_template(
            "playground.html.jinja",
            panel=panel,
            arms=panel.splits is not None,
            with_characters=[name for name in panel.models if name in ENCODERS],
            task=task,
            word=word or "",
            found=found,
            problem=problem,
            suggested=suggested,
        )
        return html, 400 if problem else 200, HEADERS

    return app


def _listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens. Raises BadInput for a port that is taken or not allowed."""
    if not 0 <= port <= 65535:
        raise BadInput(f"--port is {port}. Choose one from 1 to 65535, or 0 for any free port.")
    try:
        # Only an IPv6 address contains a colon.
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except (OSError, UnicodeError) as error:
        reason = str(getattr(error, "strerror", None) or error).split(" (while")[0]
        raise BadInput(
            f"{host}:{port} cannot be used ({reason}). Choose another --port, 0 for any free port, "
            "or another --host."
        ) from None


def _run(argv: Sequence[str] | None, stop: Stop) -> None:
    parser = Parser("python -m examples.playground", __doc__)
    add = parser.add_argument
    add(
        "run_or_model", nargs="?",
        help="run folder, or folder or name of a model [the newest run in runs/]",
    )  # fmt: skip
    add("--host", default="127.0.0.1", help="address to listen on [%(default)s: this machine]")
    add("--port", type=int, default=PORT, help="0 for any free port [%(default)s]")
    add("--seed", type=int, help="seed of a run [its first]")
    add("--cache", type=Path, default=Path(".cache"), help="the cache of the run [%(default)s]")
    options = parser.parse_args(argv)
    check_texts(options)
    if find_spec("flask") is None:
        raise BadInput("The playground needs flask, which is not installed: pip install flask")
    from werkzeug.serving import make_server

    try:
        # The socket first: a taken port is reported before the model is loaded.
        with _listen(options.host, options.port) as server_socket:
            address, port, *_ = server_socket.getsockname()
            from examples.asking import panel_of

            stop.at_once = False
            panel = panel_of(options.run_or_model, options.seed, options.cache)
            app = build_app(panel, local=is_loopback(address), host=options.host)
            logging.getLogger("werkzeug").setLevel(logging.ERROR)  # not a line for each request
            server = make_server(options.host, port, app, threaded=True, fd=server_socket.fileno())
            host = f"[{options.host}]" if ":" in options.host else options.host
            print(f"The playground is at http://{host}:{port}/ (Ctrl-C ends it)", flush=True)
            server.serve_forever()
    except KeyboardInterrupt:
        pass
    print("\nThe playground is closed.")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Returns 0; 2 for bad input, 1 for a failure, 130 after an early Ctrl-C."""
    return run_program(lambda stop: _run(argv, stop))


if __name__ == "__main__":
    sys.exit(main())
