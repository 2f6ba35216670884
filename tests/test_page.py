"""A page is one file that needs nothing else, says what is in it, and cannot be broken by its content."""

import re
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest

from linnaea.errors import LinnaeaError
from linnaea.page import (
    Block,
    Card,
    Cards,
    Chart,
    Details,
    Facts,
    Figure,
    Page,
    Section,
    Table,
    Text,
    new_plot,
    unsigned_zero,
)

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 20
JPEG = b"\xff\xd8\xff\xe0" + b"\0" * 20


class Outline(HTMLParser):
    """Tags with their attributes, the visible text, and whether every tag is closed."""

    VOID = frozenset({"meta", "link", "img", "br", "wbr"})

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)


def outline(*blocks: Block) -> Outline:
    parser = Outline()
    parser.feed(Page("T", sections=[Section("S", blocks)]).html())
    assert parser.open == []
    return parser


def figure() -> object:
    from matplotlib.figure import Figure as MatplotlibFigure

    drawn = MatplotlibFigure(figsize=(2, 1))
    drawn.subplots().plot([1, 2])
    return drawn


def every_block() -> list[Block]:
    return [
        Text("one\n\ntwo `code`"),
        Facts({"images": 12000, "top-1": "53%"}),
        Table(pl.DataFrame({"rank": ["genus"], "n": [1234], "right": [0.5]}), "caption", ["right"]),
        Table([{"a": None, "b": True}]),
        Figure(figure(), "a line"),
        Figure(JPEG, "a photograph"),
        Cards([Card(PNG, "a magpie", ["Pica pica", "0.93"], "right"), Card(JPEG, "a jay", [], "wrong")]),
        Details("more", [Text("inside")]),
    ]


def test_a_plot_fits_a_phone_and_wide_figures_are_scrolled() -> None:
    plot, _ = new_plot(1.5)
    html = Page("T", sections=[Section("S", [Figure(plot, "a plot")])]).html()
    assert 'class="wide"' not in html
    wide, _ = new_plot(1.5, width=9, columns=3)
    assert 'class="wide"' in Page("T", sections=[Section("S", [Figure(wide, "a plot")])]).html()


def test_a_card_has_names_in_italics_and_a_file_name_that_breaks_well() -> None:
    card = Card(PNG, "", ["Pica pica (90%)", "Corvidae › Pica"], latin=["Pica", "", "Pica pica"], file="a/Pica_1.jpg")
    html = Page("T", sections=[Section("S", [Cards([card])])]).html()
    assert "<b><em>Pica pica</em> (90%)</b>" in html
    assert "<span>Corvidae › <em>Pica</em></span>" in html
    assert "<small>a/<wbr>Pica_<wbr>1.jpg</small>" in html


def test_every_block_is_well_formed_and_nothing_is_fetched() -> None:
    page = outline(*every_block())
    addresses = [attrs[name] for _, attrs in page.tags for name in ("src", "href") if attrs.get(name)]
    assert len(addresses) >= 5
    assert all((address or "").startswith(("data:", "#")) for address in addresses)
    html = Page("T", sections=[Section("S", every_block())]).html()
    assert "url(" not in html
    assert "@import" not in html
    policy = next(a["content"] for _, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "script-src" not in policy


def test_what_was_given_is_to_be_read() -> None:
    words = outline(*every_block()).words
    for word in ("one", "two ", "code", "12,000", "53%", "1,234", "50.0%", "yes", "Pica pica", "inside", "✓", "✗"):
        assert word in words, word


def test_every_image_has_words_for_those_who_cannot_see_it() -> None:
    images = [attrs for tag, attrs in outline(*every_block()).tags if tag == "img"]
    assert len(images) == 4
    assert all(attrs["alt"] for attrs in images)


def test_content_cannot_break_the_page() -> None:
    evil = "</p></section><script>alert(1)</script>\"'& `odd"
    blocks = [
        Text(evil),
        Facts({evil: evil}),
        Table([{evil: evil}], evil),
        Figure(PNG, evil, evil),
        Cards([Card(PNG, evil, [evil])], evil),
        Details(evil, [Text(evil)]),
    ]
    page = Outline()
    page.feed(Page(evil, evil, [Section(evil, blocks)], footer=evil).html())
    assert page.open == []
    assert "script" not in [tag for tag, _ in page.tags]


def test_long_tables_are_cut_and_say_so() -> None:
    words = " ".join(outline(Table(pl.DataFrame({"n": range(1000)}), limit=10)).words)
    assert "Only the first 10 of 1,000 rows are shown." in words
    assert " 10 " not in words.replace("first 10 of", "")


def test_plotly_goes_in_once_and_only_where_it_is_needed() -> None:
    import plotly.graph_objects as go

    chart = Chart(go.Figure(go.Treemap(labels=["Life", "Plantae"], parents=["", "Life"])), "a treemap")
    html = Page("T", sections=[Section("S", [chart, Details("more", [chart])])]).html()
    assert html.count("plotly.js v") == 1
    assert html.count('class="chart"') == 2
    assert not re.search(r'<(?:script|link)[^>]+(?:src|href)="(?!data:)', html)
    assert "<script" not in Page("T", sections=[Section("S", [Text("no chart")])]).html()


def test_sections_are_listed_where_there_are_many() -> None:
    many = Page("T", sections=[Section(f"part {i}", []) for i in range(4)]).html()
    assert '<a href="#s3">part 3</a>' in many
    assert "<nav" not in Page("T", sections=[Section("one", [])]).html()


def test_an_unknown_image_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    target = tmp_path / "report.html"
    with pytest.raises(LinnaeaError, match="neither PNG nor JPEG"):
        Page("T", sections=[Section("S", [Figure(b"GIF89a", "a gif")])]).write(target)
    assert list(tmp_path.iterdir()) == []
    Page("T").write(target)
    assert target.read_text().startswith("<!DOCTYPE html>")


def test_the_same_page_is_the_same_bytes() -> None:
    assert (
        Page("T", sections=[Section("S", every_block())]).html()
        == Page("T", sections=[Section("S", every_block())]).html()
    )


def test_a_number_that_rounds_to_zero_has_no_minus() -> None:
    rows = [{"share": -0.0001, "difference": -0.0}, {"share": -0.002, "difference": -1e-9}]
    html = Page("t", sections=[Section("s", [Table(rows, percent=("share",))])]).html()
    assert ">-0.2%<" in html
    assert ">-1e-09<" in html
    assert not re.search(r">-0(\.0*)?%?<", html)
    assert [unsigned_zero(text) for text in ("-0.00%", "-0", "-0.01", "-10")] == ["0.00%", "0", "-0.01", "-10"]
