"""``linnaea predict IMAGES...``: name the organisms on photographs, as a table or a file."""

import re
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from linnaea.cli import Commands
from linnaea.cli.answer_files import FileForm, choose_file_form, make_context, sort_into, write_keywords
from linnaea.cli.answer_table import print_answers
from linnaea.cli.console import STANDARD_OUTPUT, machine_output, progress_bar, report_failed, results, say, tell, warn
from linnaea.cli.parsing import parse_words, swallowed
from linnaea.counting import agree, count
from linnaea.errors import LinnaeaError, UsageError
from linnaea.jobs import OnProgress, ignore_progress
from linnaea.model.folders import DEFAULT_MODEL, Precision
from linnaea.predict.confidence import DEFAULT_CONFIDENCE, parse_confidence
from linnaea.taxonomy.taxon import TextType

if TYPE_CHECKING:
    from linnaea.predict.detections import Detections
    from linnaea.predict.inputs import Input
    from linnaea.predict.outputs.files import Context
    from linnaea.predict.outputs.journal import Journal
    from linnaea.predict.outputs.rows import Row
    from linnaea.predict.predictor import Predictor
    from linnaea.predict.restrict import Among
    from linnaea.predict.session import Model

RankOption = Literal["species", "genus", "family", "order", "class", "phylum", "kingdom", "auto"]
Form = Literal["table", FileForm]
Preprocess = Literal["crop", "squash"]


