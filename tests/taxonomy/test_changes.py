"""What changed between two checklists is found, with evidence, and nothing is guessed."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linnaea.taxonomy.changes import CHANGE_SCHEMA, KINDS, compare, diff
from linnaea.taxonomy.checklists.source import read_checklist_source
from linnaea.taxonomy.checklists.store import make_checklist
from linnaea.taxonomy.ranks import RANK_LABELS

CORVIDS = "Animalia Chordata Aves Passeriformes Corvidae"


Names = dict[str, str] | None


def checklist(
    *species: str,
    version: str = "1",
    authors: Names = None,
    ids: Names = None,
    common: Names = None,
    synonyms: Names = None,
) -> Any:
    """A checklist from lineages ("Animalia ... Pica pica"; "-" for a missing rank) with all their ancestors.

    ``synonyms`` maps a synonym to an accepted name; the same synonym may be given twice as "name#2".
    """
    lineages = sorted({tuple("" if w == "-" else w for w in (s.split() + [""] * 7)[:7]) for s in species})
    every = sorted(
        {(*line[: i + 1], *[""] * (6 - i)) for line in lineages for i in range(7) if line[i]},
    )
    row_of = {line: i for i, line in enumerate(every)}
    rows = []
    for line in every:
        rank = max(i for i in range(7) if line[i])
        name = f"{line[5]} {line[6]}" if rank == 6 else line[rank]
        above = [(*line[: i + 1], *[""] * (6 - i)) for i in range(rank) if line[i]]
        rows.append(
            {
                "source_id": (ids or {}).get(name, ""),
                "rank": rank,
                "name": name,
                "authorship": (authors or {}).get(name, ""),
                "parent": row_of[above[-1]] if above else -1,
                **dict(zip(RANK_LABELS, line, strict=True)),
                "common_name": (common or {}).get(name, ""),
            }
        )
    schema = {"source_id": pl.String, "rank": pl.Int8, "name": pl.String, "authorship": pl.String, "parent": pl.Int32,
              **dict.fromkeys(RANK_LABELS, pl.String), "common_name": pl.String}  # fmt: skip
    by_name = {row["name"]: i for i, row in enumerate(rows)}
    synonym_rows = [
        {
            "name": name.split("#")[0],
            "authorship": "",
            "row": by_name[accepted],
            "kind": "subspecies" if len(name.split()) == 3 else "synonym",
        }
        for name, accepted in (synonyms or {}).items()
    ]
    synonym_schema = {"name": pl.String, "authorship": pl.String, "row": pl.Int32, "kind": pl.String}
    return SimpleNamespace(
        name="test", version=version, taxa=pl.DataFrame(rows, schema=schema),
        synonyms=pl.DataFrame(synonym_rows, schema=synonym_schema), vernaculars=pl.DataFrame(),
    )  # fmt: skip


def told(old: Any, new: Any) -> list[tuple[str, str, str]]:
    """(kind, old name, new name) of every change, in the order of the difference."""
    return diff(old, new).select("kind", "old_name", "new_name").rows()


def evidence(old: Any, new: Any, name: str) -> str:
    changes = diff(old, new).filter((pl.col("old_name") == name) | (pl.col("new_name") == name))
    return "; ".join(changes["evidence"])


def test_equal_checklists_have_no_difference() -> None:
    one = checklist(f"{CORVIDS} Pica pica", f"{CORVIDS} Pica hudsonia", synonyms={"Corvus pica": "Pica pica"})
    changes = diff(one, one)
    assert changes.height == 0
    assert dict(changes.schema) == {k: v() for k, v in CHANGE_SCHEMA.items()}


def test_new_and_gone() -> None:
    old, new = (
        checklist(f"{CORVIDS} Pica pica", f"{CORVIDS} Pica nuttalli"),
        checklist(f"{CORVIDS} Pica pica", f"{CORVIDS} Pica asirensis"),
    )
    assert told(old, new) == [("gone", "Pica nuttalli", ""), ("new", "", "Pica asirensis")]


def test_a_synonym_of_the_new_checklist_is_a_renaming() -> None:
    old = checklist(f"{CORVIDS} Pica pica", f"{CORVIDS} Corvus monedula", f"{CORVIDS} Corvus corax")
    new = checklist(f"{CORVIDS} Pica pica", f"{CORVIDS} Coloeus monedula", f"{CORVIDS} Corvus corax",
                    synonyms={"Corvus monedula": "Coloeus monedula"})  # fmt: skip
    assert ("renamed", "Corvus monedula", "Coloeus monedula") in told(old, new)
    assert "synonym" in evidence(old, new, "Corvus monedula")


def test_a_synonym_of_the_old_checklist_that_replaces_it_is_a_renaming() -> None:
    old = checklist(f"{CORVIDS} Pica pica", synonyms={"Pica melanoleuca": "Pica pica"})
    assert told(old, checklist(f"{CORVIDS} Pica melanoleuca")) == [("renamed", "Pica pica", "Pica melanoleuca")]


def test_a_synonym_raised_beside_its_species_is_a_split() -> None:
    old = checklist(f"{CORVIDS} Pica pica", synonyms={"Pica hudsonia": "Pica pica"})
    new = checklist(f"{CORVIDS} Pica pica", f"{CORVIDS} Pica hudsonia")
    assert sorted(told(old, new)) == [("split", "Pica pica", "Pica hudsonia"), ("split", "Pica pica", "Pica pica")]


def test_a_name_that_is_a_synonym_of_two_taxa_is_a_split() -> None:
    old = checklist(f"{CORVIDS} Aphelocoma californica")
    new = checklist(
        f"{CORVIDS} Aphelocoma woodhouseii",
        f"{CORVIDS} Aphelocoma sumichrasti",
        synonyms={
            "Aphelocoma californica": "Aphelocoma woodhouseii",
            "Aphelocoma californica#2": "Aphelocoma sumichrasti",
        },
    )
    assert {kind for kind, *_ in told(old, new)} == {"split"}
    assert {name for *_, name in told(old, new)} == {"Aphelocoma woodhouseii", "Aphelocoma sumichrasti"}


def test_a_species_that_becomes_a_synonym_of_another_is_lumped() -> None:
    old = checklist(f"{CORVIDS} Corvus corone", f"{CORVIDS} Corvus cornix")
    new = checklist(f"{CORVIDS} Corvus corone", synonyms={"Corvus cornix": "Corvus corone"})
    assert told(old, new) == [("lumped", "Corvus cornix", "Corvus corone")]


def test_two_species_that_become_a_third_are_lumped() -> None:
    old = checklist(f"{CORVIDS} Corvus corone", f"{CORVIDS} Corvus cornix")
    new = checklist(f"{CORVIDS} Corvus communis",
                    synonyms={"Corvus cornix": "Corvus communis", "Corvus corone": "Corvus communis"})  # fmt: skip
    assert [kind for kind, *_ in told(old, new)] == ["lumped", "lumped"]


def test_the_same_author_and_epithet_in_another_genus_is_a_renaming_even_over_families() -> None:
    old = checklist("Animalia Chordata Aves Passeriformes Paridae Parus albus", f"{CORVIDS} Pica pica",
                    authors={"Parus albus": "Linnaeus, 1758"})  # fmt: skip
    new = checklist("Animalia Chordata Aves Passeriformes Sylviidae Sylvia alba", f"{CORVIDS} Pica pica",
                    authors={"Sylvia alba": "(Linnaeus, 1758)"})  # fmt: skip
    assert ("renamed", "Parus albus", "Sylvia alba") in told(old, new)
    assert "author" in evidence(old, new, "Parus albus")


def test_another_author_is_another_species() -> None:
    old = checklist(
        f"{CORVIDS} Pica alba",
        f"{CORVIDS} Corvus corax",
        f"{CORVIDS} Coloeus dauuricus",
        authors={"Pica alba": "Linnaeus, 1758"},
    )
    new = checklist(
        f"{CORVIDS} Corvus corax",
        f"{CORVIDS} Coloeus dauuricus",
        f"{CORVIDS} Coloeus albus",
        authors={"Coloeus albus": "Miller, 1901"},
    )
    assert ("gone", "Pica alba", "") in told(old, new)
    assert ("new", "", "Coloeus albus") in told(old, new)


@pytest.mark.parametrize(
    ("before", "after"),
    [("albus", "alba"), ("viridis", "viride"), ("niger", "nigra"), ("smithii", "smithi"), ("nigrum", "niger")],
)
def test_endings_that_agree_in_gender_are_a_renaming(before: str, after: str) -> None:
    old, new = checklist(f"{CORVIDS} Pica {before}"), checklist(f"{CORVIDS} Pica {after}")
    assert told(old, new) == [("renamed", f"Pica {before}", f"Pica {after}")]
    assert "ending" in evidence(old, new, f"Pica {before}")


def test_a_misspelling_is_a_renaming_but_two_candidates_are_none() -> None:
    old = checklist(f"{CORVIDS} Pica asirensis")
    assert told(old, checklist(f"{CORVIDS} Pica assirensis")) == [("renamed", "Pica asirensis", "Pica assirensis")]
    both = checklist(f"{CORVIDS} Pica assirensis", f"{CORVIDS} Pica asyrensis")
    assert ("gone", "Pica asirensis", "") in told(old, both)


def test_ids_are_evidence_only_where_the_checklists_share_them() -> None:
    names = ("Pica pica", "Corvus corax", "Pica bottanensis")
    after = ("Pica pica", "Corvus corax", "Pica serica")

    def of(species: tuple[str, ...], ids: tuple[str, ...]) -> Any:
        return checklist(*(f"{CORVIDS} {name}" for name in species), ids=dict(zip(species, ids, strict=True)))

    renamed = ("renamed", "Pica bottanensis", "Pica serica")
    assert renamed in told(of(names, ("17", "25", "x3")), of(after, ("17", "25", "x3")))
    assert renamed in told(of(names, ("17", "25", "99")), of(after, ("17", "25", "99")))
    assert renamed not in told(of(names, ("17", "25", "99")), of(after, ("99", "17", "25")))
    assert renamed not in told(of(names, ("0", "1", "2")), of(after, ("0", "1", "2")))  # row numbers


def test_a_common_name_is_evidence() -> None:
    old = checklist(f"{CORVIDS} Pica bottanensis", common={"Pica bottanensis": "Black-rumped Magpie"})
    new = checklist(f"{CORVIDS} Pica tibetana", common={"Pica tibetana": "Black-rumped magpie"})
    assert told(old, new) == [("renamed", "Pica bottanensis", "Pica tibetana")]


def test_a_species_in_another_family_has_moved_and_says_how() -> None:
    old = checklist("Plantae Tracheophyta - Lamiales Scrophulariaceae Digitalis purpurea")
    new = checklist("Plantae Tracheophyta Magnoliopsida Lamiales Plantaginaceae Digitalis purpurea")
    assert ("moved", "Digitalis purpurea", "Digitalis purpurea") in told(old, new)
    said = evidence(old, new, "Digitalis purpurea")
    assert said == "class Magnoliopsida filled in, family Scrophulariaceae -> Plantaginaceae"


def test_a_genus_follows_its_species() -> None:
    old = checklist(*(f"{CORVIDS} Oldus {name}" for name in ("primus", "secundus", "tertius", "quartus")))
    new = checklist(*(f"{CORVIDS} Newus {name}" for name in ("primus", "secundus", "tertius", "quintilis")))
    assert ("renamed", "Oldus", "Newus") in told(old, new)
    assert "3 of its 4 members" in evidence(old, new, "Oldus")
    parted = checklist(
        *(f"{CORVIDS} {name}" for name in ("Newus primus", "Newus secundus", "Alius tertius", "Alius quartus"))
    )
    assert {("split", "Oldus", "Newus"), ("split", "Oldus", "Alius")} <= set(told(old, parted))
    lumped = checklist(f"{CORVIDS} Pica pica"), checklist(f"{CORVIDS} Pica pica", f"{CORVIDS} Pica rara")
    gone = checklist(f"{CORVIDS} Pica pica", f"{CORVIDS} Rarus rarus")
    assert ("lumped", "Rarus", "Pica") in told(gone, lumped[1])


def test_homonyms_in_two_kingdoms_stay_apart() -> None:
    plant, moth = (
        "Plantae Tracheophyta Magnoliopsida Apiales Apiaceae Oenanthe",
        "Animalia Chordata Aves Passeriformes Muscicapidae Oenanthe",
    )
    old = checklist(
        f"{plant} aquatica", f"{moth} oenanthe", "Plantae Tracheophyta Magnoliopsida Poales Poaceae Poa annua"
    )
    new = checklist(
        f"{plant} aquatica", f"{moth} oenanthe", "Plantae Tracheophyta Magnoliopsida Poales Poaceae Poa annua"
    )
    assert told(old, new) == []
    only_plant, only_bird = (
        checklist(f"{plant} aquatica", *[f"Plantae - - - - Aa s{i}" for i in range(30)]),
        checklist(f"{moth} oenanthe", *[f"Plantae - - - - Aa s{i}" for i in range(30)]),
    )
    assert ("gone", "Oenanthe", "") in told(only_plant, only_bird)
    assert ("new", "", "Oenanthe") in told(only_plant, only_bird)


def test_a_kingdom_under_another_name_is_one_move_of_all() -> None:
    old, new = (
        checklist(*(f"{kingdom} Chordata Aves Passeriformes Corvidae Pica s{c}x" for c in "abcdef"))
        for kingdom in ("Metazoa", "Animalia")
    )
    kinds = {(kind, name) for kind, name, _ in told(old, new)}
    assert ("renamed", "Metazoa") in kinds
    assert ("moved", "Pica sax") in kinds
    assert {kind for kind, _ in kinds} == {"renamed", "moved"}


NAMES = st.sampled_from(["albus", "alba", "niger", "rarus", "pica", "smithii"])
SPECIES = st.builds(
    lambda f, g, s: f"{CORVIDS[:-8]}{f} {g} {s}",
    st.sampled_from(["Aidae", "Bidae"]),
    st.sampled_from(["Pica", "Corvus", "Parus"]),
    NAMES,
)


@given(st.lists(SPECIES, min_size=1, max_size=10), st.lists(SPECIES, min_size=1, max_size=10))
@settings(max_examples=60, deadline=None)
def test_every_taxon_is_accounted_for(before: list[str], after: list[str]) -> None:
    old, new = checklist(*before), checklist(*after)
    compared = compare(old, new)
    changes, namesakes = compared.changes, compared.namesakes
    assert set(changes["kind"]) <= set(KINDS)
    assert changes.filter(pl.col("evidence") == "").height == 0
    for side, frame in (("old_row", old.taxa), ("new_row", new.taxa)):
        seen = set(changes[side].drop_nulls()) | set(namesakes[side])
        assert seen == set(range(frame.height))
        assert not namesakes[side].is_duplicated().any()
    one_row = changes.filter(pl.col("kind") != "split")["old_row"].drop_nulls()
    assert not one_row.is_duplicated().any()


def test_a_name_that_stands_twice_is_no_change_and_one_entry_less_is_a_lump() -> None:
    once = checklist(f"{CORVIDS} Pica pica")
    doubled = pl.concat([once.taxa, once.taxa.tail(1)])
    twice = SimpleNamespace(**{**vars(once), "taxa": doubled})
    assert told(twice, twice) == []
    assert told(twice, once) == [("lumped", "Pica pica", "Pica pica")]


def test_a_subspecies_raised_is_a_split_and_a_species_lowered_a_lump() -> None:
    wide = checklist(f"{CORVIDS} Pica pica", synonyms={"Pica pica hudsonia": "Pica pica"})
    narrow = checklist(f"{CORVIDS} Pica pica", f"{CORVIDS} Pica hudsonia")
    assert {kind for kind, *_ in told(wide, narrow)} == {"split"}
    assert "the subspecies Pica pica hudsonia" in evidence(wide, narrow, "Pica hudsonia")
    assert told(narrow, wide) == [("lumped", "Pica hudsonia", "Pica pica")]


def test_a_common_epithet_alone_is_no_evidence() -> None:
    rose = "Plantae Tracheophyta Magnoliopsida Asterales Asteraceae"
    stay = (f"{rose} Cirsium pannonicum", f"{rose} Centaurea jacea", f"{rose} Taraxacum officinale")
    old, new = checklist(*stay, f"{rose} Taraxacum pannonicum"), checklist(*stay, f"{rose} Centaurea pannonica")
    assert told(old, new) == [("gone", "Taraxacum pannonicum", ""), ("new", "", "Centaurea pannonica")]
    settled = checklist(*stay, f"{rose} Taraxacum ljubarskyi"), checklist(*stay, f"{rose} Centaurea ljubarskyi")
    assert "renamed" not in {kind for kind, *_ in told(*settled)}
    reason = checklist(*stay, f"{rose} Taraxacum ljubarskyi"), checklist(*stay, f"{rose} Novus ljubarskyi")
    assert ("renamed", "Taraxacum ljubarskyi", "Novus ljubarskyi") in told(*reason)
    many = [f"{epithet}ica" for epithet in ("pannon", "ital", "germ", "balt")]
    others = (*stay, *(f"{rose} Cirsium {epithet}" for epithet in many))
    moved = (checklist(*others, *(f"{rose} {genus} {e}" for e in many)) for genus in ("Inula", "Pentanema"))
    assert sorted(kind for kind, *_ in told(*moved)) == ["renamed"] * 5


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        ("smeathmanii", "smeathmannii", "renamed"),
        ("gherardii", "gherardiae", "renamed"),
        ("citri", "citrina", "gone"),
        ("fusiformis", "ensiformis", "gone"),
        ("swatianum", "shanianum", "gone"),
    ],
)
def test_two_edits_need_a_long_name_with_the_same_beginning(before: str, after: str, kind: str) -> None:
    old, new = (
        checklist(f"{CORVIDS} Pica {before}", f"{CORVIDS} Pica pica"),
        checklist(f"{CORVIDS} Pica {after}", f"{CORVIDS} Pica pica"),
    )
    assert told(old, new)[0][0] == kind


@pytest.mark.parametrize(("old_id", "new_id", "linked"), [("7", "7", True), ("7", "8", False), ("", "", False)])
def test_a_genus_transfer_is_found_by_id_epithet_and_family(old_id: str, new_id: str, linked: bool) -> None:
    others = [f"{CORVIDS} Corvus {epithet}" for epithet in ("corax", "corone", "frugilegus")]
    numbers = {"Corvus corax": "1", "Corvus corone": "2", "Corvus frugilegus": "3", "Coloeus corax": "4"}
    others += [f"{CORVIDS} Coloeus {epithet}" for epithet in ("dauuricus", "corax")]
    old = checklist(*others, f"{CORVIDS} Corvus monedulus", ids=numbers | {"Corvus monedulus": old_id})
    new_numbers = {"Corvus corax": "3", "Corvus corone": "1", "Corvus frugilegus": "2", "Coloeus monedula": new_id}
    new = checklist(*others, f"{CORVIDS} Coloeus monedula", ids=new_numbers)
    assert (("renamed", "Corvus monedulus", "Coloeus monedula") in told(old, new)) is linked
    if linked:
        assert "the same id 7, epithet and family" in evidence(old, new, "Corvus monedulus")


def test_no_transfer_is_found_across_families_or_epithets() -> None:
    old = checklist(f"{CORVIDS} Corvus monedulus", f"{CORVIDS} Corvus corax", ids={"Corvus monedulus": "7"})
    for moved in ("Animalia Chordata Aves Passeriformes Sturnidae Coloeus monedula", f"{CORVIDS} Coloeus nigra"):
        new = checklist(moved, f"{CORVIDS} Corvus corax", ids={" ".join(moved.split()[5:]): "7"})
        assert ("gone", "Corvus monedulus", "") in told(old, new)


def test_two_tables_with_ids_are_compared_by_them(tmp_path: Path) -> None:
    (tmp_path / "old.csv").write_text(
        "taxonID,scientificName,family\n4,Nyctea scandiaca,Strigidae\n2,Strix aluco,Strigidae\n"
    )
    (tmp_path / "new.csv").write_text(
        "taxonID,scientificName,family\n4,Bubo scandiacus,Strigidae\n2,Strix aluco,Strigidae\n9,Bubo bubo,Strigidae\n"
    )
    old, new = (make_checklist(read_checklist_source(tmp_path / name)) for name in ("old.csv", "new.csv"))
    assert ("renamed", "Nyctea scandiaca", "Bubo scandiacus") in told(old, new)


def test_rows_without_ids_are_not_compared_by_their_number(tmp_path: Path) -> None:
    for name, names in (
        ("old.csv", "Strix aluco\nStrix uralensis\nNyctea scandiaca\n"),
        ("new.csv", "Strix aluco\nStrix uralensis\nBubo bubo\n"),
    ):
        (tmp_path / name).write_text("scientific_name\n" + names)
    old, new = (make_checklist(read_checklist_source(tmp_path / name)) for name in ("old.csv", "new.csv"))
    assert ("gone", "Nyctea scandiaca", "") in told(old, new)
