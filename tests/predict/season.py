"""A synthetic season of two camera traps: events of animals, people and nothing, drawn with EXIF, on a broken card."""

import csv
import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.ExifTags import IFD, Base

from linnaea.taxonomy.ranks import RANK_LABELS
from linnaea.taxonomy.taxon import Taxon

CAMERAS = ("north", "south")
START = datetime(2024, 5, 1, 5, 0, 0)
WIDTH, HEIGHT = 240, 180


@dataclass(frozen=True, kw_only=True)
class Season:
    card: Path
    detections: Path
    deployments: Path
    truth: dict[str, Taxon | str]
    """What each photograph shows, by its path: a taxon, ``person`` or ``nothing``."""
    event_of: dict[str, int]
    broken: frozenset[str]


def draw_season(folder: Path, photographs: Path, *, n_events: int, n_photographs: int) -> Season:
    """Draw a season whose animals are those of a synthetic tree of life (the fixture ``photographs``)."""
    rng, (taxa, pictures) = np.random.default_rng(0), _read_animals(photographs)
    sizes = 1 + rng.multinomial(n_photographs - n_events, np.full(n_events, 1 / n_events))
    truth: dict[str, Taxon | str] = {}
    event_of: dict[str, int] = {}
    images: list[dict[str, Any]] = []
    for event, size in enumerate(sizes):
        kind = "person" if event % 10 == 3 else "nothing" if event % 10 == 7 else event % len(taxa)
        scene = rng.integers(60, 150, 3)
        for shot in range(size):
            path = folder / "card" / CAMERAS[event % 2] / f"IMG_{event:03d}_{shot:02d}.JPG"
            box = _draw(path, kind, pictures, scene, rng, START + timedelta(hours=5 * event, seconds=3 * shot))
            truth[str(path)] = taxa[kind] if isinstance(kind, int) else kind
            event_of[str(path)] = event
            found = (
                [] if kind == "nothing" else [{"category": "2" if kind == "person" else "1", "conf": 0.9, "bbox": box}]
            )
            images.append({"file": path.relative_to(folder / "card").as_posix(), "detections": found})
    broken = _break(folder / "card", images)
    (folder / "md.json").write_text(json.dumps({"info": {"detector": "md_v5a.0.0.pt"}, "images": images}))
    (folder / "deployments.csv").write_text("deploymentID,latitude,longitude\nnorth,52.5,13.4\nsouth,52.6,13.5\n")
    return Season(card=folder / "card", detections=folder / "md.json", deployments=folder / "deployments.csv",
                  truth=truth, event_of=event_of, broken=broken)  # fmt: skip


def _read_animals(photographs: Path) -> tuple[list[Taxon], list[list[Path]]]:
    pictures: dict[Taxon, list[Path]] = {}
    with (photographs / "metadata.csv").open(newline="") as stream:
        for row in csv.DictReader(stream):
            taxon = Taxon.of({rank: row[rank] for rank in RANK_LABELS})
            pictures.setdefault(taxon, []).append(photographs / row["filepath"])
    return [*pictures], [*pictures.values()]


def _draw(
    path: Path, kind: int | str, pictures: list[list[Path]], scene: NDArray[Any], rng: np.random.Generator,
    taken: datetime,
) -> list[float]:  # fmt: skip
    """Draw a photograph with its time, and return the box of what is on it."""
    pixels = np.clip(rng.normal(scene, 9, (HEIGHT, WIDTH, 3)), 0, 255).astype(np.uint8)
    side = int(rng.integers(70, 130))
    left, top = int(rng.integers(0, WIDTH - side)), int(rng.integers(0, HEIGHT - side))
    if isinstance(kind, int):
        with Image.open(pictures[kind][rng.integers(len(pictures[kind]))]) as animal:
            pixels[top : top + side, left : left + side] = np.asarray(animal.convert("RGB").resize((side, side)))
    elif kind == "person":
        pixels[top : top + side, left + side // 3 : left + 2 * side // 3] = (200, 150, 120)
    exif = Image.Exif()
    exif[Base.Make], exif[Base.Model] = "Drawn", f"Trap {path.parent.name}"
    exif.get_ifd(IFD.Exif)[Base.DateTimeOriginal] = f"{taken:%Y:%m:%d %H:%M:%S}"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, exif=exif, quality=88)
    return [left / WIDTH, top / HEIGHT, side / WIDTH, side / HEIGHT]


def _break(card: Path, images: list[dict[str, Any]]) -> frozenset[str]:
    """Break three of the photographs with an animal, as a dying card does: cut short, empty, and overwritten."""
    victims = [card / one["file"] for one in images if one["detections"] and one["detections"][0]["category"] == "1"][
        4:40:12
    ]
    cut, empty, overwritten = victims
    cut.write_bytes(cut.read_bytes()[:300])
    empty.write_bytes(b"")
    overwritten.write_bytes(b"\0" * 4096)
    return frozenset(map(str, victims))
