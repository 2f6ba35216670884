"""``linnaea pack RUN``: pack a model folder in half precision, with the label bank it answers with."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from linnaea.cli import DONE, Commands
from linnaea.cli.console import tell
from linnaea.counting import count
from linnaea.taxonomy.taxon import TextType


@dataclass(frozen=True, kw_only=True)
class Pack:
    """Pack a trained model and its encoded labels into a small folder that is ready to predict."""

    model: tyro.conf.Positional[str]
    """Folder of the run or of the model; with --image-only also a name, such as bioclip-2 or hf-hub:ORG/NAME."""
    output: Path
    """Folder to write: weights in half precision, vocabulary, labels/."""
    labels: Path | None = None
    """Taxa to answer with (a data set, a table, a file of names). Default: those it was trained on."""
    image_only: bool = False
    """Write the image tower alone, as ONNX, with the labels: for apps and machines without PyTorch."""
    int8: bool = False
    """Store the weights of --image-only in 8 bits: a quarter of the size, and nearly the same answers."""
    within: tuple[str, ...] = ()
    """Cut the labels of --image-only to clades, such as class:Aves. One more row for each group of other taxa keeps the
    probability of what was cut."""
    group_rank: Literal["kingdom", "phylum", "class", "order", "family", "genus"] = "genus"
    """Rank of these groups; with a higher one the labels are smaller and less exact."""
    resolve: bool = True
    """Resolve the names of a file of labels with the embedded checklist; --no-resolve keeps them as they are."""
    merge_by: Literal["class", "taxon"] = "class"
    """Labels over one taxon that differ in more than spelling, author or language (Danaus plexippus larva): class keeps
    them apart, taxon merges them."""
    species_only: bool = False
    """Leave out labels above species."""
    image_size: int = 0
    """Input size of the image tower in pixels; only convolutional towers can change it. 0 keeps it."""
    text_type: TextType = TextType.TAXON_COM
    """Caption form of the labels."""
    licence: str = ""
    """Licence of the weights for the model card, as the hub writes it: mit, cc0-1.0, cc-by-4.0."""
    push: str = ""
    """Repository of the hub to upload the folder to, OWNER/NAME (log in to the hub first)."""
    heads: Path | None = None
    """Run of class heads that the model was started from: species that were trained on get the mean of their caption's
    vector and their head's, which was learned from photographs. The head for orders is kept beside the labels."""
    int8_photographs: Path | None = None
    """Folder of at least 40 photographs like those that will be named: also write the image tower in 8 bits, calibrated
    on them, for --precision int8."""


def pack(options: Pack) -> int:
    """Pack the model, and print what the folder contains."""
    from linnaea.predict.pack import pack

    packed = pack(
        options.model,
        options.output,
        labels=options.labels,
        heads=options.heads,
        within=options.within,
        image_only=options.image_only,
        int8=options.int8,
        group_rank=options.group_rank,
        species_only=options.species_only,
        image_size=options.image_size,
        text_type=options.text_type,
        resolve=options.resolve,
        merge_by=options.merge_by,
        licence=options.licence,
        push=options.push,
        int8_photographs=options.int8_photographs,
    )
    size = f"{count(packed.n_labels, 'label')}, {packed.n_bytes / 1e6:.1f} MB"
    tell(f"{packed.n_parameters:,} parameters, {size}: {packed.folder}")
    if packed.address:
        tell(f"pushed: {packed.address}")
    return DONE


COMMANDS: Commands = {"": (Pack, pack)}
