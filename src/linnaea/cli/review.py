"""``linnaea review TABLE``: confirm or correct answers on a web page, or write them with the decisions."""

import getpass
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from linnaea.cli import DONE, Commands
from linnaea.cli.answer_files import FileForm, choose_file_form, make_context, sort_into, write_keywords
from linnaea.cli.console import say, tell, warn
from linnaea.errors import LinnaeaError
from linnaea.model.folders import DEFAULT_MODEL

if TYPE_CHECKING:
    from linnaea.predict.records.review import Review as Answers
    from linnaea.serve.review_app import Desk

DECISIONS = "decisions.jsonl"


@dataclass(frozen=True, kw_only=True)
class Review:
    """Review the answers of a table on a local web page; with --output, write them with the decisions instead."""

    table: tyro.conf.Positional[Path]
    """A table that `linnaea predict --output` wrote: .parquet, .csv, .xlsx or .jsonl."""
    decisions: Path | None = None
    """File that decisions are appended to. Default: decisions.jsonl beside the table."""
    reviewer: str = ""
    """Your name, which is kept with each decision; the page can change it. Default: your name on this machine."""
    root: Path | None = None
    """Folder that all photographs must lie in. Default: relative names are looked for here and beside the table."""
    labels: str = DEFAULT_MODEL
    """Model or label bank whose taxa complete names, in English too; none for none."""
    checklist: tuple[str, ...] = ("inat",)
    """More taxa that complete names: checklists by name or file."""
    sequence_gap: float = 60.0
    """Photographs of one folder with gaps of at most so many seconds are shown together, if the table has no events."""
    output: Path | None = None
    """Write the answers with the decisions to this file, and open no page."""
    format: FileForm | None = None
    """Format of --output. Default: by its suffix."""
    timezone: str = ""
    """Time zone of cameras that write no offset, such as Europe/Berlin or +01:00."""
    deployments: Path | None = None
    """Table of deployments with Camtrap DP's columns, for camtrapdp-package and dwca."""
    package_info: Path | None = None
    """JSON file with parts of datapackage.json: title, contributors, project, licenses."""
    sort_into: Path | None = None
    """Folder in which to sort the photographs by what was decided, and open no page."""
    sort_by: Literal["link", "copy"] = "link"
    """Sort by links to the photographs, or by copies of them."""
    write_xmp: bool = False
    """Write the names that were decided into the photographs' XMP as keywords, with exiftool or pyexiv2, and open no
    page. The photographs as they were are kept as NAME_original."""
    no_formulas: bool = False
    """Put ' in front of cells of a CSV that begin with =, +, - or @, which a spreadsheet would run as formulas."""
    host: str = "127.0.0.1"
    """Address to listen on. 0.0.0.0 lets every machine that reaches this one review: give a --token then."""
    port: int = 8010
    """Port to listen on."""
    allowed_host: tuple[str, ...] = ()
    """Further names that the server answers to; * for any."""
    token: str = ""
    """Word that the page asks for. Default: the environment variable LINNAEA_TOKEN."""

    def __post_init__(self) -> None:
        if self.sequence_gap < 0:
            raise ValueError("--sequence-gap must not be below 0")


def review(options: Review) -> int:
    """Serve the page until Ctrl-C, or write what was asked for."""
    from linnaea.predict.records.review import Review as Answers

    answers = Answers.open(options.table, root=options.root, gap_s=options.sequence_gap)
    if options.output is not None or options.sort_into is not None or options.write_xmp:
        return _write(options, answers)
    return _serve(options, answers)


def _decisions_path(options: Review) -> Path:
    return options.decisions or options.table.with_name(DECISIONS)


def _write(options: Review, answers: "Answers") -> int:
    from linnaea.predict.records.decisions import read_decisions
    from linnaea.predict.records.reviewed import with_decisions

    path = _decisions_path(options)
    if options.decisions is None and not path.exists():
        raise LinnaeaError(f"{path}: no decisions yet; run `linnaea review {options.table}` first, or give --decisions")
    verdicts, context = read_decisions(path), make_context(options, options.sequence_gap)
    if options.output is not None:
        answers.write(options.output, choose_file_form(options.output, options.format), verdicts, context)
    if options.sort_into is not None:
        rows = answers.located(with_decisions(answers.rows, verdicts))
        sort_into(options.sort_into, rows, context, options.sort_by)
    if options.write_xmp:
        write_keywords(answers.located(with_decisions(answers.rows, verdicts)))
    n_done = sum(verdicts[one.file_name] is not None for one in answers.items)
    where = options.output or options.sort_into or "XMP"
    tell(f"{n_done} of {len(answers.items)} reviewed: {where}", flush=True)
    return DONE


def _serve(options: Review, answers: "Answers") -> int:
    try:
        import uvicorn

        from linnaea.serve.access import Access, is_loopback
        from linnaea.serve.connections import make_config
        from linnaea.serve.review_app import make_review_app
        from linnaea.serve.service import Limits
    except ImportError as error:
        raise LinnaeaError(f"the page needs more packages ({error.name}): pip install 'linnaea[serve]'") from error
    from linnaea.exchange import hold_output

    path, limits = _decisions_path(options), Limits(request_bytes=1_000_000)
    with hold_output(path, kind="review"):
        desk = _make_desk(options, answers, path)
        access = Access(hosts=options.allowed_host, token=options.token or os.environ.get("LINNAEA_TOKEN", ""))
        app = make_review_app(desk, access=access, limits=limits)
        say(
            f"{len(answers.items):,} to review, {len(desk.log.verdicts):,} decided: http://{options.host}:{options.port}"
        )
        if not is_loopback(options.host) and not access.token:
            warn(f"warning: --host {options.host} lets every machine that reaches this one decide; consider --token")
        server = uvicorn.Server(make_config(app, limits, host=options.host, port=options.port))
        with suppress(KeyboardInterrupt):
            server.run()
        if not server.started:
            raise LinnaeaError(f"--host {options.host} --port {options.port}: cannot listen there")
        tell(f"{len(desk.log.verdicts)} decided: {path}", flush=True)
    return DONE


def _make_desk(options: Review, answers: "Answers", path: Path) -> "Desk":
    from linnaea.predict.records.decisions import DecisionLog
    from linnaea.serve.review_app import open_desk, read_known_taxa

    context = make_context(options, options.sequence_gap)
    return open_desk(answers, DecisionLog(path), read_known_taxa(options.labels), context=context,
                     reviewer=options.reviewer or user_name(), checklists=options.checklist)  # fmt: skip


def user_name() -> str:
    """Return the name of who runs this; empty if the machine has none, and the page asks."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return ""


COMMANDS: Commands = {"": (Review, review)}
