"""Write a report as one self-contained HTML file that works offline, in light or dark mode, on phone or desktop.

A page is a value made of sections of blocks. Only ``Page(...).write(path)`` has an effect::

    Page(
        "Data set",
        "12,000 photographs of 240 species",
        [Section("Splits", [Text("Every photograph once."), Table(frame, caption="per split")])],
    ).write(Path("report.html"))
"""

import base64
import hashlib
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from linnaea.errors import LinnaeaError
from linnaea.storage import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Plot

PLOT_WIDTH = 3.5
"""The width of a plot in inches: a phone shows it whole, with text of about 8 points. A larger screen enlarges it."""
PLOT_ZOOM = 1.6
"""The factor by which a larger screen enlarges a plot of :data:`PLOT_WIDTH`."""
FIGURE_DPI = 288
"""The resolution of figures: three pixels for one of the 96 pixels of a CSS inch."""


@dataclass(frozen=True)
class Text:
    """One or more paragraphs, separated by blank lines; text between backticks is set as code."""

    text: str


@dataclass(frozen=True)
class Facts:
    """A few key numbers in large type, each with its name: ``{"images": "12,000"}``."""

    values: Mapping[str, object]


@dataclass(frozen=True)
class Table:
    """A table from a polars frame or from rows; numbers are right-aligned with thousands separators.

    ``percent`` names columns of shares in 0..1. Rows beyond ``limit`` are left out, and the page says so.
    """

    rows: Any
    """A ``pl.DataFrame``, or mappings with the same keys."""
    caption: str = ""
    percent: Sequence[str] = ()
    limit: int = 200


def plot_label(name: str) -> str:
    """Return a name as matplotlib is to draw it: dollar signs are not the marks of a formula."""
    return name.replace("$", r"\$")


def new_plot(
    height: float, *, width: float = PLOT_WIDTH, columns: int = 1, lines: int = 1, **options: Any
) -> "tuple[Plot, Any]":
    """Return a matplotlib figure and its axes, with text that can be read on a phone; sizes are in inches.

    ``options`` are those of ``Figure.subplots``. A phone scrolls figures wider than :data:`PLOT_WIDTH` sideways.
    """
    from matplotlib.figure import Figure as MatplotlibFigure

    plot = MatplotlibFigure(figsize=(width, height), layout="constrained")
    axes = plot.subplots(lines, columns, **options)
    for panel in plot.axes:
        panel.spines[["top", "right"]].set_visible(False)
        panel.spines[:].set_linewidth(0.6)
        panel.tick_params(labelsize=7.5, width=0.6, length=2.5, pad=2)
        panel.title.set_fontsize(8)
        panel.xaxis.label.set_fontsize(8)
        panel.yaxis.label.set_fontsize(8)
    return plot, axes


@dataclass(frozen=True)
class Figure:
    """A matplotlib figure, or the bytes of a PNG or JPEG; ``alt`` is its alternative text."""

    image: Any
    alt: str
    caption: str = ""


@dataclass(frozen=True)
class Card:
    """A photograph with lines of text; ``mark`` shows it as right or wrong."""

    image: bytes
    """PNG or JPEG."""
    alt: str
    lines: Sequence[str] = ()
    mark: Literal["right", "wrong", ""] = ""
    latin: Sequence[str] = ()
    """Names of genera and species, which are set in italics wherever a line has them."""
    file: str = ""
    """The name of the photograph's file, shown last; it is broken behind ``_`` where it is too long."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What the card is found by where cards are browsed: ``status``, ``rank``, ``certainty`` (a number), ``lineage`` (a
    list) and ``name``."""


@dataclass(frozen=True)
class Cards:
    """A grid of photographs that wraps to the width of the screen."""

    cards: Sequence[Card]
    caption: str = ""
    width: int = 150
    """The minimum width of a card in pixels; a phone shows two columns of 150."""
    browsed: bool = False
    """True if the page filters the cards by text, rank and status, and sorts them."""


@dataclass(frozen=True)
class Chart:
    """An interactive plotly figure; plotly itself (about 5 MB) is embedded in the page once."""

    figure: Any
    alt: str
    caption: str = ""
    height: int = 640
    """The height in pixels; on a small screen, at most 80% of the screen."""


@dataclass(frozen=True)
class Details:
    """Blocks that are hidden until the summary line is clicked."""

    summary: str
    blocks: "Sequence[Block]"


