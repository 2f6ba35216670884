"""What is likely beforehand moves answers, and never forbids one."""

import math
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.ExifTags import GPS, IFD, Base

from linnaea.data.shards import make_taxa_table
from linnaea.errors import LinnaeaError, UsageError
from linnaea.predict import priors
from linnaea.predict.inputs import Input, iter_inputs
from linnaea.predict.labels import LabelBank
from linnaea.predict.priors import Place, Regions, apply_prior, make_regions, read_prior, read_weights
from linnaea.predict.restrict import Among
from linnaea.taxonomy.taxon import Taxon

TAXA = [Taxon.of(genus="Parus", species="major"), Taxon.of(genus="Parus", species="minor"),
        Taxon.of(genus="Pica", species="pica", common_name="Magpie")]  # fmt: skip

BERLIN, TOKYO = (52.5, 13.0), (35.5, 139.5)


@pytest.fixture
def bank() -> LabelBank:
    return LabelBank(make_taxa_table(TAXA), np.eye(3, dtype=np.float32), {})


def never() -> object:
    raise AssertionError("no checklist is needed")


@given(st.lists(st.floats(0.001, 1), min_size=2, max_size=20), st.lists(st.floats(0.05, 20), min_size=20, max_size=20))
@settings(max_examples=50, deadline=None)
def test_posterior_odds_are_prior_odds_times_the_models(p: list[float], weights: list[float]) -> None:
    probability = np.array([p], np.float32) / np.float32(sum(p))
    weight = np.array([weights[: len(p)]], np.float32)
    after = apply_prior(probability, weight)
    assert after.sum() == pytest.approx(1, rel=1e-5)
    odds = after[0, 0] / after[0, 1]
    assert odds == pytest.approx(p[0] * weights[0] / (p[1] * weights[1]), rel=1e-3)


def test_the_finest_name_of_a_table_of_weights_holds(bank: LabelBank, tmp_path: Path) -> None:
    (tmp_path / "w.csv").write_text("name,weight\nParus minor,0.5\nParus,3\n*,0.25\n")
    weights, unknown = read_weights(tmp_path / "w.csv", bank, never)  # type: ignore[arg-type]
    assert weights.tolist() == [3, 0.5, 0.25]
    assert not unknown
    (tmp_path / "w.csv").write_text("scientific_name,weight\nmagpie,2\n")
    assert read_weights(tmp_path / "w.csv", bank, never)[0].tolist() == [1, 1, 2]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [("name,w\nPica,1\n", UsageError, "needs the columns name and weight"),
     ("name,weight\nPica,0\n", LinnaeaError, "'Pica' is not a number above zero"),
     ("name,weight\nPica,x\n", LinnaeaError, "'Pica' is not a number above zero"),
     ("name,weight\nPica,inf\n", LinnaeaError, "'Pica' is not a number above zero")],
)  # fmt: skip
def test_bad_weights_are_one_line(
    bank: LabelBank, tmp_path: Path, text: str, error: type[LinnaeaError], message: str
) -> None:
    (tmp_path / "w.csv").write_text(text)
    with pytest.raises(error, match=message):
        read_weights(tmp_path / "w.csv", bank, never)  # type: ignore[arg-type]


