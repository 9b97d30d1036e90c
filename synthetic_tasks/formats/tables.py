"""Parse published files into rows of text: tables, JSON lines, literals in Python files.

No value is special: "none", "null", "true", "NA" and "1e5" stay words. Readers that convert them,
such as pandas, would change the questions of a spelling benchmark.
"""

from __future__ import annotations

import ast
import csv
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from string import Formatter
from typing import Any

from synthetic_tasks.errors import TaskError

Rows = list[dict[str, str]]
# Rows by the name of their file or of their split: "data/spell.tsv", "spell".
Tables = Mapping[str, Rows]


def table(name: str, text: str) -> Rows:
    """Parse a .tsv, .csv or .jsonl file, by its ending.

    'input1\\tlabel\\nnull\\tn u l l\\n' -> [{"input1": "null", "label": "n u l l"}]

    Raises TaskError if the file is empty, a line has another number of columns than the header, or
    a line is not a JSON object.
    """
    ending = name[name.rfind(".") :].lower()
    delimiter = "\t" if ending == ".tsv" else ","
    rows = _json_lines(name, text) if ending == ".jsonl" else _delimited(name, text, delimiter)
    if not rows:
        raise not_own(name, "has no rows")
    return rows


def as_rows(records: Iterable[Mapping[str, Any]]) -> Rows:
    """Convert records to rows of text: None becomes "", other values become JSON.

    [{"word": "tea", "options": ["a", "b"]}] -> [{"word": "tea", "options": '["a", "b"]'}]
    """
    return [{str(column): _as_text(value) for column, value in r.items()} for r in records]


def by_stem(tables: Tables) -> dict[str, tuple[str, Rows]]:
    """Index tables by stem: {"data/spell.tsv": rows} -> {"spell": ("data/spell.tsv", rows)}.

    Raises TaskError if two names have the same stem.
    """
    found: dict[str, tuple[str, Rows]] = {}
    for name, rows in tables.items():
        stem = PurePosixPath(name).stem
        if stem in found:
            raise TaskError(f"{found[stem][0]} and {name} are the same task. Keep one of them.")
        found[stem] = (name, rows)
    return found


def need(name: str, rows: Rows, *columns: str) -> Rows:
    """Return the rows. Raises TaskError if there are none or one lacks a column."""
    if not rows:
        raise not_own(name, "has no rows")
    for number, row in enumerate(rows, 1):
        if missing := [column for column in columns if column not in row]:
            found, wanted = ", ".join(row), ", ".join(missing)
            raise not_own(name, f"has in row {number} the columns {found}, but not {wanted}")
    return rows


def parse_python(name: str, text: str) -> ast.Module:
    """Return a Python file's syntax tree; nothing is run. Raises TaskError if it is not Python."""
    try:
        return ast.parse(text)
    # Deep nesting in a file makes the parser raise RecursionError or MemoryError.
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise not_own(name, f"is not Python that can be parsed ({error})") from None


def assigned(name: str, tree: ast.Module, variable: str) -> Any:
    """Return the literal that a Python file assigns to a variable at top level.

    Raises TaskError if there is no such assignment, or if its value would have to be computed.
    """
    for node in tree.body:
        if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
            continue
        # x = ... has a list of targets, and x: list[str] = ... has one
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        if variable in [target.id for target in targets if isinstance(target, ast.Name)]:
            try:
                return ast.literal_eval(node.value)
            except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
                problem = f"computes {variable}, and files are not run here"
                raise TaskError(f"{name} {problem}. Write the value as a literal.") from None
    raise not_own(name, f"does not assign {variable}")


def messages(node: ast.AST, role: str) -> list[str]:
    """Return the contents of all {"role": role, "content": ...} in Python code, as format strings.

    {"role": "user", "content": f"Spell {word}"} -> ["Spell {word}"]
    """
    found = []
    for pairs in (inner for inner in ast.walk(node) if isinstance(inner, ast.Dict)):
        both = zip(pairs.keys, pairs.values, strict=True)
        values = {key.value: value for key, value in both if isinstance(key, ast.Constant)}
        its_role, content = values.get("role"), values.get("content")
        if isinstance(its_role, ast.Constant) and its_role.value == role and content is not None:
            parts = content.values if isinstance(content, ast.JoinedStr) else [content]
            formats = [_as_format(part) for part in parts]
            found += ["".join(filter(None, formats))] if None not in formats else []
    return found


