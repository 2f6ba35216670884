"""Adapt a model to your own classes: fit a head to your own photographs, blended with the names of the classes.

The head is a :class:`linnaea.predict.labels.LabelBank`, which every command takes as ``--labels``.
:mod:`linnaea.predict.head_fit` fits it.
"""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float32, Int
from numpy import ndarray

from linnaea.counting import agree, count
from linnaea.data.copies.bursts import find_bursts, look_at_each
from linnaea.data.naming import NamingRule, make_naming, settle_classes
from linnaea.data.shards import make_taxa_table
from linnaea.data.sources import Record, read_location
from linnaea.data.sources.folder import FolderSource
from linnaea.errors import LinnaeaError
from linnaea.exchange import hold_output, replaced_folder
from linnaea.model.encode import check_has_text, encode_readable
from linnaea.model.encoder import Encoder
from linnaea.model.folders import DEFAULT_MODEL
from linnaea.model.open import open_encoder, see_as
from linnaea.model.preprocess import Preprocessing
from linnaea.page import Facts, Page, Section, Table, Text
from linnaea.predict.calibration import KEY as CALIBRATION
from linnaea.predict.calibration import Calibration
from linnaea.predict.head_fit import Choice, Fitted, Validation, fit_head
from linnaea.predict.labels import ADAPTED, PREPROCESS, LabelBank, make_bank
from linnaea.progress import progress_bar
from linnaea.storage import write_atomically
from linnaea.taxonomy.row import LabelReader, MergeBy, label_reader
from linnaea.taxonomy.taxon import PHOTO_TEMPLATE, Taxon, TextType


@dataclass(frozen=True, kw_only=True)
class Tested:
    """The head's answers for photographs that nothing was fitted to or chosen by."""

    labels: Int[ndarray, " T"]
    """The class of each photograph, as a row of the bank; -1 for a class without photographs to fit."""
    answers: Int[ndarray, " T"]
    n_in_train: int = 0
    """The number of photographs that are of a burst in train, and so no fair test."""

    @property
    def right(self) -> float:
        """The share of right answers."""
        return float((self.labels == self.answers).mean())


@dataclass(frozen=True, kw_only=True)
class Head:
    """A head for your own classes, fitted to your own photographs."""

    bank: LabelBank
    """The classes and their weights; every command takes it as ``--labels``."""
    labels: Int[ndarray, " N"] = field(repr=False)
    """The class of each photograph, as a row of the bank."""
    fitted: Fitted = field(repr=False)
    group_N: Int[ndarray, " N"] = field(repr=False)
    """The burst of each photograph, given by its first photograph."""
    tested: "Tested | None" = field(default=None, repr=False)
    """The answers for the photographs of split test, if the folder has that split."""
    failed: tuple[str, ...] = ()
    """One line for each photograph that cannot be read."""
    notes: tuple[str, ...] = ()
    """How each level of the folders was read, which names were not found, are doubtful or were merged, and what was
    left out; one line each."""
    report_path: Path | None = None
    """The report page, if an ``output`` was given."""

    def __repr__(self) -> str:
        right = self.metrics["blended/top1"]
        size = f"{count(len(self.bank), 'class')} from {count(len(self.labels), 'photograph')}"
        tested = "" if self.tested is None else f", {self.tested.right:.1%} right on test"
        return f"<Head of {size}, {right:.1%} right in cross-validation{tested}>"

    @property
    def validations(self) -> dict[str, Validation]:
        """Return the cross-validation of zero-shot alone, of the head alone, and of the blend."""
        return {"zero-shot": self.fitted.zero_shot, "head alone": self.fitted.head, "blended": self.fitted.best}

    @property
    def metrics(self) -> dict[str, float]:
        """Return ``blended/top1``, ``blended/nll``, ... of each validation, ``n_images``, ``n_groups``, ``n_classes``.

        ``n_groups`` counts bursts, and photographs that are in none. With a split test there are ``test/top1`` and
        ``test/n_images``.
        """
        scores: dict[str, float] = {}
        for name, validation in self.validations.items():
            held = validation.answers >= 0
            scores[f"{name}/top1"] = float((validation.answers == self.labels)[held].mean())
            scores[f"{name}/nll"] = validation.nll
        if self.tested is not None:
            scores |= {"test/top1": self.tested.right, "test/n_images": len(self.tested.labels)}
        n_groups = len(np.unique(self.group_N))
        return scores | {"n_images": len(self.labels), "n_groups": n_groups, "n_classes": len(self.bank)}

    def save(self, directory: str | Path) -> Path:
        """Write the bank, ``metrics.json`` and ``report.html``; return the page's path."""
        folder = Path(directory)
        with replaced_folder(folder) as new:
            self.bank.save(new, dtype=np.float32)
            write_atomically(new / "metrics.json", json.dumps(self.metrics))
            _make_page(self).write(new / "report.html")
        return folder / "report.html"


