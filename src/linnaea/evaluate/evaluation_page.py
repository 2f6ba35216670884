"""Write an evaluation as a self-contained HTML page that answers a biologist's first questions first."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from linnaea.counting import count
from linnaea.data.shards import DataSet
from linnaea.evaluate.breakdown import confusions, per_class
from linnaea.evaluate.evaluation_plots import (
    plot_coverage,
    plot_evidence,
    plot_interactive,
    plot_levels,
    plot_purity,
    plot_ranks,
    plot_reliability,
    plot_tree,
)
from linnaea.evaluate.examine import Findings
from linnaea.evaluate.rankwise import rank_rows
from linnaea.evaluate.trust import CONFIDENCES, EVIDENCE
from linnaea.evaluate.zero_shot import ZeroShotAnswers
from linnaea.page import Block, Card, Cards, Chart, Details, Facts, Figure, Page, Section, Table, Text
from linnaea.taxonomy.ranks import RANK_LABELS

N_CARDS = 12


def write_report(
    folder: Path,
    dataset: DataSet,
    metrics: Mapping[str, int | float],
    answers: Mapping[str, ZeroShotAnswers],
    examples: pl.DataFrame,
    title: str,
    findings: Findings | None = None,
) -> Path:
    """Write ``report.html`` into ``folder`` and return its path.

    ``examples`` is the table of :func:`~linnaea.evaluate.breakdown.tabulate_examples`. If there is a t-SNE layout, it
    is also written to ``tsne.png``.
    """
    findings = findings or Findings()
    # Raw labels of a task may have no ranks, so there is no tree and no calibration per rank.
    ranked = findings.beliefs is not None and bool(findings.beliefs.counted_NR.any())
    form = next(iter(answers), "")
    sections = [Section("At a glance", [Facts(_facts(metrics)), *_in_words(metrics, form)])]
    if answers:
        sections.append(_ranks(metrics, form))
        if ranked:
            right = [bool(value) for value in examples["right"]]
            tree = Chart(plot_tree(findings.truth, right), "treemap of life coloured by accuracy",
                         TREE_CAPTION, height=600)  # fmt: skip
            clades = Details("All clades with at least five photographs", [_clade_table(findings)])
            sections.append(Section("Where in the tree of life", [tree, clades]))
        sections.append(_photographs(dataset, examples))
        sections.append(_classes(examples))
        if ranked:
            sections += [_calibration(metrics, findings), _assertions(metrics), _open_set(metrics, findings)]
        if findings.domains is not None and findings.domains.height > 1:
            sections.append(Section("Domains", [Table(findings.domains, DOMAIN_CAPTION, percent=RANK_LABELS)]))
    if by_rank := rank_rows(metrics):
        shares = (*RANK_LABELS, "on one path", "all right")
        sections.append(Section("Four ways to answer at a rank", [Table(by_rank, BY_RANK_CAPTION, percent=shares)]))
    if findings.levels:
        sections.append(_structure(folder, metrics, findings))
    if any(name.startswith("brittleness/") for name in metrics):
        sections.append(_brittleness(metrics))
    sections.append(Section("All scores", [Details("Table of scores", [Table(pl.DataFrame(score_rows(metrics)))])]))
    page = Page(title, count(len(dataset), "photograph"), sections, footer="Made by `linnaea evaluate`.")
    page.write(folder / "report.html")
    return folder / "report.html"


def _facts(metrics: Mapping[str, int | float]) -> dict[str, object]:
    facts: dict[str, object] = {}
    for label in ("species", "genus", "family"):
        if f"interval/{label}/mean" in metrics:
            mean, low, high = (metrics[f"interval/{label}/{end}"] for end in ("mean", "low", "high"))
            facts[f"right to {label} ({show_span(low, high)})"] = f"{mean:.0%}"
    for name, value in metrics.items():
        if not facts and name.endswith("/top1") and "chance" not in name:
            facts[f"{name.split('/')[1]} top-1"] = f"{value:.1%}"
        elif name.startswith("few_shot/") and name.endswith("/mean"):
            facts[f"{name.split('/')[1]}-shot"] = f"{value:.0%} ± {metrics[name.replace('mean', 'std')]:.0%}"
    return {**facts, "photographs": f"{metrics['n_images']:,.0f}", "classes": f"{metrics['n_classes']:,.0f}"}


def _in_words(metrics: Mapping[str, int | float], form: str) -> list[Text]:
    if "hierarchy/lca_height" not in metrics:
        return []
    candidates = metrics.get("n_candidates", metrics["n_classes"])
    said = [f"Each photograph was compared with {candidates:,.0f} candidates in the caption form `{form}`. Brackets"
            " show 95% intervals for other classes like these; ± is the standard deviation over five folds. Shares are"
            " of photographs; the table of all scores has the means over classes, too."]  # fmt: skip
    if "hierarchy/lca_height_of_errors" in metrics:
        near = [metrics[f"hierarchy/{name}"] for name in ("errors_in_genus", "errors_in_family")]
        said.append(
            "The lowest common ancestor of a wrong answer and the truth lies"
            f" {metrics['hierarchy/lca_height_of_errors']:.1f} ranks above species on average. {near[0]:.0%} of the"
            f" wrong answers are in the right genus, {near[1]:.0%} in the right family. For"
            f" {metrics['hierarchy/consistency/path']:.0%} of the photographs, the likeliest taxa of all ranks lie on"
            " one path of the tree."
        )
    return [Text("\n\n".join(said))]


def _ranks(metrics: Mapping[str, int | float], form: str) -> Section:
    places = [f"interval/{label}" for label in RANK_LABELS]
    bounds = [(metrics[f"{p}/low"], metrics[f"{p}/high"]) if f"{p}/low" in metrics else None for p in places]
    accuracy = {"right": [metrics.get(f"{p}/mean") for p in places] if any(bounds) else rank_accuracy(metrics, form)}
    figure = plot_ranks(accuracy, rank_accuracy(metrics, form, "majority/"), bounds)
    alt = "bar chart of accuracy at each rank from kingdom to species"
    return Section("Accuracy at each rank", [Figure(figure, alt, RANK_CAPTION)])


def _clade_table(findings: Findings) -> Table:
    assert findings.clades is not None
    rows = findings.clades.filter(pl.col("images") >= 5).select(
        "rank", "taxon", "images", "right at its rank", "right to species"
    )
    return Table(rows, percent=("right at its rank", "right to species"))


def _photographs(dataset: DataSet, examples: pl.DataFrame) -> Section:
    blocks: list[Block] = []
    if cards := confusion_cards(dataset, examples):
        blocks.append(Cards(cards, caption=CONFUSION_CAPTION))
    cards = make_cards(dataset, examples, N_CARDS)
    blocks.append(Details("A sample of all answers", [Cards(cards, caption="Spread evenly over the split.")]))
    return Section("Confusions", blocks)


def confusion_cards(dataset: DataSet, examples: pl.DataFrame) -> list[Card]:
    """Return two cards for each of the most frequent confusions: a misnamed photograph, and one of the taxon named."""
    of_class = dict(
        examples.with_row_index("row").filter(pl.col("right")).group_by("truth").agg(pl.col("row").first()).iter_rows()
    )
    fallback = dict(examples.with_row_index("row").group_by("truth").agg(pl.col("row").first()).iter_rows())
    cards = []
    shown = confusions(examples, 4 * N_CONFUSIONS).filter(pl.col("answer").is_in(list(fallback)))
    for pair in shown.head(N_CONFUSIONS).iter_rows(named=True):
        row = max(pair["rows"], key=lambda number: examples["score"][number])
        lines = [pair["truth"], f"taken for {pair['answer']}", f"{pair['times']} of {pair['of']} times",
                 _meeting(pair["lca_height"])]  # fmt: skip
        cards.append(Card(dataset.read(row), f"photograph of {pair['truth']}", lines, "wrong",
                          latin=[pair["truth"], pair["answer"]]))  # fmt: skip
        other: int = (of_class if pair["answer"] in of_class else fallback)[pair["answer"]]
        lines = [pair["answer"], "for comparison", examples["truth_common_name"][other]]
        cards.append(Card(dataset.read(other), f"photograph of {pair['answer']}", [line for line in lines if line],
                          latin=[pair["answer"]]))  # fmt: skip
    return cards


def _meeting(height: int) -> str:
    return f"same {RANK_LABELS[len(RANK_LABELS) - 1 - height]}" if height < len(RANK_LABELS) else "different kingdom"


def _classes(examples: pl.DataFrame) -> Section:
    table = per_class(examples)
    if not any(table["common name"]):
        table = table.drop("common name")
    seen = table.filter(pl.col("images") >= 3)
    enough = seen.height >= 2 * N_CLASSES
    shown = seen if enough else table
    n_shown = min(N_CLASSES, shown.height // 2)  # no class is both among the best and among the worst
    among = " among those with at least three photographs" if enough else ""
    worst = shown.tail(n_shown).filter(pl.col("right") < 1).reverse()
    percent = ("right", "probability of truth")
    halves = [
        Table(shown.head(n_shown).drop("taken for"), f"The best classes{among}.", percent=percent),
        Table(worst, f"The worst classes{among}.", percent=percent) if worst.height else Text(NO_MISTAKE),
    ]
    return Section("Best and worst classes", [
        *(halves if n_shown else []),
        Details("All classes", [Table(table, percent=percent, limit=1000)]),
    ])  # fmt: skip


def _calibration(metrics: Mapping[str, int | float], findings: Findings) -> Section:
    assert findings.beliefs is not None
    fitted = bool(metrics.get("calibration/fitted"))
    said = (
        "The model is calibrated (`linnaea labels calibrate`). Thin grey lines show it before calibration."
        if fitted
        else "The model is not calibrated. `linnaea labels calibrate` fits a calibration."
    )
    rows = []
    for label in RANK_LABELS:
        if f"calibration/ece/{label}" not in metrics:
            continue
        row: dict[str, object] = {"rank": label}
        if fitted:
            row["ECE before"] = metrics[f"uncalibrated/calibration/ece/{label}"]
        for heading, name in (("ECE", "ece"), ("ECE, equal mass", "ece_mass"), ("NLL", "nll"), ("Brier", "brier"),
                              ("AURC", "aurc")):  # fmt: skip
            row[heading] = round(metrics[f"calibration/{name}/{label}"], 4)
        rows.append(row)
    return Section("Calibration", [
        Text(f"{CALIBRATION} {said}"),
        Figure(plot_reliability(findings.beliefs, findings.uncalibrated), "reliability per rank", RELIABILITY_CAPTION),
        Figure(plot_coverage(findings.beliefs), "accuracy against coverage per rank", COVERAGE_CAPTION),
        Table(rows, CALIBRATION_CAPTION, percent=("ECE", "ECE, equal mass", "ECE before")),
    ])  # fmt: skip


def _assertions(metrics: Mapping[str, int | float]) -> Section:
    rows = []
    for wanted in CONFIDENCES:
        place = f"auto/{wanted}"
        row: dict[str, object] = {"asked": f"{wanted:.0%}", "answered": metrics[f"{place}/asserted"]}
        if f"{place}/right" in metrics:
            low, high = metrics[f"{place}/right_low"], metrics[f"{place}/right_high"]
            row["right"] = f"{metrics[f'{place}/right']:.1%} ({show_span(low, high)})"
        else:
            row["right"] = ""
        for label in ("order", "family", "genus", "species"):
            row[f"{label} or deeper"] = metrics[f"{place}/reaches/{label}"]
        rows.append(row)
    shares = ["answered", *(f"{label} or deeper" for label in ("order", "family", "genus", "species"))]
    return Section("Answers at a given confidence", [Table(rows, ASSERTION_CAPTION, percent=shares)])


def _open_set(metrics: Mapping[str, int | float], findings: Findings) -> Section:
    names = {"species": "species without a label", "family": "family without a label", "no_organism": "no organism"}
    rows = []
    for place, name in names.items():
        if f"open_set/{place}/auroc/energy" in metrics:
            row: dict[str, object] = {"photographs of": name}
            for score in EVIDENCE:
                row[score.replace("_", " ")] = round(metrics[f"open_set/{place}/auroc/{score}"], 3)
                row[f"{score.replace('_', ' ')}, passes"] = metrics[f"open_set/{place}/fpr95/{score}"]
            rows.append(row)
    shares = [f"{score.replace('_', ' ')}, passes" for score in EVIDENCE]
    blocks: list[Block] = [Table(rows, OPEN_CAPTION, percent=shares)]
    if findings.known is not None and findings.unknown:
        figure = plot_evidence(findings.known, findings.unknown)
        blocks.insert(0, Figure(figure, "histograms of the energy of known and unknown photographs"))
    return Section("Photographs without a label", blocks)


def _structure(folder: Path, metrics: Mapping[str, int | float], findings: Findings) -> Section:
    levels = list(findings.levels)
    figure = plot_levels(levels)
    figure.savefig(folder / "tsne.png", dpi=320, facecolor="white", metadata={"Software": None})
    labels = [taxon.name for taxon in findings.truth]
    facts = {
        "correlation with tree distance (images)": f"{metrics.get('structure/distance_correlation', 0):.2f}",
        "correlation with tree distance (class means)": f"{metrics.get('structure/class_distance_correlation', 0):.2f}",
    }
    if "structure/within_outside_between" in metrics:
        facts["variance within species outside the between-species directions"] = (
            f"{metrics['structure/within_outside_between']:.0%}"
            f" (chance {metrics['structure/within_outside_between_chance']:.0%})"
        )
    return Section("The tree in the vectors", [
        Chart(plot_interactive(levels, labels), "interactive t-SNE per rank", TSNE_CAPTION, height=560),
        Details("All ranks side by side", [Figure(figure, "t-SNE of each rank")]),
        Figure(plot_purity(metrics), "neighbour purity per rank", PURITY_CAPTION),
        Facts(facts),
        Text(STRUCTURE_TEXT),
    ])  # fmt: skip


def _brittleness(metrics: Mapping[str, int | float]) -> Section:
    rows = []
    cases = {"current": "old", "revised, stale bank": "revised/stale", "revised, updated bank": "revised/updated",
             "shuffled, stale bank": "shuffled/stale", "shuffled, updated bank": "shuffled/updated"}  # fmt: skip
    for name, place in cases.items():
        row: dict[str, object] = {"taxonomy": name}
        row |= {label: metrics.get(f"brittleness/{place}/{label}") for label in RANK_LABELS}
        rows.append(row)
    caption = (
        f"Accuracy. Revised: the genera of {metrics['brittleness/revised/changed']:.0%} of the taxa move to another"
        " family of their order. Shuffled: each genus gets the higher ranks of another genus. A stale bank keeps the"
        " vectors of the old captions; an updated bank encodes the new ones. A model that relies on words more than on"
        " appearance loses accuracy at species rank with an updated bank."
    )
    return Section("When the taxonomy changes", [Table(rows, caption, percent=RANK_LABELS)])


def show_span(low: float, high: float) -> str:
    """Return an interval of shares as text, with as many decimals as its two ends need to differ."""
    for digits in (0, 1, 2):
        ends = f"{100 * low:.{digits}f}", f"{high:.{digits}%}"
        if ends[0] != ends[1].rstrip("%"):
            break
    return "–".join(ends)


NO_SHARES = ("lca_height_of_errors", "n_classes")
"""Metrics that are not accuracies."""
BY_CLASS = "_by_class"
"""The ending of a metric's name that is the mean over classes, beside the mean over images."""
N_CONFUSIONS, N_CLASSES = 8, 10
NO_MISTAKE = "No photograph was named wrongly."

