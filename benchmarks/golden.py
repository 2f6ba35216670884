"""Run the command line over fixed inputs and compare all that it writes with another commit's.

    python benchmarks/golden.py --output /tmp/before --source OLD/src     # a reference, about five minutes
    python benchmarks/golden.py --output /tmp/after --against /tmp/before # exit 1 where an output differs

Only ``python -m linnaea`` is used, so it runs on any commit. Everything is computed on one thread. Durations, versions
and paths are taken out. Differences in ``note`` and ``reason``, on standard error and in pages for people (HTML,
Markdown) are listed and do not count. ``--only predict labels`` runs some stages, and those that they need.
"""

import argparse
import csv
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from PIL import Image

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED = REPOSITORY.parent / "shared"

MESSAGE_COLUMNS = {"note", "reason", "resolved_note", "resolved_reason"}
VOLATILE = {
    "samples_per_s",
    "mfu",
    "data_wait",
    "seconds",
    "time",
    "created",
    "started",
    "finished",
    "version",
    "stamp",
}
"""Keys of JSON whose values are of the moment or the machine."""
VERSIONS = {"linnaea", "versions", "torch", "python", "machine", "platform", "command", "device"}
UNCOMPARED = {"checkpoints", "cache", "__pycache__"}
"""Folders of work files."""
DECIMAL = re.compile(r"(?<![\w.])-?\d+\.\d+(?:[eE][+-]?\d+)?(?![\w.])|(?<![\w.])-?\d+[eE]-\d+(?![\w.])")
SHOWN = 6
"""Lines of a difference that are printed."""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Where the commands run, and with what."""

    output: Path
    source: Path | None
    shared: Path | None

    @property
    def work(self) -> Path:
        return self.output / "work"

    def run(self, name: str, *words: object) -> None:
        """Run one command in the work folder; keep its exit code, standard output and messages under ``name``."""
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "COLUMNS": "200",
            "LINNAEA_CACHE": str(self.output / "cache"),
        }
        if self.source:
            environment["PYTHONPATH"] = str(self.source)
        start = time.perf_counter()
        command = [sys.executable, "-m", "linnaea", *map(str, words)]
        done = subprocess.run(command, cwd=self.work, env=environment, capture_output=True, text=True, check=False)
        path = self.work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name(f"{path.name}.stdout").write_text(f"exit {done.returncode}\n{done.stdout}")
        path.with_name(f"{path.name}.stderr").write_text(done.stderr)
        words_shown = " ".join(map(str, words))
        print(f"{time.perf_counter() - start:6.1f} s  exit {done.returncode}  linnaea {words_shown[:150]}", flush=True)
        if done.returncode not in (0, 3) and "-fails" not in name:
            print("         " + done.stderr.strip()[-300:])

    def write(self, name: str, text: str) -> str:
        path = self.work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return name


# --- inputs -----------------------------------------------------------------------------------------------------------

NAMES = """Pica pica|Corvus corax|Quercus robur|Panthera leo|Danaus plexippus|Amanita muscaria|Salix alba|Abies alba|
Turdus merula|Bufo bufo|Vulpes vulpes|Apis mellifera|Homo sapiens|Rosa canina|Taraxacum officinale|Passer domesticus|
Bombus terrestris|Parus major|Prunella vulgaris|Mallard|House Sparrow|Black-footed Albatross|Ficus|Corvidae|Aves|
Puma concolor|Bubo bubo|Felis catus|Canis lupus familiaris|Picea abies""".replace("\n", "").split("|")

DIRT: tuple[Callable[[str], str], ...] = (
    str,
    lambda name: name.replace(" ", "_").upper(),
    lambda name: name.title().replace(" ", "") + "2",
    lambda name: f"{name} L., 1758",
    lambda name: name.replace(" ", " cf. ", 1),
    lambda name: f"<i>{name}</i> ",
    lambda name: f"012.{name.replace(' ', '_').lower()}",
    lambda name: name[:-3] + name[-2:],
    lambda name: name.split()[0] + " sp.",
    lambda name: f"  {name.lower()} (juvenile)",
)

OLD_BIRDS = """kingdom,phylum,class,order,family,genus,species,common_name
Animalia,Chordata,Aves,Passeriformes,Corvidae,Corvus,corax,Common Raven
Animalia,Chordata,Aves,Passeriformes,Corvidae,Pica,pica,Eurasian Magpie
Animalia,Chordata,Aves,Passeriformes,Paridae,Parus,caeruleus,Blue Tit
Animalia,Chordata,Aves,Passeriformes,Paridae,Parus,major,Great Tit
Animalia,Chordata,Aves,Passeriformes,Turdidae,Turdus,merula,Blackbird
"""


def spread(items: Iterable[Path], n: int) -> list[Path]:
    """Return ``n`` of the sorted items, evenly spaced."""
    ordered = sorted(items)
    return [ordered[i * len(ordered) // n] for i in range(min(n, len(ordered)))]


def copy(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, target)


def inputs(bench: Bench) -> None:
    """Lay out the photographs and tables that the other stages read."""
    folder = bench.work / "inputs"
    bench.run("inputs/synthesize", "data", "synthesize", "inputs/drawn", "--species", 20, "--images", 8, "--size", 72)
    drawn = folder / "drawn"
    if bench.shared is None:
        print("../shared is not here: drawn pictures take the place of photographs")
        for i, path in enumerate(spread(drawn.rglob("*.jpg"), 40)):
            copy(path, folder / "photographs" / f"{i:02d}.jpg")
        for i, name in enumerate(spread((path for path in drawn.iterdir() if path.is_dir()), 6)):
            for path in spread(name.glob("*.jpg"), 6):
                copy(path, folder / "classes" / NAMES[i] / path.name)
    else:
        sources = sorted(path for path in (bench.shared / "species-images").iterdir() if path.is_dir())
        for source in sources:
            for i, path in enumerate(spread(source.rglob("*.jpg"), 3)):
                copy(path, folder / "photographs" / f"{source.name}-{i}.jpg")
        for source in (source for source in sources if source.name in ("cub", "primates", "big-cats")):
            for name in spread(source.iterdir(), 3):
                for path in spread(name.glob("*.jpg"), 7):
                    copy(path, folder / "classes" / name.name / path.name)
        real = pl.read_csv(bench.shared / "species-images" / "metadata.csv", infer_schema=False)
        chosen = real.filter(pl.int_range(pl.len()) % 300 == 0)
        for name in chosen["filepath"]:
            copy(bench.shared / "species-images" / name, folder / "real" / name)
        chosen.write_csv(folder / "real" / "metadata.csv")
    make_odd_pictures(folder)
    make_tables(bench)


def make_odd_pictures(folder: Path) -> None:
    """Write pictures that are large, rotated, transparent, 16-bit, animated, grey, broken; and near copies."""
    first, second = spread((folder / "photographs").glob("*.jpg"), 2)
    one, two = Image.open(first).convert("RGB"), Image.open(second).convert("RGB")
    odd = folder / "photographs" / "odd"
    odd.mkdir()
    rotation = Image.Exif()
    rotation[0x0112] = 6
    one.save(odd / "rotated.jpg", exif=rotation, quality=90)
    one.resize((3000, 2250)).save(odd / "large.jpg", quality=85)
    one.resize((7, 9)).save(odd / "tiny.png")
    faded = one.convert("RGBA")
    faded.putalpha(Image.linear_gradient("L").resize(one.size))
    faded.save(odd / "alpha.png")
    one.convert("L").save(odd / "grey.jpg")
    Image.fromarray(np.asarray(one.convert("L"), np.uint16) * 257).save(odd / "deep.png")
    one.save(odd / "animated.gif", save_all=True, append_images=[two.resize(one.size)])
    (odd / "truncated.jpg").write_bytes(first.read_bytes()[: first.stat().st_size // 2])
    (odd / "text.jpg").write_bytes(b"not a picture\n")
    (odd / "empty.jpg").write_bytes(b"")
    for path in spread((folder / "photographs").glob("*.jpg"), 5):
        copy(path, folder / "few" / path.name)
    copy(odd / "alpha.png", folder / "few" / "alpha.png")
    copy(odd / "text.jpg", folder / "few" / "text.jpg")
    for place in spread((path for path in (folder / "classes").iterdir()), 4):
        shutil.copytree(place, folder / "copies" / place.name)
        picture = min(place.glob("*.jpg"))
        Image.open(picture).convert("RGB").resize((150, 150)).save(folder / "copies" / place.name / "zz_near.jpg")
        copy(picture, folder / "copies" / place.name / "zz_exact.jpg")


def make_tables(bench: Bench) -> None:
    rows = [(str(i), dirt(name)) for i, name in enumerate(NAMES) for dirt in DIRT]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([("id", "label"), *rows])
    bench.write("inputs/dirty.csv", text.getvalue())
    bench.write("inputs/old.csv", OLD_BIRDS)
    bench.write("inputs/new.csv", OLD_BIRDS.replace("Parus,caeruleus", "Cyanistes,caeruleus") +
                "Animalia,Chordata,Aves,Passeriformes,Laniidae,Lanius,collurio,Red-backed Shrike\n")  # fmt: skip
    bench.write("inputs/names.txt", "\n".join(NAMES[:12]) + "\n")
    bench.write("inputs/species.csv", "scientific_name\nPica pica\nPanthera leo\nNecrophila americana\n"
                "Aricia agestis\nCebuella pygmaea\nHaemorhous purpureus\nAmanita muscaria\nNo such\n")  # fmt: skip
    bench.write("inputs/prior.csv", "name,weight\n*,0.5\nPanthera,20\nPica pica,3\nAves,2\n")
    bench.write("inputs/bins.csv", "label,bin\nPanthera leo,cat\nAcinonyx jubatus,cat\nPica pica,bird\n"
                "Corvus corax,bird\nAmanita muscaria,mushroom\n")  # fmt: skip
    drawn = pl.read_csv(bench.work / "inputs" / "drawn" / "metadata.csv", infer_schema=False)
    split = drawn.select("filepath", split=pl.when(pl.int_range(pl.len()) % 5 == 0).then(pl.lit("val")).otherwise(
        pl.lit("train")))  # fmt: skip
    split.head(140).write_csv(bench.work / "inputs" / "split.csv")
    drawn.select("filepath", label="scientific_name").write_csv(bench.work / "inputs" / "labels.csv")
    images = [
        {"file": path.name, "detections": [
            {"category": "1", "conf": 0.9, "bbox": [0.1, 0.1, 0.6, 0.7]},
            {"category": "1", "conf": 0.1, "bbox": [0.5, 0.5, 0.2, 0.2]},
            {"category": "2", "conf": 0.8, "bbox": [0.0, 0.0, 0.3, 0.9]},
        ][: 1 + i % 3]}
        for i, path in enumerate(sorted((bench.work / "inputs" / "few").iterdir()))
    ]  # fmt: skip
    categories = {"1": "animal", "2": "person", "3": "vehicle"}
    found = {"info": {"format_version": "1.3"}, "detection_categories": categories, "images": images}
    bench.write("inputs/detections.json", json.dumps(found))


# --- stages -----------------------------------------------------------------------------------------------------------


def build(bench: Bench) -> None:
    """Data sets from tables and folders, under every rule for splits, names and copies."""
    table = ("--table", "inputs/drawn/metadata.csv")
    labels = ("--table", "inputs/labels.csv", "--root", "inputs/drawn", "--label-column", "label")
    variants: dict[str, tuple[object, ...]] = {
        "table": (*table, "--split-column", "split", "--captions", "--shard-size", 40),
        "labels": (*labels, "--split-table", "inputs/split.csv", "--resolve"),
        "folder": ("--folder", "inputs/drawn", "--unseen", 0.2, "--unseen-rank", "genus", "--seed", 3),
        "drop": ("--folder", "inputs/copies", "--duplicates", "drop", "--resolve"),
        "group": ("--folder", "inputs/copies", "--duplicates", "group", "--test", 0.3, "--benchmark", "inputs/few"),
        "classes": ("--folder", "inputs/classes", "--resize", "squash-224", "--resolve"),
    }
    if bench.shared is not None:
        real = ("--table", "inputs/real/metadata.csv", "--group-column", "group", "--split-column", "split")
        variants["real"] = (*real, "--short-side", 128)
        raw = ("--table", "inputs/real/metadata.csv", "--label-column", "raw_label")
        variants["raw"] = (*raw, "--resolve", "--short-side", 64)
    for name, words in variants.items():
        bench.run(f"build/{name}", "data", "build", *words, "--output", f"build/{name}", "--workers", 1)
    for name in ("table", "group"):
        bench.run(f"build/stats-{name}", "data", "stats", f"build/{name}", "--json")


def export_data(bench: Bench) -> None:
    """A data set in the formats of others."""
    for kind in ("parquet", "webdataset", "imagefolder", "catalog"):
        place = f"export_data/{kind}"
        bench.run(place, "data", "export", "build/table", "--format", kind, "--output", place, "--workers", 1)
    bench.run("export_data/part", "data", "export", "build/table", "--format", "imagefolder", "--split", "train",
              "--within", "Animaria", "--output", "export_data/part", "--workers", 1)  # fmt: skip


def repair(bench: Bench) -> None:
    """A data set with a torn shard and a missing one becomes what it was."""
    shutil.copytree(bench.work / "build" / "table", bench.work / "repair" / "data")
    torn, lost = spread((bench.work / "repair" / "data").rglob("*.tar"), 2)
    torn.write_bytes(torn.read_bytes()[:5000])
    lost.unlink()
    bench.run("repair/check-fails", "data", "check", "repair/data")
    bench.run("repair/repair", "data", "repair", "repair/data")
    bench.run("repair/check", "data", "check", "repair/data", "--decode")


def taxonomy(bench: Bench) -> None:
    """Dirty names resolved; lineages, searches, trees; the difference of two checklists."""
    dirty = ("taxonomy", "resolve", "inputs/dirty.csv", "--column", "label", "--processes", 1)
    bench.run("taxonomy/dirty", *dirty, "--output", "taxonomy/dirty.csv")
    bench.run("taxonomy/plants", *dirty, "--context", "kingdom=Plantae", "--output", "taxonomy/plants.parquet")
    bench.run("taxonomy/birds", *dirty, "--checklist", "inputs/new.csv", "inat", "--output", "taxonomy/birds.tsv")
    if bench.shared is not None:
        strings = bench.shared / "taxonomy" / "name-strings.tsv"
        bench.run("taxonomy/strings", "taxonomy", "resolve", strings, "--column", "name", "--output",
                  "taxonomy/strings.csv", "--processes", 1)  # fmt: skip
    for name in ("Pica pica", "Corvidae", "Prunella"):
        bench.run(f"taxonomy/lineage-{name}", "taxonomy", "lineage", name)
    bench.run("taxonomy/lineage-fails", "taxonomy", "lineage", "Picca picca")
    for text in ("Panthera lio", "sparrow"):
        bench.run(f"taxonomy/search-{text}", "taxonomy", "search", text)
    bench.run("taxonomy/tree", "taxonomy", "tree", "Corvidae")
    bench.run("taxonomy/tree-birds", "taxonomy", "tree", "Aves", "--checklist", "inputs/new.csv", "--depth", 4)
    changes = ("inputs/old.csv", "inputs/new.csv")
    bench.run("taxonomy/diff", "taxonomy", "diff", *changes, "--output", "taxonomy/diff.csv")
    bench.run("taxonomy/migrate", "taxonomy", "migrate", "inputs/old.csv", "--from", changes[0], "--to", changes[1],
              "--output", "taxonomy/migrated.csv")  # fmt: skip


def labels(bench: Bench) -> None:
    """Label banks: built, appended to, updated, shown."""
    bench.run("labels/build", "labels", "build", "--taxa", "inputs/names.txt", "--output", "labels/bank")
    bench.run("labels/append", "labels", "append", "labels/bank", "--taxa", "inputs/species.csv", "--output",
              "labels/more")  # fmt: skip
    bench.run("labels/old", "labels", "build", "--taxa", "inputs/old.csv", "--output", "labels/old", "--vectors",
              "float32")  # fmt: skip
    bench.run("labels/update", "labels", "update", "labels/old", "--taxa", "inputs/new.csv", "--output", "labels/new")
    bench.run("labels/within", "labels", "build", "--within", "family:Corvidae", "--exclude", "genus:Corvus",
              "--vectors", "int8", "--text-type", "sci", "--output", "labels/within")  # fmt: skip
    for name in ("bank", "more", "new", "within"):
        bench.run(f"labels/show-{name}", "labels", "show", f"labels/{name}")


def predict(bench: Bench) -> None:
    """The bundled model's answers: ranks, restrictions, priors, bins, detections, and every format."""
    all_of, few = "inputs/photographs", "inputs/few"
    variants: dict[str, tuple[object, ...]] = {
        "species.csv": (all_of, "--top-k", 5),
        "genus.jsonl": (all_of, "--rank", "genus", "--top-k", 2),
        "auto.csv": (all_of, "--rank", "auto", "--confidence", 0.6),
        "class.parquet": (few, "--rank", "class"),
        "within.csv": (few, "--within", "Mammalia", "--exclude", "genus:Panthera", "--top-k", 3),
        "listed.csv": (few, "--species-list", "inputs/species.csv", "--rank", "auto", "--confidence", 0.3),
        "prior.csv": (few, "--prior", "inputs/prior.csv"),
        "bins.csv": (few, "--bins", "inputs/bins.csv", "--top-k", 2),
        "names.csv": (few, "--labels", "inputs/names.txt", "--text-type", "sci"),
        "page.html": (few, "--rank", "auto"),
        "camtrap.csv": (few, "--rank", "auto", "--format", "camtrapdp"),
        "boxes.json": (few, "--detections", "inputs/detections.json", "--format", "megadetector"),
        "boxes.csv": (few, "--detections", "inputs/detections.json", "--rank", "auto", "--confidence", 0.5),
    }
    for name, words in variants.items():
        bench.run(f"predict/{name}", "predict", *words, "--output", f"predict/{name}", "--device", "cpu")
    bench.run("predict/table", "predict", few, "--rank", "family", "--device", "cpu")


