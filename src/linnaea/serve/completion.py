"""Names for a field that completes them: of the answers and labels at once, of checklists as soon as they are read."""

import logging
import threading
from collections.abc import Iterable, Sequence
from typing import Any

import polars as pl

from linnaea.errors import LinnaeaError
from linnaea.taxonomy.checklists.store import load_checklist
from linnaea.taxonomy.columns import NAME_COLUMNS, answer_names
from linnaea.taxonomy.find import Finder
from linnaea.taxonomy.ranks import RANK_LABELS, Rank
from linnaea.taxonomy.taxon import Taxon

_log = logging.getLogger(__name__)


class Completion:
    """Taxa by the beginning of a name, scientific or common; the own taxa come before those of checklists."""

    def __init__(self, *taxa: Iterable[Taxon], checklists: Sequence[str] = ()) -> None:
        """Index lists of taxa; names of an earlier list come before those of a later one."""
        self._finders = [Finder.of_taxa(_table_of(of_one), "the taxa") for of_one in taxa]
        for finder in self._finders:
            finder.complete("a", 1)  # which indexes it
        self._lock, self._begun = threading.Lock(), False
        self._reading = threading.Thread(target=self._read, args=(tuple(checklists),), daemon=True)

    def begin(self) -> None:
        """Begin to read the checklists, in the background: a file that was not imported takes a while."""
        with self._lock:
            if not self._begun:
                self._begun = True
                self._reading.start()

    def _read(self, names: Sequence[str]) -> None:
        for name in names:
            try:
                finder = Finder.of_checklist(load_checklist(name))
            except LinnaeaError as error:
                _log.warning("%s", error)
            else:
                self._finders.append(finder)

    @property
    def is_ready(self) -> bool:
        """Return whether all checklists are read."""
        return self._begun and not self._reading.is_alive()

    def complete(self, text: str, limit: int = 12) -> list[dict[str, Any]]:
        """Return taxa as JSON, best first: columns of answers, rank, and the name that matched.

        A whole name comes before one that begins with the text, and that before one in which a word does.
        """
        found: dict[str, tuple[int, dict[str, Any]]] = {}
        for finder in [*self._finders]:
            for hit in finder.complete(text, limit).iter_rows(named=True):
                one = _describe(finder, hit)
                found.setdefault(one["name"], (_unlikeness(text, hit["matched"]), one))
        return [one for _, one in sorted(found.values(), key=lambda pair: pair[0])][:limit]


def _unlikeness(text: str, matched: str) -> int:
    """Return 0 if a name is the text, 1 if it begins with it, 2 if a word of it does, else 3."""
    asked, name = (" ".join(words.lower().replace("-", " ").split()) for words in (text, matched))
    return 0 if name == asked else 1 if name.startswith(asked) else 2 if f" {asked}" in name else 3


def _describe(finder: Finder, hit: dict[str, Any]) -> dict[str, Any]:
    """Return a taxon that completes a text as JSON; a common name is that of the taxon itself."""
    row = finder.taxa.row(hit["row"], named=True)
    whole = Taxon.of({label: row[label] or "" for label in RANK_LABELS}, common_name=row.get("common_name") or "")
    taxon = whole.at(Rank.parse(hit["rank"])) if any(whole.lineage) else whole
    if taxon.lineage == whole.lineage:
        taxon = whole
    return {"name": hit["name"], "rank": "" if taxon.rank is None else taxon.rank.label,
            "matched": "" if hit["matched"] in (hit["name"], taxon.common_name) else hit["matched"],
            "common_name": taxon.common_name, "taxon": answer_names(taxon)}  # fmt: skip


def _table_of(taxa: Iterable[Taxon]) -> pl.DataFrame:
    spoken_last = sorted(taxa, key=lambda taxon: bool(taxon.common_name))
    once = {taxon.lineage if any(taxon.lineage) else taxon: taxon for taxon in spoken_last}
    rows = [dict(zip(RANK_LABELS, taxon.lineage, strict=True))
            | {"scientific_name": taxon.scientific_name, "common_name": taxon.common_name}
            for taxon in once.values()]  # fmt: skip
    return pl.DataFrame(rows, schema=dict.fromkeys(NAME_COLUMNS, pl.String))
