"""The report as one HTML file that holds its pictures and asks for nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import groupby
from pathlib import Path

from crowdmesh.pgt.report.figures import ReportFigure
from crowdmesh.pgt.report.html import image_html, table_html, write_html
from crowdmesh.pgt.report.sheet import SheetPicture
from crowdmesh.pgt.report.tables import ReportTable


def write_page(
    path: Path,
    title: str,
    introduction: Sequence[str],
    tables: Sequence[ReportTable],
    figures: Sequence[ReportFigure],
    sheet: Sequence[SheetPicture],
    licences: Sequence[str],
) -> None:
    """Write the page; atomic.

    Args:
        introduction: paragraphs below the title. tables: the first stands above the figures, the others below.
        licences: what a user must know about using the set, one sentence each.
    """
    parts = [f"<h1>{escape(title)}</h1>", *(f"<p>{escape(text)}</p>" for text in introduction)]
    parts += [table_html(table) for table in tables[:1]]
    parts += ["<h2>Figures</h2>", '<div class="figures">', *map(_figure, figures), "</div>"]
    parts += [table_html(table) for table in tables[1:]]
    parts += ["<h2>Contact sheet</h2>", *_sheet(sheet)]
    if licences:
        parts += ["<h2>Terms of use</h2>", "<ul>", *(f"<li>{escape(text)}</li>" for text in licences), "</ul>"]
    write_html(path, title, parts)


def _figure(figure: ReportFigure) -> str:
    picture = image_html(figure.path, figure.title) if figure.path is not None else ""
    return (
        f"<figure><h3>{escape(figure.title)}</h3>{picture}\n<figcaption>{escape(figure.caption)}</figcaption></figure>"
    )


def _sheet(pictures: Sequence[SheetPicture]) -> list[str]:
    if not pictures:
        return ["<p>No image of the set has people to show.</p>"]
    parts = [
        "<p>Left: everybody alone, as the source has them. Middle: everybody placed together. Right: from above, with "
        "arrows from where people were to where they are. Everybody stays on their pixels, so that the two overlays "
        "differ only in who hides whom. The score is the mean standardised residual of the image.</p>"
    ]
    for group, members in groupby(pictures, key=lambda picture: picture.group):
        parts += [f"<h3>{escape(group)}</h3>", '<div class="sheet">']
        for picture in members:
            image = image_html(picture.path, f"{picture.group}: before, after, from above") if picture.path else ""
            parts.append(f"<figure>{image}\n<figcaption>{escape(picture.caption)}</figcaption></figure>")
        parts.append("</div>")
    return parts
