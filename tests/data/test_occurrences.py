"""Occurrences with photographs: rights wherever they are stated, and media by what they are."""

from pathlib import Path

import polars as pl
import pytest

from linnaea.data.licences import licence_of
from linnaea.data.sources import Record
from linnaea.data.sources.occurrences import DarwinCoreSource

CASES = Path(__file__).resolve().parents[3] / "shared" / "cases" / "names"
SHAPE = 'fieldsTerminatedBy="\\t" ignoreHeaderLines="1"'
BY, NC = "http://creativecommons.org/licenses/by/4.0/", "http://creativecommons.org/licenses/by-nc/4.0/"


def read(folder: Path, occurrence: dict[str, str], media: list[dict[str, str]], constant: str = "") -> list[object]:
    """Return the licence of each medium of one occurrence, or the reason why it is no record."""
    terms = dict.fromkeys(term for medium in media for term in medium)
    core = {"genus": "Pica", "specificEpithet": "pica", "scientificName": "Pica pica", **occurrence}
    parts = {"occurrence.txt": [core], "media.txt": [{**dict.fromkeys(terms, ""), **medium} for medium in media]}
    fields = {}
    for name, rows in parts.items():
        header = list(rows[0])
        (folder / name).write_text("\n".join("\t".join(["id", *header] if n < 0 else ["o1", *rows[n].values()])
                                             for n in range(-1, len(rows))) + "\n")  # fmt: skip
        fields[name] = "".join(f'<field index="{n}" term="http://x/{term}"/>' for n, term in enumerate(header, 1))
    (folder / "meta.xml").write_text(
        f'<archive><core rowType="http://x/Occurrence" {SHAPE}><files><location>occurrence.txt</location></files>'
        f'<id index="0"/>{fields["occurrence.txt"]}</core><extension rowType="http://x/Multimedia" {SHAPE}><files>'
        f'<location>media.txt</location></files><coreid index="0"/>{fields["media.txt"]}{constant}</extension>'
        "</archive>"
    )
    addresses = [medium.get("accessURI") or medium.get("identifier", "") for medium in media]
    pl.DataFrame({"identifier": addresses, "path": ["a.jpg"] * len(media)}).write_parquet(folder / "images.parquet")
    items = DarwinCoreSource(archive=folder, images=folder / "images.parquet").records()
    return [licence_of(item.facts) if isinstance(item, Record) else item.reason for item in items]


@pytest.mark.parametrize(
    ("occurrence", "medium", "licence"),
    [
        ({}, {"license": BY}, "CC-BY-4.0"),
        ({}, {"rights": BY}, "CC-BY-4.0"),
        ({}, {"UsageTerms": "CC BY-NC"}, "CC-BY-NC"),
        ({}, {"WebStatement": NC}, "CC-BY-NC-4.0"),
        ({"license": "CC_BY_NC_4_0"}, {"rights": BY}, "CC-BY-4.0"),
        ({"license": "CC_BY_NC_4_0"}, {"license": ""}, "CC-BY-NC-4.0"),
        ({"rights": BY}, {"creator": "Ann"}, "CC-BY-4.0"),
        ({}, {"license": BY, "rights": NC}, "CC-BY-NC-4.0"),
        ({}, {"license": BY, "UsageTerms": "all rights reserved"}, "all-rights-reserved"),
        ({"license": "NULL"}, {"license": "\\N"}, "none-stated"),
    ],
)
def test_licences_are_read_wherever_they_are_stated(
    tmp_path: Path, occurrence: dict[str, str], medium: dict[str, str], licence: str
) -> None:
    """What a medium states is its own; of several statements the strictest counts; else the occurrence's is used."""
    assert read(tmp_path, occurrence, [{"identifier": "http://x/1", "type": "StillImage", **medium}]) == [licence]


def test_a_constant_licence_holds_for_every_medium(tmp_path: Path) -> None:
    media = [{"identifier": "http://x/1", "type": "StillImage"}, {"identifier": "http://x/2", "type": "StillImage"}]
    assert read(tmp_path, {}, media, f'<field default="{BY}" term="http://x/license"/>') == ["CC-BY-4.0"] * 2


@pytest.mark.parametrize(
    ("kind", "form", "address", "is_picture"),
    [
        ("StillImage", "image/jpeg", "http://x/1", True),
        ("http://purl.org/dc/dcmitype/StillImage", "", "http://x/1", True),
        ("", "image/png", "http://x/1", True),
        ("", "", "http://x/1.JPG?size=2", True),
        ("", "", "http://x/1", True),
        ("Image", "", "http://x/1", True),
        ("Photograph", "", "http://x/1", True),
        ("MovingImage", "", "http://x/1", False),
        ("", "audio/mpeg", "http://x/1", False),
        ("", "video/mp4", "http://x/1", False),
        ("Sound", "image/jpeg", "http://x/1", False),
        ("StillImage", "application/pdf", "http://x/1", False),
        ("", "", "http://x/1.mp3", False),
        ("", "", "http://x/1.MP4?x", False),
        ("", "text/html", "http://x/1", False),
    ],
)
def test_media_are_pictures_by_type_and_format(
    tmp_path: Path, kind: str, form: str, address: str, is_picture: bool
) -> None:
    (found,) = read(tmp_path, {}, [{"identifier": address, "type": kind, "format": form}])
    assert found == ("none-stated" if is_picture else f"not a picture ({kind or form or address})")