def adapt(
    folder: str | Path,
    *,
    model: str | Path | Encoder = DEFAULT_MODEL,
    output: str | Path | None = None,
    class_level: int = 0,
    resolve: bool = True,
    checklist: Sequence[str] = (),
    merge_by: MergeBy = "class",
    text_type: TextType = TextType.TAXON_COM,
    preprocess: Preprocessing | None = None,
    device: str = "auto",
    batch_size: int = 32,
    workers: int = 2,
) -> Head:
    """Fit a head to labelled photographs, and blend it with the model's zero-shot vectors.

    Args:
        folder: A folder with one folder of photographs per class, named after the taxon. If it has splits, train is
            fitted and test is scored. Photographs of one burst (:mod:`linnaea.data.copies.bursts`) are validated
            together.
        model: Name or folder of a model, or an open model (then without ``device``).
        output: Folder to write the head to, for ``--labels`` of every command.
        class_level: The level of folders that holds the classes, counted from 1; 0 finds it by the names.
        resolve: Resolve the names of the classes, which gives their lineages; otherwise keep them as they are.
        checklist: Names or files of checklists, in order of preference; by default the embedded one.
        merge_by: Folders over one taxon that differ in more than spelling, author or language ("Danaus plexippus
            larva"): ``"class"`` keeps them apart, ``"taxon"`` merges them.
        text_type: Caption form of the classes.
        preprocess: ``"crop"`` (the middle square) or ``"squash"`` (the whole photograph); by default as the model was
            trained. The head records it, and answers with it.
        device: ``"cpu"``, ``"cuda"``, ``"mps"`` or ``"auto"``.
        batch_size: Photographs that the model encodes at once.
        workers: Threads that decode.

    Raises:
        LinnaeaError: No photograph can be read, no class has photographs of two moments, or there is no such model.
    """
    rule = make_naming(checklist, resolve=resolve, merge_by=merge_by)
    with nullcontext() if output is None else hold_output(Path(output), kind="command"):
        encoder = see_as(open_encoder(model, device=device), preprocess)
        check_has_text(encoder, "blend a head with names")
        source = FolderSource(root=Path(folder), class_level=class_level, label_to_taxon=_class_reader(merge_by))
        head = _fit(source, encoder, text_type, rule, batch_size, workers)
        return head if output is None else replace(head, report_path=head.save(output))


def _fit(
    source: FolderSource, encoder: Encoder, text_type: TextType, rule: NamingRule, batch_size: int, workers: int
) -> Head:
    root = source.root
    records, tests, failed, left_out = _read(source)
    records, tests, lines = _settle(records, tests, rule)
    encode = partial(_encode, encoder, failed, batch_size=batch_size, n_workers=workers)
    good, image_NE = encode(records)
    if not good:
        raise LinnaeaError(f"{root}: no photograph can be read ({failed[0]})")
    good_tests, test_TE = encode(tests)
    bursts = _find_bursts([*good, *good_tests], workers)
    groups = bursts[: len(good)]
    bank = make_bank(encoder, make_taxa_table(record.taxon for record in good), text_type)
    row_of = {taxon: row for row, taxon in enumerate(bank.taxa_list)}
    labels = np.array([row_of[record.taxon] for record in good], np.int64)
    try:
        names = [str(group) for group in groups]
        fitted = fit_head(image_NE, labels, np.asarray(bank.vectors), encoder.logit_scale, names)
    except ValueError as error:
        raise LinnaeaError(f"{root}: {error}") from error
    tested = None
    if good_tests:
        tested = Tested(
            labels=np.array([row_of.get(record.taxon, -1) for record in good_tests], np.int64),
            answers=(test_TE @ fitted.weights_KE.T).argmax(axis=1),
            n_in_train=int(np.isin(bursts[len(good) :], groups).sum()),
        )
    notes = (*source.tree.levels, *lines, *left_out, *_count_groups(groups, tested))
    facts = _describe(encoder, text_type, len(good), len(bank), fitted.best.choice)
    return Head(
        bank=LabelBank(bank.taxa, fitted.weights_KE, facts), labels=labels, fitted=fitted, group_N=groups,
        tested=tested, failed=tuple(failed), notes=notes,
    )  # fmt: skip


