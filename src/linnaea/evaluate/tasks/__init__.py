"""The published evaluation sets as values: expected contents, where to get them, and the published protocol.

They are the ten tasks of BioCLIP (arXiv 2311.18803, table 3), those that BioCLIP 2 (arXiv 2505.23883) adds, iNat21,
those of BioCAP (arXiv 2510.20095), INQUIRE, TerraIncognita and CrypticBio. Counts are those of the label files behind
the published scores, not those in table 2 of the first paper; a count is ``None`` if we could not verify it. Nothing is
downloaded: each task says where to get its data set.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Literal, TypeAlias

import polars as pl

from linnaea.counting import count
from linnaea.evaluate.tasks import layouts, newer_layouts
from linnaea.taxonomy.taxon import Taxon, TextType

Protocol: TypeAlias = Literal["classes", "transfer", "pairs", "traits", "discovery", "retrieval", "ranking"]
"""How a task is scored: zero-shot and few-shot classification; few-shot from a train split to a test split; binary
questions (NeWT); traits predicted from frozen features; category discovery; sentences of pictures and back (BioCAP);
pictures ranked by queries (INQUIRE)."""

META_ALBUM = "Ullah et al., Meta-Album: multi-domain meta-dataset for few-shot image classification, NeurIPS 2022"
BIOCLIP = "Stevens et al., BioCLIP: a vision foundation model for the tree of life, CVPR 2024 (arXiv 2311.18803)"
INAT21_NEWT = "Van Horn et al., Benchmarking representation learning for natural world image collections, CVPR 2021"
UNKNOWN_LICENCE = "not verified; see the data set's page"


@dataclass(frozen=True, kw_only=True)
class Task:
    """A published set of labelled photographs with its evaluation protocol."""

    name: str
    """The name on the command line: ``linnaea evaluate --task NAME``."""
    title: str
    """The name in the papers' tables."""
    note: str
    """What the photographs show, in one line."""
    citation: str
    where: str
    """The source of the data set: a page, or a site and the data set's name there."""
    licence: str = UNKNOWN_LICENCE
    read: Callable[[Path], pl.DataFrame] = field(repr=False)
    """The reader of the layout on disk (:mod:`linnaea.evaluate.tasks.layouts`)."""
    n_images: int | None = None
    n_classes: int | None = None
    text_type: TextType | Literal["asis"] = "asis"
    """Captions of the published scores; ``asis`` uses the raw labels of the files without corrections."""
    protocol: Protocol = "classes"
    template: str = "{}"
    """The published template of sentences and queries."""
    label_file: str = ""
    """Name of the table of labels, if it is always the same."""
    label_sha256: str | None = None
    """Checksum of the table of labels; ``None`` if we have not seen the published file."""
    context: tuple[tuple[str, str], ...] = ()
    """Taxa that all labels belong to, for name resolution: ``(("class", "Aves"),)``."""
    taxon_of: Mapping[str, Taxon] = field(default_factory=dict, repr=False)
    """The taxa of labels that are settled already, as those of a user's folder are."""
    n_traits: int | None = None
    """Number of traits or binary questions, for tasks that have them."""

    @property
    def needs_text(self) -> bool:
        """Return whether the task compares pictures with sentences."""
        return self.protocol in ("retrieval", "ranking")

    def __post_init__(self) -> None:
        n_images, n_classes = self.n_images, self.n_classes
        if n_classes is not None and (n_classes < 2 or (n_images is not None and n_images < n_classes)):
            images = "images" if n_images is None else count(n_images, "image", "")
            raise ValueError(f"task {self.name}: {images} cannot be of {count(n_classes, 'class', '')}")
        if self.label_sha256 and not self.label_file:
            raise ValueError(f"task {self.name}: label_sha256 needs label_file")


def _meta_album(name: str, title: str, code: str, note: str, n_classes: int, **context: str) -> Task:
    """Return a task of Meta-Album's size Mini: 40 images of every class, listed in ``labels.csv``."""
    return Task(
        name=name,
        title=title,
        note=note,
        citation=META_ALBUM,
        where=f"https://meta-album.github.io (set {code}, size Mini)",
        read=layouts.read_meta_album,
        n_images=40 * n_classes,
        n_classes=n_classes,
        label_file="labels.csv",
        context=tuple(context.items()),
    )


def _camera_trap(place: str, title: str) -> Task:
    return Task(
        name=f"camera-trap-{place.lower()}",
        title=f"Camera traps, {title}",
        note=f"camera-trap photographs of animals, {title}; one of five sets whose mean BioCLIP 2 reports",
        citation="HDR Imageomics Institute, IDLE-OO Camera Traps, 2025 (doi:10.57967/hf/5764)",
        where="doi:10.57967/hf/5764",
        read=partial(layouts.read_camera_trap, place=place),
        text_type=TextType.TAXON_COM,
        label_file=f"{place}-balanced.csv",
    )


