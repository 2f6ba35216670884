"""Classes with pybioclip's names, signatures and dictionaries; a script needs to change only its imports.

The classes ask the same :class:`linnaea.predict.predictor.Predictor` as the command. With the published models they use
pybioclip's pixels (the whole photograph, squashed) and uncalibrated scores, as the command does with
``--preprocess squash --no-calibration``.

They differ where pybioclip fails: one photograph may be given without a list, photographs are turned upright, a filter
can be cleared, a taxon that is alone at its rank is answered, a photograph that cannot be read gives a row with a
reason, and the probabilities of all taxa are not kept for each photograph.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import polars as pl
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize as to_unit

from linnaea.data.images import decode, decode_image, read_image_file
from linnaea.errors import LinnaeaError
from linnaea.model.load import TaxonModel
from linnaea.model.open import HUB_MODELS
from linnaea.predict.classifier import Guess
from linnaea.predict.inputs import Input, file_input, iter_inputs
from linnaea.predict.labels import LabelBank, find_own_labels, make_bin_bank
from linnaea.predict.predictor import Answer, Asked
from linnaea.predict.published import ARRAY_FILE, NAMES_FILE, read_published_bank
from linnaea.predict.restrict import keep_rows
from linnaea.predict.session import Model, open_model
from linnaea.tables import read_table
from linnaea.taxonomy.ranks import RANK_LABELS, Rank
from linnaea.taxonomy.taxon import Taxon

__all__ = ["CustomLabelsBinningClassifier", "CustomLabelsClassifier", "Rank", "TreeOfLifeClassifier", "get_rank_labels"]

BIOCLIP_V1_MODEL_STR = "hf-hub:imageomics/bioclip"
BIOCLIP_V2_MODEL_STR = "hf-hub:imageomics/bioclip-2"
BIOCLIP_MODEL_STR = BIOCLIP_V2_MODEL_STR
TOL_MODELS = {
    BIOCLIP_V1_MODEL_STR: "imageomics/TreeOfLife-10M",
    BIOCLIP_V2_MODEL_STR: "imageomics/TreeOfLife-200M",
}
"""Models with a published label bank, and the data set that it is part of."""

Photograph: TypeAlias = str | Path | Image.Image
Callback: TypeAlias = Callable[[int, int], None]
"""A function that is called with the number of finished photographs and the total."""


def is_published(model_str: str) -> bool:
    """Tell whether a model is a published one, by Linnaea's or the hub's name, at any revision."""
    name = HUB_MODELS.get(model_str, model_str).partition("@")[0]
    return name in TOL_MODELS or name in HUB_MODELS.values()


def get_rank_labels() -> list[str]:
    """Return the names of the seven ranks, kingdom first."""
    return list(RANK_LABELS)


class BaseClassifier(torch.nn.Module):
    """A model with its preprocessing: the common part of the classifiers."""

    def __init__(
        self, model_str: str = BIOCLIP_MODEL_STR, pretrained_str: str | None = None, device: str = "cpu"
    ) -> None:
        super().__init__()
        self.model_str = model_str
        published = is_published(model_str)
        self._opened: Model = open_model(model_str, pretrained=pretrained_str, device=device,
                                         preprocess="squash" if published else None,
                                         calibrated=not published)  # fmt: skip
        if not isinstance(self._opened.encoder, TaxonModel):
            raise LinnaeaError(f"{model_str}: an exported model has no PyTorch towers; use linnaea.open")
        self.taxon_model: TaxonModel = self._opened.encoder
        self.device = self.taxon_model.device
        self.model = self.taxon_model.clip.eval()
        self.txt_embeddings: Tensor = torch.empty(self.taxon_model.width, 0)

    def preprocess(self, image: Image.Image) -> Tensor:
        """Return the normalised pixels of an image as the image tower takes them, ``[3, S, S]``."""
        preprocess = self.taxon_model.preprocess
        pixels = torch.from_numpy(preprocess.pixels(decode_image(image))).float().div(255)
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (preprocess.mean, preprocess.std))
        return (pixels - mean) / std

    @staticmethod
    def ensure_rgb_image(image: Photograph) -> Image.Image:
        """Return the photograph as an upright RGB image; a path is opened.

        Raises:
            ImageError: the photograph cannot be read.
        """
        picture = decode_image(image) if isinstance(image, Image.Image) else decode(read_image_file(Path(image)))
        return Image.fromarray(picture)

    @torch.inference_mode()
    def create_image_features(self, images: Sequence[Image.Image], normalize: bool = True) -> Float[Tensor, "B E"]:
        """Return the vectors of photographs ``[B, E]``."""
        pixels = torch.stack([self.preprocess(self.ensure_rgb_image(image)) for image in images]).to(self.device)
        features: Tensor = self.model.encode_image(pixels)  # type: ignore[operator]
        return to_unit(features.float(), dim=-1) if normalize else features.float()

    def create_image_features_for_image(self, image: Photograph, normalize: bool = True) -> Float[Tensor, " E"]:
        """Return the vector of one photograph ``[E]``."""
        return self.create_image_features([self.ensure_rgb_image(image)], normalize)[0]

    def create_probabilities(
        self, img_features: Float[Tensor, "B E"], txt_features: Float[Tensor, "E K"]
    ) -> Float[Tensor, "B K"]:
        """Return the softmax over the labels ``[B, K]``."""
        return (self.taxon_model.logit_scale * img_features @ txt_features).softmax(dim=-1)

    def forward(self, x: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B K"]:
        """Return the probabilities of preprocessed pixels; differentiable, for Grad-CAM and similar methods."""
        features = to_unit(self.model.encode_image(x.to(self.device)), dim=-1)  # type: ignore[operator]
        return self.create_probabilities(features, self.txt_embeddings.to(features.device))

    def _iter_answers(
        self, images: Photograph | Sequence[Photograph], bank: LabelBank, asked: Asked, batch_size: int,
        callback: Callback | None,
    ) -> Iterator[Answer]:  # fmt: skip
        """Yield an answer per photograph; the callback is called after each batch."""
        inputs = [*_iter_files(images)]
        predictor = replace(self._opened, labels=bank).predictor(asked, batch_size=batch_size)
        for done, answer in enumerate(predictor.answer(inputs), start=1):
            yield answer
            if callback is not None and (done % batch_size == 0 or done == len(inputs)):
                callback(done, len(inputs))


def _iter_files(images: Photograph | Sequence[Photograph]) -> Iterator[Input]:
    """Yield an input per photograph; here a path is always a file, never a folder or an address."""
    many = [images] if isinstance(images, str | Path | Image.Image) else list(images)
    for number, one in enumerate(many):
        if isinstance(one, Image.Image):
            (named,) = iter_inputs(one)
            yield replace(named, name=str(number))
        else:
            yield replace(file_input(Path(one)), name=str(one))


class TreeOfLifeClassifier(BaseClassifier):
    """A classifier for the taxa of the published bank, or of ``labels`` (a bank, a data set, a file of names)."""

    def __init__(self, labels: Path | str | LabelBank | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if labels is None and find_own_labels(self.model_str) is None:
            labels = self._fetch_published_bank()
        self._opened = replace(self._opened, labels=labels)
        self._bank = self._opened.bank
        self._kept = self._bank
        self.txt_embeddings = self.get_txt_embeddings()

    def _fetch_published_bank(self) -> LabelBank:
        repository = TOL_MODELS.get(self.model_str)
        if repository is None:
            known = ", ".join(TOL_MODELS)
            raise ValueError(
                f"TreeOfLife predictions are only supported for the following models: {known}; or give labels"
            )
        from huggingface_hub import hf_hub_download

        try:
            for name in (NAMES_FILE, ARRAY_FILE):
                path = hf_hub_download(repository, f"embeddings/{name}", repo_type="dataset")
        except Exception as error:  # the hub's client raises many kinds
            raise LinnaeaError(f"{repository}: cannot fetch its label bank ({error}); give labels=...") from error
        return read_published_bank(Path(path), model=self.taxon_model.fingerprint)

    def get_txt_embeddings(self) -> Float[Tensor, "E K"]:
        """Return the vectors of the taxa that the filter keeps, ``[E, K]``."""
        return torch.from_numpy(np.asarray(self._kept.vectors, np.float32)).T

    def get_current_txt_names(self) -> list[list[Any]]:
        """Return ``[[kingdom .. epithet], common name]`` of the taxa that the filter keeps."""
        columns = [self._kept.taxa[name].to_list() for name in (*RANK_LABELS, "common_name")]
        return [[list(row[:-1]), row[-1]] for row in zip(*columns, strict=True)]

    def get_label_data(self) -> Any:
        """Return all taxa as a pandas table (polars if pandas is not installed)."""
        table = self._bank.taxa.rename({"species": "species_epithet", "scientific_name": "species"})
        table = table.select(*RANK_LABELS[: Rank.SPECIES], "species_epithet", "species", "common_name")
        try:
            import pandas as pd
        except ImportError:
            return table
        return pd.DataFrame(table.to_dict(as_series=False))

    def create_taxa_filter(self, rank: Rank, user_values: Sequence[str]) -> list[bool]:
        """Return which taxa have one of the names at a rank.

        Raises:
            ValueError: a name is not among the taxa.
        """
        column = self._bank.taxa["scientific_name" if rank == Rank.SPECIES else rank.label]
        unknown = set(user_values) - set(column.unique())
        if unknown:
            words = ", ".join(sorted(unknown))
            raise ValueError(f"Unknown {rank.label} received: {words}. Only known {rank.label} may be used.")
        return column.is_in(list(user_values)).to_list()

    def create_taxa_filter_from_csv(self, csv_path: str | Path) -> list[bool]:
        """Return :meth:`create_taxa_filter` of a table whose first column is named after the rank."""
        table = read_table(Path(csv_path)).rows
        rank = Rank.parse(table.columns[0].strip())
        return self.create_taxa_filter(rank, [name for name in table[table.columns[0]] if name])

    def apply_filter(self, keep_labels_ary: Sequence[bool] | None) -> None:
        """Answer only with the taxa that are marked; ``None`` removes the filter.

        Raises:
            ValueError: the length is not the number of taxa, or no taxon is left.
        """
        if keep_labels_ary is None:
            self._kept = self._bank
        else:
            kept = np.asarray(keep_labels_ary, bool)
            if len(kept) != len(self._bank):
                raise ValueError(f"the filter has {len(kept)} values for {len(self._bank)} taxa")
            if not kept.any():
                raise ValueError("the filter leaves no taxon")
            self._kept = keep_rows(self._bank, np.flatnonzero(kept))
        self.txt_embeddings = self.get_txt_embeddings()

    def predict(
        self,
        images: Photograph | Sequence[Photograph],
        rank: Rank = Rank.SPECIES,
        min_prob: float = 1e-9,
        k: int = 5,
        batch_size: int = 10,
        callback: Callback | None = None,
    ) -> list[dict[str, Any]]:
        """Return each photograph's ``k`` likeliest taxa of a rank that reach ``min_prob``, best first."""
        asked = Asked(rank=rank, top_k=k)
        rows: list[dict[str, Any]] = []
        for answer in self._iter_answers(images, self._kept, asked, batch_size, callback):
            rows += [_row(answer.name, guess, rank) for guess in answer.guesses if guess.score > min_prob]
            if answer.status == "failed":
                rows.append(_failed_row(answer, rank))
        return rows


