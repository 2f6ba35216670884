"""A model with its labels, opened and checked once; the command, the server and Python use it.

:func:`open_model` is ``linnaea.open``.
"""

import hashlib
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from linnaea.counting import count
from linnaea.data.images import ImageError
from linnaea.data.naming import NamingRule, make_naming
from linnaea.errors import LinnaeaError, UsageError
from linnaea.model.encode import iter_encoded_images
from linnaea.model.encoder import Encoder
from linnaea.model.folders import DEFAULT_MODEL, Precision
from linnaea.model.open import open_encoder, see_as
from linnaea.model.preprocess import Preprocess, Preprocessing
from linnaea.predict.answers import Answers, Vectors
from linnaea.predict.calibration import KEY, read_calibration
from linnaea.predict.confidence import DEFAULT_CONFIDENCE, Confidence, parse_confidence
from linnaea.predict.inputs import Input, Photographs, iter_inputs
from linnaea.predict.labels import (
    ADAPTED,
    PREPROCESS,
    VECTORS_FILE,
    LabelBank,
    find_own_labels,
    hash_taxa,
)
from linnaea.predict.open_labels import Labels, open_labels
from linnaea.predict.predictor import Answer, Asked, Predictor
from linnaea.predict.priors import read_prior
from linnaea.predict.restrict import Among, restrict
from linnaea.predict.surroundings import look_around
from linnaea.progress import announce, progress_bar
from linnaea.storage import stamp_file
from linnaea.taxonomy.ranks import RANK_LABELS, Rank
from linnaea.taxonomy.row import MergeBy
from linnaea.taxonomy.taxon import TextType

if TYPE_CHECKING:
    from linnaea.predict.explain import Explanation

Words: TypeAlias = str | Sequence[str]
"""One word or several."""
AUTO = "auto"
"""The rank of the deepest taxon that reaches the confidence."""


def open_model(
    name: str | Path = DEFAULT_MODEL,
    *,
    labels: Labels | None = None,
    device: str = "auto",
    precision: Precision = "float32",
    preprocess: Preprocessing | None = None,
    calibrated: bool = True,
    text_type: TextType | str = TextType.TAXON_COM,
    pretrained: str | None = None,
    resolve: bool = True,
    merge_by: MergeBy = "class",
    int8_photographs: Photographs | None = None,
) -> "Model":
    """Open a model with the labels that it answers with.

    Args:
        name: ``nano`` (comes with the package), ``bioclip-2`` and other published models, the folder of a run, model or
            exported model, or ``hf-hub:ORG/NAME``.
        labels: a label bank (a folder, or ``FILE.npy`` with its names beside it), a data set, a file of names, the name
            of a checklist (``inat``) or of a published model, or names (a list, or ``"cat,dog"``); by default the
            model's own. Names that are plain words are encoded in OpenAI's 80 templates.
        device: ``cpu``, ``cuda``, ``mps`` or ``auto``.
        precision: the number format of the image tower: ``float32``, ``bf16``, ``auto``, or ``int8`` for models that
            have a form in 8 bits (nano, models packed with ``int8_photographs``, and models that got it before).
        preprocess: ``crop`` (the middle square) or ``squash`` (the whole photograph, as pybioclip does for the
            published models); by default as the model was trained.
        calibrated: apply the calibration that comes with the labels or the model.
        text_type: caption form of labels that are not encoded yet, such as ``sci`` or ``taxon_com``.
        pretrained: open_clip's tag, if the model is the name of an architecture.
        resolve: resolve the names of a file or list of labels with the embedded checklist, which gives their lineages.
        merge_by: labels over one taxon that differ in more than spelling, author or language (``Danaus plexippus
            larva``): ``class`` keeps them apart, ``taxon`` merges them.
        int8_photographs: with ``int8``, photographs like yours (40 or more, 400 are enough) from which a model without
            a form in 8 bits gets one, in the cache folder, if it answers as float32 does.

    Raises:
        LinnaeaError: there is no such model, it is broken, or the labels belong to another model.
    >>> model = linnaea.open("nano")
    >>> answers = model.predict("photographs/", rank="auto", within="Aves")
    >>> answers.save("taxa.csv")
    PosixPath('taxa.csv')
    """
    naming = make_naming(resolve=resolve, merge_by=merge_by)
    if precision == "int8" and int8_photographs is not None and not pretrained:
        make_int8_form(
            str(name), int8_photographs, lambda one: open_labels(one, str(name), labels, TextType(text_type), naming)
        )
    encoder = open_encoder(str(name), pretrained=pretrained, device=device, precision=precision)
    encoder = see_as(encoder, preprocess)
    model = Model(encoder=encoder, name=str(name), labels=labels, text_type=TextType(text_type), calibrated=calibrated,
                  naming=naming)  # fmt: skip
    if labels is not None:
        # Labels that do not match raise an error now, not at the first photograph.
        seen = see_as_head(encoder, model.bank, preprocess)
        return model if seen.preprocess == encoder.preprocess else replace(model, encoder=seen)
    return model


