"""A small artificial tree of life, drawn procedurally: data for the demo and for tests.

Each visible trait is fixed at one rank of a tree of seven ranks (:class:`~linnaea.data.drawing.Traits`). Relatives
look alike, so the genus of an unseen species can be recognised. Everything is a function of the seed.
"""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import cv2
import numpy as np
import simplejpeg

from linnaea.data.drawing import ORNAMENTS, Traits, draw_photograph
from linnaea.data.engine import LocalEngine
from linnaea.jobs import OnProgress, claim_folder, ignore_progress
from linnaea.storage import remove_partial_files, write_atomically
from linnaea.taxonomy.ranks import RANK_LABELS
from linnaea.taxonomy.taxon import Taxon

MARKER = "synthetic.json"
TABLE = "metadata.csv"
SPECIES_PER_GENUS = 5
GENERA_PER_FAMILY = 3
MIN_SPECIES = 8
N_UNSEEN_STEP = 8
"""One species in eight is held out with all its photographs."""

CLADES = (
    ("Animaria", "Pterozoa", "Lepismata", "moth", ("gliders", "emperors")),
    ("Animaria", "Pterozoa", "Coleata", "beetle", ("diggers", "armourers")),
    ("Animaria", "Natatozoa", "Pinnata", "fish", ("darters", "sailors")),
    ("Plantaria", "Florophyta", "Petalopsida", "flower", ("bells", "stars")),
    ("Plantaria", "Florophyta", "Foliopsida", "leaves", ("ferns", "laurels")),
    ("Fungaria", "Pileomycota", "Pileomycetes", "mushroom", ("caps", "parasols")),
)
"""Kingdom, phylum, class, body plan, and the English nouns of its families."""

HUE_WORDS = ("scarlet", "copper", "golden", "lime", "emerald", "jade", "azure", "cobalt", "violet", "rose")
SPECIES_WORDS = ("Common", "Painted", "Lesser", "Great", "Royal", "Shy", "Northern", "Marsh", "Island", "Lonely")
ORNAMENT_WORDS = {"bands": "banded", "spots": "spotted", "rings": "ringed", "halves": "rayed", "checks": "checkered"}
ONSETS = ("b", "c", "d", "f", "g", "l", "m", "n", "p", "r", "s", "t", "v", "pr", "tr", "cr", "gl", "st", "ph", "th")
VOWELS = ("a", "e", "i", "o", "u", "ae", "y")
CODAS = ("", "l", "n", "r", "s", "x", "")
COUNTS, PALES, ACCENT_SHIFTS = (2, 5, 3, 6, 4), (0.1, 0.7, 0.55, 0.25, 0.85), (0.0, 0.04, -0.04, 0.07, -0.07)
"""The differences between species of a genus: density of the pattern, lightness, a shade of its colour."""
EPITHET_ENDINGS = ("us", "a", "ensis", "atus", "ella", "oides", "ifer", "icus")
FAMILY_ENDING = {"Animaria": "idae", "Plantaria": "aceae", "Fungaria": "aceae"}
ORDER_ENDING = {"Animaria": "iformes", "Plantaria": "ales", "Fungaria": "ales"}


