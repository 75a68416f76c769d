"""Pieces of reports as HTML: one file that holds its pictures and asks for nothing else."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path

from crowdmesh._files import atomic_path
from crowdmesh.pgt.report.tables import NONE, ReportTable

_NUMBER = re.compile(r"[\d.,]+( [%MK])?")

_STYLE = """
:root { color-scheme: light dark; --ink: #1c1e22; --page: #fbfbfc; --line: #d9dce1; --quiet: #5c626b; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8eb; --page: #17191c; --line: #3a3f46; --quiet: #a3a9b2; }
}
body { margin: 0 auto; max-width: 1280px; padding: 1.5rem; background: var(--page); color: var(--ink);
       font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.7rem; margin: 0 0 .3rem; } h2 { font-size: 1.25rem; margin: 2.2rem 0 .6rem; }
h3 { font-size: 1.05rem; margin: 1.4rem 0 .4rem; }
p { max-width: 75ch; } p.note, figcaption { color: var(--quiet); font-size: .9rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
div.scroll { overflow-x: auto; }
th, td { text-align: left; padding: .25rem 1.2rem .25rem 0; border-bottom: 1px solid var(--line);
         vertical-align: top; overflow-wrap: anywhere; }
th { font-weight: 600; } td.number, th.number { text-align: right; white-space: nowrap; }
figure { margin: 0; } figure img { max-width: 100%; height: auto; background: #fff; border-radius: 6px; }
div.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 440px), 1fr)); gap: 1.6rem; }
div.figures h3 { margin-top: 0; }
div.sheet { display: grid; gap: 1.2rem; }
"""


def write_html(path: Path, title: str, parts: Sequence[str]) -> None:
    """Write a page of these parts of its body, which are HTML; atomic."""
    text = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )
    with atomic_path(path) as temporary:
        temporary.write_text(text, "utf-8")


def table_html(table: ReportTable) -> str:
    """A table under its heading; columns of numbers are set as such."""
    numeric = [all(_is_number(row[column]) for row in table.rows) for column in range(len(table.columns))]
    kinds = [' class="number"' if number else "" for number in numeric]
    head = "".join(
        f'<th scope="col"{kind}>{escape(name)}</th>' for name, kind in zip(table.columns, kinds, strict=True)
    )
    body = "\n".join(
        "<tr>" + "".join(f"<td{kind}>{escape(cell)}</td>" for cell, kind in zip(row, kinds, strict=True)) + "</tr>"
        for row in table.rows
    )
    note = f'\n<p class="note">{escape(table.note)}</p>' if table.note else ""
    return (
        f"<h2>{escape(table.title)}</h2>\n"
        f'<div class="scroll"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>{note}'
    )


def _is_number(cell: str) -> bool:
    return cell == NONE or _NUMBER.fullmatch(cell) is not None


def image_html(path: Path, words: str) -> str:
    """A PNG inside the page; ``words`` stand in for it where it cannot be seen."""
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    return f'<img alt="{escape(words)}" src="data:image/png;base64,{data}">'
