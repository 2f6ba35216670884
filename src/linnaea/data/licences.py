"""Licences: one identifier for the many spellings in sources, what it allows, and a line of attribution.

Identifiers follow SPDX if it has one (``CC-BY-NC-4.0``). The version is left out if the source names none; ported
versions count as unported. Licences are never guessed: one that cannot be read is :data:`UNCLEAR`.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import polars as pl

CC0, PUBLIC_DOMAIN, NO_KNOWN_RESTRICTIONS = "CC0-1.0", "public-domain", "no-known-restrictions"
ALL_RIGHTS_RESERVED, UNCLEAR, NONE_STATED = "all-rights-reserved", "unclear", "none-stated"

LICENCE_COLUMNS = ("licence", "license", "license_name", "license_link")
"""Facts that may state a licence (a part of ``sources.LICENCE_FACTS``)."""

_CREATORS = ("creator", "copyright_owner", "rights_holder", "owner")
_PLACES = ("references", "url", "identifier")
_EMPTY = {"", "-", "null", "none", "nan", "na", "n/a", "not applicable", "not provided", "unknown", "no license",
          "no licence", "not stated", "none stated", "none-stated", "unspecified"}  # fmt: skip

_ELEMENTS = {
    "by": ("by", "attribution"),
    "nc": ("nc", "noncommercial", "non commercial", "noncommercially", "no commercial"),
    "nd": ("nd", "noderivs", "noderivatives", "no derivs", "no derivatives", "no derivative", "non derivative"),
    "sa": ("sa", "sharealike", "share alike"),
}
_ONLY_ELEMENTS = (
    rf"(?:(?:{'|'.join(word for words in _ELEMENTS.values() for word in words)}|licen[cs]e|v|[1-4][. ][05]"
    r"|unported|international|generic)(?: |$))+"
)
_OTHERS: tuple[tuple[str, str], ...] = (
    (r"\bgfdl\b|gnu free documentation", "GFDL"),
    (r"\bogl\b|open government licen[cs]e", "OGL-UK"),
    (r"apache(?: licen[cs]e)? ?2|apache licen[cs]e|^apache$", "Apache-2.0"),
    (r"\bmit licen[cs]e\b|^mit$", "MIT"),
)


def normalise_licence(text: str) -> str:
    """Return the identifier of a licence in a source's spelling: a name, a sentence or a URL.

    ``"http://creativecommons.org/licenses/by-nc/4.0/"`` -> ``"CC-BY-NC-4.0"``, ``"cc-by"`` -> ``"CC-BY"``,
    ``"© J. Doe, all rights reserved"`` -> ``"all-rights-reserved"``, ``""`` -> ``"none-stated"``.
    """
    return _normalise(" ".join(text.split()).lower())


@lru_cache(maxsize=100_000)
def _normalise(text: str) -> str:
    if text.strip(" .") in _EMPTY:
        return NONE_STATED
    plain = re.sub(r"[\s_\-–—/:,;()\[\]+]+", " ", text.replace("no-deriv", "noderiv")).strip()
    # "CCBYNC4.0" is cut into its parts.
    plain = re.sub(r"(?<=[a-z])(?=[0-9])", " ", plain)
    plain = re.sub(r"\bcc(by)?(nc)?(nd|sa)?\b", lambda found: " ".join(["cc", *filter(None, found.groups())]), plain)
    if re.search(r"\bcc ?0\b|\bcc ?zero\b|publicdomain zero|creative ?commons zero|no rights reserved", plain):
        return CC0
    if creative := _creative_commons(plain):
        return creative
    return _without_creative_commons(text, plain)


def _creative_commons(plain: str) -> str:
    named = re.search(r"\bcc\b|creative ?commons", plain)
    elements = {name for name, words in _ELEMENTS.items() if re.search(rf"\b(?:{'|'.join(words)})\b", plain)}
    # Without the words "Creative Commons" the text must consist of licence words only: "by Jane Doe" is not a licence.
    alone = len(elements) > 1 or "licen" in plain or re.search(r"\d", plain)
    if not elements or not (named or (alone and re.fullmatch(_ONLY_ELEMENTS, plain))):
        return ""
    if {"nd", "sa"} <= elements:  # a contradiction
        return UNCLEAR
    version = re.search(r"(?<![\d.])([1-4])[. ]([05])(?![\d])", plain)
    parts = [name.upper() for name in ("by", "nc", "nd", "sa") if name in elements]
    return "-".join(["CC", *parts, *([f"{version[1]}.{version[2]}"] if version else [])])


def _without_creative_commons(text: str, plain: str) -> str:
    if re.search(
        r"no(?:t)?( known)? copyright|no known restrictions|nkcr?\b|rightsstatements.org vocab (noc|nkc)", plain
    ):
        return NO_KNOWN_RESTRICTIONS
    if re.search(r"(?<!not )(?<!not in the )public ?domain|^pd$|\bpdm\b|copyright (has )?expired", plain):
        return PUBLIC_DOMAIN
    for pattern, licence in _OTHERS:
        if re.search(pattern, plain):
            return licence
    reserved = r"all rights? reserved|alle rechte vorbehalten|tous droits réservés|todos los derechos reservados"
    if re.search(rf"{reserved}|rightsstatements.org vocab inc\b", plain):
        return ALL_RIGHTS_RESERVED
    if re.match(r"©|\(c\)|copyright", text) and not re.search(r"some rights|copyright free", text):
        return ALL_RIGHTS_RESERVED  # a notice without any permission
    return UNCLEAR


def permission(licence: str) -> str:
    """Return what an identifier allows: ``open`` (any use, including changes), ``non-commercial``, or ``closed``.

    No-derivatives licences are closed, because a resized, captioned photograph may count as a derivative. Unclear and
    unstated licences are closed too.
    """
    if licence in (ALL_RIGHTS_RESERVED, UNCLEAR, NONE_STATED) or "-ND" in licence:
        return "closed"
    return "non-commercial" if "-NC" in licence else "open"


def licence_of(facts: Mapping[str, str]) -> str:
    """Return the licence identifier in a record's facts; if several differ, the most restrictive one.

    If two allow the same, the one with a version is used: ``cc-by`` beside a link to ``by/3.0`` is ``CC-BY-3.0``.
    """
    stated = [normalise_licence(facts.get(name) or "") for name in LICENCE_COLUMNS]
    known = [licence for licence in stated if licence not in (NONE_STATED, UNCLEAR)]
    if not known:
        return UNCLEAR if UNCLEAR in stated else NONE_STATED
    strictness = {"open": 0, "non-commercial": 1, "closed": 2}
    return max(known, key=lambda licence: (strictness[permission(licence)], licence[-1].isdigit()))


@dataclass(frozen=True, kw_only=True)
class LicenceRule:
    """The rule for the licences that a data set may hold."""

    allow: str = "any"
    """``any``; ``open`` (any use); ``non-commercial`` (open, and licences for non-commercial use); or identifiers
    separated by commas, ``CC0-1.0,CC-BY`` (without a version: every version)."""

    def __post_init__(self) -> None:
        if not self.names:
            raise ValueError("licences: give any, open, non-commercial, or identifiers such as CC0-1.0,CC-BY")
        for name in self.names:
            if name not in ("any", "open", "non-commercial") and normalise_licence(name) == UNCLEAR != name:
                raise ValueError(f"licence {name!r} is unknown; give any, open, non-commercial, or CC0-1.0,CC-BY,...")

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name.strip() for name in self.allow.split(",") if name.strip())

    def allows(self, licence: str) -> bool:
        return any(_is_allowed(licence, name) for name in self.names)


def _is_allowed(licence: str, name: str) -> bool:
    match name:
        case "any":
            return True
        case "open":
            return permission(licence) == "open"
        case "non-commercial":
            return permission(licence) != "closed"
    wanted = name if name in (UNCLEAR, NONE_STATED, NO_KNOWN_RESTRICTIONS, PUBLIC_DOMAIN) else normalise_licence(name)
    return wanted in (licence, re.sub(r"-\d\.\d$", "", licence))


def licence_reason(facts: Mapping[str, str], rule: LicenceRule) -> str:
    """Return why a record with these facts is rejected, or ``""`` if it is allowed."""
    licence = licence_of(facts)
    if rule.allow == "any" or rule.allows(licence):
        return ""
    if licence == NONE_STATED:
        return f"no licence stated (allowed: {rule.allow})"
    return f"licence {licence} is not allowed (allowed: {rule.allow})"


def licence_link(licence: str) -> str:
    """Return the URL of a Creative Commons licence, or ``""`` for others."""
    if licence == CC0:
        return "https://creativecommons.org/publicdomain/zero/1.0/"
    if found := re.fullmatch(r"CC-([A-Z-]+)-(\d\.\d)", licence):
        # Only version 1.0 has the order nd-nc.
        elements = "nd-nc" if (found[1], found[2]) == ("BY-NC-ND", "1.0") else found[1].lower().removeprefix("by-")
        path = "by" if found[1] == "BY" else elements if not found[1].startswith("BY") else f"by-{elements}"
        return f"https://creativecommons.org/licenses/{path}/{found[2]}/"
    return ""


def attribution(facts: Mapping[str, str], licence: str = "") -> str:
    """Return the line to print beside a photograph: title, author, source, licence (Creative Commons' "TASL").

    ``"Pica hudsonia" by Jane Doe, https://example.org/1, CC-BY-4.0 (https://creativecommons.org/licenses/by/4.0/)``.
    Unknown parts are left out, except the author and the licence.
    """
    licence = licence or licence_of(facts)
    title, creator, place = (_first(facts, names) for names in (("title",), _CREATORS, _PLACES))
    link, quoted = licence_link(licence), f'"{title}"' if title else "Photograph"
    parts = [
        f"{quoted} by {creator or 'an author who is not named'}",
        place,
        "no licence stated" if licence == NONE_STATED else f"{licence} ({link})" if link else licence,
    ]
    return ", ".join(part for part in parts if part)


def _first(facts: Mapping[str, str], names: Iterable[str]) -> str:
    values = (" ".join((facts.get(name) or "").split()) for name in names)
    return next((value for value in values if value.lower() not in _EMPTY), "")


def describe_licences(table: pl.DataFrame) -> pl.DataFrame:
    """``licences.parquet`` with ``licence_id`` and ``attribution`` of every picture, from its other facts."""
    names = [name for name in table.columns if name not in ("key", "source", "licence_id", "attribution")]
    facts = table.select(names)
    ids, lines = list[str](), list[str]()
    for row in facts.iter_rows(named=True):
        ids.append(licence := licence_of(row))
        lines.append(attribution(row, licence))
    if not names:
        ids, lines = [NONE_STATED] * table.height, [attribution({})] * table.height
    return table.with_columns(pl.Series("licence_id", ids, pl.String), pl.Series("attribution", lines, pl.String))