def embed(bench: Bench) -> None:
    """Vectors in every format; an index, and what is found in it."""
    for ending in ("npy", "jsonl", "parquet"):
        place = "inputs/photographs" if ending == "npy" else "inputs/few"
        bench.run(f"embed/{ending}", "embed", place, "--output", f"embed/vectors.{ending}", "--device", "cpu")
    bench.run("embed/index", "index", "inputs/classes", "--output", "embed/index", "--device", "cpu")
    image = spread((bench.work / "inputs" / "few").glob("*.jpg"), 1)[0].relative_to(bench.work)
    bench.run("embed/search-text", "search", "embed/index", "--text", "a photo of a monkey", "--top-k", 5)
    bench.run("embed/search-taxon", "search", "embed/index", "--taxon", "Panthera leo", "--top-k", 5)
    bench.run("embed/search-image", "search", "embed/index", "--image", image, "--top-k", 5)
    bench.run("embed/search-near", "search", "embed/index", "--near-duplicates", 0.9)


def adapt(bench: Bench) -> None:
    """A head from class folders, and its answers."""
    bench.run("adapt/adapt", "adapt", "inputs/classes", "--output", "adapt/head", "--device", "cpu")
    words = ("--labels", "adapt/head", "--output", "adapt/predictions.csv", "--device", "cpu")
    bench.run("adapt/predict", "predict", "inputs/few", *words)