Block: TypeAlias = Text | Facts | Table | Figure | Cards | Chart | Details


@dataclass(frozen=True)
class Section:
    """A heading with blocks below it."""

    heading: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Page:
    """A report with a title, a subtitle and sections; with four or more sections, links to them are at the top."""

    title: str
    subtitle: str = ""
    sections: Sequence[Section] = field(default_factory=tuple)
    footer: str = ""

    def html(self) -> str:
        """Return the whole document as HTML."""
        charts = any(_has_chart(section.blocks) for section in self.sections)
        scripts = f"<script>{_plotly_source()}</script>" if charts else ""
        browsed = any(isinstance(block, Cards) and block.browsed for one in self.sections for block in one.blocks)
        scripts += f"<script>{_BROWSE}</script>" if browsed else ""
        allowed = "script-src 'unsafe-inline'; img-src data: blob:" if scripts else "img-src data:"
        return _DOCUMENT.format(
            title=escape(self.title),
            subtitle=f'<p class="subtitle">{_inline(self.subtitle)}</p>' if self.subtitle else "",
            # The policy prevents the page and the libraries inside it from loading anything.
            policy=f"default-src 'none'; style-src 'unsafe-inline'; {allowed}",
            style=_STYLE,
            scripts=scripts,
            contents=self._contents(),
            body="\n".join(_render_section(number, section) for number, section in enumerate(self.sections)),
            footer=f"<footer>{_inline(self.footer)}</footer>" if self.footer else "",
        )

    def write(self, path: Path) -> None:
        """Write the page to ``path`` in one step.

        Raises:
            LinnaeaError: The file cannot be written, or an image is neither PNG nor JPEG.
        """
        write_atomically(path, self.html())

    def _contents(self) -> str:
        if len(self.sections) < 4:
            return ""
        links = "".join(f'<a href="#s{i}">{escape(section.heading)}</a>' for i, section in enumerate(self.sections))
        return f'<nav aria-label="Sections">{links}</nav>'


def _has_chart(blocks: Iterable[Block]) -> bool:
    return any(isinstance(b, Chart) or (isinstance(b, Details) and _has_chart(b.blocks)) for b in blocks)


def _render_section(number: int, section: Section) -> str:
    body = "\n".join(_render(block) for block in section.blocks)
    return f'<section id="s{number}"><h2>{escape(section.heading)}</h2>\n{body}</section>'


def _render(block: Block) -> str:  # noqa: PLR0911 - one return for each kind of block
    match block:
        case Text(text):
            return "".join(f"<p>{_inline(part.strip())}</p>" for part in text.split("\n\n") if part.strip())
        case Facts(values):
            cells = (f"<div><dd>{escape(_cell(v))}</dd><dt>{escape(k)}</dt></div>" for k, v in values.items())
            return f'<dl class="facts">{"".join(cells)}</dl>'
        case Table():
            return _render_table(block)
        case Figure(image, alt, caption):
            picture = f'<div class="scroll" tabindex="0">{_image(image, alt)}</div>'
            return f'<figure class="plot">{picture}{_caption(caption)}</figure>'
        case Cards(cards, caption, width, browsed):
            grid = "".join(_render_card(card) for card in cards)
            tools = _render_tools(cards) if browsed else ""
            return f'{tools}<figure><div class="cards" style="--w:{width}px">{grid}</div>{_caption(caption)}</figure>'
        case Chart():
            return _render_chart(block)
        case Details(summary, blocks):
            inner = "".join(_render(inside) for inside in blocks)
            return f"<details><summary>{_inline(summary)}</summary>{inner}</details>"


def _inline(text: str) -> str:
    """Return escaped text, with text between backticks as code."""
    parts = escape(text).split("`")
    if len(parts) % 2 == 0:  # an unpaired backtick is kept as it is
        return escape(text)
    return "".join(f"<code>{part}</code>" if i % 2 else part for i, part in enumerate(parts))


def _caption(text: str) -> str:
    return f"<figcaption>{_inline(text)}</figcaption>" if text else ""


def _cell(value: object, *, percent: bool = False) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return unsigned_zero(f"{value:.1%}" if percent else f"{value:,.{'4g' if abs(value) < 1000 else '0f'}}")
        case _:
            return str(value)