@dataclass(frozen=True, kw_only=True)
class SyntheticConfig:
    """The size of the tree of life to draw."""

    n_species: int = 240
    n_images: int = 16
    """Photographs per species."""
    size: int = 96
    """Width and height of the photographs, in pixels."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.n_species < MIN_SPECIES or self.n_images < 1 or self.size < 16:
            raise ValueError(f"needs at least {MIN_SPECIES} species, 1 photograph of each, and 16 pixels")


@dataclass(frozen=True, kw_only=True)
class SyntheticSpecies:
    """One species: its place in the tree, its appearance, and whether it is held out."""

    taxon: Taxon
    traits: Traits
    unseen: bool


@dataclass(frozen=True, kw_only=True)
class SyntheticSummary:
    n_images: int
    n_species: int
    n_genera: int
    n_families: int


def synthesize(
    directory: Path,
    config: SyntheticConfig,
    *,
    n_workers: int = 0,
    on_progress: OnProgress = ignore_progress,
) -> SyntheticSummary:
    """Draw a tree of life into ``directory``: class folders with names as in iNat21, and ``metadata.csv``.

    The table is written last. The same command resumes an interrupted drawing and leaves a finished one unchanged; the
    files do not depend on the number of workers.

    Raises:
        LinnaeaError: the folder holds something else.
    """
    species = make_species(config)
    options = json.dumps(asdict(config), indent=1)
    claim_folder(directory, MARKER, options, kind="a drawing", remedy="choose another folder")
    if not (directory / TABLE).exists():
        _draw_all(directory, config, species, n_workers, on_progress)
        write_atomically(directory / TABLE, _make_table(config, species))
    lineages = [s.taxon.lineage for s in species]
    return SyntheticSummary(
        n_images=config.n_species * config.n_images,
        n_species=len(species),
        n_genera=len({lineage[:6] for lineage in lineages}),
        n_families=len({lineage[:5] for lineage in lineages}),
    )


def make_species(config: SyntheticConfig) -> list[SyntheticSpecies]:
    """Return all species of the tree in depth-first order."""
    rng = np.random.default_rng([config.seed, 1])
    words = _Words(rng)
    n_genera = -(-config.n_species // SPECIES_PER_GENUS)
    genera = _make_genera(n_genera, words)
    species: list[SyntheticSpecies] = []
    for number in range(config.n_species):
        # Round-robin over genera, so that their sizes differ by at most one.
        genus, place = genera[number % n_genera], number // n_genera
        species.append(genus.make_species(place, words))
    species.sort(key=lambda s: s.taxon.lineage)
    held_out = _choose_unseen(species)
    return [SyntheticSpecies(taxon=s.taxon, traits=s.traits, unseen=i in held_out) for i, s in enumerate(species)]


@dataclass(frozen=True, kw_only=True)
class _Genus:
    lineage: tuple[str, ...]
    noun: str
    plan: str
    parts: int
    slender: float
    curl: float
    hue: float
    ornament: str
    accent: float

    def make_species(self, place: int, words: "_Words") -> SyntheticSpecies:
        hue_word = HUE_WORDS[int(self.hue * len(HUE_WORDS)) % len(HUE_WORDS)]
        name = f"{SPECIES_WORDS[place % len(SPECIES_WORDS)]} {ORNAMENT_WORDS[self.ornament]} {hue_word} {self.noun}"
        lineage = (*self.lineage, words.make(2, EPITHET_ENDINGS))
        traits = Traits(
            plan=self.plan,
            parts=self.parts,
            slender=self.slender,
            curl=self.curl,
            hue=self.hue,
            ornament=self.ornament,
            accent=self.accent + ACCENT_SHIFTS[place % len(ACCENT_SHIFTS)],
            count=COUNTS[place % len(COUNTS)],
            pale=PALES[place % len(PALES)],
        )
        return SyntheticSpecies(
            taxon=Taxon(lineage, common_name=words.make_unique(name)),  # type: ignore[arg-type]
            traits=traits,
            unseen=False,
        )


def _make_genera(n_genera: int, words: "_Words") -> list[_Genus]:
    """Distribute genera over clades, with two orders per clade and families as needed."""
    n_families = max(len(CLADES) if n_genera >= len(CLADES) else 1, -(-n_genera // GENERA_PER_FAMILY))
    families = []
    orders: dict[tuple[int, int], str] = {}
    for number in range(n_families):
        clade, place = number % len(CLADES), number // len(CLADES)
        kingdom, phylum, class_, plan, nouns = CLADES[clade]
        slot = (clade, place % 2)
        order = orders.setdefault(slot, words.make(2, (ORDER_ENDING[kingdom],)))
        lineage = (kingdom, phylum, class_, order, words.make(2, (FAMILY_ENDING[kingdom],)))
        parts = (3, 6)[slot[1]] + (2 if plan == "flower" else 0)
        slender, curl = ((0.1, 0.1), (0.9, 0.8), (0.15, 0.95), (0.85, 0.1))[place % 4]
        families.append((lineage, nouns[slot[1]].removesuffix("s"), plan, parts, slender, curl))
    genera = []
    for number in range(n_genera):
        lineage, noun, plan, parts, slender, curl = families[number % n_families]
        place = number // n_families
        hue = (0.62 * place + 0.17 * (number % n_families)) % 1.0
        accent = hue + (0.5, 0.33, 0.67)[(place + number) % 3]
        genera.append(
            _Genus(
                lineage=(*lineage, words.make(2, ("us", "a", "is", "ia", "or"))), noun=noun, plan=plan, parts=parts,
                slender=slender, curl=curl, hue=hue, accent=accent,
                ornament=ORNAMENTS[(place + number % n_families) % len(ORNAMENTS)],
            )
        )  # fmt: skip
    return genera


class _Words:
    """A generator of Latin-like words, each returned once."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._given: set[str] = set()

    def make(self, n_syllables: int, endings: tuple[str, ...]) -> str:
        while True:
            syllables = [self._pick(ONSETS) + self._pick(VOWELS) + self._pick(CODAS) for _ in range(n_syllables)]
            word = "".join(syllables).rstrip("aeiouy") + self._pick(endings)
            if endings is not EPITHET_ENDINGS:
                word = word.capitalize()
            if word.lower() not in self._given:
                self._given.add(word.lower())
                return word

    def make_unique(self, name: str) -> str:
        """Return ``name``, with a word before it if it was returned already."""
        for prefix in ("", "Eastern ", "Western ", "Southern ", "Dwarf ", "Giant ", "Mountain ", "River "):
            candidate = prefix + (name if not prefix else name[0].lower() + name[1:])
            if candidate not in self._given:
                self._given.add(candidate)
                return candidate
        return self.make_unique(f"{self.make(2, ('ish',))} {name}")

    def _pick(self, choices: tuple[str, ...]) -> str:
        return choices[self._rng.integers(len(choices))]


