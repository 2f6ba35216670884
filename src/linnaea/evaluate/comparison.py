"""Compare runs with one another and with published numbers, and test which differences are significant."""

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.resources import files
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from linnaea.counting import count
from linnaea.errors import LinnaeaError, UsageError
from linnaea.evaluate.comparison_page import as_markdown, structure_section, write_comparison
from linnaea.evaluate.embedding_structure import LEVELS_FILE, Level, levels_of_table
from linnaea.evaluate.intervals import FEWEST_CLASSES, bootstrap_mean, compare_paired, holm, mean_of_classes
from linnaea.evaluate.tasks import TASKS
from linnaea.exchange import hold_output
from linnaea.jobs import OnProgress, ignore_progress
from linnaea.model.folders import short_name
from linnaea.parquet import read_parquet
from linnaea.progress import progress_bar
from linnaea.storage import read_json, write_atomically
from linnaea.taxonomy.ranks import RANK_LABELS

SCORES_SCHEMA = {
    "score": pl.String, "what": pl.String, "model": pl.String, "ours": pl.Boolean, "value": pl.Float64,
    "low": pl.Float64, "high": pl.Float64, "std": pl.Float64, "n_images": pl.Int64, "source": pl.String,
    "class_mean": pl.Float64, "n_classes": pl.Int64,
}  # fmt: skip
"""Schema of the table of scores.

``value`` and its bounds are shares. ``std`` is over folds or runs. The bounds are a 95% interval for other classes like
the ``n_classes`` evaluated ones. ``class_mean`` is the mean over classes, where ``value`` is one over images.
"""

PAIRS_SCHEMA = {
    "score": pl.String, "what": pl.String, "first": pl.String, "second": pl.String, "difference": pl.Float64,
    "low": pl.Float64, "high": pl.Float64, "only_first": pl.Int64, "only_second": pl.Int64, "p_value": pl.Float64,
    "p_adjusted": pl.Float64, "n_images": pl.Int64, "verdict": pl.String, "n_classes": pl.Int64,
}  # fmt: skip
"""Schema of the table of pairs: ``difference`` is second minus first; ``p_adjusted`` is Holm's over all pairs.

Interval and p-value draw classes whole, so they hold for other classes like these ``n_classes``. It is null for runs
without the column ``truth``, whose single images are compared.
"""