def unsigned_zero(number: str) -> str:
    """Return a written number without the minus of one that was rounded to zero."""
    return number if any(digit in number for digit in "123456789") else number.removeprefix("-")


def _render_table(table: Table) -> str:
    rows: list[Mapping[str, object]]
    if hasattr(table.rows, "iter_rows"):
        columns, n_rows = list(table.rows.columns), table.rows.height
        rows = list(table.rows.head(table.limit).iter_rows(named=True))
    else:
        every = list(table.rows)
        columns, n_rows, rows = list(every[0]) if every else [], len(every), every[: table.limit]
    numeric = {c for c in columns if all(isinstance(row[c], int | float) or row[c] is None for row in rows)}
    head = "".join(f"<th{_right(c in numeric)}>{escape(c)}</th>" for c in columns)
    body = "".join(
        "<tr>"
        + "".join(
            f"<td{_right(c in numeric)}>{escape(_cell(row[c], percent=c in table.percent))}</td>" for c in columns
        )
        + "</tr>"
        for row in rows
    )
    cut = f"Only the first {table.limit:,} of {n_rows:,} rows are shown." if n_rows > table.limit else ""
    caption = " ".join(part for part in (table.caption, cut) if part)
    return (
        f'<figure><div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>{_caption(caption)}</figure>"
    )


def _right(numeric: bool) -> str:
    return ' class="n"' if numeric else ""


def _render_card(card: Card) -> str:
    first, *rest = card.lines or ("",)
    lines = f"<b>{_italic(first, card.latin)}</b>"
    lines += "".join(f"<span>{_italic(line, card.latin)}</span>" for line in rest)
    lines += f"<small>{escape(card.file).replace('_', '_<wbr>')}</small>" if card.file else ""
    # Colour is never the only sign: there is also a mark, with a word for screen readers.
    sign = {"right": "✓", "wrong": "✗", "": ""}[card.mark]
    mark = f'<i role="img" aria-label="{card.mark}">{sign}</i>' if sign else ""
    facts = f' data-facts="{escape(json.dumps(dict(card.facts), ensure_ascii=False))}"' if card.facts else ""
    return f'<div class="card {card.mark}"{facts}>{mark}{_image(card.image, card.alt)}<div>{lines}</div></div>'


def _italic(text: str, names: Sequence[str]) -> str:
    """Return escaped text with ``names`` in italics, of two at one place the longer."""
    ways = "|".join(re.escape(escape(name)) for name in sorted(filter(None, names), key=len, reverse=True))
    return re.sub(rf"(?<!\w)(?:{ways})(?!\w)", r"<em>\g<0></em>", escape(text)) if ways else escape(text)


def _render_tools(cards: Sequence[Card]) -> str:
    """Return the fields that filter and sort cards, with the values that occur."""

    def options(key: str) -> str:
        values = dict.fromkeys(str(card.facts.get(key) or "") for card in cards)
        return "".join(f"<option>{escape(value)}</option>" for value in sorted(values) if value)

    return f"""<form class="tools" role="search"><label>taxon, name or file<input type="search" class="text"></label>
<label>rank<select class="rank"><option value="">all</option>{options("rank")}</select></label>
<label>answer<select class="status"><option value="">all</option>{options("status")}</select></label>
<label>certainty<select class="least"><option value="0">any</option><option value="0.5">at least 50%</option>
<option value="0.9">at least 90%</option><option value="0.99">at least 99%</option></select></label>
<label>sort by<select class="order"><option value="">as given</option><option value="doubt">least sure first</option>
<option value="sure">surest first</option><option value="lineage">by lineage</option>
<option value="name">by file</option></select></label><output></output></form>"""


def _image(image: Any, alt: str) -> str:
    size = ""
    if not isinstance(image, bytes):
        inches = image.get_size_inches()
        zoom = PLOT_ZOOM if inches[0] <= PLOT_WIDTH else 1
        size = f' width="{round(inches[0] * 96 * zoom)}" height="{round(inches[1] * 96 * zoom)}"'
        size += "" if zoom > 1 else ' class="wide"'
        stream = io.BytesIO()
        image.savefig(stream, format="png", dpi=FIGURE_DPI, facecolor="white", metadata={"Software": None})
        image = stream.getvalue()
    if image.startswith(b"\x89PNG\r\n\x1a\n"):
        kind = "png"
    elif image.startswith(b"\xff\xd8\xff"):
        kind = "jpeg"
    else:
        raise LinnaeaError(f"page: the image {alt!r} is neither PNG nor JPEG; convert it first")
    data = base64.b64encode(image).decode()
    return f'<img alt="{escape(alt)}"{size} decoding="sync" src="data:image/{kind};base64,{data}">'


