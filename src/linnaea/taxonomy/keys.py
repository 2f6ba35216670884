"""Make the keys that names are compared by, in which spelling variants are equal. All functions return expressions."""

import polars as pl

_INFRASPECIFIC = (
    r"(?:subsp|ssp|subspecies|nothosubsp|var|variety|varietas|subvar|nothovar|f|fo|form|forma|subf|nothof|convar|natio)"
    r"\.?"
)


def name_key(name: pl.Expr) -> pl.Expr:
    """Return the key of a scientific name, in which spellings that the codes hold equal are equal.

    Lower case, without hyphens, apostrophes, hybrid signs, subgenera, diacritics and ligatures. The ranks below the
    species are left out, and of several such epithets the last one counts (ICN article 24.1).
    """
    key = (
        name.str.to_lowercase()
        .str.replace_all(rf" {_INFRASPECIFIC} \S+( {_INFRASPECIFIC} )", "$1")
        .str.replace_all(rf" {_INFRASPECIFIC} ", " ")
        .str.replace_all(r"[-.'’]|× ?|\bx ", "")
        .str.replace(r" \([^)]*\)", "")
    )
    for letters, plain in _PLAIN_LETTERS:
        key = key.str.replace_all(letters, plain)
    return key.str.replace_all(r"\s+", " ").str.strip_chars()


_PLAIN_LETTERS = (
    ("[äæ]", "ae"),
    ("[öœø]", "oe"),
    ("ü", "ue"),
    ("å", "ao"),
    ("[ëèéê]", "e"),
    ("[óôòõ]", "o"),
    ("[úùû]", "u"),
    ("[ïíîì]", "i"),
    ("[áàâã]", "a"),
    ("ç", "c"),
    ("ñ", "n"),
)


def epithet_stem(epithet: pl.Expr) -> pl.Expr:
    """Return an epithet without what varies in gender, genitive and spelling (albus, alba; smithi, smithii)."""
    single = epithet
    for letter in "bcdfglmnprst":
        single = single.str.replace_all(letter * 2, letter)
    return (
        single.str.replace_all("sch", "sh")
        .str.replace_all("ae|oe", "e")
        .str.replace_all("ph", "f")
        .str.replace_all("[yj]", "i")
        .str.replace_all("k", "c")
        .str.replace_all("w", "v")
        .str.replace_all("([rt])h", "$1")
        .str.replace("ii$", "i")
        .str.replace("(?:er|ra|rum)$", "r")
        .str.replace("(?:us|um|is|os|on|a|e|i|es)$", "")
    )


_SPELLINGS = (
    (r"\bgrey", "gray"),
    (r"colour", "color"),
    (r"sulfur", "sulphur"),
    (r"mould", "mold"),
    (r"lady ?birds?(?: beetles?)?\b|lady ?bugs?\b|lady beetles?\b", "ladybeetle"),
    (r"\bhawk ?moth", "hawkmoth"),
    (r"\bsaint\b", "st"),
)
"""Patterns of British and American spellings and of synonyms, with the word that replaces them."""

_LIFE_FORMS = r"(?:moth|butterfly|beetle|bird|fish|bug|fly|plant|tree|shrub|mushroom|fungus|frog|spider|snake|weed)"


def vernacular_key(name: pl.Expr) -> pl.Expr:
    """Return the key of a vernacular name: lower case, no accents, British and American spelling alike."""
    key = (
        name.str.normalize("NFKD")
        .str.replace_all(r"\p{M}", "")
        .str.to_lowercase()
        .str.replace_all(r"['’ʻ`]", "")
        .str.replace_all(r"[^\p{L}\p{N}]+", " ")
        .str.strip_chars()
    )
    for pattern, word in _SPELLINGS:
        key = key.str.replace_all(pattern, word)
    return key


def loose_vernacular_key(name: pl.Expr) -> pl.Expr:
    """Return :func:`vernacular_key` without possessives, plurals, spaces and a final life form ("... moth")."""
    possessive = name.str.replace_all(r"['’]s\b", "")
    words = vernacular_key(possessive).str.replace_all(r"(\p{L}{3})s\b", "$1")
    short = words.str.replace(rf" {_LIFE_FORMS}$", "")
    return pl.when(short.str.len_chars() > 2).then(short).otherwise(words).str.replace_all(" ", "")


def words_key(name: pl.Expr) -> pl.Expr:
    """Return the words of a vernacular name, sorted, without the endings of participles (spot, spotted)."""
    possessive = name.str.replace_all(r"['’]s\b", "")
    words = vernacular_key(possessive).str.replace_all(r"(\p{L}{3})s\b", "$1")
    stems = words.str.replace_all(r"(\p{L}{3})(?:tted|gged|pped|ed)\b", "$1").str.replace_all(
        r"(\p{L}{3})(?:t|g|p)\b", "$1"
    )
    return stems.str.split(" ").list.sort().list.join(" ")
