"""``linnaea embed IMAGES... --output FILE``: write a vector for each photograph."""

import csv
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO, TypeAlias

import tyro

from linnaea.cli import Commands
from linnaea.cli.console import STANDARD_OUTPUT, progress_bar, report_failed, say
from linnaea.counting import count
from linnaea.errors import LinnaeaError
from linnaea.model.folders import DEFAULT_MODEL, Precision

if TYPE_CHECKING:
    from linnaea.model.encoder import Encoder

Add: TypeAlias = Callable[[str, Any, str], None]
"""A function of a file name, its vector (``None`` if it failed) and the reason."""

ROWS_PER_GROUP = 4096
"""The number of rows of a Parquet file that are held in memory."""


@dataclass(frozen=True, kw_only=True)
class Embed:
    """Encode photographs as unit vectors of the model's joint space."""

    images: tyro.conf.Positional[tuple[str, ...]]
    """Photographs, folders of them (recursively), or patterns."""
    output: Path | None = None
    """File to write: .parquet, .jsonl, .npy (with the file names beside it in .files.csv) or .json. Default, and if
    stdout: JSON on standard output. JSON is in pybioclip's form, with vectors at the length that the model gives; all
    others are unit vectors."""
    format: Literal["json", "jsonl", "npy", "parquet"] | None = None
    """Format of the output. Default: by the suffix of --output."""
    model: str = DEFAULT_MODEL
    """Folder or name of the model; nano comes with this package."""
    preprocess: Literal["crop", "squash"] | None = None
    """crop: the middle square; squash: the whole photograph, as pybioclip does for the published models. Default: as
    the model was trained."""
    pretrained: str | None = None
    """open_clip's pretrained tag, if the model is the name of an architecture."""
    device: str = "auto"
    """cpu, cuda, mps or auto."""
    precision: Precision = "float32"
    """bf16 is about twice as fast on processors that multiply it natively, and less exact; auto uses it there. int8 is
    faster on all; a model without a form in 8 bits gets it from these photographs, if there are 40 or more."""
    batch_size: int = 32
    """Photographs that the model encodes at once."""
    workers: int = 2
    """Number of threads that decode images."""
    fast: bool = False
    """Decode large JPEGs at a fraction of their size: faster, but vectors differ slightly."""

    def __post_init__(self) -> None:
        if not self.images:
            raise ValueError("give at least one photograph or folder")
        if self.output is None or self.output == STANDARD_OUTPUT:
            object.__setattr__(self, "output", None)
            if self.format not in (None, "json"):
                raise ValueError(f"--format {self.format} needs --output FILE")
        elif self.format is None and self.output.suffix.lower() not in (*WRITERS, ".json"):
            raise ValueError(f"--output {self.output}: must end in {', '.join(WRITERS)} or .json")
        if self.batch_size < 1 or self.workers < 1:
            raise ValueError("--batch-size and --workers must be at least 1")


def embed(options: Embed) -> int:
    """Write a row for every photograph, in the order given; those that cannot be read have a reason and no vector."""
    from linnaea.data.images import ImageError
    from linnaea.predict.inputs import file_input, list_images
    from linnaea.predict.outputs.rows import printable
    from linnaea.predict.session import open_model

    paths = list_images(options.images)
    if not paths:
        raise LinnaeaError(f"{' '.join(options.images)}: no photographs there")
    inputs = [file_input(path) for path in paths]
    model = open_model(options.model, pretrained=options.pretrained, device=options.device, precision=options.precision,
                       preprocess=options.preprocess, int8_photographs=inputs)  # fmt: skip
    form = options.format or ("json" if options.output is None else options.output.suffix.lower().removeprefix("."))
    encoded = model.iter_embed(
        inputs,
        batch_size=options.batch_size,
        n_workers=options.workers,
        fast=options.fast,
        unit=form != "json",
    )
    failed: list[str] = []
    with (
        _open_writer(options.output, form, model.encoder, len(paths)) as add,
        progress_bar("embedding", "images") as on_progress,
    ):
        for done, (one, vector) in enumerate(encoded, start=1):
            name = printable(one.name)
            if isinstance(vector, ImageError):
                failed.append(f"{name}: {vector}")
                add(name, None, printable(str(vector)))
            else:
                add(name, vector, printable("; ".join(dict.fromkeys(one.notes))))
            on_progress(done, len(paths))
    say(
        f"{len(paths) - len(failed):,} of {count(len(paths), 'photograph')}"
        f" encoded: {options.output or 'standard output'}"
    )
    return report_failed(failed, len(paths))