def _render_chart(chart: Chart) -> str:
    import plotly.io

    # plotly would choose a random id. A fixed one gives the same page the same bytes.
    content = hashlib.sha256(f"{chart.alt}{plotly.io.to_json(chart.figure)}".encode()).hexdigest()
    div = plotly.io.to_html(
        chart.figure,
        div_id=f"chart-{content[:16]}",
        include_plotlyjs=False,
        full_html=False,
        default_width="100%",
        default_height="100%",
        config={"displaylogo": False, "responsive": True, "displayModeBar": False},
    )
    box = f'<div class="chart" role="img" aria-label="{escape(chart.alt)}" style="--h:{chart.height}px">{div}</div>'
    return f"<figure>{box}{_caption(chart.caption)}</figure><script>{_FOLLOW_THEME}</script>"


def _plotly_source() -> str:
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


_FOLLOW_THEME = """(() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const paint = () => document.querySelectorAll(".js-plotly-plot").forEach(plot => Plotly.relayout(plot, {
    "font.color": getComputedStyle(document.body).color, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)"
  }));
  dark.addEventListener("change", paint); paint();
})();"""

_BROWSE = """addEventListener("DOMContentLoaded", () => document.querySelectorAll("form.tools").forEach(form => {
  const grid = form.nextElementSibling.querySelector(".cards"), cards = [...grid.children];
  const facts = new Map(cards.map(card => [card, JSON.parse(card.dataset.facts)]));
  const value = name => form.querySelector("." + name).value;
  const orders = {doubt: (a, b) => a.certainty - b.certainty, sure: (a, b) => b.certainty - a.certainty,
    lineage: (a, b) => a.lineage.join().localeCompare(b.lineage.join()), name: (a, b) => a.name.localeCompare(b.name)};
  const show = () => {
    const text = value("text").trim().toLowerCase();
    let n = 0;
    for (const card of cards) {
      const one = facts.get(card), words = (card.innerText || card.textContent).toLowerCase() + " "
        + [...one.lineage, one.name].join(" ").toLowerCase();
      card.hidden = !(words.includes(text) && (!value("rank") || one.rank === value("rank"))
        && (!value("status") || one.status === value("status")) && one.certainty >= +value("least"));
      n += !card.hidden;
    }
    const by = orders[value("order")];
    grid.append(...(by ? [...cards].sort((a, b) => by(facts.get(a), facts.get(b))) : cards));
    form.querySelector("output").textContent = `${n} of ${cards.length} shown`;
  };
  form.oninput = show;
  form.onsubmit = event => event.preventDefault();
  show();
}));"""

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2620; --soft: #5c675f; --line: #d9dfd8; --paper: #fbfcfa; --raised: #fff;
  --accent: #2f6f4f; --right: #2e7d4f; --wrong: #b3382c; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4eae4; --soft: #9daaa0; --line: #333d36; --paper: #141a16;
  --raised: #1c2420; --accent: #7fc49c; --right: #63c088; --wrong: #f0857a; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 40px 20px 64px; }
header { border-bottom: 3px solid var(--accent); padding-bottom: 14px; margin-bottom: 20px; }
h1 { font-size: clamp(1.6rem, 4.5vw, 2.3rem); line-height: 1.15; margin: 0; letter-spacing: -.015em;
  overflow-wrap: anywhere; }
.subtitle { margin: 8px 0 0; color: var(--soft); font-size: 1.05rem; }
nav { display: flex; flex-wrap: wrap; gap: 6px; margin: 0 0 8px; }
nav a { color: var(--accent); text-decoration: none; border: 1px solid var(--line); border-radius: 99px;
  padding: 4px 12px; font-size: .88rem; background: var(--raised); }
nav a:hover, nav a:focus { border-color: var(--accent); }
section { margin-top: 36px; scroll-margin-top: 12px; }
h2 { font-size: 1.3rem; margin: 0 0 10px; letter-spacing: -.01em; }
p { max-width: 72ch; margin: 0 0 12px; overflow-wrap: break-word; }
code { font: .9em ui-monospace, "SF Mono", Menlo, Consolas, monospace;
  background: color-mix(in srgb, var(--line) 55%, transparent);
  border-radius: 4px; padding: 1px 5px; overflow-wrap: anywhere; }
