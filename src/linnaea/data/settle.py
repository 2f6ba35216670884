"""The second stage of a build: the name of each record, whether it is kept, and its split.

No decision depends on the order of the sources or on the workers: records are sorted by key, and hashes and searches
are pure functions of slices. If several reasons apply to a record, the first of these is recorded: its name, a
benchmark's picture, a benchmark's species, a copy.
"""

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from linnaea.data.copies.bursts import find_bursts, look_at_table
from linnaea.data.copies.compare import TRAINING, Compared, Gallery, compare, encode_gallery, search_near
from linnaea.data.copies.leakage import (
    Benchmark,
    EncodePictures,
    SpeciesNames,
    Vectors,
    describe_benchmark,
    find_copies,
    find_similar,
    match_species,
    species_names,
)
from linnaea.data.copies.links import connect
from linnaea.data.copies.rules import LINK_SCHEMA, REASON_SCHEMA, DuplicateRule, link_exact, settle_copies
from linnaea.data.copies.search import iter_hits
from linnaea.data.engine import Engine
from linnaea.data.naming import (
    NAMES_SCHEMA,
    NameResolver,
    Naming,
    NamingRule,
    count_merged,
    count_names,
    read_label,
    settle_names,
)
from linnaea.data.plan import DETAIL, NAMES_FILE, ROW_GROUP, number_taxa, write_plan
from linnaea.data.read import RecordTables
from linnaea.data.shards import write_parquet
from linnaea.data.splits import BENCHMARK, BenchmarkDraw, SplitRule, assign_splits
from linnaea.errors import LinnaeaError
from linnaea.jobs import OnProgress
from linnaea.parquet import read_parquet, scan_parquet
from linnaea.storage import sha256_of_file, write_atomically
from linnaea.taxonomy.name_tables import read_name_table
from linnaea.taxonomy.taxon import Taxon

COUNTS_FILE = "settled.json"
"""The counts of the stage for the manifest."""

_DECISIVE = ("key", "split", "source", "record_id", "group", "taxon_id")
"""The columns that decide; the others (a path and facts, most of the bytes) stay on disk."""


@dataclass(frozen=True, kw_only=True)
class SettleRules:
    """The rules for names, copies, benchmarks and splits."""

    names: NamingRule
    duplicates: DuplicateRule
    benchmarks: tuple[Benchmark, ...]
    splits: SplitRule
    part_size: int
    """Number of pictures that one task hashes."""

    @property
    def compares_pictures(self) -> bool:
        return self.duplicates.is_on or any(benchmark.by_image for benchmark in self.benchmarks)


def describe_rules(rules: SettleRules) -> dict[str, Any]:
    """Return what identifies the files that the rules name; another content makes another build."""
    found: dict[str, Any] = {}
    for benchmark in rules.benchmarks:
        found[f"benchmark {benchmark.name}"] = describe_benchmark(benchmark)
    for name in rules.names.checklists:
        if Path(name).is_file():
            found[f"checklist {name}"] = _checksum(Path(name))
    if rules.splits.benchmark is not None:
        found["names of the benchmark"] = _checksum(rules.splits.benchmark.names)
    return found


def _checksum(path: Path) -> str:
    try:
        return sha256_of_file(path)
    except OSError as error:
        raise LinnaeaError(f"{path}: {error.strerror}; give an existing file of names") from error


@dataclass(frozen=True, kw_only=True)
class _Named:
    """The records with resolved names: ``taxon_id`` is a row of ``taxa``, and of ``given``, the sources' taxa."""

    records: pl.DataFrame
    taxa: Sequence[Taxon]
    given: Sequence[Taxon] = ()
    naming: Naming | None = None
    resolver: NameResolver | None = None


class _Ledger:
    """The records that are kept, and the first reason of each rejected one."""

    def __init__(self, n_records: int) -> None:
        self.alive: NDArray[np.bool_] = np.ones(n_records, dtype=bool)
        self._reasons = [pl.DataFrame(schema=REASON_SCHEMA)]

    def reject(self, reasons: pl.DataFrame) -> int:
        """Reject those of the rows (each once) that are not rejected yet, and return their number."""
        still = reasons.filter(pl.Series(self.alive[reasons["row"].to_numpy()], dtype=pl.Boolean))
        self.alive[still["row"].to_numpy()] = False
        self._reasons.append(still)
        return still.height

    def reasons(self) -> pl.DataFrame:
        """Return one row per rejected record with :data:`linnaea.data.copies.rules.REASON_SCHEMA`."""
        return pl.concat(self._reasons)


