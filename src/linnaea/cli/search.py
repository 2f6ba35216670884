"""``linnaea search INDEX``: find photographs by text, by taxon or by another photograph, and near-duplicates."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from linnaea.cli import DONE, Commands
from linnaea.cli.console import show_table
from linnaea.taxonomy.taxon import TextType


@dataclass(frozen=True, kw_only=True)
class Search:
    """Find photographs in an index."""

    index: tyro.conf.Positional[Path]
    """Folder that `linnaea index` made."""
    text: str = ""
    """Search for these words."""
    taxon: str = ""
    """Search for a taxon; its lineage is looked up in the checklist."""
    image: Path | None = None
    """Search for photographs similar to this one."""
    near_duplicates: float = 0.0
    """List all pairs with at least this cosine; at 0.98 the pictures are nearly the same."""
    model: str = ""
    """The model of the index, if it has moved since."""
    checklist: str = "inat"
    """Checklist for --taxon."""
    text_type: TextType = TextType.TAXON_COM
    """Caption form for --taxon."""
    top_k: int = 10
    """Number of photographs to list."""
    exact: bool = False
    """Compare all photographs even if there are more than a million (otherwise faiss finds most of the nearest)."""
    output: Path | None = None
    """File to write besides: .html is a page with the photographs, .csv a table."""
    device: str = "auto"
    """cpu, cuda, mps or auto."""

    def __post_init__(self) -> None:
        if self.near_duplicates and (self.text or self.taxon or self.image):
            raise ValueError("give one of --text, --taxon, --image and --near-duplicates")
        if not 0 <= self.near_duplicates <= 1:
            raise ValueError("--near-duplicates must be between 0 and 1")


def search(options: Search) -> int:
    """Print score and file of each match, best first."""
    from linnaea.predict.index import Index, search
    from linnaea.predict.outputs.found_page import check_found_path, write_found
    from linnaea.predict.outputs.rows import printable

    if options.output is not None:
        check_found_path(options.output)
    if options.near_duplicates:
        pairs = sorted(Index.open(options.index).iter_pairs(options.near_duplicates), key=lambda pair: -pair[2])
        show_table(
            ("score", "first", "second"),
            [(f"{score:.3f}", printable(a), printable(b)) for a, b, score in pairs],
            right={"score"},
        )
        if options.output is not None:
            write_found(options.output, "Near-duplicates", [], pairs)
        return DONE
    hits = search(**{name: value for name, value in vars(options).items() if name not in ("near_duplicates", "output")})
    if options.output is not None:
        what = options.text or options.taxon or printable(str(options.image))
        write_found(options.output, f"Photographs like: {what}", hits)
    show_table(("score", "photograph"), [(f"{hit.score:.3f}", printable(hit.name)) for hit in hits], right={"score"})
    return DONE


COMMANDS: Commands = {"": (Search, search)}