def train(bench: Bench) -> None:
    """A training curve of 50 steps on one thread, and the run as a small model folder."""
    words = ("--steps", 50, "--batch-size", 64, "--log-every", 1, "--evaluate-split", "val", "--evaluate-every", 25)
    bench.run("train/train", "train", "tiny", "--data", "build/table", "--output", "train/run", *words, "--workers", 1,
              "--device", "cpu")  # fmt: skip
    bench.run("train/classes", "train", "tiny", "--data", "build/table", "--output", "train/classes", "--steps", 10,
              "--objective", "hierarchical", "--batch-size", 64, "--log-every", 1, "--workers", 1)  # fmt: skip
    bench.run("train/pack", "pack", "train/run", "--output", "train/packed")


def evaluate(bench: Bench) -> None:
    """Scores of the run on its data set, and of the bundled model on class folders."""
    bench.run("evaluate/run", "evaluate", "train/run", "--data", "build/table", "--split", "test", "--output",
              "evaluate/run", "--probe", "knn", "ridge", "--device", "cpu")  # fmt: skip
    bench.run("evaluate/folder", "evaluate", "nano", "--task", "folder", "--root", "inputs/classes", "--output",
              "evaluate/folder", "--device", "cpu")  # fmt: skip
    bench.run("evaluate/compare", "compare", "evaluate/run", "evaluate/folder", "--output", "evaluate/compare")