def make_int8_form(
    name: str, photographs: Photographs, open_bank: Callable[[Encoder], LabelBank] | None = None
) -> None:
    """Make the form in 8 bits of a folder's or a hub model that has none; the model's own labels judge it by default.

    Raises:
        LinnaeaError: there are fewer than 40 photographs, or the model has no labels.
    """
    from linnaea.model.converted import find_without_int8

    if source := find_without_int8(name):
        from linnaea.predict.rounding import make_int8

        make_int8(source, open_bank or (lambda one: open_labels(one, name, None, TextType.TAXON_COM)), photographs)


@dataclass(frozen=True, kw_only=True, repr=False)
class Model:
    """A model with its labels; :func:`linnaea.open` makes it."""

    encoder: Encoder
    name: str
    labels: Labels | None = None
    text_type: TextType = TextType.TAXON_COM
    """Caption form of labels that are not encoded yet."""
    calibrated: bool = True
    naming: NamingRule = field(default_factory=make_naming)
    """The rule for the names of a file or list of labels."""

    @cached_property
    def bank(self) -> LabelBank:
        """Return the taxa to choose from, with their vectors.

        Raises:
            LinnaeaError: the model has no labels and none were given, or they belong to another model.
        """
        return open_labels(self.encoder, self.name, self.labels, self.text_type, self.naming)

    def predict(
        self,
        photographs: Photographs,
        *,
        rank: str | Rank = "species",
        confidence: Confidence | None = None,
        top_k: int = 5,
        within: Words = (),
        exclude: Words = (),
        species_list: str | Path | Sequence[str] | None = None,
        prior: str | Path | None = None,
        lat: float | None = None,
        lon: float | None = None,
        date: str = "",
        batch_size: int = 32,
    ) -> Answers:
        """Name the organisms on photographs.

        Args:
            photographs: a path, folder, pattern, tar, video or address; a Pillow image; an array ``[H, W, 3]`` or
                ``[H, W]`` of uint8 or uint16; the bytes of a file; or any number of these.
            rank: ``kingdom`` to ``species`` in any case, or ``auto``: the deepest taxon that reaches the confidence.
            confidence: the probability that an answer at rank ``auto`` must reach, by default 0.9. It may differ by
                rank: ``{"species": 0.95, "genus": 0.9}`` or ``"species=0.95 genus=0.9"``.
            top_k: guesses per photograph (``auto`` gives one).
            within: only taxa of these clades, such as ``Aves`` or ``order:Lepidoptera``.
            exclude: no taxa of these clades.
            species_list: only the taxa of this list, a file or names; synonyms are resolved.
            prior: weights per taxon (a table of name and weight), or a file of regions.
            lat: latitude in degrees north for a prior of regions, for photographs that do not state their own.
            lon: longitude in degrees east, likewise.
            date: YYYY-MM-DD or YYYY-MM, likewise.
            batch_size: photographs that the model encodes at once.

        Returns:
            An answer per photograph, in order. A photograph that cannot be read has the status ``failed`` and a reason.

        Raises:
            UsageError: a rank, clade or date is not known, or the confidence is not a probability.
            LinnaeaError: a file is missing or broken.
        """
        inputs = photographs if isinstance(photographs, Iterator) else list(iter_inputs(photographs))
        answers = self.iter_predict(
            inputs, rank=rank, confidence=confidence, top_k=top_k, within=within, exclude=exclude,
            species_list=species_list, prior=prior, lat=lat, lon=lon, date=date, batch_size=batch_size,
        )  # fmt: skip
        return Answers(_shown(answers, "predicting", inputs))

    def iter_predict(
        self,
        photographs: Photographs,
        *,
        rank: str | Rank = "species",
        confidence: Confidence | None = None,
        top_k: int = 5,
        within: Words = (),
        exclude: Words = (),
        species_list: str | Path | Sequence[str] | None = None,
        prior: str | Path | None = None,
        lat: float | None = None,
        lon: float | None = None,
        date: str = "",
        batch_size: int = 32,
    ) -> Iterator[Answer]:
        """Yield the answers of :meth:`predict` as they come, in memory that does not grow with their number."""
        among = Among(
            within=_words(within), exclude=_words(exclude),
            species_list=species_list if species_list is None or isinstance(species_list, str | Path)
            else tuple(species_list), prior=prior, lat=lat, lon=lon, date=date,
        )  # fmt: skip
        asked = make_asked(rank, confidence, top_k, tell=_warn)
        predictor = self.predictor(asked, among, batch_size=batch_size, tell=_warn)
        return predictor.answer(iter_inputs(photographs))

    def in_language(self, language: str, checklist: Words = "inat") -> "Model":
        """Return the model with the common names of its labels in a language, such as ``de``.

        The names are those of the first checklist (by name or file) that has one for a species.

        Raises:
            UsageError: no checklist has names in the language.
        """
        from linnaea.predict.language import speak

        return replace(self, labels=speak(self.bank, language, _words(checklist)))

    def explain(
        self,
        photographs: Photographs,
        *,
        rank: str | Rank = "species",
        confidence: Confidence | None = None,
        within: Words = (),
        exclude: Words = (),
    ) -> "list[Explanation]":
        """Return where in each photograph its answer comes from, as a heat map (``.save("heat.jpg")``, ``.heat``).

        The options are those of :meth:`predict`. A photograph without an answer is explained by its likeliest taxon.

        Raises:
            ImageError: a photograph cannot be read.
            LinnaeaError: the model is an exported one, which has no gradients.
        """
        from linnaea.predict.explain import explain

        among = Among(within=_words(within), exclude=_words(exclude))
        predictor = self.predictor(make_asked(rank, confidence, 1, tell=_warn), among, tell=_warn)
        return [explain(predictor, one) for one in iter_inputs(photographs)]

    def embed(self, photographs: Photographs, *, batch_size: int = 32) -> Vectors:
        """Return a unit vector for each photograph; ``failed`` names those that cannot be read, with a reason."""
        inputs = photographs if isinstance(photographs, Iterator) else list(iter_inputs(photographs))
        found = list(_shown(self.iter_embed(inputs, batch_size=batch_size), "embedding", inputs))
        good = [(one.name, vector) for one, vector in found if not isinstance(vector, ImageError)]
        array = np.stack([vector for _, vector in good]) if good else np.empty((0, self.encoder.width), np.float32)
        failed = {one.name: str(error) for one, error in found if isinstance(error, ImageError)}
        return Vectors(array=array, names=tuple(name for name, _ in good), failed=failed)

    def iter_embed(
        self,
        photographs: Photographs,
        *,
        batch_size: int = 32,
        n_workers: int = 2,
        fast: bool = False,
        unit: bool = True,
    ) -> Iterator[tuple[Input, NDArray[np.float32] | ImageError]]:
        """Yield photographs with their vectors ``[E]``, or with the error of those that cannot be read.

        Without ``unit``, vectors keep the length that the model gives.
        """
        items = ((one, one.load) for one in iter_inputs(photographs))
        return iter_encoded_images(
            self.encoder, items, batch_size=batch_size, n_workers=n_workers, fast=fast, unit=unit
        )

    def predictor(
        self,
        asked: Asked = Asked(),  # noqa: B008  (frozen)
        among: Among = Among(),  # noqa: B008  (frozen)
        *,
        batch_size: int = 32,
        n_workers: int = 2,
        tell: Callable[[str], None] = lambda line: None,
    ) -> Predictor:
        """Return the predictor of one question; ``tell`` is called with names that no label has."""
        bank = restrict(self.bank, among, tell)
        learned = read_calibration(bank.facts, self.encoder.facts) if self.calibrated else None
        if learned is not None and (line := learned.explain_other_form(self.encoder)):
            announce(line)
        weights_of = read_prior(bank, among, tell)
        around = look_around(self.bank, bank, among, self.own) if asked.rank is None else None
        return Predictor(model=self.encoder, bank=bank, asked=asked, weights_of=weights_of, calibrated=self.calibrated,
                         around=around, own=self.own, batch_size=batch_size, n_workers=n_workers)  # fmt: skip

    @cached_property
    def own(self) -> LabelBank | None:
        """Return the labels that come with the model, with their calibration, if names answer in their place.

        ``None`` if the model has none on this machine, or if its labels or a head made from photographs answer.
        """
        place = None if self.labels is None else find_own_labels(self.name)
        if (
            place is None
            or not (place / VECTORS_FILE).exists()
            or self.bank.facts.get("text_type") not in set(TextType)
        ):
            return None
        bank = LabelBank.open(place)
        if not bank.is_of(self.encoder) or ADAPTED in self.bank.facts:
            return None
        learned = read_calibration(bank.facts, self.encoder.facts) if self.calibrated else None
        return replace(bank, facts={} if learned is None else {KEY: learned.to_json()})

    def __repr__(self) -> str:
        n_labels = f", {count(len(self.bank), 'label')}" if "bank" in self.__dict__ else ""
        return f"<Model {self.name}: {self.encoder.preprocess.image_size} pixels, width {self.encoder.width}{n_labels}>"


