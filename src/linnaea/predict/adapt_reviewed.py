"""Adapt a model's labels to what reviewers decided: ``linnaea adapt --decisions``."""

import json
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from math import comb, isfinite
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from linnaea.counting import agree, count
from linnaea.data.shards import make_taxa_table, merge_taxa
from linnaea.exchange import hold_output, replaced_folder
from linnaea.model.encoder import Encoder
from linnaea.model.folders import DEFAULT_MODEL
from linnaea.model.preprocess import Preprocessing
from linnaea.page import Facts, Page, Section, Table, Text
from linnaea.predict.calibration import UNKNOWN, Calibration, read_calibration
from linnaea.predict.labels import ADAPTED, PREPROCESS, LabelBank, to_float32, update_bank
from linnaea.predict.records.reviewed_photographs import Examples, check_enough, encode_examples, find_rows
from linnaea.predict.relearn import N_FOLDS, Learned, learn, make_task
from linnaea.predict.session import open_model
from linnaea.progress import progress_bar
from linnaea.storage import write_atomically

LEAST_EVENTS = 2 * N_FOLDS
"""The least number of reviewed events: two in each fifth that is held out."""
SURE = 0.05
"""The probability by chance below which a difference counts (sign test on the photographs whose answers changed)."""


@dataclass(frozen=True, kw_only=True)
class Relearned:
    """Labels that were adapted to reviewed photographs, with how they did on events that were held out."""

    bank: LabelBank
    """All labels that there were, and new ones; every command takes it as ``--labels``."""
    learned: Learned = field(repr=False)
    examples: Examples = field(repr=False)
    n_new: int = 0
    """The number of reviewers' taxa that the labels lacked."""
    report_path: Path | None = None

    @property
    def metrics(self) -> dict[str, float]:
        """Return ``before/top1``, ``after/top1``, ``before/nll``, ``after/nll``, ``better``, ``worse``, ``p_chance``.

        ``n_images``, ``n_events``, ``n_classes`` and ``n_new`` count. Of each photograph the name that a reviewer gave
        is right. Before and after are of the same photographs, each answered by labels that were not adapted to any
        photograph of its event.
        """
        one, taxa = self.learned, self.examples.taxa
        better = int((one.right_after_N & ~one.right_before_N).sum())
        worse = int((one.right_before_N & ~one.right_after_N).sum())
        return {
            "before/top1": float(one.right_before_N.mean()), "after/top1": float(one.right_after_N.mean()),
            "before/nll": one.nll_before, "after/nll": one.nll_after, "better": better, "worse": worse,
            "p_chance": sign_test(better, worse), "n_images": len(taxa), "n_events": self.examples.n_events,
            "n_classes": len(set(taxa)), "n_new": self.n_new,
        }  # fmt: skip

    @property
    def summary(self) -> tuple[str, ...]:
        """Return lines on what was learned."""
        one, n = self.metrics, len(self.examples.taxa)
        before, after = (int(one[f"{when}/top1"] * n + 0.5) for when in ("before", "after"))
        lines = [f"held out by event: {before} of {n} right before, {after} after (loss {one['before/nll']:.2f} before,"
                 f" {one['after/nll']:.2f} after)"]  # fmt: skip
        if not isfinite(self.learned.penalty):
            lines.append("nothing was learned that helps on events that were held out; the labels stay as they are")
        elif one["p_chance"] > SURE:
            lines.append(f"too few to tell a difference from chance: {one['better']:.0f} answers became right and"
                         f" {one['worse']:.0f} wrong; review more, or compare on photographs of your own")  # fmt: skip
        if self.n_new:
            lines.append(f"{count(self.n_new, 'label')} {agree(self.n_new, 'is', 'are')} new")
        return tuple(lines)

    def save(self, directory: str | Path) -> Path:
        """Write the labels, ``metrics.json`` and ``report.html``; return the page's path."""
        folder = Path(directory)
        with replaced_folder(folder) as new:
            self.bank.save(new, dtype=self.bank.vectors.dtype.type)
            write_atomically(new / "metrics.json", json.dumps(self.metrics))
            _make_page(self).write(new / "report.html")
        return folder / "report.html"