def onnx(bench: Bench) -> None:
    """The packed run for ONNX Runtime, and its answers beside those of PyTorch."""
    bench.run("onnx/export", "export", "train/packed", "--output", "onnx/model")
    for name, model in (("onnx", "onnx/model"), ("torch", "train/packed")):
        words = ("inputs/few", "--model", model, "--output", f"onnx/{name}.csv")
        bench.run(f"onnx/{name}", "predict", *words, "--device", "cpu")


STAGES: dict[str, tuple[Callable[[Bench], None], tuple[str, ...]]] = {
    "inputs": (inputs, ()),
    "build": (build, ("inputs",)),
    "export_data": (export_data, ("build",)),
    "repair": (repair, ("build",)),
    "taxonomy": (taxonomy, ("inputs",)),
    "labels": (labels, ("inputs",)),
    "predict": (predict, ("inputs",)),
    "embed": (embed, ("inputs",)),
    "adapt": (adapt, ("inputs",)),
    "train": (train, ("build",)),
    "evaluate": (evaluate, ("train",)),
    "onnx": (onnx, ("train",)),
}
"""Each stage with the stages whose outputs it reads."""


# --- outputs without what is of the moment ----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Written:
    """One output: the text that counts (a checksum where it is no text), and the text that does not."""

    content: str
    messages: str = ""


