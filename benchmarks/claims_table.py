"""The Markdown tables of claims.py: scores as mean and deviation over seeds, and which claims hold."""

from collections.abc import Sequence
from statistics import mean, stdev
from typing import Any

from scipy.special import stdtr

from linnaea.evaluate.intervals import holm

MAIN = {
    "seen: species": ("test/taxon_com/top1", "test/class_head/top1"),
    "seen: family": ("test/taxon_com/family", "test/class_head/family"),
    "seen: 1-shot": ("test/1-shot",),
    "seen: 5-shot": ("test/5-shot",),
    "unseen: species": ("unseen/taxon_com/top1",),
    "unseen: genus by seen species": ("unseen/by_seen/genus",),
    "unseen: family by seen species": ("unseen/by_seen/family",),
    "unseen: 1-shot": ("unseen/1-shot",),
    "unseen: 5-shot": ("unseen/5-shot",),
}
TEXT = {name: (f"unseen/{name}/top1",) for name in ("com", "sci", "taxon", "sci_com", "taxon_com")}
DIVERSITY = {
    "60 shared species: species": ("test/alike/top1",),
    "60 shared species: 5-shot": ("test/alike/5-shot",),
    "unseen, all: species": ("unseen/taxon_com/top1",),
    "unseen, all: family by seen": ("unseen/by_seen/family",),
    "unseen, birds and butterflies: species": ("unseen/alike/top1",),
    "unseen, birds and butterflies: 1-shot": ("unseen/alike/1-shot",),
    "unseen, birds and butterflies: 5-shot": ("unseen/alike/5-shot",),
}
TABLES: dict[str, tuple[Sequence[str], dict[str, tuple[str, ...]]]] = {
    "Objectives": (
        ("frozen start", "clip", "cross-entropy", "hierarchical", "multi-positive", "rank-positive",
         "level-restricted"),
        MAIN,
    ),
    "Text types in training (rows) and in the question (columns), unseen species": (
        ("text-com", "text-sci", "text-taxon", "text-sci_com", "text-taxon_com", "clip"),
        TEXT,
    ),
    "As many photographs: few species with many, many species with few": (("few-species", "many-species"), DIVERSITY),
    "Text tower and order of ranks": (
        ("clip", "bidirectional", "shuffled", "text-taxon_com", "taxon_com-bidirectional", "taxon_com-shuffled"),
        MAIN,
    ),
}  # fmt: skip
CLAIMS: tuple[tuple[str, str, str, str], ...] = (
    ("CLIP's objective beats cross-entropy, seen, 1-shot", "clip", "cross-entropy", "seen: 1-shot"),
    ("CLIP's objective beats cross-entropy, seen, 5-shot", "clip", "cross-entropy", "seen: 5-shot"),
    ("CLIP's objective beats cross-entropy, unseen, 1-shot", "clip", "cross-entropy", "unseen: 1-shot"),
    ("CLIP's objective beats cross-entropy, unseen, 5-shot", "clip", "cross-entropy", "unseen: 5-shot"),
    ("CLIP's objective beats hierarchical cross-entropy, unseen, 1-shot", "clip", "hierarchical", "unseen: 1-shot"),
    ("CLIP's objective beats hierarchical cross-entropy, unseen, 5-shot", "clip", "hierarchical", "unseen: 5-shot"),
    ("CLIP's objective generalises to the family of unseen species better than cross-entropy", "clip",
     "cross-entropy", "unseen: family by seen species"),
    ("hierarchical beats plain cross-entropy, unseen, 1-shot", "hierarchical", "cross-entropy", "unseen: 1-shot"),
    ("hierarchical beats plain cross-entropy, unseen, 5-shot", "hierarchical", "cross-entropy", "unseen: 5-shot"),
    *((f"the mixture of text types beats {name} alone, asked as {name}", "clip", f"text-{name}", name)
      for name in TEXT),
    ("taxonomic + common names beat common names, each asked as trained, unseen", "text-taxon_com:taxon_com",
     "text-com:com", ""),
    ("taxonomic + common names beat scientific names, each asked as trained, unseen", "text-taxon_com:taxon_com",
     "text-sci:sci", ""),
    ("more species beat more photographs of each, unseen, zero-shot", "many-species", "few-species",
     "unseen, all: species"),
    ("more species beat more photographs of each, unseen like the training ones, zero-shot", "many-species",
     "few-species", "unseen, birds and butterflies: species"),
    ("more species beat more photographs of each, unseen like the training ones, 5-shot", "many-species",
     "few-species", "unseen, birds and butterflies: 5-shot"),
    ("multi-positive beats InfoNCE, seen species", "multi-positive", "clip", "seen: species"),
    ("multi-positive beats InfoNCE, unseen species", "multi-positive", "clip", "unseen: species"),
    ("positives by rank beat InfoNCE, unseen species", "rank-positive", "clip", "unseen: species"),
    ("positives by rank beat InfoNCE, family of unseen", "rank-positive", "clip", "unseen: family by seen species"),
    ("level-restricted beats InfoNCE, unseen species", "level-restricted", "clip", "unseen: species"),
    ("level-restricted beats InfoNCE, family of unseen", "level-restricted", "clip",
     "unseen: family by seen species"),
    ("a causal text tower beats a bidirectional one, unseen species", "clip", "bidirectional", "unseen: species"),
    ("the same with taxonomic + common names alone", "text-taxon_com", "taxon_com-bidirectional",
     "unseen: species"),
    ("ranks in their order beat shuffled ones, unseen species", "clip", "shuffled", "unseen: species"),
    ("the same with taxonomic + common names alone", "text-taxon_com", "taxon_com-shuffled", "unseen: species"),
)  # fmt: skip
"""What is claimed, the cell that should be better, the other, and the column that tells."""

