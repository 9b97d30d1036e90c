"""Published files as rows of text: tables without any guess about missing values, literals in Python files.

No value is special: "none", "null", "true", "NA" and "1e5" stay the words that they are.
"""

from __future__ import annotations

import ast
import csv
import io
import json
from collections.abc import Iterable, Mapping
from string import Formatter
from typing import Any

from synthetic_tasks.errors import TaskError

Rows = list[dict[str, str]]
DELIMITERS = {".tsv": "\t", ".csv": ","}


def table(name: str, text: str) -> Rows:
    """A .tsv, .csv or .jsonl file by its ending.

    'input1\\tlabel\\nnull\\tn u l l\\n' -> [{"input1": "null", "label": "n u l l"}]

    Raises TaskError for an empty file, for a line with another number of columns than the header, and for a
    line that is no JSON object.
    """
    ending = name[name.rfind(".") :].lower()
    rows = (
        _json_lines(name, text)
        if ending == ".jsonl"
        else _delimited(name, text, DELIMITERS.get(ending, ","))
    )
    if not rows:
        raise not_own(name, "holds no rows")
    return rows


def as_rows(records: Iterable[Mapping[str, Any]]) -> Rows:
    """Records of any reader as rows of text: a text stays, None is "", anything else is written as JSON.

    [{"question": "Which?", "options": ["a", "b"]}] -> [{"question": "Which?", "options": '["a", "b"]'}]
    """
    return [
        {str(column): _as_text(value) for column, value in record.items()} for record in records
    ]


def need(name: str, rows: Rows, *columns: str) -> Rows:
    """The rows, once it is sure that they have these columns. Raises TaskError."""
    if not rows:
        raise not_own(name, "holds no rows")
    for number, row in enumerate(rows, 1):
        if missing := [column for column in columns if column not in row]:
            seen, wanted = ", ".join(row), ", ".join(missing)
            raise not_own(name, f"has in row {number} the columns {seen}, but not {wanted}")
    return rows


def parse_python(name: str, text: str) -> ast.Module:
    """A Python file's syntax tree; nothing of it is ever run. Raises TaskError where it is not Python."""
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise not_own(name, f"is not Python that can be parsed ({error})") from None


def assigned(name: str, tree: ast.Module, variable: str) -> Any:
    """The literal that a Python file assigns to a variable at its top level.

    Raises TaskError where it assigns none, or something that would have to be computed.
    """
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id == variable for target in node.targets
        ):
            try:
                return ast.literal_eval(node.value)
            except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
                raise TaskError(
                    f"{name} computes {variable} instead of writing it out as a literal, and no file is run "
                    "here: write it out."
                ) from None
    raise not_own(name, f"does not assign {variable}")


def messages(node: ast.AST, role: str) -> list[str]:
    """What stands in Python as {"role": role, "content": ...}, each a text or an f-string, as format strings.

    {"role": "user", "content": f"Spell {word}"} -> ["Spell {word}"]
    """
    found = []
    for pairs in (inner for inner in ast.walk(node) if isinstance(inner, ast.Dict)):
        at = {
            k.value: v
            for k, v in zip(pairs.keys, pairs.values, strict=True)
            if isinstance(k, ast.Constant)
        }
        said, content = at.get("role"), at.get("content")
        if isinstance(said, ast.Constant) and said.value == role and content is not None:
            parts = content.values if isinstance(content, ast.JoinedStr) else [content]
            formats = [_as_format(part) for part in parts]
            found += ["".join(filter(None, formats))] if None not in formats else []
    return found


def _as_format(part: ast.expr) -> str | None:
    """A piece of text, or a plain variable of an f-string; None for anything else."""
    if isinstance(part, ast.Constant) and isinstance(part.value, str):
        return part.value.replace("{", "{{").replace("}", "}}")
    if isinstance(part, ast.FormattedValue) and isinstance(part.value, ast.Name):
        return f"{{{part.value.id}}}"
    return None


def fill(name: str, template: str, *values: str, **named: str) -> str:
    """A format string with plain places, filled: ("spell {}", "tea") -> "spell tea"; "{{" is a brace.

    Raises TaskError for a template whose places are not exactly those values, or hold more than a name.
    """
    try:
        places = [part for part in Formatter().parse(template) if part[1] is not None]
        plain = all(not spec and conversion is None for _, _, spec, conversion in places)
        names = [field or "" for _, field, _, _ in places]
        fits = names == [""] * len(values) if values else set(names) == set(named)
        if not plain or not fits:
            raise ValueError
        return template.format(*values, **named)
    except (ValueError, LookupError):
        wanted = ", ".join(f"{{{key}}}" for key in named) or f"{len(values)} times {{}}"
        raise not_own(name, f"holds a prompt without {wanted}, {_short(template)}") from None


def options(name: str, number: int, text: str) -> list[str]:
    """A cell that holds a JSON list of different texts. Raises TaskError."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if (
        not isinstance(found, list)
        or len(found) < 2
        or not all(isinstance(option, str) for option in found)
    ):
        raise TaskError(
            f"row {number} of {name} has no JSON list of options but {_short(text)}: write one of texts."
        )
    if len(set(found)) < len(found):
        raise TaskError(
            f"row {number} of {name} has the same option twice: {_short(text)}. Leave that row out."
        )
    return found


def _delimited(name: str, text: str, delimiter: str) -> Rows:
    try:
        lines = [
            line
            for line in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
            if line
        ]
    except csv.Error as error:
        raise not_own(name, f"is no table ({error})") from None
    if not lines:
        raise not_own(name, "is empty")
    header = lines[0]
    if len(set(header)) < len(header):
        raise TaskError(
            f"{name} names a column twice ({', '.join(header)}): give each its own name."
        )
    for number, line in enumerate(lines[1:], 1):
        if len(line) != len(header):
            raise TaskError(
                f"row {number} of {name} has {len(line)} columns, its header {len(header)} "
                f"({', '.join(header)}): mend that row."
            )
    return [dict(zip(header, line, strict=True)) for line in lines[1:]]


def _json_lines(name: str, text: str) -> Rows:
    records = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                record = None
            if not isinstance(record, dict):
                raise TaskError(
                    f"line {number} of {name} is no JSON object but {_short(line)}: mend that line."
                )
            records.append(record)
    return as_rows(records)


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:60] + "…")


def not_own(name: str, what: str) -> TaskError:
    """What to raise where a file is not what the benchmark publishes: "is empty", "holds no rows"."""
    return TaskError(f"{name} {what}: put the benchmark's own file in its place.")
