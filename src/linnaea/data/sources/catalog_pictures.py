"""Find the pictures of a published catalog: in tars, among downloads, and in the user's own copies of other data sets.

TreeOfLife-10M is published with the pictures of EOL as ``image_set_01.tar.gz`` .. ``image_set_63.tar.gz``. Those of
iNat21 and BIOSCAN-1M are not part of it; the catalog names their files. TreeOfLife-200M is published without pictures.
They are fetched by ``source_url``, or read from the shards that its toolbox makes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import polars as pl

from linnaea.archives import gunzip_to
from linnaea.data.shards import iter_members
from linnaea.data.sources import at_box
from linnaea.data.sources.folder import iter_files
from linnaea.data.sources.normal import hash_text, read_downloads, read_whole
from linnaea.errors import LinnaeaError, UsageError
from linnaea.storage import atomic_path, cache_dir
from linnaea.tables import need_columns

PICTURES = {".jpg", ".jpeg", ".png", ".webp"}
PACKED = (".tar.gz", ".tgz")
URL = "source_url"
"""The column of a catalog with the address of each picture."""
_BOX = ("x", "y", "width", "height")


@dataclass(frozen=True, kw_only=True)
class CatalogPictures:
    """The places where the pictures of a catalog may be; the first that has a picture is used."""

    tars: Path | None
    """Folder with tars (``.tar``, ``.tar.gz``) at any depth, whose members are named by the catalog's ids."""
    unpacked: Path | None
    """Folder for plain copies of packed tars; the cache folder if ``None``."""
    downloads: Path | None
    """``images.parquet`` of a download, with the address in ``source_url``."""
    boxes: Path | None
    """Table with an id and ``x``, ``y``, ``width``, ``height``: the part of the downloaded picture that is meant."""
    inat21: Path | None
    """The user's copy of iNat21: the folder with ``train``, or ``train`` itself."""
    bioscan: Path | None
    """The user's copy of BIOSCAN-1M (the folder with ``part1`` .. ``part113``) or BIOSCAN-5M (files of process ids)."""

    def locate(self, block: pl.DataFrame, key: str) -> pl.DataFrame:
        """Return the rows with two more columns: ``location``, and ``missing``, the reason where there is none."""
        rows = block.join(self.members, left_on=key, right_on="key", how="left", maintain_order="left")
        location, missing = pl.col("location"), pl.lit("no picture of this id in the tars")
        if self.downloads is not None:
            need_columns(block.columns, self.downloads, URL)
            rows = rows.join(self._downloaded, on=URL, how="left", maintain_order="left")
            rows = rows.join(self._boxes, left_on=key, right_on="boxed", how="left", maintain_order="left")
            cut = pl.when(pl.col("box").is_null()).then("path").otherwise(at_box(pl.col("path"), pl.col("box")))
            location, missing = location.fill_null(cut), pl.lit("was not downloaded")
        for name, column, root, place in (
            ("inat21", "inat21_filename", self.inat21 and self.inat21_train, inat21_file()),
            ("bioscan", "bioscan_filename", self.bioscan, _bioscan_file()),
        ):
            if column in block.columns:
                of_it = pl.col(column) != ""
                lacks = f"its picture is in {name} only; give your copy with {name} = ..."
                if root is not None:
                    is_inside = ~place.str.contains(r"(?:^|/)\.\.(?:/|$)")
                    location = location.fill_null(pl.when(of_it & is_inside).then(pl.lit(f"{root}/") + place))
                    lacks = f"the path of its picture leads outside of {name}"
                missing = pl.when(of_it).then(pl.lit(lacks)).otherwise(missing)
        if {"data_source", "source_id"} <= {*block.columns}:  # TreeOfLife-200M names specimens, not files
            of_it = pl.col("data_source") == "bioscan"
            rows = rows.join(self._specimens, left_on="source_id", right_on="specimen", how="left",
                             maintain_order="left")  # fmt: skip
            location = location.fill_null(pl.when(of_it).then("photograph"))
            missing = pl.when(of_it).then(pl.lit("no picture of this specimen; give bioscan = ...")).otherwise(missing)
        rows = rows.with_columns(location=location)
        reason = pl.when(pl.col("location").is_null()).then(missing).otherwise(pl.lit(""))
        return rows.select(*block.columns, "location", missing=reason)

    @property
    def inat21_train(self) -> Path:
        """The folder of iNat21's class folders."""
        assert self.inat21 is not None
        return self.inat21 / "train" if (self.inat21 / "train").is_dir() else self.inat21

    @cached_property
    def tar_paths(self) -> list[Path]:
        """The tars in order of their paths.

        Raises:
            UsageError: the folder has none.
        """
        if self.tars is None:
            return []
        paths = sorted(path for path in self.tars.rglob("*") if path.name.endswith((".tar", *PACKED)))
        if not paths:
            raise UsageError(f"{self.tars}: has no tars")
        return paths

    @property
    def members(self) -> pl.DataFrame:
        """The columns ``key`` and ``location`` of every picture in the tars; of pictures of one name the first."""
        return self._listed[0]

    @property
    def broken(self) -> list[tuple[str, Path, str]]:
        """Name, path and reason of each tar that cannot be read as a whole."""
        return self._listed[1]

    @cached_property
    def _listed(self) -> tuple[pl.DataFrame, list[tuple[str, Path, str]]]:
        rows: list[tuple[str, str]] = []
        broken: list[tuple[str, Path, str]] = []
        for path in self.tar_paths:
            try:
                for picture in self._iter_pictures(path):
                    rows.append(picture)  # one by one: those before the break of a broken tar are kept
            except LinnaeaError as error:
                assert self.tars is not None
                broken.append((path.relative_to(self.tars).as_posix(), path, f"tar: {error}"))
        table = pl.DataFrame(rows, schema={"key": pl.String, "location": pl.String}, orient="row")
        return table.unique("key", keep="first", maintain_order=True), broken

    def _iter_pictures(self, path: Path) -> Iterator[tuple[str, str]]:
        tar = self._unpack(path) if path.name.endswith(PACKED) else path
        for member, offset, size in iter_members(tar):
            if Path(member).suffix.lower() in PICTURES:
                yield Path(member).stem, f"{tar}::{offset}::{size}"

    def _unpack(self, path: Path) -> Path:
        """Return the plain copy of a packed tar, which is written first if it does not exist.

        Photographs do not shrink, so the copy is about as large as the packed tar.
        """
        state = path.stat()
        key = hash_text(f"{path.resolve()} {state.st_size} {state.st_mtime_ns}")
        folder = self.unpacked or cache_dir() / "unpacked"
        plain = folder / f"{path.name.split('.')[0]}-{key}.tar"
        if not plain.exists():
            with atomic_path(plain) as partial:
                gunzip_to(path, partial)
        return plain

    @cached_property
    def _specimens(self) -> pl.DataFrame:
        """The columns ``specimen`` (a process id) and ``photograph`` of the files in the user's copy of BIOSCAN-5M."""
        files = iter_files(self.bioscan) if self.bioscan is not None else ()
        rows = [(path.stem, str(path)) for path in files if path.suffix.lower() in PICTURES]
        table = pl.DataFrame(rows, schema={"specimen": pl.String, "photograph": pl.String}, orient="row")
        return table.unique("specimen", keep="first", maintain_order=True)

    @cached_property
    def _downloaded(self) -> pl.DataFrame:
        assert self.downloads is not None
        return read_downloads(self.downloads, URL)

    @cached_property
    def _boxes(self) -> pl.DataFrame:
        """The columns ``boxed`` (an id) and ``box``, four numbers separated by commas."""
        if self.boxes is None:
            return pl.DataFrame(schema={"boxed": pl.String, "box": pl.String})
        table = read_whole(self.boxes)
        need_columns(table.columns, self.boxes, "uuid", *_BOX)
        box = pl.concat_str(*_BOX, separator=",")
        return table.select(pl.col("uuid").alias("boxed"), box=box).unique("boxed", keep="first", maintain_order=True)


def inat21_file() -> pl.Expr:
    """Return the path of a row's picture below iNat21's ``train``; the catalog's class names may lack the number."""
    name, number = pl.col("inat21_cls_name"), pl.col("inat21_cls_num")
    numbered = pl.concat_str(number.str.zfill(5), name, separator="_")
    folder = pl.when(name.str.contains(r"^\d")).then(name).otherwise(numbered)
    return pl.concat_str(folder, "inat21_filename", separator="/")


def _bioscan_file() -> pl.Expr:
    return pl.concat_str(pl.lit("part"), "bioscan_part", pl.lit("/"), "bioscan_filename")
