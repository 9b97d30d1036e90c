"""The format of numbers and short phrases, the same on every page and in every table."""

from __future__ import annotations

from collections.abc import Sequence

from training.intervals import Row


def percent(share: float) -> str:
    """0.876 -> "88 %", but 0.998 -> "99.8 %": only 0 and 1 give "0 %" and "100 %"."""
    rounded = f"{100 * share:.0f} %"
    # one wrong answer in 500 is not "100 %"
    exact = share in (0, 1) or rounded not in ("0 %", "100 %")
    return rounded if exact else f"{100 * share:.1f} %"


def bounds(row: Row, form: str = "{:.0f}", scale: float = 100) -> str:
    """Format the interval of a row: "80 to 89"; "" if it has none."""
    if row.low is None or row.high is None:
        return ""
    return f"{form.format(scale * row.low)} to {form.format(scale * row.high)}"


def span(row: Row) -> str:
    """Format a difference with interval and unit: "+85 points [+80 to +90]", "-0.038 nats"."""
    # nats and points differ by a factor of 100: the unit is written beside every number
    scale, form, unit = (
        (1, "{:+.3f}", "nats") if "nats" in row.metric else (100, "{:+.0f}", "points")
    )
    interval = bounds(row, form, scale)
    return f"{form.format(scale * row.value)} {unit}" + (f" [{interval}]" if interval else "")


def p_values(row: Row) -> str:
    """Format both p-values of a difference: "p 0.004, Holm 0.021"; "" if it has none."""
    if row.p is None or row.p_holm is None:
        return ""
    # below 0.001 the digits of a p-value carry no information for a reader
    alone, corrected = ("< 0.001" if p < 0.001 else f"{p:.3f}" for p in (row.p, row.p_holm))
    return f"p {alone}, Holm {corrected}"


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def bare(place: str) -> str:
    """Turn a split's place into a name: "On new graphs" -> "new graphs"."""
    return place.removeprefix("On ")


def tied(text: str) -> str:
    """Forbid a line break between a number and its percent sign."""
    return text.replace(" %", "\u00a0%")


def listed(parts: Sequence[str]) -> str:
    """["a", "b", "c"] -> "a, b and c" """
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))


def replay_sentence(share: float, target: str, text: str) -> str:
    """Describe the replay of a phase from its config fields; "" if it has none.

    (0.2, "base", "corpus") -> "20 % of the steps distil the pretrained model on running text
    (replay)."
    """
    if not share:
        return ""
    source = {
        "corpus": "running text",
        "base": "text sampled from the pretrained model",
        "both": "running text and text sampled from the pretrained model in turn",
    }[text]
    # with a base as the target, a step fits its distribution, not the next token
    verb = "distil the pretrained model on" if target == "base" else "train on"
    return f"{100 * share:.0f} % of the steps {verb} {source} (replay)."
