"""Photographs in folders by what is on them."""

from pathlib import Path

import pytest
from answered import FOX, HUMAN, answer, draw, read

from linnaea.errors import LinnaeaError
from linnaea.predict.inputs import list_inputs
from linnaea.predict.outputs.files import Context
from linnaea.predict.outputs.rows import Row
from linnaea.predict.records.sorting import sort_photographs
from linnaea.taxonomy.taxon import Taxon


@pytest.fixture
def rows(tmp_path: Path) -> list[Row]:
    """A fox with a walker, a car, nothing."""
    for name in ("north/a.jpg", "north/b.jpg", "south/a.jpg"):
        draw(tmp_path / "card" / name)
    box = {"conf": 0.9, "bbox": [0.1, 0.1, 0.5, 0.5]}
    images = [{"file": "card/north/a.jpg", "detections": [box | {"category": "1"}, box | {"category": "2"}]},
              {"file": "card/north/b.jpg", "detections": [box | {"category": "3"}]},
              {"file": "card/south/a.jpg", "detections": []}]  # fmt: skip
    return answer(read(tmp_path / "md.json", {"images": images}).inputs(), FOX)


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())


SORTED = ["Vulpes vulpes/north/a.jpg", "blank/south/a.jpg", "human/north/a.jpg", "vehicle/north/b.jpg"]


def test_photographs_are_linked_by_what_is_on_them(rows: list[Row], tmp_path: Path) -> None:
    assert sort_photographs(rows, tmp_path / "sorted", Context()) == 4
    assert files(tmp_path / "sorted") == SORTED
    link = tmp_path / "sorted/Vulpes vulpes/north/a.jpg"
    assert link.is_symlink()
    assert link.samefile(tmp_path / "card/north/a.jpg")
    assert sort_photographs(rows, tmp_path / "sorted", Context()) == 0, "again, nothing is left to do"


def test_or_copied(rows: list[Row], tmp_path: Path) -> None:
    assert sort_photographs(rows, tmp_path / "sorted", Context(), how="copy") == 4
    copy = tmp_path / "sorted/human/north/a.jpg"
    assert not copy.is_symlink()
    assert copy.read_bytes() == (tmp_path / "card/north/a.jpg").read_bytes()
    assert sort_photographs(rows, tmp_path / "sorted", Context(), how="copy") == 0


def test_photographs_that_are_no_files_are_counted(rows: list[Row], tmp_path: Path) -> None:
    said: list[str] = []
    member = rows[-1] | {"file_name": f"{tmp_path}/card.tar/a.jpg"}
    assert sort_photographs([*rows[:-1], member], tmp_path / "sorted", Context(tell=said.append)) == 3
    assert said == ["not sorted, since they are not files of their own (in a tar, on the web): 1"]


def test_another_file_is_not_overwritten(rows: list[Row], tmp_path: Path) -> None:
    target = tmp_path / "sorted/blank/south/a.jpg"
    target.parent.mkdir(parents=True)
    target.write_text("mine")
    with pytest.raises(LinnaeaError, match="another file is here"):
        sort_photographs(rows, tmp_path / "sorted", Context())
    assert target.read_text() == "mine"


@pytest.mark.parametrize(
    ("taxon", "name"),
    [(Taxon.of(common_name="../../up"), "_.._up"), (Taxon.of(common_name="a/b"), "a_b"), (HUMAN, "human")],
)
def test_a_label_never_leads_outside(taxon: Taxon, name: str, tmp_path: Path) -> None:
    rows = answer(list_inputs([str(draw(tmp_path / "a.jpg"))]), taxon)
    sort_photographs(rows, tmp_path / "sorted", Context())
    assert files(tmp_path / "sorted") == [f"{name}/a.jpg"]
