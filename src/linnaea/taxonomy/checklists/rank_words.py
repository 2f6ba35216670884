"""Read the ranks that checklists write: English, Latin, Portuguese, Spanish, French, German and Italian words, in full
or abbreviated, in any case."""

import re
import unicodedata

import polars as pl

UNRANKED = "unranked"
"""The rank of a clade without one."""

_RANKS: dict[str, str] = {
    "domain": "domain dominio domaine domane dominium empire",
    "realm": "realm",
    "kingdom": "kingdom regn regnum reino regne reich regno king",
    "phylum": "phylum phyl filo embranchement stamm phy division divisio divisao abteilung divisione div",
    "class": "class cl classis classe clase klasse kl",
    "order": "order ord ordo ordem orden ordre ordnung ordine",
    "family": "family fam familia famille familie famiglia",
    "tribe": "tribe tribus tribo tribu trib",
    "genus": "genus gen genero genre gattung genere nothogenus genushybrid nothogen",
    "section": "section sectio secao seccion sektion sect sezione",
    "series": "series serie ser",
    "species": "species sp spec especie espece art specie spp nothospecies hybrid nothosp hybridspecies",
    "subspecies": "subspecies subespecie sousespece ssp subsp subspec unterart infraspecies nothosubsp sottospecie",
    "variety": "variety var varietas variedade variedad variete varietat varieta nothovariety nothovar nothovarietas",
    "form": "form forma f fo forme fma nothoform nothof",
    "cultivar": "cultivar cv",
    "infraspecific": "infraspecific infraspecificname infraspecifictaxon infrasubspecificname infraspecies",
    UNRANKED: "unranked norank clade clado unspecified notspecified rankless suprageneric other norang sansrang",
}
_PREFIXES = {
    "sub": "sub sous unter sotto",
    "super": "super sur uber ueber sopra",
    "infra": "infra",
    "parv": "parv",
    "mega": "mega",
}
_WORDS = {word: rank for rank, words in _RANKS.items() for word in words.split()}
_PREFIXED = ("kingdom", "phylum", "class", "order", "family", "tribe", "genus", "section", "series", "variety", "form")
_KEPT = ("hybrid", "nothospecies", "nothogenus", "genushybrid", "nothosubspecies", "nothovariety")
"""Ranks that are kept as they are written, because they say more than their rank."""


def read_ranks(ranks: pl.Series) -> pl.Series:
    """Return ranks as lower-case English words; ``""`` where none is stated, the word itself where it is not known.

    ``"Espécie"``, ``"sp."`` and ``"http://rs.gbif.org/vocabulary/gbif/rank/species"`` are ``"species"``.
    """
    words = ranks.fill_null("").unique().to_list()
    return ranks.fill_null("").replace_strict(words, [_read(word) for word in words], return_dtype=pl.String)


def _read(text: str) -> str:
    written = re.sub(r"^.*[/#](?=.)", "", text.strip()).lower()
    key = re.sub(r"[^a-z]", "", without_accents(written))
    if not key or key in ("null", "nan", "none", "na"):
        return ""
    if key in _KEPT:
        return key
    return _WORDS.get(key) or _prefixed(key) or written


def without_accents(text: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKD", text.replace("ß", "ss")) if not unicodedata.combining(c))


def full_words(rank: str) -> tuple[str, ...]:
    """Return the words of other languages for a rank that a column may have as its header ("famille", "art")."""
    words = _RANKS[rank].split()[1:]
    return tuple(
        word for word in words if (len(word) > 3 or word == "art") and "hybrid" not in word and word[:5] != "notho"
    )


def is_known(rank: pl.Expr) -> pl.Expr:
    """Return whether a rank that :func:`read_ranks` returned says what the rank is."""
    prefixed = [f"{prefix}{base}" for prefix in _PREFIXES for base in _PREFIXED]
    return rank.is_in([*_RANKS, *_KEPT, *prefixed]) & (rank != UNRANKED)


def _prefixed(key: str) -> str:
    """Return the word for a rank between the usual ones ("Unterfamilie", "superordo"), ``""`` for another word."""
    for english, prefixes in _PREFIXES.items():
        for prefix in prefixes.split():
            base = _WORDS.get(key.removeprefix(prefix)) if key.startswith(prefix) else None
            if base in _PREFIXED:
                return f"{english}{base}"
    return ""
