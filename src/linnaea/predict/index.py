"""Index photographs, search them by text, by taxon or by another photograph, and find near-duplicates.

Up to a million photographs are compared one by one; more go through :mod:`linnaea.predict.approximate`.

The index only grows at its end: one file holds the vectors, another a line per photograph. An interrupted run resumes
where both files agree. A photograph that changed is added again, and its old line no longer counts.
"""

import json
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32
from numpy import ndarray
from numpy.typing import NDArray

from linnaea.arrays import to_unit
from linnaea.counting import count
from linnaea.data.images import ImageError
from linnaea.errors import LinnaeaError, UsageError
from linnaea.exchange import hold_output
from linnaea.jobs import OnProgress, claim_folder, ignore_progress
from linnaea.model.encode import encode_captions, encode_taxa, iter_encoded_images
from linnaea.model.encoder import Encoder
from linnaea.model.folders import DEFAULT_MODEL, Precision
from linnaea.model.open import open_encoder, see_as
from linnaea.model.preprocess import Preprocess, Preprocessing
from linnaea.predict.approximate import CANDIDATES, EXACT_UP_TO, Approximate, open_approximate
from linnaea.predict.inputs import Input, file_on_disk, list_inputs, stamp_of
from linnaea.predict.labels import to_float32
from linnaea.predict.session import make_int8_form
from linnaea.progress import progress_bar
from linnaea.storage import check_regular, explain_json_error, explain_os_errors, open_regular, read_json
from linnaea.taxonomy.resolve import resolve
from linnaea.taxonomy.taxon import Taxon, TextType

