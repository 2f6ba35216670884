"""``linnaea predict IMAGES...``: the organisms on photographs, as a table or a file."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from linnaea.cli import Commands
from linnaea.cli.console import progress_bar, report_failed, results, say
from linnaea.cli.predict_restrict import read_prior, restrict
from linnaea.errors import LinnaeaError, UsageError
from linnaea.model.folders import DEFAULT_MODEL, Precision
from linnaea.taxonomy.ranks import RANK_LABELS, Rank
from linnaea.taxonomy.taxon import TextType

if TYPE_CHECKING:
    import polars as pl

    from linnaea.model.encoder import Encoder
    from linnaea.predict.exchange import Row
    from linnaea.predict.inputs import Input
    from linnaea.predict.labels import LabelBank
    from linnaea.predict.predictor import Predictor

RankOption = Literal["species", "genus", "family", "order", "class", "phylum", "kingdom", "auto"]
Form = Literal["table", "csv", "jsonl", "parquet", "megadetector", "camtrapdp", "html"]
FORMS: dict[str, Form] = {
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".parquet": "parquet",
    ".html": "html",
    ".json": "megadetector",
}


@dataclass(frozen=True, kw_only=True)
class Predict:
    """Name the organisms on photographs."""

    images: tyro.conf.Positional[tuple[str, ...]]
    """Photographs, folders of them, patterns, tars, videos, http addresses."""
    model: str = DEFAULT_MODEL
    """Folder or name of the model; nano comes with this package."""
    labels: Path | None = None
    """Taxa to choose from: a data set, label bank, file of names or checklist (inat); default: the model's own."""
    bins: Path | None = None
    """In place of taxa: a table of labels and their bins (its first two columns); the answers are bins."""
    rank: RankOption = "species"
    """Rank of the answers; auto: the deepest that reaches the confidence."""
    confidence: float = 0.9
    """For --rank auto: the probability an answer must reach."""
    top_k: int = 5
    """Answers per photograph (--rank auto gives one)."""
    within: tuple[str, ...] = ()
    """Only taxa of these clades, such as order:Lepidoptera."""
    exclude: tuple[str, ...] = ()
    """No taxa of these clades."""
    species_list: Path | None = None
    """Only the taxa of this list (a name per line, or a table); synonyms are understood."""
    strict: bool = False
    """Fail where a name of --species-list or --prior is not among the labels."""
    checklist: tuple[str, ...] = ("inat",)
    """Checklists that resolve the names of --species-list and --prior."""
    prior: Path | None = None
    """Weights per taxon (a table of name and weight), or a file of regions (linnaea labels regions): no filter."""
    lat: float | None = None
    """Latitude, degrees north, of photographs that do not say themselves; for a --prior of regions."""
    lon: float | None = None
    """Longitude, degrees east."""
    date: str = ""
    """Date as YYYY-MM-DD or YYYY-MM."""
    detections: Path | None = None
    """A MegaDetector file: the detected animals in the photographs of the folder given as IMAGES, each by itself."""
    detection_threshold: float = 0.2
    """Least confidence of a detection."""
    every: float = 1.0
    """Of a video, a frame every so many seconds."""
    text_type: TextType = TextType.TAXON_COM
    """Caption form of the labels."""
    format: Form | None = None
    """Default: by the ending of --output, or a table."""
    log: Path | None = None
    """File to which the run is appended as a JSON line: command, versions, model, labels, options, counts."""
    output: Path | None = None
    """File to write; the same command goes on with an interrupted one. Default: standard output."""
    batch_size: int = 32
    """Photographs the model sees at once."""
    pretrained: str | None = None
    """open_clip's tag, where the model is an architecture's name."""
    device: str = "auto"
    """cpu, cuda, mps or auto."""
    precision: Precision = "float32"
    """bf16 is about twice as fast where the processor has it, and no more exact than that; auto: where it has it."""
    workers: int = 2
    """Threads that decode."""

    def __post_init__(self) -> None:
        if not self.images:
            raise ValueError("give at least one photograph or folder")
        if not 0 < self.confidence <= 1 or self.top_k < 1 or self.batch_size < 1 or self.every <= 0:
            raise ValueError("--confidence lies between 0 and 1; --top-k, --batch-size and --every are above 0")
        if (self.lat is None) != (self.lon is None):
            raise ValueError("--lat and --lon go together")
        if self.bins and (self.labels or self.rank != "species" or self.species_list or self.prior):
            raise ValueError("--bins stands alone: no --labels, --rank, --species-list or --prior with it")
        if self.detections is not None and len(self.images) != 1:
            raise ValueError("with --detections give one folder, which its file names are relative to")