def adapt_reviewed(
    *decisions: str | Path,
    model: str | Path = DEFAULT_MODEL,
    labels: str | Path | None = None,
    output: str | Path | None = None,
    root: str | Path | None = None,
    preprocess: Preprocessing | None = None,
    device: str = "auto",
    batch_size: int = 32,
    workers: int = 2,
) -> Relearned:
    """Adapt labels to the photographs that reviewers confirmed or corrected (:mod:`linnaea.predict.relearn`).

    The result keeps all labels that there were, and adds the names that reviewers gave and the labels lacked.

    Args:
        decisions: Files of decisions (``linnaea review``).
        model: Name or folder of the model that answered.
        labels: The labels that it answered with; by default its own.
        output: Folder to write the adapted labels to.
        root: Folder that the photographs must lie in; by default they are looked for here and beside the decisions.
        preprocess: ``"crop"`` (the middle square) or ``"squash"`` (the whole photograph); by default as the model was
            trained. The labels record it, and answer with it.
        device: ``"cpu"``, ``"cuda"``, ``"mps"`` or ``"auto"``.
        batch_size: Photographs that the model encodes at once.
        workers: Threads that decode.

    Raises:
        LinnaeaError: There is too little to learn from, something cannot be read, or the labels are another model's.
    """
    with nullcontext() if output is None else hold_output(Path(output), kind="command"):
        opened = open_model(model, labels=labels, device=device, preprocess=preprocess)
        examples = encode_examples([*map(Path, decisions)], opened.encoder, batch_size=batch_size, n_workers=workers,
                                   root=None if root is None else Path(root))  # fmt: skip
        check_enough(examples.n_events, LEAST_EVENTS, "events with names", why="a comparison on held-out events")
        bank, n_new = _with_new_labels(opened.bank, examples, opened.encoder)
        calibration = read_calibration(bank.facts, opened.encoder.facts) or Calibration()
        factor = np.where(bank.trained, 1, calibration.untrained).astype(np.float32)
        scale = opened.encoder.logit_scale / calibration.temperature
        rows = find_rows(examples.taxa, bank)
        task = make_task(examples.image_NE, rows, examples.events, bank, scale, np.log(factor))
        with progress_bar("learning", "fits") as on_progress:
            learned = learn(task, on_progress)
        penalty = learned.penalty if isfinite(learned.penalty) else None
        facts = bank.facts | {
            PREPROCESS: opened.encoder.preprocess.to_json(),
            ADAPTED: {"reviewed": len(examples.taxa), "events": examples.n_events, "penalty": penalty},
        }
        vectors = _moved(bank, task.active_A, learned)
        found = Relearned(
            bank=replace(bank, vectors=vectors, facts=facts), learned=learned, examples=examples, n_new=n_new
        )
        return found if output is None else replace(found, report_path=found.save(output))


def _moved(bank: LabelBank, rows: NDArray[np.int64], learned: Learned) -> NDArray[np.float32]:
    vectors = to_float32(np.asarray(bank.vectors)).copy()
    vectors[rows] = learned.vectors_AE
    return vectors


def _with_new_labels(bank: LabelBank, examples: Examples, encoder: Encoder) -> tuple[LabelBank, int]:
    """Return the labels with the taxa that reviewers named and that they lack, and the number of these."""
    missing = [taxon for taxon, (first, _) in zip(examples.taxa, find_rows(examples.taxa, bank), strict=True)
               if first == UNKNOWN]  # fmt: skip
    if not missing:
        return bank, 0
    return update_bank(encoder, bank, merge_taxa(bank.taxa, make_taxa_table(missing)))[0], len(set(missing))


def sign_test(n_better: int, n_worse: int) -> float:
    """Return the probability of so uneven a split by chance, two-sided (the exact test of McNemar)."""
    n, most = n_better + n_worse, max(n_better, n_worse)
    return min(1.0, 2 * sum(comb(n, k) for k in range(most, n + 1)) / float(2**n))


def _make_page(found: Relearned) -> Page:
    metrics, learned = found.metrics, found.learned
    rows = pl.DataFrame({
        "photograph": found.examples.names,
        "reviewed as": [taxon.name for taxon in found.examples.taxa],
        "right before": learned.right_before_N, "right after": learned.right_after_N,
    })  # fmt: skip
    facts = {"right before": f"{metrics['before/top1']:.1%}", "right after": f"{metrics['after/top1']:.1%}",
             "photographs": f"{metrics['n_images']:,.0f}", "events": f"{metrics['n_events']:,.0f}"}  # fmt: skip
    how = (
        "Each photograph was answered by labels that were adapted to the other events only. These are the photographs"
        " that were reviewed; if they were the least sure ones, all photographs together are answered better."
    )
    changed = rows.filter(pl.col("right before") != pl.col("right after"))
    return Page(
        "Labels adapted to reviewed photographs",
        count(len(found.bank), "label"),
        [
            Section("In short", [Facts(facts), *map(Text, found.summary), Text(how)]),
            Section("Photographs whose answer changed", [Table(changed)]),
            Section("Left out", [Text(line) for line in (*found.examples.notes, *found.examples.failed)]),
        ],
    )