def _row(name: str, guess: Guess, rank: Rank) -> dict[str, Any]:
    taxon = guess.taxon
    row: dict[str, Any] = {"file_name": name}
    row |= {RANK_LABELS[at]: taxon.lineage[at] for at in range(min(rank, Rank.GENUS) + 1)}
    if rank == Rank.SPECIES:
        species = f"{taxon.genus} {taxon.species}".strip()
        row |= {"species_epithet": taxon.species, "species": species, "common_name": taxon.common_name}
    return row | {"score": guess.score}


def _failed_row(answer: Answer, rank: Rank) -> dict[str, Any]:
    """Return the row of a photograph that cannot be read: the same keys, and a reason."""
    empty = dict.fromkeys(_row("", Guess(Taxon.of(common_name="x"), None, 0.0), rank), "")
    return {**empty, "file_name": answer.name, "score": None, "status": answer.status, "reason": answer.reason}


class CustomLabelsClassifier(BaseClassifier):
    """A classifier with any words as classes, in OpenAI's 80 templates or in ``templates`` (``{}`` for the word)."""

    def __init__(self, cls_ary: Sequence[str], templates: Sequence[str] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.classes = [name.strip() for name in cls_ary]
        if not all(self.classes) or not self.classes:
            raise ValueError("give at least one class; names must not be empty")
        names = pl.DataFrame({"label": self.classes, "bin": self._groups()}).with_row_index("number")
        names = names.sort("bin", maintain_order=True)  # rows of one bin must be contiguous
        self._named = make_bin_bank(self.taxon_model, names.select("label", "bin"), list(templates or ()))
        self.txt_embeddings = torch.from_numpy(np.asarray(self._named.vectors)[names["number"].arg_sort()]).T

    def _groups(self) -> list[str]:
        """Return the bin of each class: the class itself."""
        return self.classes

    def predict(
        self,
        images: Photograph | Sequence[Photograph],
        k: int | None = None,
        batch_size: int = 10,
        callback: Callback | None = None,
    ) -> list[dict[str, Any]]:
        """Return the ``k`` likeliest classes (all, if ``None``) of each photograph, best first."""
        asked = Asked(top_k=len(self._named) if k is None else k)
        rows: list[dict[str, Any]] = []
        for answer in self._iter_answers(images, self._named, asked, batch_size, callback):
            rows += [
                {"file_name": answer.name, "classification": guess.taxon.common_name, "score": guess.score}
                for guess in answer.guesses
            ]
            if answer.status == "failed":
                rows.append({"file_name": answer.name, "classification": "", "score": None,
                             "status": answer.status, "reason": answer.reason})  # fmt: skip
        return rows


class CustomLabelsBinningClassifier(CustomLabelsClassifier):
    """A classifier whose classes count towards bins: ``{"dog": "pet", "cat": "pet", "wolf": "wild"}``."""

    def __init__(self, cls_to_bin: Mapping[str, Any], **kwargs: Any) -> None:
        if any(value is None or value == "" or value != value for value in cls_to_bin.values()):  # noqa: PLR0124 - nan
            raise ValueError("Empty, null, or nan are not allowed for bin values.")
        self.bins = [str(bin_) for bin_ in cls_to_bin.values()]
        super().__init__(list(cls_to_bin), **kwargs)

    def _groups(self) -> list[str]:
        return self.bins