def predict(options: Predict) -> int:
    """Answer for every photograph; those that cannot be read become rows with a reason."""
    form = _choose_form(options)
    from linnaea.predict.provenance import append_run

    started = datetime.now(UTC)
    inputs = _list_inputs(options)
    if len(inputs) == 1:
        _check_readable(inputs[0])
    predictor, question = _make_predictor(options)
    calibration = predictor.calibration
    if calibration is None and options.rank == "auto":
        say("not calibrated: the confidence is the model's own word (linnaea labels calibrate teaches it better)")
    elif calibration is not None and calibration.n_labels != len(predictor.bank):
        n_asked = len(predictor.bank)
        say(f"calibrated with {calibration.n_labels:,} labels, asked about {n_asked:,}: the confidence may be off")
    if options.output is None:
        failed = _print_answers(predictor, form, inputs)
    else:
        failed = _write_answers(options.output, form, inputs, predictor, question)
    if options.log is not None:
        output = str(options.output) if options.output else None
        facts = {"model": options.model, "output": output, "photographs": len(inputs), "failed": len(failed)}
        append_run(options.log, {**facts, "question": question}, started)
    return report_failed(failed, len(inputs))


def _choose_form(options: Predict) -> Form:
    if options.output is None:
        if options.format == "parquet":
            raise UsageError("--format parquet needs --output FILE")
        return options.format or "table"
    form = options.format or FORMS.get(options.output.suffix.lower(), "csv")
    if form == "table":
        raise UsageError("--format table goes to the terminal; leave out --output, or choose another --format")
    return form


def _list_inputs(options: Predict) -> "list[Input]":
    from linnaea.predict.inputs import Detections, list_inputs

    if options.detections is None:
        inputs = list_inputs(options.images, every_s=options.every)
    else:
        inputs = Detections.open(options.detections, Path(options.images[0])).inputs(options.detection_threshold)
    if not inputs:
        what = "detections of animals" if options.detections else "photographs"
        raise LinnaeaError(f"{' '.join(options.images)}: no {what} there")
    return inputs


def _check_readable(one: "Input") -> None:
    """A single photograph that is not there is a mistake, not a row; known before the model is loaded."""
    from linnaea.data.images import ImageError, read_image_file

    if one.path is None or one.box is not None:
        return
    try:
        read_image_file(one.path)
    except ImageError as error:
        raise LinnaeaError(f"{one.name}: {error}") from error


def _make_predictor(options: Predict) -> "tuple[Predictor, dict[str, Any]]":
    """The predictor, and all that its answers depend on."""
    from linnaea.predict.labels import hash_taxa
    from linnaea.predict.predictor import Asked, Predictor

    if options.bins is not None:
        model, whole = _load_model_and_bins(options, options.bins)
    else:
        model, whole = load_model_and_bank(
            options.model,
            options.labels,
            text_type=options.text_type,
            pretrained=options.pretrained,
            device=options.device,
            precision=options.precision,
        )
    bank = restrict(options, whole)
    asked = Asked(
        rank=None if options.rank == "auto" else Rank.parse(options.rank),
        confidence=options.confidence,
        top_k=options.top_k,
    )
    predictor = Predictor(model=model, bank=bank, asked=asked, weights_of=read_prior(options, bank),
                          batch_size=options.batch_size, n_workers=options.workers)  # fmt: skip
    learnt = predictor.calibration
    question = {
        "model": model.fingerprint,
        "precision": model.precision,
        "calibration": None if learnt is None else learnt.to_json(),
        "labels": bank.facts | {"n": len(bank), "names": hash_taxa(bank.taxa)},
        "asked": [options.rank, options.confidence, options.top_k],
        "prior": [str(options.prior), options.lat, options.lon, options.date],
    }
    return predictor, question


def _load_model_and_bins(options: Predict, bins: Path) -> "tuple[Encoder, LabelBank]":
    """Labels in OpenAI's 80 templates, as pybioclip asks them."""
    from linnaea.evaluate.evaluation import TEMPLATES
    from linnaea.model.open import open_encoder
    from linnaea.predict.bins import make_bin_bank, read_bins

    table = read_bins(bins)
    model = open_encoder(
        options.model, pretrained=options.pretrained, device=options.device, precision=options.precision
    )
    with progress_bar("encoding labels", "labels") as on_progress:
        return model, make_bin_bank(model, table, TEMPLATES["openai"], on_progress=on_progress)


