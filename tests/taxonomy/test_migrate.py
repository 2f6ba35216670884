"""Labels follow their taxa; what is not certain is said and not guessed; every row is accounted for."""

from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_changes import CORVIDS, SPECIES, checklist

from linnaea.data.shards import make_taxa_table
from linnaea.errors import UsageError
from linnaea.taxonomy.migrate import STATUSES, Migration, count_statuses, migrate_labels, migrate_taxa
from linnaea.taxonomy.ranks import RANK_LABELS
from linnaea.taxonomy.taxon import Taxon

PLANT = "Plantae Tracheophyta Magnoliopsida Apiales Apiaceae Oenanthe aquatica"
OLD = checklist(
    f"{CORVIDS} Corvus monedula",
    f"{CORVIDS} Corvus corone",
    f"{CORVIDS} Corvus cornix",
    f"{CORVIDS} Pica pica",
    f"{CORVIDS} Pica bottanensis",
    "Animalia Chordata Aves Passeriformes Turdidae Oenanthe oenanthe",
    PLANT,
    synonyms={"Pica hudsonia": "Pica pica", "Corvus pica": "Pica pica"},
    common={"Corvus corone": "Carrion Crow"},
)
NEW = checklist(
    f"{CORVIDS} Coloeus monedula",
    f"{CORVIDS} Corvus corone",
    f"{CORVIDS} Pica pica",
    f"{CORVIDS} Pica hudsonia",
    f"{CORVIDS} Perisoreus canadensis",
    "Animalia Chordata Aves Passeriformes Muscicapidae Oenanthe oenanthe",
    PLANT,
    version="2",
    synonyms={"Corvus monedula": "Coloeus monedula", "Corvus cornix": "Corvus corone"},
    common={"Corvus corone": "Carrion Crow"},
)
MIGRATION = Migration.between(OLD, NEW)

EXPECTED = {
    "Corvus monedula": ("renamed", "Coloeus monedula"),
    "Corvus cornix": ("lumped", "Corvus corone"),
    "Corvus corone": ("unchanged", "Corvus corone"),
    "Oenanthe oenanthe": ("moved", "Oenanthe oenanthe"),
    "Pica pica": ("ambiguous", "Pica pica"),
    "Pica bottanensis": ("gone", "Pica bottanensis"),
    "Perisoreus canadensis": ("current", "Perisoreus canadensis"),
    "Felis catus": ("unknown", "Felis catus"),
    "": ("empty", ""),
}


@pytest.mark.parametrize("spelled", [lambda name: name, lambda name: f" {name.replace(' ', '_')} "])
def test_each_status_in_a_label_table(spelled: Any) -> None:
    table = pl.DataFrame({"file": range(len(EXPECTED)), "label": [spelled(name) for name in EXPECTED]})
    result = migrate_labels(table, MIGRATION, column="label")
    assert result["change"].to_list() == [status for status, _ in EXPECTED.values()]
    kept = ("unchanged", "ambiguous", "gone", "current", "unknown", "empty", "moved")
    for given_label, label, (status, name) in zip(table["label"], result["label"], EXPECTED.values(), strict=True):
        assert label == (given_label if status in kept and status != "moved" else name)
    assert result["file"].to_list() == table["file"].to_list()
    assert set(result["from_version"]) == {"test 1"}
    assert set(result["to_version"]) == {"test 2"}


def test_a_split_names_its_candidates_and_keeps_the_label() -> None:
    row = migrate_labels(pl.DataFrame({"label": ["Pica pica"]}), MIGRATION, column="label").row(0, named=True)
    assert row["label"] == "Pica pica"
    assert row["candidates"] == "Pica hudsonia; Pica pica"
    assert row["note"].startswith("split")


def test_a_homonym_needs_its_kingdom() -> None:
    table = pl.DataFrame({"name": ["Oenanthe"] * 4, "kingdom": ["", "Plantae", "Animalia", "Fungi"]})
    result = migrate_labels(table, MIGRATION, column="name")
    assert result["change"].to_list() == ["ambiguous", "unchanged", "moved", "unknown"]
    assert "Apiaceae" in result["candidates"][0]


