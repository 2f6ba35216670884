"""Every form in which people write names is read as what it says; what a label leaves open is not asserted."""

import pytest

from linnaea.taxonomy.authors import agreement
from linnaea.taxonomy.names import ParsedName, parse_label, taxon_from_label
from linnaea.taxonomy.ranks import Rank
from linnaea.taxonomy.readings import Rejection
from linnaea.taxonomy.taxon import Taxon


def read(label: str) -> ParsedName:
    parsed = parse_label(label)
    assert isinstance(parsed, ParsedName), parsed
    return parsed


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("Corvidae Leach 1820", "Corvidae"),
        ("Quercus Linnaeus", "Quercus"),
        ("Hoolock Mootnick & Groves, 2005", "Hoolock"),
        ("Rhynchospora Vahl", "Rhynchospora"),
        ("Anthoscopus Cabanis [1851]", "Anthoscopus"),
        ("Io Lea 1831", "Io"),
        ("Saxo-fridericia R. H. Schomb.", "Saxo-fridericia"),
        ("Hyacinthoides non-scripta (L.) Chouard ex Rothm.", "Hyacinthoides non-scripta"),
        ("Hyacinthoides_non-scripta_01", "Hyacinthoides non-scripta"),
        ("Coccinella 7-punctata Linnaeus, 1758", "Coccinella septempunctata"),
        ("Psyllobora 22-punctata", "Psyllobora vigintiduopunctata"),
        ("Trophon d'orbignyi Carcelles, 1946", "Trophon dorbignyi"),
        ("Hördeum vulgare cœrulescens", "Hoerdeum vulgare coerulescens"),
        ("Isoëtes asplundii H. P. Fuchs", "Isoetes asplundii"),
        ("Aristotelia fruticosa var. δ microphylla Hook.f.", "Aristotelia fruticosa microphylla"),
        ("Hydnellum scrobiculatum var. zonatum f. parvum (Banker) Hall", "Hydnellum scrobiculatum zonatum parvum"),
        ("Leptospira interrogans serovar Fugis", "Leptospira interrogans"),
        ("Desmoxytes des Srisonchai, Enghoff & Panha, 2016", "Desmoxytes des"),
        ("Solanum lycopersicum cv Roma", "Solanum lycopersicum"),
        ("Solanum lycopersicum cv. Roma", "Solanum lycopersicum"),
        ("Solanum lycopersicum 'Roma'", "Solanum lycopersicum"),
        ("Tridentella tangeroae Bruce, 198?", "Tridentella tangeroae"),
        ("Platypus bicaudatulus Schedl (1935)", "Platypus bicaudatulus"),
        ('Verpericola megasoma "Dall" Pils.', "Verpericola megasoma"),
        ("Chironomus gr. plumosus", "Chironomus"),
        ("Chironomus plumosus-group", "Chironomus"),
        ("Taraxacum officinale agg.", "Taraxacum officinale"),
        ("Noctuidae gen. sp.", "Noctuidae"),
        ("Pica pica indet.", "Pica pica"),
        ("Pica_pica_unknown", "Pica pica"),
        ("Unknown Corvidae", "Corvidae"),
        ("Agaricus sp. nov.", "Agaricus"),
        ("Hygrophorus sp. 'CA02'", "Hygrophorus"),
        ("× Chitalpa tashkentensis", "Chitalpa tashkentensis"),
        ("Equisetum ×litorale Kühlewein ex Ruprecht", "Equisetum litorale"),
        ("larva of Pieris brassicae", "Pieris brassicae"),
    ],
)
def test_one_name(label: str, name: str) -> None:
    assert read(label).name == name


@pytest.mark.parametrize(
    ("label", "authorship"),
    [
        ("Pica pica (Linnaeus, 1758)", "(Linnaeus, 1758)"),
        ("Oxytropis minjanensis Rech. f.", "Rech. fil."),
        ("Porina reussi Meneghini in De Amicis, 1885", "Meneghini in De Amicis, 1885"),
        ("Recilia truncatus Dash & Viraktamath, 1998a: 29", "Dash & Viraktamath, 1998"),
        ("Caloptenopsis crassiusculus (Martínez y Castillo, 1896)", "(Martínez & Castillo, 1896)"),
        ("Equisetum litorale Kühlewein ex Ruprecht", "Kühlewein ex Ruprecht"),
    ],
)
def test_authorship(label: str, authorship: str) -> None:
    assert read(label).authorship == authorship