@dataclass(frozen=True, kw_only=True)
class Predict:
    """Name the organisms on photographs."""

    images: tyro.conf.Positional[tuple[str, ...]]
    """Photographs, folders of them, patterns, tars, videos, http addresses, or SpeciesNet's instances (.json)."""
    model: str = DEFAULT_MODEL
    """Folder or name of the model; nano comes with this package."""
    labels: str | None = None
    """Taxa to choose from: a data set, label bank (a folder, or FILE.npy with FILE.json beside it), file of names,
    checklist (inat), or names (cat,dog). Default: the model's own, or the published bank of a published model."""
    resolve: bool = True
    """Resolve the names of a file of labels with the embedded checklist; --no-resolve keeps them as they are."""
    merge_by: Literal["class", "taxon"] = "class"
    """Labels over one taxon that differ in more than spelling, author or language (Danaus plexippus larva): class keeps
    them apart, taxon merges them."""
    cls: str | None = None
    """Plain words to choose from, as in pybioclip: cat,dog or a file with one per line, in OpenAI's 80 templates."""
    bins: Path | None = None
    """A table of labels and their bins (its first two columns) instead of taxa; the answers are bins."""
    rank: RankOption = "species"
    """Rank of the answers; auto is the deepest rank that reaches the confidence."""
    confidence: str | None = None
    """Probability that an answer must reach with --rank auto, for all ranks (0.9) or by rank (species=0.95 genus=0.9).
    Default: 0.9."""
    top_k: Annotated[int, tyro.conf.arg(aliases=["--k"])] = 5
    """Answers per photograph (--rank auto gives one)."""
    within: tuple[str, ...] = ()
    """Only taxa of these clades, such as order:Lepidoptera."""
    exclude: tuple[str, ...] = ()
    """No taxa of these clades."""
    species_list: Annotated[Path | None, tyro.conf.arg(aliases=["--subset"])] = None
    """Only the taxa of this list (a name per line, or a table); synonyms are resolved."""
    strict: bool = False
    """Fail if a name of --species-list or --prior is not among the labels."""
    checklist: tuple[str, ...] = ("inat",)
    """Checklists that resolve the names of --species-list and --prior, and have common names for --language."""
    language: str = ""
    """Language of the common names, such as de, where a checklist has them. Default: those of the labels."""
    prior: Path | None = None
    """Weights per taxon (a table of name and weight), or a file of regions (linnaea labels regions). Weights change
    probabilities; they never exclude a taxon."""
    lat: float | None = None
    """Latitude in degrees north, for a --prior of regions, if a photograph does not state its place."""
    lon: float | None = None
    """Longitude in degrees east."""
    date: str = ""
    """Date as YYYY-MM-DD or YYYY-MM."""
    detections: Path | None = None
    """A file of MegaDetector, of another detector in its format, or of SpeciesNet; each detected animal in the
    photographs of the folder IMAGES is answered by itself."""
    detector: Path | None = None
    """Weights of a MegaDetector (.pt), to be run first (needs the extra detector)."""
    detection_threshold: float | None = None
    """Lowest confidence of a detection. Default: the one that the file states, else that of its detector, else 0.2."""
    animal_categories: tuple[str, ...] = ()
    """Names or numbers of the detector's categories that are named. Default: all but people, vehicles and empty."""
    whole_where_empty: bool = False
    """Name the photograph as a whole where nothing is detected, or where the detector's file does not mention it."""
    every: float = 1.0
    """Seconds between the frames that are taken from a video."""
    text_type: TextType = TextType.TAXON_COM
    """Caption form of the labels."""
    preprocess: Preprocess | None = None
    """crop: the middle square; squash: the whole photograph, as pybioclip does for the published models. Default: as
    the model was trained."""
    calibration: bool = True
    """Apply the calibration that comes with the labels or the model."""
    format: Form | None = None
    """Format of the output. Default: by the suffix of --output; a table in a terminal, csv elsewhere."""
    log: Path | None = None
    """File to append the run to as a JSON line: command, versions, model, labels, options, counts."""
    timezone: str = ""
    """Time zone of cameras that write no offset, such as Europe/Berlin or +01:00, for the times in camtrapdp."""
    deployments: Path | None = None
    """Table of deployments with Camtrap DP's columns, for camtrapdp-package and dwca. Default: each folder is one."""
    package_info: Path | None = None
    """JSON file with parts of datapackage.json for camtrapdp-package: title, contributors, project, licenses."""
    sequence_gap: float | None = None
    """Photographs of one folder with gaps of at most so many seconds are one event, whose answers agree. Default:
    each photograph is answered by itself; in camtrapdp-package and dwca, 60 seconds are one event."""
    decisions: Path | None = None
    """File of reviewers' decisions (linnaea review), which go into what is written."""
    sort_into: Path | None = None
    """Folder in which to sort the photographs by taxon (needs --output)."""
    sort_by: Literal["link", "copy"] = "link"
    """Sort by links to the photographs, or by copies of them."""
    explain: bool = False
    """Draw where in each photograph its answer comes from: a heat map in the folder OUTPUT-explained."""
    write_xmp: bool = False
    """Write the names into the photographs' XMP as keywords, with exiftool or pyexiv2 (needs --output). The photographs
    as they were are kept as NAME_original."""
    no_formulas: tyro.conf.FlagCreatePairsOff[bool] = False
    """Put ' in front of cells of a CSV that begin with =, +, - or @, which a spreadsheet would run as formulas."""
    output: Path | None = None
    """File to write; after an interruption, the same command resumes. Default, and if stdout: standard output."""
    batch_size: int = 32
    """Photographs that the model encodes at once."""
    pretrained: str | None = None
    """open_clip's pretrained tag, if the model is the name of an architecture."""
    device: str = "auto"
    """cpu, cuda, mps or auto."""
    precision: Precision = "float32"
    """Number format of the image tower. bf16 is about twice as fast as float32 on processors that multiply it natively
    (auto uses it there). int8 is about twice as fast on all, and decodes large JPEGs at a fraction of their size. Of
    500 photographs, nano names 98% as in float32 with bf16 and 97% with int8, and all to which float32 gives 0.5 or
    more. The first probability changes by 0.007 and 0.010 on average. With --rank auto, 2.4% of the answers are higher
    or lower on the same lineage."""
    workers: int = 2
    """Number of threads that decode images."""

    def __post_init__(self) -> None:
        if self.output == STANDARD_OUTPUT:
            object.__setattr__(self, "output", None)
        if not self.images:
            taken = swallowed(self.within, "--within") or swallowed(self.exclude, "--exclude")
            raise ValueError(f"give at least one photograph or folder{taken}")
        if self.cls is not None and (self.bins or self.labels or self.rank != "species" or self.species_list):
            raise ValueError("--cls cannot be combined with --labels, --bins, --rank or --species-list (--subset)")
        if self.top_k < 1 or self.batch_size < 1 or not self.every > 0:
            raise ValueError("--top-k, --batch-size and --every must be above 0")
        if (self.lat is None) != (self.lon is None):
            raise ValueError("give --lat and --lon together")
        if self.bins and (self.labels or self.rank != "species" or self.species_list or self.prior):
            raise ValueError("--bins cannot be combined with --labels, --rank, --species-list or --prior")
        if self.detection_threshold is not None and not 0 <= self.detection_threshold <= 1:
            raise ValueError("--detection-threshold must be between 0 and 1")
        if (self.sort_into is not None or self.write_xmp) and self.output is None:
            raise ValueError(f"{'--write-xmp' if self.write_xmp else '--sort-into'} needs --output")
        if self.sequence_gap is not None and (not self.sequence_gap >= 0 or self.output is None):
            raise ValueError("--sequence-gap must not be below 0, and needs --output")
        if self.detections is not None and self.detector is not None:
            raise ValueError("give --detections, what a detector found, or --detector, to run one, but not both")
        if self.animal_categories and self.detections is None:
            raise ValueError("--animal-categories needs --detections")
        if self.detections is not None and len(self.images) != 1:
            raise ValueError("with --detections, give one folder that its file names are relative to")


