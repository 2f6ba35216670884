"""Read published data sets as they are unpacked on disk: one reader per layout, all with the same table.

Every reader takes the folder of the data set and returns a table with :data:`COLUMNS`. It has one row per image in the
order of the published list, because SimpleShot's shuffles depend on it. All values are text, and unknown values are
``""``. Some readers add columns: ``task`` and ``cluster`` (NeWT), ``trait/NAME`` with 0 and 1 (AwA2, FishNet). Image
files are not opened.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from linnaea.counting import agree, count
from linnaea.data.file_kinds import NOT_IMAGES
from linnaea.data.naming import NamingRule, settle_classes
from linnaea.data.sources import Record
from linnaea.data.sources.folder import FolderSource, iter_files
from linnaea.errors import LinnaeaError
from linnaea.storage import load_json, read_regular
from linnaea.tables import need_columns, read_table
from linnaea.taxonomy.ranks import RANK_LABELS
from linnaea.taxonomy.taxon import Taxon

COLUMNS = ("file", "label", "split", *RANK_LABELS, "common_name")
"""``file`` is relative to the data set's folder; ``label`` is the published class, letter for letter."""

TRAIT = "trait/"
FISHNET_TRAITS = (
    "FeedingPath", "Tropical", "Temperate", "Subtropical", "Boreal", "Polar", "freshwater", "saltwater", "brackish",
)  # fmt: skip
"""Columns of FishNet's tables that BioCLIP 2 predicts; the first is pelagic (1) or benthic (0)."""
_FISHNET_IMAGE, _FISHNET_FOLDER = 3, 12
"""Positions of FishNet's columns for the image path and its folder."""


def read_folders(root: Path, *splits: str) -> pl.DataFrame:
    """Read ``ROOT/CLASS/image``, or ``ROOT/SPLIT/CLASS/image`` for each of ``splits``; the label is ``CLASS``."""
    rows = []
    for split in splits or ("",):
        base = need(root / split)
        for path in iter_files(base):
            if path.parent != base and path.suffix.lower() not in NOT_IMAGES:
                label = path.relative_to(base).parts[0]
                rows.append({"file": str(path.relative_to(root)), "label": label, "split": split})
    if not rows:
        raise LinnaeaError(f"{root}: no class folders with images; give the folder with one subfolder per class")
    return make_table(rows)


def read_class_folders(
    source: FolderSource, split: str, rule: NamingRule
) -> tuple[pl.DataFrame, dict[str, Taxon], list[str]]:
    """Return the photographs of a user's class folders, the taxon of each label, and lines on what to know.

    The label is the folder's name. Classes are those of ``linnaea adapt``: folders over one taxon are one class, with
    the first folder's label. If the folders are also split, only ``split`` is read.

    Raises:
        LinnaeaError: There are no photographs, or none in this split.
    """
    items = list(source.records())
    records = [item for item in items if isinstance(item, Record)]
    if not records:
        raise LinnaeaError(f"{source.root}: no class folders with images; give the folder with one subfolder per class")
    splits = sorted({record.split for record in records} - {""})
    if splits and split not in splits:
        raise LinnaeaError(f"{source.root}: no split {split!r}; choose one of {', '.join(splits)} with --split")
    taxa, lines = settle_classes([(record.facts["label"], record.taxon) for record in records], rule)
    label_of = _label_classes([record.facts["label"] for record in records], taxa)
    rows = [{"file": record.record_id, "label": label_of[taxon], "split": record.split}
            for record, taxon in zip(records, taxa, strict=True) if not splits or record.split == split]  # fmt: skip
    n_rejected = len(items) - len(records)
    left_out = (
        [f"{count(n_rejected, 'file')} in folders without a class name {agree(n_rejected, 'is', 'are')} left out"]
        if n_rejected
        else []
    )
    return make_table(rows), {label: taxon for taxon, label in label_of.items()}, [*lines, *left_out]


