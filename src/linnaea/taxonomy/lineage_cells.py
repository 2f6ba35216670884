"""Read a lineage in one cell: "mammalia;carnivora;felidae;lynx;rufus", "k__Animalia;...;s__Pica pica"."""

import re
from collections.abc import Sequence

from linnaea.taxonomy.label_words import looks_latin
from linnaea.taxonomy.ranks import N_RANKS, RANK_LABELS
from linnaea.taxonomy.readings import PLACEHOLDER, LabelReading, Rejection, is_binomial, split_words

_INAT21 = re.compile(r"\d+_" + "_".join([r"([^_]*)"] * N_RANKS))
_PREFIX = re.compile(
    r"^(?:D_\d+__|([a-z]{1,3})__?|(kingdom|phylum|class|order|family|genus|species)[:=_] ?)", re.IGNORECASE
)
_PREFIXED = re.compile(r"(?:^|[;|,>/ ])(?:[dkpcofgst]{1,2}|sk)__?\w")
_PREFIX_NEXT = re.compile(r"\s*[;|,>/]\s*(?=(?:[a-z]{1,3}|D_\d+)__?|[;|,>/]|$)", re.IGNORECASE)
_RANK_OF = {"k": "kingdom", "p": "phylum", "c": "class", "o": "order", "f": "family", "g": "genus", "s": "species"}
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_SEPARATORS = (r" ?; ?", r" ?\| ?", r" ?(?:->|=>|→|»|›|>) ?", r" ?[/\\]+ ?")
_MARKS = frozenset(";|→»›>/\\")
"""Characters of which each of the separators has one."""
_ROOTS = frozenset(("root", "life", "biota", "cellular organisms"))
"""What some trees have above the kingdoms."""
_GROUP = r"[A-Z][a-z]+(?:idae|aceae|inae|ales|formes|oidea|ptera)"
_GROUPS_FIRST = re.compile(rf"^((?:{_GROUP}[ _])+)([A-Z][a-z]+(?:[ _].+)?)$")
_WORD = re.compile(r"\(?[^\W\d_][\w.'-]*\)?")
_WORDS = re.compile(r"[^\W\d_][\w'-]*(?: [a-z-]+)?")
_HIGHER = re.compile(
    r"(?:.*(?:idae|aceae|inae|oidea|ales|formes|ptera|ptera|morpha|opsida|mycetes|mycota|phyta|zoa|podia|poda)|mammalia|"
    r"aves|reptilia|amphibia|insecta|arachnida|animalia|plantae|fungi|chordata|arthropoda|metazoa|tracheophyta|basidiomycota|carnivora|rodentia|mollusca|annelida)",
    re.IGNORECASE,
)


def read_lineage(text: str) -> LabelReading | Rejection | None:
    """Return the reading of a label that gives a lineage, or ``None`` for any other label.

    The deepest name is the name. The names above it are its context.
    """
    if match := _INAT21.fullmatch(text):
        return _ranked(text, dict(zip(RANK_LABELS, match.groups(), strict=True)), "")
    if "__" in text and (_PREFIXED.search(text) or text.startswith("D_0__")) and (cells := _PREFIX_NEXT.split(text)):
        return _prefixed(text, cells)
    if "<" in text and ">" not in text:
        cells = [cell.strip(" ()") for cell in text.split("<")]
        return _unranked(text, cells[::-1]) if all(_WORD.fullmatch(c) or " " in c for c in cells if c) else None
    for separator in () if _MARKS.isdisjoint(text) else _SEPARATORS:
        cells = [cell.strip() for cell in re.split(separator, text)]
        if len(cells) > 1 and (reading := _separated(text, cells, separator)) is not None:
            return reading
    for separator in ",:.":  # of fewer cells these are other marks
        if text.count(separator) < 2:
            continue
        cells = [cell.strip() for cell in text.split(separator)]
        if all(_HIGHER.fullmatch(c) for c in cells[:2]) and all(map(_WORDS.fullmatch, cells)):
            return _unranked(text, cells)
    return _after_groups(text)


def _after_groups(text: str) -> LabelReading | Rejection | None:
    """Read "Fagaceae_Quercus_robur" and "Lepidoptera Noctuidae"; the second word of "Corvidae Leach" is an author."""
    if (match := _GROUPS_FIRST.match(text)) is None:
        return None
    groups, name = re.split("[ _]", match[1].strip(" _")), split_words(match[2])
    is_genus = re.fullmatch(r"[A-Z][a-z]{2,}(?: spp?\b.*)?", name) and ("_" in match[1] or len(groups) > 1)
    return _unranked(text, [*groups, name]) if is_genus or is_binomial(name) or re.fullmatch(_GROUP, name) else None


def _prefixed(text: str, cells: Sequence[str]) -> LabelReading | Rejection | None:
    if all(cell.startswith("D_") for cell in cells if cell):  # SILVA's levels are not ranks
        return _unranked(text, [_PREFIX.sub("", cell).replace("_", " ").strip() for cell in cells])
    ranks: dict[str, str] = {}
    for cell in cells:
        match = _PREFIX.match(cell)
        rank = _RANK_OF.get((match[1] or match[2] or "").lower()[:1], "") if match else ""
        name = cell[match.end() :].replace("_", " ").strip(" []") if match else ""
        if rank and name and not PLACEHOLDER.fullmatch(name):
            ranks[rank] = name
    return _ranked(text, ranks, "") if ranks else None


