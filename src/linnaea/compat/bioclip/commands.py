"""The commands of pybioclip's command line: ``predict``, ``embed``, ``list-models``, ``list-tol-taxa``."""

import argparse
import csv
import json
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TextIO

from open_clip import list_models, list_pretrained_tags_by_model
from tqdm import tqdm

from linnaea.compat.bioclip.recorder import (
    attach_prediction_recorder,
    save_recorded_predictions,
    verify_recorder_path,
)
from linnaea.predict.label_lists import read_bins
from linnaea.predict.pybioclip import (
    DEFAULT_BATCH_SIZE,
    TOL_MODELS,
    BaseClassifier,
    CustomLabelsBinningClassifier,
    CustomLabelsClassifier,
    Row,
    TreeOfLifeClassifier,
    get_tol_classification_labels,
)
from linnaea.taxonomy.ranks import Rank

STANDARD_OUTPUT = "stdout"


def write_results(rows: Sequence[Row], format: str, output: str) -> None:
    """Write rows as ``csv`` or ``table`` to a file, or to standard output if ``output`` is ``stdout``."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with _open_output(output) as stream:
        if format == "table":
            _write_table(columns, rows, stream)
            return
        table = csv.DictWriter(stream, columns, lineterminator="\n", restval="")
        table.writeheader()
        table.writerows(rows)


def _open_output(output: str) -> Any:
    return (
        nullcontext(sys.stdout) if output == STANDARD_OUTPUT else Path(output).open("w", encoding="utf-8", newline="")
    )


def _write_table(columns: Sequence[str], rows: Sequence[Row], stream: TextIO) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns, box=box.ASCII)
    for row in rows:
        table.add_row(*("" if row.get(column) is None else str(row[column]) for column in columns))
    Console(file=stream, width=100_000, highlight=False, markup=False).print(table)


def parse_bins_csv(bins_path: str) -> dict[str, str]:
    """Return the bin of each class from the first two columns of a table.

    Raises:
        FileNotFoundError: there is no such file.
        LinnaeaError: the table has no second column, or a class has no bin or several.
    """
    if not os.path.exists(bins_path):  # noqa: PTH110 - pybioclip's tests replace it
        raise FileNotFoundError(f"File not found: {bins_path}")
    return dict(read_bins(Path(bins_path)).iter_rows())


def predict(
    image_file: list[str],
    format: str,
    output: str,
    cls_str: str | None,
    rank: Rank | None,
    bins_path: str | None,
    k: int | None,
    subset: str | None,
    batch_size: int | None,
    log: str | None,
    **model: Any,
) -> None:
    """Predict taxa, classes (``cls_str``) or bins of photographs, and write the rows."""
    if log:
        verify_recorder_path(log)
    classifier: Any
    if cls_str:
        classifier, about = CustomLabelsClassifier(cls_str.split(","), **model), {"classes": cls_str}
    elif bins_path:
        classifier = CustomLabelsBinningClassifier(parse_bins_csv(bins_path), **model)
        about = {"bins_path": bins_path}
    else:
        classifier = TreeOfLifeClassifier(**model)
        about = {"tree_of_life_version": classifier.get_tol_repo_id(), **({"subset": subset} if subset else {})}
        if subset:
            classifier.apply_filter(classifier.create_taxa_filter_from_csv(subset))
    if log:
        attach_prediction_recorder(classifier, **about)
    asked = {} if cls_str or bins_path else {"rank": rank or Rank.SPECIES}
    rows = classifier.predict(images=image_file, k=k, batch_size=batch_size, **asked)
    write_results(rows, format, output)
    if log:
        save_recorded_predictions(classifier, log)


def embed(image_file: list[str], output: str, batch_size: int | None = DEFAULT_BATCH_SIZE, **model: Any) -> None:
    """Write the vectors of photographs, at the length that the model gives, as JSON."""
    classifier = BaseClassifier(**model)
    vectors: dict[str, list[float]] = {}
    at_once = batch_size or len(image_file)
    with tqdm(total=len(image_file), unit="images") as bar:
        for start in range(0, len(image_file), at_once):
            paths = image_file[start : start + at_once]
            images = [classifier.ensure_rgb_image(path) for path in paths]
            features = classifier.create_image_features(images, normalize=False)
            vectors |= dict(zip(paths, features.tolist(), strict=True))
            bar.update(len(paths))
    with _open_output(output) as stream:
        stream.write(json.dumps({"model": classifier.model_str, "embeddings": vectors}, indent=4) + "\n")


def create_classes_str(cls_file_path: str) -> str:
    """Return the classes of a file with one per line, separated by commas."""
    with open(cls_file_path, encoding="utf-8") as lines:  # noqa: PTH123 - pybioclip's tests replace it
        return ",".join(line.strip() for line in lines)


def list_tol_taxa(model: str | None) -> None:
    """Print the taxa of a model's published label bank as CSV."""
    taxa = TreeOfLifeClassifier(model_str=model).get_label_data()
    table = csv.writer(sys.stdout, lineterminator="\n")
    columns = get_tol_classification_labels(Rank.SPECIES)
    table.writerow(columns)
    table.writerows(zip(*(taxa[column] for column in columns), strict=True))


def print_models(model: str | None) -> None:
    """Print the models that can be named, or the tags of weights of one."""
    if model:
        print("\n".join(list_pretrained_tags_by_model(model)))
    else:
        print("\n".join(f"\t{name}" for name in [*TOL_MODELS, *list_models()]))


def run(args: argparse.Namespace) -> None:
    """Run the command of parsed arguments."""
    if args.command == "predict":
        is_file = args.cls and os.path.exists(args.cls)  # noqa: PTH110 - pybioclip's tests replace it
        predict(args.image_file, format=args.format, output=args.output,
                cls_str=create_classes_str(args.cls) if is_file else args.cls, rank=args.rank, bins_path=args.bins,
                k=args.k, device=args.device, model_str=args.model, pretrained_str=args.pretrained,
                subset=args.subset, batch_size=args.batch_size, log=args.log)  # fmt: skip
    elif args.command == "embed":
        embed(args.image_file, args.output, batch_size=args.batch_size, device=args.device, model_str=args.model,
              pretrained_str=args.pretrained)  # fmt: skip
    elif args.command == "list-models":
        print_models(args.model)
    else:
        list_tol_taxa(args.model)
