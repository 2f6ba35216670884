"""The samples of a shard: a stored photograph with its facts and texts, made alike by build and repair.

A sample is a function of the original's bytes, the record and the build's options, so a repair reproduces the bytes of
the build.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from linnaea.data.images import DEFAULT_SHORT_SIDE, JPEG_QUALITY, Prepared, Resize, prepare, squash
from linnaea.taxonomy.taxon import PHOTO_TEMPLATE, TRAINING_TEXT_TYPES, Taxon, TextType

CAPTION_MEMBERS: dict[str, TextType] = {
    "txt": TextType.TAXON_COM,
    **{f"{text_type}.txt": text_type for text_type in TRAINING_TEXT_TYPES},
}
"""Text members for other trainers: open_clip reads ``txt``, BioCLIP the five others."""


@dataclass(frozen=True, kw_only=True)
class SampleForm:
    """The options that decide the bytes of a sample; the fields are those of the manifest's options."""

    short_side: int = DEFAULT_SHORT_SIDE
    quality: int = JPEG_QUALITY
    resize: Resize = "short-side"
    captions: bool = False

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Self:
        """Return the form in a manifest's options; options missing in an older manifest have their defaults."""
        return cls(**{name: options[name] for name in cls.__dataclass_fields__ if name in options})

    def make_picture(self, data: bytes) -> Prepared:
        """Return the picture that a shard stores for the original ``data``.

        Raises:
            ImageError: the data is not a usable picture.
        """
        if self.resize == "squash-224":
            return squash(data)
        return prepare(data, short_side=self.short_side, quality=self.quality)

    def make_texts(self, taxon: Taxon) -> dict[str, str]:
        """Return the text members of a sample; empty if captions are not stored."""
        return make_texts(taxon) if self.captions else {}


def make_facts(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts of a row of the plan for the sample's JSON."""
    return {"source": record["source"], "record_id": record["record_id"], **json.loads(record["facts"])}


def make_texts(taxon: Taxon) -> dict[str, str]:
    """Return every text member of a sample; each is a non-empty caption in the paper's template."""
    return {name: taxon.caption(text_type, PHOTO_TEMPLATE) for name, text_type in CAPTION_MEMBERS.items()}
