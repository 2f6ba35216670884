"""Photographs that reviewers agree on, as examples to learn from."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64
from numpy import ndarray
from numpy.typing import NDArray

from linnaea.counting import agree, count
from linnaea.errors import LinnaeaError
from linnaea.model.encode import encode_readable
from linnaea.model.encoder import Encoder
from linnaea.predict.calibration import UNKNOWN, find_groups
from linnaea.predict.inputs import Input, failing_input, find_input, is_address, stamp_of
from linnaea.predict.labels import LabelBank
from linnaea.predict.outputs.rows import parse_box, without_box
from linnaea.predict.records.decisions import Decision, Kind, read_decisions
from linnaea.predict.records.places import Find, find_places
from linnaea.taxonomy.ranks import Rank
from linnaea.taxonomy.taxon import Taxon


@dataclass(frozen=True, kw_only=True)
class Examples:
    """Encoded photographs with what reviewers saw on them."""

    taxa: tuple[Taxon, ...]
    image_NE: Float32[ndarray, "N E"]
    events: tuple[str, ...]
    """The event of each photograph; one without an event is its own."""
    names: tuple[str, ...]
    nothing_ME: Float32[ndarray, "M E"]
    """Photographs, and detected parts, with nothing on them."""
    notes: tuple[str, ...] = ()
    """What was left out; one line each."""
    failed: tuple[str, ...] = ()
    """One line for each photograph that cannot be read."""

    @property
    def n_events(self) -> int:
        """Return the number of events."""
        return len(set(self.events))


def encode_examples(
    decisions: Sequence[Path], encoder: Encoder, *, root: Path | None, batch_size: int = 32, n_workers: int = 2
) -> Examples:
    """Read decisions, and encode the photographs and detected parts that reviewers agree on.

    Raises:
        LinnaeaError: a file of decisions cannot be read, or a photograph does not lie in ``root``.
    """
    verdicts = [verdict for _, verdict in read_decisions(*decisions).items()]
    agreed = [one.agreed for one in verdicts if one.agreed is not None and one.agreed.kind is not Kind.UNKNOWN]
    find = find_places([without_box(one.file_name, one.bbox) for one in agreed], decisions[0].parent, root)
    inputs = [_input(one, find) for one in agreed]
    good, failed = encode_readable(
        encoder,
        [(one, of_one.load) for one, of_one in zip(agreed, inputs, strict=True)],
        "encoding",
        stamps=[f"{Path(one.name).absolute()} {one.box} {stamp_of(one)}" for one in inputs],
        batch_size=batch_size,
        n_workers=n_workers,
    )
    named = [(one, one.taxon, vector) for one, vector in good if one.taxon is not None]
    return Examples(
        taxa=tuple(taxon for _, taxon, _ in named),
        image_NE=_stack([vector for _, _, vector in named], encoder.width),
        events=tuple(one.event or one.file_name for one, _, _ in named),
        names=tuple(one.file_name for one, _, _ in named),
        nothing_ME=_stack([vector for one, vector in good if one.taxon is None], encoder.width),
        notes=_count_left_out(sum(one.is_disputed for one in verdicts), len(verdicts), len(agreed)),
        failed=tuple(f"{one.file_name}: {error}" for one, error in failed),
    )  # fmt: skip


def _input(one: Decision, find: Find) -> Input:
    """Return the input of a photograph or detected part; an address is not fetched."""
    photograph = without_box(one.file_name, one.bbox)
    if is_address(photograph):
        return failing_input(one.file_name, "an address is not fetched")
    return find_input(f"{find(photograph)}{one.file_name.removeprefix(photograph)}", parse_box(one.bbox))


def _stack(vectors: Sequence[NDArray[np.float32]], width: int) -> NDArray[np.float32]:
    return np.stack(vectors) if vectors else np.empty((0, width), np.float32)


def _count_left_out(n_disputed: int, n_all: int, n_agreed: int) -> tuple[str, ...]:
    n_unknown = n_all - n_disputed - n_agreed
    lines = ((n_disputed, "on which reviewers disagree"), (n_unknown, "of which a reviewer cannot tell what they are"))
    return tuple(f"{count(n, 'photograph')} {why} {agree(n, 'is', 'are')} left out" for n, why in lines if n)


def find_rows(taxa: Sequence[Taxon], bank: LabelBank) -> Int64[ndarray, "N 2"]:
    """Return the first row and the end of each taxon's rows in a bank; ``UNKNOWN`` twice if the bank lacks it.

    A taxon is found by its lineage, else by its name at its rank, if it is there once: checklists differ in the ranks
    above.
    """
    groups = find_groups(taxa, bank)
    by_name = _names_of(bank)
    found = np.full((len(taxa), 2), UNKNOWN, np.int64)
    for number, taxon in enumerate(taxa):
        rank = Rank.SPECIES if taxon.rank is None else taxon.rank
        group = int(groups[number, rank])
        if group != UNKNOWN:
            found[number] = bank.groups.rows(rank, group)
        elif (row := by_name.get(taxon.name, UNKNOWN)) != UNKNOWN:
            found[number] = row, row + 1
    return found


def _names_of(bank: LabelBank) -> dict[str, int]:
    """Return the row of each label's name; ``UNKNOWN`` if several have it."""
    rows: dict[str, int] = {}
    for row, taxon in enumerate(bank.taxa_list):
        rows[taxon.name] = UNKNOWN if taxon.name in rows else row
    return rows


def check_enough(n: int, least: int, what: str, *, why: str) -> None:
    """Check that there is enough to learn from.

    Raises:
        LinnaeaError: there is too little.
    """
    if n < least:
        raise LinnaeaError(f"too little to learn from: {n} {what}, and {why} needs {least}; review more")
