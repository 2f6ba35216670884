"""Class heads: what a model trained with cross-entropy answers with, in place of captions.

Each rank's head is a label bank in the model's folder, ``heads/<rank>``: the taxa it was trained on and its weights.
Their products with an image's unit vector, times the model's logit scale, are the logits of training.
"""

from pathlib import Path

from linnaea.predict.labels import FACTS_FILE, LabelBank
from linnaea.taxonomy.ranks import Rank

HEADS_FOLDER = "heads"


def load_class_heads(model: str | Path) -> dict[Rank, LabelBank]:
    """The heads of a model folder (or of the run around it); none for a model that knows captions.

    Raises:
        LinnaeaError: a head is broken.
    """
    for folder in (Path(model), Path(model) / "model"):
        if (folder / HEADS_FOLDER).is_dir():
            places = {rank: folder / HEADS_FOLDER / rank.label for rank in Rank}
            return {rank: LabelBank.open(place) for rank, place in places.items() if (place / FACTS_FILE).exists()}
    return {}


def find_species_head(model: str | Path) -> Path | None:
    """The folder of the head for species, if the model has one."""
    places = (Path(model) / HEADS_FOLDER, Path(model) / "model" / HEADS_FOLDER)
    return next((place / "species" for place in places if (place / "species" / FACTS_FILE).exists()), None)