def load_model_and_bank(
    name: str,
    labels: Path | None,
    *,
    text_type: TextType = TextType.TAXON_COM,
    pretrained: str | None = None,
    device: str = "auto",
    precision: Precision = "float32",
) -> "tuple[Encoder, LabelBank]":
    """A model, and the bank of the labels that a user named (``None``: those the model brings)."""
    from linnaea.model.open import open_encoder
    from linnaea.predict.class_heads import CLASS_HEAD, find_own_labels
    from linnaea.predict.labels import LabelBank, load_cached_bank

    model = open_encoder(name, pretrained=pretrained, device=device, precision=precision)
    own = find_own_labels(name)
    labels = labels or own
    if labels is None:
        raise LinnaeaError(f"{name}: brings no taxa of its own; give --labels, a data set or a file of names")
    if (labels / "embeddings.npy").exists():
        bank = LabelBank.open(labels)
        if labels == own and bank.facts["text_type"] not in (text_type, CLASS_HEAD):
            return model, load_cached_bank(model, bank.taxa, text_type)
        if bank.facts.get("model") != model.fingerprint:
            raise LinnaeaError(f"{labels}: was built with another model; build it again with `linnaea labels build`")
        return model, bank
    with progress_bar("encoding labels", "labels") as on_progress:
        return model, load_cached_bank(model, _taxa_of(labels), text_type, on_progress=on_progress)


def _taxa_of(labels: Path) -> "pl.DataFrame":
    """The taxa of a file or folder; of a checklist, where it is the name of one."""
    from linnaea.predict.labels import read_taxa, taxa_of_checklist
    from linnaea.taxonomy.checklists.store import list_checklists, load_checklist

    if not labels.exists() and str(labels) in {entry.name for entry in list_checklists()}:
        return taxa_of_checklist(load_checklist(str(labels)))
    return read_taxa(labels)


def _print_answers(predictor: "Predictor", form: Form, inputs: "list[Input]") -> list[str]:
    """Returns what failed, a line each."""
    from linnaea.predict.outputs import WRITERS, rows_of

    failed: list[str] = []

    def rows() -> "Iterator[Row]":
        for answer in predictor.answer(inputs):
            if answer.status == "failed":
                failed.append(f"{answer.input.name}: {answer.reason}")
            yield from rows_of(answer)

    if form == "table":
        _print_table(rows())
    else:
        WRITERS[form](sys.stdout, rows())
    return failed


def _print_table(rows: "Iterator[Row]") -> None:
    """Names are never cut; of the lineage there is what the terminal has room for, the family first."""
    from rich import box
    from rich.markup import escape
    from rich.table import Column, Table

    ranks = ("family", "order", "class", "phylum", "kingdom")[: max(0, (results.width - 75) // 15)]
    columns = [Column("photograph", max_width=24), Column("answer", no_wrap=True), Column("common name", max_width=24),
               Column("rank", no_wrap=True), Column("probability", no_wrap=True, justify="right")]  # fmt: skip
    table = Table(*columns, *(Column(rank, no_wrap=True) for rank in ranks), box=box.SIMPLE_HEAD, pad_edge=False)
    last = ""
    for row in rows:
        name = Path(row["file_name"]).name if row["file_name"] != last else ""
        last = row["file_name"]
        if row["status"] != "ok":
            table.add_row(escape(name), f"[dim]{row['status']}[/]", f"[dim]{escape(row['reason'])}[/]")
            continue
        named = [row[label] for label in reversed(RANK_LABELS[: Rank.SPECIES]) if row[label]]
        answer = row["species"] or (named[0] if named else row["common_name"])
        common = row["common_name"] if row["common_name"] != answer else ""
        lineage = (row[rank] if row[rank] != answer else "" for rank in ranks)
        table.add_row(*map(escape, (name, answer, common, row["rank"], f"{row['score']:.1%}", *lineage)))
    results.print(table)


def _write_answers(
    output: Path, form: Form, inputs: "list[Input]", predictor: "Predictor", question: dict[str, Any]
) -> list[str]:
    """Returns what failed, a line each."""
    from linnaea.predict.outputs import Journal, rows_of

    output.parent.mkdir(parents=True, exist_ok=True)
    journal = Journal(output, question)
    names = [one.name for one in inputs]
    todo = list(_iter_unfinished(inputs, journal.done, predictor.batch_size))
    if journal.done:
        say(f"going on: {len(inputs) - len(todo):,} of {len(inputs):,} photographs are done")
    with progress_bar("predicting", "images") as on_progress:
        on_progress(len(inputs) - len(todo), len(inputs))
        for done, answer in enumerate(predictor.answer(todo), start=1):
            if answer.input.name not in journal.done:
                journal.add(answer.input.name, rows_of(answer))
            on_progress(len(inputs) - len(todo) + done, len(inputs))
    failed = [f"{row['file_name']}: {row['reason']}" for row in journal.rows(names) if row["status"] == "failed"]
    journal.finish(output, form, names)
    print(f"{len(inputs)} photographs: {output}", flush=True)
    return failed


def _iter_unfinished(inputs: "list[Input]", done: set[str], batch_size: int) -> "Iterator[Input]":
    """All inputs of the batches in which one is missing: in the same company an image gets the same bits."""
    for start in range(0, len(inputs), batch_size):
        batch = inputs[start : start + batch_size]
        if any(one.name not in done for one in batch):
            yield from batch


COMMANDS: Commands = {"": (Predict, predict)}