def settle(
    reading: RecordTables,
    rules: SettleRules,
    engine: Engine,
    on_progress: OnProgress,
    encode: EncodePictures | None = None,
) -> None:
    """Write the plan with its taxa and rejects, ``names.parquet`` if names are resolved, and counts for the manifest.

    Raises:
        LinnaeaError: a checklist, a list of names or a benchmark cannot be read, or a benchmark needs an encoder and
            none was given.
    """
    named = _name(reading, rules.names)
    gallery = Gallery.of(reading, rules.benchmarks, rules.part_size)
    compared = compare(gallery, engine, on_progress) if rules.compares_pictures else None
    encoded = encode_gallery(gallery, encode)
    ledger, counts = _Ledger(named.records.height), dict[str, Any]()
    if named.naming:
        ledger.reject(_unnamed(named.naming))
        counts["names"] = count_names(named.naming.table)
    for benchmark in rules.benchmarks:
        pictures = read_parquet(gallery.tables[benchmark.name])
        removed = _remove_copies(benchmark, pictures, compared, encoded, ledger)
        removed |= _remove_species(benchmark, pictures, named, ledger) if benchmark.by_taxon else {}
        counts.setdefault("benchmarks", {})[benchmark.name] = removed
    records = named.records.with_columns(scope="source", pdq=pl.lit(None, pl.String))
    if compared:
        records = records.with_columns(compared.training.hex(records.height))
    if compared and rules.duplicates.is_on:
        near = rules.duplicates.near != "keep"
        links = [search_near(gallery, compared, rules.duplicates.threshold, ledger.alive, engine)] if near else []
        records, counts["copies"] = _settle_copies(records, rules.duplicates, compared, links, ledger)
    if _has_drawn(records, rules.splits):
        folder = gallery.folder / "bursts"
        shots = look_at_table(reading.records_path, folder, rules.part_size, engine, on_progress)
        records, counts["bursts"] = _settle_bursts(records, reading, shots, ledger)
    plan = records.with_row_index("record").filter(pl.Series(ledger.alive))
    _write(reading, plan, ledger.reasons(), named, rules.splits, counts)


def _name(reading: RecordTables, rule: NamingRule) -> _Named:
    records, given = read_parquet(reading.records_path, columns=list(_DECISIVE)), reading.taxa()
    if not rule.checklists:
        return _Named(records=records, taxa=given)
    resolver = NameResolver(rule)
    naming = settle_names(scan_parquet(reading.records_path), given, resolver, rule)
    records = records.with_columns(naming.rows.alias("taxon_id"))
    return _Named(records=records, taxa=naming.taxa, given=naming.given, naming=naming, resolver=resolver)


def _unnamed(naming: Naming) -> pl.DataFrame:
    refused = naming.table.with_row_index("number").filter(pl.col("taken") == "none")
    reason = pl.format("name not resolved ({})" + DETAIL + "{}: {}", "status", "asked", "note")
    rows = naming.rows.alias("number").cast(pl.UInt32).to_frame().with_row_index("row")
    found = rows.join(refused.select("number", reason=reason), on="number", maintain_order="left")
    return found.select("row", "reason").cast(REASON_SCHEMA)  # type: ignore[arg-type]


def _remove_copies(
    benchmark: Benchmark,
    pictures: pl.DataFrame,
    compared: Compared | None,
    encoded: dict[str, Vectors],
    ledger: _Ledger,
) -> dict[str, Any]:
    """Reject pictures that occur in a benchmark, and return the counts."""
    counts: dict[str, Any] = {"pictures": pictures.height}
    names = pictures["picture"].to_list()
    if compared and benchmark.by_image:
        hashes, hits = compared.benchmarks[benchmark.name]
        counts["unreadable"] = int(hashes.digests("sha256").null_count())
        copies = find_copies(benchmark, names, compared.training, hashes, iter_hits(hits))
        counts["removed by image"] = ledger.reject(copies)
    if benchmark.name in encoded:
        similar = find_similar(benchmark, names, encoded[TRAINING], encoded[benchmark.name])
        counts["removed by similarity"] = ledger.reject(similar)
    return counts


