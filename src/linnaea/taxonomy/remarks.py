"""Separate the name in a label from words that say something else: a life stage, a sex, a disease, a plumage.

Labels over one taxon that differ in such words are different classes ("Danaus plexippus larva", "Tomato___healthy").
Authors, other spellings and names in other languages are not remarks. All functions are pure and read the form alone.
"""

import re
from itertools import takewhile

from linnaea.taxonomy.doubts import cut_doubt
from linnaea.taxonomy.label_words import AUTHOR_WORDS, looks_latin
from linnaea.taxonomy.readings import tidy
from linnaea.taxonomy.taxon import Taxon

STAGES = frozenset((
    "adult", "adults", "juvenile", "juveniles", "immature", "immatures", "subadult", "subadults", "nestling",
    "nestlings", "chick", "chicks", "egg", "eggs", "larva", "larvae", "larval", "nymph", "nymphs", "pupa", "pupae",
    "pupal", "imago", "imagines", "caterpillar", "caterpillars", "chrysalis", "cocoon", "exuvia", "exuviae", "tadpole",
    "tadpoles", "fledgling", "hatchling", "instar", "seedling", "seedlings", "sapling", "saplings", "male", "males",
    "female", "females", "hermaphrodite", "breeding", "nonbreeding", "non-breeding", "cub", "cubs",
))  # fmt: skip
"""Words for life stages and sexes."""

STATES = frozenset((
    "healthy", "diseased", "disease", "infected", "damaged", "damage", "blight", "rust", "scab", "rot", "spot", "spots",
    "mildew", "mold", "mould", "mosaic", "wilt", "scorch", "canker", "anthracnose", "chlorosis", "lesion", "lesions",
    "deficiency", "dead", "wilted", "ripe", "unripe", "rotten", "fresh", "dry", "dried", "morph", "phase", "plumage",
    "worker", "workers", "queen", "queens", "soldier", "drone", "drones", "gall", "galls", "nest", "mine", "mines",
    "spring", "summer", "autumn", "fall", "winter", "feather", "feathers", "skull", "track", "tracks", "scat", "dung",
    "footprint", "footprints",
))  # fmt: skip
"""Words for the state of an organism, or for a trace of it."""

PARTS = frozenset((
    "sex", "flower", "flowers", "fruit", "fruits", "leaf", "leaves", "bark", "seed", "seeds", "stem", "root", "roots",
    "dorsal", "ventral", "lateral", "frontal", "left", "right", "front", "back", "top", "bottom", "side", "head",
    "wing", "wings", "tail", "habit",
))  # fmt: skip
"""Words for parts and views of an organism."""

PICTURES = frozenset((
    "day", "night", "dawn", "dusk", "field", "lab", "studio", "jpg", "jpeg", "png", "small", "large", "big", "copy",
    "specimen", "specimens", "image", "images", "img", "imgs", "photo", "photos", "picture", "pictures", "raw", "crop",
    "crops", "cropped", "original", "originals", "data", "camera", "cam", "site", "plot", "station", "trap", "location",
    "unknown", "unidentified", "other", "others", "misc", "unsorted",
))  # fmt: skip
"""Words for pictures, places and times. They never make a class of their own."""

REMARKS = STAGES | STATES | PARTS
"""Words that describe an organism and name none."""

_MARKERS = frozenset(("subsp", "ssp", "var", "f", "fo", "forma", "subvar", "cv", "x", "sp", "spp", "cf", "aff", "agg"))
_PARTICLES = frozenset(("de", "da", "do", "dos", "du", "la", "le", "di", "del", "della", "van", "von", "der", "den",
                        "ter", "zu", "zur", "af", "ex", "et", "in", "and", "auct", "non", "nec", "sensu",
                        "bis", "fil"))  # fmt: skip
"""Words in lower case that belong to authors."""
_AND = frozenset(("and", "or", "und", "et", "y"))
"""Words between two names of one label."""
_NUMBER = re.compile(r"^(?:\d+[._ -]+)+(?=\D)")
_INAT21 = re.compile(r"\d+(?:_[^_]*){7}")
_LINEAGE = re.compile(r"[;|<>]|(?<![^\W_])[kpcofgs]__")
_OF = re.compile(r"(\w+) (?:of|from) (\w.*)", re.IGNORECASE)
_PLACES = frozenset(("on", "with", "at", "near", "from", "under", "by", "of", "eating", "feeding"))
_FILE_ENDING = re.compile(r"\.(?:jpe?g|png|tiff?|gif)$", re.IGNORECASE)
_BRACKETS = re.compile(r"\(([^()]*)\)?|\[([^\[\]]*)\]?")
_WORD = re.compile(r"[^\W\d_][^\W_]*(?:[-'’.][^\W_]+)*\.?")
_CAMEL = re.compile(r"(?<=[a-zà-ÿ])(?=[A-Z])")
_GENUS = re.compile(r"[a-zë-]+(?:us|um|a|is|ys|es|os|as|ax|ix|yx|ops|on|er)", re.IGNORECASE)
_EPITHET = re.compile(r"[a-zë-]+(?:[^s]us|um|a|ae|is|ii?|[aei]ns|ense|oides|ax|ix)", re.IGNORECASE)
_HIGHER = re.compile(r"[A-Z][a-z]{2,}(?:us|um|a|is|ys|ops|idae|aceae)")


