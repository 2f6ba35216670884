"""A taxon is valid by construction, and its captions are the paper's, never empty."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from linnaea.taxonomy.columns import scientific_name
from linnaea.taxonomy.ranks import RANK_LABELS, Rank
from linnaea.taxonomy.taxon import PHOTO_TEMPLATE, TRAINING_TEXT_TYPES, Taxon, TextType

MAGPIE = Taxon(
    ("Animalia", "Chordata", "Aves", "Passeriformes", "Corvidae", "Pica", "hudsonia"),
    common_name="black-billed magpie",
    authorship="(Sabine, 1823)",
)


@pytest.mark.parametrize(
    ("text_type", "caption"),
    [
        ("com", "black-billed magpie"),
        ("sci", "Pica hudsonia"),
        ("taxon", "Animalia Chordata Aves Passeriformes Corvidae Pica hudsonia"),
        ("sci_com", "Pica hudsonia with common name black-billed magpie"),
        (
            "taxon_com",
            "Animalia Chordata Aves Passeriformes Corvidae Pica hudsonia with common name black-billed magpie",
        ),
        (
            "taxon_tag",
            "kingdom Animalia phylum Chordata class Aves order Passeriformes family Corvidae genus Pica "
            "species hudsonia",
        ),
        (
            "taxon_tag_com",
            "kingdom Animalia phylum Chordata class Aves order Passeriformes family Corvidae genus Pica "
            "species hudsonia with common name black-billed magpie",
        ),
    ],
)
def test_captions_are_those_of_the_paper(text_type: str, caption: str) -> None:
    assert MAGPIE.caption(TextType(text_type)) == caption
    assert MAGPIE.caption(TextType(text_type), PHOTO_TEMPLATE) == f"a photo of {caption}."


def test_bioclip_trains_on_five_text_types() -> None:
    assert [str(text_type) for text_type in TRAINING_TEXT_TYPES] == [
        "com",
        "sci",
        "taxon",
        "sci_com",
        "taxon_com",
    ]


def test_missing_ranks_are_left_out() -> None:
    moth = Taxon.of({"kingdom": "Animalia", "class": "Insecta"}, family="Noctuidae")
    assert moth.caption(TextType.TAXON) == "Animalia Insecta Noctuidae"
    assert moth.caption(TextType.TAXON_TAG) == "kingdom Animalia class Insecta family Noctuidae"
    assert moth.caption(TextType.SCI) == moth.caption(TextType.COM) == moth.caption(TextType.SCI_COM) == "Noctuidae"
    assert moth.rank == Rank.FAMILY


def test_a_common_name_alone_is_never_doubled() -> None:
    cat = Taxon.of(common_name="cat")
    assert {cat.caption(text_type) for text_type in TextType} == {"cat"}
    assert cat.rank is None


def test_a_template_may_hold_a_name_with_braces() -> None:
    assert Taxon.of(common_name="odd {} name").caption(TextType.COM, "a photo of {}.") == "a photo of odd {} name."


@pytest.mark.parametrize(
    ("ranks", "common_name"),
    [
        ({}, ""),
        ({"species": "hudsonia"}, ""),
        ({"genus": "Pica", "species": "Pica hudsonia"}, ""),
        ({"genus": " Pica"}, ""),
        ({"genus": "Pica\n"}, ""),
        ({"family": "Corvi\x00dae"}, ""),
        ({"genus": "Pica"}, "two  blanks"),
    ],
)
def test_what_is_no_taxon_is_refused(ranks: dict[str, str], common_name: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        Taxon.of(ranks, common_name=common_name)


def test_a_tautonym_is_a_species() -> None:
    assert Taxon.of(genus="Gorilla", species="gorilla").scientific_name == "Gorilla gorilla"


def test_an_ancestor_keeps_only_what_lies_above() -> None:
    assert MAGPIE.at(Rank.FAMILY).lineage == (
        "Animalia",
        "Chordata",
        "Aves",
        "Passeriformes",
        "Corvidae",
        "",
        "",
    )
    assert MAGPIE.at(Rank.FAMILY).common_name == ""


@pytest.mark.parametrize("text", ["species", " Genus", "KINGDOM"])
def test_ranks_are_read_in_any_case(text: str) -> None:
    assert Rank.parse(text).label == text.strip().lower()


def test_an_unknown_rank_is_named() -> None:
    with pytest.raises(ValueError, match=r"tribe.*kingdom"):
        Rank.parse("tribe")


name = st.from_regex(r"[A-Z][a-z]{1,8}", fullmatch=True)
epithet = st.from_regex(r"[a-z]{3,8}", fullmatch=True)


@given(
    st.lists(st.one_of(st.just(""), name), min_size=6, max_size=6),
    st.one_of(st.just(""), epithet),
    st.one_of(st.just(""), epithet),
)
def test_no_caption_is_ever_empty(higher: list[str], species: str, common_name: str) -> None:
    ranks = dict(zip(RANK_LABELS, [*higher, species if higher[-1] else ""], strict=True))
    if not any(ranks.values()) and not common_name:
        return
    if ranks["species"].lower().startswith(ranks["genus"].lower()):
        ranks["species"] = ""
    if not any(ranks.values()) and not common_name:
        return
    taxon = Taxon.of(ranks, common_name=common_name)
    for text_type in TextType:
        caption = taxon.caption(text_type)
        assert caption
        assert "  " not in caption
        assert not caption.startswith(" ")


def test_a_table_names_its_taxa_as_the_taxa_name_themselves() -> None:
    taxa = [
        Taxon.of(kingdom="Animalia", genus="Pica", species="hudsonia"), Taxon.of(genus="Pica"),
        Taxon.of(family="Apidae"), Taxon.of(kingdom="Plantae", order="Fagales"), Taxon.of(common_name="car"),
    ]  # fmt: skip
    rows = pl.DataFrame([one.lineage for one in taxa], schema=list(RANK_LABELS), orient="row")
    names = rows.select(name=scientific_name())["name"].to_list()
    assert names == [one.scientific_name for one in taxa]
