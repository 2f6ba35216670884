"""Classes with pybioclip's names, signatures and dictionaries; a script needs to change only its imports.

The steps of a prediction are methods with pybioclip's names, and each calls the next one on ``self``, so that an
overridden one is asked. With the published models the classes use pybioclip's pixels (the whole photograph,
squashed), the published label bank in its own order, and uncalibrated scores.

They differ where pybioclip fails: one photograph or label may be given without a list, photographs are turned upright,
a filter can be cleared, whole numbers may be given as floats, and a photograph that cannot be read gives a row with a
reason. The probabilities of all taxa are kept for one batch of photographs at a time.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from open_clip import OPENAI_IMAGENET_TEMPLATES, list_pretrained_tags_by_model
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize as to_unit
from tqdm import tqdm

from linnaea.data.images import ImageError, decode, decode_image, read_image_file
from linnaea.errors import LinnaeaError
from linnaea.model.encode import encode_names
from linnaea.model.hub import PUBLISHED, find_published
from linnaea.model.load import TaxonModel
from linnaea.model.onnx import GraphModel
from linnaea.predict.calibration import calibrate_probabilities, read_calibration
from linnaea.predict.labels import LabelBank, find_own_labels, openai_templates
from linnaea.predict.open_labels import Labels, open_labels
from linnaea.predict.published import ARRAY_FILE, NAMES_FILE, fetch_published_bank
from linnaea.predict.restrict import keep_rows
from linnaea.predict.session import open_model
from linnaea.tables import read_table
from linnaea.taxonomy.ranks import RANK_LABELS, Rank
from linnaea.taxonomy.taxon import TextType

BIOCLIP_V1_MODEL_STR = "hf-hub:imageomics/bioclip"
BIOCLIP_V2_MODEL_STR = "hf-hub:imageomics/bioclip-2"
BIOCLIP_V25_HUGE_MODEL_STR = "hf-hub:imageomics/bioclip-2.5-vith14"
BIOCAP_MODEL_STR = "hf-hub:imageomics/biocap"
BIOCLIP_MODEL_STR = BIOCLIP_V2_MODEL_STR
TOL10M_HF_DATAFILE_REPO, TOL200M_HF_DATAFILE_REPO = "imageomics/TreeOfLife-10M", "imageomics/TreeOfLife-200M"
HF_DATAFILE_REPO_TYPE = "dataset"
TOL_MODELS = {f"hf-hub:{model.repo}": model.bank_repo for model in PUBLISHED.values()}
"""Models with a published label bank, and the data set that it is part of. Scripts may add their own."""
OPENA_AI_IMAGENET_TEMPLATE = list(OPENAI_IMAGENET_TEMPLATES)
DEFAULT_BATCH_SIZE = 10
PRED_FILENAME_KEY, PRED_CLASSICATION_KEY, PRED_SCORE_KEY = "file_name", "classification", "score"
SPECIES_LABEL, SPECIES_EPITHET_LABEL, COMMON_NAME_LABEL = "species", "species_epithet", "common_name"

Photograph: TypeAlias = str | Path | Image.Image
Row: TypeAlias = dict[str, Any]
Callback: TypeAlias = Callable[[int, int], None]
"""A function that is called with the number of finished photographs and the total."""
Names: TypeAlias = Sequence[Any]
"""``[[kingdom .. epithet], common name]`` of one taxon."""


def is_published(model_str: str) -> bool:
    """Tell whether a model is a published one, by Linnaea's or the hub's name, at any revision."""
    return find_published(model_str) is not None or model_str in TOL_MODELS


def get_rank_labels() -> list[str]:
    """Return the names of the seven ranks, kingdom first."""
    return list(RANK_LABELS)


def get_tol_repo_id(model_str: str) -> str:
    """Return the data set that holds the label bank of a model.

    Raises:
        ValueError: the model has no published label bank.
    """
    published = find_published(model_str)
    if model_str not in TOL_MODELS and published is None:
        known = ", ".join(TOL_MODELS)
        raise ValueError(f"TreeOfLife predictions are only supported for the following models: {known}")
    return TOL_MODELS.get(model_str) or (published.bank_repo if published else "")


def ensure_tol_supported_model(model_str: str) -> None:
    """Raise ValueError unless the model has a published label bank."""
    get_tol_repo_id(model_str)


def create_bioclip_tokenizer(model_name: str = "ViT-B-16") -> Any:
    """Return open_clip's tokenizer of a model."""
    from open_clip import get_tokenizer

    return get_tokenizer(model_name)