def _remove_species(benchmark: Benchmark, pictures: pl.DataFrame, named: _Named, ledger: _Ledger) -> dict[str, Any]:
    """Reject the pictures of a benchmark's species, and return the counts."""
    names = species_names(pictures["label"], pictures["species"], named.resolver)
    match = match_species(names, named.taxa, named.given)
    taxa = pl.Series([taxon.scientific_name for taxon in named.taxa], dtype=pl.String)
    rows = named.records.select("taxon_id").with_row_index("row").filter(pl.col("taxon_id").is_in(match.rows))
    what = f"species of benchmark {benchmark.name}{DETAIL}"
    reasons = rows.select("row", reason=pl.lit(what) + taxa.gather(rows["taxon_id"]))
    removed = ledger.reject(reasons.cast(REASON_SCHEMA))  # type: ignore[arg-type]
    return {"removed by species": removed, "species": len(names.forms), "not in the sources": match.unmatched}


def _settle_copies(
    records: pl.DataFrame, rule: DuplicateRule, compared: Compared, near: list[pl.DataFrame], ledger: _Ledger
) -> tuple[pl.DataFrame, dict[str, int]]:
    """Reject copies, and give the copies that are kept a common group without a source's scope."""
    links = [pl.DataFrame(schema=LINK_SCHEMA), *near]
    if rule.exact != "keep":
        links.append(link_exact(compared.training, ledger.alive))
    copies = settle_copies(records, rule, pl.concat(links), ledger.alive, compared.training.of_rows)
    counts = {"removed": ledger.reject(copies.rejected), "in groups of copies": copies.grouped.height}
    counts["groups of copies"] = copies.grouped["cluster"].n_unique()
    counts["near copies under different names"] = copies.n_under_other_names
    names = records["key"][copies.grouped["cluster"]]
    grouped = copies.grouped.select("row", named="copies-" + names)
    joined = (
        records.with_row_index("row").cast({"row": pl.Int64}).join(grouped, on="row", how="left", maintain_order="left")
    )
    is_copy = pl.col("named").is_not_null()
    records = joined.with_columns(
        group=pl.coalesce("named", "group"), scope=pl.when(is_copy).then(pl.lit("")).otherwise("scope")
    )
    return records.drop("row", "named"), counts


_IS_DRAWN = (pl.col("split") == "") & ((pl.col("group") == "") | (pl.col("scope") == ""))
"""Photographs whose split is drawn here: the source names no split and no group (those of copies are ours)."""


def _has_drawn(records: pl.DataFrame, rule: SplitRule) -> bool:
    return rule.bursts == "group" and rule.draws and bool(records.select(_IS_DRAWN.any()).item())


def _settle_bursts(
    records: pl.DataFrame, reading: RecordTables, shots: pl.DataFrame, ledger: _Ledger
) -> tuple[pl.DataFrame, dict[str, int]]:
    """Give the photographs of each burst whose split is drawn here a common group without a source's scope."""
    rows = records.with_row_index("row").filter(_IS_DRAWN & pl.Series(ledger.alive))
    locations = scan_parquet(reading.records_path).select("location").collect()["location"].gather(rows["row"])
    folders = [location.partition("::")[0].rpartition("/")[0] for location in locations]
    bursts = find_bursts(shots[rows["row"]], folders, rows["taxon_id"].to_list())
    copies = rows.with_row_index("place").filter(pl.col("group") != "")
    copies = copies.with_columns(first=pl.col("place").min().over("group"))
    ends = [(copies["first"].cast(pl.Int64).to_numpy(), copies["place"].cast(pl.Int64).to_numpy())]
    cluster = pl.Series("cluster", connect(rows.height, [(bursts, np.arange(rows.height)), *ends]))
    grouped = rows.select("row", "group", "key").with_columns(cluster).with_columns(
        size=pl.len().over("cluster"),
        named=pl.col("group").filter(pl.col("group") != "").min().over("cluster"),
        first=pl.col("key").first().over("cluster"),
    ).filter(pl.col("size") > 1)  # fmt: skip
    grouped = grouped.select("row", named=pl.coalesce("named", pl.lit("burst-") + pl.col("first")))
    joined = records.with_row_index("row").join(grouped, on="row", how="left", maintain_order="left")
    records = joined.with_columns(
        group=pl.coalesce("named", "group"),
        scope=pl.when(pl.col("named").is_not_null()).then(pl.lit("")).otherwise("scope"),
    ).drop("row", "named")  # fmt: skip
    return records, {"groups": grouped["named"].n_unique(), "photographs": grouped.height}


