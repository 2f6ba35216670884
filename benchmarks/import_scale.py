"""Import a made-up checklist of five million rows, and look a name up in it.

    python benchmarks/import_scale.py [--rows 5000000] [--folder DIR]

Writes a Darwin Core Archive with parents by id (kingdoms to species with authors, 20% synonyms), imports it with the
command in a process of its own, and runs ``taxonomy lineage`` three times. Prints seconds, the peak of resident memory
and the report of the import, whose rows are compared with those that were written.
"""

import argparse
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import polars as pl

META = """<archive xmlns="http://rs.tdwg.org/dwc/text/">
<core rowType="http://rs.tdwg.org/dwc/terms/Taxon" encoding="UTF-8" fieldsTerminatedBy="\\t" ignoreHeaderLines="1">
<files><location>taxon.txt</location></files><id index="0"/>{fields}</core></archive>"""
TERMS = ("taxonID", "parentNameUsageID", "acceptedNameUsageID", "taxonRank", "scientificName",
         "scientificNameAuthorship", "taxonomicStatus")  # fmt: skip
RANKS = ("kingdom", "phylum", "class", "order", "family", "genus", "species")
SHARES = (0, 0, 1e-5, 1e-4, 1e-3, 0.04)
"""Taxa of each rank above the species, as a share of the rows; at least 2 more than the rank above."""
SYNONYMS = 0.2
SYLLABLES = ("ba", "ce", "di", "fo", "gu", "la", "me", "ni", "po", "ru", "sa", "te", "vi", "xo", "zu", "tra")
NOTHING = pl.lit(None, pl.String)


def main() -> None:
    """Print the figures; see the module's docstring."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--folder", type=Path, help="for the archive and the cache; else a temporary one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch)
        name = write_archive(folder / "archive", options.rows)
        environment = os.environ | {"LINNAEA_CACHE": str(folder / "cache")}
        command = ["taxonomy", "checklists", "--add", str(folder / "archive"), "--name", "large"]
        seconds, said = run(command, environment)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        counted = [int(n.replace(",", "")) for n in re.findall(r"([\d,]+) rows in", said)]
        equal = "all" if counted == [options.rows] else f"NOT ALL, {counted}"
        print(f"import of {options.rows:,} rows: {seconds:.0f} s, {peak:.2f} GiB; {equal} are accounted for")
        print(said.strip())
        lookups = [run(["taxonomy", "lineage", name, "--checklist", "large"], environment)[0] for _ in range(3)]
        print(f"lineage {name!r}: {', '.join(f'{one:.1f}' for one in lookups)} s")


def run(command: Sequence[str], environment: dict[str, str]) -> tuple[float, str]:
    """Run the command; return its seconds and what it said."""
    started = time.perf_counter()
    line = [sys.executable, "-m", "linnaea", *command]
    done = subprocess.run(line, check=False, env=environment, text=True, capture_output=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return time.perf_counter() - started, done.stdout + done.stderr


def write_archive(folder: Path, n_rows: int) -> str:
    """Write the archive; return the name of a species in it."""
    folder.mkdir(parents=True, exist_ok=True)
    fields = "".join(f'<field index="{i}" term="http://rs.tdwg.org/dwc/terms/{term}"/>' for i, term in enumerate(TERMS))
    (folder / "meta.xml").write_text(META.format(fields=fields))
    counts = [max(int(share * n_rows), 2 + 2 * number) for number, share in enumerate(SHARES)]
    n_synonyms = int(SYNONYMS * n_rows)
    counts.append(n_rows - sum(counts) - n_synonyms)
    random, first, name, above = np.random.default_rng(0), 0, "", (0, 0)
    with (folder / "taxon.txt").open("wb") as file:
        file.write(("\t".join(TERMS) + "\n").encode())
        for rank, count in zip(RANKS, counts, strict=True):
            parents = random.integers(*above, count) if above[1] else np.full(count, -1)
            name = _write_taxa(file, rank, first, parents)
            above, first = (first, first + count), first + count
        _write_synonyms(file, first, random.integers(*above, n_synonyms))
    return name


def _word(numbers: pl.Expr, ending: str) -> pl.Expr:
    """Return made-up words, a different one for every number."""
    parts = [(numbers // 16**place % 16).replace_strict(list(range(16)), SYLLABLES) for place in range(6)]
    return pl.concat_str(*parts, pl.lit(ending))


def _write_taxa(file: BinaryIO, rank: str, first: int, parents: "np.ndarray") -> str:
    """Write taxa of one rank, numbered from ``first``; return the name of one."""
    number, parent = pl.col("number"), pl.col("parent")
    name = _word(number, "us").str.to_titlecase()
    if rank == "species":
        name = pl.concat_str(_word(parent, "us").str.to_titlecase(), pl.lit(" "), _word(number, "i"))
    table = pl.DataFrame({"number": np.arange(first, first + len(parents)), "parent": parents}).select(
        number.cast(pl.String), pl.when(parent >= 0).then(parent).cast(pl.String), accepted=NOTHING,
        rank=pl.lit(rank), name=name, author=pl.format("Author{}, {}", number % 5000, 1758 + number % 250),
        status=pl.lit("accepted"),
    )  # fmt: skip
    table.write_csv(file, separator="\t", include_header=False, quote_style="never")
    return str(table["name"][len(parents) // 2])


def _write_synonyms(file: BinaryIO, first: int, accepted: "np.ndarray") -> None:
    number = pl.col("number")
    name = pl.concat_str(_word(number * 7, "ia").str.to_titlecase(), pl.lit(" "), _word(number, "ae"))
    table = pl.DataFrame({"number": np.arange(first, first + len(accepted)), "accepted": accepted}).select(
        number.cast(pl.String), parent=NOTHING, accepted=pl.col("accepted").cast(pl.String),
        rank=pl.lit("species"), name=name, author=pl.lit("Old, 1800"), status=pl.lit("synonym"),
    )  # fmt: skip
    table.write_csv(file, separator="\t", include_header=False, quote_style="never")


if __name__ == "__main__":
    main()