@contextmanager
def _open_writer(output: Path | None, form: str, model: "Encoder", n_rows: int) -> Iterator[Add]:
    """Yield the function that adds a row to the output, which appears as a whole if it is a file."""
    from linnaea.exchange import hold_output
    from linnaea.storage import atomic_path

    if output is None:
        with _write_json(sys.stdout, model) as add:
            yield add
        return
    with hold_output(output, kind="command"), atomic_path(output) as partial:
        if form == "json":
            with partial.open("w", encoding="utf-8") as stream, _write_json(stream, model) as add:
                yield add
        else:
            with WRITERS[f".{form}"](partial, output, model, n_rows) as add:
                yield add


@contextmanager
def _write_json(stream: TextIO, model: "Encoder") -> Iterator[Add]:
    """Write the vectors by file name as pybioclip does, null for photographs that failed."""
    stream.write(f'{{"model": {json.dumps(model.name)}, "embeddings": {{')
    mark = ""

    def add(name: str, vector: Any, reason: str) -> None:
        nonlocal mark
        values = None if vector is None else vector.tolist()
        stream.write(f"{mark}\n {json.dumps(name)}: {json.dumps(values)}")
        mark = ","

    yield add
    stream.write("\n}}\n")


@contextmanager
def _write_npy(partial: Path, output: Path, model: "Encoder", n_rows: int) -> Iterator[Add]:
    """Write float32 ``[N, E]``, NaN for photographs that failed; a CSV file beside it has file names and reasons."""
    import numpy as np

    from linnaea.storage import atomic_path

    header = {"descr": "<f4", "fortran_order": False, "shape": (n_rows, model.width)}
    missing = np.full(model.width, np.nan, np.float32)
    with (
        atomic_path(output.with_suffix(".files.csv")) as listing,
        listing.open("w", encoding="utf-8", newline="") as names,
        partial.open("wb") as vectors,
    ):
        table = csv.writer(names)
        table.writerow(["file_name", "status", "reason"])
        np.lib.format.write_array_header_1_0(vectors, header)

        def add(name: str, vector: Any, reason: str) -> None:
            vectors.write((missing if vector is None else vector).astype("<f4").tobytes())
            table.writerow([name, _status(vector), reason])

        yield add


@contextmanager
def _write_jsonl(partial: Path, output: Path, model: "Encoder", n_rows: int) -> Iterator[Add]:
    """Write an object per line; ``embedding`` is null for photographs that failed."""
    with partial.open("w", encoding="utf-8") as stream:

        def add(name: str, vector: Any, reason: str) -> None:
            values = None if vector is None else [float(f"{value:.8g}") for value in vector]
            row = {"file_name": name, "status": _status(vector), "reason": reason, "embedding": values}
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")

        yield add


@contextmanager
def _write_parquet(partial: Path, output: Path, model: "Encoder", n_rows: int) -> Iterator[Add]:
    """Write the columns of the JSON lines; the file's metadata names the model."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = [
        pa.field("file_name", pa.string()),
        pa.field("status", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("embedding", pa.list_(pa.float32(), model.width)),
    ]
    about = {
        "linnaea.model": model.name,
        "linnaea.fingerprint": model.fingerprint,
        "linnaea.precision": model.precision,
    }
    schema = pa.schema(columns, metadata=about)
    rows: list[dict[str, Any]] = []
    with pq.ParquetWriter(partial, schema, compression="zstd") as writer:

        def flush() -> None:
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
            rows.clear()

        def add(name: str, vector: Any, reason: str) -> None:
            rows.append({"file_name": name, "status": _status(vector), "reason": reason, "embedding": vector})
            if len(rows) == ROWS_PER_GROUP:
                flush()

        yield add
        flush()


def _status(vector: Any) -> str:
    return "failed" if vector is None else "ok"


Writer: TypeAlias = Callable[[Path, Path, "Encoder", int], AbstractContextManager[Add]]
WRITERS: dict[str, Writer] = {".parquet": _write_parquet, ".jsonl": _write_jsonl, ".npy": _write_npy}


COMMANDS: Commands = {"": (Embed, embed)}