DEGREES = 4
"""Degrees of freedom of two means of three runs each."""
COLUMNS = {**MAIN, **DIVERSITY, **TEXT}
Results = Sequence[dict[str, Any]]


def scores_of(results: Results, cell: str, keys: Sequence[str]) -> dict[int, float]:
    """The score of each seed, in percent, under the first of the keys that a line has."""
    found = {}
    for line in results:
        value = next((line["scores"][key] for key in keys if key in line["scores"]), None)
        if line["cell"] == cell and value is not None:
            found[line["seed"]] = 100 * value
    return found


def show(scores: Sequence[float]) -> str:
    if not scores:
        return ""
    return f"{mean(scores):.1f}" + (f" ± {stdev(scores):.1f}" if len(scores) > 1 else "")


def compare(results: Results, better: str, other: str, column: str) -> tuple[float, float] | None:
    """The difference of two cells and its standard error over the seeds; none with fewer than three runs each."""

    def values(cell: str) -> list[float]:
        name, _, text = cell.partition(":")
        return list(scores_of(results, name, COLUMNS[text or column]).values())

    a, b = values(better), values(other)
    if len(a) < 3 or len(b) < 3:
        return None
    gap = mean(a) - mean(b)
    error = (stdev(a) ** 2 / len(a) + stdev(b) ** 2 / len(b)) ** 0.5
    return gap, error


def judge(found: Sequence[tuple[float, float] | None]) -> list[str]:
    """Holds, the opposite holds, or neither, by Student's test over the seeds, adjusted for all claims (Holm)."""
    told = [pair for pair in found if pair is not None]
    adjusted = iter(holm([float(2 * stdtr(DEGREES, -abs(gap) / max(error, 1e-9))) for gap, error in told]))
    lines = []
    for pair in found:
        if pair is None:
            lines.append("| not enough runs | | |")
            continue
        gap, p = pair[0], next(adjusted)
        verdict = "no difference beyond error" if p >= 0.05 else "holds" if gap > 0 else "the opposite holds"
        lines.append(f"| {gap:+.1f} ± {pair[1]:.1f} | {p:.2g} | {verdict} |")
    return lines


def print_tables(results: Results) -> None:
    """All tables, in Markdown, on standard output."""
    seeds = {line["seed"] for line in results}
    print(f"{len(results)} runs, seeds {sorted(seeds)}; percent right, mean ± standard deviation over seeds\n")
    for title, (cells, columns) in TABLES.items():
        print(f"### {title}\n\n| cell | runs | {' | '.join(columns)} |\n|---|---:|{'---:|' * len(columns)}")
        for cell in cells:
            n_runs = len({line["seed"] for line in results if line["cell"] == cell})
            shown = [show(list(scores_of(results, cell, keys).values())) for keys in columns.values()]
            print(f"| {cell} | {n_runs} | {' | '.join(shown)} |")
        print()
    print("### Claims\n\n| claim | difference ± standard error | p | verdict |\n|---|---:|---:|---|")
    verdicts = judge([compare(results, better, other, column) for _, better, other, column in CLAIMS])
    for (claim, *_), verdict in zip(CLAIMS, verdicts, strict=True):
        print(f"| {claim} {verdict}")
