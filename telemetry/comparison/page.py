"""One HTML file with the table and all pictures in it: opens from disk, asks no network for anything."""

import base64
from collections.abc import Mapping, Sequence
from html import escape
from string import Template

from telemetry.comparison.tables import NOTES, Table

Pictures = Mapping[str, tuple[str, bytes]]
"""By name, what each shows, and its PNG file."""

PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>Roundtrip: $summary</title>
<style>
  :root { color-scheme: light dark; }
  body { font: 15px/1.45 system-ui, sans-serif; max-width: 1200px; margin: 0 auto; padding: 0 1rem 2rem; }
  .wide { overflow-x: auto; }
  table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
  th, td { padding: .2em .6em; text-align: right; border-bottom: 1px solid #8884; white-space: nowrap; }
  th { vertical-align: bottom; white-space: normal; cursor: pointer; }
  th:hover { text-decoration: underline; }
  th[aria-sort=ascending]::after { content: " \\25B4"; }
  th[aria-sort=descending]::after { content: " \\25BE"; }
  .name { text-align: left; font-family: ui-monospace, monospace; }
  th.name { font-family: inherit; }
  img { width: 100%; max-width: 1350px; min-width: 700px; height: auto; background: white; border-radius: 4px; }
  li { overflow-wrap: anywhere; }
</style>
</head>
<body>
<h1>$title</h1>
<p>$summary</p>
<h2>$heading</h2>
<div class="wide"><table>
<thead><tr>$header</tr></thead>
<tbody>
$rows
</tbody>
</table></div>
$notes
$parts
<script>
// A click on a column's title sorts by it, a second one the other way round; empty cells stay last.
for (const head of document.querySelectorAll("th")) head.onclick = () => {
  const body = document.querySelector("tbody"), column = head.cellIndex;
  const sign = head.ariaSort === "ascending" ? -1 : 1;
  for (const other of document.querySelectorAll("th")) other.ariaSort = null;
  head.ariaSort = sign > 0 ? "ascending" : "descending";
  const text = row => row.cells[column].textContent, number = row => parseFloat(text(row).replace("<", ""));
  const order = (a, b) => (text(a) === "") - (text(b) === "")
    || sign * (number(a) - number(b) || text(a).localeCompare(text(b)));
  body.append(...[...body.rows].sort(order));
};
</script>
</body>
</html>
""")


def page(summary: str, table: Table, left_out: Sequence[str], pictures: Pictures) -> str:
    """The whole file of a comparison.

    Args:
        summary: what was compared, a sentence.
        table: the ranking.
        left_out: a sentence for each run that is not in it.
        pictures: by name, what each shows, and its PNG file.
    """
    items = "".join(f"<li>{escape(line)}</li>" for line in left_out)
    below = f"<h2>Not in the ranking</h2>\n<ul>{items}</ul>" if left_out else ""
    return document("Runs compared", summary, "Ranking", table, NOTES, [below, pictures_html(pictures)])


def document(title: str, summary: str, heading: str, table: Table, notes: Sequence[str], parts: Sequence[str]) -> str:
    """A whole file: a title, a sentence, a table that can be sorted, with notes, and parts in HTML."""
    return PAGE.substitute(
        title=escape(title),
        summary=escape(summary),
        heading=escape(heading),
        header=_row("th", table.header, table.labels),
        rows="\n".join(f"<tr>{_row('td', line, table.labels)}</tr>" for line in table.lines),
        notes="\n".join(f"<p>{escape(note)}</p>" for note in notes),
        parts="\n".join(parts),
    )


def pictures_html(pictures: Pictures) -> str:
    """Pictures, by name, with headings and captions."""
    return "\n".join(_picture(name, *content) for name, content in pictures.items())


def _row(tag: str, texts: Sequence[str], labels: int) -> str:
    names = [f'<{tag} class="name">{escape(text)}</{tag}>' for text in texts[:labels]]
    return "".join([*names, *(f"<{tag}>{escape(text)}</{tag}>" for text in texts[labels:])])


def _picture(name: str, caption: str, png: bytes) -> str:
    heading = name.replace("_", " ").capitalize()
    data = base64.b64encode(png).decode()
    image = f'<div class="wide"><img alt="{escape(heading)}" src="data:image/png;base64,{data}"></div>'
    return f"<h2>{escape(heading)}</h2>\n<p>{escape(caption)}</p>\n{image}"
