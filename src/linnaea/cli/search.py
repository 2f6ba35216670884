"""``linnaea search INDEX``: photographs by text, by taxon, by another photograph; near copies."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from linnaea.cli import DONE, Commands
from linnaea.cli.console import progress_bar
from linnaea.cli.tables import show_table
from linnaea.errors import LinnaeaError
from linnaea.taxonomy.taxon import TextType

if TYPE_CHECKING:
    from linnaea.model.encoder import Encoder


@dataclass(frozen=True, kw_only=True)
class Search:
    """Find photographs in an index."""

    index: tyro.conf.Positional[Path]
    """Folder that `linnaea index` made."""
    text: str = ""
    """What to look for, in words."""
    taxon: str = ""
    """Or a taxon: a name, whose lineage is looked up in the checklist."""
    image: Path | None = None
    """Or a photograph."""
    near_duplicates: float = 0.0
    """Or all pairs at least that alike (cosine; 0.98 is nearly the same picture)."""
    model: str = ""
    """The model of the index (default: where it was then)."""
    checklist: str = "inat"
    """Checklist for --taxon."""
    text_type: TextType = TextType.TAXON_COM
    """Caption form for --taxon."""
    top_k: int = 10
    """How many photographs."""
    exact: bool = False
    """Compare all, also where there are more than a million (otherwise faiss finds most of the nearest)."""
    device: str = "auto"
    """cpu, cuda, mps or auto."""

    def __post_init__(self) -> None:
        if sum(map(bool, (self.text, self.taxon, self.image, self.near_duplicates))) != 1:
            raise ValueError("give one of --text, --taxon, --image and --near-duplicates")
        if self.top_k < 1 or not 0 <= self.near_duplicates <= 1:
            raise ValueError("--top-k is at least 1, --near-duplicates lies between 0 and 1")


def search(options: Search) -> int:
    """Print the best first: score and file."""
    from linnaea.model.open import open_encoder
    from linnaea.predict.approximate import EXACT_UP_TO
    from linnaea.predict.index import Index

    index = Index.open(options.index)
    if options.near_duplicates:
        pairs = sorted(index.iter_pairs(options.near_duplicates), key=lambda pair: -pair[2])
        show_table(("score", "first", "second"), [(f"{score:.3f}", a, b) for a, b, score in pairs], right={"score"})
        return DONE
    model = open_encoder(options.model or index.facts["name"], device=options.device)
    if model.fingerprint != index.facts["model"]:
        raise LinnaeaError(f"{options.index}: is the index of another model, {index.facts['name']}; give that --model")
    if len(index) > EXACT_UP_TO and not options.exact:
        with progress_bar("preparing the search", "photographs") as on_progress:
            index.approximate(on_progress)
    hits = index.nearest(_query(options, model), options.top_k, exact=options.exact)
    show_table(("score", "photograph"), [(f"{hit.score:.3f}", hit.name) for hit in hits], right={"score"})
    return DONE


def _query(options: Search, model: "Encoder") -> Any:
    from linnaea.model.encode import encode_captions, encode_taxa, iter_encoded_images
    from linnaea.taxonomy.resolve import resolve_one

    if options.text:
        return encode_captions(model, [options.text])[0]
    if options.image is not None:
        ((_, vector),) = iter_encoded_images(model, [("query", options.image)])
        if isinstance(vector, LinnaeaError):
            raise LinnaeaError(f"{options.image}: {vector}") from vector
        return vector
    found = resolve_one(options.taxon, (options.checklist,))
    if found.taxon is None:
        raise LinnaeaError(f"{options.taxon}: {found.note or found.status}; try `linnaea taxonomy search`")
    return encode_taxa(model, [found.taxon], options.text_type)[0]


COMMANDS: Commands = {"": (Search, search)}