figure { margin: 14px 0 20px; }
figcaption { color: var(--soft); font-size: .88rem; margin-top: 8px; max-width: 80ch; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(140px, 1fr)); gap: 10px; margin: 0 0 18px; }
.facts div { background: var(--raised); border: 1px solid var(--line); border-radius: 10px; padding: 12px 14px; }
.facts dd { margin: 0; font-size: 1.45rem; font-weight: 650; line-height: 1.2; font-variant-numeric: tabular-nums;
  overflow-wrap: anywhere; }
.facts dt { color: var(--soft); font-size: .85rem; }
.scroll { overflow-x: auto; -webkit-overflow-scrolling: touch; border-radius: 10px; border: 1px solid var(--line);
  background: var(--raised); }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { padding: 7px 12px; text-align: left; vertical-align: top; border-top: 1px solid var(--line); }
thead th { border-top: 0; color: var(--soft); font-weight: 600; white-space: nowrap;
  background: color-mix(in srgb, var(--line) 30%, transparent); }
.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
img { display: block; max-width: 100%; height: auto; }
.plot .scroll { background: #fff; padding: 10px; width: fit-content; max-width: 100%; }
@media (max-width: 640px) { main { padding: 24px 14px 48px; } .plot img.wide { max-width: none;
  width: max(100%, 640px); }
  th, td { padding: 6px 9px; } .facts { grid-template-columns: repeat(2, 1fr); } }
@media (prefers-color-scheme: dark) { .plot .scroll { background: #f4f6f3; } .plot img { mix-blend-mode: multiply; } }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(var(--w), 46%), 1fr)); gap: 10px; }
.card { position: relative; background: var(--raised); border: 1px solid var(--line); border-radius: 10px;
  overflow: hidden; }
.card img { width: 100%; aspect-ratio: 1; object-fit: cover; background: var(--line); }
.card > div { padding: 8px 10px 10px; font-size: .84rem; line-height: 1.35; overflow-wrap: anywhere; }
.card b, .card span { display: block; }
.card span { color: var(--soft); }
.card small { display: block; color: var(--soft); margin-top: 5px; font-size: .76rem; }
.card.right { border: 2px solid var(--right); } .card.wrong { border: 2px solid var(--wrong); }
.card i { position: absolute; top: 6px; right: 6px; width: 22px; height: 22px; border-radius: 50%; color: #fff;
  font: 700 13px/22px sans-serif;
  text-align: center; background: #2e7d4f; } .card.wrong i { background: #b3382c; }
.card[hidden] { display: none; }
.tools { display: flex; flex-wrap: wrap; gap: 10px 14px; align-items: end; margin: 0 0 14px; }
.tools label { display: grid; gap: 2px; font-size: .85rem; color: var(--soft); }
.tools input, .tools select { font: inherit; color: var(--ink); background: var(--raised); padding: 6px 9px;
  height: 38px; width: 100%; border: 1px solid var(--soft); border-radius: 8px; }
.tools output { color: var(--soft); font-size: .9rem; }
@media (max-width: 640px) { .tools { display: grid; grid-template-columns: 1fr 1fr; }
  .tools label:first-child { grid-column: 1 / -1; } }
.chart { height: min(var(--h), 80vh); min-height: 320px; border: 1px solid var(--line); border-radius: 10px;
  overflow: hidden; background: var(--raised); }
.chart > div { height: 100%; }
details { border: 1px solid var(--line); border-radius: 10px; padding: 10px 14px; margin: 12px 0;
  background: var(--raised); }
summary { cursor: pointer; font-weight: 600; } details[open] > summary { margin-bottom: 10px; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
footer { margin-top: 48px; padding-top: 14px; border-top: 1px solid var(--line); color: var(--soft);
  font-size: .85rem; }
@media print { .scroll { overflow: visible; } section { break-inside: avoid-page; } }
"""

_DOCUMENT = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>{style}</style>
{scripts}
</head>
<body>
<main>
<header><h1>{title}</h1>{subtitle}</header>
{contents}
{body}
{footer}
</main>
</body>
</html>
"""