def _label_classes(labels: Sequence[str], taxa: Sequence[Taxon]) -> dict[Taxon, str]:
    """Return the first label of each taxon; of two taxa with one label, the second is told apart by its name."""
    label_of: dict[Taxon, str] = {}
    used: set[str] = set()
    for label, taxon in zip(labels, taxa, strict=True):
        if taxon in label_of:
            continue
        own = label if label not in used else f"{label} ({taxon})"
        label_of[taxon] = own
        used.add(own)
    return label_of


def read_test_folders(root: Path) -> pl.DataFrame:
    """Read the class folders in the folder ``test`` if it exists, or else in ``root`` itself (Birds 525)."""
    return read_folders(root, "test") if (root / "test").is_dir() else read_folders(root)


def read_catalogue(root: Path, name: str = "metadata.csv", bases: Sequence[str] = ("", "images")) -> pl.DataFrame:
    """Read the list of the published scripts: ``filepath``, ``class``, and ranks if known (the rank class is ``cls``).

    Paths are relative to the first of ``bases`` in which the first path exists. A list may have ``file_name`` instead
    of ``filepath``. Without ``class``, the label comes from the ranks or the common name.
    """
    path = need(root / name)
    table = read_table(path).rows
    file_column = "filepath" if "filepath" in table.columns else "file_name"
    need_columns(table.columns, path, file_column)
    ranks = [label for label in RANK_LABELS if label != "class" and label in table.columns]
    # With other ranks but no column `cls`, `class` is the Linnaean class and not a label.
    labelled = "class" in table.columns and ("cls" in table.columns or not ranks)
    renamed = {"cls": "class"} if "cls" in table.columns else {}
    common = next((column for column in ("common_name", "common", "com") if column in table.columns), None)
    columns = [pl.col(file_column).alias("file"), *(pl.col(rank) for rank in ranks)]
    if renamed or ("class" in table.columns and not labelled):
        columns.append(pl.col("cls" if renamed else "class").alias("class"))
    columns.append((pl.col(common) if common else pl.lit("")).alias("common_name"))
    label = pl.col("class") if labelled else _lineage_as_label(ranks, common, path)
    result = table.select(label.alias("label"), *columns)
    return make_table(result, base=find_base(root, result["file"], bases))


def _lineage_as_label(ranks: Sequence[str], common: str | None, path: Path) -> pl.Expr:
    if not ranks and not common:
        raise LinnaeaError(f"{path}: no labels; needs a column 'class', columns of ranks, or common names")
    if "species" in ranks:
        return pl.concat_str([column for column in ("genus", "species") if column in ranks], separator=" ")
    return pl.col(common or ranks[-1])


def read_meta_album(root: Path) -> pl.DataFrame:
    """Read Meta-Album: ``labels.csv`` (FILE_NAME, CATEGORY) next to ``images``, or the scripts' ``metadata.csv``."""
    if (root / "metadata.csv").exists() or not (root / "labels.csv").exists():
        return read_catalogue(root)
    path = root / "labels.csv"
    table = read_table(path).rows
    need_columns(table.columns, path, "FILE_NAME", "CATEGORY")
    rows = table.select(file="FILE_NAME", label="CATEGORY")
    if (root / "images").is_dir():
        return make_table(rows, base="images")
    by_class = rows.with_columns(file=pl.concat_str("label", "file", separator="/"))
    return make_table(by_class, base=find_base(root, by_class["file"], ("", "val")))


def read_rare_species(root: Path) -> pl.DataFrame:
    """Read Rare Species: ``metadata.csv`` with ranks, common name and path."""
    return read_catalogue(root)


def read_camera_trap(root: Path, place: str) -> pl.DataFrame:
    """Read IDLE-OO Camera Traps: ``PLACE-balanced.csv`` with ranks, and paths in the folder or in ``images/PLACE``."""
    name = f"{place}-balanced.csv"
    return read_catalogue(root, name, bases=("", f"images/{place}", "images"))


