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
from functools import cache
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from linnaea.counting import count
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
    """The name of the photograph's file, shown last; it is broken behind ``_`` and ``/`` where it is too long."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """The facts by which cards are filtered and sorted: ``status``, ``rank``, ``certainty`` (a number), ``lineage`` (a
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
        scripts += f"<script>{_read('browse.js')}</script>" if browsed else ""
        allowed = "script-src 'unsafe-inline'; img-src data: blob:" if scripts else "img-src data:"
        return _read("document.html").format(
            title=escape(self.title),
            subtitle=f'<p class="subtitle">{_inline(self.subtitle)}</p>' if self.subtitle else "",
            # The policy prevents the page and the libraries inside it from loading anything.
            policy=f"default-src 'none'; style-src 'unsafe-inline'; {allowed}",
            style=_read("style.css"),
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


@cache
def _read(name: str) -> str:
    """Return a file beside this module: the document, its style or a script of it."""
    return files("linnaea.page").joinpath(name).read_text(encoding="utf-8")


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
    cut = f"Only the first {table.limit:,} of {count(n_rows, 'row')} are shown." if n_rows > table.limit else ""
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
    file = escape(card.file).replace("_", "_<wbr>").replace("/", "/<wbr>")
    lines += f"<small>{file}</small>" if file else ""
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
    return f"<figure>{box}{_caption(chart.caption)}</figure><script>{_read('follow_theme.js')}</script>"


def _plotly_source() -> str:
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())