def _sentences(name: str, title: str, file: str, n_images: int, n_sentences: int, sha256: str) -> Task:
    """Return a task of BioCAP, whose code puts a sentence behind "a photo of" without a space."""
    return Task(
        name=name,
        title=title,
        note="sentences on what is to be seen; each picture to its sentence, and back",
        citation="Zhang et al., BioCAP: exploiting synthetic captions beyond labels, 2025 (arXiv 2510.20095)",
        where=f"https://github.com/Imageomics/biocap (data/retrieval_annotations/{file})",
        read=partial(newer_layouts.read_sentences, name=file),
        n_images=n_images,
        n_classes=n_sentences,
        protocol="retrieval",
        template="a photo of{}",
        label_file=file,
        label_sha256=sha256,
    )


def _terra_incognita(part: str, note: str) -> Task:
    return Task(
        name=f"terra-incognita-{part.lower()}",
        title=f"TerraIncognita, {part.lower()}",
        note=note,
        citation="TerraIncognita: a dynamic benchmark for species discovery using frontier models, 2025"
        " (arXiv 2506.03182)",
        where="https://huggingface.co/datasets/BGLab/TerraIncognita",
        read=partial(newer_layouts.read_terra_incognita, part=part),
        text_type=TextType.TAXON_COM,
        label_file=f"metadata_{part.lower()}.csv",
    )


def _cryptic(name: str, title: str, note: str, *files: str, n_classes: int | None = None) -> Task:
    return Task(
        name=f"cryptic-{name}",
        title=f"CrypticBio, {title}",
        note=note,
        citation="Manolache et al., CrypticBio: a large multimodal dataset for visually confusing biodiversity, 2025"
        " (arXiv 2505.14707)",
        where="https://huggingface.co/datasets/gmanolache/CrypticBio (addresses of pictures)",
        read=partial(newer_layouts.read_cryptic, names=files),
        n_classes=n_classes,
        text_type=TextType.SCI,
    )