def _settle(
    records: Sequence[Record], tests: Sequence[Record], rule: NamingRule
) -> tuple[list[Record], list[Record], list[str]]:
    """Return the records under the taxa that the rule gives their labels, and lines on names that were not clear."""
    every = [*records, *tests]
    taxa, lines = settle_classes([(record.facts["label"], record.taxon) for record in every], rule)
    settled = [replace(record, taxon=taxon) for record, taxon in zip(every, taxa, strict=True)]
    return settled[: len(records)], settled[len(records) :], lines


def _describe(encoder: Encoder, text_type: TextType, n_images: int, n_classes: int, choice: Choice) -> dict[str, Any]:
    """Return the facts in the ``bank.json`` of a head."""
    # The model's calibration is for its own labels; the head's temperature was chosen with the head.
    calibration = Calibration(n_images=n_images, n_labels=n_classes, preprocess=encoder.preprocess)
    return {"model": encoder.fingerprint, "text_type": str(text_type), "templates": [PHOTO_TEMPLATE],
            PREPROCESS: encoder.preprocess.to_json(), CALIBRATION: calibration.to_json(),
            ADAPTED: {"photographs": n_images, **vars(choice)}}  # fmt: skip


_EMPTY_CLASS = re.compile(r"empty|blank|none|nothing|no[ _-]?(?:animals?|organisms?)|others?|misc", re.IGNORECASE)
"""Words for no taxon that are classes of their own: pictures of nothing, or of anything else."""


def _class_reader(merge_by: MergeBy) -> LabelReader:
    """Return the reader of class folders; ``empty`` and ``other`` are classes that one may want, and stay names."""
    read = label_reader(merge_by)
    return lambda label: Taxon.of(common_name=label) if _EMPTY_CLASS.fullmatch(label.strip()) else read(label)


def _find_bursts(records: Sequence[Record], n_workers: int) -> Int[ndarray, " N"]:
    with progress_bar("looking for bursts", "images") as on_progress:
        loads = (partial(read_location, record.location) for record in records)
        shots = look_at_each(loads, n_workers, lambda done: on_progress(done, len(records)))
    folders = [str(Path(record.location).parent) for record in records]
    return find_bursts(shots, folders, [str(record.taxon) for record in records])


def _count_groups(group_N: Int[ndarray, " N"], tested: "Tested | None") -> Iterator[str]:
    """Yield lines on bursts among the fitted photographs, and between them and the tested ones."""
    n_groups = len(np.unique(group_N))
    if n_groups < len(group_N):
        yield (
            f"{count(len(group_N), 'photograph')} of {count(n_groups, 'moment')};"
            " those of one burst are validated together"
        )
    if tested is not None and tested.n_in_train:
        yield (
            f"{tested.n_in_train:,} of {count(len(tested.labels), 'photograph')} of test"
            f" {agree(tested.n_in_train, 'is', 'are')} of a burst in train, so the score"
            " on test is too good"
        )


