"""Fit a head for your own classes to your own photographs, blended with the model's zero-shot vectors.

The head is linear without an intercept, like a label bank: one row of weights per class. So the result is a
:class:`linnaea.predict.labels.LabelBank`, which every command takes as ``--labels``. The weights come from ridge
regression of one-hot targets on unit vectors (closed form), scaled by one temperature and mixed with the text vectors.
As in WiSE-FT (arXiv 2109.01903, section 3), the mixture of zero-shot and fitted weights is linear; cross-validation
chooses the shares.
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
from jaxtyping import Float, Float32, Int
from numpy import ndarray

from linnaea.data.copies.bursts import find_bursts, look_at_each
from linnaea.data.images import ImageError
from linnaea.data.naming import NamingRule, make_naming, settle_classes
from linnaea.data.shards import make_taxa_table
from linnaea.data.sources import Record, read_location
from linnaea.data.sources.folder import FolderSource
from linnaea.errors import LinnaeaError, UsageError
from linnaea.exchange import hold_output, replaced_folder
from linnaea.model.encode import check_has_text, iter_encoded_images
from linnaea.model.encoder import Encoder
from linnaea.model.folders import DEFAULT_MODEL
from linnaea.model.open import open_encoder, see_as
from linnaea.model.preprocess import Preprocessing
from linnaea.page import Facts, Page, Section, Table, Text
from linnaea.predict.calibration import KEY as CALIBRATION
from linnaea.predict.calibration import Calibration
from linnaea.predict.labels import ADAPTED, PREPROCESS, LabelBank, make_bank
from linnaea.progress import progress_bar
from linnaea.storage import write_atomically
from linnaea.taxonomy.row import LabelReader, MergeBy, label_reader
from linnaea.taxonomy.taxon import PHOTO_TEMPLATE, Taxon, TextType

RIDGES = (0.01, 0.1, 1.0, 10.0, 100.0)
"""Penalty strengths to try, relative to the mean squared singular value of the support."""
MIXES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Shares of the fitted head to try; 0 is zero-shot alone."""
SCALES = tuple(2.0**power for power in range(-1, 9))
"""Scales of the fitted head's scores (inverse temperatures) to try."""
N_FOLDS = 5


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A ridge, a mixture and a scale: the settings of a head."""

    ridge: float
    scale: float
    mix: float


@dataclass(frozen=True, kw_only=True)
class Validation:
    """The result of a choice on photographs that it was not fitted to."""

    choice: Choice
    nll: float
    """Mean negative log-probability of the true class. One in n + 2 of the n answers is assumed to be wrong (Laplace's
    rule of succession), so that a few correct answers do not count as certainty; a burst is one answer."""
    answers: Int[ndarray, " N"]
    """The answered class of each validated photograph; -1 for the others."""


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """Weights for all classes, with their validation."""

    weights_KE: Float32[ndarray, "K E"]
    """To be multiplied by the model's logit scale, like the vectors of a bank."""
    best: Validation
    zero_shot: Validation
    head: Validation
    """The best choice without zero-shot."""


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
        size = f"{len(self.bank):,} classes from {len(self.labels):,} photographs"
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
    rule = _make_rule(checklist, resolve=resolve, merge_by=merge_by)
    with nullcontext() if output is None else hold_output(Path(output), kind="command"):
        encoder = see_as(open_encoder(model, device=device), preprocess)
        check_has_text(encoder, "blend a head with names")
        source = FolderSource(root=Path(folder), class_level=class_level, label_to_taxon=_class_reader(merge_by))
        head = _fit(source, encoder, text_type, rule, batch_size, workers)
        return head if output is None else replace(head, report_path=head.save(output))