def describe_question(predictor: Predictor, among: Among, inputs: Sequence[Input] = ()) -> dict[str, Any]:
    """Return everything that the answers of a predictor depend on, as JSON, besides the photographs' files.

    Inputs with different detections are different.
    """
    boxes = [(one.name, one.box, one.event, one.category, one.detection_confidence, one.fails)
             for one in inputs if one.box is not None or one.event or one.fails]  # fmt: skip
    model, asked, learnt = predictor.model, predictor.asked, predictor.calibration
    prior_file = [] if among.prior is None else stamp_file(Path(among.prior))
    return (
        {
            "model": model.fingerprint,
            "precision": model.precision,
            "preprocess": model.preprocess.to_json(),
            "calibration": None if learnt is None else learnt.to_json(),
            "labels": predictor.bank.facts | {"n": len(predictor.bank), "names": hash_taxa(predictor.bank.taxa)},
            "asked": [AUTO if asked.rank is None else asked.rank.label, asked.confidence, asked.top_k],
            "prior": [str(among.prior), prior_file, among.lat, among.lon, among.date],
        }
        | ({"around": seen.to_json()} if (seen := predictor.of_evidence) is not learnt and seen else {})
        | ({"boxes": hashlib.blake2b(repr(boxes).encode(), digest_size=12).hexdigest()} if boxes else {})
    )


