"""``linnaea adapt FOLDER --output HEAD``: one's own classes from a few of one's own photographs."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from linnaea.cli import Commands
from linnaea.cli.console import progress_bar, report_failed, say
from linnaea.errors import LinnaeaError
from linnaea.model.folders import DEFAULT_MODEL
from linnaea.taxonomy.taxon import PHOTO_TEMPLATE, TextType

if TYPE_CHECKING:
    from linnaea.data.sources import Record
    from linnaea.model.encoder import Encoder
    from linnaea.page import Page
    from linnaea.predict.adapt import Fitted, Validation
    from linnaea.predict.labels import LabelBank


@dataclass(frozen=True, kw_only=True)
class Adapt:
    """Fit a head to labelled photographs, blended with zero-shot; use it as `linnaea predict --labels HEAD`."""

    folder: tyro.conf.Positional[Path]
    """A folder with one folder of photographs per class, named after the taxon."""
    output: Path
    """Folder of the head."""
    model: str = DEFAULT_MODEL
    """Folder or name of the model; nano comes with this package."""
    text_type: TextType = TextType.TAXON_COM
    """Caption form of the classes."""
    device: str = "auto"
    """cpu, cuda, mps or auto."""
    batch_size: int = 32
    """Photographs the model sees at once."""
    workers: int = 2
    """Threads that decode."""


def adapt(options: Adapt) -> int:
    """Encode, fit, validate; writes the head with a report page."""
    import numpy as np

    from linnaea.data.shards import make_taxa_table
    from linnaea.model.open import open_encoder
    from linnaea.predict.adapt import fit_head
    from linnaea.predict.calibration import KEY as CALIBRATION
    from linnaea.predict.calibration import Calibration
    from linnaea.predict.labels import LabelBank, make_bank

    records, failed = _read(options.folder)
    model = open_encoder(options.model, device=options.device)
    good, vectors = _encode(options, model, records, failed)
    if not good:
        raise LinnaeaError(f"{options.folder}: no photograph can be read ({failed[0]})")
    bank = make_bank(model, make_taxa_table(record.taxon for record in good), options.text_type)
    row_of = {taxon: row for row, taxon in enumerate(bank.taxa_list)}
    labels = np.array([row_of[record.taxon] for record in good], np.int64)
    try:
        fitted = fit_head(vectors, labels, np.asarray(bank.vectors), model.logit_scale)
    except ValueError as error:
        raise LinnaeaError(f"{options.folder}: {error}") from error
    # The model's calibration is for its own labels; the head's temperature was chosen with the head.
    own_word = Calibration(n_images=len(good), n_labels=len(bank)).to_json()
    facts = {"model": model.fingerprint, "text_type": str(options.text_type), "templates": [PHOTO_TEMPLATE],
             "adapted": {"photographs": len(good), **vars(fitted.best.choice)}, CALIBRATION: own_word}  # fmt: skip
    head = LabelBank(bank.taxa, fitted.weights_KE, facts)
    head.save(options.output, dtype=np.float32)
    _report(head, labels, fitted, options.output)
    print(f"{len(good)} photographs of {len(head)} classes: {options.output}", flush=True)
    return report_failed(failed, len(records) + len(failed))


def _read(folder: Path) -> "tuple[list[Record], list[str]]":
    from linnaea.data.sources import Record
    from linnaea.data.sources.folder import FolderSource

    items = list(FolderSource(root=folder).records())
    records = [item for item in items if isinstance(item, Record)]
    failed = [f"{item.location}: {item.reason}" for item in items if not isinstance(item, Record)]
    if not records:
        raise LinnaeaError(f"{folder}: holds no class folders with photographs")
    return records, failed


def _encode(options: Adapt, model: "Encoder", records: "list[Record]", failed: list[str]) -> "tuple[list[Record], Any]":
    import numpy as np

    from linnaea.data.images import ImageError
    from linnaea.model.encode import iter_encoded_images

    items = ((record, Path(record.location)) for record in records)
    encoded = iter_encoded_images(model, items, batch_size=options.batch_size, n_workers=options.workers)
    good, vectors = [], []
    with progress_bar("encoding", "images") as on_progress:
        for done, (record, vector) in enumerate(encoded, start=1):
            if isinstance(vector, ImageError):
                failed.append(f"{record.location}: {vector}")
            else:
                good.append(record)
                vectors.append(vector)
            on_progress(done, len(records))
    return good, np.stack(vectors) if vectors else None


def _report(head: "LabelBank", labels: Any, fitted: "Fitted", output: Path) -> None:
    import json

    from linnaea.storage import write_atomically

    scores = {f"{name}/{key}": value for name, validation in _validations(fitted)
              for key, value in _score(validation, labels).items()}  # fmt: skip
    write_atomically(output / "metrics.json", json.dumps(scores | {"n_images": len(labels), "n_classes": len(head)}))
    _page(head, labels, fitted).write(output / "report.html")
    for name, validation in _validations(fitted):
        say(f"{name:<12}{_score(validation, labels)['top1']:7.1%} right in cross-validation")
    say(f"report: {output / 'report.html'}")


def _validations(fitted: "Fitted") -> "list[tuple[str, Validation]]":
    return [("zero-shot", fitted.zero_shot), ("head alone", fitted.head), ("blended", fitted.best)]


def _score(validation: "Validation", labels: Any) -> dict[str, float]:
    held = validation.answers >= 0
    return {"top1": float((validation.answers == labels)[held].mean()), "nll": validation.nll}


def _page(head: "LabelBank", labels: Any, fitted: "Fitted") -> "Page":
    import polars as pl

    from linnaea.page import Facts, Page, Section, Table, Text

    names = [taxon.scientific_name or taxon.common_name for taxon in head.taxa_list]
    answers = fitted.best.answers
    rows = pl.DataFrame({"class": [names[n] for n in labels], "answer": [names[n] if n >= 0 else "" for n in answers],
                         "right": answers == labels, "validated": answers >= 0})  # fmt: skip
    per_class = rows.group_by("class").agg(
        pl.len().alias("photographs"), pl.col("right").filter(pl.col("validated")).mean().fill_null(0.0)
    )
    mistakes = rows.filter(pl.col("validated") & ~pl.col("right")).group_by("class", "answer").len("times")
    choice = fitted.best.choice
    facts = {f"right, {name}": f"{_score(one, labels)['top1']:.1%}" for name, one in _validations(fitted)}
    how = (
        f"Cross-validation chose {choice.mix:.0%} of the fitted head and {1 - choice.mix:.0%} of zero-shot, ridge"
        f" {choice.ridge:g}, scale {choice.scale:g}. It chose among many on the same photographs, so the figure of the"
        " blend is a little too good. Classes with a single photograph are fitted, but cannot be validated."
    )
    return Page(
        "A head for your classes",
        f"{len(labels):,} photographs of {len(head):,} classes",
        [
            Section("In short", [Facts(facts), Text(how)]),
            Section("Classes, the hardest first", [Table(per_class.sort("right", "class"), percent=["right"])]),
            Section("What was taken for what", [Table(mistakes.sort("times", "class", descending=[True, False]))]),
        ],
    )


COMMANDS: Commands = {"": (Adapt, adapt)}