_OF_CONFIDENCE = re.compile(r"[a-z]+=\S*|[01]?\.\d+|1", re.IGNORECASE)
"""A further word of ``--confidence``: a probability, with or without a rank."""


def parse(program: str, words: list[str]) -> Predict:
    """Return the parsed options; the words of ``--confidence`` become one, so that photographs may follow them."""
    joined: list[str] = []
    for word in words:
        if joined[-2:-1] == ["--confidence"] and _OF_CONFIDENCE.fullmatch(word):
            joined[-1] += f",{word}"
        else:
            joined.append(word)
    options = parse_words(Predict, program, joined)
    try:
        parse_confidence(options.confidence or DEFAULT_CONFIDENCE)
    except UsageError as error:
        raise UsageError(f"{program}: --{error}") from None
    return options


def predict(options: Predict) -> int:
    """Answer every photograph; those that cannot be read become rows with a reason."""
    form = _choose_form(options)
    if options.write_xmp:
        from linnaea.predict.records.xmp import find_writer

        find_writer()  # an error now, not after all photographs
    from linnaea.exchange import hold_output
    from linnaea.predict.inputs import count_photographs
    from linnaea.predict.outputs.journal import append_run
    from linnaea.predict.session import describe_question

    started = datetime.now(UTC)
    inputs, context = _list_inputs(options)
    if len(inputs) == 1:
        _check_readable(inputs[0])
    model, among = _open_model(options, inputs), _make_among(options)
    predictor = _make_predictor(options, model, among)
    predictor = replace(predictor, model=predictor.model.for_photographs(len(inputs)))
    question = describe_question(predictor, among, inputs)
    context = replace(context, calibrated=predictor.calibration is not None)
    _say_how_sure(predictor, options.rank)
    if options.output is None:
        failed = _print_answers(predictor, form, inputs, context)
        _explain_answers(options, predictor, inputs)
    else:
        with hold_output(options.output, kind="command"):
            journal = _open_journal(options.output, question, inputs)
            _fill_journal(journal, predictor, inputs)
            names = [one.name for one in inputs]
            if options.sort_into is not None:
                sort_into(options.sort_into, journal.rows(names), context, options.sort_by)
            if options.write_xmp:
                write_keywords(journal.rows(names))
            _explain_answers(options, predictor, inputs)
            failed = _write_answers(options.output, form, inputs, journal, context)
    if options.log is not None:
        output = str(options.output) if options.output else None
        n_photographs = count_photographs(inputs)
        facts = {"model": options.model, "output": output, "photographs": n_photographs, "failed": len(failed)}
        append_run(options.log, {**facts, "question": question}, started)
    return report_failed(failed, len(inputs))


def _choose_form(options: Predict) -> Form:
    if options.output is None:
        if options.format in ("parquet", "xlsx", "camtrapdp-package", "dwca"):
            raise UsageError(f"--format {options.format} needs --output FILE")
        return options.format or ("table" if results.is_terminal else "csv")
    if options.format == "table":
        raise UsageError("--format table is for the terminal; leave out --output, or choose another --format")
    return choose_file_form(options.output, options.format)