def read_written(path: Path, bench: Bench) -> Written:
    """Read one output without durations, versions and paths."""
    kind = path.suffix
    if kind in (".csv", ".tsv"):
        table = pl.read_csv(path, separator="\t" if kind == ".tsv" else ",", infer_schema=False)
        return split_table(table, bench)
    if kind == ".parquet":
        return split_table(pl.read_parquet(path), bench)
    if kind in (".json", ".jsonl"):
        texts = [path.read_text()] if kind == ".json" else path.read_text().splitlines()
        return split_json([json.loads(text) for text in texts], bench)
    if kind in (".html", ".md", ".stderr"):
        return Written(content="", messages=words_of(path.read_text(), bench))
    if kind in (".txt", ".stdout"):
        return Written(content=without_moment(path.read_text(), bench))
    return Written(content=hashlib.sha256(path.read_bytes()).hexdigest() + "\n")


def without_moment(text: str, bench: Bench) -> str:
    """Take out paths, dates and the version."""
    for place, name in ((bench.work, "WORK"), (bench.output, "OUT"), (bench.shared, "SHARED"), (bench.source, "SRC")):
        text = text.replace(str(place), name) if place else text
    text = re.sub(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?", "MOMENT", text)
    return re.sub(r"linnaea \d+\.\d+\.\d+", "linnaea VERSION", text)


def words_of(text: str, bench: Bench) -> str:
    """What people read of messages and pages: no progress, durations, scripts and pictures."""
    text = re.sub(r"<(script|style)\b.*?</\1>|data:[\w/+]+;base64,[\w/+=]+", "", text, flags=re.DOTALL)
    text = re.sub(r"^[^\n]*\r|^\w[\w ]* [\d,]+/[\d,]+( \(.*)?\n", "", text, flags=re.MULTILINE)
    return re.sub(r"\b\d[\d.,]* ?(\w{1,20}/s|s|min)\b", "RATE", without_moment(text, bench))


def split_table(table: pl.DataFrame, bench: Bench) -> Written:
    """A table as CSV with the types of its columns; the columns for people apart."""
    cells = table.with_columns(
        pl.Series(name, [repr(value) for value in table[name].to_list()], pl.String)
        for name, kind in table.schema.items()
        if kind.is_nested() or kind == pl.Binary
    )
    aside = [name for name in table.columns if name in MESSAGE_COLUMNS]
    kept = cells.drop(aside).rename({name: f"{name}:{kind}" for name, kind in table.drop(aside).schema.items()})
    texts = [without_moment(frame.write_csv(), bench) for frame in (kept, cells.select(aside))]
    return Written(content=texts[0], messages=texts[1] if aside else "")


def split_json(values: list[Any], bench: Bench) -> Written:
    """One line per value (indented where there is one alone); the fields for people apart."""
    messages: list[str] = []

    def clean(node: Any) -> Any:
        if isinstance(node, list):
            return [clean(value) for value in node]
        if not isinstance(node, dict):
            return node
        messages.extend(str(node[key]) for key in MESSAGE_COLUMNS & node.keys())
        return {key: "" if key in VOLATILE | VERSIONS else clean(value)
                for key, value in node.items() if key not in MESSAGE_COLUMNS}  # fmt: skip

    indent = 1 if len(values) == 1 else None
    lines = [json.dumps(clean(value), indent=indent, ensure_ascii=False) for value in values]
    return Written(content=without_moment("\n".join(lines) + "\n", bench), messages="\n".join(messages))


def keep_normal(bench: Bench, stages: Iterable[str]) -> None:
    """Write the normal form of every output beside the outputs, and a checksum of each."""
    sums: dict[str, str] = {}
    for stage in stages:
        for path in sorted(path for path in (bench.work / stage).rglob("*") if path.is_file()):
            name = path.relative_to(bench.work)
            if UNCOMPARED & set(name.parts):
                continue
            written = read_written(path, bench)
            for folder, text in (("normal", written.content), ("messages", written.messages)):
                kept = bench.output / folder / f"{name}.txt"
                kept.parent.mkdir(parents=True, exist_ok=True)
                kept.write_text(text, encoding="utf-8")
            sums[str(name)] = hashlib.sha256(written.content.encode()).hexdigest()
    (bench.output / "sums.json").write_text(json.dumps(sums, indent=1) + "\n")


# --- two commits ------------------------------------------------------------------------------------------------------


def compare(before: Path, after: Path, stages: Iterable[str], tolerance: float) -> int:
    """Print what differs between two outputs of this script; return the number of files that differ in what counts."""
    old, new = (
        {name: value for name, value in json.loads((place / "sums.json").read_text()).items()
         if name.split("/")[0] in stages}
        for place in (before, after)
    )  # fmt: skip
    differs = 0
    for name in sorted(old.keys() | new.keys()):
        if name not in old or name not in new:
            print(f"only {'after' if name in new else 'before'}: {name}")
        elif old[name] != new[name]:
            texts = [(place / "normal" / f"{name}.txt").read_text() for place in (before, after)]
            if tolerance and (distance := largest_distance(*texts)) <= tolerance:
                print(f"numbers differ by at most {distance:.2g}: {name}")
                continue
            print(f"differs: {name}: {explain(before / 'work' / name, after / 'work' / name, *texts)}")
        else:
            continue
        differs += 1
    others = [
        name for name in sorted(old.keys() & new.keys()) if read_messages(before, name) != read_messages(after, name)
    ]
    for name in others:
        lines = changed_lines(read_messages(before, name), read_messages(after, name))
        print(f"messages differ: {name}: {len(lines)} lines, such as {lines[0][:160]!r}")
    print(f"{len(old.keys() & new.keys())} files compared: {differs} differ; messages of {len(others)} differ")
    return differs


def largest_distance(before: str, after: str) -> float:
    """Return how far apart the decimal fractions of two texts are at most; infinite where other text differs too."""
    texts = [re.sub(DECIMAL, "#", text) for text in (before, after)]
    if texts[0] != texts[1]:
        return float("inf")
    pairs = zip(re.findall(DECIMAL, before), re.findall(DECIMAL, after), strict=True)
    return max((abs(float(was) - float(now)) for was, now in pairs), default=0.0)


def read_messages(place: Path, name: str) -> str:
    return (place / "messages" / f"{name}.txt").read_text()


def changed_lines(before: str, after: str) -> list[str]:
    lines = unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm="")
    return [line for line in lines if not line.startswith(("---", "+++", "@@"))] or ["(line ends)"]


