"""Files of answers, as ``linnaea predict`` and ``linnaea review`` write them."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, cast

from linnaea.cli.console import say, warn
from linnaea.counting import count
from linnaea.errors import UsageError

if TYPE_CHECKING:
    from linnaea.predict.outputs.files import Context
    from linnaea.predict.outputs.rows import Row

FileForm: TypeAlias = Literal[
    "csv", "json", "jsonl", "parquet", "xlsx", "megadetector", "speciesnet", "speciesnet-legacy", "camtrapdp",
    "camtrapdp-package", "dwca", "html",
]  # fmt: skip
"""The formats of files of answers."""


def choose_file_form(output: Path, given: FileForm | None) -> FileForm:
    """Return the format of a file: the given one, or else that of its suffix.

    Raises:
        UsageError: no format is given, and the suffix has none.
    """
    from linnaea.predict.outputs.write import FORMS

    form = given or cast("FileForm | None", FORMS.get(output.suffix.lower()))
    if form is None:
        raise UsageError(f"--output {output}: must end in {', '.join(FORMS)}, or give --format")
    return form


class FileOptions(Protocol):
    """The options of ``predict`` and ``review`` for the facts that files of answers state besides the answers."""

    @property
    def timezone(self) -> str: ...
    @property
    def deployments(self) -> Path | None: ...
    @property
    def package_info(self) -> Path | None: ...
    @property
    def checklist(self) -> tuple[str, ...]: ...
    @property
    def no_formulas(self) -> bool: ...


def make_context(options: FileOptions, sequence_gap_s: float) -> "Context":
    """Return the facts that files of answers state besides the answers."""
    from linnaea.predict.outputs.camtrapdp import parse_zone
    from linnaea.predict.outputs.files import Context

    return Context(
        zone=parse_zone(options.timezone) if options.timezone else None,
        deployments=options.deployments,
        package_info=options.package_info,
        sequence_gap_s=sequence_gap_s,
        checklists=options.checklist,
        no_formulas=options.no_formulas,
        tell=warn,
    )


def sort_into(folder: Path, rows: "Iterable[Row]", context: "Context", how: Literal["link", "copy"]) -> None:
    """Sort the photographs of answers into a folder, and report how many."""
    from linnaea.predict.records.sorting import sort_photographs

    n_made = sort_photographs(rows, folder, context, how=how)
    say(f"{n_made:,} {'links' if how == 'link' else 'copies'} in {folder}")


def write_keywords(rows: "Iterable[Row]") -> None:
    """Write the names of answers into the XMP of their photographs, and report into how many."""
    from linnaea.predict.records.xmp import collect_keywords, find_writer

    keywords = collect_keywords(rows)
    find_writer()(keywords)
    say(f"keywords in the XMP of {count(len(keywords), 'photograph')}")