DELETED = "deleted"
"""The reason of a photograph that has left the index."""
VECTORS_FILE, LINES_FILE, FACTS_FILE = "vectors.f16", "photographs.jsonl", "index.json"
ROWS_AT_ONCE = 65_536
"""Vectors that are compared at once: 130 MB at a width of 512."""
ROUNDING = 1e-5
"""What rounding may take from the cosine of two vectors of one photograph."""


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A photograph and its similarity (cosine)."""

    name: str
    score: float


@dataclass(frozen=True, kw_only=True)
class Index:
    """Photographs and their unit vectors, on disk."""

    directory: Path
    facts: dict[str, Any]
    names: tuple[str, ...]
    """Photographs that count, in the order they were added."""
    rows: NDArray[np.int64]
    """Their rows in the file of vectors."""

    @classmethod
    def open(cls, directory: Path) -> "Index":
        """Open an index.

        Raises:
            LinnaeaError: the folder is not an index.
        """
        try:
            facts = read_json(directory / FACTS_FILE, kind="the facts of an index")
            lines = _read_lines(directory, _width_in(directory, facts))
        except LinnaeaError as error:
            raise LinnaeaError(f"{directory}: not an index ({error}); make one with `linnaea index`") from error
        last = {line["name"]: (row, line) for row, line in enumerate(lines)}
        good = [(name, row) for name, (row, line) in last.items() if not line["reason"]]
        rows = np.array([row for _, row in good], np.int64)
        return cls(directory=directory, facts=facts, names=tuple(name for name, _ in good), rows=rows)

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        return f"<Index of {count(len(self), 'photograph')}, {self.directory}>"

    @cached_property
    def _stored(self) -> NDArray[np.float16]:
        width = _width_in(self.directory, self.facts)
        if not len(self.rows):
            return np.zeros((0, width), np.float16)
        shape = int(self.rows.max()) + 1, width  # a writer may be adding to the file
        return np.memmap(self.directory / VECTORS_FILE, np.float16, mode="r", shape=shape)

    def vectors(self, start: int, stop: int) -> Float32[ndarray, "N E"]:
        """Return the unit vectors of the photographs from ``start`` up to ``stop``."""
        return self._vectors_of(self.rows[start:stop])

    def _vectors_of(self, rows: NDArray[np.int64]) -> Float32[ndarray, "N E"]:
        return to_unit(to_float32(np.ascontiguousarray(self._stored[rows])))  # rounding to fp16 changed the lengths

    def nearest(self, query_E: Float32[ndarray, " E"], top_k: int = 10, *, exact: bool = False) -> list[Hit]:
        """Return the photographs nearest to a unit vector, best first; equal ones in the order they were added.

        In an index of more than :data:`linnaea.predict.approximate.EXACT_UP_TO` photographs some may be missed, unless
        ``exact``. The scores are exact in either case.

        Raises:
            LinnaeaError: the index is that large, and faiss is not installed.
        """
        k = min(top_k, len(self))
        if not k:
            return []
        if exact or len(self) <= EXACT_UP_TO:
            numbers = np.arange(len(self))
            scores = np.concatenate([self.vectors(start, start + ROWS_AT_ONCE) @ query_E for start in self._starts()])
        else:
            numbers = self.approximate().candidates(query_E, CANDIDATES * k)
            scores = self._vectors_of(self.rows[numbers]) @ query_E
        order = np.lexsort((numbers, -scores))[:k]
        return [Hit(name=self.names[numbers[place]], score=min(float(scores[place]), 1.0)) for place in order]

    def approximate(self, on_progress: OnProgress = ignore_progress) -> Approximate:
        """Return inverted lists over the index; the first call makes them, in a minute per million photographs.

        Raises:
            LinnaeaError: faiss is not installed.
        """
        width = _width_in(self.directory, self.facts)
        return open_approximate(self.directory, self.rows, width, self.vectors, on_progress)

    def iter_pairs(self, at_least: float) -> Iterator[tuple[str, str, float]]:
        """Yield pairs of photographs with at least that cosine: near-duplicates and bursts."""
        step = max(1, ROWS_AT_ONCE // 16)  # 4,096 x 65,536 scores are 1 GB
        for first in range(0, len(self), step):
            left = self.vectors(first, first + step)
            for second in range(first, len(self), ROWS_AT_ONCE):
                scores = left @ self.vectors(second, second + ROWS_AT_ONCE).T
                for a, b in np.argwhere(scores >= at_least - ROUNDING).tolist():
                    if first + a < second + b:
                        yield self.names[first + a], self.names[second + b], min(float(scores[a, b]), 1.0)

    def _starts(self) -> range:
        return range(0, len(self), ROWS_AT_ONCE)


@dataclass(frozen=True, kw_only=True)
class Indexed:
    """An index and what :func:`index` added to it."""

    index: Index
    n_inputs: int
    """The number of photographs that were given, including those already in the index."""
    failed: tuple[str, ...] = ()
    """One line for each photograph that cannot be read."""


def index(
    images: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    model: str | Path | Encoder = DEFAULT_MODEL,
    device: str = "auto",
    precision: Precision = "float32",
    preprocess: Preprocessing | None = None,
    batch_size: int = 32,
    workers: int = 2,
) -> Indexed:
    """Make photographs searchable; calling it again adds new and changed photographs, and drops deleted ones.

    Args:
        images: Photographs, folders of them, patterns, tars, videos.
        output: Folder of the index.
        model: Name or folder of a model, or an open model (then without ``device`` and ``precision``).
        device: ``"cpu"``, ``"cuda"``, ``"mps"`` or ``"auto"``.
        precision: ``"float32"``, ``"bf16"``, ``"int8"``, or ``"auto"``: bf16 if the processor multiplies it natively.
            A model without a form in 8 bits gets one from the photographs, if there are 40 or more.
        preprocess: ``"crop"`` (the middle square) or ``"squash"`` (the whole photograph); by default as the model was
            trained. The index records it, and a search with a photograph uses it too.
        batch_size: Photographs that the model encodes at once.
        workers: Threads that decode.

    Raises:
        UsageError: No photograph is given, or the batch size is below 1.
        LinnaeaError: There are no photographs, or the folder holds something else or an index of another model.
    """
    words = [str(word) for word in ([images] if isinstance(images, str | Path) else images)]
    if not words or batch_size < 1:
        raise UsageError("give at least one photograph or folder, and a --batch-size of at least 1")
    inputs = list_inputs(words)
    if not inputs:
        raise LinnaeaError(f"{' '.join(words)}: no photographs there")
    if precision == "int8" and isinstance(model, str | Path):
        make_int8_form(str(model), inputs)
    encoder = open_encoder(model, device=device, precision=precision)
    encoder = see_as(encoder, preprocess)
    folder = Path(output)
    with progress_bar("indexing", "images") as on_progress:
        failed = update_index(
            encoder, inputs, folder, words, batch_size=batch_size, n_workers=workers, on_progress=on_progress
        )
    return Indexed(index=Index.open(folder), n_inputs=len(inputs), failed=tuple(failed))


def search(
    index: str | Path | Index,
    *,
    text: str = "",
    taxon: str = "",
    image: str | Path | None = None,
    model: str | Path | Encoder = "",
    checklist: str = "inat",
    text_type: TextType = TextType.TAXON_COM,
    top_k: int = 10,
    exact: bool = False,
    device: str = "auto",
) -> list[Hit]:
    """Find the photographs of an index that are nearest to a text, a taxon or another photograph, best first.

    Args:
        index: Folder that :func:`index` made, or an open index.
        text: What to look for, in words.
        taxon: What to look for, as a taxon; its lineage is looked up in the checklist.
        image: What to look for, as a photograph.
        model: The model of the index, if it has moved since.
        checklist: Checklist for ``taxon``.
        text_type: Caption form for ``taxon``.
        top_k: How many photographs to return.
        exact: Compare all photographs even if there are more than a million (otherwise faiss finds most of the
            nearest).
        device: ``"cpu"``, ``"cuda"``, ``"mps"`` or ``"auto"``.

    Raises:
        UsageError: Not exactly one of ``text``, ``taxon`` and ``image`` is given, or ``top_k`` is below 1.
        LinnaeaError: The index is another model's, the photograph cannot be read, or the taxon is not known.
    """
    if sum(map(bool, (text, taxon, image))) != 1:
        raise UsageError("give one of --text, --taxon, --image and --near-duplicates")
    if top_k < 1:
        raise UsageError("--top-k must be at least 1")
    opened = index if isinstance(index, Index) else Index.open(Path(index))
    encoder = open_encoder(model or opened.facts["name"], device=device)
    if "preprocess" in opened.facts:
        encoder = see_as(encoder, Preprocess.of_json(opened.facts["preprocess"], str(opened.directory / FACTS_FILE)))
    if encoder.fingerprint == opened.facts["model"] and encoder.width != opened.facts["width"]:
        raise LinnaeaError(f"{opened.directory / FACTS_FILE}: states another width than its model has; make it again")
    if encoder.fingerprint != opened.facts["model"]:
        raise LinnaeaError(
            f"{opened.directory}: belongs to another model, {opened.facts['name']}; give --model with that one"
        )
    if len(opened) > EXACT_UP_TO and not exact:
        with progress_bar("preparing the search", "photographs") as on_progress:
            opened.approximate(on_progress)
    if taxon:
        query = encode_taxa(encoder, [_find_taxon(taxon, checklist)], text_type)[0]
    else:
        query = encode_captions(encoder, [text])[0] if text else _encode_image(encoder, Path(image or ""))
    return opened.nearest(query, top_k, exact=exact)


def _find_taxon(name: str, checklist: str) -> Taxon:
    found = resolve(name, checklist)
    if found.taxon is None:
        raise LinnaeaError(f"{name}: {found.note or found.status}; try `linnaea taxonomy search`")
    return found.taxon


def _encode_image(model: Encoder, image: Path) -> Float32[ndarray, " E"]:
    ((_, vector),) = iter_encoded_images(model, [("query", image)])
    if isinstance(vector, ImageError):
        raise LinnaeaError(f"{image}: {vector}") from vector
    return np.asarray(vector)


def update_index(
    model: Encoder,
    inputs: Iterable[Input],
    directory: Path,
    words: Sequence[str] = (),
    *,
    batch_size: int = 32,
    n_workers: int = 2,
    on_progress: OnProgress = ignore_progress,
) -> list[str]:
    """Add new and changed photographs to an index, or start one; return a line for each that cannot be read.

    Photographs that were below ``words`` (folders, patterns) and are not there any more leave the index.

    Raises:
        LinnaeaError: the folder holds something else or an index of another model, or the disk is full.
    """
    with explain_os_errors(directory), hold_output(directory, kind="command"):
        lines = _claim(model, directory)
        known = {line["name"]: line for line in lines}
        every = list(inputs)
        new = [(one, stamp_of(one)) for one in every]
        new = [(one, stamp) for one, stamp in new if one.name not in known or known[one.name]["stamp"] != stamp]
        stamps = {one.name: stamp for one, stamp in new}
        items = ((one.name, one.load) for one, _ in new)
        on_progress(len(every) - len(new), len(every))
        encoded = iter_encoded_images(model, items, batch_size=batch_size, n_workers=n_workers)
        nothing = np.zeros(model.width, np.float16)
        with (directory / VECTORS_FILE).open("ab") as vectors, (directory / LINES_FILE).open("a") as written:
            for done, (name, vector) in enumerate(encoded, start=1):
                reason = str(vector) if isinstance(vector, ImageError) else ""
                vectors.write((nothing if reason else np.asarray(vector, np.float16)).tobytes())
                vectors.flush()  # a line without its vector would shift all later ones; a spare vector is cut off
                written.write(json.dumps({"name": name, "stamp": stamps[name], "reason": reason}) + "\n")
                written.flush()
                on_progress(len(every) - len(new) + done, len(every))
        wanted = {one.name for one in every}
        _forget_deleted(directory, model.width, words, wanted)
        last = {line["name"]: line["reason"] for line in _read_lines(directory, model.width)}
    return [f"{name}: {reason}" for name, reason in last.items() if reason and name in wanted]


def _forget_deleted(directory: Path, width: int, words: Sequence[str], found: Collection[str]) -> None:
    """Let the photographs leave an index that were below ``words`` and are not there any more.

    ``found`` are the names of those that are. Photographs elsewhere stay, since their disk may be away.
    """
    given = [Path(word) if Path(word).exists() else Path(re.split(r"[*?\[]", word)[0] + "x").parent for word in words]
    files = {file_on_disk(name) for name in found}
    last = {line["name"]: line["reason"] for line in _read_lines(directory, width)}
    gone = [
        name
        for name, reason in last.items()
        if not reason and name not in found and _is_gone(file_on_disk(name), given, files)
    ]
    with (
        explain_os_errors(directory),
        (directory / VECTORS_FILE).open("ab") as vectors,
        (directory / LINES_FILE).open("a") as written,
    ):
        for name in gone:
            vectors.write(np.zeros(width, np.float16).tobytes())
            vectors.flush()
            written.write(json.dumps({"name": name, "stamp": [], "reason": DELETED}) + "\n")


def _is_gone(file: Path, given: Sequence[Path], files: Collection[Path]) -> bool:
    """Tell whether a file below a given place is missing, or was read again and no longer holds the picture."""
    return file in files or (any(file.is_relative_to(place) for place in given) and not file.exists())


def _claim(model: Encoder, directory: Path) -> list[dict[str, Any]]:
    """Return the lines of an index, with torn ends cut off, or start a new index if there is none."""

    def why_other(earlier: str) -> str:
        facts = read_json(directory / FACTS_FILE, kind="the facts of an index")
        _width_in(directory, facts)
        if facts["model"] != model.fingerprint:
            return f"of another model ({facts['name']})"
        same = facts.get("preprocess", seen) == seen
        form = "" if same else Preprocess.of_json(facts["preprocess"], str(directory / FACTS_FILE)).form
        return "" if same else f"of photographs in another form (--preprocess {form})"

    seen = model.preprocess.to_json()
    facts = {"model": model.fingerprint, "name": model.name, "width": model.width, "preprocess": seen}
    claim_folder(directory, FACTS_FILE, json.dumps(facts, indent=1), kind="an index", why_other=why_other)
    lines = _read_lines(directory, model.width)
    for name, length in ((VECTORS_FILE, 2 * model.width * len(lines)), (LINES_FILE, _length(lines))):
        path = directory / name
        if path.exists() and path.stat().st_size > length:
            with path.open("r+b") as stream:
                stream.truncate(length)
    return lines


def _read_lines(directory: Path, width: int) -> list[dict[str, Any]]:
    """Return the complete lines that have a complete vector."""
    path, vectors = directory / LINES_FILE, directory / VECTORS_FILE
    if not path.exists() or not vectors.exists():
        return []
    check_regular(vectors)
    with open_regular(path) as stream:
        whole = stream.read().split(b"\n")[:-1]
    n_vectors = vectors.stat().st_size // (2 * width)
    return [_read_line(path, number, line) for number, line in enumerate(whole[:n_vectors], start=1)]


def _read_line(path: Path, number: int, text: bytes) -> dict[str, Any]:
    try:
        line = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise LinnaeaError(f"{path}: line {number} is not JSON ({explain_json_error(error)})") from error
    types = {"name": str, "stamp": list, "reason": str}
    if not isinstance(line, dict) or not all(isinstance(line.get(key), kind) for key, kind in types.items()):
        raise LinnaeaError(f"{path}: line {number} is not a photograph with name, stamp and reason")
    return line


def _width_in(directory: Path, facts: dict[str, Any]) -> int:
    """Return the width of the vectors of an index.

    Raises:
        LinnaeaError: the facts are not those of an index.
    """
    width, texts = facts.get("width"), (facts.get("model"), facts.get("name"))
    if type(width) is not int or not 0 < width < 2**31 or not all(isinstance(text, str) for text in texts):
        raise LinnaeaError(f"{directory / FACTS_FILE}: lacks the model, its name or the width of its vectors")
    return width


def _length(lines: list[dict[str, Any]]) -> int:
    return sum(len(json.dumps(line).encode()) + 1 for line in lines)
