"""The page of a study: figures, one table, and links to the reports of its runs."""

from __future__ import annotations

from collections.abc import Sequence

from training.report.page import Table, render

from .findings import Findings
from .studies import Point, Study


def page(study: Study, size: str, points: Sequence[Point], findings: Findings) -> str:
    """Render the page of a study; its links are relative to the study's folder."""
    seeds = points[0].config.seeds
    each = f"{seeds} seeds each" if seeds > 1 else "one seed each"
    return render(
        "study/page.html.jinja",
        study=study,
        size=size,
        points=points,
        findings=findings,
        answers=Table(findings.headings, findings.lines),
        pictures=[(picture.caption, picture.svg) for picture in findings.pictures],
        count=f"{len(points)} point{'s' if len(points) > 1 else ''} of a grid, {each}",
        record=f"The config of {points[0].name}",
        facts=points[0].config.as_dict(),
    )
