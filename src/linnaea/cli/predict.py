"""``linnaea predict IMAGES...``: the organisms on photographs, as a table or a file."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from linnaea.cli import DONE, FAILED, SOME_FAILED, Commands
from linnaea.cli.console import progress_bar, results, say, warn
from linnaea.errors import LinnaeaError, UsageError
from linnaea.taxonomy.taxon import TextType

if TYPE_CHECKING:
    from linnaea.model.load import TaxonModel
    from linnaea.predict.labels import LabelBank
    from linnaea.predict.outputs import Row

RankOption = Literal["species", "genus", "family", "order", "class", "phylum", "kingdom", "auto"]
Form = Literal["table", "csv", "jsonl", "parquet"]
FORMS: dict[str, Form] = {".csv": "csv", ".jsonl": "jsonl", ".parquet": "parquet"}


@dataclass(frozen=True, kw_only=True)
class Predict:
    """Name the organisms on photographs."""

    images: tyro.conf.Positional[tuple[str, ...]]
    """Photographs, folders of them, or patterns."""
    model: str = ""
    """Folder or name of the model."""
    labels: Path | None = None
    """Taxa to choose from: a data set, a label bank, or a file of names; default: those the model was trained on."""
    rank: RankOption = "species"
    """Rank of the answers; auto: the deepest that reaches the confidence."""
    confidence: float = 0.9
    """For --rank auto: the probability an answer must reach."""
    top_k: int = 5
    """Answers per photograph (--rank auto gives one)."""
    text_type: TextType = TextType.TAXON_COM
    """Caption form of the labels."""
    format: Form | None = None
    """Default: by the ending of --output, or a table."""
    output: Path | None = None
    """File to write; the same command goes on with an interrupted one. Default: standard output."""
    batch_size: int = 32
    """Photographs the model sees at once."""
    pretrained: str | None = None
    """open_clip's tag, where the model is an architecture's name."""
    device: str = "auto"
    """cpu, cuda, mps or auto."""
    workers: int = 2
    """Threads that decode."""

    def __post_init__(self) -> None:
        if not self.images:
            raise ValueError("give at least one photograph or folder")
        if not 0 < self.confidence <= 1 or self.top_k < 1 or self.batch_size < 1:
            raise ValueError("--confidence lies between 0 and 1, --top-k and --batch-size are at least 1")


def predict(options: Predict) -> int:
    """Answer for every photograph; those that cannot be read become rows with a reason."""
    from linnaea.data.images import read_image_file
    from linnaea.predict.inputs import list_images

    form = _choose_form(options)
    if not options.model:
        raise LinnaeaError(
            "no model: give --model, a folder that `linnaea train` left or a name such as bioclip (from the hub)"
        )
    images = list_images(options.images)
    if not images:
        raise LinnaeaError(f"{' '.join(options.images)}: no photographs there")
    if len(images) == 1:
        _check_readable(images[0], read_image_file)
    model, bank = _load(options)
    if options.rank == "auto":
        say("the probabilities are the model's own, among its labels: not calibrated, and blind to what is no label")
    answers = _iter_answers(options, images, model, bank)
    if options.output is None:
        return _print_answers(answers, form, len(images))
    return _write_answers(options, form, images, model, bank)


def _choose_form(options: Predict) -> Form:
    if options.output is None:
        if options.format == "parquet":
            raise UsageError("--format parquet needs --output FILE")
        return options.format or "table"
    form = options.format or FORMS.get(options.output.suffix.lower(), "csv")
    if form == "table":
        raise UsageError("--format table goes to the terminal; leave out --output, or choose csv, jsonl or parquet")
    return form


def _check_readable(path: Path, read: Any) -> None:
    try:
        read(path)
    except LinnaeaError as error:
        raise LinnaeaError(f"{path}: {error}") from error


def _load(options: Predict) -> "tuple[TaxonModel, LabelBank]":
    from linnaea.model.load import load_model
    from linnaea.predict.class_heads import find_species_head
    from linnaea.predict.labels import LabelBank, load_cached_bank, read_taxa

    model = load_model(options.model, pretrained=options.pretrained, device=options.device)
    labels = options.labels or find_species_head(options.model)
    if labels is None:
        folder = Path(options.model)
        labels = next((f for f in (folder, folder / "model") if (f / "taxa.parquet").exists()), None)
        if labels is None:
            raise LinnaeaError(
                f"{options.model}: brings no taxa of its own; give --labels, a data set or a file of names"
            )
    if (labels / "embeddings.npy").exists():
        bank = LabelBank.open(labels)
        if bank.facts.get("model") != model.fingerprint:
            raise LinnaeaError(f"{labels}: was built with another model; build it again with `linnaea labels build`")
        return model, bank
    with progress_bar("encoding labels", "labels") as on_progress:
        return model, load_cached_bank(model, read_taxa(labels), options.text_type, on_progress=on_progress)


def _iter_answers(
    options: Predict, images: list[Path], model: "TaxonModel", bank: "LabelBank"
) -> "Iterator[tuple[str, list[Row]]]":
    """File name and rows of each photograph, in order."""
    from linnaea.data.images import ImageError
    from linnaea.model.encode import iter_encoded_images
    from linnaea.predict.outputs import make_empty_row, printable

    waiting: list[tuple[str, Any]] = []
    items = ((str(path), path) for path in images)
    encoded = iter_encoded_images(model, items, batch_size=options.batch_size, n_workers=options.workers)
    for number, (name, vector) in enumerate(encoded, start=1):
        waiting.append((name, vector))
        if len(waiting) < options.batch_size and number < len(images):
            continue
        good = [item for item in waiting if not isinstance(item[1], ImageError)]
        rows = iter(_answer(options, [vector for _, vector in good], model, bank))
        for name_, vector_ in waiting:
            if isinstance(vector_, ImageError):
                yield name_, [make_empty_row(name_, "failed", str(vector_))]
            else:
                yield name_, [{**row, "file_name": printable(name_)} for row in next(rows)]
        waiting = []


def _answer(options: Predict, vectors: list[Any], model: "TaxonModel", bank: "LabelBank") -> "Iterator[list[Row]]":
    import numpy as np

    from linnaea.predict.classifier import guess_at_rank, iter_probabilities
    from linnaea.predict.decide import decide
    from linnaea.predict.outputs import make_empty_row, make_row
    from linnaea.taxonomy.ranks import Rank

    if not vectors:
        return
    for probability in iter_probabilities(np.stack(vectors), bank, model.logit_scale):
        if options.rank == "auto":
            for guess in decide(probability, bank, options.confidence):
                reason = f"no taxon reaches {options.confidence:g}"
                yield [make_row("", guess) if guess else make_empty_row("", "abstained", reason)]
        else:
            for guesses in guess_at_rank(probability, bank, Rank.parse(options.rank), options.top_k):
                reason = f"no label has a name at rank {options.rank} or above"
                yield [make_row("", guess) for guess in guesses] or [make_empty_row("", "abstained", reason)]


def _print_answers(answers: "Iterator[tuple[str, list[Row]]]", form: Form, n_images: int) -> int:
    from linnaea.predict.outputs import write_csv, write_jsonl

    failed: list[str] = []

    def rows() -> "Iterator[Row]":
        for _, group in answers:
            failed.extend(f"{row['file_name']}: {row['reason']}" for row in group if row["status"] == "failed")
            yield from group

    if form == "table":
        _print_table(rows())
    else:
        (write_csv if form == "csv" else write_jsonl)(sys.stdout, rows())
    return _exit_code(failed, n_images)


def _print_table(rows: "Iterator[Row]") -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table("photograph", "answer", "common name", "rank", "probability", "lineage")
    last = ""
    for row in rows:
        name = Path(row["file_name"]).name if row["file_name"] != last else ""
        last = row["file_name"]
        if row["status"] != "ok":
            table.add_row(escape(name), f"[dim]{row['status']}: {escape(row['reason'])}[/]", "", "", "", "")
            continue
        lineage = [row[label] for label in ("kingdom", "phylum", "class", "order", "family") if row[label]]
        answer = row["species"] or row["genus"] or (lineage[-1] if lineage else row["common_name"])
        words = (name, answer, row["common_name"], row["rank"], f"{row['score']:.1%}", " > ".join(lineage))
        table.add_row(*map(escape, words))
    results.print(table)


def _write_answers(options: Predict, form: Form, images: list[Path], model: "TaxonModel", bank: "LabelBank") -> int:
    from linnaea.predict.labels import hash_taxa
    from linnaea.predict.outputs import Journal

    assert options.output is not None
    question = {"model": model.fingerprint, "labels": bank.facts | {"n": len(bank), "names": hash_taxa(bank.taxa)},
                "rank": options.rank, "confidence": options.confidence, "top_k": options.top_k}  # fmt: skip
    options.output.parent.mkdir(parents=True, exist_ok=True)
    journal = Journal(options.output, question)
    names = [str(path) for path in images]
    todo = list(_iter_unfinished(images, journal.done, options.batch_size))
    if journal.done:
        say(f"going on: {len(images) - len(todo):,} of {len(images):,} photographs are done")
    with progress_bar("predicting", "images") as on_progress:
        on_progress(len(images) - len(todo), len(images))
        for done, (name, rows) in enumerate(_iter_answers(options, todo, model, bank), start=1):
            if name not in journal.done:
                journal.add(name, rows)
            on_progress(len(images) - len(todo) + done, len(images))
    failed = [f"{row['file_name']}: {row['reason']}" for row in journal.rows(names) if row["status"] == "failed"]
    journal.finish(options.output, form, names)
    print(f"{len(images)} photographs: {options.output}", flush=True)
    return _exit_code(failed, len(images))


def _iter_unfinished(images: list[Path], done: set[str], batch_size: int) -> "Iterator[Path]":
    """All images of the batches in which one is missing: in the same company an image gets the same bits."""
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        if any(str(path) not in done for path in batch):
            yield from batch


def _exit_code(failed: list[str], n_images: int) -> int:
    for line in failed[:10]:
        warn(line)
    if len(failed) > 10:
        warn(f"... and {len(failed) - 10} more; every one is a row with its reason")
    if not failed:
        return DONE
    return FAILED if len(failed) == n_images else SOME_FAILED


COMMANDS: Commands = {"": (Predict, predict)}
