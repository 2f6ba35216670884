"""A raw label -> a name, or the reason why not. Pure functions."""

import re

from linnaea.taxonomy.taxon import Taxon

_INAT21_FOLDER = re.compile(r"\d+_" + "_".join([r"([^_]*)"] * 7))
_BINOMIAL = re.compile(r"([A-Z][a-z]+-?[a-z]+) ([a-z]{2,}(?:-[a-z]+)*)")


def taxon_from_label(label: str) -> Taxon | str:
    """A taxon from a label alone, without a checklist; or the reason why there is none.

    iNat21's class folders (``00017_Animalia_Arthropoda_..._Pica_hudsonia``) give the whole lineage, a binomial
    gives genus and species, anything else is a common name.
    """
    if match := _INAT21_FOLDER.fullmatch(label.strip()):
        lineage = tuple(name.strip() for name in match.groups())
        try:
            return Taxon(lineage)  # type: ignore[arg-type]
        except ValueError as error:
            return str(error)
    text = " ".join("".join(c if c.isprintable() else " " for c in label).replace("_", " ").split())
    if not text:
        return "the label is empty"
    if match := _BINOMIAL.fullmatch(text[:1].upper() + text[1:]):
        return Taxon.of(genus=match[1], species=match[2])
    return Taxon.of(common_name=text)