def read_nabirds(root: Path) -> pl.DataFrame:
    """Read NABirds: ``images.txt``, ``image_class_labels.txt``, ``classes.txt``; or the scripts' ``metadata.csv``."""
    if (root / "metadata.csv").exists():
        return read_catalogue(root)
    names = _pairs(root / "classes.txt")
    classes = _pairs(root / "image_class_labels.txt")
    try:
        rows = [
            {"file": f"images/{file}", "label": names[classes[key]]}
            for key, file in _pairs(root / "images.txt").items()
        ]
    except KeyError as error:
        raise LinnaeaError(f"{root}: the lists of images and classes do not match: no entry {error}") from None
    return make_table(rows)


def read_inat21(root: Path) -> pl.DataFrame:
    """Read iNat21's validation set: ``val.json`` (COCO), or folders ``val/<number>_Kingdom_..._epithet``."""
    if not (root / "val.json").exists():
        return _with_lineage_of_folders(read_folders(root, "val"))
    content = load_json(root / "val.json", kind="the annotations of iNaturalist 2021")
    try:
        ranks_of = {
            entry["id"]: {
                **{rank: entry.get(rank) or "" for rank in RANK_LABELS[:-1]},
                "species": entry.get("specific_epithet") or "",
                "common_name": entry.get("common_name") or "",
                "label": entry["name"],
            }
            for entry in content["categories"]
        }
        class_of = {entry["image_id"]: entry["category_id"] for entry in content["annotations"]}
        rows = [{"file": image["file_name"], **ranks_of[class_of[image["id"]]]} for image in content["images"]]
    except (KeyError, TypeError, AttributeError) as error:
        raise LinnaeaError(f"{root / 'val.json'}: not iNat21's published format (no {error})") from None
    return make_table(rows)


def _with_lineage_of_folders(table: pl.DataFrame) -> pl.DataFrame:
    parts = [label.split("_") for label in table["label"]]
    if wrong := next((i for i, names in enumerate(parts) if len(names) != len(RANK_LABELS) + 1), None):
        raise LinnaeaError(f"folder {table['label'][wrong]!r}: iNat21 folder names are a number and seven ranks")
    columns = [pl.Series(rank, [names[1 + i] for names in parts]) for i, rank in enumerate(RANK_LABELS)]
    return table.with_columns(columns)


def read_herbarium19(root: Path) -> pl.DataFrame:
    """Read Herbarium 19: ``small-train`` with one numbered folder per class, as category discovery uses it."""
    return read_folders(root, "small-train")


def read_plantdoc_transfer(root: Path) -> pl.DataFrame:
    """Read PlantDoc as published: ``train`` and ``test`` with one folder per class each."""
    return read_folders(root, "train", "test")


def read_newt(root: Path) -> pl.DataFrame:
    """Read NeWT: ``newt2021_labels.csv`` and ``newt2021_images/ID.jpg``; adds ``task`` and ``cluster``."""
    path = need(root / "newt2021_labels.csv")
    table = read_table(path).rows
    need_columns(table.columns, path, "id", "task", "task_cluster", "label", "split")
    rows = table.select(
        pl.format("newt2021_images/{}.jpg", "id").alias("file"), "label", "split", "task", cluster="task_cluster"
    )
    return make_table(rows)