def _as_format(part: ast.expr) -> str | None:
    """Convert a text, or a plain variable of an f-string; None for anything else."""
    if isinstance(part, ast.Constant) and isinstance(part.value, str):
        return part.value.replace("{", "{{").replace("}", "}}")  # braces of the text itself
    if isinstance(part, ast.FormattedValue) and isinstance(part.value, ast.Name):
        return f"{{{part.value.id}}}"
    return None


def fill(name: str, template: str, *values: str, **named: str) -> str:
    """Fill a format string with plain fields: ("spell {}", "tea") -> "spell tea"; "{{" is a brace.

    Raises TaskError if its fields differ from the values, or are more than a name.
    """
    try:
        fields = [part for part in Formatter().parse(template) if part[1] is not None]
        names = [field or "" for _, field, _, _ in fields]
        # Files are not trusted: "{:>99999999}" could use up the memory, "{0.__class__}" reads
        # attributes.
        plain = all(not spec and conversion is None for _, _, spec, conversion in fields)
        fits = names == [""] * len(values) if values else set(names) == set(named)
        if not plain or not fits:
            raise ValueError
        return template.format(*values, **named)
    except (ValueError, LookupError):
        wanted = ", ".join(f"{{{key}}}" for key in named) or f"{len(values)} times {{}}"
        raise not_own(name, f"has a prompt without {wanted}, {_short(template)}") from None


def plain_fields(name: str, template: str) -> str:
    """Remove the names of a format string's fields: "sort {words}" -> "sort {}".

    Raises TaskError if it is no format string.
    """
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise not_own(name, f"has a prompt that is no format string ({error})") from None
    escaped = ((text.replace("{", "{{").replace("}", "}}"), field) for text, field, _, _ in parts)
    return "".join(text + ("" if field is None else "{}") for text, field in escaped)


def parse_json(text: str) -> Any:
    """Return the value of a JSON text; None if it is not JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def options(name: str, number: int, text: str) -> list[str]:
    """Parse a cell with a JSON list of different texts. Raises TaskError."""
    found = parse_json(text)
    found = found if isinstance(found, list) else []
    if len(found) < 2 or not all(isinstance(option, str) and option.strip() for option in found):
        raise TaskError(f"row {number} of {name} has {_short(text)}. Write a JSON list of texts.")
    # The likelihoods of equal options cannot tell them apart.
    if len({option.strip() for option in found}) < len(found):
        raise TaskError(f"row {number} of {name} has an option twice, {_short(text)}. Omit it.")
    return found


def _delimited(name: str, text: str, delimiter: str) -> Rows:
    try:
        # strict: without it an unclosed quote swallows the rest of the file into one cell.
        # newline="": line breaks within a quoted cell stay as they are.
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        lines = [line for line in reader if line]
    except csv.Error as error:
        raise not_own(name, f"is not a table ({error})") from None
    if not lines:
        raise not_own(name, "is empty")
    header = lines[0]
    if len(set(header)) < len(header):
        raise not_own(name, f"names a column twice ({', '.join(header)})")
    for number, line in enumerate(lines[1:], 1):
        if len(line) != len(header):
            wanted = f"its header has {len(header)} ({', '.join(header)})"
            problem = f"has {len(line)} columns, but {wanted}"
            raise TaskError(f"row {number} of {name} {problem}. Correct that row.")
    return [dict(zip(header, line, strict=True)) for line in lines[1:]]


def _json_lines(name: str, text: str) -> Rows:
    records = []
    # Not splitlines(), which also breaks at U+2028 within a JSON text.
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            if not isinstance(record := parse_json(line), dict):
                problem = f"is {_short(line)}, not a JSON object"
                raise TaskError(f"line {number} of {name} {problem}. Correct it.")
            records.append(record)
    return as_rows(records)


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:60] + "…")


def not_own(name: str, problem: str) -> TaskError:
    """Return the error for a file that differs from the published one: "is empty"."""
    return TaskError(f"{name} {problem}. Put the benchmark's own file in its place.")
