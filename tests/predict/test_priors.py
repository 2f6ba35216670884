"""What is likely beforehand moves answers, and never forbids one."""

import math
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linnaea.data.shards import make_taxa_table
from linnaea.errors import LinnaeaError, UsageError
from linnaea.predict import priors
from linnaea.predict.labels import LabelBank
from linnaea.predict.priors import Place, Regions, apply_prior, make_regions, read_weights
from linnaea.taxonomy.taxon import Taxon

TAXA = [Taxon.of(genus="Parus", species="major"), Taxon.of(genus="Parus", species="minor"),
        Taxon.of(genus="Pica", species="pica", common_name="Magpie")]  # fmt: skip


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
    with pytest.raises(LinnaeaError, match="not a file of regions"):
        Regions.open(tmp_path / "x.parquet")
    (tmp_path / "o.csv").write_text("species,lat\nPica pica,3\n")
    with pytest.raises(UsageError, match="no column 'decimalLatitude'"):
        make_regions(tmp_path / "o.csv", tmp_path / "r.parquet")