def _write(
    reading: RecordTables,
    plan: pl.DataFrame,
    reasons: pl.DataFrame,
    named: _Named,
    rule: SplitRule,
    counts: dict[str, Any],
) -> None:
    """Number the remaining taxa, assign the splits, and write everything, the plan last.

    ``plan`` holds the remaining records with the number of the ``record`` in the table on disk; ``reasons`` holds why
    the others were rejected.
    """
    new_id, taxa = number_taxa(plan, named.taxa)
    plan = plan.with_columns(new_id.gather(plan["taxon_id"]).alias("taxon_id"))
    if rule.benchmark is None:
        plan = assign_splits(plan, taxa, rule)
    else:
        names = _rare_names(rule.benchmark, named.resolver)
        match = match_species(names, taxa)
        plan = assign_splits(plan, taxa, rule, {taxa[row].scientific_name for row in match.rows})
        drawn = plan.filter((pl.col("split") == BENCHMARK) & (pl.col("reason") == ""))
        counts["benchmark drawn"] = {
            "names": len(names.forms), "not in the sources": match.unmatched,
            "species": drawn["taxon_id"].n_unique(), "images": drawn.height,
        }  # fmt: skip
    counts["merged"] = count_merged(_classes(reading, named, new_id))
    if named.naming:
        write_parquet(named.naming.table.with_columns(new_id).select(*NAMES_SCHEMA), reading.folder / NAMES_FILE)
    write_atomically(reading.folder / COUNTS_FILE, json.dumps(counts, ensure_ascii=False))
    straddling = plan.filter(pl.col("reason") != "").select(pl.col("record").alias("row"), "reason")
    reasons = pl.concat([reasons, straddling.cast(REASON_SCHEMA)])  # type: ignore[arg-type]
    rejects = reading.at(reasons["row"], ("source", "record_id", "location")).with_columns(reasons["reason"])
    rejects = pl.concat([read_parquet(reading.rejects_path), rejects])
    write_plan(_iter_plan(reading, plan.filter(pl.col("reason") == "")), rejects, taxa, reading.folder)


def _classes(reading: RecordTables, named: _Named, new_id: pl.Series) -> pl.DataFrame:
    """Return the labels with the ids of their classes in the data set."""
    if named.naming:
        return named.naming.table.select("label", new_id)
    labels = scan_parquet(reading.records_path).select(read_label(), "taxon_id").unique().collect(engine="streaming")
    return labels.with_columns(new_id.gather(labels["taxon_id"]))


def _iter_plan(reading: RecordTables, plan: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Yield the plan by split and key in slices, joined with the columns on disk, whose rows are in key order."""
    decided = plan.select("record", "split", "group", "taxon_id", "pdq")
    whole = scan_parquet(reading.records_path).select("key", "source", "record_id", "location", "facts")
    names = _fact_names(reading)
    for split in sorted(decided["split"].unique()):
        for some in decided.filter(pl.col("split") == split).iter_slices(ROW_GROUP):
            first, last = int(some["record"][0]), int(some["record"][-1])
            span = whole.slice(first, last - first + 1).with_row_index("record", offset=first)
            wanted = pl.col("record").is_in(some["record"].implode())
            found = span.filter(wanted).drop("record").collect(engine="streaming")
            yield some.hstack(
                found.with_columns(
                    facts=pl.Series([fill_facts(text, names) for text in found["facts"]], dtype=pl.String)
                )
            )


def _fact_names(reading: RecordTables) -> frozenset[str]:
    """Return the names of all facts of the records."""
    facts, names = scan_parquet(reading.records_path).select("facts"), set[str]()
    for first in range(0, reading.n_records, ROW_GROUP):
        names.update(*map(json.loads, facts.slice(first, ROW_GROUP).collect()["facts"]))
    return frozenset(names)


def fill_facts(text: str, names: Collection[str]) -> str:
    """Return the JSON of a record's facts with all of ``names``, ``""`` where the record has none.

    Readers of WebDataset shards (Hugging Face's ``datasets``) take the columns from the first few samples, and drop
    columns that only later ones have.
    """
    facts = json.loads(text)
    return text if len(facts) == len(names) else json.dumps(dict.fromkeys(names, "") | facts, ensure_ascii=False)


def _rare_names(draw: BenchmarkDraw, resolver: NameResolver | None) -> SpeciesNames:
    names = read_name_table(draw.names, draw.column).names.fill_null("")
    return species_names(names, pl.Series([""] * len(names), dtype=pl.String), resolver)