RANK_CAPTION = (
    "Accuracy of the likeliest taxon of each rank. Solid lines: 95% intervals for other classes. Dotted lines: a"
    " baseline that always answers the most common taxon of the rank, which no model can know."
)
BY_RANK_CAPTION = (
    "Accuracy over the photographs whose truth has a name at the rank. Sums: the taxon whose candidates have the"
    " largest sum of probabilities. Captions: the nearest caption of the rank. Prototypes: the nearest mean of the"
    " candidates' captions. Top down: the best caption among the children of the answer above. On one path: the answers"
    " at all ranks are a lineage of the tree. All right: they are that of the truth."
)
TREE_CAPTION = "Area: photographs. Colour: species accuracy. Tap a box to open it, and the bar at the top to go back."
CONFUSION_CAPTION = (
    "The most frequent confusions. Left: a misnamed photograph. Right: a photograph of the taxon it was taken for."
)
CALIBRATION = (
    "A model is calibrated if its probabilities can be taken at their word: of all answers with a probability of 80%,"
    " 80% are right."
)
RELIABILITY_CAPTION = "Accuracy of the answers by confidence. A perfectly calibrated model lies on the dotted line."
COVERAGE_CAPTION = "Accuracy if only the most confident answers are given."
CALIBRATION_CAPTION = (
    "ECE: mean gap between confidence and accuracy, 15 bins. NLL and Brier: lower is better. AURC: mean share of wrong"
    " answers over all coverages, 0 is best."
)
ASSERTION_CAPTION = (
    "`--rank auto` answers with the deepest taxon whose probability reaches the asked confidence. The share of right"
    " answers should not be below it, within the 95% interval over classes."
)
OPEN_CAPTION = (
    "AUROC: how often a photograph with a label scores above one without (0.5 is chance). Passes: the share of"
    " photographs without a label above the threshold that 95% of the others pass. Without a label: a random fifth of"
    " the taxa is removed from the candidates."
)
DOMAIN_CAPTION = "Accuracy at each rank. The domain is a fact of the records, or their source."
TSNE_CAPTION = (
    "t-SNE of the photographs, rank by rank. Each rank shows the six taxa with the most photographs; the next rank"
    " shows the largest of them (figure 5 of the BioCLIP paper). Tap a name to hide it."
)
PURITY_CAPTION = (
    "Share of a photograph's five nearest neighbours with the same taxon. Dotted lines: five random photographs."
)
STRUCTURE_TEXT = (
    "The correlations are Spearman's, between the distance of two vectors and the height of the lowest common ancestor"
    " of their lineages. Variance within species outside the between-species directions lets a model represent sex,"
    " age and plumage without confusing species (the emergent structure of BioCLIP 2)."
)