def _separated(text: str, cells: Sequence[str], separator: str) -> LabelReading | Rejection | None:
    if _UUID.fullmatch(cells[0]) and len(cells) == 7:  # SpeciesNet: class to species, and a common name
        keys = ("class", "order", "family", "genus", "species")
        return _ranked(text, dict(zip(keys, cells[1:6], strict=True)), cells[6])
    filled = [cell.replace("_", " ") for cell in cells if cell and not _UUID.fullmatch(cell)]
    while len(filled) > 2 and filled[0].lower() in _ROOTS:
        filled = filled[1:]
    slash = "/" in separator
    above = filled[:-2] if len(filled) > 2 else filled[:1]
    if not filled or not all(_WORD.fullmatch(cell) or PLACEHOLDER.fullmatch(cell) for cell in above):
        return None
    if len(filled) == 2:
        is_lineage = _are_parent_and_child(filled[0], filled[1], slash=slash)
    else:
        has_codes = not filled[0][:1].isupper() and any(c.isdigit() for c in text)
        is_lineage = len(cells) > 2 and not has_codes and (not slash or bool(_HIGHER.fullmatch(filled[0])))
    return _unranked(text, filled) if is_lineage else None


def _are_parent_and_child(parent: str, child: str, *, slash: bool) -> bool:
    """Return whether two cells are a taxon and one of its parts, and not two taxa side by side."""
    if _HIGHER.fullmatch(parent):
        return not _HIGHER.fullmatch(child) or parent[-3:].lower() != child[-3:].lower()
    if not (_WORD.fullmatch(parent) and parent[:1].isupper()):
        return False
    same_genus = is_binomial(child) and child.split(" ", maxsplit=1)[0] == parent
    return same_genus or (not slash and is_binomial(child)) or (child.islower() and looks_latin(child))


def _ranked(text: str, ranks: dict[str, str], common_name: str) -> LabelReading | Rejection:
    named = {rank: "" if PLACEHOLDER.fullmatch(name or "") else (name or "").strip() for rank, name in ranks.items()}
    species = named.pop("species", "")
    lineage = [_capitalised(named.get(rank, "")) for rank in RANK_LABELS[:-1]]
    genus = lineage[-1]
    own = species[len(genus) :].strip() if genus and species.lower().startswith(f"{genus.lower()} ") else species
    epithet = own.split(" ")[0] if re.fullmatch(r"[a-zà-ÿ-]{3,}(?: [a-zà-ÿ-]{3,})?", own) else ""
    names = [name for name in lineage if name]
    if species:
        names.append(f"{genus} {own}".strip() if genus else _capitalised(species))
    if not names:
        return Rejection(text=text, reason="a placeholder for an unknown name")
    return LabelReading(
        text=text,
        scientific=names[-1],
        vernacular=common_name,
        is_pair=bool(common_name),
        ancestors=tuple(names[-2::-1]),
        ranks=(*lineage, epithet if genus else ""),
    )


def _unranked(text: str, cells: Sequence[str]) -> LabelReading | Rejection:
    names = [cell for cell in cells if cell and not PLACEHOLDER.fullmatch(cell)]
    if not names:
        return Rejection(text=text, reason="a placeholder for an unknown name")
    last = names[-1]
    before = names[-2] if len(names) > 1 else ""
    if before and (open_name := re.match(r"(?:([A-Z])[a-z]?|(?:cf|aff))\. ?(?=[a-z]{3})", last)):
        initial = open_name[1] or before[0]  # "Vanessa > V. atalanta", "Vanessa > cf. atalanta"
        last = f"{before} {last[open_name.end() :] if open_name[1] else last}" if initial == before[0] else last
    if is_binomial(before) and not is_binomial(last):  # the last cell is a common name
        higher = tuple(_capitalised(name) for name in reversed(names[:-2]))
        return LabelReading(text=text, scientific=before, vernacular=last, ancestors=higher, is_pair=True)
    one_word = " " not in last
    joined = f"{_capitalised(before)} {last.lower()}" if before and one_word and " " not in before else ""
    inner = f"{_capitalised(names[-3])} {before.lower()}" if len(names) > 2 and " " not in before + names[-3] else ""
    alone = _capitalised(last)
    if is_binomial(last) or (not one_word and not is_binomial(inner)):
        likeliest, others = alone, (joined, inner)
    elif joined and is_binomial(joined) and not _HIGHER.fullmatch(before) and last.islower():
        likeliest, others = joined, (alone, inner)
    elif before.islower() and is_binomial(inner) and not _HIGHER.fullmatch(before) and not _HIGHER.fullmatch(names[-3]):
        likeliest, others = inner, (joined, alone)
    else:
        likeliest, others = alone, (joined, inner)
    above = names[:-1] if likeliest == alone else names[:-2]
    return LabelReading(
        text=text,
        scientific=likeliest,
        vernacular=last,
        other_names=tuple(name for name in others if name and name != likeliest),
        ancestors=tuple(_capitalised(name) for name in reversed(above)),
    )


def _capitalised(name: str) -> str:
    return name[:1].upper() + (name[1:].lower() if name.isupper() or name.islower() else name[1:])