def _make_rule(checklist: Sequence[str], *, resolve: bool, merge_by: MergeBy) -> NamingRule:
    try:
        return make_naming(checklist, resolve=resolve, merge_by=merge_by)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _fit(
    source: FolderSource, encoder: Encoder, text_type: TextType, rule: NamingRule, batch_size: int, workers: int
) -> Head:
    root = source.root
    records, tests, failed, left_out = _read(source)
    named = [(record.facts["label"], record.taxon) for record in (*records, *tests)]
    taxa, lines = settle_classes(named, rule)
    settled = [replace(record, taxon=taxon) for record, taxon in zip((*records, *tests), taxa, strict=True)]
    records, tests = settled[: len(records)], settled[len(records) :]
    good, vectors = _encode(encoder, records, failed, batch_size=batch_size, n_workers=workers)
    if not good:
        raise LinnaeaError(f"{root}: no photograph can be read ({failed[0]})")
    good_tests, test_vectors = _encode(encoder, tests, failed, batch_size=batch_size, n_workers=workers)
    bursts = _find_bursts([*good, *good_tests], workers)
    groups = bursts[: len(good)]
    bank = make_bank(encoder, make_taxa_table(record.taxon for record in good), text_type)
    row_of = {taxon: row for row, taxon in enumerate(bank.taxa_list)}
    labels = np.array([row_of[record.taxon] for record in good], np.int64)
    try:
        names = [str(group) for group in groups]
        fitted = fit_head(np.stack(vectors), labels, np.asarray(bank.vectors), encoder.logit_scale, names)
    except ValueError as error:
        raise LinnaeaError(f"{root}: {error}") from error
    # The model's calibration is for its own labels; the head's temperature was chosen with the head.
    own_word = Calibration(n_images=len(good), n_labels=len(bank), preprocess=encoder.preprocess).to_json()
    facts = {"model": encoder.fingerprint, "text_type": str(text_type), "templates": [PHOTO_TEMPLATE],
             PREPROCESS: encoder.preprocess.to_json(), CALIBRATION: own_word,
             ADAPTED: {"photographs": len(good), **vars(fitted.best.choice)}}  # fmt: skip
    bank = LabelBank(bank.taxa, fitted.weights_KE, facts)
    tested = None
    if good_tests:
        tested = Tested(
            labels=np.array([row_of.get(record.taxon, -1) for record in good_tests], np.int64),
            answers=(np.stack(test_vectors) @ fitted.weights_KE.T).argmax(axis=1),
            n_in_train=int(np.isin(bursts[len(good) :], groups).sum()),
        )
    notes = (*source.tree.levels, *lines, *left_out, *_count_groups(groups, tested))
    return Head(
        bank=bank, labels=labels, fitted=fitted, group_N=groups, tested=tested, failed=tuple(failed), notes=notes
    )


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
        yield f"{len(group_N):,} photographs of {n_groups:,} moments; those of one burst are validated together"
    if tested is not None and tested.n_in_train:
        yield (
            f"{tested.n_in_train:,} of {len(tested.labels):,} photographs of test are of a burst in train, so the score"
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
    note = f"{n_left_out:,} photographs of other splits than train and test are left out"
    return fitted, tests, failed, [note] * bool(n_left_out)


def _encode(
    model: Encoder, records: Sequence[Record], failed: list[str], *, batch_size: int, n_workers: int
) -> tuple[list[Record], list[Float32[ndarray, " E"]]]:
    """Return the readable photographs with their unit vectors, and append a line to ``failed`` for each other one."""
    items = ((record, Path(record.location)) for record in records)
    good, vectors = [], []
    with progress_bar("encoding", "images") as on_progress:
        encoded = iter_encoded_images(model, items, batch_size=batch_size, n_workers=n_workers)
        for done, (record, vector) in enumerate(encoded, start=1):
            if isinstance(vector, ImageError):
                failed.append(f"{record.location}: {vector}")
            else:
                good.append(record)
                vectors.append(vector)
            on_progress(done, len(records))
    return good, vectors


def _make_page(head: Head) -> Page:
    names = [taxon.scientific_name or taxon.common_name for taxon in head.bank.taxa_list]
    answers, labels, choice = head.fitted.best.answers, head.labels, head.fitted.best.choice
    rows = pl.DataFrame({"class": [names[n] for n in labels], "answer": [names[n] if n >= 0 else "" for n in answers],
                         "right": answers == labels, "validated": answers >= 0})  # fmt: skip
    per_class = rows.group_by("class").agg(
        pl.len().alias("photographs"), pl.col("right").filter(pl.col("validated")).mean()
    )
    mistakes = rows.filter(pl.col("validated") & ~pl.col("right")).group_by("class", "answer").len("times")
    facts = {f"right, {_IN_WORDS[name]}": f"{head.metrics[f'{name}/top1']:.1%}" for name in head.validations}
    if head.tested is not None:
        facts[f"right on {len(head.tested.labels):,} photographs of test"] = f"{head.tested.right:.1%}"
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
        f"{len(labels):,} photographs of {len(head.bank):,} classes",
        [
            Section("In short", [Facts(facts), Text(how)]),
            Section("Folders and names", [Text(note[:1].upper() + note[1:]) for note in head.notes]),
            Section("Classes, hardest first",
                    [Table(per_class.sort("right", "class", nulls_last=True), percent=["right"])]),
            Section("Confusions", [confused if mistakes.height else Text("None: every answer was right.")]),
        ],
        footer="Made by `linnaea adapt`.",
    )  # fmt: skip


_IN_WORDS = {
    "zero-shot": "from the names alone (zero-shot)",
    "head alone": "from your photographs alone",
    "blended": "from both: the head that was written",
}


def fit_head(
    image_NE: Float32[ndarray, "N E"],
    label_N: Int[ndarray, " N"],
    text_KE: Float32[ndarray, "K E"],
    logit_scale: float,
    group_N: Sequence[str] | None = None,
) -> Fitted:
    """Choose ridge, scale and mixture by cross-validation (lowest NLL), then fit to all photographs.

    Photographs of one group (a burst, an individual, an observation) stay in one fold. A class whose photographs are
    all in one fold is not validated, since the fit of that fold has not seen the class.

    Raises:
        ValueError: no class has photographs in two folds.
    """
    folds = _folds(label_N, group_N)
    validated = _seen_elsewhere(folds, label_N)
    if not validated.any():
        raise ValueError("validation needs a class with at least two photographs that are not of one burst; add some")
    n_groups = len(label_N) if group_N is None else len({g or n for n, g in enumerate(group_N)})
    dealt = _Dealt(fold_N=folds, validated_N=validated, n_groups=n_groups)
    results = list(_iter_validations(image_NE, label_N, text_KE, logit_scale, dealt))
    best = min(results, key=lambda result: result.nll)
    return Fitted(
        weights_KE=_mix(text_KE, _ridge(image_NE, label_N, len(text_KE), best.choice.ridge), best.choice, logit_scale),
        best=best,
        zero_shot=next(result for result in results if result.choice.mix == 0),
        head=min((result for result in results if result.choice.mix == 1), key=lambda result: result.nll),
    )