ALPHA = 0.05
BEYOND_SPECIES = {
    "traits": "traits/mean", "pairs": "pairs/mean", "discovery": "discovery/all/mean", "transfer": "transfer/mean",
}  # fmt: skip
BEYOND = "beyond species"
STRUCTURE_SCORES = {
    "distance_correlation": "correlation with the tree", "class_distance_correlation": "the same, class means",
    "within_outside_between": "variance within species outside the directions between (%)",
    "fisher_ratio": "variance between to within",
}  # fmt: skip
"""Scores of structure besides the purity of neighbours, and their headings."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One evaluation to compare, as ``linnaea evaluate`` saved it in a folder."""

    label: str
    folder: Path
    metrics: Mapping[str, int | float]
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def what(self) -> str:
        """The task or the split of the data set; a task with other images than published gets another name."""
        what = str(self.facts.get("what") or "evaluated images")
        return what if self.facts.get("as_published", True) else f"{what} (other images)"

    @cached_property
    def examples(self) -> pl.DataFrame | None:
        """The table of single images, if the evaluation has one."""
        path = self.folder / "examples.parquet"
        try:
            return read_parquet(path) if path.exists() else None
        except (OSError, pl.exceptions.PolarsError) as error:
            raise LinnaeaError(f"{path}: cannot be read ({error})") from error

    @cached_property
    def levels(self) -> list[Level]:
        """The t-SNE panels of ``linnaea evaluate --structure``.

        Raises:
            LinnaeaError: The evaluation has none.
        """
        path = self.folder / LEVELS_FILE
        if not path.exists():
            raise LinnaeaError(f"{self.folder}: no {LEVELS_FILE}; evaluate it again with --structure")
        try:
            return levels_of_table(read_parquet(path))
        except (OSError, pl.exceptions.PolarsError) as error:
            raise LinnaeaError(f"{path}: cannot be read ({error})") from error

    @cached_property
    def columns(self) -> dict[str, str]:
        """The column of :attr:`examples` with the right answers, by score."""
        if self.examples is None:
            return {}
        forms = list(dict.fromkeys(name.split("/")[1] for name in self.metrics if name.startswith("zero_shot/")))
        columns = {f"zero-shot, {form}": f"right_{form}" if i else "right" for i, form in enumerate(forms)}
        shots = [name.split("_")[2] for name in self.examples.columns if name.startswith("few_shot_")]
        columns |= {f"{n}-shot": f"few_shot_{n}_right" for n in shots}
        return {score: column for score, column in columns.items() if column in self.examples.columns}


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Evaluations side by side with published numbers."""

    scores: pl.DataFrame
    """Rows of :data:`SCORES_SCHEMA`: every score of every evaluation, then the published ones."""
    pairs: pl.DataFrame
    """Rows of :data:`PAIRS_SCHEMA`: every pair of evaluations of the same images."""
    structures: Mapping[str, Mapping[str, Sequence[Level]]] = field(default_factory=dict, repr=False)
    """The t-SNE panels of each model by task or data set, if asked for."""
    structure_scores: pl.DataFrame | None = field(default=None, repr=False)
    """Scores of how the vectors of each evaluation reflect the tree: purity of neighbours, correlations, variance."""
    report_path: Path | None = None
    """The report page, if an ``output`` was given."""

    def __repr__(self) -> str:
        ours = self.scores.filter("ours")
        better = self.pairs.filter(pl.col("verdict").str.ends_with("is better")).height
        return (
            f"<Comparison of {count(ours['model'].n_unique(), 'model', '')}:"
            f" {better} of {self.pairs.height} differences are significant>"
        )

    @cached_property
    def tables(self) -> dict[str, pl.DataFrame]:
        """One table per score with one row per model (:func:`wide_tables`)."""
        return wide_tables(self.scores)

    def save(self, directory: str | Path) -> Path:
        """Write ``scores.csv``, ``differences.csv``, ``compare.md`` and ``compare.html``; return the HTML path."""
        folder = Path(directory)
        write_atomically(folder / "scores.csv", self.scores.write_csv())
        write_atomically(folder / "differences.csv", self.pairs.write_csv())
        write_atomically(folder / "compare.md", as_markdown(self.tables, self.pairs))
        structure = structure_section(folder, self.structures, self.structure_scores)
        return write_comparison(folder, self.scores, self.pairs, self.tables, published_tables(), structure)


def compare(runs: Sequence[str | Path], output: str | Path | None = None, *, structure: bool = False) -> Comparison:
    """Compare evaluations with one another and with published numbers.

    Args:
        runs: Folders that :func:`linnaea.evaluate` or ``linnaea evaluate`` wrote, including with ``--task all``.
        output: Folder for the report page and the tables.
        structure: Whether to show the t-SNE panels of all models side by side, and how far vectors reflect the tree.

    Raises:
        UsageError: No folder is given.
        LinnaeaError: A folder contains no evaluation, or one without its structure.
    """
    if not runs:
        raise UsageError("give at least one folder that `linnaea evaluate` wrote")
    entries = read_runs([Path(run) for run in runs])
    with progress_bar("comparing", "pairs") as on_progress:
        pairs = compare_runs(entries, on_progress=on_progress)
    found = Comparison(scores=pl.concat([tabulate_scores(entries), read_published()]), pairs=pairs)
    if structure:
        found = replace(found, structures=_structures(entries), structure_scores=_structure_scores(entries))
    if output is None:
        return found
    with hold_output(Path(output), kind="command"):
        return replace(found, report_path=found.save(output))


def read_runs(folders: Sequence[Path]) -> list[Entry]:
    """Read the runs in folders of ``linnaea evaluate``; a folder of ``--task all`` contains one run per task.

    Raises:
        LinnaeaError: A folder contains no run.
    """
    places = [folder.resolve().name for folder in folders]
    runs = []
    for folder, place in zip(folders, places, strict=True):
        label = place if places.count(place) == 1 else str(folder)
        inner = sorted(path.parent for path in folder.glob("*/metrics.json"))
        found = [folder] if (folder / "metrics.json").exists() else inner
        if not found:
            raise LinnaeaError(f"{folder}: no metrics.json; give folders that `linnaea evaluate` wrote")
        runs += [_read_run(path, label) for path in found]
    return _name_models(runs)


def _name_models(runs: Sequence[Entry]) -> list[Entry]:
    """Label runs with the names of their models, and with the folder too where that does not tell them apart."""
    named = [(run, short_name(str(run.facts["model"])) if "model" in run.facts else "") for run in runs]
    models: dict[str, set[object]] = {}
    for run, name in named:
        models.setdefault(name, set()).add(run.facts.get("fingerprint"))
    measured = Counter((name, run.what) for run, name in named)
    unclear = {name for name, of_name in models.items() if len(of_name) > 1}
    unclear |= {name for (name, _), n in measured.items() if n > 1}
    return [
        run if not name else replace(run, label=f"{name} ({run.label})" if name in unclear else name)
        for run, name in named
    ]


def _read_run(folder: Path, label: str) -> Entry:
    metrics = read_json(folder / "metrics.json", kind="the scores of an evaluation")
    run = folder / "run.json"
    facts = read_json(run, kind="the facts of an evaluation") if run.exists() else {}
    return Entry(label=label, folder=folder, metrics=metrics, facts=facts)


def _structures(entries: Sequence[Entry]) -> dict[str, dict[str, Sequence[Level]]]:
    panels: dict[str, dict[str, Sequence[Level]]] = {}
    for entry in entries:
        panels.setdefault(entry.what, {})[entry.label] = entry.levels
    return panels


def _structure_scores(entries: Sequence[Entry]) -> pl.DataFrame:
    """Return one row per evaluation with its scores of structure."""
    names = {f"purity/{rank}": f"neighbours of its {rank} (%)" for rank in RANK_LABELS} | STRUCTURE_SCORES
    percent = {name for name, heading in names.items() if heading.endswith("(%)")}
    rows = []
    for entry in entries:
        found = {name: entry.metrics.get(f"structure/{name}") for name in names}
        cells = {names[name]: value if value is None else 100 * value if name in percent else value
                 for name, value in found.items()}  # fmt: skip
        rows.append({"what": entry.what, "model": entry.label, **cells})
    return pl.DataFrame(rows, infer_schema_length=None)


def read_published() -> pl.DataFrame:
    """Return the bundled published scores as rows of :data:`SCORES_SCHEMA`, each with the table it comes from."""
    text = files("linnaea.evaluate").joinpath("published.csv").read_text(encoding="utf-8")
    rows = [
        {"score": row["score"], "what": row["task"], "model": row["model"], "ours": False,
         "value": float(row["percent"]) / 100, "source": row["source"]}
        for row in csv.DictReader(text.splitlines())
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=SCORES_SCHEMA)


def tabulate_scores(runs: Sequence[Entry]) -> pl.DataFrame:
    """Return every score of every run as rows of :data:`SCORES_SCHEMA`."""
    rows: list[dict[str, Any]] = []
    for run in runs:
        common = {"what": run.what, "model": run.label, "ours": True, "source": str(run.folder)}
        for score, column in run.columns.items():
            assert run.examples is not None
            asked = run.examples.select(pl.col(column).cast(pl.Float64), w=_weight(run.examples, column),
                                        group=_class_of(run.examples)).drop_nulls(column)  # fmt: skip
            if asked.height:
                rows.append(common | {"score": score} | _score_examples(asked, column, score, run.metrics))
        rows += [common | row for row in _scores_without_examples(run)]
    return pl.DataFrame(rows, schema=SCORES_SCHEMA)


def _score_examples(asked: pl.DataFrame, column: str, score: str, metrics: Mapping[str, int | float]) -> dict[str, Any]:
    right, weight, group = asked[column].to_numpy(), asked["w"].to_numpy(), _numbers(asked["group"])
    interval = bootstrap_mean(right, group_N=group, weight_N=weight)
    shots = score.removesuffix("-shot") if score.endswith("-shot") else ""
    return {
        "value": metrics.get(f"few_shot/{shots}/mean") if shots else interval.mean,
        "low": interval.low, "high": interval.high,
        "std": metrics.get(f"few_shot/{shots}/std") if shots else None,
        "n_images": asked.height,
        "class_mean": None if group is None else mean_of_classes(right, group, weight),
        "n_classes": None if group is None else interval.n_groups,
    }  # fmt: skip


def _class_of(examples: pl.DataFrame) -> pl.Expr:
    """Return the class of each image; null in a table that does not name them."""
    parts = [name for name in ("truth_lineage", "truth") if name in examples.columns]
    return pl.concat_str(parts, separator="|") if "truth" in parts else pl.lit(None, pl.String)


def _numbers(group: pl.Series) -> NDArray[np.int64] | None:
    return None if group.null_count() else group.rank("dense").cast(pl.Int64).to_numpy()


def _weight(examples: pl.DataFrame, column: str) -> pl.Expr:
    """Return the number of times each image was queried."""
    asked = column.removesuffix("right") + "asked"
    return (pl.col(asked) if column.startswith("few_shot_") and asked in examples.columns else pl.lit(1)).cast(
        pl.Float64
    )


def _scores_without_examples(run: Entry) -> list[dict[str, Any]]:
    rows = []
    for name, value in run.metrics.items():
        match name.split("/"):
            case ["probe", probe, "mean"]:
                score = {"knn": "k-NN", "linear": "linear probe"}.get(probe, probe)
            case [protocol, *_] if BEYOND_SPECIES.get(protocol) == name:
                score = BEYOND
                if run.facts.get("task") == "awa2":  # the published score covers the first two attributes
                    continue
            case ["traits", "first_two", "mean"]:
                score = BEYOND
            case ["image_to_text" | "text_to_image" as way, measure]:
                score = f"{way.replace('_', ' ')}, {measure.replace('recall_', 'recall at ')}"
            case ["rerank", measure]:
                score = f"ranking by queries, {measure.upper()}"
            case _:
                continue
        std, low, high = (run.metrics.get(name.removesuffix("mean") + which) for which in ("std", "low", "high"))
        row = {"score": score, "value": value, "std": std, "low": low, "high": high}
        rows.append(row | {"n_images": run.metrics.get("n_images")})
    return rows


def compare_runs(runs: Sequence[Entry], *, on_progress: OnProgress = ignore_progress) -> pl.DataFrame:
    """Compare every pair of runs on the same images, score by score, and return rows of :data:`PAIRS_SCHEMA`.

    Images are paired by key, and classes are drawn whole, so interval and test hold for other classes. If two runs have
    different images, the verdict of their row says so.
    """
    pairs = [pair for pair in combinations(runs, 2) if pair[0].what == pair[1].what]
    rows: list[dict[str, Any]] = []
    for number, (first, second) in enumerate(pairs):
        rows += _compare_pair(first, second)
        on_progress(number + 1, len(pairs))
    tested = [row for row in rows if "p_value" in row]
    for row, adjusted in zip(tested, holm([row["p_value"] for row in tested]), strict=True):
        row |= {"p_adjusted": adjusted, "verdict": _verdict(row, adjusted)}
    return pl.DataFrame(rows, schema=PAIRS_SCHEMA)


def _verdict(row: Mapping[str, Any], p_adjusted: float) -> str:
    if (row["low"] > 0 or row["high"] < 0) and p_adjusted < ALPHA:
        return f"{row['second'] if row['difference'] > 0 else row['first']} is better"
    few = row["n_classes"] is not None and row["n_classes"] < FEWEST_CLASSES
    return f"too few classes to tell ({row['n_classes']})" if few else "within the error bars"


def _compare_pair(first: Entry, second: Entry) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for score in first.columns.keys() & second.columns.keys():
        assert first.examples is not None
        assert second.examples is not None
        row: dict[str, Any] = {"score": score, "what": first.what, "first": first.label, "second": second.label}
        one = first.examples.select("key", a=first.columns[score], w=_weight(first.examples, first.columns[score]),
                                    group=_class_of(first.examples))  # fmt: skip
        other = second.examples.select("key", b=second.columns[score])
        both = one.join(other, on="key", how="inner").drop_nulls(["a", "b"])
        if one[:, "a"].null_count() == one.height and other[:, "b"].null_count() == other.height:
            continue  # no class has enough images
        if one["key"].n_unique() < one.height or set(one["key"]) != set(other["key"]) or both.is_empty():
            rows.append(row | {"verdict": "not the same images"})
            continue
        group = _numbers(both["group"])
        found = compare_paired(
            both["a"].cast(pl.Float64).to_numpy(), both["b"].cast(pl.Float64).to_numpy(), group_N=group,
            weight_N=both["w"].to_numpy(),
        )  # fmt: skip
        rows.append(
            row
            | {"difference": found.difference.mean, "low": found.difference.low, "high": found.difference.high}
            | {"only_first": found.only_first, "only_second": found.only_second, "p_value": found.p_value}
            | {"n_images": found.n, "n_classes": None if group is None else found.difference.n_groups}
        )
    return sorted(rows, key=lambda row: str(row["score"]))


def published_score(score: str, what: str) -> str:
    """Return the published score that corresponds to one of ours, or ``""`` if none does.

    Published zero-shot scores use the task's own captions.
    """
    task = TASKS.get(what)
    if not score.startswith("zero-shot, "):
        return score if task else ""
    return "zero-shot" if task and score == f"zero-shot, {task.text_type}" else ""


def wide_tables(scores: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """Return one table per score in percent, with one row per model and one column per task or data set of our runs.

    Our models come first. Published models follow if they have a value in one of the columns. ``mean`` is given for
    models with a value in every column. Our zero-shot scores with the published captions are listed with the published
    ones under ``zero-shot``.
    """
    under = [
        published_score(score, what) if ours else score
        for score, what, ours in scores.select("score", "what", "ours").iter_rows()
    ]
    shown = scores.with_columns(under=pl.Series(under, dtype=pl.String))
    tables = {}
    names = shown.unique("score", maintain_order=True)["score"].to_list()
    for name in sorted(names, key=lambda name: name != "zero-shot"):  # the table with published scores comes first
        part = shown.filter((pl.col("score") == name) | ((pl.col("under") == name) & (name != "")))
        whats = part.filter("ours")["what"].unique()
        part = part.filter(pl.col("what").is_in(whats.to_list()))
        if part.is_empty():
            continue
        order = {what: place for place, what in enumerate([*TASKS])}
        columns = sorted(whats, key=lambda what: (order.get(what, len(order)), what))
        rows = []
        for model, own in part.group_by(["model", "ours"], maintain_order=True):
            values = dict(own.select("what", "value").iter_rows())
            cells = {what: None if values.get(what) is None else 100 * values[what] for what in columns}
            rows.append({"model": model[0], "from": "ours" if model[1] else "published", **cells})
        frame = pl.DataFrame(rows, infer_schema_length=None).with_columns(pl.col(columns).cast(pl.Float64))
        whole = pl.all_horizontal(pl.col(columns).is_not_null())
        mean = pl.when(whole).then(pl.mean_horizontal(columns)).alias("mean")
        tables[name] = frame.with_columns(mean) if len(columns) > 1 else frame
    return tables


def published_tables() -> dict[str, pl.DataFrame]:
    """Return all published numbers in percent: one table per source, one row per model, one column per score."""
    tables = {}
    for (source,), part in read_published().group_by(["source"], maintain_order=True):
        named = part.with_columns(
            column=pl.when(pl.col("score").is_in(["zero-shot", BEYOND])).then("what")
            .otherwise(pl.concat_str("what", "score", separator=", ")),
            percent=100 * pl.col("value"),
        )  # fmt: skip
        tables[str(source)] = named.pivot("column", index="model", values="percent")
    return tables
