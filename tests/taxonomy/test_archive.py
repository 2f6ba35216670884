"""Tables of Darwin Core Archives are read as meta.xml describes them, whatever their writers left out."""

from pathlib import Path

import pytest

from linnaea.errors import LinnaeaError
from linnaea.taxonomy.checklists.archive import ArchivePart, describe_archive

TERM = "http://rs.tdwg.org/dwc/terms/"


def write(folder: Path, files: dict[str, bytes], fields: str, more: str = "", extension: str = "") -> ArchivePart:
    for name, content in files.items():
        (folder / name).write_bytes(content)
    locations = "".join(f"<location>{name}</location>" for name in files)
    shape = more or 'encoding="UTF-8" fieldsTerminatedBy="\\t" ignoreHeaderLines="1"'
    (folder / "meta.xml").write_text(
        f'<archive xmlns="http://rs.tdwg.org/dwc/text/"><core rowType="{TERM}Occurrence" {shape}>'
        f'<files>{locations}</files><id index="0"/>{fields}</core>{extension}</archive>'
    )
    return describe_archive(folder / "meta.xml")[0]


def field(index: int | None, term: str, default: str = "") -> str:
    place = "" if index is None else f' index="{index}"'
    return f'<field{place} term="{TERM}{term}"' + (f' default="{default}"' if default else "") + "/>"


@pytest.mark.parametrize(
    ("declared", "encoding"),
    [("ISO-8859-1", "latin-1"), ("latin1", "latin-1"), ("windows-1252", "cp1252"), ("UTF-16", "utf-16"),
     ("UTF-8", "utf-8"), ("utf8", "utf-8-sig"), ("ISO-8859-1", "utf-8"), ("UTF-8", "latin-1"), ("no-such", "utf-8"),
     ("cp1250", "cp1250")],
)  # fmt: skip
def test_declared_encodings_are_used_unless_the_text_is_in_another(
    tmp_path: Path, declared: str, encoding: str
) -> None:
    text = "id\tname\no1\tIsoëtes Müller\n"
    shape = f'encoding="{declared}" fieldsTerminatedBy="\\t" ignoreHeaderLines="1"'
    part = write(tmp_path, {"a.txt": text.encode(encoding)}, field(1, "genus"), shape)
    assert part.read().select("_id", "genus").rows() == [("o1", "Isoëtes Müller")]


def test_defaults_fill_empty_cells_or_every_row(tmp_path: Path) -> None:
    fields = field(1, "kingdom", "Animalia") + field(None, "license", "CC0") + field(2, "genus")
    part = write(tmp_path, {"a.txt": b"id\tk\tg\no1\t\tPica\no2\tPlantae\tRosa\no3\t\\N\tNULL\n"}, fields)
    assert part.read().select("kingdom", "license", "genus").rows() == [
        ("Animalia", "CC0", "Pica"), ("Plantae", "CC0", "Rosa"), ("Animalia", "CC0", ""),
    ]  # fmt: skip


def test_several_files_are_one_table_and_a_header_alone_is_no_row(tmp_path: Path) -> None:
    files = {"a.txt": b"id\tg\no1\tPica\n", "b.txt": b"id\tg\n", "c.txt": b"id\tg\no2\tRosa\no3\tAlca\n"}
    table = write(tmp_path, files, field(1, "genus")).read()
    assert table.select("_id", "_row", "genus").rows() == [
        ("o1", "0", "Pica"),
        ("o2", "1", "Rosa"),
        ("o3", "2", "Alca"),
    ]
    assert write(tmp_path, {"a.txt": b"id\tg\n"}, field(1, "genus")).read().columns == ["genus", "_id", "_row"]


def test_a_stray_quote_is_a_character(tmp_path: Path) -> None:
    shape = 'fieldsTerminatedBy="\\t" fieldsEnclosedBy=\'"\' ignoreHeaderLines="1"'
    content = 'id\tg\no1\t"Pica"\no2\t"Rosa\no3\tLarus "canus"\no4\tAlca\n'
    part = write(tmp_path, {"a.txt": content.encode()}, field(1, "genus"), shape)
    assert part.read()["genus"].to_list() == ["Pica", '"Rosa', 'Larus "canus"', "Alca"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "utf-16"])
def test_lines_may_end_as_on_any_machine(tmp_path: Path, end: str, encoding: str) -> None:
    shape = f'encoding="{encoding}" fieldsTerminatedBy="\\t" ignoreHeaderLines="1"'
    content = end.join(["id\tg", "o1\tIsoëtes", "o2\tRosa", ""]).encode(encoding)
    assert write(tmp_path, {"a.txt": content}, field(1, "genus"), shape).read()["genus"].to_list() == [
        "Isoëtes",
        "Rosa",
    ]


@pytest.mark.parametrize("separator", ["\\t", "\\u0009", "&#9;"])
def test_separators_may_be_escapes(tmp_path: Path, separator: str) -> None:
    shape = f'fieldsTerminatedBy="{separator}" ignoreHeaderLines="1"'
    part = write(tmp_path, {"a.txt": b"id\tg\no1\tPica\n"}, field(1, "genus"), shape)
    assert part.read()["genus"].to_list() == ["Pica"]


def test_two_columns_of_one_term_are_one(tmp_path: Path) -> None:
    fields = (
        '<field index="1" term="http://purl.org/dc/terms/type"/><field index="2" term="http://purl.org/dc/1.1/type"/>'
    )
    part = write(tmp_path, {"a.txt": b"id\ta\tb\no1\tStillImage\timage\no2\t\tSound\n"}, fields)
    assert part.read()["type"].to_list() == ["StillImage", "Sound"]


def test_files_of_extensions_may_be_missing_and_those_of_the_core_may_not(tmp_path: Path) -> None:
    extension = f'<extension rowType="{TERM}Other"><files><location>no.txt</location></files></extension>'
    core = write(tmp_path, {"a.txt": b"id\tg\no1\tPica\n"}, field(1, "genus"), extension=extension)
    (other,) = describe_archive(tmp_path / "meta.xml")[1]
    assert (core.missing(), other.missing()) == ("", "the file 'no.txt' that it names is missing")
    (tmp_path / "a.txt").unlink()
    with pytest.raises(LinnaeaError, match=r"the file 'a.txt' that it names is missing"):
        describe_archive(tmp_path / "meta.xml")