def _read(source: FolderSource) -> tuple[list[Record], list[Record], list[str], list[str]]:
    """Return photographs to fit (of train or without a split), those of test, and two kinds of lines.

    The lines are one per file without a class, and one on what is left out.
    """
    items = list(source.records())
    records = [item for item in items if isinstance(item, Record)]
    failed = [f"{item.location}: {item.reason}" for item in items if not isinstance(item, Record)]
    if not records:
        raise LinnaeaError(
            f"{source.root}: has no class folders with photographs; put those of each class into a folder of its name,"
            f" such as {source.root}/Pica pica/"
        )
    fitted = [record for record in records if record.split in ("", "train")]
    if not fitted:
        splits = ", ".join(sorted({record.split for record in records}))
        raise LinnaeaError(f"{source.root}: every photograph is of split {splits}; give the folder that holds train")
    tests = [record for record in records if record.split == "test"]
    n_left_out = len(records) - len(fitted) - len(tests)
    note = (
        f"{count(n_left_out, 'photograph')} of other splits than"
        f" train and test {agree(n_left_out, 'is', 'are')} left out"
    )
    return fitted, tests, failed, [note] * bool(n_left_out)


def _encode(
    model: Encoder, failed: list[str], records: Sequence[Record], *, batch_size: int, n_workers: int
) -> tuple[list[Record], Float32[ndarray, "N E"]]:
    """Return the readable photographs with their unit vectors, and append a line to ``failed`` for each other one."""
    items = [(record, Path(record.location)) for record in records]
    good, unread = encode_readable(model, items, "encoding", batch_size=batch_size, n_workers=n_workers)
    failed += [f"{record.location}: {error}" for record, error in unread]
    vectors = [vector for _, vector in good]
    return [record for record, _ in good], np.stack(vectors) if vectors else np.empty((0, model.width), np.float32)


def _make_page(head: Head) -> Page:
    names = [taxon.name for taxon in head.bank.taxa_list]
    answers, labels, choice = head.fitted.best.answers, head.labels, head.fitted.best.choice
    rows = pl.DataFrame({"class": [names[n] for n in labels], "answer": [names[n] if n >= 0 else "" for n in answers],
                         "right": answers == labels, "validated": answers >= 0})  # fmt: skip
    per_class = rows.group_by("class").agg(
        pl.len().alias("photographs"), pl.col("right").filter(pl.col("validated")).mean()
    )
    mistakes = rows.filter(pl.col("validated") & ~pl.col("right")).group_by("class", "answer").len("times")
    facts = {f"right, {IN_WORDS[name]}": f"{head.metrics[f'{name}/top1']:.1%}" for name in head.validations}
    if head.tested is not None:
        facts[f"right on {count(len(head.tested.labels), 'photograph')} of test"] = f"{head.tested.right:.1%}"
    facts["moments (a burst counts once)"] = f"{head.metrics['n_groups']:,.0f}"
    how = (
        "Each photograph was answered by a head that was fitted without it, and without the others of its burst"
        " (cross-validation). The head that was written blends two ways to know a class:"
        f" {choice.mix:.0%} is learned from your photographs, {1 - choice.mix:.0%} comes from the names (zero-shot),"
        f" with ridge {choice.ridge:g} and scale {choice.scale:g}. The blend was chosen on the same photographs, so its"
        " figure is slightly too good. A class with photographs of a single moment is fitted, but cannot be validated;"
        " the table has no figure for it."
    )
    confused = Table(mistakes.sort("times", "class", descending=[True, False]))
    return Page(
        "A head for your classes",
        f"{count(len(labels), 'photograph')} of {count(len(head.bank), 'class')}",
        [
            Section("In short", [Facts(facts), Text(how)]),
            Section("Folders and names", [Text(note[:1].upper() + note[1:]) for note in head.notes]),
            Section("Classes, hardest first",
                    [Table(per_class.sort("right", "class", nulls_last=True), percent=["right"])]),
            Section("Confusions", [confused if mistakes.height else Text("None: every answer was right.")]),
        ],
        footer="Made by `linnaea adapt`.",
    )  # fmt: skip


IN_WORDS = {
    "zero-shot": "from the names alone (zero-shot)",
    "head alone": "from your photographs alone",
    "blended": "from both: the head that was written",
}
"""What each validation answers from."""