@pytest.fixture
def occurrences(tmp_path: Path) -> Path:
    """Great tits in Berlin all year, Japanese tits in Tokyo in May, and rows that say nothing."""
    rows = [("Parus major", "52.52", "13.40", str(1 + n % 12)) for n in range(600)]
    rows += [("Parus minor", "35.68", "139.69", "5") for _ in range(400)]
    rows += [("Parus major", "", "", "5"), ("", "52.5", "13.4", "5"), ("Parus major", "95", "13", "5")]
    path = tmp_path / "occurrence.txt"
    lines = ["gbifID\tspecies\tdecimalLatitude\tdecimalLongitude\tmonth\tlocality"]
    lines += [f'{n}\t{a}\t{b}\t{c}\t{d}\ta "quoted place' for n, (a, b, c, d) in enumerate(rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_every_occurrence_is_counted_or_not(occurrences: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(priors, "_ROWS_AT_ONCE", 100)
    assert make_regions(occurrences, tmp_path / "r.parquet") == (1000, 3)
    counts = Regions.open(tmp_path / "r.parquet").counts
    assert counts["n"].sum() == 1000
    by_species = Counter[str]()
    for name, n in counts.select("scientific_name", "n").iter_rows():
        by_species[name] += n
    assert by_species == {"Parus major": 600, "Parus minor": 400}


def test_absences_and_fossils_are_no_presences(tmp_path: Path) -> None:
    header = "species,decimalLatitude,decimalLongitude,month,occurrenceStatus,basisOfRecord,individualCount"
    rows = ["PRESENT,HUMAN_OBSERVATION,1", "ABSENT,HUMAN_OBSERVATION,", "absent,,3", "PRESENT,FOSSIL_SPECIMEN,1",
            "present,FossilSpecimen,", ",HUMAN_OBSERVATION,0", ",,", "PRESENT,,0"]  # fmt: skip
    lines = [header, *(f"Parus major,52.52,13.40,5,{row}" for row in rows), "NA,52.52,13.40,5,PRESENT,,"]
    (tmp_path / "o.csv").write_text("\n".join(lines) + "\n")
    assert make_regions(tmp_path / "o.csv", tmp_path / "r.parquet") == (3, 6)
    assert Regions.open(tmp_path / "r.parquet").counts["scientific_name"].unique().to_list() == ["Parus major"]


def test_a_place_boosts_what_lives_there(bank: LabelBank, occurrences: Path, tmp_path: Path) -> None:
    make_regions(occurrences, tmp_path / "r.parquet")
    regions = Regions.open(tmp_path / "r.parquet")
    berlin = regions.weights(bank, Place(lat=52.5, lon=13.3))
    tokyo = regions.weights(bank, Place(lat=35.7, lon=139.7, month=5))
    ocean = regions.weights(bank, Place(lat=-40.0, lon=-120.0))
    assert berlin[0] == pytest.approx((600 / 0.6 + 200) / 800)
    assert berlin[1] == berlin[2] == pytest.approx(200 / 800), "never seen there, or never anywhere"
    assert tokyo[1] > 1 > tokyo[0]
    assert ocean.tolist() == [1, 1, 1], "nothing is known of the ocean"
    assert min(berlin.min(), tokyo.min()) >= priors.LEAST
    winter = regions.weights(bank, Place(lat=35.7, lon=139.7, month=12))
    assert winter.tolist() == [1, 1, 1], "nobody was there in winter"


@pytest.mark.parametrize("place", [(91.0, 0.0, 1), (0.0, 181.0, 1), (0.0, 0.0, 13), (math.nan, 0.0, 1)])
def test_places_are_on_earth(place: tuple[float, float, int]) -> None:
    with pytest.raises(ValueError, match="not a place and time"):
        Place(lat=place[0], lon=place[1], month=place[2])


def test_what_is_no_file_of_regions_is_one_line(tmp_path: Path) -> None:
    pl.DataFrame({"a": [1]}).write_parquet(tmp_path / "x.parquet")
    with pytest.raises(LinnaeaError, match="it should be a file of regions"):
        Regions.open(tmp_path / "x.parquet")
    (tmp_path / "o.csv").write_text("species,lat\nPica pica,3\n")
    with pytest.raises(UsageError, match="no column 'decimalLatitude'"):
        make_regions(tmp_path / "o.csv", tmp_path / "r.parquet")


def take_photograph(path: Path, *, date: str = "", position: tuple[float, float] | None = None) -> Input:
    image = Image.new("RGB", (8, 8))
    exif = image.getexif()
    if date:
        exif.get_ifd(IFD.Exif)[Base.DateTimeOriginal] = date
    if position:
        gps = exif.get_ifd(IFD.GPSInfo)
        for axis, side, degrees in ((GPS.GPSLatitude, GPS.GPSLatitudeRef, position[0]),
                                    (GPS.GPSLongitude, GPS.GPSLongitudeRef, position[1])):  # fmt: skip
            gps[axis], gps[side] = (abs(degrees), 0.0, 0.0), ("N" if axis == GPS.GPSLatitude else "E")
    image.save(path, exif=exif)
    (found,) = iter_inputs(path)
    return found


@pytest.mark.parametrize(
    ("date", "position", "given_date", "given_place", "expected"),
    [
        ("2024:05:03 08:00:00", None, "", TOKYO, (TOKYO, 5)),  # its date goes with the place of the options
        ("", TOKYO, "2024-05", None, (TOKYO, 5)),  # its place goes with the date of the options
        ("2024:05:03 08:00:00", None, "2024-12-01", TOKYO, (TOKYO, 5)),  # what the photograph says comes first
        ("2024:05:03 08:00:00", TOKYO, "2024-12-01", BERLIN, (TOKYO, 5)),
        ("", None, "2024-12-01", TOKYO, (TOKYO, 12)),
        ("2024:05:03 08:00:00", None, "2024-05", None, None),  # no place at all
        ("", (0.0, 0.0), "2024-05", TOKYO, (TOKYO, 5)),  # a receiver without a fix
    ],
)  # fmt: skip
def test_what_the_photograph_says_comes_first_each_fact_by_itself(
    bank: LabelBank, occurrences: Path, tmp_path: Path, date: str, position: tuple[float, float] | None,
    given_date: str, given_place: tuple[float, float] | None, expected: tuple[tuple[float, float], int] | None,
) -> None:  # fmt: skip
    make_regions(occurrences, tmp_path / "r.parquet")
    lat, lon = given_place or (None, None)
    among = Among(prior=tmp_path / "r.parquet", lat=lat, lon=lon, date=given_date)
    weights_of = read_prior(bank, among, lambda line: None)
    assert weights_of is not None
    found = weights_of(take_photograph(tmp_path / "p.jpg", date=date, position=position)).tolist()
    if expected is None:
        assert found == [1, 1, 1]
    else:
        (lat, lon), month = expected
        place = Place(lat=lat, lon=lon, month=month)
        assert found == Regions.open(tmp_path / "r.parquet").weights(bank, place).tolist()


def test_a_photograph_that_is_no_file_says_the_same(bank: LabelBank, occurrences: Path, tmp_path: Path) -> None:
    """Bytes, an open picture, a member of a tar: what they say about place and date counts as that of a file."""
    make_regions(occurrences, tmp_path / "r.parquet")
    weights_of = read_prior(bank, Among(prior=tmp_path / "r.parquet"), lambda line: None)
    assert weights_of is not None
    photograph = tmp_path / "p.jpg"
    expected = weights_of(take_photograph(photograph, date="2024:05:03 08:00:00", position=TOKYO)).tolist()
    assert expected != [1, 1, 1]
    with tarfile.open(tmp_path / "t.tar", "w") as tar:
        tar.add(photograph, "p.jpg")
    with Image.open(photograph) as image:
        for given in (photograph.read_bytes(), image, tmp_path / "t.tar"):
            (one,) = iter_inputs(given)
            assert weights_of(one).tolist() == expected


SPARROWS = [Taxon.of(genus="Centronyx", species="henslowii"), Taxon.of(genus="Passer", species="domesticus")]


@pytest.fixture
def sparrows(tmp_path: Path) -> tuple[LabelBank, Path, Path]:
    """Labels of today, regions under names of yesterday (one with its author), and a checklist that knows both."""
    rows = ["Ammodramus henslowii\t40\t-80\t6"] * 300 + ["Passer domesticus (Linnaeus, 1758)\t40\t-80\t6"] * 100
    rows += ["Passer domesticus\t10\t20\t6"] * 400 + ["Corvus corax\t40\t-80\t6"] * 200
    (tmp_path / "o.tsv").write_text("\n".join(["species\tdecimalLatitude\tdecimalLongitude\tmonth", *rows]) + "\n")
    make_regions(tmp_path / "o.tsv", tmp_path / "r.parquet")
    (tmp_path / "list.csv").write_text(
        "scientificName,taxonomicStatus,acceptedNameUsage,taxonRank,genus\n"
        "Centronyx henslowii,accepted,,species,Centronyx\nPasser domesticus,accepted,,species,Passer\n"
        "Corvus corax,accepted,,species,Corvus\nAmmodramus henslowii,synonym,Centronyx henslowii,species,Ammodramus\n"
    )
    bank = LabelBank(make_taxa_table(SPARROWS), np.eye(2, dtype=np.float32), {})
    return bank, tmp_path / "r.parquet", tmp_path / "list.csv"


def test_a_region_knows_old_names_and_authors(sparrows: tuple[LabelBank, Path, Path], tmp_path: Path) -> None:
    bank, regions, checklist = sparrows
    told: list[str] = []
    among = Among(prior=regions, checklists=(str(checklist),), lat=40.0, lon=-80.0)
    weights_of = read_prior(bank, among, told.append)
    assert weights_of is not None
    henslow, house = weights_of(take_photograph(tmp_path / "p.jpg")).tolist()
    assert henslow > 1 > house, "the commonest bird of the place is likelier there"
    assert henslow == pytest.approx((300 / 0.3 + 200) / 800)
    assert house == pytest.approx((100 / 0.5 + 200) / 800)
    assert any("1 of 4 names (20.0% of the records) are not among the labels" in line for line in told)
    assert any("Corvus corax" in line for line in told)


def test_a_strict_prior_of_regions_is_strict(sparrows: tuple[LabelBank, Path, Path]) -> None:
    bank, regions, checklist = sparrows
    among = Among(prior=regions, checklists=(str(checklist),), lat=40.0, lon=-80.0, strict=True)
    with pytest.raises(LinnaeaError, match="1 name is not among the labels"):
        read_prior(bank, among, lambda line: None)


def test_an_export_of_inaturalists_website_is_a_table_of_occurrences(tmp_path: Path) -> None:
    lines = ["id,observed_on,quality_grade,latitude,longitude,scientific_name,common_name",
             "1,2024-05-03,research,52.5,13.4,Parus major,Great Tit", "2,,research,52.5,13.4,Parus major,Great Tit",
             "3,2024-06-01,needs_id,,,Pica pica,Magpie"]  # fmt: skip
    (tmp_path / "observations-1.csv").write_text("\n".join(lines) + "\n")
    assert make_regions(tmp_path / "observations-1.csv", tmp_path / "r.parquet") == (2, 1)
    counts = Regions.open(tmp_path / "r.parquet").counts
    assert sorted(counts["month"]) == [0, 5]


def test_positions_with_decimal_commas_are_the_same_places(tmp_path: Path) -> None:
    """As a spreadsheet of a German or French office writes them."""
    header, found = "species;decimalLatitude;decimalLongitude;month", list[pl.DataFrame]()
    for lat, lon in (("52.516", "-13.4"), ("52,516", "-13,4")):
        (tmp_path / "o.csv").write_text(f"{header}\nParus major;{lat};{lon};5\nParus major;52;-13;5\n")
        assert make_regions(tmp_path / "o.csv", tmp_path / "r.parquet") == (2, 0)
        found.append(Regions.open(tmp_path / "r.parquet").counts)
    assert found[0].equals(found[1])