@dataclass(frozen=True, kw_only=True)
class _Dealt:
    """The folds of a cross-validation."""

    fold_N: Int[ndarray, " N"]
    validated_N: ndarray
    """True for each photograph whose class has a photograph in another fold."""
    n_groups: int


def _folds(label_N: Int[ndarray, " N"], group_N: Sequence[str] | None) -> Int[ndarray, " N"]:
    """Return the fold of each photograph; the groups of a class are dealt to the folds in turn."""
    groups = list(range(len(label_N))) if group_N is None else [g or n for n, g in enumerate(group_N)]
    fold_of: dict[Any, int] = {}
    n_of_class: dict[int, int] = {}
    for label, group in zip(label_N.tolist(), groups, strict=True):
        if group not in fold_of:
            fold_of[group] = (n_of_class.get(label, label) + 1) % N_FOLDS
            n_of_class[label] = n_of_class.get(label, label) + 1
    return np.array([fold_of[group] for group in groups], np.int64)


def _seen_elsewhere(fold_N: Int[ndarray, " N"], label_N: Int[ndarray, " N"]) -> ndarray:
    """Tell for each photograph whether its class has a photograph in another fold."""
    folds_of: dict[int, set[int]] = {}
    for label, fold in zip(label_N.tolist(), fold_N.tolist(), strict=True):
        folds_of.setdefault(label, set()).add(fold)
    return np.array([len(folds_of[label]) > 1 for label in label_N.tolist()], bool)


def _iter_validations(
    image_NE: Float32[ndarray, "N E"],
    label_N: Int[ndarray, " N"],
    text_KE: Float32[ndarray, "K E"],
    logit_scale: float,
    dealt: "_Dealt",
) -> Iterator[Validation]:
    """Yield the validation of every choice over all folds; products are computed once per ridge."""
    zero_NK, validated = logit_scale * image_NE @ text_KE.T, dealt.validated_N
    for ridge in RIDGES:
        fitted_NK = np.zeros_like(zero_NK)
        for fold in np.unique(dealt.fold_N):
            held = dealt.fold_N == fold
            head_KE = _ridge(image_NE[~held], label_N[~held], len(text_KE), ridge)
            fitted_NK[held] = image_NE[held] @ head_KE.T
        for mix in MIXES:
            for scale in SCALES if mix else SCALES[:1]:
                logits_NK = (1 - mix) * zero_NK + mix * scale * fitted_NK
                nll = float(_nll(logits_NK[validated], label_N[validated], dealt.n_groups).mean())
                answers = np.where(validated, logits_NK.argmax(axis=1), -1)
                yield Validation(choice=Choice(ridge=ridge, scale=scale, mix=mix), nll=nll, answers=answers)


def _nll(logits_NK: Float[ndarray, "N K"], label_N: Int[ndarray, " N"], n_groups: int) -> Float[ndarray, " N"]:
    """Return the loss that :class:`Validation` describes; a wrong answer may be any class."""
    top = logits_NK.max(axis=1)
    log_sum = top + np.log(np.exp(logits_NK - top[:, None]).sum(axis=1))
    wrong = 1 / (n_groups + 2)
    truth = logits_NK[np.arange(len(label_N)), label_N]
    return np.asarray(log_sum - (1 - wrong) * truth - wrong * logits_NK.mean(axis=1))


def _ridge(
    image_NE: Float32[ndarray, "N E"], label_N: Int[ndarray, " N"], n_classes: int, ridge: float
) -> Float32[ndarray, "K E"]:
    """Return the weights of one-hot targets, with equal weight for each class; zero for a class without photographs."""
    if not len(image_NE):
        return np.zeros((n_classes, image_NE.shape[1]), np.float32)
    counts = np.bincount(label_N, minlength=n_classes)
    weight_N = 1.0 / counts[label_N]
    x = image_NE.astype(np.float64)
    gram = (x * weight_N[:, None]).T @ x
    penalty = ridge * np.trace(gram) / len(gram)
    targets = np.zeros((n_classes, x.shape[1]))
    np.add.at(targets, label_N, x * weight_N[:, None])
    return np.linalg.solve(gram + penalty * np.eye(len(gram)), targets.T).T.astype(np.float32)


def _mix(
    text_KE: Float32[ndarray, "K E"], head_KE: Float32[ndarray, "K E"], choice: Choice, logit_scale: float
) -> Float32[ndarray, "K E"]:
    mixed = (1 - choice.mix) * text_KE + choice.mix * choice.scale / logit_scale * head_KE
    return np.asarray(mixed, np.float32)