def explain(old: Path, new: Path, before: str, after: str) -> str:
    """Say in some lines how an output differs: columns of tables, members of shards, distances of vectors."""
    match old.suffix:
        case ".csv" | ".tsv" | ".parquet":
            return explain_tables(*(pl.read_csv(io.StringIO(text), infer_schema=False) for text in (before, after)))
        case ".tar":
            first, second = (members(path) for path in (old, new))
            names = sorted(name for name in first | second if first.get(name) != second.get(name))
            return f"{len(names)} of {len(first)} members, such as {names[:3]}"
        case ".npy":
            return explain_arrays({"": np.load(old)}, {"": np.load(new)})
        case ".safetensors":
            from safetensors.numpy import load_file

            return explain_arrays(load_file(old), load_file(new))
        case _ if before.count("\n") > 1:
            lines = changed_lines(before, after)
            return "\n  ".join([f"{len(lines)} lines", *(line[:200] for line in lines[:SHOWN])])
        case _:
            return "other bytes"


def explain_tables(before: pl.DataFrame, after: pl.DataFrame) -> str:
    if before.columns != after.columns:
        return f"columns {sorted(set(before.columns) ^ set(after.columns)) or 'in another order'}"
    if before.height != after.height:
        return f"{before.height} rows before, {after.height} after"
    changes = {name: before[name].ne_missing(after[name]) for name in before.columns}
    shown = []
    for name, changed in changes.items():
        if changed.any():
            row = changed.arg_true()[0]
            was, now = before[name][row], after[name][row]
            shown.append(f"{name}: {changed.sum()} of {before.height} rows, such as {row}: {was!r:.80} -> {now!r:.80}")
    return "\n  ".join(["", *shown])