def test_rank_columns_are_labels_and_are_rewritten() -> None:
    rows = [
        (*CORVIDS.split(), "Corvus", "monedula"),
        ("Animalia", "Chordata", "Aves", "Passeriformes", "Turdidae", "Oenanthe", "oenanthe"),
        (*CORVIDS.split(), "", None),
    ]
    table = pl.DataFrame(rows, schema=dict.fromkeys(RANK_LABELS, pl.String), orient="row")
    result = migrate_labels(table, MIGRATION)
    assert result.select(RANK_LABELS).rows()[0] == (*rows[0][:5], "Coloeus", "monedula")
    assert result["family"][1] == "Muscicapidae"
    assert result.select(RANK_LABELS).rows()[2] == rows[2]
    assert result["change"].to_list() == ["renamed", "moved", "unchanged"]


def test_a_species_column_may_hold_whole_names() -> None:
    """As in our own answers, with the epithet beside it, or alone."""
    answers = pl.DataFrame({"genus": ["Corvus", "Corvus", ""], "species_epithet": ["monedula", "corone", ""],
                            "species": ["Corvus monedula", "Corvus corone", ""]})  # fmt: skip
    result = migrate_labels(answers, MIGRATION)
    assert result["change"].to_list() == ["renamed", "unchanged", "empty"]
    assert result.select("genus", "species_epithet", "species").rows() == [
        ("Coloeus", "monedula", "Coloeus monedula"), ("Corvus", "corone", "Corvus corone"), ("", "", ""),
    ]  # fmt: skip
    alone = migrate_labels(pl.DataFrame({"species": ["Corvus monedula", "Corvus corone"]}), MIGRATION)
    assert alone["species"].to_list() == ["Coloeus monedula", "Corvus corone"]


def test_a_scientific_name_beside_higher_ranks_is_the_label() -> None:
    """Else the family would be migrated, and its name written over that of the species."""
    table = pl.DataFrame({"scientific_name": ["Corvus monedula", "", "Oenanthe oenanthe"],
                          "family": ["Corvidae", "Corvidae", "Turdidae"]})  # fmt: skip
    result = migrate_labels(table, MIGRATION)
    assert result["old_name"].to_list() == ["Corvus monedula", "Corvidae", "Oenanthe oenanthe"]
    assert result["scientific_name"].to_list() == ["Coloeus monedula", "", "Oenanthe oenanthe"]
    assert result["family"].to_list() == ["Corvidae", "Corvidae", "Muscicapidae"]


def test_classes_of_a_species_take_its_new_name_and_stay_apart() -> None:
    lineage = (*CORVIDS.split(), "Corvus", "monedula")
    names = ("Corvus monedula adult", "Corvus monedula chick", "Jackdaw")
    classes = [Taxon(lineage, common_name=name) for name in names]
    moved = migrate_taxa(make_taxa_table(classes), MIGRATION).taxa
    assert moved.select("scientific_name", "common_name").rows() == [
        ("Coloeus monedula", "Coloeus monedula adult"), ("Coloeus monedula", "Coloeus monedula chick"),
        ("Coloeus monedula", "Jackdaw"),
    ]  # fmt: skip


def test_a_synonym_becomes_the_accepted_name() -> None:
    result = migrate_labels(pl.DataFrame({"label": ["Corvus cornix", "Corvus pica"]}), MIGRATION, column="label")
    assert result["label"][0] == "Corvus corone"
    assert result["change"][1] == "ambiguous"  # its accepted name was split
    same = Migration.between(OLD, OLD)
    again = migrate_labels(pl.DataFrame({"label": ["Corvus pica"]}), same, column="label")
    assert again.select("label", "change").rows() == [("Pica pica", "renamed")]