UNUSED_CONFIDENCE = "--confidence counts with --rank auto only; at a given rank, the likeliest taxa are the answer"


def make_asked(
    rank: str | Rank | None, confidence: Confidence | None, top_k: int, *, tell: Callable[[str], None]
) -> Asked:
    """Return the question; ``tell`` is called if a confidence is given that has no effect at this rank.

    Raises:
        UsageError: there is no such rank, or the confidence is not a probability.
    """
    wanted = parse_rank(rank)
    least = DEFAULT_CONFIDENCE if confidence is None else parse_confidence(confidence)
    if confidence is not None and wanted is not None:
        tell(UNUSED_CONFIDENCE)
    return Asked(rank=wanted, confidence=least, top_k=top_k)


def parse_rank(rank: str | Rank | None) -> Rank | None:
    """Return the rank of that name in any case; ``None`` for ``auto``.

    Raises:
        UsageError: there is no such rank.
    """
    if rank is None or (isinstance(rank, str) and rank.strip().lower() == AUTO):
        return None
    try:
        return Rank.parse(rank.strip()) if isinstance(rank, str) else Rank(rank)
    except ValueError as error:
        raise UsageError(f"{str(rank)[:40]!r} is not a rank; write one of {', '.join(RANK_LABELS)}, {AUTO}") from error


_Open = TypeVar("_Open", bound=Encoder)


def see_as_head(encoder: _Open, bank: LabelBank, chosen: Preprocessing | None) -> _Open:
    """Return the encoder with the preprocessing that a head of one's own photographs was fitted with.

    Raises:
        LinnaeaError: another one was chosen.
    """
    if ADAPTED not in bank.facts or PREPROCESS not in bank.facts:
        return encoder
    seen = see_as(encoder, Preprocess.of_json(bank.facts[PREPROCESS], str(bank.folder or "the head")))
    if chosen is not None and seen.preprocess != encoder.preprocess:
        raise LinnaeaError(f"{bank.folder or 'the head'}: was fitted to photographs in another form; leave out"
                           f" --preprocess {chosen}, or adapt again with it")  # fmt: skip
    return seen


def _words(given: Words) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given or ())


def _warn(line: str) -> None:
    warnings.warn(line, stacklevel=3)


def _shown(items: Iterable[Any], title: str, photographs: Photographs) -> Iterator[Any]:
    """Yield the items and show their number, and the total if it can be known."""
    total = len(photographs) if isinstance(photographs, list) else None
    with progress_bar(title, "images") as on_progress:
        for done, item in enumerate(items, start=1):
            yield item
            on_progress(done, total)