@pytest.mark.parametrize(
    ("label", "name", "vernacular"),
    [
        ("Puna Ibis (Plegadis ridgwayi)", "Plegadis ridgwayi", "Puna Ibis"),
        ("English Oak, Quercus robur", "Quercus robur", "English Oak"),
        ("Northern Cardinal [Cardinalis cardinalis]", "Cardinalis cardinalis", "Northern Cardinal"),
        ("Turdus merula (Common Blackbird)", "Turdus merula", "Common Blackbird"),
        ("Turdus merula_Merle noir", "Turdus merula", "Merle noir"),
        ("Koltrast_Turdus merula", "Turdus merula", "Koltrast"),
        ("Common Blackbird - Turdus merula", "Turdus merula", "Common Blackbird"),
        ("Eurasian Magpie (Pica pica (Linnaeus, 1758))", "Pica pica", "Eurasian Magpie"),
    ],
)
def test_a_pair_of_names(label: str, name: str, vernacular: str) -> None:
    parsed = read(label)
    assert (parsed.name, parsed.vernacular, parsed.is_pair) == (name, vernacular, True)


@pytest.mark.parametrize(
    ("label", "name", "ancestors"),
    [
        ("mammalia;carnivora;felidae;lynx;rufus", "Lynx rufus", ("Felidae", "Carnivora", "Mammalia")),
        ("Animalia > Chordata > Aves > Corvidae", "Corvidae", ("Aves", "Chordata", "Animalia")),
        (
            "Animalia|Chordata|Aves|Corvidae|Pica|Pica pica",
            "Pica pica",
            ("Pica", "Corvidae", "Aves", "Chordata", "Animalia"),
        ),
        ("Animalia/Chordata/Aves/Pica/Pica pica", "Pica pica", ("Pica", "Aves", "Chordata", "Animalia")),
        ("Bivalvia<Mollusca", "Bivalvia", ("Mollusca",)),
        ("Felidae;lynx", "Lynx", ("Felidae",)),
        ("Animalia,Chordata,Aves,Turdus,merula", "Turdus merula", ("Aves", "Chordata", "Animalia")),
        ("Animalia;Aves;Turdus merula;Common Blackbird", "Turdus merula", ("Aves", "Animalia")),
        ("Aves;Pica pica", "Pica pica", ("Aves",)),
    ],
)
def test_a_lineage_in_one_cell(label: str, name: str, ancestors: tuple[str, ...]) -> None:
    parsed = read(label)
    assert (parsed.name, parsed.ancestors) == (name, ancestors)


@pytest.mark.parametrize(
    ("label", "taxon"),
    [
        (
            "k__Animalia;p__Chordata;c__Aves;o__Passeriformes;f__Corvidae;g__Pica;s__Pica pica",
            Taxon(("Animalia", "Chordata", "Aves", "Passeriformes", "Corvidae", "Pica", "pica")),
        ),
        ("g__Amanita;s__muscaria", Taxon.of(genus="Amanita", species="muscaria")),
        (
            "0a1b2c3d-0000-1111-2222-333344445555;mammalia;carnivora;felidae;lynx;rufus;bobcat",
            Taxon(("", "", "Mammalia", "Carnivora", "Felidae", "Lynx", "rufus"), common_name="bobcat"),
        ),
        ("mammalia;carnivora;felidae;lynx;rufus", Taxon.of(genus="Lynx", species="rufus")),
        ("Trifolium repens auct. non L.", Taxon.of(genus="Trifolium")),
        ("Anas platyrhynchos × acuta", Taxon.of(genus="Anas")),
        ("Puna Ibis (Plegadis ridgwayi)", Taxon.of(genus="Plegadis", species="ridgwayi")),
    ],
)
def test_a_taxon_from_a_label_alone(label: str, taxon: Taxon) -> None:
    assert taxon_from_label(label) == taxon


def test_an_empty_lineage_is_a_placeholder() -> None:
    assert isinstance(parse_label("0a1b2c3d-0000-1111-2222-333344445555;;;;;;blank"), Rejection)


@pytest.mark.parametrize(
    ("label", "names"),
    [
        ("Pica pica and Pica hudsonia", ("Pica pica", "Pica hudsonia")),
        ("Pica pica & P. hudsonia", ("Pica pica", "Pica hudsonia")),
        ("Pica pica; Corvus corax", ("Pica pica", "Corvus corax")),
        ("Pica pica / Pica hudsonia", ("Pica pica", "Pica hudsonia")),
        ("Anas platyrhynchos × acuta", ("Anas platyrhynchos", "Anas acuta")),
        ("Anas platyrhynchos x A. acuta", ("Anas platyrhynchos", "Anas acuta")),
        ("Quercus robur X Quercus petraea", ("Quercus robur", "Quercus petraea")),
        ("Quercus robur + Quercus petraea", ("Quercus robur", "Quercus petraea")),
        ("quercus robur x quercus petraea", ("Quercus robur", "Quercus petraea")),
        ("Anas × Mareca", ("Anas", "Mareca")),
        ("Salix (alba × fragilis)", ("Salix alba", "Salix fragilis")),
        ("Oak (Quercus robur × Q. petraea)", ("Quercus robur", "Quercus petraea")),
        ("Anas platyrhynchos × Mareca strepera", ("Anas platyrhynchos", "Mareca strepera")),
    ],
)
def test_several_names(label: str, names: tuple[str, ...]) -> None:
    parsed = read(label)
    assert parsed.together == names
    genera = {name.split(" ")[0] for name in names}
    assert parsed.name == (genera.pop() if len(genera) == 1 else "")


