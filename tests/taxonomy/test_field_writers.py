"""Files that the field's own programs write are imported whole (docs/checklists.md has what each of them loses)."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from linnaea.taxonomy.browse import lineage
from linnaea.taxonomy.checklists.source import read_checklist_source
from linnaea.taxonomy.checklists.store import Checklist, make_checklist

pytestmark = pytest.mark.long

COLDP = """
import sys
from coldp import COLDP
package = COLDP("list", insert_species_for_trinomials=True)
def add(accepted, parent=None, *synonyms):
    bundle = package.start_name_bundle(accepted)
    for synonym in synonyms:
        bundle.add_synonym(synonym)
    package.add_names(bundle, parent)
    return bundle.accepted_taxon_id
family = add({"rank": "family", "uninomial": "Corvidae", "authorship": "Leach, 1820"})
pica = add({"rank": "genus", "uninomial": "Pica", "authorship": "Brisson, 1760"}, family)
add({"rank": "species", "genus": "Pica", "specificEpithet": "pica", "authorship": "(Linnaeus, 1758)"}, pica,
    {"rank": "species", "genus": "Corvus", "specificEpithet": "pica", "authorship": "Linnaeus, 1758"})
add({"rank": "subspecies", "genus": "Pica", "specificEpithet": "hudsonia", "infraspecificEpithet": "hudsonia",
     "authorship": "(Sabine, 1823)"}, pica)
package.save(sys.argv[1])
"""

DWCA_WRITER = """
import sys
import pandas as pd
from dwcawriter import Archive, Table
core = pd.DataFrame({
    "taxonID": ["1", "2", "3", "4"], "parentNameUsageID": ["", "1", "2", ""],
    "acceptedNameUsageID": ["", "", "", "3"], "taxonRank": ["family", "genus", "species", "species"],
    "scientificName": ["Corvidae", "Pica Brisson, 1760", "Pica pica (Linnaeus, 1758)", "Corvus pica Linnaeus, 1758"],
    "taxonomicStatus": ["accepted", "accepted", "accepted", "synonym"], "notes": ["a", "b", "c", "d"],
})
names = pd.DataFrame({"id": ["3", "3"], "vernacularName": ["Eurasian magpie", "Elster"], "language": ["en", "de"]})
archive = Archive(eml_text="<eml/>")
archive.core = Table(spec="https://rs.gbif.org/core/dwc_taxon_2022-02-02.xml", data=core, id_index=0)
archive.extensions.append(
    Table(spec="https://rs.gbif.org/extension/gbif/1.0/vernacularname.xml", data=names, id_index=0))
archive.export(sys.argv[1] + "/list.zip")
"""

CORELLA = """
import sys
import corella
import pandas as pd
table = pd.DataFrame({
    "name": ["Pica pica", "Eucalyptus viminalis"], "rank": ["species", "species"],
    "by": ["(Linnaeus, 1758)", "Labill."],
    "family": ["Corvidae", "Myrtaceae"], "english": ["Eurasian magpie", "manna gum"],
})
table = corella.set_scientific_name(
    dataframe=table, scientificName="name", taxonRank="rank", scientificNameAuthorship="by")
table = corella.set_taxonomy(
    dataframe=table, kingdom=["Animalia", "Plantae"], taxon_class=["Aves", "Magnoliopsida"], family="family",
    genus=["Pica", "Eucalyptus"], vernacularName="english")
