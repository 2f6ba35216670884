"""The loop of reviewing, measured: predict, review the least sure, adapt, predict again.

    python benchmarks/review_loop.py PHOTOGRAPHS metadata.csv --sources seedlings --n 500 --review 60

The table needs the columns filepath, source and those of the ranks, and may have eval_split. The reviewer knows the
truth. What is measured are the photographs that nobody reviewed.
"""

import argparse
import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl

from linnaea.predict.records.decisions import DecisionLog, Kind
from linnaea.predict.records.review import Review, Wanted
from linnaea.taxonomy.ranks import RANK_LABELS
from linnaea.taxonomy.taxon import Taxon


def run(*words: str) -> None:
    print("$ linnaea", *words, flush=True)
    subprocess.run([sys.executable, "-m", "linnaea", *words], check=True)


def review(table: Path, truth: dict[str, Taxon], n: int, order: str) -> set[str]:
    """Decide on the first n photographs of the queue, as the page would."""
    answers = Review.open(table)
    log = DecisionLog(table.with_name("decisions.jsonl"))
    wanted = Wanted(reviewer="oracle", order=order, state="all")  # type: ignore[arg-type]
    for number in answers.choose(wanted, log.verdicts)[:n]:
        one = answers.items[number]
        log.add([one.decide(Kind.CORRECTED, "oracle", truth[one.file_name])])
    return {name for name, _ in log.verdicts.items()}


def share_right(table: Path, truth: dict[str, Taxon], left_out: set[str]) -> str:
    """Return how many first answers are right, among all and among those that were not reviewed."""
    first = pl.read_parquet(table).unique("file_name", keep="first", maintain_order=True)
    right = {
        name: species == truth[name].scientific_name for name, species in first.select("file_name", "species").rows()
    }
    others = [ok for name, ok in right.items() if name not in left_out]
    return f"{np.mean([*right.values()]):.1%} of {len(right)}, {np.mean(others):.1%} of the {len(others)} not reviewed"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path)
    parser.add_argument("metadata", type=Path)
    parser.add_argument("--sources", nargs="+", required=True)
    parser.add_argument("--splits", nargs="*", default=["test", "transfer"])
    parser.add_argument("--n", type=int, default=500)
    parser.add_argument("--review", type=int, default=60)
    parser.add_argument("--order", default="sure", choices=["sure", "random"])
    parser.add_argument("--labels", default="")
    parser.add_argument("--output", type=Path, default=Path("runs/review-loop"))
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    with given.metadata.open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["source"] in given.sources and row["species"]]
    if (splits := given.root / "eval-split.csv").exists():
        with splits.open(newline="") as stream:
            split_of = {row["filepath"]: row["eval_split"] for row in csv.DictReader(stream)}
        rows = [row for row in rows if split_of.get(row["filepath"]) in given.splits]
    chosen = np.random.default_rng(0).permutation(len(rows))[: given.n]
    truth = {
        str(given.root / rows[n]["filepath"]): Taxon.of({rank: rows[n][rank] for rank in RANK_LABELS}) for n in chosen
    }
    card, before, after, head = (given.output / name for name in ("card", "before.parquet", "after.parquet", "head"))
    card.mkdir(exist_ok=True)
    for number, path in enumerate(sorted(truth)):
        link = card / f"{number:04d}{Path(path).suffix}"
        link.unlink(missing_ok=True)
        link.symlink_to(Path(path).resolve())
        truth[str(link)] = truth.pop(path)
    labels = ["--labels", given.labels] if given.labels else []
    run("predict", str(card), *labels, "--output", str(before))
    reviewed = review(before, truth, given.review, given.order)
    run("adapt", "--decisions", str(given.output / "decisions.jsonl"), *labels, "--output", str(head))
    run("predict", str(card), "--labels", str(head), "--output", str(after))
    print("right before:", share_right(before, truth, reviewed))
    print("right after: ", share_right(after, truth, reviewed))


if __name__ == "__main__":
    main()
