"""The common names of labels in the language that is asked for."""

from collections.abc import Sequence
from dataclasses import replace

import polars as pl

from linnaea.errors import UsageError
from linnaea.predict.labels import LabelBank
from linnaea.taxonomy.checklists.rows import find_spoken
from linnaea.taxonomy.checklists.store import load_checklist


def speak(bank: LabelBank, language: str, checklists: Sequence[str]) -> LabelBank:
    """Return the bank with the common names of a language, of the first checklist that has one for the species.

    Where no checklist has one, the name that the label has stays. Vectors and answers are the same.

    Raises:
        UsageError: none of the checklists has names in the language.
        LinnaeaError: there is no such checklist.
    """
    taxa = bank.taxa
    asked = taxa.select(name="scientific_name", rank=pl.lit("species"), kingdom=pl.col("kingdom").fill_null(""))
    found, errors = pl.repeat("", taxa.height, dtype=pl.String, eager=True), list[UsageError]()
    for name in checklists:
        try:
            more = find_spoken(load_checklist(name), asked, language)
        except UsageError as error:
            errors.append(error)
            continue
        found = pl.select(pl.when(found != "").then(found).otherwise(more))[:, 0]
    if len(errors) == len(checklists):
        raise errors[0] if errors else UsageError(f"--language {language}: needs a checklist with such names")
    named = pl.Series("found", found)
    common = pl.when((named != "") & (pl.col("species") != "")).then(named).otherwise(pl.col("common_name"))
    return replace(bank, taxa=taxa.with_columns(common_name=common))
