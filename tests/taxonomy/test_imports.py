"""Checklists import whole as they are published, and every row that does not become a name is accounted for."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl
import pytest

from linnaea.errors import LinnaeaError
from linnaea.taxonomy.checklists.headers import find_headers
from linnaea.taxonomy.checklists.rank_words import read_ranks
from linnaea.taxonomy.checklists.source import read_checklist_source
from linnaea.taxonomy.checklists.store import Checklist, import_checklist, load_checklist, make_checklist
from linnaea.taxonomy.ranks import Rank
from linnaea.taxonomy.resolve import Resolver

CASES = Path(__file__).resolve().parents[3] / "shared" / "cases" / "names"
TERMS = "http://rs.tdwg.org/dwc/terms/"


def read(path: Path) -> Checklist:
    made = make_checklist(read_checklist_source(path))
    assert made.report is not None
    assert made.report.n_accepted <= made.taxa.height
    return made


def archive(folder: Path, rows: Sequence[Mapping[str, str]], constants: str = "", more: str = "") -> Checklist:
    """Write a Darwin Core Archive with a column for each term, and read it."""
    terms = list(dict.fromkeys(term for row in rows for term in row))
    lines = [
        "\t".join(["key", *terms]),
        *("\t".join([str(n), *(row.get(t, "") for t in terms)]) for n, row in enumerate(rows)),
    ]
    folder.mkdir(exist_ok=True)
    (folder / "taxon.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    fields = "".join(f'<field index="{n}" term="{TERMS}{term}"/>' for n, term in enumerate(terms, 1))
    (folder / "meta.xml").write_text(
        f'<archive xmlns="http://rs.tdwg.org/dwc/text/"><core rowType="{TERMS}Taxon" fieldsTerminatedBy="\\t" '
        f'ignoreHeaderLines="1" encoding="UTF-8"><files><location>taxon.txt</location></files><id index="0"/>'
        f"{fields}{constants}</core>{more}</archive>"
    )
    return read(folder)


def table(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def taxa(checklist: Checklist) -> dict[str, str]:
    """The rank of each taxon."""
    return {name: Rank(rank).label for name, rank in checklist.taxa.select("name", "rank").iter_rows()}


def synonyms(checklist: Checklist) -> set[tuple[str, str]]:
    accepted = checklist.taxa["name"].gather(checklist.synonyms["row"])
    return set(zip(checklist.synonyms["name"], accepted, strict=True))


def reasons(checklist: Checklist) -> dict[str, tuple[int, tuple[str, ...]]]:
    assert checklist.report is not None
    return {rows.reason: (rows.n, rows.examples) for rows in checklist.report.left_out}


# The shared cases.


@pytest.mark.parametrize(
    ("case", "ranks", "other_names"),
    [
        ("I1-no-rank", {"Pica pica": "species", "Pica hudsonia": "species", "Corvidae": "family"}, set()),
        ("I3-rank-abbreviations", {"Animalia": "kingdom", "Corvidae": "family", "Pica pica": "species"},
         {("Corvus pica", "Pica pica")}),
        ("I6-coldp-atoms", {"Corvidae": "family", "Pica": "genus", "Pica pica": "species"}, set()),
        ("I8-classification.csv", {"Gutenbergia": "genus", "Gutenbergia boranensis": "species", "Asteraceae": "family"},
         {("Erlangea boranensis", "Gutenbergia boranensis")}),
        ("I10-synonym-with-author.csv", {"Pica pica": "species", "Pica": "genus"}, {("Corvus pica", "Pica pica")}),
        ("I11-header-only-extension", {"Pica pica": "species", "Corvidae": "family"}, {("Corvus pica", "Pica pica")}),
        ("I13-hybrid-sign-attached", {"Equisetum": "genus", "Equisetum litorale": "species"}, set()),
        ("I14-relations-by-name", {"Corvidae": "family", "Pica pica": "species"}, {("Corvus pica", "Pica pica")}),
        ("I17-defaults", {"Animalia": "kingdom", "Pica pica": "species"}, set()),
        ("I19-coldp-marks", {"Raphus cucullatus": "species", "Triticosecale rimpaui": "species"}, set()),
        ("I20-missing-other-extension", {"Pica pica": "species"}, {("Corvus pica", "Pica pica")}),
        ("I22-only-subspecies.csv", {"Pica hudsonia": "species"}, {("Pica hudsonia hudsonia", "Pica hudsonia")}),
        ("I23-prefixed-columns.csv", {"Struthionidae": "family", "Corvidae": "family", "Pica pica": "species"}, set()),
    ],
)  # fmt: skip
def test_the_shared_inputs_import_whole(case: str, ranks: dict[str, str], other_names: set[tuple[str, str]]) -> None:
    if not (CASES / case).exists():
        pytest.skip("shared/cases is not here")
    checklist = read(CASES / case)
    assert ranks.items() <= taxa(checklist).items()
    assert synonyms(checklist) == other_names
    assert checklist.report is not None
    assert checklist.report.left_out == ()


# Accounts.

BIRDS = (
    "taxonID,scientificName,family,parentNameUsageID,acceptedNameUsageID,taxonomicStatus,iucn\n"
    "1,Pica pica,Corvidae,,,accepted,LC\n2,Corvus pica,,,1,synonym,\n3,Pica sp.,Corvidae,,,accepted,\n"
    "4,,,,,accepted,\n5,Lanius nowhere,,,99,synonym,\n6,Lanius circular,,,7,synonym,\n"
    "7,Lanius circularis,,,6,synonym,\n"
    "8,Pica pica,Corvidae,,,accepted,\n9,Lanius alone,,,,synonym,\n"
)


def test_every_row_is_accounted_for_with_its_reason(tmp_path: Path) -> None:
    checklist = read(table(tmp_path, "birds.csv", BIRDS))
    report = checklist.report
    assert report is not None
    assert (report.n_rows, report.n_accepted, report.n_synonyms, report.n_vernaculars) == (9, 1, 1, 0)
    assert reasons(checklist) == {
        "not the name of one taxon": (1, ("Pica sp.",)),
        "no name": (1, ("",)),
        "its accepted name is not in the list": (1, ("Lanius nowhere",)),
        "its chain of accepted names does not end": (2, ("Lanius circular", "Lanius circularis")),
        "repeats another row": (1, ("Pica pica",)),
        "a synonym without an accepted name": (1, ("Lanius alone",)),
    }
    assert report.unused == ("iucn",)
    lines = report.lines()
    assert lines[0] == "9 rows in = 1 accepted + 1 synonym + 0 vernacular names + 7 left out"
    assert "columns used: taxonID" in "\n".join(lines)
    assert lines[-1] == "warning: 7 of 9 rows (78%) were left out"


def test_at_most_three_examples_stand_for_a_reason(tmp_path: Path) -> None:
    rows = "".join(f"Pica sp. {n}\n" for n in range(9))
    (found,) = reasons(read(table(tmp_path, "list.csv", f"scientific_name\nPica pica\n{rows}"))).values()
    assert found == (9, ("Pica sp. 0", "Pica sp. 1", "Pica sp. 2"))


def test_vernacular_names_are_rows_too(tmp_path: Path) -> None:
    table(
        tmp_path, "v.txt", "id\tname\tlanguage\n0\tMagpie\ten\n0\tMagpie\ten\n1\tJackdaw\ten\n7\tNobody\ten\n0\t\ten\n"
    )
    extension = (
        '<extension rowType="http://rs.gbif.org/terms/1.0/VernacularName" fieldsTerminatedBy="\\t" '
        'ignoreHeaderLines="1">'
        f'<files><location>v.txt</location></files><coreid index="0"/><field index="1" term="{TERMS}vernacularName"/>'
        '<field index="2" term="http://purl.org/dc/terms/language"/></extension>'
    )
    rows = [
        {"taxonID": "a", "scientificName": "Pica pica"},
        {"taxonID": "b", "scientificName": "Corvus pica", "acceptedNameUsageID": "a"},
    ]
    checklist = archive(tmp_path, rows, more=extension)
    assert checklist.vernaculars["name"].to_list() == ["Magpie", "Jackdaw"]
    assert checklist.report is not None
    assert (checklist.report.n_rows, checklist.report.n_vernaculars) == (7, 2)
    assert sorted(reasons(checklist)) == [
        "a vernacular name of no taxon of the list", "no vernacular name", "repeats another vernacular name",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text", ["taxonID,scientificName,taxonomicStatus\n1,Corvus pica,synonym\n", "name\nPica sp.\n", "name\n\\N\n"]
)
def test_a_list_without_a_taxon_is_an_error_that_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("LINNAEA_CACHE", str(tmp_path / "cache"))
    path = table(tmp_path, "list.csv", text)
    with pytest.raises(LinnaeaError, match="no taxon of a rank from kingdom to species could be read"):
        import_checklist(path, "empty")
    with pytest.raises(LinnaeaError, match="no taxon of a rank"):
        load_checklist(str(path))


# Ranks.


@pytest.mark.parametrize(
    ("rank", "words"),
    [
        ("species", ["sp.", "spec.", "Espécie", "ESPECIE", "espèce", "Art", "species", "http://rs.gbif.org/vocabulary/gbif/rank/species"]),
        ("genus", ["gen.", "Gênero", "género", "genre", "Gattung", "GENUS"]),
        ("family", ["fam.", "Família", "familia", "famille", "Familie"]),
        ("order", ["ord.", "Ordem", "orden", "ordre", "Ordnung", "ordo"]),
        ("class", ["cl.", "Classe", "clase", "Klasse", "classis"]),
        ("phylum", ["phyl.", "filo", "embranchement", "Stamm", "Abteilung", "divisio", "division"]),
        ("kingdom", ["regn.", "reino", "règne", "Reich", "regnum"]),
        ("subspecies", ["ssp.", "subsp.", "Subespécie", "sous-espèce", "Unterart", "nothosubsp"]),
        ("subfamily", ["subfam.", "Subfamília", "sous-famille", "Unterfamilie", "subfamilia"]),
        ("superorder", ["Überordnung", "superordem", "superordo"]),
        ("variety", ["var.", "variedade", "variété", "Varietät", "varietas"]),
        ("", ["", "NULL"]),
        ("unranked", ["unranked", "no rank", "clade"]),
    ],
)  # fmt: skip
def test_ranks_are_read_in_six_languages_and_abbreviated(rank: str, words: list[str]) -> None:
    found = read_ranks(pl.Series(words)).to_list()
    assert [word if word != "nothosubspecies" else rank for word in found] == [rank] * len(words)


def test_missing_ranks_follow_from_names_children_and_parents(tmp_path: Path) -> None:
    rows = [
        {"taxonID": "1", "scientificName": "Animalia"},
        {"taxonID": "2", "scientificName": "Chordata", "parentNameUsageID": "1"},
        {"taxonID": "3", "scientificName": "Aves", "parentNameUsageID": "2"},
        {"taxonID": "4", "scientificName": "Passeriformes", "parentNameUsageID": "3"},
        {"taxonID": "5", "scientificName": "Corvidae Leach, 1820", "parentNameUsageID": "4"},
        {"taxonID": "6", "scientificName": "Pica Brisson, 1760", "parentNameUsageID": "5"},
        {"taxonID": "7", "scientificName": "Pica pica (Linnaeus, 1758)", "parentNameUsageID": "6"},
        {"taxonID": "8", "scientificName": "Pica pica melanotos Brehm, 1857", "parentNameUsageID": "7"},
        {"taxonID": "9", "scientificName": "Urocissa Cabanis, 1850", "parentNameUsageID": "5"},
    ]
    checklist = archive(tmp_path, rows)
    assert taxa(checklist) == {
        "Animalia": "kingdom", "Chordata": "phylum", "Aves": "class", "Passeriformes": "order", "Corvidae": "family",
        "Pica": "genus", "Pica pica": "species", "Urocissa": "genus",
    }  # fmt: skip
    assert checklist.synonyms.select("name", "kind").rows() == [("Pica pica melanotos", "infraspecific")]
    lineage = checklist.taxa.filter(pl.col("name") == "Pica pica").select("kingdom", "class", "family").row(0)
    assert lineage == ("Animalia", "Aves", "Corvidae")


def test_a_rank_follows_from_the_columns_of_other_rows(tmp_path: Path) -> None:
    rows = [{"scientificName": "Aves"}, {"scientificName": "Corvinae"}, {"scientificName": "Pica"},
            {"scientificName": "Pica pica", "class": "Aves", "family": "Corvidae"}]  # fmt: skip
    checklist = archive(tmp_path, rows)
    assert taxa(checklist) == {"Aves": "class", "Corvidae": "family", "Pica": "genus", "Pica pica": "species"}
    assert list(reasons(checklist)) == ["no taxon above it from kingdom to species is in the list"]


# Relations.


def test_synonyms_are_followed_to_the_end_of_their_chain(tmp_path: Path) -> None:
    rows = [
        {"taxonID": "1", "scientificName": "Aus one", "acceptedNameUsageID": "2"},
        {"taxonID": "2", "scientificName": "Aus two", "acceptedNameUsageID": "3"},
        {"taxonID": "3", "scientificName": "Aus three", "acceptedNameUsageID": "4"},
        {"taxonID": "4", "scientificName": "Aus four", "acceptedNameUsageID": "4"},
        {"taxonID": "5", "scientificName": "Aus five", "acceptedNameUsageID": "6"},
        {"taxonID": "6", "scientificName": "Aus six", "acceptedNameUsageID": "lost"},
    ]
    checklist = archive(tmp_path, rows)
    assert synonyms(checklist) == {("Aus one", "Aus four"), ("Aus two", "Aus four"), ("Aus three", "Aus four")}
    assert sum(n for n, _ in reasons(checklist).values()) == 2


@pytest.mark.parametrize("separator", ["|", ";", " | ", ","])
def test_a_synonym_of_two_species_is_ambiguous(tmp_path: Path, separator: str) -> None:
    rows = [
        {"taxonID": "1", "scientificName": "Pica pica", "family": "Corvidae"},
        {"taxonID": "2", "scientificName": "Pica hudsonia", "family": "Corvidae"},
        {"taxonID": "3", "scientificName": "Corvus pica", "acceptedNameUsageID": f"1{separator}2"},
    ]
    checklist = archive(tmp_path, rows)
    assert synonyms(checklist) == {("Corvus pica", "Pica pica"), ("Corvus pica", "Pica hudsonia")}
    assert checklist.report is not None
    assert checklist.report.n_synonyms == 1
    assert Resolver.of([checklist]).resolve(["Corvus pica"])["status"].to_list() == ["ambiguous"]


def test_parents_and_accepted_names_by_name_are_told_from_homonyms_by_author_and_family(tmp_path: Path) -> None:
    rows = [
        {"scientificName": "Prunellidae", "kingdom": "Animalia", "taxonRank": "family"},
        {"scientificName": "Lamiaceae", "kingdom": "Plantae", "taxonRank": "family"},
        {"scientificName": "Prunella Vieillot, 1816", "kingdom": "Animalia", "parentNameUsage": "Prunellidae"},
        {"scientificName": "Prunella L.", "kingdom": "Plantae", "parentNameUsage": "Lamiaceae"},
        {"scientificName": "Prunella modularis", "kingdom": "Animalia", "parentNameUsage": "Prunella"},
        {"scientificName": "Prunella vulgaris", "kingdom": "Plantae", "parentNameUsage": "Prunella L."},
        {"scientificName": "Brunella vulgaris", "acceptedNameUsage": "Prunella vulgaris", "kingdom": "Plantae"},
        {"scientificName": "Brunella", "acceptedNameUsage": "Prunella", "taxonRank": "genus"},
    ]  # fmt: skip
    checklist = archive(tmp_path, rows)
    families = dict(checklist.taxa.filter(pl.col("rank") == 6).select("name", "family").iter_rows())
    assert families == {"Prunella modularis": "Prunellidae", "Prunella vulgaris": "Lamiaceae"}
    assert synonyms(checklist) == {("Brunella vulgaris", "Prunella vulgaris")}
    assert reasons(checklist) == {"its accepted name is that of several taxa": (1, ("Brunella",))}


def test_a_name_of_many_rows_is_no_reference(tmp_path: Path) -> None:
    """Rows by references would be millions of pairs here."""
    rows = [{"taxonID": f"a{n}", "scientificName": "Aus bus", "family": f"F{n}idae"} for n in range(2_000)]
    rows += [{"taxonID": f"s{n}", "scientificName": f"Cus d{'u' * (n % 9)}s", "acceptedNameUsage": "Aus bus"}
             for n in range(2_000)]  # fmt: skip
    checklist = archive(tmp_path, rows)
    assert reasons(checklist)["its accepted name is that of several taxa"][0] == 2_000


def test_an_accepted_name_that_names_its_own_row_makes_no_synonym(tmp_path: Path) -> None:
    rows = [
        {"scientificName": "Pica pica (L., 1758)", "acceptedNameUsage": "Pica pica"},
        {"scientificName": "Corvus pica L., 1758", "acceptedNameUsage": "Pica pica", "taxonomicStatus": "unaccepted"},
    ]
    assert synonyms(archive(tmp_path, rows)) == {("Corvus pica", "Pica pica")}


def test_a_synonym_of_itself_has_no_accepted_name(tmp_path: Path) -> None:
    rows = [
        {"taxonID": "1", "scientificName": "Pica pica", "acceptedNameUsageID": "1", "taxonomicStatus": "accepted"},
        {"taxonID": "2", "scientificName": "Corvus pica", "acceptedNameUsageID": "2", "taxonomicStatus": "synonym"},
    ]
    checklist = archive(tmp_path, rows)
    assert taxa(checklist) == {"Pica": "genus", "Pica pica": "species"}
    assert reasons(checklist) == {"a synonym without an accepted name": (1, ("Corvus pica",))}


@pytest.mark.parametrize(
    "status",
    ["synonym", "SINONIMO", "Sinônimo", "sinónimo", "synonyme", "heterotypic synonym", "pro parte synonym",
     "unaccepted", "not accepted", "misapplied name", "misapplication", "invalid"],
)  # fmt: skip
def test_words_of_status_make_a_synonym(tmp_path: Path, status: str) -> None:
    rows = [
        {"taxonID": "1", "scientificName": "Pica pica", "taxonomicStatus": "NOME_ACEITO"},
        {"taxonID": "2", "scientificName": "Corvus pica", "taxonomicStatus": status},
    ]
    checklist = archive(tmp_path, rows)
    assert taxa(checklist) == {"Pica": "genus", "Pica pica": "species"}
    assert list(reasons(checklist)) == ["a synonym without an accepted name"]


def test_children_of_a_synonym_hang_below_its_accepted_name(tmp_path: Path) -> None:
    rows = [
        {"taxonID": "1", "scientificName": "Corvidae", "taxonRank": "family"},
        {"taxonID": "2", "scientificName": "Garrulidae", "taxonRank": "family", "acceptedNameUsageID": "1"},
        {"taxonID": "3", "scientificName": "Garrulus glandarius", "taxonRank": "species", "parentNameUsageID": "2"},
    ]
    checklist = archive(tmp_path, rows)
    assert checklist.taxa.filter(pl.col("rank") == 6)["family"].to_list() == ["Corvidae"]


def test_a_row_that_is_its_own_parent_is_read_and_said(tmp_path: Path) -> None:
    rows = [
        {"taxonID": "1", "scientificName": "Pica pica melanotos", "taxonRank": "subspecies", "parentNameUsageID": "1"}
    ]
    checklist = archive(tmp_path, rows)
    assert taxa(checklist) == {"Pica": "genus", "Pica pica": "species"}
    assert synonyms(checklist) == {("Pica pica melanotos", "Pica pica")}
    assert checklist.report is not None
    assert checklist.report.notes == ("1 row with itself as parent; read as without a parent",)


def test_names_without_a_parent_hang_below_their_species_or_genus(tmp_path: Path) -> None:
    rows = [
        {"taxonID": "1", "scientificName": "Corvidae", "taxonRank": "family"},
        {"taxonID": "2", "scientificName": "Pica", "taxonRank": "genus", "parentNameUsageID": "1"},
        {"taxonID": "3", "scientificName": "Pica pica", "taxonRank": "species"},
        {"taxonID": "4", "scientificName": "Pica pica melanotos", "taxonRank": "subspecies", "parentNameUsageID": "4"},
        {"taxonID": "5", "scientificName": "Pica (Pica) nutalli", "taxonRank": "species"},
    ]
    checklist = archive(tmp_path, rows)
    assert checklist.taxa.filter(pl.col("rank") == 6).select("name", "family").rows() == [
        ("Pica nutalli", "Corvidae"), ("Pica pica", "Corvidae"),
    ]  # fmt: skip
    assert synonyms(checklist) == {("Pica pica melanotos", "Pica pica")}


def test_references_that_pandas_wrote_as_decimals_are_found(tmp_path: Path) -> None:
    rows = [
        {"taxonID": "1", "scientificName": "Corvidae", "taxonRank": "family"},
        {"taxonID": "2", "scientificName": "Pica pica", "taxonRank": "species", "parentNameUsageID": "1.0"},
        {"taxonID": "3", "scientificName": "Corvus pica", "acceptedNameUsageID": "2.0"},
    ]
    checklist = archive(tmp_path, rows)
    assert checklist.taxa.filter(pl.col("rank") == 6)["family"].to_list() == ["Corvidae"]
    assert synonyms(checklist) == {("Corvus pica", "Pica pica")}


@pytest.mark.parametrize("mark", ["\\N", "NULL", "null", "NA", "nan", "None"])
def test_null_marks_are_no_names_and_no_ids(tmp_path: Path, mark: str) -> None:
    rows = [
        {"taxonID": "1", "scientificName": "Pica pica", "acceptedNameUsageID": mark, "parentNameUsageID": mark},
        {"taxonID": "2", "scientificName": mark, "acceptedNameUsageID": mark, "taxonRank": mark, "family": mark},
    ]
    checklist = archive(tmp_path, rows)
    assert taxa(checklist) == {"Pica": "genus", "Pica pica": "species"}
    assert list(reasons(checklist)) == ["no name"]


def test_a_header_that_meta_xml_does_not_count_is_no_row(tmp_path: Path) -> None:
    archive(tmp_path, [{"taxonID": "1", "scientificName": "Pica pica"}])
    meta = (tmp_path / "meta.xml").read_text()
    (tmp_path / "meta.xml").write_text(meta.replace('ignoreHeaderLines="1"', 'ignoreHeaderLines="0"'))
    checklist = read(tmp_path)
    assert taxa(checklist) == {"Pica": "genus", "Pica pica": "species"}
    assert checklist.report is not None
    assert checklist.report.notes == ("the header, which meta.xml does not count, was not read as a row",)


def test_a_missing_table_of_vernacular_names_is_said(tmp_path: Path) -> None:
    more = '<extension rowType="http://x/VernacularName"><files><location>v.txt</location></files></extension>'
    checklist = archive(tmp_path, [{"taxonID": "1", "scientificName": "Pica pica"}], more=more)
    assert checklist.report is not None
    assert checklist.report.notes == ("VernacularName: the file 'v.txt' that it names is missing",)


# Names.


@pytest.mark.parametrize(
    ("name", "genus", "epithet"),
    [
        ("Equisetum ×litorale Kühlew.", "Equisetum", "litorale"),
        ("Salix × fragilis L.", "Salix", "fragilis"),
        ("×Triticosecale rimpaui", "Triticosecale", "rimpaui"),
        ("× Triticosecale rimpaui Wittm.", "Triticosecale", "rimpaui"),
        ("†Raphus cucullatus (Linnaeus, 1758)", "Raphus", "cucullatus"),
        ("† Raphus cucullatus", "Raphus", "cucullatus"),
        ("Alphapapillomavirus 9", "Alphapapillomavirus", "9"),
        ("Mastadenovirus A", "Mastadenovirus", "A"),
        ("Corvus (Pica) pica", "Corvus", "pica"),
        ("PICA PICA", "Pica", "pica"),
        ("pica pica", "Pica", "pica"),
        ("Coccinella 7-punctata Linnaeus, 1758", "Coccinella", "septempunctata"),
    ],
)
def test_species_are_kept_however_they_are_written(tmp_path: Path, name: str, genus: str, epithet: str) -> None:
    checklist = archive(tmp_path, [{"scientificName": name, "taxonRank": "species"}])
    species = checklist.taxa.filter(pl.col("rank") == Rank.SPECIES)
    assert species.select("genus", "species").rows() == [(genus, epithet)]


def test_a_numbered_virus_is_found_by_its_name(tmp_path: Path) -> None:
    path = table(tmp_path, "viruses.csv", "scientific_name,rank,kingdom\nAlphapapillomavirus 9,species,Viruses\n")
    found = Resolver.of([read(path)]).resolve(["Alphapapillomavirus 9"])
    assert found["scientific_name"].to_list() == ["Alphapapillomavirus 9"]


def test_an_epithet_with_an_x_is_no_formula(tmp_path: Path) -> None:
    names = ["Pucrasia macrolopha xanthospila", "Salix alba x fragilis", "Salix alba ×fragilis", "Pucrasia macrolopha"]
    checklist = read(table(tmp_path, "list.csv", "scientific_name\n" + "\n".join(names) + "\n"))
    assert synonyms(checklist) == {("Pucrasia macrolopha xanthospila", "Pucrasia macrolopha")}
    assert sum(n for n, _ in reasons(checklist).values()) == 2


@pytest.mark.parametrize("name", ["Human papillomavirus 16", "Tobacco mosaic virus", "Escherichia phage T4"])
def test_a_virus_named_by_a_phrase_is_a_species_of_its_genus(tmp_path: Path, name: str) -> None:
    rows = f"scientific_name,rank,genus,kingdom\n{name},species,Somevirus,Viruses\n"
    checklist = read(table(tmp_path, "viruses.csv", rows))
    assert taxa(checklist) == {"Viruses": "kingdom", "Somevirus": "genus", name: "species"}
    found = Resolver.of([checklist]).resolve([name])
    assert found.select("genus", "species").rows() == [("Somevirus", name)]


# ColDP.

USAGES = [("ID", "parentID", "status", "rank", "scientificName"), ("1", "", "accepted", "genus", "Pica"),
          ("2", "1", "accepted", "species", "Pica pica"), ("3", "2", "synonym", "species", "Corvus pica")]  # fmt: skip


@pytest.mark.parametrize(
    "name", ["NameUsage.tsv", "name-usage.csv", "Name_Usage.txt", "NAMEUSAGE.TSV", "nameusages.csv"]
)
@pytest.mark.parametrize("separator", ["\t", ",", ";", "|"])
def test_coldp_files_may_have_any_name_and_separator(tmp_path: Path, name: str, separator: str) -> None:
    text = "\ufeff" + "\n".join(separator.join(row) for row in USAGES) + "\n"
    table(tmp_path / "package", name, text)
    checklist = read(tmp_path / "package")
    assert taxa(checklist) == {"Pica": "genus", "Pica pica": "species"}
    assert synonyms(checklist) == {("Corvus pica", "Pica pica")}


@pytest.mark.parametrize("style", ["col:{}", "{}", "COL:{}", "snake", "upper"])
def test_coldp_columns_may_have_any_case(tmp_path: Path, style: str) -> None:
    snake = {"ID": "id", "parentID": "parent_id", "scientificName": "scientific-name"}
    header = [
        snake.get(c, c) if style == "snake" else c.upper() if style == "upper" else style.format(c) for c in USAGES[0]
    ]
    rows = [header, *USAGES[1:]]
    table(tmp_path / "package", "NameUsage.tsv", "\n".join("\t".join(row) for row in rows) + "\n")
    assert synonyms(read(tmp_path / "package")) == {("Corvus pica", "Pica pica")}


def test_coldp_names_taxa_and_synonyms_are_joined(tmp_path: Path) -> None:
    folder = tmp_path / "package"
    names = ["id,uninomial,genus,specificEpithet,authorship,rank,status", "n1,Corvidae,,,,family,established",
             "n2,,Pica,pica,Linnaeus,species,established", "n3,,Corvus,pica,Linnaeus,species,",
             "n4,,Nomen,nudum,,species,"]  # fmt: skip
    table(folder, "names.csv", "\n".join(names) + "\n")
    table(folder, "TAXA.csv", "ID,nameID,parentID,order,link\nt1,n1,,Passeriformes,x\nt2,n2,t1,,\n")
    table(folder, "synonyms.csv", "ID,nameID,taxonID,status\ns1,n3,t2,\n")
    checklist = read(folder)
    assert synonyms(checklist) == {("Corvus pica", "Pica pica")}
    assert checklist.taxa.filter(pl.col("rank") == 6).select("order", "family").rows() == [
        ("Passeriformes", "Corvidae")
    ]
    assert reasons(checklist) == {"a bare name, without a taxon": (1, ("Nomen nudum",))}
    assert checklist.report is not None
    assert "link" in checklist.report.unused


def test_coldp_classification_columns_serve_where_there_are_no_parents(tmp_path: Path) -> None:
    text = "ID\trank\tscientificName\tkingdom\tclass\tfamily\n1\tspecies\tPica pica\tAnimalia\tAves\tCorvidae\n"
    table(tmp_path / "package", "NameUsage.tsv", text)
    found = read(tmp_path / "package").taxa.filter(pl.col("rank") == 6).select("kingdom", "class", "family").row(0)
    assert found == ("Animalia", "Aves", "Corvidae")


def test_acef_packages_are_read_with_their_infraspecific_taxa_and_names(tmp_path: Path) -> None:
    folder = tmp_path / "package"
    species = ["AcceptedTaxonID;Kingdom;Phylum;Class;Order;Family;Genus;SubGenusName;Species;AuthorString;IsFossil",
               "s1;Plantae;Tracheophyta;Magnoliopsida;Rosales;Rosaceae;Rosa;;canina;L.;0"]  # fmt: skip
    below = ["AcceptedTaxonID;ParentSpeciesID;InfraSpeciesEpithet;InfraSpecificAuthorString;InfraSpecificMarker",
             "v1;s1;dumetorum;Baker;var."]  # fmt: skip
    others = ["AcceptedTaxonID;Genus;SpeciesEpithet;AuthorString;InfraSpeciesEpithet;InfraSpecificMarker",
              "s1;Rosa;sepium;Thuill.;;", "s9;Rosa;nova;Auth.;;", "s1;Rosa;canina;L.;vulgaris;var."]  # fmt: skip
    names = ["AcceptedTaxonID;CommonName;Language;Country", "s1;Dog rose;English;UK"]
    table(folder, "AcceptedSpecies.txt", "\n".join(species) + "\n")
    table(folder, "AcceptedInfraSpecificTaxa.txt", "\n".join(below) + "\n")
    table(folder, "Synonyms.txt", "\n".join(others) + "\n")
    table(folder, "CommonNames.txt", "\n".join(names) + "\n")
    table(folder, "Distribution.txt", "AcceptedTaxonID;Distribution\ns1;Europe\n")
    checklist = read(folder)
    ranks = ("kingdom", "phylum", "class", "order", "family", "genus", "species")
    names = ("Plantae", "Tracheophyta", "Magnoliopsida", "Rosales", "Rosaceae", "Rosa", "Rosa canina")
    assert taxa(checklist) == dict(zip(names, ranks, strict=True))
    other = {"Rosa canina dumetorum", "Rosa sepium", "Rosa canina vulgaris"}
    assert synonyms(checklist) == {(name, "Rosa canina") for name in other}
    assert checklist.vernaculars.select("name", "language").rows() == [("Dog rose", "en")]
    assert reasons(checklist) == {"its accepted name is not in the list": (1, ("Rosa nova",))}
    assert checklist.report is not None
    assert checklist.report.n_rows == 6
    assert checklist.report.unused == ("SubGenusName", "IsFossil", "Country", "Distribution.txt")


# Tables.


def test_a_species_list_of_gbif(tmp_path: Path) -> None:
    header = ["taxonKey", "scientificName", "acceptedTaxonKey", "acceptedScientificName", "numberOfOccurrences",
              "taxonRank", "taxonomicStatus", "kingdom", "family", "familyKey", "genus", "species",
              "speciesKey"]  # fmt: skip
    magpie = ("1", "Pica pica (Linnaeus, 1758)", "12", "SPECIES")
    owl = ("4", "Bubo scandiacus (Linnaeus, 1758)", "2", "SPECIES")
    rows = [
        header,
        ["1", "Pica pica (Linnaeus, 1758)", *magpie, "ACCEPTED", "Animalia", "Corvidae", "9", "Pica", "Pica pica", "1"],
        ["2", "Corvus pica Linnaeus, 1758", *magpie, "SYNONYM", "Animalia", "Corvidae", "9", "Pica", "Pica pica", "1"],
        ["3", "Nyctea scandiaca L.", *owl, "SYNONYM", "Animalia", "Strigidae", "8", "Bubo", "Bubo scandiacus", "4"],
    ]
    path = table(tmp_path, "0001.csv", "\n".join("\t".join(row) for row in rows) + "\n")
    checklist = read(path)
    assert synonyms(checklist) == {("Corvus pica", "Pica pica"), ("Nyctea scandiaca", "Bubo scandiacus")}
    assert dict(checklist.taxa.filter(pl.col("rank") == 6).select("name", "family").iter_rows()) == {
        "Pica pica": "Corvidae", "Bubo scandiacus": "Strigidae",
    }  # fmt: skip
    assert checklist.report is not None
    assert checklist.report.unused == ("numberOfOccurrences", "familyKey", "speciesKey")
    assert (checklist.report.n_accepted, checklist.report.n_synonyms) == (1, 2)


def test_a_taxon_table_beside_its_vernacular_names_needs_no_meta_xml(tmp_path: Path) -> None:
    folder = tmp_path / "dwca"
    table(folder, "Taxon.tsv", "taxonID\tscientificName\tparentNameUsageID\n1\tPica\t\n2\tPica pica\t1\n")
    table(folder, "VernacularName.tsv", "taxonID\tvernacularName\tlanguage\n2\tElster\tde\n")
    table(folder, "Distribution.tsv", "taxonID\tlocality\n2\tJena\n")
    checklist = read(folder)
    assert checklist.vernaculars.select("name", "language").rows() == [("Elster", "de")]


@pytest.mark.parametrize(
    ("header", "column"),
    [
        ("avilist_family", "family"),
        ("gbif_order", "order"),
        ("AviList: Family", "family"),
        ("ioc.taxon_rank", "rank"),
        ("dwc:scientificName", "name"),
        ("gbif scientific name", "name"),
        ("gbifOrder", "order"),
        ("hostFamily", ""),
        ("parentGenus", ""),
        ("german_common_name", ""),
        ("host_family", ""),
        ("parent_genus", ""),
        ("n_species", ""),
        ("french_name", ""),
        ("sub_family", ""),
        ("family_id", ""),
    ],
)
def test_a_prefix_before_a_term_is_understood(header: str, column: str) -> None:
    assert find_headers(["x", header]).found == ({column: header} if column else {})


def test_an_exact_header_comes_before_one_with_a_prefix() -> None:
    headers = find_headers(["gbif_family", "family", "gbif_order"])
    assert headers.found == {"family": "family", "order": "gbif_order"}
    assert headers.unused == ("gbif_family",)


# Lists whose headers are not Darwin Core's.

_PUBLISHED = {
    "WoRMS": "AphiaID,ScientificName,AphiaID_accepted,ScientificName_accepted,Status,Kingdom,Family\n"
    "1,Pica pica,1,Pica pica,accepted,Animalia,Corvidae\n2,Corvus pica,1,Pica pica,unaccepted,Animalia,Corvidae\n",
    "POWO": "plant_name_id|taxon_rank|taxon_status|family|genus|species|taxon_name|accepted_plant_name_id\n"
    "1|Species|Accepted|Corvidae|Pica|pica|Pica pica|1\n2|Species|Illegitimate|Corvidae|Corvus|pica|Corvus pica|1\n",
    "TAXREF": "REGNE\tORDRE\tFAMILLE\tCD_NOM\tCD_REF\tRANG\tLB_NOM\tLB_AUTEUR\n"
    "Animalia\tPasseriformes\tCorvidae\t1\t1\tES\tPica pica\t(Linnaeus, 1758)\n"
    "Animalia\tPasseriformes\tCorvidae\t2\t1\tES\tCorvus pica\tLinnaeus, 1758\n",
    "Symbiota": "tid,sciname,author,family,acceptedsciname\n"
    "1,Pica pica,L.,Corvidae,Pica pica\n2,Corvus pica,L.,Corvidae,Pica pica\n",
    "USDA PLANTS": '"Symbol","Synonym Symbol","Scientific Name with Author","Common Name","Family"\n'
    '"PIPI","","Pica pica L.","magpie","Corvidae"\n"PIPI","COPI","Corvus pica L.","",""\n',
    "LPSN": "genus_name,sp_epithet,subsp_epithet,status,authors,record_no,record_lnk,family\n"
    "Pica,pica,,correct name,L.,1,,Corvidae\nCorvus,pica,,synonym,L.,2,1,\n",
    "German": "Reich;Ordnung;Familie;Gattung;Art;Wissenschaftlicher Name;Akzeptiert;accepted name\n"
    "Animalia;Passeriformes;Corvidae;Pica;pica;Pica pica;x;\n;;;;;Corvus pica;;Pica pica\n",
    "no accepted name is 0": "taxonID,acceptedNameUsageID,scientificName,family,taxonomicStatus\n"
    "1,0,Pica pica,Corvidae,valid\n2,1,Corvus pica,Corvidae,invalid\n",
    "markup": "scientificName,family,acceptedName\n"
    "<i>Pica pica</i> (Linnaeus),Corvidae,\n<em>Corvus&nbsp;pica</em>,Corvidae,Pica pica\n",
    "eBird": "SCI_NAME,FAMILY,accepted_name\nPica pica,Corvidae (Crows),\nCorvus pica,Corvidae (Crows),Pica pica\n",
}


@pytest.mark.parametrize("source", _PUBLISHED)
def test_lists_of_other_makers_keep_their_synonyms_and_families(tmp_path: Path, source: str) -> None:
    found = read(table(tmp_path, "list.csv", _PUBLISHED[source]))
    assert synonyms(found) == {("Corvus pica", "Pica pica")}
    row = found.taxa.filter(name="Pica pica").row(0, named=True)
    assert (row["rank"], row["family"], reasons(found)) == (int(Rank.SPECIES), "Corvidae", {})


def test_a_name_that_is_in_doubt_is_no_taxon_of_the_list(tmp_path: Path) -> None:
    rows = "name,family\nPica pica,Corvidae\nCorvus monedula (cf.),Corvidae\nCorvus corax uncertain,Corvidae\n"
    found = read(table(tmp_path, "list.csv", rows))
    assert [name for name in taxa(found) if name.startswith("Corvus")] == []


def test_names_that_were_read_as_latin_1_are_mended(tmp_path: Path) -> None:
    found = read(table(tmp_path, "list.csv", "scientificName,family\nIsoÃ«tes lacustris,Isoetaceae\n"))
    assert "Isoëtes lacustris" in taxa(found)