@pytest.mark.parametrize(
    "label", ["Amanita excelsa Gonn. & Rabenh.", "Mentha × piperita", "Cetraria iberica a.crespo & barreno"]
)
def test_authors_and_named_hybrids_are_not_several_names(label: str) -> None:
    assert read(label).together == ()


@pytest.mark.parametrize(
    ("label", "name", "whole"),
    [
        ("Syrphidae on Achillea millefolium", "Syrphidae", "Syrphidae on Achillea millefolium"),
        ("Puccinia graminis ex Berberis vulgaris", "Puccinia graminis", "Puccinia graminis ex Berberis vulgaris"),
        ("Trypanosoma from Passer domesticus", "Trypanosoma", "Trypanosoma from Passer domesticus"),
    ],
)
def test_the_organism_stands_before_its_host(label: str, name: str, whole: str) -> None:
    parsed = read(label)
    assert (parsed.name, parsed.whole, parsed.other_names) == (name, whole, ())


@pytest.mark.parametrize(
    "label", ["Mites on Bombus terrestris", "aphid ex Urtica dioica", "parasite of Apis mellifera"]
)
def test_a_host_is_never_the_organism(label: str) -> None:
    parsed = read(label)
    assert not {"Bombus terrestris", "Urtica dioica", "Apis mellifera"} & {parsed.name, *parsed.other_names}


@pytest.mark.parametrize("label", ["Not Pica pica", "looks like Vespa crabro", "similar to Pica pica"])
def test_a_negation_names_nothing(label: str) -> None:
    assert isinstance(parse_label(label), Rejection)


@pytest.mark.parametrize("label", ["Bombyx mori nuclear polyhedrosis virus", "Rosa canina virus 1"])
def test_a_virus_is_not_its_host(label: str) -> None:
    parsed = read(label)
    assert parsed.rank is not Rank.SPECIES and parsed.other_names == ()


@pytest.mark.parametrize(
    ("label", "doubt"),
    [
        ("Trifolium repens auct. non L.", "auct. non L."),
        ("Quercus robur sensu auct.", "sensu auct."),
        ("Quercus robur nec L.", "nec L."),
        ("Quercus robur p.p.", "p.p."),
        ("Pica pica?", "?"),
        ("probably Pica pica", "probably"),
        ("cf. Pica pica", "cf."),
    ],
)
def test_a_doubt_keeps_the_name_and_says_so(label: str, doubt: str) -> None:
    parsed = read(label)
    assert parsed.doubt == doubt
    assert parsed.name.count(" ") == 1
    taxon = taxon_from_label(label)
    assert isinstance(taxon, Taxon) and taxon.species == ""


@pytest.mark.parametrize("label", ["Quercus robur sensu lato", "Quercus robur s.l.", "Hyacinthoides non-scripta"])
def test_a_wide_sense_is_no_doubt(label: str) -> None:
    assert read(label).doubt == ""


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("L.", "Linnaeus", 2),
        ("Linn.", "L.", 2),
        ("L.", "Linnaeus, 1758", 2),
        ("Michx.", "Michaux", 2),
        ("(L.) Karst.", "(Linnaeus) H.Karsten", 2),
        ("Schltdl.", "Schlechtendal", 2),
        ("DC.", "de Candolle", 2),
        ("Torr. & A.Gray", "Torrey et Gray", 2),
        ("Kühlew. ex Rupr.", "Ruprecht", 2),
        ("Stokes", "Stokes in With.", 2),
        ("Muhl.", "Mühlenberg", 2),
        ("Linnaeus, [1758]", "L. 1758", 2),
        ("(Linnaeus, 1758)", "Linnaeus, 1758", 1),
        ("(L.) Karst.", "L.", 1),
        ("Stokes", "", 0),
        ("Michaux", "Stokes", -1),
        ("Boott", "Boiss.", -1),
        ("Willd.", "Wallich", -1),
    ],
)
def test_authors_compare_as_they_are_abbreviated(one: str, other: str, expected: int) -> None:
    assert agreement(one, other) == agreement(other, one) == expected
