"""The demo's report page: the drawn data, the training, and the accuracy at every rank."""

import json
import math
from pathlib import Path
from typing import Any

from linnaea.data.shards import DataSet
from linnaea.data.statistics import measure
from linnaea.evaluate.evaluation_page import RANK_CAPTION, make_cards, rank_accuracy, score_rows
from linnaea.evaluate.evaluation_plots import GREEN, plot_ranks
from linnaea.model.folders import RECIPE_FILE
from linnaea.page import Cards, Facts, Figure, Page, Section, Table, Text, new_plot
from linnaea.parquet import read_parquet

SPLITS = {"test": "species in training", "unseen": "held-out species"}
CANDIDATES_CAPTION = (
    "Held-out species compete with all other species as answers, so a correct genus is already an achievement."
)


def write_report(folder: Path) -> Path:
    """Write ``report.html`` from the output of the demo's steps in ``folder``."""
    metrics = {split: json.loads((folder / f"evaluate-{split}" / "metrics.json").read_text()) for split in SPLITS}
    dataset = DataSet.open(folder / "data")
    page = Page(
        "A synthetic tree of life",
        "Drawn, built into a data set, used to train a model from scratch, and evaluated: the whole pipeline once.",
        [
            Section("Summary", [Facts(_facts(dataset, metrics)), Text(_story(metrics))]),
            Section("Accuracy at each rank", [_plot_ranks(metrics)]),
            *(_show_split(folder, dataset, split, name) for split, name in SPLITS.items()),
            Section("Training loss", [_plot_loss(folder / "run")]),
            Section("All scores", _score_tables(metrics)),
            Section("Next: your own photographs", [Text(NEXT_STEPS)]),
        ],
        footer="Made by `linnaea demo`.",
    )
    page.write(folder / "report.html")
    return folder / "report.html"


NEXT_STEPS = (
    "`linnaea data build --folder photos/ --output data/` builds a data set from one folder per species;"
    " `linnaea train tiny --data data/ --output run/` trains a model, and `linnaea predict new/ --model run/` names the"
    " organisms on new photographs."
)


def _facts(dataset: DataSet, metrics: dict[str, dict[str, float]]) -> dict[str, object]:
    statistics = measure(dataset)
    names = dict(statistics.by_rank.select("rank", "names").iter_rows())
    return {
        "photographs": f"{statistics.n_images:,}",
        "species": names["species"],
        "genera": names["genus"],
        "families": names["family"],
        "correct species, for species in training": f"{metrics['test']['zero_shot/taxon_com/top1']:.0%}",
        "correct genus, for held-out species": f"{metrics['unseen']['zero_shot/taxon_com/genus']:.0%}",
    }


def _story(metrics: dict[str, dict[str, float]]) -> str:
    seen, unseen = metrics["test"], metrics["unseen"]
    times = seen["zero_shot/taxon_com/top1"] / seen["zero_shot/taxon_com/chance/top1"]
    genus_times = unseen["zero_shot/taxon_com/genus"] / unseen["zero_shot/taxon_com/chance/genus"]
    majority = unseen["zero_shot/taxon_com/majority/genus"]
    return (
        f"Among {seen['n_candidates']:.0f} candidates the species is correct {times:.0f} times as often as by chance."
        f" For species without a photograph in training, the genus is correct {genus_times:.0f} times as often"
        f" as by chance; always answering their commonest genus would be correct {majority:.1%} of the time."
    )


def _plot_ranks(metrics: dict[str, dict[str, float]]) -> Figure:
    accuracy = {SPLITS[split]: rank_accuracy(values, "taxon_com") for split, values in metrics.items()}
    majority = rank_accuracy(metrics["unseen"], "taxon_com", "majority/")
    alt = "bars of the share of correct answers at each rank, for species in training and for held-out species"
    return Figure(plot_ranks(accuracy, majority), alt, RANK_CAPTION)


def _show_split(folder: Path, dataset: DataSet, split: str, name: str) -> Section:

    examples = read_parquet(folder / f"evaluate-{split}" / "examples.parquet")
    cards = make_cards(dataset.split(split), examples, 18)
    caption = CANDIDATES_CAPTION if split == "unseen" else "Evenly spaced photographs that were not trained on."
    return Section(name[0].upper() + name[1:], [Cards(cards, caption=caption)])


def _plot_loss(run: Path) -> Figure:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    n_batch = json.loads((run / RECIPE_FILE).read_text())["feed"]["batch_size"]
    plot, axes = new_plot(1.7)
    axes.plot([line["step"] for line in lines], [line["loss"] for line in lines], color=GREEN, lw=1.2)
    axes.axhline(math.log(n_batch), color="#888", lw=0.7, ls=":")
    axes.text(lines[-1]["step"], math.log(n_batch), f"ln {n_batch} ", ha="right", va="bottom", fontsize=7, color="#666")
    axes.set(xlabel="step", ylabel="InfoNCE", ylim=(0, None))
    caption = f"An untrained model stays at ln {n_batch}, the logarithm of the batch size."
    return Figure(plot, "the loss over the training steps", caption)


def _score_tables(metrics: dict[str, dict[str, Any]]) -> list[Table]:
    import polars as pl

    return [Table(pl.DataFrame(score_rows(values)), caption=SPLITS[split]) for split, values in metrics.items()]
