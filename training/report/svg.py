"""From a figure to an svg element of a page: the page's colours in light and dark, its font, a label."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from html import escape

from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

from training.models.arms import ARMS, arm_names

INK, SOFT, LINE, PAPER = "#202124", "#5b6066", "#dfe2e6", "#ffffff"
# The names under which a page sets these colours, in light and in dark.
LIGHT = {"ink": INK, "soft": SOFT, "line": LINE, "paper": PAPER}
DARK = {"ink": "#e8eaed", "soft": "#a9afb7", "line": "#383d44", "paper": "#15181c"}
# The curves of a study, which are no arms: a page knows them as series-0, series-1, ...
SERIES = ("#7a3b96", "#3f66b5", "#23898a", "#4f9a3a", "#b98a1e", "#c9562c")
SERIES_NAMES = tuple(f"series-{number}" for number in range(len(SERIES)))
COLOURS = {name: ARMS[name].colour for name in arm_names()} | dict(
    zip(SERIES_NAMES, SERIES, strict=True)
)
FONT = 'system-ui, "Segoe UI", Helvetica, Arial, sans-serif'


def colours(names: Iterable[str] = ()) -> dict[str, dict[str, str]]:
    """The colours of a page by scheme and name: its own and those of some arms or series.

    ["lstm"] -> {"light": {"ink": "#202124", ..., "lstm": "#1f6f8b"}, "dark": ...}

    On dark paper an arm or series has a third of white in its colour.
    """
    own = {name: COLOURS[name] for name in names}
    pale = {name: _paler(colour) for name, colour in own.items()}
    return {"light": LIGHT | own, "dark": DARK | pale}


def _paler(colour: str) -> str:
    red, green, blue = ((2 * part + 1) / 3 for part in to_rgb(colour))
    return to_hex((red, green, blue))


def svg_of(figure: Figure, name: str, label: str) -> str:
    """A figure as an <svg> element with a role and a label: the same bytes for the same data.

    Its ids begin with `name`, so that several can stand in one page. Its colours are the page's variables,
    with the light ones for where there are none; its font is the page's.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    text = buffer.getvalue()
    svg = text[text.index("<svg") :]
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"\s*<style[^>]*>.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->\s*", "", svg, flags=re.DOTALL)
    used = set(re.findall(r"#([\w-]+)[\")]", svg))
    svg = re.sub(
        r' id="([^"]+)"', lambda found: f' id="{name}-{found[1]}"' if found[1] in used else "", svg
    )
    svg = re.sub(r'(xlink:href="|url\()#', rf"\1#{name}-", svg)
    svg = re.sub(r"font: ([^;\"']*?)([\d.]+px) [^;\"]*", _font, svg)
    named = {colour: name for name, colour in (LIGHT | COLOURS).items()}
    svg = re.sub(
        "#[0-9a-f]{6}", lambda c: f"var(--{named[c[0]]}, {c[0]})" if c[0] in named else c[0], svg
    )
    start, rest = svg.split(">", 1)
    title = f'<title id="{name}-title">{escape(label)}</title>'
    return f'{start} role="img" aria-labelledby="{name}-title">{title}{rest}'


def _font(found: re.Match[str]) -> str:
    weight = "font-weight: 700; " if "700" in found[1] or "bold" in found[1] else ""
    return f"{weight}font-size: {found[2]}"


def alone(svg: str, names: Iterable[str]) -> str:
    """With its own colours and paper, so that it can be read outside of any page, in light and in dark."""
    schemes = {
        scheme: "; ".join(f"--{name}: {colour}" for name, colour in names.items())
        for scheme, names in colours(names).items()
    }
    style = (
        f"<style>svg {{ {schemes['light']}; font-family: {FONT}; }} "
        f"@media (prefers-color-scheme: dark) {{ svg {{ {schemes['dark']}; }} }}</style>"
        f'<rect width="100%" height="100%" rx="6" style="fill: var(--paper, {PAPER})"/>'
    )
    start, rest = svg.split("</title>", 1)
    return f"{start}</title>{style}{rest}"
