"""``linnaea taxonomy lineage | search | tree``: browse a checklist."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from linnaea.cli import DONE, Commands
from linnaea.cli.console import say, show_table, tell
from linnaea.errors import LinnaeaError, UsageError

if TYPE_CHECKING:
    from linnaea.taxonomy.browse import ListedTaxon
    from linnaea.taxonomy.find import Finder
    from linnaea.taxonomy.tree import TaxonTree

RankName = Literal["kingdom", "phylum", "class", "order", "family", "genus", "species"]
N_OTHER_NAMES = 12
"""The largest number of synonyms and of vernacular names printed for one taxon."""


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """Print the lineage of every taxon with a name."""

    name: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="NAME")]]
    """A scientific, synonym or vernacular name."""
    checklist: str = "inat"
    """Name or file of the checklist (see `linnaea taxonomy checklists`)."""
    rank: RankName | None = None
    """Only show taxa of this rank."""
    kingdom: str = ""
    """Only show taxa of this kingdom."""


def lineage(options: Lineage) -> int:
    """Print one block per taxon with the name."""
    from linnaea.taxonomy.browse import lineage

    taxa = lineage(**vars(options))
    tell("\n\n".join(map(_lineage_block, taxa)))
    if len(taxa) > 1:
        say(f"\n{len(taxa)} taxa have the name {options.name!r}; choose one with --rank or --kingdom.")
    return DONE


def _lineage_block(taxon: "ListedTaxon") -> str:
    name = " ".join(part for part in (taxon.name, taxon.authorship) if part)
    status = taxon.how if taxon.how == "accepted" else f"{taxon.how} {taxon.matched}"
    lines = [f"{name} ({taxon.rank}, {status}; {taxon.checklist})"]
    lines += [f"  {label:<9}{part}" for label, part in taxon.lineage.items()]
    if taxon.common_names:
        spoken = [f"{word} ({language})" if language else word for word, language in taxon.common_names]
        lines.append(f"  {'called':<9}{_some(spoken)}")
    if taxon.synonyms:
        lines.append(f"  {'synonyms':<9}{_some(list(taxon.synonyms))}")
    return "\n".join(lines)


def _some(names: list[str]) -> str:
    more = f", and {len(names) - N_OTHER_NAMES} more" if len(names) > N_OTHER_NAMES else ""
    return ", ".join(names[:N_OTHER_NAMES]) + more


@dataclass(frozen=True, kw_only=True)
class Search:
    """Find taxa by a misspelt or incomplete name."""

    text: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="TEXT")]]
    """A scientific, synonym or vernacular name, or part of it."""
    checklist: str = "inat"
    """Name or file of the checklist (see `linnaea taxonomy checklists`)."""
    top_k: int = 10
    """Largest number of taxa to print."""
    rank: RankName | None = None
    """Only show taxa of this rank."""

    def __post_init__(self) -> None:
        if self.top_k < 1:
            raise ValueError("--top-k must be at least 1")


def search(options: Search) -> int:
    """Print the taxa with the most similar names, best first."""
    from linnaea.taxonomy.browse import search_names

    found = search_names(**vars(options))
    if not found:
        raise LinnaeaError(f"no name in {options.checklist} is similar to {options.text!r}; try other words")
    rows = []
    for taxon in found:
        as_what = "" if taxon.how == "accepted" else f"{taxon.matched} ({taxon.how})"
        rows.append((taxon.name, taxon.rank, as_what, " > ".join(taxon.lineage), f"{taxon.score:.2f}"))
    show_table(("name", "rank", "found as", "lineage", "like"), rows, right=("like",))
    return DONE


@dataclass(frozen=True, kw_only=True)
class Tree:
    """Print a clade, or write it as an interactive page that works offline."""

    taxon: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="TAXON")]]
    """Name of the clade, or "life" for the whole tree."""
    checklist: str = "inat"
    """Name or file of the checklist (see `linnaea taxonomy checklists`)."""
    depth: int = 2
    """Number of levels to print."""
    limit: int = 30
    """Largest number of children to print per taxon, largest taxa first; 0 prints all."""
    plot: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """File to write instead of printing: a page with a treemap and a sunburst (.html), or a picture of a treemap (.png,
    .svg, .pdf)."""
    rank: RankName | None = None
    """Rank of the clade, if several taxa have the name."""
    kingdom: str = ""
    """Kingdom of the clade, if several taxa have the name."""

    def __post_init__(self) -> None:
        if self.depth < 0 or self.limit < 0:
            raise ValueError("--depth and --limit must not be negative")


def tree(options: Tree) -> int:
    """Print the clade, or write its page."""
    from linnaea.taxonomy.checklists.store import load_checklist
    from linnaea.taxonomy.find import Finder
    from linnaea.taxonomy.tree import ROOT, TaxonTree
    from linnaea.taxonomy.treemap import make_treemap_page
    from linnaea.taxonomy.treemap_picture import PICTURE_SUFFIXES, check_plot_path, write_treemap_picture

    if options.plot is not None:
        check_plot_path(options.plot)
    checklist = load_checklist(options.checklist)
    every = options.taxon.strip().lower() == "life"
    row = None if every else _find_row(Finder.of_checklist(checklist), options)
    whole = TaxonTree.of(checklist.taxa)
    top = ROOT if row is None else int(whole.lineage[row, -1])
    if options.plot is None:
        tell("\n".join(_drawn(whole, top, options.depth, options.limit)))
        return DONE
    source = f"{checklist.name} {checklist.version}".strip()
    if options.plot.suffix.lower() in PICTURE_SUFFIXES:
        write_treemap_picture(options.plot, whole, top, source=source)
        say(f"{options.plot}: a picture; with the ending .html it is a page to browse")
        return DONE
    make_treemap_page(whole, top, source=source).write(options.plot)
    say(f"{options.plot}: open it in a browser")
    return DONE


def _find_row(finder: "Finder", options: Tree) -> int:
    """Find the clade; unreadable text is a UsageError (exit 2), an unknown taxon a LinnaeaError (exit 1)."""
    from linnaea.taxonomy.find import parse_clade
    from linnaea.taxonomy.ranks import Rank

    parse_clade(options.taxon)
    try:
        rank = Rank.parse(options.rank) if options.rank else None
        return finder.one(options.taxon, rank=rank, kingdom=options.kingdom)
    except UsageError as error:
        raise LinnaeaError(str(error)) from error


def _drawn(tree: "TaxonTree", top: int, depth: int, limit: int) -> list[str]:
    from linnaea.taxonomy.treemap import count_species

    species = count_species(tree)
    lines = [_line(tree, top, int(species[top]))]

    def draw(node: int, level: int, indent: str) -> None:
        children = tree.children(node)
        # The largest children are printed in alphabetical order.
        shown = sorted(children[(-species[children]).argsort(kind="stable")][: limit or None].tolist())
        more = len(children) - len(shown)
        for number, child in enumerate(shown):
            last = number == len(shown) - 1 and not more
            lines.append(f"{indent}{'└─ ' if last else '├─ '}{_line(tree, child, int(species[child]))}")
            if level > 1:
                draw(child, level - 1, indent + ("   " if last else "│  "))
        if more:
            lines.append(f"{indent}└─ … and {more:,} more")

    if depth:
        draw(top, depth, "")
    return lines


def _line(tree: "TaxonTree", node: int, n_species: int) -> str:
    from linnaea.taxonomy.ranks import RANK_LABELS, Rank

    if tree.rank[node] < 0:
        return f"Life  {n_species:,} species"
    name = tree.scientific_names([node])[0]
    return name if tree.rank[node] == Rank.SPECIES else f"{name}  {RANK_LABELS[tree.rank[node]]}, {n_species:,} species"


COMMANDS: Commands = {"lineage": (Lineage, lineage), "search": (Search, search), "tree": (Tree, tree)}
