"""Ten million records with a million distinct names, and what a Python object per name costs in comparison.

    python benchmarks/resolve_scale.py [--records 10000000] [--distinct 1000000] [--checklist inat]

Names: 70% as in the checklist, 15% with an authorship, 10% with one or two edits, 5% junk. The command line is run
as a user would run it, CSV to Parquet, in a process of its own, whose largest memory is reported. Then the way of the
reference (a Python object per record, its cleaning rules, a dictionary lookup) runs on a subset in the same run.
"""

import argparse
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from linnaea.taxonomy.checklists.store import load_checklist
from linnaea.taxonomy.ranks import Rank

AUTHORS = ("L.", "Mill.", "(L.) Mill.", "Linnaeus, 1758", "(Fabricius, 1775)", "Gonn. & Rabenh.", "DC.", "Walker, 1866")
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def main() -> None:
    """Print one line per measurement."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--records", type=int, default=10_000_000)
    parser.add_argument("--distinct", type=int, default=1_000_000)
    parser.add_argument("--checklist", default="inat")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    taxa = load_checklist(options.checklist).taxa
    truth = taxa.filter(pl.col("rank") == int(Rank.SPECIES)).select("name").unique(maintain_order=True)
    names = make_names(truth["name"], options.distinct)
    with tempfile.TemporaryDirectory(prefix="linnaea-scale-") as scratch:
        for n in dict.fromkeys((options.distinct, options.records)):
            source, output = Path(scratch) / "names.csv", Path(scratch) / "resolved.parquet"
            rows = np.random.default_rng(0).permutation(n) % names.height
            names.select(pl.col("name", "truth", "kind").gather(rows)).write_csv(source)
            seconds = run(source, output, options)
            peak_gib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
            size = f"{n:,} records, {names.height:,} distinct"
            print(f"{size}: {seconds:.0f} s, {n / seconds:,.0f} records/s, {peak_gib:.1f} GiB")
            print(outcome(output))
            output.unlink()
    seconds, n = object_per_name(names["name"].head(100_000), truth["name"])
    print(f"a Python object per name: {n / seconds:,.0f} records/s, no misspelling corrected ({n:,} records)")


def make_names(species: pl.Series, n: int) -> pl.DataFrame:
    """name, truth, kind: ``n`` distinct names in the stated proportions."""
    draw = random.Random(0)
    picked = species.sample(min(len(species), round(0.95 * n)), seed=0, shuffle=True).to_list()
    rows: list[tuple[str, str, str]] = []
    for at, name in enumerate(picked):
        share = at / n
        if share < 0.70:
            rows.append((name, name, "exact"))
        elif share < 0.85:
            rows.append((f"{name} {draw.choice(AUTHORS)}", name, "authorship"))
        else:
            rows.append((misspell(name, draw), name, "edits"))
    while len(rows) < n:
        word = "".join(draw.choices(LETTERS, k=draw.randint(4, 12)))
        rows.append((f"{word} {''.join(draw.choices(LETTERS, k=6))} {len(rows)}", "", "junk"))
    table = pl.DataFrame(rows, schema=["name", "truth", "kind"], orient="row")
    return table.unique("name", maintain_order=True).sample(fraction=1.0, shuffle=True, seed=1)


def misspell(name: str, draw: random.Random) -> str:
    """One or two edits anywhere but in the first letter."""
    for _ in range(draw.randint(1, 2)):
        at = draw.randint(1, len(name) - 2)
        if name[at] == " " or name[at + 1] == " ":
            continue
        kind = draw.randint(0, 3)
        letter = draw.choice(LETTERS)
        swapped = name[:at] + name[at + 1] + name[at] + name[at + 2 :]
        edited = (
            name[:at] + letter + name[at:],
            name[:at] + name[at + 1 :],
            name[:at] + letter + name[at + 1 :],
            swapped,
        )
        name = edited[kind]
    return name


def run(source: Path, output: Path, options: argparse.Namespace) -> float:
    """Seconds of the command."""
    command = [sys.executable, "-m", "linnaea.cli", "taxonomy", "resolve", str(source), "--column", "name"]
    command += ["--output", str(output), "--checklist", options.checklist, "--processes", str(options.processes)]
    started = time.perf_counter()
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


def outcome(output: Path) -> pl.DataFrame:
    """Per kind of name the share resolved to the right species, to another one, and to none."""
    species = pl.col("rank") == "species"
    asserted = species & pl.col("status").is_in(("accepted", "synonym", "fuzzy"))
    return (
        pl.scan_parquet(output)
        .group_by("kind")
        .agg(
            right=(asserted & (pl.col("scientific_name") == pl.col("truth"))).mean().round(4),
            other=(asserted & (pl.col("scientific_name") != pl.col("truth"))).mean().round(4),
            none=(~asserted).mean().round(4),
        )
        .sort("kind")
        .collect()
    )


@dataclass
class _Name:
    """What the reference keeps per record: the ranks as strings, cleaned one by one."""

    genus: str
    species: str


_CUTS = [
    re.compile(p) for p in (r"\(", r"ssp\.", r"subsp\.", r"var\.", r"\w+, \w+ & \w+", r"\w+ \d{4}", r"\d{4}", r" \w\.")
]


def object_per_name(names: pl.Series, species: pl.Series) -> tuple[float, int]:
    """Seconds and records of cleaning each name by patterns and looking the object up in a dictionary."""
    known = {name.lower(): name for name in species.to_list()}
    started = time.perf_counter()
    found = []
    for name in names.to_list():
        text = re.sub(r"<[^>]*>", "", name).lower().strip()
        for pattern in _CUTS:
            if match := pattern.search(text):
                text = text[: match.start()].strip()
        words = text.split()
        taxon = _Name(genus=words[0].capitalize() if words else "", species=" ".join(words[1:]))
        found.append(known.get(f"{taxon.genus.lower()} {taxon.species}"))
    return time.perf_counter() - started, len(found)


if __name__ == "__main__":
    main()