def test_audubon_core_has_its_address_in_another_term(tmp_path: Path) -> None:
    media = {"identifier": "urn:catalog:7", "accessURI": "http://x/1.jpg", "type": "StillImage", "rights": BY}
    assert read(tmp_path, {}, [media]) == ["CC-BY-4.0"]


@pytest.mark.parametrize(
    ("case", "found"),
    [
        ("B1-latin1-occurrences", [("Isoëtes echinospora", "Isoëtaceae", "CC-BY", "Jörg Müller")]),
        (
            "B3-licence-elsewhere",
            [("Pica pica", "Corvidae", "CC-BY-4.0", ""), ("Corvus corax", "Corvidae", "CC-BY-NC-4.0", "")],
        ),
        ("B5-audubon", [("Pica pica", "Corvidae", "CC-BY-NC", "")]),
        (
            "B6-hybrid-and-doubt",
            [(name, "", "CC-BY-4.0", "") for name in ("Anas", "Salix fragilis", "Quercus", "Pica pica")],
        ),
    ],
)
def test_the_shared_cases(tmp_path: Path, case: str, found: list[tuple[str, str, str, str]]) -> None:
    if not CASES.exists():
        pytest.skip("shared/cases is not here")
    addresses = [*(f"http://x.org/{n}.jpg" for n in (1, 3)), *(f"https://example.org/o{n}.jpg" for n in range(1, 5))]
    pl.DataFrame({"identifier": addresses, "path": ["a.jpg"] * 6}).write_parquet(tmp_path / "images.parquet")
    records = [*DarwinCoreSource(archive=CASES / case, images=tmp_path / "images.parquet").records()]
    assert [
        (one.taxon.scientific_name, one.taxon.lineage[4], licence_of(one.facts), one.facts.get("creator", ""))
        for one in records
        if isinstance(one, Record)
    ] == found
    assert len(records) == len(found)


@pytest.mark.parametrize("separator", ["\\t", "\\u0009", ";"])
def test_a_part_may_have_several_files_in_several_encodings(tmp_path: Path, separator: str) -> None:
    mark = "\t" if separator != ";" else ";"
    names = [("a.txt", "id|g|e\no1|Isoëtes|lacustris\n"), ("b.txt", "id|g|e\no2|Rosa|canina\n")]
    media = [("m.txt", "id|u|l\no1|http://x/1|\\N\n"), ("n.txt", "id|u|l\no2|http://x/2|NULL\no2|http://x/3|CC0\n")]
    for name, text in (*names, *media):
        (tmp_path / name).write_text(text.replace("|", mark), encoding="latin-1")
    shape = f'encoding="ISO-8859-1" fieldsTerminatedBy="{separator}" ignoreHeaderLines="1"'

    def files(parts: list[tuple[str, str]]) -> str:
        return "<files>" + "".join(f"<location>{name}</location>" for name, _ in parts) + "</files>"

    (tmp_path / "meta.xml").write_text(
        f'<archive><core rowType="http://x/Occurrence" {shape}>{files(names)}<id index="0"/><field index="1" '
        'term="http://x/genus"/><field index="2" term="http://x/specificEpithet"/></core><extension '
        f'rowType="http://x/Multimedia" {shape}>{files(media)}<coreid index="0"/><field index="1" '
        f'term="http://x/identifier"/><field index="2" term="http://x/license" default="{BY}"/></extension></archive>'
    )
    pl.DataFrame({"identifier": ["http://x/1", "http://x/2", "http://x/3"], "path": ["a.jpg"] * 3}).write_parquet(
        tmp_path / "images.parquet"
    )
    records = DarwinCoreSource(archive=tmp_path, images=tmp_path / "images.parquet").records()
    found = [(one.taxon.scientific_name, licence_of(one.facts)) for one in records if isinstance(one, Record)]
    assert found == [("Isoëtes lacustris", "CC-BY-4.0"), ("Rosa canina", "CC-BY-4.0"), ("Rosa canina", "CC0-1.0")]


@pytest.mark.parametrize(
    ("occurrence", "found"),
    [
        ({"scientificName": "Pica pica (cf.)"}, "Pica"),
        ({"scientificName": "Pica pica / hudsonia"}, "Pica"),
        ({"identificationQualifier": "prob."}, "Pica"),
        ({"genus": "", "specificEpithet": "", "scientificName": "Corvidae Leach, 1820"}, "Corvidae"),
        ({"genus": "", "specificEpithet": "", "scientificName": "Aves", "taxonRank": "CLASS"}, "Aves"),
        ({"genus": "", "specificEpithet": "", "scientificName": "Pica pica L."}, "Pica pica"),
        ({"occurrenceStatus": "ABSENT"}, "its occurrence says that the species was absent"),
        ({"individualCount": "0"}, "its occurrence says that the species was absent"),
        ({"occurrenceStatus": "present", "individualCount": "0"}, "Pica pica"),
    ],
)
def test_an_occurrence_says_what_the_picture_shows(tmp_path: Path, occurrence: dict[str, str], found: str) -> None:
    read(tmp_path, occurrence, [{"identifier": " http://x/1 ", "type": "StillImage"}])
    pl.DataFrame({"identifier": ["http://x/1"], "path": ["a.jpg"]}).write_parquet(tmp_path / "images.parquet")
    (one,) = DarwinCoreSource(archive=tmp_path, images=tmp_path / "images.parquet").records()
    assert (one.taxon.scientific_name if isinstance(one, Record) else one.reason) == found