_TASKS = (
    Task(
        name="birds525",
        title="Birds 525",
        note="birds by common name, one bird centred in each photograph",
        citation="Piosenka, Birds 525 species: image classification, 2023 (test split)",
        where="Kaggle, data set gpiosenka/100-bird-species",
        read=layouts.read_test_folders,
        n_images=2_625,
        n_classes=525,
        context=(("class", "Aves"),),
    ),
    _meta_album("plankton", "Plankton", "PLK", "plankton by scientific name or shape", 86),
    _meta_album("insects", "Insects", "INS", "insects of all ranks, French labels among them", 104, kingdom="Animalia"),
    _meta_album(
        "insects2", "Insects 2", "INS_2", "agricultural pests, by common or scientific name", 102, kingdom="Animalia"
    ),
    _meta_album("plantnet", "PlantNet", "PLT_NET", "plants in the field", 25, kingdom="Plantae"),
    _meta_album("fungi", "Fungi", "FNG", "fungi in the field, by name with authorship", 25, kingdom="Fungi"),
    _meta_album("plantvillage", "PlantVillage", "PLT_VIL", "single leaves, by crop and disease", 38, kingdom="Plantae"),
    _meta_album("medicinal-leaf", "Medicinal Leaf", "MED_LF", "single leaves on paper", 25, kingdom="Plantae"),
    _meta_album("plantdoc", "PlantDoc", "PLT_DOC", "leaves in the field, by crop and disease", 27, kingdom="Plantae"),
    Task(
        name="rare-species",
        title="Rare Species",
        note="animals of the IUCN Red List that are excluded from TreeOfLife-10M",
        citation=BIOCLIP,
        where="doi:10.57967/hf/1981",
        licence="per image, in the data set's own list of licences",
        read=layouts.read_rare_species,
        n_images=11_983,
        n_classes=400,
        text_type=TextType.TAXON_COM,
        label_file="metadata.csv",
    ),
    Task(
        name="nabirds",
        title="NABirds",
        note="North American birds by common name, with separate classes for sexes and ages",
        citation="Van Horn et al., Building a bird recognition app and large scale dataset, CVPR 2015",
        where="https://dl.allaboutbirds.org/nabirds",
        read=layouts.read_nabirds,
        n_images=48_562,
        n_classes=555,
        context=(("class", "Aves"),),
    ),
    _camera_trap("desert-lion", "Desert Lion"),
    _camera_trap("ENA24", "ENA24"),
    _camera_trap("island", "Island Conservation"),
    _camera_trap("orinoquia", "Orinoquia"),
    _camera_trap("ohio-small-animals", "Ohio small animals"),
    Task(
        name="inat21",
        title="iNat21 validation",
        note="10,000 species of all kingdoms, ten photographs each; --seen scores seen and unseen species apart",
        citation=INAT21_NEWT,
        where="https://github.com/visipedia/inat_comp/tree/master/2021",
        read=layouts.read_inat21,
        n_images=100_000,
        n_classes=10_000,
        text_type=TextType.TAXON_COM,
        label_file="val.json",
    ),
    Task(
        name="fishnet",
        title="FishNet",
        note="feeding path, climate and habitat of fishes from frozen features; right if all nine traits are",
        citation="Khan et al., FishNet: a large-scale dataset and benchmark for fish recognition, ICCV 2023",
        where="https://fishnet-2023.github.io",
        read=layouts.read_fishnet,
        protocol="traits",
        n_traits=9,
    ),
    Task(
        name="newt",
        title="NeWT",
        note="164 binary questions on age, sex, behaviour, health and context",
        citation=INAT21_NEWT,
        where="https://github.com/visipedia/newt",
        read=layouts.read_newt,
        protocol="pairs",
        label_file="newt2021_labels.csv",
        n_traits=164,
    ),
    Task(
        name="awa2",
        title="AwA2",
        note="85 attributes of mammals from frozen features, tested on unseen classes",
        citation="Xian et al., Zero-shot learning: a comprehensive evaluation of the good, the bad and the ugly, 2019",
        where="https://cvml.ista.ac.at/AwA2",
        read=layouts.read_awa2,
        protocol="traits",
        n_traits=85,
    ),
    Task(
        name="herbarium19",
        title="Herbarium 19",
        note="category discovery on herbarium sheets, old and new classes",
        citation="Tan et al., The Herbarium challenge 2019 dataset, 2019; Vaze et al., CVPR 2022 (the protocol)",
        where="Kaggle, competition herbarium-2019-fgvc6 (the part called small)",
        read=layouts.read_herbarium19,
        protocol="discovery",
    ),
    Task(
        name="plantdoc-transfer",
        title="PlantDoc, train to test",
        note="one leaf per class of the train split, all of the test split (BioCLIP 2)",
        citation="Singh et al., PlantDoc: a dataset for visual plant disease detection, CODS-COMAD 2020",
        where="https://github.com/pratikkayal/PlantDoc-Dataset",
        read=layouts.read_plantdoc_transfer,
        protocol="transfer",
        context=(("kingdom", "Plantae"),),
    ),
    _sentences(
        "cornell-birds", "Cornell birds", "cornell_bird.csv", 7_007, 5_913,
        "54d4f93c358083118f90fbcd7ee4b87a169fdfaba8e03290dea6e2ce8e30fad2",
    ),
    _sentences(
        "plantid", "PlantID", "plantID.csv", 2_349, 2_349,
        "4ea37e7954bb1fae9bda303c8d2d1681db368b67fd7ac25c78aa37fafb39ce3e",
    ),
    Task(
        name="inquire-rerank",
        title="INQUIRE-Rerank",
        note="queries of experts, each with a hundred pictures of iNat24 to rank",
        citation="Vendrow et al., INQUIRE: a natural world text-to-image retrieval benchmark, NeurIPS 2024"
        " (arXiv 2411.02537)",
        where="https://huggingface.co/datasets/evendrow/INQUIRE-Rerank",
        licence="CC BY-NC 4.0",
        read=newer_layouts.read_inquire,
        n_images=16_000,
        protocol="ranking",
    ),
    _terra_incognita("Known", "insects that models may know, to the lowest rank that experts named"),
    _terra_incognita("Novel", "insects of rare or undescribed species, named to genus, family or order"),
    _cryptic("common", "common", "common species that are easily confused, by scientific name",
             "CrypticBio-Common.csv", n_classes=158),
    _cryptic("common-unseen", "common, unseen", "the same, photographed after models were trained",
             "CrypticBio-CommonUnseen.csv", n_classes=133),
    _cryptic("endangered", "endangered", "endangered species that are easily confused",
             "CrypticBio-Endangered.csv", "CrypticBio-Endagered.csv", n_classes=37),
    _cryptic("invasive", "invasive", "invasive species that are easily confused", "CrypticBio-Invasive.csv"),
)  # fmt: skip

TASKS: Mapping[str, Task] = MappingProxyType({task.name: task for task in _TASKS})
"""All tasks by name: the first paper's ten in the order of its table, then the others."""

FOLDER = Task(
    name="folder",
    title="A folder",
    note="your own photographs, one folder per class, labelled by the folder name",
    citation="",
    where="your own disk",
    licence="",
    read=layouts.read_folders,
)
"""The same protocol for any folder of class folders; it is not part of :data:`TASKS`."""

SENTENCES = Task(
    name="sentences",
    title="Sentences",
    note="your own photographs with a sentence each, listed in metadata.csv",
    citation="",
    where="your own disk",
    licence="",
    read=newer_layouts.read_sentences,
    protocol="retrieval",
    label_file="metadata.csv",
)
"""Retrieval for any list of pictures with sentences; it is not part of :data:`TASKS`."""
