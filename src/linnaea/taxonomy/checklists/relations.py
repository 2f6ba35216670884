"""Find the parent of each usage and the accepted usage that a synonym stands for, by id or by name."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import polars as pl

from linnaea.taxonomy.checklists.records import BELOW_SPECIES, IdIndex, Rows, in_parts, with_categories
from linnaea.taxonomy.keys import name_key
from linnaea.taxonomy.name_parser import split_authors

ACCEPTED, BROKEN = -1, -2
_MAX_CHAIN = 50
"""Steps from a synonym to its accepted name; published chains have two or three."""

NOWHERE = "its accepted name is not in the list"
UNNAMED = "a synonym without an accepted name"
SEVERAL = "its accepted name is that of several taxa"
DEAD_END = "its chain of accepted names ends in a name that is not accepted"
ENDLESS = "its chain of accepted names does not end"


@dataclass(frozen=True, kw_only=True)
class Relations:
    """The parent and the accepted usage of each usage of a table, by row."""

    parent: Rows
    """The accepted row above; -1 for none."""
    accepted: Rows
    """Of a synonym the row of its accepted name; :data:`ACCEPTED` or :data:`BROKEN`."""
    reason: pl.Series
    """Why a synonym is broken; ``""`` for all others."""
    n_own_parents: int
    """The number of usages that are their own parent."""
    ids_may_repeat: bool
    """True if two usages may have the same id."""


def find_relations(usages: pl.DataFrame) -> Relations:
    """Return the relations of usages.

    Their columns are ``id, parent, accepted, parent_name, accepted_name, full, name, authorship, rank, kingdom``,
    ``family`` and ``synonym``, whether the row says that it is one.

    A reference is an id; one that is not in the list is taken as a name. Synonyms of synonyms are followed to the end.
    """
    index = _Index.of(usages)
    direct, several = index.find(usages, "accepted", "accepted_name", own=True)
    named = _says(usages, "accepted", "accepted_name")
    parent, _ = index.find(usages, "parent", "parent_name")
    rows = np.arange(usages.height, dtype=np.int32)
    says_synonym = usages["synonym"].to_numpy()
    # Some archives give the accepted name of a synonym as its parent.
    peer = _same_level(usages["rank"], parent, says_synonym & ~named & (parent >= 0))
    direct = np.where(peer, parent, direct)
    itself = direct == rows
    is_synonym = (named & ~itself) | says_synonym
    direct = np.where(is_synonym, np.where((direct < 0) | itself, BROKEN, direct), ACCEPTED)
    target, endless = _follow(direct)
    no_name = is_synonym & (target == BROKEN)
    codes = np.select(
        [endless, no_name & ((~named & ~peer) | itself), no_name & several, no_name & (direct >= 0), no_name],
        [np.uint8(code) for code in (1, 2, 3, 5, 4)],
        np.uint8(0),
    )
    texts = pl.Series(["", ENDLESS, UNNAMED, SEVERAL, NOWHERE, DEAD_END]).cast(pl.Categorical)
    own_parent = parent == rows
    above = np.where(own_parent, -1, parent)
    above = np.where((above >= 0) & (target[above] >= 0), target[above], above)
    above = np.where((above >= 0) & (target[above] == BROKEN), -1, above)
    above = np.where(above == rows, -1, above)
    return Relations(
        parent=above,
        accepted=target,
        reason=texts.gather(pl.Series(codes)),
        n_own_parents=int(own_parent.sum()),
        ids_may_repeat=index.ids.may_repeat(),
    )


def adopt_orphans(usages: pl.DataFrame, relations: Relations) -> Rows:
    """Return the parents of usages, where names without a parent and a family hang below their species or genus.

    Some writers give a species no parent, or a trinomial itself. The row above is the one accepted row with that name.
    """
    accepted = relations.accepted == ACCEPTED
    low = usages["rank"].is_in(("species", *BELOW_SPECIES)) & (usages["family"] == "")
    orphans = np.flatnonzero(accepted & (relations.parent < 0) & low.to_numpy())
    if not len(orphans):
        return relations.parent
    rank = usages["rank"].cast(pl.String)
    rank = rank.replace_strict(dict.fromkeys(BELOW_SPECIES, "below"), default=rank)
    parent = relations.parent.copy()
    above = usages.select(key=name_key(pl.col("name")), rank=rank).with_row_index("at")
    above = above.filter(pl.Series(accepted) & pl.col("rank").is_in(("genus", "species")))
    above = above.unique(["rank", "key"], keep="none")
    own = usages[orphans].select(key=name_key(pl.col("name")), rank=rank[orphans], row=pl.Series(orphans))
    words = pl.col("key").str.extract(r"^(\S+ \S+) ")
    parts = [
        own.filter(pl.col("rank") == "below").with_columns(key=words, rank=pl.lit("species")),
        own.filter(pl.col("rank") == "species").with_columns(
            key=pl.col("key").str.extract(r"^(\S+) "), rank=pl.lit("genus")
        ),
    ]
    found = pl.concat(parts).join(above, on=["rank", "key"])
    parent[found["row"].to_numpy()] = found["at"].to_numpy()
    return parent


def _says(usages: pl.DataFrame, *columns: str) -> npt.NDArray[np.bool_]:
    return usages.select(pl.any_horizontal(pl.col(column) != "" for column in columns)).to_series().to_numpy()


def _same_level(rank: pl.Series, parent: Rows, asked: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return which of the rows that are asked for have a parent of their own rank."""
    same, at = asked.copy(), np.flatnonzero(asked)
    own, above = (rank.gather(pl.Series(rows)).cast(pl.String) for rows in (at, parent[at]))
    own, above = (one.replace_strict(dict.fromkeys(BELOW_SPECIES, "species"), default=one) for one in (own, above))
    same[at] = (own == above).to_numpy()
    return same


