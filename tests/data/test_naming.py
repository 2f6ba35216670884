"""Names of a build go through checklists with their evidence; nothing that is not settled is lost."""

import json
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linnaea.data.naming import NameResolver, Naming, NamingRule, make_naming, settle_classes, settle_names
from linnaea.errors import UsageError
from linnaea.taxonomy.ranks import RANK_LABELS
from linnaea.taxonomy.row import class_from_label, label_reader
from linnaea.taxonomy.taxon import Taxon

CHECKLIST = """scientific_name,accepted_name,kingdom,phylum,class,order,family
Corvus corax,,Animalia,Chordata,Aves,Passeriformes,Corvidae
Pica hudsonia,,Animalia,Chordata,Aves,Passeriformes,Corvidae
Coloeus monedula,,Animalia,Chordata,Aves,Passeriformes,Corvidae
Corvus monedula,Coloeus monedula,,,,,
Oenanthe oenanthe,,Animalia,Chordata,Aves,Passeriformes,Muscicapidae
Oenanthe crocata,,Plantae,Tracheophyta,Magnoliopsida,Apiales,Apiaceae
"""
BIRDS = {"kingdom": "Animalia", "phylum": "Chordata", "class": "Aves", "order": "Passeriformes", "family": "Corvidae"}


@pytest.fixture(scope="session")
def checklist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checklist") / "birds.csv"
    path.write_text(CHECKLIST)
    return path


@pytest.fixture(scope="session")
def resolver(checklist: Path) -> NameResolver:
    return NameResolver(NamingRule(checklists=(str(checklist),)))


def name(rows: list[tuple[str, Taxon]], resolver: NameResolver, **rule: str) -> Naming:
    taxa = list(dict.fromkeys(taxon for _, taxon in rows))
    records = pl.DataFrame(
        {"facts": [json.dumps({"label": label} if label else {}) for label, _ in rows],
         "taxon_id": pl.Series([taxa.index(taxon) for _, taxon in rows], dtype=pl.Int32)}
    )  # fmt: skip
    return settle_names(records.lazy(), taxa, resolver, NamingRule(checklists=("x",), **rule))  # type: ignore[arg-type]


def settled(naming: Naming) -> list[Taxon]:
    """The taxon of every record."""
    return [naming.taxa[row] for row in naming.rows]


def test_a_synonym_becomes_the_accepted_name_with_its_whole_lineage(resolver: NameResolver) -> None:
    naming = name([("Corvus_monedula", Taxon.of(genus="Corvus", species="monedula"))], resolver)
    assert settled(naming) == [Taxon.of({**BIRDS, "genus": "Coloeus", "species": "monedula"})]
    row = naming.table.row(0, named=True)
    assert (row["label"], row["given_genus"], row["status"], row["taken"]) == (
        "Corvus_monedula", "Corvus", "synonym", "checklist"
    )  # fmt: skip
    assert row["matched_name"] == "Corvus monedula"
    assert row["checklist"] == "birds"
    assert row["version"]


def test_given_ranks_decide_between_homonyms(resolver: NameResolver) -> None:
    bird = Taxon.of(kingdom="Animalia", genus="Oenanthe")
    plant = Taxon.of(kingdom="Plantae", genus="Oenanthe")
    naming = name([("Oenanthe", bird), ("Oenanthe", plant)], resolver)
    assert [taxon.lineage[4] for taxon in settled(naming)] == ["Muscicapidae", "Apiaceae"]


def test_where_the_label_leads_nowhere_the_name_in_the_lineage_is_asked(resolver: NameResolver) -> None:
    naming = name([("class 17", Taxon.of(genus="Corvus", species="corax"))], resolver)
    assert naming.table["asked"].to_list() == ["Corvus corax"]
    assert settled(naming)[0].lineage[4] == "Corvidae"


def test_a_species_that_the_checklist_does_not_know_keeps_its_epithet(resolver: NameResolver) -> None:
    naming = name([("Corvus splendens", Taxon.of(genus="Corvus", species="splendens"))], resolver)
    assert settled(naming) == [Taxon.of({**BIRDS, "genus": "Corvus", "species": "splendens"})]
    assert naming.table.select("status", "taken").row(0) == ("genus_only", "both")


@pytest.mark.parametrize("unsure", ["keep", "reject"])
def test_what_is_not_settled_keeps_its_lineage_or_is_refused_with_a_word(resolver: NameResolver, unsure: str) -> None:
    odd = Taxon.of(genus="Zzyzxa", species="qwerty", common_name="oddity")
    naming = name([("Zzyzxa qwerty", odd)], resolver, unsure=unsure)
    assert settled(naming) == [odd]
    assert naming.table.select("status", "taken").row(0) == ("unresolved", "source" if unsure == "keep" else "none")


taxa = st.sampled_from([
    Taxon.of(genus="Corvus", species="corax"), Taxon.of(genus="Corvus", species="monedula"), Taxon.of(genus="Pica"),
    Taxon.of(genus="Zzyzxa", species="qwerty"), Taxon.of(common_name="some bird"), Taxon.of(kingdom="Plantae"),
])  # fmt: skip
labels = st.sampled_from(("", "Corvus corax", "Pica hudsonia", "Zzyzxa qwerty", "Oenanthe", "17", "Corvus_sp."))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(labels, taxa), min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_every_record_has_a_row_and_the_order_does_not_matter(
    resolver: NameResolver, rows: list[tuple[str, Taxon]], random: object
) -> None:
    naming = name(rows, resolver)
    assert naming.table["records"].sum() == len(rows) == len(naming.rows)
    for (label, taxon), row in zip(rows, naming.rows, strict=True):
        facts = naming.table.row(row, named=True)
        assert facts["label"] == label
        assert tuple(facts[f"given_{rank}"] for rank in RANK_LABELS) == taxon.lineage
    order = list(range(len(rows)))
    random.shuffle(order)  # type: ignore[attr-defined]
    again = name([rows[number] for number in order], resolver)
    assert again.table.equals(naming.table)
    assert settled(again) == [settled(naming)[number] for number in order]


