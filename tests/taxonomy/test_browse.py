"""Taxa of a checklist as values: what the commands print, a program can read."""

from pathlib import Path

import pytest

import linnaea
from linnaea.errors import LinnaeaError, UsageError

CROWS = """kingdom,class,order,family,genus,species,common_name
Animalia,Aves,Passeriformes,Corvidae,Pica,pica,Eurasian magpie
Animalia,Aves,Passeriformes,Corvidae,Pica,hudsonia,
Animalia,Aves,Passeriformes,Corvidae,Corvus,corax,Northern raven
"""


@pytest.fixture(scope="module")
def crows(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("lists") / "crows.csv"
    path.write_text(CROWS)
    return str(path)


@pytest.mark.parametrize("name", ["Pica pica", "pica PICA", "species:Pica pica", "Eurasian magpie"])
def test_a_taxon_is_found_by_any_of_its_names(crows: str, name: str) -> None:
    (found,) = linnaea.lineage(name, checklist=crows)
    assert (found.name, found.rank) == ("Pica pica", "species")
    assert list(found.lineage.items())[-3:] == [("family", "Corvidae"), ("genus", "Pica"), ("species", "pica")]
    assert [word for word, _ in found.common_names] == ["Eurasian magpie"]
    assert repr(found).startswith("<Pica pica (species")


def test_similar_names_are_ranked(crows: str) -> None:
    found = linnaea.search_names("Pica hudsonica", checklist=crows, top_k=2)
    assert found[0].name == "Pica hudsonia"
    assert found[0].lineage[-1] == "Pica"
    assert 0.5 < found[0].score < 1
    assert all(one.rank == "genus" for one in linnaea.search_names("Pica", checklist=crows, rank="genus"))


def test_names_that_are_not_there(crows: str) -> None:
    with pytest.raises(LinnaeaError, match="Pinus"):
        linnaea.lineage("Pinus", checklist=crows)
    for empty in (lambda: linnaea.lineage(" ", checklist=crows), lambda: linnaea.search_names("", checklist=crows)):
        with pytest.raises(UsageError):
            empty()


def test_changes_and_migration(crows: str, tmp_path: Path) -> None:
    later = tmp_path / "later.csv"
    later.write_text(CROWS.replace("Corvidae,Pica,hudsonia", "Cissidae,Pica,hudsonia"))
    changes = linnaea.diff_checklists(crows, str(later))
    assert changes.height
    labels = tmp_path / "labels.csv"
    labels.write_text("label\nPica hudsonia\nPica pica\n")
    done = linnaea.migrate(labels, old=crows, new=str(later), output=tmp_path / "out.csv", column="label")
    assert sum(done.counts.values()) == 2
    assert done.output.read_text().startswith("label,")
    with pytest.raises(UsageError, match="--output"):
        linnaea.migrate(labels, old=crows, new=str(later))
