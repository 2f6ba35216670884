"""Words beside a name make a class of their own; spellings, authors and other languages do not."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linnaea.taxonomy.ranks import RANK_LABELS
from linnaea.taxonomy.remarks import is_class_of_its_own, is_remark, split_remark, with_remark
from linnaea.taxonomy.row import class_from_label, label_reader
from linnaea.taxonomy.taxon import Taxon


@pytest.mark.parametrize(
    ("label", "name", "remark"),
    [
        ("Danaus plexippus adult", "Danaus plexippus", "adult"),
        ("Danaus_plexippus_larva", "Danaus plexippus", "larva"),
        ("Danaus plexippus (larva)", "Danaus plexippus", "larva"),
        ("DANAUS PLEXIPPUS PUPA", "DANAUS PLEXIPPUS", "pupa"),
        ("DanausPlexippusLarva", "DanausPlexippus", "larva"),
        ("Danaus plexippus - caterpillar", "Danaus plexippus", "caterpillar"),
        ("Danaus plexippus_adult male", "Danaus plexippus", "adult male"),
        ("quercus_robur_leaf", "quercus robur", "leaf"),
        ("larva of Pieris brassicae", "Pieris brassicae", "larva"),
        ("Monarch larva", "Monarch", "larva"),
        ("Grey heron adult", "Grey heron", "adult"),
        ("Tomato___Early_blight", "Tomato", "early blight"),
        ("Tomato___healthy", "Tomato", "healthy"),
        ("Corn_(maize)___Common_rust_", "Corn", "maize common rust"),
        ("Vitis vinifera black rot", "Vitis vinifera", "black rot"),
        ("Vitis vinifera Black Rot", "Vitis vinifera", "black rot"),
        ("Rosa rugosa white", "Rosa rugosa", "white"),
        ("Painted Bunting (Female/juvenile)", "Painted Bunting", "female juvenile"),
        ("Dark-eyed Junco (Slate-colored)", "Dark-eyed Junco", "slate-colored"),
        ("Snow Goose (Blue morph)", "Snow Goose", "blue morph"),
        ("Dalbergia_latifolia_2small.jpeg", "Dalbergia latifolia", ""),
        ("Ruddy Duck (Winter/Eclipse male)", "Ruddy Duck", "winter eclipse male"),
        ("Danaus plexippus on milkweed", "Danaus plexippus", "on milkweed"),
    ],
)
def test_words_that_the_name_does_not_explain(label: str, name: str, remark: str) -> None:
    assert split_remark(label) == (name, remark)


@pytest.mark.parametrize(
    "label",
    [
        "Danaus plexippus",
        "PICA_PICA",
        "AbiesAlba2",
        "001.Black_footed_Albatross",
        "Snow Leopard",
        "Great crested grebe",
        "Abies alba Mill.",
        "Abies alba Miller",
        "Carex rostrata Stokes",
        "Pica pica (Linnaeus, 1758)",
        "Pica pica (L.)",
        "Felis catus de Blainville",
        "Euphorbia esula L. f.",
        "Trifolium repens auct. non L.",
        "Turdus merula aterrimus",
        "Brassica juncea integrifolia rugosa",
        "Parus major subsp. minor",
        "Carduelis carduelis ssp. britannica",
        "Heracleum sphondylium subsp. sibiricum (Linnaeus) Simonkai",
        "Puccinia graminis f. sp. tritici",
        "Turdus merula (Common Blackbird)",
        "Common Blackbird (Turdus merula)",
        "Turdus merula_Merle noir",
        "Turdus merula_Koltrast",
        "Pica_pica__Magpie",
        "Les Syrittes (Syritta)",
        "Northern Cardinal [Cardinalis cardinalis]",
        "Larus sp. 3",
        "Pica pica and Corvus corax",
        "Pica pica Linnaeus and Corvus corax",
        "Quercus cf. robur",
        "Salix x fragilis",
        "Anas platyrhynchos × acuta",
        "Rubus fruticosus agg.",
        "mammalia;carnivora;felidae;lynx;rufus",
        "k__Animalia;p__Chordata;s__Pica pica",
        "larvae<Annelida",
        "Winter Wren",
        "00017_Animalia_Chordata_Aves_Passeriformes_Corvidae_Pica_hudsonia",
        "cat",
        "",
        "larva",
        "Solanum lycopersicum cv Roma",
    ],
)
def test_what_belongs_to_the_name_is_no_remark(label: str) -> None:
    assert split_remark(label) == (label, "")


@given(st.text(max_size=60))
@settings(max_examples=200, deadline=None)
def test_any_text_has_a_name_or_is_one(label: str) -> None:
    name, remark = split_remark(label)
    assert name or not label.strip()
    assert remark == remark.lower() == " ".join(remark.split())
    assert isinstance(class_from_label(label), Taxon | str)


def test_classes_of_one_taxon_stay_apart() -> None:
    labels = ["Danaus plexippus", "Danaus_plexippus", "Danaus plexippus (Linnaeus, 1758)", "Danaus plexippus adult",
              "Danaus_plexippus_Adult", "Danaus plexippus larva"]  # fmt: skip
    plain, same, author, adult, capital, larva = (class_from_label(label) for label in labels)
    assert plain == same == author == Taxon.of(genus="Danaus", species="plexippus")
    assert adult == capital == Taxon.of(genus="Danaus", species="plexippus", common_name="Danaus plexippus adult")
    assert larva not in (plain, adult)
    assert {label_reader("taxon")(label) for label in labels} == {plain}
    crops = [class_from_label(label) for label in ("Tomato___Early_blight", "Tomato___Late_blight", "Tomato___healthy")]
    assert [getattr(crop, "common_name", "") for crop in crops] == [
        "Tomato early blight", "Tomato late blight", "Tomato healthy",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "label",
    [
        "chaetognath_sagitta",
        "artifacts_edge",
        "false_positive",
        "hydromedusae_liriope",
        "copepod_calanoid",
        "trichodesmium_puff",
        "fish_larvae_deep_body",
        "Monarch larva",
    ],
)
def test_words_of_other_lists_are_no_binomials(label: str) -> None:
    taxon = class_from_label(label)
    assert isinstance(taxon, Taxon)
    assert not any(taxon.lineage)
    assert taxon.common_name == label.replace("_", " ")


def test_a_class_of_a_species_is_known_by_its_name() -> None:
    species = Taxon.of(genus="Danaus", species="plexippus", common_name="Monarch")
    larva = with_remark(species, "larva")
    assert larva.lineage == species.lineage
    assert is_class_of_its_own(larva)
    assert not is_class_of_its_own(species)
    assert with_remark(larva, "") == larva
    genus = with_remark(Taxon.of(dict(zip(RANK_LABELS, ["Plantae"], strict=False)), genus="Quercus"), "seedling")
    assert (genus.scientific_name, genus.common_name) == ("Quercus", "Quercus seedling")


def test_a_folder_of_a_life_stage_is_a_remark() -> None:
    assert all(is_remark(label) for label in ("larva", "Adult_male", "leaves", "LarvaDorsal"))
    assert not any(is_remark(label) for label in ("", "Larus", "Pica pica", "larva of Pieris", "3"))