def _list_inputs(options: Predict) -> "tuple[list[Input], Context]":
    """Return the inputs, and the facts that files of answers state besides the answers."""
    from linnaea.data.copies.bursts import GAP_S
    from linnaea.predict.inputs import list_inputs
    from linnaea.predict.records.decisions import read_decisions
    from linnaea.predict.records.media import with_events

    context = make_context(options, GAP_S if options.sequence_gap is None else options.sequence_gap)
    detections = _read_detections(options)
    if detections is None:
        inputs = list_inputs(options.images, every_s=options.every)
    else:
        inputs = detections.inputs(options.detection_threshold, whole_where_empty=options.whole_where_empty)
    if not inputs:
        raise LinnaeaError(f"{' '.join(options.images)}: no photographs there")
    if options.sequence_gap is not None:
        inputs = with_events(inputs, options.sequence_gap)
    decisions = None if options.decisions is None else read_decisions(options.decisions)
    return inputs, replace(context, detections=detections, decisions=decisions)


def _read_detections(options: Predict) -> "Detections | None":
    from linnaea.predict.detection_files import is_instances, open_detections

    first = Path(options.images[0])
    if options.detector is not None:
        return _detect(options, options.detector)
    if options.detections is None:
        return open_detections(first, Path()) if len(options.images) == 1 and is_instances(first) else None
    folder = first.parent if first.is_file() else first
    detections = open_detections(options.detections, folder, options.animal_categories)
    if detections.form == "instances":
        raise UsageError(f"{options.detections}: lists photographs without detections; give it in place of IMAGES")
    if options.detection_threshold is None:
        say(f"detections count from a confidence of {detections.threshold:g} on (--detection-threshold)")
    if first.is_file():
        return detections.only(first)
    if n_unlisted := detections.n_unlisted:
        row = "each photograph is named as a whole" if options.whole_where_empty else "each is a row that says so"
        what = f"{n_unlisted:,} of the {count(detections.n_files, 'file')} in {first}"
        say(f"{options.detections}: says nothing about {what}; {row}")
    if detections.n_unusable:
        what = "without an area in their picture, a category or a confidence"
        say(f"{options.detections}: detections {what} are left out ({detections.n_unusable:,})")
    return detections


def _detect(options: Predict, weights: Path) -> "Detections":
    from linnaea.predict.detector import detect_all, load_detector
    from linnaea.predict.inputs import list_inputs

    detect = load_detector(weights, device=options.device)
    with progress_bar("detecting", "images") as on_progress:
        return detect_all(detect, list_inputs(options.images, every_s=options.every), weights, on_progress=on_progress)


def _check_readable(one: "Input") -> None:
    """Raise an error for a single photograph that does not exist, before the model is loaded."""
    from linnaea.data.images import ImageError, read_image_file

    if one.path is None or one.box is not None:
        return
    try:
        read_image_file(one.path)
    except ImageError as error:
        raise LinnaeaError(f"{one.name}: {error}") from error


def _open_model(options: Predict, inputs: "list[Input]") -> "Model":
    """Open the model; with --precision int8, one without a form in 8 bits gets it from the photographs."""
    from linnaea.predict.label_lists import read_bins, read_words
    from linnaea.predict.labels import make_bin_bank
    from linnaea.predict.session import open_model

    bins = None if options.bins is None else read_bins(options.bins)
    if options.cls is not None:
        bins = read_words(options.cls)
    model = open_model(
        options.model,
        labels=options.labels,
        device=options.device,
        precision=options.precision,
        preprocess=options.preprocess,
        calibrated=options.calibration,
        text_type=options.text_type,
        pretrained=options.pretrained,
        resolve=options.resolve,
        merge_by=options.merge_by,
        int8_photographs=inputs if bins is None else None,
    )
    if options.language:
        model = model.in_language(options.language, options.checklist)
    return model if bins is None else replace(model, labels=make_bin_bank(model.encoder, bins))


def _make_among(options: Predict) -> "Among":
    from linnaea.predict.restrict import Among

    return Among(
        within=options.within,
        exclude=options.exclude,
        species_list=options.species_list,
        strict=options.strict,
        checklists=options.checklist,
        prior=options.prior,
        lat=options.lat,
        lon=options.lon,
        date=options.date,
    )