def explain_arrays(before: dict[str, Any], after: dict[str, Any]) -> str:
    if {name: value.shape for name, value in before.items()} != {name: value.shape for name, value in after.items()}:
        return "other names or shapes"
    distances = {name: float(np.abs(before[name].astype(float) - after[name]).max(initial=0)) for name in before}
    n_changed = sum(distance > 0 for distance in distances.values())
    return f"{n_changed} of {len(distances)} arrays; the largest difference is {max(distances.values()):.3g}"


def members(path: Path) -> dict[str, str]:
    with tarfile.open(path) as tar:
        return {member.name: hashlib.sha256(tar.extractfile(member).read()).hexdigest()  # type: ignore[union-attr]
                for member in tar if member.isfile()}  # fmt: skip


def with_needed(stages: Iterable[str]) -> list[str]:
    """Return the stages and those that they need, in order."""
    wanted: set[str] = set()
    waiting = [*stages]
    while waiting:
        stage = waiting.pop()
        wanted.add(stage)
        waiting.extend(STAGES[stage][1])
    return [stage for stage in STAGES if stage in wanted]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="folder for the outputs; what is in it is replaced")
    parser.add_argument("--source", type=Path, help="src folder of the commit (default: the PYTHONPATH as it is)")
    parser.add_argument("--against", type=Path, help="output of another commit to compare with")
    parser.add_argument("--only", nargs="+", choices=STAGES, default=list(STAGES), help="stages to run")
    parser.add_argument("--tolerance", type=float, default=0.0, help="difference that a decimal fraction may have")
    parser.add_argument("--compare-only", action="store_true", help="run nothing; compare what is in --output")
    given = parser.parse_args()
    if given.output is None:  # `make bench` runs every script of the folder without a word
        parser.print_help()
        return 0
    source = given.source.resolve() if given.source else None
    bench = Bench(output=given.output.resolve(), source=source, shared=SHARED if SHARED.is_dir() else None)
    if not given.compare_only:
        for folder in ("work", "normal", "messages"):
            shutil.rmtree(bench.output / folder, ignore_errors=True)
        for stage in with_needed(given.only):
            (bench.work / stage).mkdir(parents=True)
            STAGES[stage][0](bench)
    keep_normal(bench, with_needed(given.only))
    if given.against is None:
        return 0
    return 1 if compare(given.against.resolve(), bench.output, given.only, given.tolerance) else 0


if __name__ == "__main__":
    sys.exit(main())