class BaseClassifier(torch.nn.Module):
    """A model with its preprocessing: the common part of the classifiers."""

    def __init__(
        self, model_str: str | None = BIOCLIP_MODEL_STR, pretrained_str: str | None = None, device: Any = "cpu"
    ) -> None:
        super().__init__()
        self.device = device
        self.recorder: Any = None
        self.txt_embeddings: Tensor = torch.empty(0, 0)
        self.load_pretrained_model(model_str, pretrained_str)

    def load_pretrained_model(
        self, model_str: str | None = BIOCLIP_MODEL_STR, pretrained_str: str | None = None
    ) -> None:
        """Load the model, with the only tag of weights of an architecture if it has one.

        Raises:
            ValueError: the architecture has several tags, and none is given.
            LinnaeaError: there is no such model.
        """
        self.model_str = model_str or BIOCLIP_MODEL_STR
        tags = list_pretrained_tags_by_model(self.model_str)
        if pretrained_str is None and len(tags) > 1:
            raise ValueError(f"Multiple pretrained tags available {tags}, must provide one")
        self.pretrained_str = pretrained_str or (tags[0] if tags else None)
        opened = open_model(self.model_str, pretrained=self.pretrained_str, device=str(self.device),
                            preprocess="squash" if is_published(self.model_str) else None)  # fmt: skip
        self._graph = opened.encoder if isinstance(opened.encoder, GraphModel) else None
        encoder = opened.encoder if self._graph is None else self._graph.whole
        if not isinstance(encoder, TaxonModel):
            raise LinnaeaError(f"{self.model_str}: an exported model has no PyTorch towers; use linnaea.open")
        self.taxon_model: TaxonModel = encoder
        self.model = self.taxon_model.clip.eval()
        self._as_loaded = _state_of(self.model)

    def set_recorder(self, recorder: Any) -> None:
        """Set the recorder of the predictions (:mod:`linnaea.compat.bioclip.recorder`)."""
        self.recorder = recorder

    def record_event(self, images: Sequence[Photograph], **details: Any) -> None:
        """Tell the recorder, if there is one, of photographs and the options of their prediction."""
        if self.recorder:
            self.recorder.add_prediction([self.make_key(image, number) for number, image in enumerate(images)],
                                         **details)  # fmt: skip

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

    @staticmethod
    def make_key(image: Photograph, idx: int) -> str:
        """Return the name of a photograph in the answers: its path as given, or its number if it is in memory."""
        return str(idx) if isinstance(image, Image.Image) else str(image)

    @torch.inference_mode()
    def create_image_features(self, images: Sequence[Image.Image], normalize: bool = True) -> Float[Tensor, "B E"]:
        """Return the vectors of RGB images ``[B, E]``."""
        pixels = torch.stack([self.preprocess(image).to(self.device) for image in images])
        features: Tensor
        if self._graph is not None and self._as_loaded == _state_of(self.model):
            seen = self._graph.preprocess
            mean, std = (torch.tensor(values).view(3, 1, 1) for values in (seen.mean, seen.std))
            features = torch.from_numpy(self._graph.encode_pixels((pixels * std + mean).mul(255).numpy(), unit=False))
        else:
            features = self.model.encode_image(pixels)  # type: ignore[operator]
        return to_unit(features.float(), dim=-1) if normalize else features.float()

    def create_image_features_for_image(self, image: Photograph, normalize: bool = True) -> Float[Tensor, " E"]:
        """Return the vector of one photograph ``[E]``."""
        return self.create_image_features([self.ensure_rgb_image(image)], normalize=normalize)[0]

    def create_probabilities(
        self, img_features: Float[Tensor, "B E"], txt_features: Float[Tensor, "E K"]
    ) -> Float[Tensor, "B K"]:
        """Return the softmax over the labels ``[B, K]``."""
        return (self.taxon_model.logit_scale * img_features @ txt_features).softmax(dim=-1)

    def create_probabilities_for_images(
        self, images: Sequence[Photograph], keys: Sequence[str], txt_features: Float[Tensor, "E K"]
    ) -> dict[str, Tensor]:
        """Return the probabilities ``[K]`` of each photograph of a batch, by its key."""
        features = self.create_image_features([self.ensure_rgb_image(image) for image in images])
        probabilities = self.create_probabilities(features, txt_features).detach().cpu()
        return dict(zip(keys, probabilities, strict=True))

    def create_batched_probabilities_for_images(
        self, images: Sequence[Photograph], txt_features: Float[Tensor, "E K"], batch_size: Any,
        callback: Callback | None = None,
    ) -> dict[str, Tensor]:  # fmt: skip
        """Return the probabilities ``[K]`` of all photographs by their keys, without those that cannot be read."""
        found = self._iter_probabilities(images, txt_features, batch_size, callback)
        return {key: probs for key, probs in found if not isinstance(probs, ImageError)}

    def forward(self, x: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B K"]:
        """Return the probabilities of preprocessed pixels; differentiable, for Grad-CAM and similar methods."""
        features = to_unit(self.model.encode_image(x.to(self.device)), dim=-1)  # type: ignore[operator]
        return self.create_probabilities(features, self.get_txt_embeddings().to(features.device))

    def get_txt_embeddings(self) -> Float[Tensor, "E K"]:
        """Return the vectors of the labels that are asked, ``[E, K]``."""
        return self.txt_embeddings

    def get_tol_repo_id(self) -> str:
        """Return the data set that holds the label bank of the model (:func:`get_tol_repo_id`)."""
        return get_tol_repo_id(self.model_str)

    def get_cached_datafile(self, filename: str) -> str:
        """Return the path of a file of the data set that holds the label bank, fetching it if it is not there.

        The published models have a bank each. It is fetched for the two names of the first layout.
        """
        published = find_published(self.model_str)
        if published is not None and TOL_MODELS.get(f"hf-hub:{published.repo}") != published.bank_repo:
            published = None  # a script has named another data set
        if published is not None and Path(filename).name in (ARRAY_FILE, NAMES_FILE):
            array, _ = fetch_published_bank(published)
            return str(array.with_suffix(Path(filename).suffix))
        from huggingface_hub import hf_hub_download

        try:
            return str(hf_hub_download(self.get_tol_repo_id(), filename, repo_type=HF_DATAFILE_REPO_TYPE))
        except ValueError:
            raise
        except Exception as error:  # the hub's client raises many kinds
            where = self.get_tol_repo_id()
            raise LinnaeaError(f"{where}: cannot fetch {filename} ({error}); give labels=...") from error

    def get_txt_emb(self) -> Float[Tensor, "E K"]:
        """Return the vectors of the published label bank, memory-mapped."""
        return torch.from_numpy(np.load(self.get_cached_datafile(f"embeddings/{ARRAY_FILE}"), mmap_mode="c"))

    def get_txt_names(self) -> list[Any]:
        """Return ``[[kingdom .. epithet], common name]`` of each taxon of the published label bank."""
        names: list[Any] = json.loads(Path(self.get_cached_datafile(f"embeddings/{NAMES_FILE}")).read_text("utf-8"))
        return names

    def _iter_probabilities(
        self, images: Sequence[Photograph], txt: Tensor, batch_size: Any, callback: Callback | None
    ) -> Iterator[tuple[str, Any]]:
        """Yield the key of each photograph with its probabilities ``[K]``, or the error of one that cannot be read."""
        at_once = read_whole(batch_size, "batch_size") if batch_size else len(images)
        keys = [self.make_key(image, number) for number, image in enumerate(images)]
        with tqdm(total=len(images), unit="images", disable=callback is not None) as bar:
            for start in range(0, len(images), at_once or 1):
                batch = slice(start, start + at_once)
                found = self._probabilities_of(images[batch], keys[batch], txt)
                yield from ((key, found[key]) for key in keys[batch])
                if callback is None:
                    bar.update(len(keys[batch]))
                else:
                    callback(min(batch.stop, len(images)), len(images))

    def _probabilities_of(self, images: Sequence[Photograph], keys: Sequence[str], txt: Tensor) -> dict[str, Any]:
        """Return :meth:`create_probabilities_for_images`, or the error of each photograph that cannot be read."""
        try:
            return self.create_probabilities_for_images(images, keys, txt)
        except ImageError as error:
            if len(images) == 1:
                return {keys[0]: error}
        alone = (self._probabilities_of([image], [key], txt) for image, key in zip(images, keys, strict=True))
        return {key: value for one in alone for key, value in one.items()}

    def _iter_answered(
        self, images: Sequence[Photograph], batch_size: Any, callback: Callback | None
    ) -> Iterator[tuple[str, Any]]:
        """Yield what :meth:`_iter_probabilities` yields, through an overridden method if there is one."""
        txt, name = self.get_txt_embeddings(), "create_batched_probabilities_for_images"
        if getattr(getattr(self, name), "__func__", None) is getattr(BaseClassifier, name):
            yield from self._iter_probabilities(images, txt, batch_size, callback)
            return
        found = getattr(self, name)(images, txt, batch_size=batch_size, callback=callback)
        yield from ((key, found[key]) for key in (self.make_key(image, n) for n, image in enumerate(images)))


def _state_of(model: torch.nn.Module) -> list[Any]:
    """Return a value that changes if a script changes the weights of a model, or hooks into it.

    The graph of a model (:class:`~linnaea.model.onnx.GraphModel`) knows nothing of either.
    """
    weights = [(id(tensor), tensor._version) for tensor in (*model.parameters(), *model.buffers())]
    return [weights, [(len(module._forward_hooks), len(module._forward_pre_hooks)) for module in model.modules()]]


def as_list(images: Any) -> list[Photograph]:
    """Return photographs as a list; one may be given alone. A path is always a file, never a folder or an address."""
    return [images] if isinstance(images, str | Path | Image.Image) else list(images)


def read_whole(value: Any, name: str) -> int:
    """Return a whole number of at least 1, which may be given as a float (as R does).

    Raises:
        ValueError: the value is something else.
    """
    whole = int(value) if isinstance(value, float) and value.is_integer() else value
    if isinstance(whole, bool) or not isinstance(whole, int | np.integer) or whole < 1:
        raise ValueError(f"{name}={value!r}: must be a whole number of at least 1")
    return int(whole)


def get_tol_classification_labels(rank: Rank) -> list[str]:
    """Return the keys of a taxon's names down to ``rank``."""
    labels = list(RANK_LABELS[: min(rank, Rank.GENUS) + 1])
    return [*labels, SPECIES_EPITHET_LABEL, SPECIES_LABEL, COMMON_NAME_LABEL] if rank == Rank.SPECIES else labels


def create_classification_dict(names: Names, rank: Rank) -> dict[str, str]:
    """Return a taxon's names down to ``rank`` by their keys."""
    lineage, common_name = [name or "" for name in names[0]], names[1] or ""
    if rank != Rank.SPECIES:
        return dict(zip(RANK_LABELS, lineage[: rank + 1], strict=False))
    values = [*lineage, f"{lineage[-2]} {lineage[-1]}".strip(), common_name]
    return dict(zip(get_tol_classification_labels(rank), values, strict=True))


def join_names(classification_dict: Mapping[str, str]) -> str:
    """Return the names of a taxon in one string, which tells groups of a rank apart."""
    return " ".join(classification_dict.values())


class TreeOfLifeClassifier(BaseClassifier):
    """A classifier for the taxa of the published bank, or of ``labels`` (a bank, a data set, a file of names)."""

    def __init__(self, labels: Labels | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._bank: LabelBank | None = None
        if labels is not None or find_own_labels(self.model_str) is not None:
            self._bank = open_labels(self.taxon_model, self.model_str, labels, TextType.TAXON_COM)
        self.txt_names = self.get_txt_names()
        self.txt_embeddings = self.get_txt_emb().to(self.device)
        self._subset_txt_embeddings: Tensor | None = None
        self._subset_txt_names: list[Any] | None = None
        self._kept: Any = None

    def create_probabilities(
        self, img_features: Float[Tensor, "B E"], txt_features: Float[Tensor, "E K"]
    ) -> Float[Tensor, "B K"]:
        """Return the probabilities of the taxa ``[B, K]``, calibrated if the labels or an own model say how."""
        bank = self._kept_bank()
        learned = None if bank is None else read_calibration(bank.facts, self.taxon_model.facts)
        if bank is None or learned is None or txt_features is not self.get_txt_embeddings():
            return super().create_probabilities(img_features, txt_features)
        raw = super().create_probabilities(img_features / learned.temperature, txt_features)
        scale = self.taxon_model.logit_scale / learned.temperature
        images = img_features.cpu().float().numpy()
        return torch.from_numpy(calibrate_probabilities(raw.cpu().numpy(), bank, learned, images, scale))

    def _kept_bank(self) -> LabelBank | None:
        """Return the bank of an own model, of the taxa that the filter keeps; ``None`` for a published model."""
        if self._bank is None or is_published(self.model_str):
            return None
        return self._bank if self._kept is None else keep_rows(self._bank, self._kept)

    def get_txt_emb(self) -> Float[Tensor, "E K"]:
        """Return the vectors of all taxa, ``[E, K]``."""
        if self._bank is None:
            return super().get_txt_emb()
        if self._bank.offsets is not None:
            raise LinnaeaError("labels: the bank was cut, which pybioclip's classes cannot hold; use linnaea.open")
        return torch.from_numpy(np.asarray(self._bank.vectors, np.float32)).T

    def get_txt_names(self) -> list[Any]:
        """Return ``[[kingdom .. epithet], common name]`` of all taxa."""
        if self._bank is None:
            return super().get_txt_names()
        columns = [self._bank.taxa[name].to_list() for name in (*RANK_LABELS, "common_name")]
        return [[list(row[:-1]), row[-1]] for row in zip(*columns, strict=True)]

    def get_txt_embeddings(self) -> Float[Tensor, "E K"]:
        """Return the vectors of the taxa that the filter keeps, ``[E, K]``."""
        return self.txt_embeddings if self._subset_txt_embeddings is None else self._subset_txt_embeddings

    def get_current_txt_names(self) -> list[Any]:
        """Return ``[[kingdom .. epithet], common name]`` of the taxa that the filter keeps."""
        return self.txt_names if self._subset_txt_names is None else self._subset_txt_names

    def get_classification_dict(self, idx: int, rank: Rank) -> dict[str, str]:
        """Return the names of the taxon at a place down to ``rank``."""
        return create_classification_dict(self.get_current_txt_names()[int(idx)], rank)

    def get_label_data(self) -> Any:
        """Return all taxa as a pandas table (polars if pandas is not installed)."""
        keys = get_tol_classification_labels(Rank.SPECIES)
        dicts = [create_classification_dict(names, Rank.SPECIES) for names in self.txt_names]
        columns = {key: [names[key] for names in dicts] for key in keys}
        try:
            import pandas as pd
        except ImportError:
            import polars as pl

            return pl.DataFrame(columns)
        return pd.DataFrame(columns)

    def create_taxa_filter(self, rank: Any, user_values: Any) -> Any:
        """Return which taxa have one of the names at a rank, as a pandas Series (NumPy if pandas is not installed).

        Filters are combined with ``&``, ``|`` and ``~``.

        Raises:
            ValueError: a name is not among the taxa.
        """
        label = _rank(rank).label
        column = self.get_label_data()[label]
        wanted = [user_values] if isinstance(user_values, str) else list(user_values)
        unknown = set(wanted) - set(column)
        if unknown:
            words = ", ".join(value for value in dict.fromkeys(wanted) if value in unknown)
            raise ValueError(f"Unknown {label} received: {words}. Only known {label} may be used.")
        kept = column.isin(wanted) if hasattr(column, "isin") else column.is_in(wanted).to_numpy()
        return kept

    def create_taxa_filter_from_csv(self, csv_path: str | Path) -> Any:
        """Return :meth:`create_taxa_filter` of a table whose first column is named after the rank.

        Raises:
            ValueError: the first column is not named after a rank, or a name is not among the taxa.
        """
        table = read_table(Path(csv_path)).rows
        name = table.columns[0].strip().lower()
        if name not in RANK_LABELS:
            allowed = ",".join(RANK_LABELS)
            raise ValueError(f"The first column of {csv_path} is named '{name}' but must be one of {allowed}.")
        return self.create_taxa_filter(Rank.parse(name), [value for value in table[table.columns[0]] if value])

    def apply_filter(self, keep_labels_ary: Any) -> None:
        """Answer only with the taxa that are marked; ``None`` removes the filter.

        Raises:
            ValueError: the length is not the number of taxa, or no taxon is left.
        """
        if keep_labels_ary is None:
            self._subset_txt_embeddings = self._subset_txt_names = self._kept = None
            return
        kept = np.asarray(keep_labels_ary, bool)
        if len(kept) != len(self.txt_names):
            raise ValueError(f"Invalid filter: it has {len(kept)} values, but there are {len(self.txt_names)} taxa.")
        if not kept.any():
            raise ValueError("Invalid filter: it leaves no taxon.")
        self._kept = np.flatnonzero(kept)
        self._subset_txt_embeddings = self.txt_embeddings[:, torch.from_numpy(self._kept)]
        self._subset_txt_names = [names for names, keep in zip(self.txt_names, kept, strict=True) if keep]

    def format_species_probs(self, image_key: str, probs: Float[Tensor, " K"], k: int = 5) -> list[Row]:
        """Return the rows of the ``k`` likeliest taxa, best first."""
        top = probs.topk(min(k, len(probs)))
        return [
            {PRED_FILENAME_KEY: image_key, **self.get_classification_dict(idx, Rank.SPECIES), PRED_SCORE_KEY: score}
            for idx, score in zip(top.indices.tolist(), top.values.tolist(), strict=True)
        ]

    def format_grouped_probs(
        self, image_key: str, probs: Float[Tensor, " K"], rank: Rank, min_prob: float = 1e-9, k: int = 5
    ) -> list[Row]:
        """Return the rows of the ``k`` likeliest groups of a rank, best first.

        The score of a group is the sum of its taxa's probabilities above ``min_prob``.
        """
        sums: dict[str, float] = defaultdict(float)
        names_of: dict[str, dict[str, str]] = {}
        places = torch.nonzero(probs > min_prob).squeeze(-1)
        for idx, probability in zip(places.tolist(), probs[places].tolist(), strict=True):
            names = self.get_classification_dict(idx, rank)
            group = join_names(names)
            sums[group] += probability
            names_of[group] = names
        likeliest = sorted(sums, key=lambda group: -sums[group])[:k]
        best = (group for group in likeliest if group.strip())  # others have no name at this rank or above
        return [{PRED_FILENAME_KEY: image_key, **names_of[group], PRED_SCORE_KEY: sums[group]} for group in best]

    @torch.no_grad()
    def predict(
        self,
        images: Any,
        rank: Any = Rank.SPECIES,
        min_prob: Any = 1e-9,
        k: Any = 5,
        batch_size: Any = DEFAULT_BATCH_SIZE,
        callback: Callback | None = None,
    ) -> list[Row]:
        """Return each photograph's ``k`` likeliest taxa of a rank, best first.

        Above species rank, the probabilities of species up to ``min_prob`` are left out of the sums.

        Raises:
            ValueError: ``k`` or ``batch_size`` is not a whole number above zero, or names and vectors differ in number.
        """
        many, at, top = as_list(images), _rank(rank), read_whole(k, "k")
        n_names, n_vectors = len(self.get_current_txt_names()), self.get_txt_embeddings().shape[-1]
        if n_names != n_vectors:
            raise ValueError(f"txt_names has {n_names} taxa, but txt_embeddings has {n_vectors}; set both")
        rows: list[Row] = []
        for key, probs in self._iter_answered(many, batch_size, callback):
            if isinstance(probs, ImageError):
                keys = [PRED_FILENAME_KEY, *get_tol_classification_labels(at)]
                rows.append(_failed_row(keys, key, probs))
            elif at == Rank.SPECIES:
                rows += self.format_species_probs(key, probs.cpu(), top)
            else:
                rows += self.format_grouped_probs(key, probs.cpu(), at, min_prob, top)
        self.record_event(many, rank=at.label, min_prob=min_prob, k=top, batch_size=batch_size)
        return rows


def _rank(rank: Any) -> Rank:
    return Rank.parse(rank) if isinstance(rank, str) else Rank(getattr(rank, "value", rank))


def _failed_row(keys: Sequence[str], key: str, error: ImageError) -> Row:
    """Return the row of a photograph that cannot be read: the same keys, and a reason."""
    names = dict.fromkeys(keys, "") | {PRED_FILENAME_KEY: key}
    return {**names, PRED_SCORE_KEY: None, "status": "failed", "reason": str(error)}


class CustomLabelsClassifier(BaseClassifier):
    """A classifier with any words as classes, in OpenAI's 80 templates or in ``templates`` (``{}`` for the word)."""

    def __init__(self, cls_ary: Any, templates: Sequence[str] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.classes = [str(name).strip() for name in ([cls_ary] if isinstance(cls_ary, str) else cls_ary)]
        if not all(self.classes) or not self.classes:
            raise ValueError("give at least one class; names must not be empty")
        self.templates = list(templates or openai_templates())
        self.tokenizer = self.taxon_model.tokenizer
        self.txt_embeddings = self._get_txt_embeddings(self.classes).to(self.device)

    def _get_txt_embeddings(self, classnames: Sequence[str]) -> Float[Tensor, "E K"]:
        return torch.from_numpy(encode_names(self.taxon_model, list(classnames), self.templates)).T

    @torch.no_grad()
    def predict(
        self,
        images: Any,
        k: Any = None,
        batch_size: Any = DEFAULT_BATCH_SIZE,
        callback: Callback | None = None,
    ) -> list[Row]:
        """Return the ``k`` likeliest classes (all, if ``None``) of each photograph, best first.

        Raises:
            ValueError: ``k`` or ``batch_size`` is not a whole number above zero.
        """
        many = as_list(images)
        top = min(len(self.classes) if k is None else read_whole(k, "k"), len(self.classes))
        rows: list[Row] = []
        for key, probs in self._iter_answered(many, batch_size, callback):
            if isinstance(probs, ImageError):
                rows.append(_failed_row([PRED_FILENAME_KEY, PRED_CLASSICATION_KEY], key, probs))
            else:
                rows += self.group_probs(key, probs.cpu(), top)
        self.record_event(many, k=top, batch_size=batch_size)
        return rows

    def group_probs(self, image_key: str, img_probs: Float[Tensor, " K"], k: int) -> list[Row]:
        """Return the rows of the ``k`` likeliest classes, best first; a class that is given twice has two rows."""
        top = img_probs.topk(k)
        named = [(self.classes[idx], score) for idx, score in
                 zip(top.indices.tolist(), top.values.tolist(), strict=True)]  # fmt: skip
        return _class_rows(image_key, named)


def _class_rows(image_key: str, named: Sequence[tuple[Any, float]]) -> list[Row]:
    return [{PRED_FILENAME_KEY: image_key, PRED_CLASSICATION_KEY: name, PRED_SCORE_KEY: score}
            for name, score in named]  # fmt: skip


class CustomLabelsBinningClassifier(CustomLabelsClassifier):
    """A classifier whose classes count towards bins: ``{"dog": "pet", "cat": "pet", "wolf": "wild"}``."""

    def __init__(self, cls_to_bin: Any, **kwargs: Any) -> None:
        if any(map(_is_missing, cls_to_bin.values())):
            raise ValueError("Empty, null, or nan are not allowed for bin values.")
        self.cls_to_bin = dict(cls_to_bin)
        self.bins = list(cls_to_bin.values())
        super().__init__(list(cls_to_bin), **kwargs)

    def group_probs(self, image_key: str, img_probs: Float[Tensor, " K"], k: int) -> list[Row]:
        """Return the rows of the ``k`` likeliest bins, best first; a bin's score is the sum of its classes'."""
        sums: dict[Any, float] = defaultdict(float)
        for name, score in zip(self.bins, img_probs.tolist(), strict=True):
            sums[name] += score
        return _class_rows(image_key, sorted(sums.items(), key=lambda item: -item[1])[:k])


def _is_missing(value: Any) -> bool:
    try:
        return bool(value is None or value != value or not value)  # noqa: PLR0124 - nan
    except TypeError:  # pandas.NA has no truth
        return True


def predict_classification(
    img: Photograph, rank: Rank, device: Any = "cpu", min_prob: float = 1e-9, k: int = 5
) -> list[Row]:
    """Return :meth:`TreeOfLifeClassifier.predict` of one photograph."""
    return TreeOfLifeClassifier(device=device).predict([img], rank, min_prob, k)


def predict_classifications_from_list(img: Photograph, cls_ary: Sequence[str], device: Any = "cpu") -> list[Row]:
    """Return :meth:`CustomLabelsClassifier.predict` of one photograph."""
    return CustomLabelsClassifier(cls_ary, device=device).predict([img])
