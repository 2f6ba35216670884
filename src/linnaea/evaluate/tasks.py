"""The ten tasks of BioCLIP's evaluation (arXiv 2311.18803, table 3) as values: what each should hold.

Counts are those of the label files that the published scores come from, not those in the paper's table 2.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from linnaea.taxonomy.taxon import TextType

META_ALBUM = "Ullah et al., Meta-Album: multi-domain meta-dataset for few-shot image classification, NeurIPS 2022"
BIOCLIP = "Stevens et al., BioCLIP: a vision foundation model for the tree of life, CVPR 2024 (arXiv 2311.18803)"


@dataclass(frozen=True, kw_only=True)
class Task:
    """A published set of labelled photographs, and how the paper asks about it."""

    name: str
    """As on the command line: ``linnaea evaluate --task NAME``."""
    title: str
    """As in the paper's tables."""
    note: str
    """What it shows, in a line."""
    citation: str
    n_images: int
    n_classes: int
    text_type: TextType | Literal["asis"] = "asis"
    """Captions of the published scores; ``asis`` are the raw labels of the files, nothing corrected."""
    label_file: str = ""
    """Name of its table of labels, where the name is the same for everyone."""

    def __post_init__(self) -> None:
        if self.n_classes < 2 or self.n_images < self.n_classes:
            raise ValueError(f"task {self.name}: {self.n_images} images of {self.n_classes} classes cannot be")


def _meta_album(name: str, title: str, note: str, n_classes: int) -> Task:
    """A set of Meta-Album's Mini size: 40 images of every class, listed in ``labels.csv``."""
    return Task(
        name=name,
        title=title,
        note=note,
        citation=META_ALBUM,
        n_images=40 * n_classes,
        n_classes=n_classes,
        label_file="labels.csv",
    )


_TASKS = (
    Task(
        name="birds525",
        title="Birds 525",
        note="birds by common name, one sharp bird in the middle",
        citation="Piosenka, Birds 525 species: image classification, 2023 (test split)",
        n_images=2_625,
        n_classes=525,
    ),
    _meta_album("plankton", "Plankton", "plankton under an imaging flow cytometer, by scientific name or shape", 86),
    _meta_album("insects", "Insects", "insects by family, genus or species, with raw French labels among them", 104),
    _meta_album("insects2", "Insects 2", "agricultural pests, by common or scientific name", 102),
    _meta_album("plantnet", "PlantNet", "plants in the field, by scientific name", 25),
    _meta_album("fungi", "Fungi", "fungi in the field, by scientific name with author", 25),
    _meta_album("plantvillage", "PlantVillage", "single leaves, by crop and disease", 38),
    _meta_album("medicinal-leaf", "Medicinal Leaf", "single leaves on paper, by scientific and common name", 25),
    _meta_album("plantdoc", "PlantDoc", "leaves in the field, by crop and disease", 27),
    Task(
        name="rare-species",
        title="Rare Species",
        note="animals of the IUCN Red List that were kept out of TreeOfLife-10M",
        citation=BIOCLIP,
        n_images=11_983,
        n_classes=400,
        text_type=TextType.TAXON_COM,
    ),
)

TASKS: Mapping[str, Task] = MappingProxyType({task.name: task for task in _TASKS})
"""Every task by name, in the order of the paper's table."""
