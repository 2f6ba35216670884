"""Captions to tokens to vectors, with no work on padding and none done twice.

Taxonomic captions fill less than half of CLIP's 77 tokens, and a batch holds many pictures of one caption. Both
savings are exact: the text tower is causal, so what follows the end token cannot change it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from open_clip.model import CLIP
from open_clip.transformer import text_global_pool
from torch import Tensor

from linnaea.taxonomy.taxon import PHOTO_TEMPLATE, TRAINING_TEXT_TYPES, Taxon, TextType


def tokenize(tokenizer: Any, captions: Sequence[str]) -> Int[Tensor, "K T"]:
    """Token ids, padded with 0 to the longest caption only; too long ones end with the end token."""
    tokens: Tensor = tokenizer(list(captions))
    lengths = (tokens != 0).sum(dim=1)
    return tokens[:, : max(int(lengths.max()), 1)] if len(captions) else tokens


def can_trim(clip: Any) -> bool:
    """Whether captions may be cut to the batch's longest: a causal tower that reads the end token's place.

    Bidirectional towers and Hugging Face's see the padding; they get their full context.
    """
    return isinstance(clip, CLIP) and clip.attn_mask is not None and clip.text_pool_type == "argmax"


def encode_text(clip: Any, tokens_BT: Int[Tensor, "B T"]) -> Float[Tensor, "B E"]:
    """The text tower's output (not normalised) for tokens of any length up to the context.

    Equal to open_clip's ``encode_text`` on the padded tokens, which refuses shorter ones (3.3).
    """
    if not can_trim(clip):
        missing = getattr(clip, "context_length", tokens_BT.shape[1]) - tokens_BT.shape[1]
        padded: Tensor = clip.encode_text(torch.nn.functional.pad(tokens_BT, (0, missing)))
        return padded
    n_tokens = tokens_BT.shape[1]
    dtype = clip.transformer.get_cast_dtype()
    x = clip.token_embedding(tokens_BT).to(dtype) + clip.positional_embedding[:n_tokens].to(dtype)
    x = clip.ln_final(clip.transformer(x, attn_mask=clip.attn_mask[:n_tokens, :n_tokens]))
    x = text_global_pool(x, tokens_BT, clip.text_pool_type)
    projection = clip.text_projection
    if projection is not None:
        x = projection(x) if isinstance(projection, torch.nn.Linear) else x @ projection
    features: Tensor = x
    return features


@dataclass(frozen=True)
class TokenTable:
    """Every caption of every taxon, tokenised once: what training reads instead of a tokenizer.

    ``caption_of[taxon, text type]`` is the number of a distinct caption; its tokens are
    ``tokens[starts[number] : starts[number + 1]]``.
    """

    text_types: tuple[TextType, ...]
    caption_of: NDArray[np.int32]
    tokens: NDArray[np.int32]
    starts: NDArray[np.int64]

    @property
    def n_captions(self) -> int:
        return len(self.starts) - 1

    def batch(
        self, taxon_ids: NDArray[np.integer[Any]], text_types: NDArray[np.integer[Any]]
    ) -> tuple[Int[Tensor, "U T"], Int[Tensor, "B"]]:  # noqa: F821
        """The distinct captions of a batch, trimmed to its longest, and for each sample which one is its own.

        ``text_types`` are positions in :attr:`text_types`.
        """
        numbers, inverse = np.unique(self.caption_of[taxon_ids, text_types], return_inverse=True)
        lengths = self.starts[numbers + 1] - self.starts[numbers]
        tokens = np.zeros((len(numbers), int(lengths.max())), np.int64)
        for row, (number, length) in enumerate(zip(numbers, lengths, strict=True)):
            tokens[row, :length] = self.tokens[self.starts[number] : self.starts[number] + length]
        return torch.from_numpy(tokens), torch.from_numpy(inverse.astype(np.int64))


def make_token_table(
    tokenizer: Any,
    taxa: Sequence[Taxon],
    text_types: Sequence[TextType] = TRAINING_TEXT_TYPES,
    template: str = PHOTO_TEMPLATE,
) -> TokenTable:
    """Tokenise the captions of all taxa in all text types, each distinct caption once."""
    numbers: dict[str, int] = {}
    caption_of = np.empty((len(taxa), len(text_types)), np.int32)
    for row, taxon in enumerate(taxa):
        for column, text_type in enumerate(text_types):
            caption_of[row, column] = numbers.setdefault(taxon.caption(text_type, template), len(numbers))
    ragged: list[NDArray[np.int32]] = []
    captions = list(numbers)
    for start in range(0, len(captions), 4096):
        ids = tokenizer(captions[start : start + 4096]).numpy().astype(np.int32)
        ragged.extend(row[: np.count_nonzero(row)] for row in ids)
    starts = np.concatenate([[0], np.cumsum([len(row) for row in ragged])]).astype(np.int64)
    tokens = np.concatenate(ragged) if ragged else np.empty(0, np.int32)
    return TokenTable(tuple(text_types), caption_of, tokens, starts)