def split_remark(label: str) -> tuple[str, str]:
    """Return the part of a label that holds its name, and the words beside the name in lower case, or ``""``.

    Words for pictures, places and times belong to neither. A label in doubt is a name as a whole.

    >>> split_remark("Danaus_plexippus_larva"), split_remark("Tomato___Early_blight"), split_remark("Pica pica L.")
    (('Danaus plexippus', 'larva'), ('Tomato', 'early blight'), ('Pica pica L.', ''))
    """
    text = _FILE_ENDING.sub("", tidy(label))
    if _LINEAGE.search(text) or _INAT21.fullmatch(text) or _is_pair_of_names(text):
        return label, ""
    if cut_doubt(text.replace("_", " ")) is not None:  # the words of a doubt belong to the name
        return label, ""
    if match := _OF.fullmatch(text.replace("_", " ")):
        return (match[2], match[1].lower()) if match[1].lower() in REMARKS else (label, "")
    first, *fields = [field for field in re.split(r"_{2,}", _NUMBER.sub("", text)) if field.strip(" _")] or [text]
    main = first.replace("_", " ")
    plain = " ".join(_BRACKETS.sub(" ", main).split())
    words = _words(_CAMEL.sub(" ", plain) if " " not in plain else plain)
    n_words = _count_name_words(words)
    brackets = [match[1] or match[2] or "" for match in _BRACKETS.finditer(main)]
    remarks = [bracket for bracket in brackets if _is_remark(bracket, words)]
    beside = [field for field in fields if not _starts_with_binomial(_words(field))]
    found = [*words[n_words:], *(word for part in (*remarks, *beside) for word in _words(part))]
    if not found or not words:
        return label, ""
    name = ("" if " " not in plain else " ").join(words[:n_words])
    kept = "".join(f" ({bracket})" for bracket in brackets if bracket not in remarks)
    said = dict.fromkeys(word.lower().strip(".") for word in found)
    return name + kept, " ".join(word for word in said if word not in PICTURES)


def is_remark(label: str) -> bool:
    """Return whether a label has nothing but words that describe an organism ("larva", "adult male")."""
    words = {word.lower() for word in _words(_CAMEL.sub(" ", label))}
    return bool(words) and words <= REMARKS


def _is_pair_of_names(text: str) -> bool:
    """Return whether a label is a scientific name and a name in a language ("Turdus merula_Merle noir")."""
    parts = [part.replace("_", " ").strip() for part in (text.split("_") if " " in text else text.split("__"))]
    if len(parts) != 2 or not all(part[:1].isalpha() for part in parts):
        return False
    said = {word.lower() for part in parts for word in _words(part)}
    return any(_starts_with_binomial(_words(part)) for part in parts) and not said & REMARKS


def _words(text: str) -> list[str]:
    return _WORD.findall(text.replace("_", " "))


def _count_name_words(words: list[str]) -> int:
    """Return how many words at the start belong to the name; the others are a remark."""
    if _starts_with_binomial(words):
        rest = [word.lower() for word in words[2:]]
        if not set(rest) & REMARKS:
            lower = takewhile(lambda at: words[at].islower() and words[at] not in _AND, range(2, len(words)))
            return next((at for at in lower if _says_more(words, at)), len(words))
        first = next(at for at in range(2, len(words)) if words[at].lower() in REMARKS)
        while first > 2 and (_says_more(words, first - 1) or _is_capitalised(words, first - 1)):
            first -= 1
        return first
    n_words = len(words)
    while n_words > 1 and words[n_words - 1].lower() in STAGES:
        n_words -= 1
    return n_words


def _starts_with_binomial(words: list[str]) -> bool:
    """Return whether a genus and an epithet come first, by their form."""
    if len(words) < 2 or words[1].lower() in REMARKS:
        return False
    if words[1].islower() and len(words) > 2 and words[2].lower() in REMARKS and _GENUS.fullmatch(words[0]):
        return looks_latin(words[1]) or words[1].endswith(("ur", "or", "al"))
    return is_plainly_latin(words[0], words[1])


def is_plainly_latin(genus: str, epithet: str) -> bool:
    """Return whether two words are a genus and an epithet by their endings alone, whatever their capitals."""
    return bool(_GENUS.fullmatch(genus) and _EPITHET.fullmatch(epithet)) and looks_latin(epithet)


def _says_more(words: list[str], at: int) -> bool:
    """Return whether a word after a binomial belongs neither to a third epithet nor to an author."""
    word = words[at]
    if word in _PLACES:
        return True
    if not word.islower() or word.endswith(".") or word in _MARKERS or word in _PARTICLES:
        return False
    follows = words[at - 1].rstrip(".") in _MARKERS
    return not (follows or all(looks_latin(one) and one.islower() for one in words[2 : at + 1]))


def _is_capitalised(words: list[str], at: int) -> bool:
    """Return whether a word before a remark has a capital without being an author ("Vitis vinifera Black Rot")."""
    word = words[at]
    return words[1].islower() and word.istitle() and word.lower() not in AUTHOR_WORDS and not word.endswith(".")


def _is_remark(bracket: str, words: list[str]) -> bool:
    """Return whether a bracket after a name describes the organism; else it holds a name or an author."""
    said = {word.lower() for word in _words(bracket)}
    if not said or said & REMARKS:
        return bool(said)
    is_name = _starts_with_binomial(_words(bracket)) or _HIGHER.fullmatch(bracket.strip())
    return not (_starts_with_binomial(words) or is_name or re.search(r"\d|&", bracket))


def with_remark(taxon: Taxon, remark: str) -> Taxon:
    """Return the class of a taxon with a remark: its common name is the taxon's name with the remark.

    :func:`is_class_of_its_own` knows such a class of a species again.
    """
    name = taxon.name
    missing = [word for word in remark.split() if word not in name.lower().split()]
    return Taxon(taxon.lineage, common_name=" ".join([name, *missing])) if missing else taxon


def is_class_of_its_own(taxon: Taxon) -> bool:
    """Return whether a taxon is one of several classes of its species (:func:`with_remark`)."""
    return bool(taxon.species) and taxon.common_name.startswith(f"{taxon.scientific_name} ")