def test_history_grows_over_versions() -> None:
    third = checklist(f"{CORVIDS} Monedula monedula", f"{CORVIDS} Corvus corone", f"{CORVIDS} Pica pica", version="3",
                      synonyms={"Coloeus monedula": "Monedula monedula"})  # fmt: skip
    table = pl.DataFrame({"label": ["Corvus monedula", "Corvus corone"]})
    once = migrate_labels(table, MIGRATION, column="label")
    twice = migrate_labels(once, Migration.between(NEW, third), column="label")
    assert twice["label"].to_list() == ["Monedula monedula", "Corvus corone"]
    assert twice["taxonomy_history"].to_list() == [
        "Corvus monedula -> Coloeus monedula (renamed, test 1 -> test 2); "
        "Coloeus monedula -> Monedula monedula (renamed, test 2 -> test 3)",
        "",
    ]


def test_a_wrong_column_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="'lable'"):
        migrate_labels(pl.DataFrame({"label": ["x"]}), MIGRATION, column="lable")
    with pytest.raises(UsageError, match="--column"):
        migrate_labels(pl.DataFrame({"label": ["x"]}), MIGRATION)


def taxa_table(*species: str, common: dict[str, str] | None = None) -> pl.DataFrame:
    rows = []
    for number, line in enumerate(sorted(tuple(s.split()) for s in species)):
        name = f"{line[5]} {line[6]}"
        rows.append({"taxon_id": number, **dict(zip(RANK_LABELS, line, strict=True)), "scientific_name": name,
                     "common_name": (common or {}).get(name, "")})  # fmt: skip
    return pl.DataFrame(rows, schema_overrides={"taxon_id": pl.Int32})


def test_a_taxon_table_is_sorted_again_and_lumped_taxa_share_an_id() -> None:
    crows = [f"{CORVIDS} Corvus {epithet}" for epithet in ("monedula", "corone", "cornix")]
    common = {"Corvus corone": "Crow", "Corvus cornix": "Hooded Crow", "Corvus monedula": "Jackdaw"}
    taxa = taxa_table(*crows, f"{CORVIDS} Pica bottanensis", common=common)
    result = migrate_taxa(taxa, MIGRATION)
    assert result.taxa["scientific_name"].to_list() == ["Coloeus monedula", "Corvus corone", "Pica bottanensis"]
    assert result.taxa["common_name"].to_list() == ["Jackdaw", "Crow", ""]
    assert result.taxa["taxon_id"].to_list() == [0, 1, 2]
    assert result.taxa.schema == taxa.schema
    old = taxa["scientific_name"].to_list()
    assert {old[i]: int(new) for i, new in enumerate(result.new_id)} == {
        "Corvus cornix": 1, "Corvus corone": 1, "Corvus monedula": 0, "Pica bottanensis": 2}  # fmt: skip
    assert sorted(result.history.select("old_name", "change", "taxon_id").rows()) == [
        ("Corvus cornix", "lumped", 1), ("Corvus monedula", "renamed", 0), ("Pica bottanensis", "gone", 2)]  # fmt: skip
    assert result.counts == {"unchanged": 1, "renamed": 1, "lumped": 1, "gone": 1}


@given(
    st.lists(SPECIES, min_size=1, max_size=8), st.lists(SPECIES, min_size=1, max_size=8), st.lists(SPECIES, max_size=8)
)
@settings(max_examples=40, deadline=None)
def test_every_row_has_one_status_and_no_taxon_is_lost(before: list[str], after: list[str], used: list[str]) -> None:
    migration = Migration.between(checklist(*before), checklist(*after, version="2"))
    taxa = taxa_table(*set(used), f"{CORVIDS} Felis catus")
    result = migrate_taxa(taxa, migration)
    assert set(result.counts) <= set(STATUSES)
    assert sum(result.counts.values()) == taxa.height
    assert set(result.new_id) == set(range(result.taxa.height))
    lineages = result.taxa.select(RANK_LABELS).rows()
    assert lineages == sorted(lineages)
    labels = migrate_labels(taxa, migration)
    assert sum(count_statuses(labels).values()) == taxa.height
