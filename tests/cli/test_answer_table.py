"""The table that ``linnaea predict`` prints in a terminal: taxa have whole names, file names both ends."""

from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from linnaea.cli import answer_table
from linnaea.cli.answer_table import print_answers, shorten
from linnaea.predict.outputs.rows import make_empty_row


@pytest.mark.parametrize(("name", "shown"), [
    ("owl.jpg", "owl.jpg"),
    ("IMG_20240503_123456.jpg", "IMG_20240503_123456.jpg"),
    ("station-12_2024-05-03_camera-A_0001.jpg", "station-…_camera-A_0001.jpg"[:8] + "…" + "_camera-A_0001.jpg"[-15:]),
])  # fmt: skip
def test_a_long_file_name_keeps_its_beginning_and_its_end(name: str, shown: str) -> None:
    assert shorten(name, 24) == shown


@given(st.text(alphabet="aö日_-.1", max_size=60), st.integers(10, 40))
def test_a_shortened_name_fits_and_is_made_of_the_ends(name: str, width: int) -> None:
    short = shorten(name, width)
    assert cell_len(short) <= width
    head, _, tail = short.partition("…")
    assert name.startswith(head)
    assert name.endswith(tail)
    assert short == name or cell_len(short) >= width - 2  # a wide letter has two columns


@pytest.mark.parametrize("width", [80, 200])
def test_the_table_shows_whole_names_of_taxa(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    out = StringIO()
    monkeypatch.setattr(answer_table, "results", Console(file=out, width=width, force_terminal=True))
    file = "a-folder/a-very-long-name-of-a-photograph-from-a-camera-trap-0042.jpg"
    answered = make_empty_row(file, "ok", "") | {
        "species": "Stratiomys longicornis",
        "family": "Stratiomyidae",
        "rank": "species",
        "score": 0.5,
    }
    print_answers([answered, make_empty_row("b.jpg", "failed", "empty file")])
    text = out.getvalue()
    assert "Stratiomys longicornis" in text
    assert "042.jpg" in text
    assert "a-v" in text
    assert "a-folder" not in text
    assert "empty file" in " ".join(text.split())