PROBE_NAMES = {"knn": "k nearest neighbours", "linear": "linear probe", "ridge": "ridge regression"}


def score_rows(metrics: Mapping[str, int | float]) -> list[dict[str, Any]]:
    """Return the metrics as rows of text: score, right, over classes, chance, majority."""
    rows = []
    for name, value in metrics.items():
        match name.split("/"):
            case ["zero_shot", text_type, measure] if measure not in NO_SHARES and not measure.endswith(BY_CLASS):
                place = f"zero_shot/{text_type}"
                rows.append({"score": f"zero-shot {text_type}, {measure}", "right": f"{value:.1%}",
                             "over classes": _percent(metrics.get(name + BY_CLASS)),
                             "chance": _percent(metrics.get(f"{place}/chance/{measure}")),
                             "majority": _percent(metrics.get(f"{place}/majority/{measure}"))})  # fmt: skip
            case ["class_head", rank, "top1"]:
                share = metrics[f"class_head/{rank}/share_answerable"]
                rows.append({"score": f"class head, {rank} ({share:.0%} of images have a class)",
                             "right": f"{value:.1%}", "over classes": _percent(metrics.get(name + BY_CLASS)),
                             "chance": _percent(metrics[f"class_head/{rank}/chance/top1"]),
                             "majority": ""})  # fmt: skip
            case ["few_shot", shots, "mean"]:
                std = metrics[f"few_shot/{shots}/std"]
                chance = 1 / metrics[f"few_shot/{shots}/n_classes"]
                rows.append({"score": f"{shots}-shot (SimpleShot, 5 folds)", "right": f"{value:.1%} ± {std:.1%}",
                             "over classes": _percent(metrics.get(name + BY_CLASS)),
                             "chance": _percent(chance), "majority": ""})  # fmt: skip
            case ["probe", probe, "mean"]:
                std, chance = metrics[f"probe/{probe}/std"], 1 / metrics[f"probe/{probe}/n_classes"]
                rows.append({"score": f"{PROBE_NAMES[probe]} (3 splits)", "right": f"{value:.1%} ± {std:.1%}",
                             "over classes": _percent(metrics.get(name + BY_CLASS)),
                             "chance": _percent(chance), "majority": ""})  # fmt: skip
    return rows


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def rank_accuracy(metrics: Mapping[str, int | float], text_type: str, kind: str = "") -> list[float | None]:
    """Return the accuracy from kingdom to species, or a baseline if ``kind`` is ``"chance/"`` or ``"majority/"``."""
    return [metrics.get(f"zero_shot/{text_type}/{kind}{label}") for label in RANK_LABELS]


def make_cards(dataset: DataSet, examples: pl.DataFrame, n_cards: int) -> list[Card]:
    """Return cards of photographs spread evenly over the split, with truth, answer and their lowest shared rank."""
    rows = [i * examples.height // n_cards for i in range(min(n_cards, examples.height))]
    return [_make_card(dataset.read(row), examples.row(row, named=True)) for row in rows]


def _make_card(image: bytes, example: dict[str, Any]) -> Card:
    answer = f"{example['answer']} ({example['score']:.0%})"
    if example["right"]:
        lines: list[str] = [answer, example["answer_common_name"]]
    else:
        lines = [answer, f"is {example['truth']}", _meeting(example["lca_height"])]
    mark = "right" if example["right"] else "wrong"
    return Card(image, f"photograph of {example['truth']}", [line for line in lines if line], mark,  # type: ignore[arg-type]
                latin=[example["truth"], example["answer"]])  # fmt: skip
