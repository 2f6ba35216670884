"""Speed of the tree and of the difference of two checklists, on the embedded checklist (1.1 million species).

    python benchmarks/tree_speed.py [--without-diff]

Prints a Markdown table: what, seconds, and, where it can be done in minutes, the same in plain Python on a sample.
The second checklist of the difference is the first with 2% of the species in another genus, 1% of the ``-us``
epithets in another gender and 1% of the species gone, without synonyms, authors or ids: the hardest case, in which
only names are evidence. As the truth is known, it also prints how many of the renamed species were found and right.
"""

import resource
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import numpy as np
import polars as pl

from linnaea.taxonomy.changes import compare
from linnaea.taxonomy.checklists.store import Checklist, load_checklist
from linnaea.taxonomy.find import Finder
from linnaea.taxonomy.ranks import RANK_LABELS, Rank
from linnaea.taxonomy.tree import RankGroups, TaxonTree, depth_first, lca_heights, number_lineages

T = TypeVar("T")
N_PAIRS, N_SAMPLE, N_IMAGES = 5_000_000, 100_000, 16


def timed(what: str, run: Callable[[], T], note: str = "") -> T:
    """Run once, print a row."""
    start = time.perf_counter()
    result = run()
    print(f"| {what} | {time.perf_counter() - start:.2f} s | {note} |", flush=True)
    return result


def naive_heights(lineages: list[tuple[str, ...]], a: np.ndarray, b: np.ndarray) -> list[int]:
    """Pair by pair, name by name."""
    heights = []
    for one, other in zip(a.tolist(), b.tolist(), strict=True):
        meet = -1
        for rank, (name, other_name) in enumerate(zip(lineages[one], lineages[other], strict=True)):
            if name != other_name:
                break
            meet = rank if name else meet
        heights.append(int(Rank.SPECIES) - meet)
    return heights


def changed(checklist: Checklist) -> tuple[Checklist, pl.DataFrame]:
    """The same checklist a few years later, and the truth: old_row, truth (the new name) of what was renamed."""
    species, draw = pl.col("rank") == int(Rank.SPECIES), pl.col("name").hash(7) % 100
    genera = checklist.taxa.filter((pl.col("rank") == int(Rank.GENUS)) & (pl.col("family") != ""))
    first = genera.group_by("kingdom", "family").agg(other=pl.col("genus").first())
    taxa = checklist.taxa.with_columns(old_row=pl.int_range(pl.len(), dtype=pl.Int32), old_name="name")
    taxa = taxa.join(first, on=["kingdom", "family"], how="left", maintain_order="left")
    taxa = taxa.filter(~(species & (draw == 4))).with_columns(
        genus=pl.when(species & (draw < 2)).then(pl.coalesce("other", "genus")).otherwise("genus"),
        species=pl.when(species & (draw == 3)).then(pl.col("species").str.replace("us$", "a")).otherwise("species"),
        source_id=pl.lit(""),
    )
    taxa = taxa.with_columns(name=pl.when(species).then(pl.col("genus") + " " + pl.col("species")).otherwise("name"))
    taxa = depth_first(taxa.unique(RANK_LABELS, keep="first", maintain_order=True))
    truth = taxa.filter(pl.col("name") != pl.col("old_name")).select("old_row", truth="name")
    tree = TaxonTree.of(taxa)
    above = tree.parent[tree.lineage[:, -1]]
    parent = np.where(above > 0, tree.first_leaf[above], -1).astype(np.int32)
    taxa = taxa.with_columns(parent=pl.Series(parent)).select(checklist.taxa.columns)
    nothing = {"synonyms": checklist.synonyms.clear(), "vernaculars": checklist.vernaculars.clear()}
    return replace(checklist, version="later", taxa=taxa, **nothing), truth


def main() -> None:
    print("| what | time | note |\n|---|---|---|")
    checklist = timed("open the cached checklist", lambda: load_checklist("inat"), "the first time reads the source")
    checklist = timed("open it again", lambda: load_checklist("inat"), f"{len(checklist):,} taxa")
    tree = timed("build the tree", lambda: TaxonTree.of(checklist.taxa))
    draw = np.random.default_rng(0)
    lineages = checklist.taxa.select(pl.col(RANK_LABELS).fill_null("")).rows()
    number = timed("number the lineages", lambda: number_lineages(lineages))
    a, b = draw.integers(0, len(number), (2, N_PAIRS))
    met = timed("where two lineages meet", lambda: lca_heights(number[a], number[b]), f"{N_PAIRS:,} random pairs")
    sample = slice(N_SAMPLE)
    naive = timed("the same in plain Python", lambda: naive_heights(lineages, a[sample], b[sample]), f"{N_SAMPLE:,}")
    assert naive == met[sample].tolist()
    groups = timed("groups of all ranks", lambda: RankGroups.of(checklist.taxa))
    scores = draw.random((N_IMAGES, tree.n_leaves), dtype=np.float32)
    timed("sums at all seven ranks", lambda: groups.sums(scores), f"{N_IMAGES} x {tree.n_leaves:,} scores")
    timed("typo-tolerant search", lambda: Finder.of_checklist(checklist).search("Pica hudsonica"), "two words")
    if "--without-diff" not in sys.argv:
        later, truth = changed(checklist)
        checklist = replace(checklist, synonyms=checklist.synonyms.clear())
        changes = timed(
            "difference", lambda: compare(checklist, later).changes, f"{len(checklist):,} and {len(later):,} taxa"
        )
        counts = dict(changes["kind"].value_counts(sort=True).iter_rows())
        said = changes.filter((pl.col("kind") == "renamed") & (pl.col("rank") == "species"))
        right = said.join(truth, on="old_row").filter(pl.col("new_name") == pl.col("truth")).height
        print(f"\nrenamed species: {right:,} of {truth.height:,} found, {said.height - right:,} wrong")
        print(f"found: {', '.join(f'{n:,} {kind}' for kind, n in counts.items())}")
    print(f"\nmost memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.1f} GB")


if __name__ == "__main__":
    main()