def read(*labels: str) -> list[tuple[str, Taxon]]:
    return [(label, taxon) for label in labels if isinstance(taxon := class_from_label(label), Taxon)]


@pytest.mark.parametrize(
    ("others", "status"),
    [
        (("Corvus corax", "Pica hudsonia", "Coloeus monedula"), "genus_only"),
        (("Corvus corax", "Pica hudsonia"), "ambiguous"),
        ((), "ambiguous"),
    ],
)
def test_the_rest_of_the_names_decides_between_homonyms(
    resolver: NameResolver, others: tuple[str, ...], status: str
) -> None:
    naming = name(read("Oenanthe", *others), resolver)
    row = naming.table.filter(label="Oenanthe").row(0, named=True)
    assert row["status"] == status
    assert naming.taxon_of["Oenanthe", Taxon.of(common_name="Oenanthe")].lineage[4] == (
        "Muscicapidae" if status == "genus_only" else ""
    )


@pytest.mark.parametrize("label", ["PICA", "pica"])
def test_one_word_needs_company_or_a_capital(resolver: NameResolver, label: str) -> None:
    assert settled(name(read(label), resolver)) == [Taxon.of(common_name=label)]
    birds = ("Corvus corax", "Oenanthe oenanthe", "Coloeus monedula")
    assert Taxon.of({**BIRDS, "genus": "Pica"}) in settled(name(read(label, *birds), resolver))
    assert settled(name(read("Pica"), resolver)) == [Taxon.of({**BIRDS, "genus": "Pica"})]


def test_a_genus_outside_of_what_the_other_names_share_is_ambiguous(resolver: NameResolver, tmp_path: Path) -> None:
    (tmp_path / "two.csv").write_text(
        CHECKLIST + "Adonis aestivalis,,Plantae,Tracheophyta,Magnoliopsida,,Ranunculaceae\n"
    )
    both = NameResolver(NamingRule(checklists=(str(tmp_path / "two.csv"),)))
    naming = name(read("Adonis", "Corvus corax", "Pica hudsonia", "Coloeus monedula"), both)
    row = naming.table.filter(label="Adonis").row(0, named=True)
    assert (row["status"], row["taken"]) == ("ambiguous", "source")
    assert row["note"] == "Adonis is in Plantae Ranunculaceae; the other names are Animalia Chordata Aves"
    assert (
        settled(name(read("Adonis aestivalis", "Corvus corax", "Pica hudsonia", "Coloeus monedula"), both))[0].lineage[
            0
        ]
        == "Plantae"
    ), "a whole name says what it is"


def test_spellings_synonyms_and_authors_are_one_class_and_remarks_are_not(checklist: Path) -> None:
    labels = ["Coloeus monedula", "COLOEUS_MONEDULA", "Corvus monedula", "Coloeus monedula (Linnaeus, 1758)",
              "Corvus monedula juvenile", "Coloeus_monedula_juvenile", "Foo___bar", "Foo___baz"]  # fmt: skip
    classes, lines = settle_classes(read(*labels), make_naming((str(checklist),)))
    jackdaw = Taxon.of({**BIRDS, "genus": "Coloeus", "species": "monedula"})
    juvenile = Taxon(jackdaw.lineage, common_name="Coloeus monedula juvenile")
    foo = [Taxon.of(common_name="Foo bar"), Taxon.of(common_name="Foo baz")]
    assert classes == [jackdaw] * 4 + [juvenile] * 2 + foo
    assert lines == [
        "not found: 2 names (Foo___bar, Foo___baz)", "synonyms: 1 name (Corvus monedula is Coloeus monedula)",
        "merged: 6 labels are 2 classes",
    ]  # fmt: skip
    merged, lines = settle_classes(
        [(label, label_reader("taxon")(label)) for label in labels],  # type: ignore[misc]
        make_naming((str(checklist),), merge_by="taxon"),
    )
    assert merged == [jackdaw] * 6 + [Taxon.of(common_name="Foo")] * 2
    assert lines[-1] == "merged: 8 labels are 2 classes"


def test_ranks_from_columns_make_the_class_and_not_the_label(resolver: NameResolver) -> None:
    given = Taxon.of(genus="Pica", species="hudsonia")
    assert [taxon.common_name for taxon in settled(name([("Pica hudsonia female", given)], resolver))] == [""]


def test_the_embedded_checklist_resolves_unless_others_do() -> None:
    assert make_naming() == NamingRule(checklists=("inat",))
    assert make_naming(("mine.csv",)) == NamingRule(checklists=("mine.csv",))
    assert make_naming(resolve=False, merge_by="taxon") == NamingRule(merge_by="taxon")
    with pytest.raises(UsageError, match="without --no-resolve"):
        make_naming(("mine.csv",), resolve=False)


def test_a_context_without_a_rank_is_refused() -> None:
    with pytest.raises(ValueError, match="write rank=name"):
        NamingRule(checklists=("inat",), context=("Aves",))
