"""``linnaea list-tol-taxa``: print the taxa of a published model's label bank as CSV, as pybioclip does."""

import csv
import sys
from dataclasses import dataclass

from linnaea.cli import DONE, Commands
from linnaea.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class ListTolTaxa:
    """Print the taxa of a published model's label bank as CSV, in its order, without fetching vectors and weights."""

    model: str = "bioclip-2"
    """bioclip, bioclip-2, bioclip-2.5, biocap, or one of these as hf-hub:ORG/NAME."""


def list_tol_taxa(options: ListTolTaxa) -> int:
    """Print a row for each taxon."""
    from linnaea.model.hub import PUBLISHED, find_published
    from linnaea.predict.published import fetch_published_names, iter_published_names

    published = find_published(options.model)
    if published is None:
        raise UsageError(f"{options.model}: has no published label bank; choose one of {', '.join(PUBLISHED)}")
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(("kingdom", "phylum", "class", "order", "family", "genus", "species_epithet", "species",
                    "common_name"))  # fmt: skip
    for lineage, common in iter_published_names(fetch_published_names(published)):
        table.writerow([*lineage, f"{lineage[-2]} {lineage[-1]}".strip(), common])
    return DONE


COMMANDS: Commands = {"": (ListTolTaxa, list_tol_taxa)}