def _choose_unseen(species: list[SyntheticSpecies]) -> set[int]:
    """Choose about every eighth species, at most one per genus, and only if two of the genus remain."""
    by_genus: dict[str, list[int]] = {}
    for number, one in enumerate(species):
        by_genus.setdefault(one.taxon.genus, []).append(number)
    eligible = [numbers for numbers in by_genus.values() if len(numbers) >= 3]
    wanted = min(len(species) // N_UNSEEN_STEP, len(eligible))
    chosen = (eligible[i * len(eligible) // wanted] for i in range(wanted))
    return {numbers[i % len(numbers)] for i, numbers in enumerate(chosen)}


def folder_name(number: int, taxon: Taxon) -> str:
    """Return the name of a class folder as in iNat21."""
    return "_".join([f"{number:05d}", *taxon.lineage])


@dataclass(frozen=True)
class _DrawTask:
    folder: Path
    traits: Traits
    number: int
    config: SyntheticConfig


def _draw_all(
    directory: Path,
    config: SyntheticConfig,
    species: list[SyntheticSpecies],
    n_workers: int,
    on_progress: OnProgress,
) -> None:
    tasks = [_DrawTask(directory / folder_name(i, s.taxon), s.traits, i, config) for i, s in enumerate(species)]
    done, total = 0, len(species) * config.n_images
    for n_images in LocalEngine(n_workers).map(_draw_species, tasks):
        done += n_images
        on_progress(done, total)
    remove_partial_files(directory)


def _draw_species(task: _DrawTask) -> int:
    cv2.setNumThreads(1)
    for number in range(task.config.n_images):
        path = task.folder / f"{number:03d}.jpg"
        if not path.exists():
            rng = np.random.default_rng([task.config.seed, 2, task.number, number])
            picture = draw_photograph(task.traits, task.config.size, rng)
            write_atomically(path, simplejpeg.encode_jpeg(picture, quality=90, colorspace="RGB"), sync=False)
    return task.config.n_images


def _make_table(config: SyntheticConfig, species: list[SyntheticSpecies]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["filepath", *RANK_LABELS, "scientific_name", "common_name", "split"])
    writer.writerows(_table_rows(config, species))
    return text.getvalue()


def _table_rows(config: SyntheticConfig, species: list[SyntheticSpecies]) -> Iterator[list[str]]:
    for (number, one), image in product(enumerate(species), range(config.n_images)):
        split = "unseen" if one.unseen else _seen_split(image, config.n_images)
        path = f"{folder_name(number, one.taxon)}/{image:03d}.jpg"
        yield [path, *one.taxon.lineage, one.taxon.scientific_name, one.taxon.common_name, split]


def _seen_split(image: int, n_images: int) -> str:
    """Return the split of a photograph: the last eighth of a species is for testing, the one before for validation."""
    eighth = max(1, n_images // 8)
    if n_images < 3 or image < n_images - 2 * eighth:
        return "train"
    return "val" if image < n_images - eighth else "test"
