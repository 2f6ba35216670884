"""The taxa of answers are found in a checklist by name, rank and kingdom: identifiers, names in a language."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from linnaea.data.shards import make_taxa_table
from linnaea.errors import UsageError
from linnaea.predict.labels import LabelBank
from linnaea.predict.language import speak
from linnaea.taxonomy.checklists.rows import find_identifiers, find_rows, find_spoken
from linnaea.taxonomy.checklists.store import Checklist, load_checklist
from linnaea.taxonomy.taxon import Taxon

META = """<archive xmlns="http://rs.tdwg.org/dwc/text/"><core rowType="http://rs.tdwg.org/dwc/terms/Taxon"
  fieldsTerminatedBy="," ignoreHeaderLines="1"><files><location>taxon.csv</location></files><id index="0"/>{core}</core>
<extension rowType="http://rs.gbif.org/terms/1.0/VernacularName" fieldsTerminatedBy="," ignoreHeaderLines="1">
  <files><location>vernacular.csv</location></files><coreid index="0"/>{names}</extension></archive>"""
CORE = ("taxonID", "scientificName", "taxonRank", "kingdom", "family", "genus")
TAXA = """x:1,Pica pica,species,Animalia,Corvidae,Pica
x:2,Prunella vulgaris,species,Plantae,Lamiaceae,Prunella
x:3,Prunella modularis,species,Animalia,Prunellidae,Prunella
"""
NAMES = "x:1,Elster,de\nx:1,Magpie,en\nx:2,Kleine Braunelle,de\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LINNAEA_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "mine"
    folder.mkdir()
    field = '<field index="{}" term="http://rs.tdwg.org/dwc/terms/{}"/>'
    names = field.format(1, "vernacularName") + '<field index="2" term="http://purl.org/dc/terms/language"/>'
    core = "".join(field.format(number, name) for number, name in enumerate(CORE))
    (folder / "meta.xml").write_text(META.format(core=core, names=names))
    (folder / "taxon.csv").write_text(",".join(CORE) + "\n" + TAXA)
    (folder / "vernacular.csv").write_text("id,name,language\n" + NAMES)
    return folder


@pytest.fixture
def checklist(folder: Path) -> Checklist:
    return load_checklist(str(folder))


ASKED = pl.DataFrame(
    {
        "name": ["Pica pica", "Prunella", "Prunella", "Prunella", "Pica pica", "Nothing known"],
        "rank": ["species", "genus", "genus", "genus", "genus", "species"],
        "kingdom": ["", "Plantae", "Animalia", "", "Animalia", "Animalia"],
    }
)


def test_kingdom_and_rank_decide(checklist: Checklist) -> None:
    rows = find_rows(checklist, ASKED)
    names = [None if row is None else checklist.taxa.row(row, named=True) for row in rows]
    found = [None if one is None else (one["name"], one["kingdom"]) for one in names]
    plant, bird = ("Prunella", "Plantae"), ("Prunella", "Animalia")
    assert found == [("Pica pica", "Animalia"), plant, bird, None, None, None]


def test_identifiers_are_the_sources(checklist: Checklist) -> None:
    assert find_identifiers(checklist, ASKED)[0] == "x:1"
    assert find_identifiers(checklist, ASKED)[5] == ""


def test_names_in_a_language(checklist: Checklist) -> None:
    for code in ("de", "DE", "de-AT"):
        assert find_spoken(checklist, ASKED, code)[0] == "Elster"
    with pytest.raises(UsageError, match="no names in this language; it has de, en"):
        find_spoken(checklist, ASKED, "fi")


def test_labels_speak_where_the_checklist_does(folder: Path) -> None:
    taxa = [Taxon.of(kingdom="Animalia", family="Corvidae", genus="Pica", species="pica", common_name="Magpie"),
            Taxon.of(kingdom="Animalia", family="Corvidae", genus="Pica", common_name="magpies"),
            Taxon.of(kingdom="Animalia", genus="Corvus", species="corax", common_name="Raven")]  # fmt: skip
    table = make_taxa_table(taxa)
    bank = LabelBank(table, np.zeros((3, 2), np.float32), {"model": "x"})
    spoken = speak(bank, "de", [str(folder)])
    assert sorted(spoken.taxa["common_name"]) == ["Elster", "Raven", "magpies"]
    assert spoken.taxa.drop("common_name").equals(table.drop("common_name"))
    assert (spoken.vectors is bank.vectors, spoken.facts) == (True, bank.facts)
    with pytest.raises(UsageError, match="--language fi"):
        speak(bank, "fi", [str(folder)])


def test_the_embedded_checklists_numbers_are_addresses() -> None:
    asked = pl.DataFrame({"name": ["Panthera onca", "Aves"], "rank": ["species", "class"], "kingdom": ["Animalia", ""]})
    assert find_identifiers(load_checklist("inat"), asked).to_list() == [
        "https://www.inaturalist.org/taxa/41970", "https://www.inaturalist.org/taxa/3",
    ]  # fmt: skip
