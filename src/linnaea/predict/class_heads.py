"""Class heads: what a model trained with cross-entropy answers with, in place of captions.

Each rank's head is a label bank in the model's folder, ``heads/<rank>``: the taxa it was trained on and its weights.
Their products with an image's unit vector, times the model's logit scale, are the logits of training.
"""

from pathlib import Path

from linnaea.model.folders import LABELS_FOLDER, find_model_folder
from linnaea.predict.labels import FACTS_FILE, TAXA_FILE, LabelBank
from linnaea.taxonomy.ranks import Rank

HEADS_FOLDER = "heads"
CLASS_HEAD = "class head"
"""The ``text_type`` of a bank that is one."""


def load_class_heads(model: str | Path) -> dict[Rank, LabelBank]:
    """The heads of a model folder (or of the run around it); none for a model that knows captions.

    Raises:
        LinnaeaError: a head is broken.
    """
    folder = find_model_folder(str(model))
    places = {} if folder is None else {rank: folder / HEADS_FOLDER / rank.label for rank in Rank}
    return {rank: LabelBank.open(place) for rank, place in places.items() if (place / FACTS_FILE).exists()}


def find_own_labels(model: str) -> Path | None:
    """What a model brings to answer with: its head for species, or its label bank, or its taxa."""
    folder = find_model_folder(model)
    if folder is None:
        return None
    for place in (folder / HEADS_FOLDER / Rank.SPECIES.label, folder / LABELS_FOLDER):
        if (place / FACTS_FILE).exists():
            return place
    return folder if (folder / TAXA_FILE).exists() else None
