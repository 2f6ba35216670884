"""Large lists: what is done part by part, and with hashes for ids, gives what is done at once."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from linnaea.taxonomy.checklists import records
from linnaea.taxonomy.checklists.records import IdIndex, in_parts
from linnaea.taxonomy.checklists.source import read_checklist_source
from linnaea.taxonomy.checklists.store import Checklist, make_checklist

IDS = st.lists(st.text(alphabet="ab1", max_size=3), max_size=12)


def first_rows(ids: list[str], asked: list[str]) -> list[int]:
    return [ids.index(one) if one and one in ids else -1 for one in asked]


@given(ids=IDS, asked=IDS)
def test_the_first_row_of_each_id_is_found(ids: list[str], asked: list[str]) -> None:
    index = IdIndex(pl.Series(ids, dtype=pl.String))
    assert index.find(pl.Series(asked, dtype=pl.String)).tolist() == first_rows(ids, asked)
    assert index.may_repeat() == (len(set(ids)) < len(ids))


@given(ids=IDS, asked=IDS)
def test_ids_of_one_hash_are_told_apart(ids: list[str], asked: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "_hashes", lambda texts: texts.str.len_chars().cast(pl.UInt64).to_numpy())
        index = IdIndex(pl.Series(ids, dtype=pl.String))
        assert index.find(pl.Series(asked, dtype=pl.String)).tolist() == first_rows(ids, asked)


def test_parts_are_joined_and_repeated_texts_are_categories(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "_AT_ONCE", 3)
    table = pl.DataFrame({"name": [str(n) for n in range(8)], "rank": ["genus", "species"] * 4})
    seen: list[int] = []

    def change(part: pl.DataFrame) -> pl.DataFrame:
        seen.append(part.height)
        assert part.schema["rank"] == pl.String
        return part.with_columns(pl.col("rank").str.to_uppercase())

    made = in_parts(in_parts(table, change), change)
    assert seen == [3, 3, 2] * 2
    assert made.schema == {"name": pl.String(), "rank": pl.Categorical()}
    assert made["rank"].cast(pl.String).to_list() == ["GENUS", "SPECIES"] * 4
    assert in_parts(table.clear(), lambda part: part).height == 0


def write_table(path: Path, n: int, seed: int) -> Path:
    """Write rows with missing ranks, relations by id and by name, ids that repeat, and rows that say nothing."""
    random = np.random.default_rng(seed)

    def pick(*values: str) -> str:
        return str(random.choice(values))

    lines = ["taxonID,parentNameUsageID,acceptedNameUsageID,acceptedNameUsage,scientificName,taxonRank,taxonomicStatus,"
             "kingdom,family,vernacularName"]  # fmt: skip
    for row in range(n):
        genus = pick("Pica", "Rosa", "CORVUS", "Abies")
        name = f"{genus} {pick('alba', 'nigra', 'minor', 'alba Mill.', '')}".strip()
        cells = [pick(f"t{row}", f"t{row}", f"t{max(0, row - 1)}", ""), f"t{random.integers(n)}",
                 pick("", "", f"t{random.integers(n)}"), pick("", "", "Pica alba", "Rosa novata"), pick(name, name, ""),
                 pick("species", "sp.", "", "genus"), pick("accepted", "synonym", "", "bare name"),
                 pick("Animalia", "Plantae", ""), pick("Corvidae", ""), pick("", f"Name {row % 9}")]  # fmt: skip
        lines.append(",".join(cells))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def content(checklist: Checklist) -> list[object]:
    assert checklist.report is not None
    tables = (checklist.taxa, checklist.synonyms, checklist.vernaculars)
    return [checklist.report.lines(), *(table.rows() for table in tables)]


@pytest.mark.parametrize("seed", range(2))
def test_a_list_is_the_same_however_small_its_parts_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    path = write_table(tmp_path / "taxa.csv", 150, seed)
    whole = content(make_checklist(read_checklist_source(path)))
    monkeypatch.setattr(records, "_AT_ONCE", 7)
    assert content(make_checklist(read_checklist_source(path))) == whole