def _make_predictor(options: Predict, model: "Model", among: "Among") -> "Predictor":
    from linnaea.predict.session import make_asked

    asked = make_asked(options.rank, options.confidence, options.top_k, tell=warn)
    try:
        predictor = model.predictor(asked, among, batch_size=options.batch_size, n_workers=options.workers, tell=warn)
    except UsageError as error:  # an unknown clade, which may be photographs written behind --within
        unknown = {o: tuple(v for v in getattr(options, o) if v in str(error)) for o in ("within", "exclude")}
        taken = "".join(swallowed(values, f"--{option}") for option, values in unknown.items())
        raise UsageError(f"{error}{taken}") from error
    if len(predictor.bank) < len(model.bank):
        say(f"choosing among {len(predictor.bank):,} of {count(len(model.bank), 'label')}")
    return predictor


def _say_how_sure(predictor: "Predictor", rank: RankOption) -> None:
    """Report if there is no calibration, or if it was made for other labels."""
    calibration = predictor.calibration
    wanted = rank == "auto" or "published" in predictor.bank.facts
    if calibration is None and wanted and predictor.calibrated:
        say("not calibrated: probabilities are the raw scores of the model; `linnaea labels calibrate` corrects them")
    elif calibration is not None and calibration.n_labels != len(predictor.bank):
        n_asked = len(predictor.bank)
        say(f"calibrated with {count(calibration.n_labels, 'label')}, used with {n_asked:,}: the confidence may be off")


def _print_answers(predictor: "Predictor", form: Form, inputs: "list[Input]", context: "Context") -> list[str]:
    """Print the answers, and return a line for each photograph that failed."""
    from linnaea.predict.outputs.rows import rows_of
    from linnaea.predict.outputs.write import WRITERS

    failed: list[str] = []

    def rows(on_progress: OnProgress) -> "Iterator[Row]":
        on_progress(0, len(inputs))
        for number, answer in enumerate(predictor.answer(inputs), start=1):
            if answer.status == "failed":
                failed.append(f"{answer.input.name}: {answer.reason}")
            yield from rows_of(answer)
            on_progress(number, len(inputs))

    stream = machine_output()  # before a bar, which takes what is printed for a message
    is_quiet = form != "table" and results.is_terminal  # a bar would lie between the rows
    with nullcontext(ignore_progress) if is_quiet else progress_bar("predicting", "images") as on_progress:
        if form == "table":
            answered = list(context.decided(rows(on_progress)))
        else:
            WRITERS[form](stream, context.decided(rows(on_progress)), context)
    if form == "table":
        print_answers(answered)
    return failed


def _open_journal(output: Path, question: "dict[str, object]", inputs: "list[Input]") -> "Journal":
    from linnaea.predict.outputs.journal import Journal

    journal = Journal(output, question)
    if journal.done:
        n_done = sum(map(journal.is_done, inputs))
        say(f"resuming: {n_done:,} of {count(len(inputs), 'photograph')} {agree(n_done, 'is', 'are')} done")
    return journal


def _fill_journal(journal: "Journal", predictor: "Predictor", inputs: "list[Input]") -> None:
    with progress_bar("predicting", "images") as on_progress:
        journal.fill(predictor, inputs, on_progress)


def _explain_answers(options: Predict, predictor: "Predictor", inputs: "list[Input]") -> None:
    """Draw a heat map for each photograph that can be read, named by its number and name."""
    if not options.explain:
        return
    from linnaea.data.images import ImageError
    from linnaea.predict.explain import explain

    output = options.output
    folder = Path("explained") if output is None else output.with_name(f"{output.stem}-explained")
    n_drawn = 0
    with progress_bar("explaining", "images") as on_progress:
        for number, one in enumerate(inputs):
            try:
                name = re.sub(r"[^\w.-]+", "_", one.name)[-80:]
                explain(predictor, one).save(folder / f"{number:04d}-{name}.jpg")
                n_drawn += 1
            except ImageError:  # it is a row with its reason
                pass
            on_progress(number + 1, len(inputs))
    say(f"{n_drawn:,} heat maps in {folder}")


def _write_answers(
    output: Path, form: Form, inputs: "list[Input]", journal: "Journal", context: "Context"
) -> list[str]:
    """Write the answers to a file, and return a line for each photograph that failed."""
    from linnaea.predict.inputs import count_photographs

    names = [one.name for one in inputs]
    failed = [f"{row['file_name']}: {row['reason']}" for row in journal.rows(names) if row["status"] == "failed"]
    journal.finish(output, form, names, context)
    tell(f"{count(count_photographs(inputs), 'photograph', '')}: {output}", flush=True)
    return failed


COMMANDS: Commands = {"": (parse, predict)}
