"""A label is read as a person would read it: every reading, or the reason why there is none; never an exception."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from linnaea.taxonomy.names import ParsedName, parse_label, parse_labels, taxon_from_label
from linnaea.taxonomy.ranks import Rank
from linnaea.taxonomy.readings import Rejection, tidy
from linnaea.taxonomy.taxon import Taxon


def read(label: str) -> ParsedName:
    parsed = parse_label(label)
    assert isinstance(parsed, ParsedName), parsed
    return parsed


@pytest.mark.parametrize(
    ("label", "name"),
    [
        # The naming rules of the reference, section 1.3: what its cleaning gives ...
        ("Ursus arctos (Linnaeus, 1758)", "Ursus arctos"),
        ("Salix alba L.", "Salix alba"),
        ("Drosera aliciae r.hamet", "Drosera aliciae"),
        ("Poa annua f. reptans", "Poa annua reptans"),
        ("Panthera leo leo", "Panthera leo leo"),
        ("<i>Pica pica</i>", "Pica pica"),
        ("Quercus alba subsp. foo (L.) Bar", "Quercus alba foo"),
        ("Agropyron repens var. glaucum", "Agropyron repens glaucum"),
        ("Salix alba<br>white willow", "Salix alba"),
        # ... and each of its listed failures.
        ("Aster 1985 thing", "Aster"),
        ("Felis silvestris Schreber", "Felis silvestris"),
        ("Abies alba Mill.", "Abies alba"),
        ("Rosa canina agg.", "Rosa canina"),
        ("Larus sp. 3BOLD", "Larus"),
        ("Genus cf. species", "Genus"),
        ("Quercus x bebbiana Schneid.", "Quercus bebbiana"),
        ("Parus major x Parus ater", "Parus"),
        # What files and habits do to names.
        ("AbiesAlba2", "Abies alba"),
        ("SALIX_ALBA", "Salix alba"),
        ("salix alba", "Salix alba"),
        ("Acer Glabrum", "Acer glabrum"),
        ("MalusBaccataMandschurica", "Malus baccata mandschurica"),
        ("PrunusXCistena", "Prunus cistena"),
        ("AlismaPlantago-aquatica", "Alisma plantago-aquatica"),
        ("Echinochloa Crus-galli", "Echinochloa crus-galli"),
        ("chloroclystis_v-ata", "Chloroclystis v-ata"),
        ("agaricus-xanthodermus", "Agaricus xanthodermus"),
        ("Gossypium-herbaceum_Mulsant", "Gossypium herbaceum"),
        ("Dalbergia_cochinchinensis_2small", "Dalbergia cochinchinensis"),
        ("Jasminum_grandiflorum_Merian (1)", "Jasminum grandiflorum"),
        ("  Pica \t pica\n", "Pica pica"),
        ("Amanita excelsa Gonn. &amp; Rabenh.", "Amanita excelsa"),
        ("Alcippe guÃ©rini", "Alcippe guerini"),
        ("Alcippe guÃƒÂ©rini", "Alcippe guerini"),
        ("Alcippe guérini DubÃ´is", "Alcippe guerini"),
        ("Bombus (Pyrobombus) impatiens", "Bombus impatiens"),
        ("× Cupressocyparis leylandii", "Cupressocyparis leylandii"),
        ("Mentha × piperita", "Mentha piperita"),
        ("Candidatus Pelagibacter ubique", "Pelagibacter ubique"),
        ("Rosa 'Peace'", "Rosa"),
        ("Corvidae", "Corvidae"),
        ("Felis Linnaeus", "Felis"),
        # One name in brackets.
        ("L'Eristale des fleurs (Myathropa florea)", "Myathropa florea"),
        ("Le Syrphe porte-plume (mâle) (Sphaerophoria scripta)", "Sphaerophoria scripta"),
        ("Azadirachta Indica (Neem)", "Azadirachta indica"),
        # Several species at once stand for their genus.
        ("Corvus corax/corone", "Corvus"),
        ("amphipyra_pyramidea_-_berberea", "Amphipyra"),
        ("Lepiota_spp", "Lepiota"),
        ("mesapamea_spec", "Mesapamea"),
        ("PassifloraSpecies", "Passiflora"),
        ("Larus sp. 3", "Larus"),
        ("Pica cf. hudsonia", "Pica"),
        ("Larus aff. argentatus", "Larus"),
    ],
)
def test_scientific_names(label: str, name: str) -> None:
    assert read(label).name == name


@pytest.mark.parametrize("label", ["Felis silvestris Schreber", "Salix alba L.", "Rosa canina agg.", "AbiesAlba2"])
def test_a_species_is_never_empty_and_has_no_author(label: str) -> None:
    parsed = read(label)
    assert parsed.rank is Rank.SPECIES
    assert parsed.species in label.lower()
    assert " " not in parsed.species


@pytest.mark.parametrize(
    "label",
    ["Pica cf. hudsonia", "Larus sp. 3BOLD", "Genus cf. species", "Lepiota spp.", "Corvus corax/corone"],
)
def test_what_the_author_doubted_is_a_genus(label: str) -> None:
    parsed = read(label)
    assert parsed.rank is Rank.GENUS
    assert parsed.qualifier
    assert parsed.species == ""
    assert parsed.notes


@pytest.mark.parametrize(
    ("label", "vernacular"),
    [
        ("001.Black_footed_Albatross", "Black footed Albatross"),
        ("american-carrion-beetle", "american carrion beetle"),
        ("L'Eristale des fleurs (Myathropa florea)", "L'Eristale des fleurs"),
        ("Azadirachta Indica (Neem)", "Neem"),
        ("Rough-legged Hawk (Dark morph)", "Rough-legged Hawk"),
        ("Tomato___Late_blight", "Tomato"),
        ("ADONIS", "ADONIS"),
    ],
)
def test_vernacular_readings(label: str, vernacular: str) -> None:
    assert read(label).vernacular == vernacular


def test_a_name_behind_its_vernacular_name_is_another_reading() -> None:
    assert "Adansonia digitata" in read("Baobob_tree_Adansonia_digitata").other_names


def test_hybrids_and_authors_are_kept_apart() -> None:
    parsed = read("Quercus x bebbiana Schneid.")
    assert parsed.hybrid
    assert parsed.authorship.startswith("Schneid")
    assert parsed.species == "bebbiana"


@pytest.mark.parametrize(
    "label",
    [
        "",
        "   ",
        "???",
        "(unidentified)",
        "unknown",
        "not_classified",
        "pleasehelp",
        "incertae sedis",
        "n/a",
        "None",
        "BOLD:AAA1234",
        "12345",
        "sp. 3",
        "Unidentified species",
        "Katodinium_or_Torodinium",
        "\u200b",
        "\x00",
    ],
)
def test_what_is_no_name_says_why(label: str) -> None:
    parsed = parse_label(label)
    assert isinstance(parsed, Rejection), parsed
    assert parsed.reason


@given(st.text(max_size=80))
@example("x" * 10_000)
@example("(((((")
@example("A\udcff b")
@settings(max_examples=300, deadline=None)
def test_any_text_gives_a_reading_or_a_reason(label: str) -> None:
    parsed = parse_label(label)
    if isinstance(parsed, Rejection):
        assert parsed.reason
    else:
        assert parsed.name or parsed.vernacular
        assert parsed.rank is not Rank.SPECIES or parsed.species


WORDS = st.sampled_from(
    [
        "Abies",
        "alba",
        "ALBA",
        "Mill.",
        "x",
        "×",
        "sp.",
        "cf.",
        "agg.",
        "(L.)",
        "1758",
        "_",
        "var.",
        "Black",
        "footed",
        "2",
        "d'Urv.",
        "&",
        "<i>",
        "é",
        "(Pica)",
        "subsp.",
        "v-ata",
        "/",
        "Candidatus",
        "'Peace'",
        "virus",
        "ex",
        "nov.",
        "a-b",
        "II",
        "f.",
        "la",
        "-",
        "or",
        "Éa",
        "hybrid",
        "incertae",
        "sedis",
        "McGregor",
    ]
)


@given(st.lists(WORDS, min_size=1, max_size=6).map(" ".join))
@settings(max_examples=300, deadline=None)
def test_reading_is_idempotent(label: str) -> None:
    parsed = parse_label(label)
    if isinstance(parsed, ParsedName) and parsed.name:
        again = parse_label(parsed.name)
        assert isinstance(again, ParsedName)
        assert again.name == parsed.name


@given(st.text(max_size=60))
@settings(max_examples=200, deadline=None)
def test_tidying_twice_changes_nothing(text: str) -> None:
    once = tidy(text)
    assert tidy(once) == once
    assert not once or once == " ".join(once.split())


def test_many_labels_are_read_like_one() -> None:
    labels = ["Pica pica", "unknown", "SALIX_ALBA", "Larus sp. 3"]
    assert parse_labels(labels) == [parse_label(label) for label in labels]


@pytest.mark.parametrize(
    ("label", "taxon"),
    [
        (
            "00017_Animalia_Chordata_Aves_Passeriformes_Corvidae_Pica_hudsonia",
            Taxon(("Animalia", "Chordata", "Aves", "Passeriformes", "Corvidae", "Pica", "hudsonia")),
        ),
        ("Pica hudsonia", Taxon.of(genus="Pica", species="hudsonia")),
        ("pica_pica", Taxon.of(genus="Pica", species="pica")),
        ("Pica hudsonia (Sabine, 1823)", Taxon.of(genus="Pica", species="hudsonia")),
        ("AbiesAlba2", Taxon.of(genus="Abies", species="alba")),
        ("001.Black_footed_Albatross", Taxon.of(common_name="Black footed Albatross")),
        ("Snow Leopard", Taxon.of(common_name="Snow Leopard")),
        ("Cheetah", Taxon.of(common_name="Cheetah")),
    ],
)
def test_a_taxon_from_a_label_alone(label: str, taxon: Taxon) -> None:
    assert taxon_from_label(label) == taxon


@pytest.mark.parametrize(
    ("label", "name", "vernacular"),
    [
        ("Turdus merula_Merle noir", "Turdus merula", "Merle noir"),
        ("Turdus merula_Koltrast", "Turdus merula", "Koltrast"),
        ("Cyanistes caeruleus_Blåmes", "Cyanistes caeruleus", "Blåmes"),
        ("Corvus corone_Corneille noire", "Corvus corone", "Corneille noire"),
        ("Merle noir_Turdus merula", "Turdus merula", "Merle noir"),
        ("Dog_Dog", "Dog", "Dog"),
        ("Power tools_Power tools", "", "Power tools"),
        ("pica_pica", "Pica pica", "pica pica"),
    ],
)
def test_a_pair_of_names_is_cut_at_its_one_underscore(label: str, name: str, vernacular: str) -> None:
    parsed = parse_label(label)
    assert isinstance(parsed, ParsedName)
    assert (parsed.name, parsed.vernacular, parsed.authorship) == (name, vernacular, "")


@given(st.text(max_size=60))
@settings(max_examples=200, deadline=None)
def test_a_taxon_from_any_text_or_a_reason(label: str) -> None:
    assert isinstance(taxon_from_label(label), Taxon | str)


def test_a_reason_instead_of_a_taxon() -> None:
    assert taxon_from_label("unknown") == "a placeholder for an unknown name"
