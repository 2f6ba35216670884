"""What is packed small and unpacks large is refused in one line; limits are lowered to kilobytes here."""

import gzip
import io
import sqlite3
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from linnaea import archives, parquet
from linnaea.archives import check_gzip, gunzip, iter_unpacked, unpack
from linnaea.errors import LinnaeaError
from linnaea.model import tokenizer
from linnaea.model.tokenizer import make_tokenizer, vocabulary_size
from linnaea.parquet import read_parquet, scan_parquet
from linnaea.tables import read_table, scan_table, workbooks
from linnaea.taxonomy.checklists import itis
from linnaea.taxonomy.checklists.itis import read_itis
from linnaea.taxonomy.checklists.source import read_checklist_source


@pytest.fixture(autouse=True)
def _kilobytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "FREE_BYTES", 10_000)
    monkeypatch.setattr(archives, "RATIO_AT_MOST", 5)
    monkeypatch.setattr(archives, "MEMBERS_AT_MOST", 20)


def zip_of(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def tar_of(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


PACKERS = [zip_of, tar_of]


@pytest.mark.parametrize("pack", PACKERS)
def test_an_archive_unpacks_in_proportion_to_its_size(pack: Callable[..., Path], tmp_path: Path) -> None:
    good = pack(tmp_path / "good", {"a.txt": b"one", "b/c.txt": b"two"})
    unpack(good, tmp_path / "out")
    assert (tmp_path / "out" / "b" / "c.txt").read_bytes() == b"two"
    for number, members in enumerate(({"a": b"\0" * 60_000}, {f"{n}": b"\0" * 6_000 for n in range(10)})):
        with pytest.raises(LinnaeaError, match=r"unpack to more than .* refused"):
            unpack(pack(tmp_path / f"bomb{number}", members), tmp_path / f"out{number}")
        written = sum(path.stat().st_size for path in (tmp_path / f"out{number}").rglob("*"))
        assert written < 30_000, "it stops where the limit is"


@pytest.mark.parametrize("pack", PACKERS)
def test_an_archive_has_a_moderate_number_of_files_inside_its_folder(pack: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(LinnaeaError, match="more than 20 files"):
        unpack(pack(tmp_path / "many", {f"{n}": b"" for n in range(21)}), tmp_path / "out")
    for name in ("../a", "b/../../a"):
        with pytest.raises(LinnaeaError, match="not a path inside"):
            unpack(pack(tmp_path / "outside", {name: b"x"}), tmp_path / "out")
    assert not (tmp_path / "a").exists()


def test_links_and_devices_in_a_tar_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("somebody else's")
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, kind in (("link", tarfile.SYMTYPE), ("hard", tarfile.LNKTYPE), ("pipe", tarfile.FIFOTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, str(tmp_path / "secret")
            archive.addfile(member)
    (tmp_path / "out").mkdir()
    unpack(tmp_path / "a.tar", tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    "content", [b"PK\x03\x04broken", b"\x1f\x8bbroken", gzip.compress(b"no tar" * 9, mtime=0)[:-4]]
)
def test_a_broken_archive_is_one_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(LinnaeaError, match=r"a\.zip: .*broken|a\.zip: .*not"):
        unpack(tmp_path / "a.zip", tmp_path / "out")
    with pytest.raises(LinnaeaError):
        read_checklist_source(tmp_path / "a.zip")


@pytest.mark.parametrize("ending", ["csv.gz", "tsv.gz"])
def test_a_packed_table_unpacks_in_proportion_to_its_size(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"names.{ending}"
    path.write_bytes(gzip.compress(b"name\n" + b"Pica pica\n" * 10_000))
    for call in (gunzip, check_gzip, read_table):
        with pytest.raises(LinnaeaError, match="unpack to more than"):
            call(path)
    with pytest.raises(LinnaeaError, match="unpack to more than"), scan_table(path):
        pass
    path.write_bytes(gzip.compress(b"name\nPica pica\n", mtime=0))
    assert read_table(path).rows["name"].to_list() == ["Pica pica"]
    path.write_bytes(gzip.compress(b"name\nPica pica\n" * 9)[:-6])
    with pytest.raises(LinnaeaError, match="broken"):
        read_table(path)


def test_a_workbook_unpacks_in_proportion_to_its_size(tmp_path: Path) -> None:
    zip_of(tmp_path / "names.xlsx", {"xl/workbook.xml": b" " * 60_000})
    for call in (lambda path: list(iter_unpacked(path)), read_table):
        with pytest.raises(LinnaeaError, match="unpack to more than"):
            call(tmp_path / "names.xlsx")


def test_a_vocabulary_is_not_unpacked_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer, "VOCABULARY_BYTES", 1000)
    for call in (vocabulary_size, lambda bpe: make_tokenizer(bpe, 77)):
        with pytest.raises(LinnaeaError, match="unpacks to more than 1,000 bytes"):
            call(gzip.compress(b"a" * 1001))
        with pytest.raises(LinnaeaError, match="not a gzip file"):
            call(b"no gzip")


def test_a_parquet_file_of_equal_rows_is_not_read_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = pl.DataFrame({"name": ["Pica pica"] * 100_000, "n": [1] * 100_000})
    rows.write_parquet(tmp_path / "a.parquet")
    assert read_parquet(tmp_path / "a.parquet").height == 100_000
    monkeypatch.setattr(parquet, "FREE_CELLS", 1000)
    for call in (read_parquet, scan_parquet, read_table):
        with pytest.raises(LinnaeaError, match=r"hold 200,000 cells; refused"):
            call(tmp_path / "a.parquet")


def test_a_parquet_file_of_a_long_text_is_not_read_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pl.DataFrame({"name": ["x" * 1_000_000]}).write_parquet(tmp_path / "a.parquet")
    assert read_parquet(tmp_path / "a.parquet").height == 1
    monkeypatch.setattr(parquet, "FREE_BYTES", 1000)
    for call in (read_parquet, scan_parquet, read_table):
        with pytest.raises(LinnaeaError, match=r"unpack to .* refused"):
            call(tmp_path / "a.parquet")


def test_a_workbook_that_hides_its_size_is_unpacked_in_proportion(tmp_path: Path) -> None:
    """Its directory states another size than its packed streams have; the limit is of kilobytes here."""
    path = zip_of(tmp_path / "names.xlsx", {"xl/workbook.xml": b" " * 60_000})
    stated = (60_000).to_bytes(4, "little")
    path.write_bytes(path.read_bytes().replace(stated, (10).to_bytes(4, "little")))
    with zipfile.ZipFile(path) as archive:
        assert archive.infolist()[0].file_size == 10
    for call in (lambda path: list(iter_unpacked(path)), read_table):
        with pytest.raises(LinnaeaError, match="unpack to more than"):
            call(path)


def test_a_workbook_of_two_cells_far_apart_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "FREE_BYTES", 1_000_000)
    monkeypatch.setattr(workbooks, "CELLS_OF_WORKBOOK", 1000)
    sheets = {"near": "C90", "far": "AA900"}
    for name, corner in sheets.items():
        pl.DataFrame({"name": ["Pica pica"]}).write_excel(tmp_path / f"{name}.xlsx")
        with zipfile.ZipFile(tmp_path / f"{name}.xlsx") as archive:
            members = {member: archive.read(member) for member in archive.namelist()}
        row = f'<row r="{corner.lstrip("AC")}"><c r="{corner}"><v>1</v></c></row></sheetData>'.encode()
        members["xl/worksheets/sheet1.xml"] = members["xl/worksheets/sheet1.xml"].replace(b"</sheetData>", row)
        zip_of(tmp_path / f"{name}.xlsx", members)
    assert read_table(tmp_path / "near.xlsx").rows.height == 89
    with pytest.raises(LinnaeaError, match=r"cells lie in 900 rows and 27 columns; refused"):
        read_table(tmp_path / "far.xlsx")


@pytest.mark.parametrize("trick", ["computed column", "long text"])
def test_a_database_computes_nothing(trick: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(itis, "BYTES_AT_MOST", 10_000)
    computed = ", complete_name AS (hex(zeroblob(10)))" if trick == "computed column" else ", complete_name"
    columns = "tsn, parent_tsn, rank_id, kingdom_id, taxon_author_id, rank_name, taxon_author, tsn_accepted"
    with sqlite3.connect(tmp_path / "a.sqlite") as database:
        for table in itis._TABLES:
            own = computed if table == "taxonomic_units" else ""
            database.execute(f"CREATE TABLE {table} ({columns}, vernacular_name, language{own})")
        if trick == "long text":
            database.execute("INSERT INTO taxonomic_units (tsn, complete_name) VALUES (1, ?)", ["x" * 20_000])
    with pytest.raises(LinnaeaError, match=r"computed|too big"):
        read_itis(tmp_path / "a.sqlite", "x", "1")


def test_a_view_is_no_table_of_a_checklist(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "a?b.sqlite") as database:
        for table in ("taxon_unit_types", "taxon_authors_lkp", "synonym_links", "vernaculars"):
            database.execute(f"CREATE TABLE {table} (tsn)")
        numbers = "WITH RECURSIVE n(x) AS (VALUES(1) UNION ALL SELECT x + 1 FROM n WHERE x < 10)"
        database.execute(f"CREATE VIEW taxonomic_units AS {numbers} SELECT x AS tsn FROM n")
    with pytest.raises(LinnaeaError, match="taxonomic_units is no plain table"):
        read_itis(tmp_path / "a?b.sqlite", "x", "1")