def _follow(direct: Rows) -> tuple[Rows, npt.NDArray[np.bool_]]:
    """Return the ends of chains, and which chains go in a circle."""
    target = direct.copy()
    for _ in range(_MAX_CHAIN):
        at = np.flatnonzero(target >= 0)
        at = at[direct[target[at]] != ACCEPTED]
        if not len(at):
            break
        target[at] = direct[target[at]]
    at = np.flatnonzero(target >= 0)
    endless = np.zeros(len(direct), bool)
    endless[at[direct[target[at]] != ACCEPTED]] = True
    return np.where(endless, BROKEN, target), endless


@dataclass(frozen=True, kw_only=True)
class _Index:
    """The rows of a table by id and, where it is asked, by name."""

    ids: IdIndex
    usages: pl.DataFrame

    @classmethod
    def of(cls, usages: pl.DataFrame) -> "_Index":
        return cls(ids=IdIndex(usages["id"]), usages=usages)

    def find(
        self, usages: pl.DataFrame, by_id: str, by_name: str, own: bool = False
    ) -> tuple[Rows, npt.NDArray[np.bool_]]:
        """Return the row that each usage refers to (-1 for none), and which names are those of several taxa.

        With ``own``, a usage that names itself refers to itself, whatever else has its name.
        """
        rows = self.ids.find(usages[by_id])
        several = np.zeros(len(rows), bool)
        for column in (by_name, by_id):
            open_ = np.flatnonzero((rows < 0) & (usages[column] != "").to_numpy())
            if not len(open_):
                continue
            key = usages[column].gather(pl.Series(open_)).cast(pl.String)
            asked = usages.select(*_ASKED)[open_].with_columns(key=key, row=pl.Series(open_))
            found = self.ids.find(key)
            named, ambiguous = self._by_name(asked.filter(pl.Series(found < 0)), own)
            found[found < 0] = named
            several[open_[found < 0]] = ambiguous[named < 0] if len(named) else False
            rows[open_] = found
        return rows, several

    def _by_name(self, asked: pl.DataFrame, own: bool) -> tuple[Rows, npt.NDArray[np.bool_]]:
        if asked.is_empty():
            return np.zeros(0, np.int32), np.zeros(0, bool)
        plain = split_authors(asked["key"])["name"].str.replace_all("†", "").str.strip_chars()
        asked = with_categories(asked).with_columns(plain=plain).with_row_index("ask")
        names = self.usages.select("full", "name", "synonym", "authorship", *_NEAR).with_row_index("at")
        best = pl.DataFrame(schema={"ask": pl.UInt32, "at": pl.UInt32})
        several = np.zeros(asked.height, bool)
        if own:
            mine = asked.filter(
                (pl.col("key") == pl.col("full")) | ((pl.col("plain") == pl.col("name")) & ~pl.col("synonym"))
            )
            best = mine.select("ask", at=pl.col("row").cast(pl.UInt32))
        for left, right in (("key", pl.col("full")), ("key", _WRITTEN), ("plain", pl.col("name"))):
            left_over = asked.join(best, on="ask", how="anti")
            wanted = left_over.select("ask", "row", *_NEAR, key=left).filter(pl.col("key") != "")
            there = in_parts(names, partial(_named, by=right, wanted=wanted.select("key").unique()))
            there = there.rename({c: f"{c}_there" for c in _NEAR})
            crowded = there.filter(pl.len().over("key") > _MOST_HOMONYMS).select("key").unique()
            several[wanted.join(crowded, on="key", how="semi")["ask"].to_numpy()] = True
            pairs = wanted.join(there.join(crowded, on="key", how="anti"), on="key").filter(
                pl.col("at") != pl.col("row")
            )
            chosen = _choose(pairs)
            several[pairs.join(chosen, on="ask", how="anti")["ask"].to_numpy()] = True
            best = pl.concat([best, chosen])
        rows = np.full(asked.height, -1, np.int32)
        rows[best["ask"].to_numpy()] = best["at"].to_numpy()
        return rows, several & (rows < 0)


_NEAR = ("kingdom", "family")
_ASKED = ("full", "name", "synonym", *_NEAR)
_MOST_HOMONYMS = 50
"""Rows with one name that are compared; a name of more rows says nothing."""


_WRITTEN = pl.concat_str("name", pl.lit(" "), "authorship")


def _named(names: pl.DataFrame, by: pl.Expr, wanted: pl.DataFrame) -> pl.DataFrame:
    return names.select("at", "synonym", *_NEAR, key=by).join(wanted, on="key", how="semi", maintain_order="left")


def _choose(pairs: pl.DataFrame) -> pl.DataFrame:
    """Return the one row for each name: accepted before synonyms, then those of the same kingdom and family."""
    near = pl.sum_horizontal(
        ((pl.col(c) != "") & (pl.col(c) == pl.col(f"{c}_there"))).cast(pl.Int8) for c in _NEAR
    )  # fmt: skip
    scored = pairs.with_columns(score=near + 4 * (~pl.col("synonym")).cast(pl.Int8))
    scored = scored.filter(pl.col("score") == pl.col("score").max().over("ask"))
    return scored.filter(pl.len().over("ask") == 1).select("ask", "at")