table.to_csv(sys.argv[1] + "/list.csv", index=False)
"""

TAXOPY = """
import sys
import taxopy
from pathlib import Path
dump = Path(sys.argv[1])
read = taxopy.TaxDb(nodes_dmp=str(dump / "nodes.dmp"), names_dmp=str(dump / "names.dmp"), keep_files=True)
print(*(f"{rank}={name}" for rank, name in taxopy.Taxon(34924, read).ranked_name_lineage), sep="\\n")
"""

TAXONOMY = """
import sys
import taxonomy
taxonomy.Taxonomy.from_ncbi(sys.argv[1]).to_ncbi(sys.argv[1] + "/written")
"""

NODES = [
    ("1", "1", "no rank", "root"),
    ("131567", "1", "cellular root", "cellular organisms"),
    ("2759", "131567", "domain", "Eukaryota"),
    ("33208", "2759", "kingdom", "Metazoa"),
    ("7711", "33208", "phylum", "Chordata"),
    ("8782", "7711", "class", "Aves"),
    ("9126", "8782", "order", "Passeriformes"),
    ("28725", "9126", "family", "Corvidae"),
    ("34923", "28725", "genus", "Pica"),
    ("34924", "34923", "species", "Pica pica"),
]
"""id, parent, rank and name of a part of NCBI's taxonomy as it has been since 2025."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Path, list[str]], str]:
    """Return a function that runs a script in a process with some packages, which it installs beside the others."""

    def run_with(script: str, folder: Path, packages: list[str]) -> str:
        target = tmp_path_factory.getbasetemp() / "packages" / packages[0].partition("==")[0]
        if not target.exists():
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), *packages]
            installed = subprocess.run(pip, check=False, capture_output=True, text=True)
            if installed.returncode:
                pytest.skip(f"{' '.join(packages)} cannot be installed here: {installed.stderr.strip()[-200:]}")
        paths = os.pathsep.join([str(target), *filter(None, [os.environ.get("PYTHONPATH")])])
        line = [sys.executable, "-W", "ignore", "-c", script, str(folder)]
        done = subprocess.run(
            line, check=False, capture_output=True, text=True, cwd=folder, env=os.environ | {"PYTHONPATH": paths}
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run_with


Run = Callable[[str, Path, list[str]], str]


def read(path: Path) -> Checklist:
    made = make_checklist(read_checklist_source(path))
    assert made.report is not None
    report = made.report
    assert report.n_rows == report.n_accepted + report.n_synonyms + report.n_vernaculars + report.n_left_out
    return made


def family_and_synonyms(checklist: Checklist, name: str) -> tuple[str, tuple[str, ...]]:
    (found,) = lineage(name, checklist=checklist, rank="species")
    return found.lineage.get("family", ""), found.synonyms


def test_coldp_of_py_coldp(run: Run, tmp_path: Path) -> None:
    run(COLDP, tmp_path, ["coldp==2025.4.3"])
    made = read(tmp_path / "list")
    assert family_and_synonyms(made, "Pica pica") == ("Corvidae", ("Corvus pica",))
    # The writer makes a trinomial its own parent, so its species is known from the name alone.
    (magpie,) = lineage("Pica hudsonia", checklist=made, rank="species")
    assert magpie.lineage["genus"] == "Pica"
    assert made.report is not None and made.report.n_left_out == 0


def test_an_archive_of_dwca_writer(run: Run, tmp_path: Path) -> None:
    # It declares no dependencies, and imports pkg_resources, which setuptools no longer has.
    run(DWCA_WRITER, tmp_path, ["dwca-writer==0.2.0", "xmltodict==1.0.2", "setuptools==80.9.0"])
    made = read(tmp_path / "list.zip")
    assert family_and_synonyms(made, "Pica pica") == ("Corvidae", ("Corvus pica",))
    (magpie,) = lineage("Elster", checklist=made)
    assert set(magpie.common_names) == {("Eurasian magpie", "en"), ("Elster", "de")}
    assert made.report is not None and (made.report.n_rows, made.report.n_left_out) == (6, 0)


def test_a_table_of_corella(run: Run, tmp_path: Path) -> None:
    run(CORELLA, tmp_path, ["corella-python==0.1.5", "beautifulsoup4==4.15.0", "configparser==7.3.0"])
    made = read(tmp_path / "list.csv")
    (magpie,) = lineage("Eurasian magpie", checklist=made)
    assert (magpie.name, magpie.lineage["family"], magpie.lineage["kingdom"]) == ("Pica pica", "Corvidae", "Animalia")
    assert magpie.authorship == "(Linnaeus, 1758)"
    assert made.report is not None and (made.report.n_accepted, made.report.n_left_out) == (2, 0)


def test_the_lists_of_birdnames(run: Run, tmp_path: Path) -> None:
    folder = run("import birdnames; print(birdnames.__path__[0])", tmp_path, ["birdnames==0.1.3"]).strip()
    lists = sorted(Path(folder, "data", "processed").glob("*_taxonomy.csv"))
    assert len(lists) == 8
    for path in lists:
        rows = pl.read_csv(path, infer_schema=False)
        made = read(path)
        names = rows["scientific_name"]
        species = names.filter(names.str.contains(r"^\p{Lu}\p{Ll}+ \p{Ll}+$") & ~names.str.contains(" hybrid$"))
        missing = species.filter(~species.is_in(made.taxa["name"].implode()))
        assert len(missing) <= len(species) / 1000, (path.name, missing.head(5).to_list())
        if any(column.endswith("_family") for column in rows.columns):
            (magpie,) = lineage("Pica pica", checklist=made, rank="species")
            assert magpie.lineage["family"] == "Corvidae", path.name


@pytest.fixture
def dump(tmp_path: Path) -> Path:
    """A part of NCBI's taxonomy with a synonym and a common name."""
    filling = "\t|\t".join(["", "10", "1", "1", "1", "2", "1", "1", "0", ""])
    (tmp_path / "nodes.dmp").write_text("".join(f"{i}\t|\t{p}\t|\t{r}\t|\t{filling}\t|\n" for i, p, r, _ in NODES))
    names = [(i, n, "scientific name") for i, _, _, n in NODES]
    names += [("34924", "Corvus pica", "synonym"), ("34924", "Eurasian magpie", "genbank common name")]
    (tmp_path / "names.dmp").write_text("".join(f"{i}\t|\t{n}\t|\t\t|\t{k}\t|\n" for i, n, k in names))
    (tmp_path / "written").mkdir()
    return tmp_path


def test_taxopy_reads_the_same_lineage_from_the_same_dump(run: Run, dump: Path) -> None:
    theirs = dict(line.split("=") for line in run(TAXOPY, dump, ["taxopy==0.14.0"]).split("\n") if line)
    (ours,) = lineage("Pica pica", checklist=read(dump), rank="species")
    assert ours.lineage["kingdom"] == "Animalia" and theirs["kingdom"] == "Metazoa"
    for rank in ("phylum", "class", "order", "family", "genus"):
        assert ours.lineage[rank] == theirs[rank]


def test_a_dump_that_taxonomy_writes(run: Run, dump: Path) -> None:
    run(TAXONOMY, dump, ["taxonomy==0.10.6"])
    (ours,) = lineage("Pica pica", checklist=read(dump / "written"), rank="species")
    (first,) = lineage("Pica pica", checklist=read(dump), rank="species")
    assert ours.lineage == first.lineage
    assert first.synonyms == ("Corvus pica",) and ours.synonyms == ()  # the writer keeps scientific names only