def read_awa2(root: Path) -> pl.DataFrame:
    """Read Animals with Attributes 2: one folder per class in ``JPEGImages``; ``testclasses.txt`` lists the test split.

    The table has one more column per attribute of the class. ``classes.txt`` may have numbers before the names.
    """
    names = [line.split()[-1] for line in _lines(root / "classes.txt")]
    matrix = [line.split() for line in _lines(root / "predicate-matrix-binary.txt")]
    traits = [line.split()[-1] for line in _lines(root / "predicates.txt")]
    if len(matrix) != len(names) or {len(row) for row in matrix} != {len(traits)}:
        raise LinnaeaError(
            f"{root}: predicate-matrix-binary.txt does not have {len(names)} classes x {len(traits)} attributes"
        )
    split_of = {line.strip(): split for split in ("train", "test") for line in _lines(root / f"{split}classes.txt")}
    frames = []
    for name, values in zip(names, matrix, strict=True):
        if name in split_of:
            files = [str(path.relative_to(root)) for path in iter_files(need(root / "JPEGImages" / name))]
            frame = pl.DataFrame({"file": files}, schema={"file": pl.String})
            known = {TRAIT + trait: int(value) for trait, value in zip(traits, values, strict=True)}
            frames.append(frame.with_columns(pl.lit(value).alias(key) for key, value in
                                             {"label": name, "split": split_of[name], **known}.items()))  # fmt: skip
    if not frames:
        raise LinnaeaError(f"{root}: trainclasses.txt and testclasses.txt name no class of classes.txt")
    return make_table(pl.concat(frames))


def read_fishnet(root: Path) -> pl.DataFrame:
    """Read FishNet: ``train.csv`` and ``test.csv`` with the nine traits, and ``Image_Library/FOLDER/image``.

    Rows with a missing trait are left out, as in BioCLIP 2's evaluation.
    """
    frames = []
    for split in ("train", "test"):
        path = need(root / f"{split}.csv")
        table = read_table(path).rows
        need_columns(table.columns, path, *FISHNET_TRAITS)
        if len(table.columns) <= _FISHNET_FOLDER:
            raise LinnaeaError(f"{path}: {len(table.columns)} columns; a FishNet table has more")
        image, folder = table.columns[_FISHNET_IMAGE], table.columns[_FISHNET_FOLDER]
        known = table.filter(pl.all_horizontal(pl.col(trait) != "" for trait in FISHNET_TRAITS))
        names = pl.col(image).str.split("/").list.last()
        label = pl.col("species" if "species" in table.columns else folder)
        frames.append(
            known.select(
                pl.concat_str(pl.lit("Image_Library"), folder, names, separator="/").alias("file"),
                label.alias("label"),
                pl.lit(split).alias("split"),
                (pl.col("FeedingPath") == "pelagic").cast(pl.Int64).alias(f"{TRAIT}FeedingPath"),
                *(pl.col(name).cast(pl.Float64).cast(pl.Int64).alias(TRAIT + name) for name in FISHNET_TRAITS[1:]),
            )
        )
    return make_table(pl.concat(frames))


def make_table(rows: pl.DataFrame | Sequence[dict[str, Any]], base: str = "") -> pl.DataFrame:
    """Return rows as a table with :data:`COLUMNS` first; ``base`` is the folder that their files are in."""
    table = rows if isinstance(rows, pl.DataFrame) else pl.DataFrame(rows, infer_schema_length=None)
    missing = [pl.lit("").alias(column) for column in COLUMNS if column not in table.columns]
    table = table.with_columns(missing)
    if base:
        table = table.with_columns(file=pl.concat_str(pl.lit(base), "file", separator="/"))
    return table.select(*COLUMNS, *(column for column in table.columns if column not in COLUMNS))


def find_base(root: Path, files: Iterable[str], bases: Sequence[str]) -> str:
    """Return the first of ``bases`` that contains the first file, or the first base if the file is missing."""
    first = next(iter(files), "")
    return next((base for base in bases if (root / base / first).is_file()), bases[0])


def need(path: Path) -> Path:
    """Return a path that exists.

    Raises:
        LinnaeaError: It does not.
    """
    if not path.exists():
        raise LinnaeaError(f"{path}: not found; give the folder of the unpacked data set with --root")
    return path


def _lines(path: Path) -> list[str]:
    return [line for line in read_regular(need(path)).decode("utf-8", "replace").splitlines() if line.strip()]


def _pairs(path: Path) -> dict[str, str]:
    """Read lines of the form ``KEY rest`` into a dict."""
    split = (line.split(" ", 1) for line in _lines(path))
    return {key: rest[0].strip() if rest else "" for key, *rest in split}
