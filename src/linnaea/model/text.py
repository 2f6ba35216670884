"""Encode captions as vectors without work on padding, and without repeated work.

Taxonomic captions fill less than half of CLIP's 77 tokens, a batch holds many pictures with the same caption, and the
captions of related taxa begin alike. All three savings are exact: the text tower is causal, so the state of a token
depends on nothing that follows it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Int32, Int64
from numpy import ndarray
from numpy.typing import NDArray
from open_clip.transformer import ResidualAttentionBlock, text_global_pool
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention

from linnaea.model.tokenizer import RaggedTokens, tokenize_ragged
from linnaea.taxonomy.ranks import Rank
from linnaea.taxonomy.taxon import PHOTO_TEMPLATE, TRAINING_TEXT_TYPES, Taxon, TextType
from linnaea.taxonomy.tree import number_lineages

NODES_AT_ONCE = 4096
"""Tokens that :func:`iter_encoded_tree` takes through the tower at once. More need more memory and are not faster."""
MAX_CAPTIONS_AT_ONCE = 4096
CAPTIONS_OF_LIKE_LENGTH = 128
"""Captions that :func:`encode_by_length` encodes at once."""


@dataclass(frozen=True)
class CausalTower:
    """The parts of a causal text tower that reads its end token; each token sees only itself and what precedes it.

    CLIP's text tower is one, and so are open_clip's towers of that kind. Bidirectional towers, Hugging Face's, CoCa's
    and towers that pool elsewhere are not: they see the padding, and get it.
    """

    token_embedding: nn.Module
    positional_embedding: Float[Tensor, "T W"]
    transformer: Any
    mask: Float[Tensor, "T T"]
    ln_final: nn.Module
    projection: Any

    @classmethod
    def of(cls, clip: Any) -> "CausalTower | None":
        """Return the causal tower of a model, or ``None`` if it has none."""
        tower = getattr(clip, "text", clip)
        pooling = getattr(tower, "pool_type", getattr(tower, "text_pool_type", None))
        if (
            getattr(tower, "attn_mask", None) is None
            or pooling != "argmax"
            or getattr(tower, "cls_emb", None) is not None
        ):
            return None
        return cls(
            tower.token_embedding,
            tower.positional_embedding,
            tower.transformer,
            tower.attn_mask,
            tower.ln_final,
            tower.text_projection,
        )

    @property
    def shares_prefixes(self) -> bool:
        """Tell whether the tower's blocks are CLIP's plain ones, which :func:`iter_encoded_tree` can take apart."""
        return all(
            isinstance(block, ResidualAttentionBlock) and block.attn.in_proj_weight is not None
            for block in self.transformer.resblocks
        )

    def project(self, state_BW: Float[Tensor, "B W"]) -> Float[Tensor, "B E"]:
        """Project the end token's normalised state to the joint space."""
        if self.projection is None:
            return state_BW
        projected: Tensor = (
            self.projection(state_BW) if isinstance(self.projection, nn.Linear) else state_BW @ self.projection
        )
        return projected


def encode_text(clip: Any, tokens_BT: Int[Tensor, "B T"]) -> Float[Tensor, "B E"]:
    """Return the text tower's output (not normalised) for tokens of any length up to the context, padded with 0.

    The output equals open_clip's ``encode_text`` on tokens padded to the context; open_clip 3.3 refuses shorter ones.
    Towers that are not causal (see :class:`CausalTower`) do get the padding.
    """
    tower = CausalTower.of(clip)
    if tower is None:
        missing = getattr(clip, "context_length", tokens_BT.shape[1]) - tokens_BT.shape[1]
        padded: Tensor = clip.encode_text(torch.nn.functional.pad(tokens_BT, (0, missing)))
        return padded
    n_tokens = tokens_BT.shape[1]
    dtype = tower.transformer.get_cast_dtype()
    x = tower.token_embedding(tokens_BT).to(dtype) + tower.positional_embedding[:n_tokens].to(dtype)
    x = tower.ln_final(tower.transformer(x, attn_mask=tower.mask[:n_tokens, :n_tokens]))
    return tower.project(text_global_pool(x, tokens_BT, "argmax"))


def take_rows(value: Float[Tensor, "U ..."], row_of_B: Int[Tensor, " B"]) -> Float[Tensor, "B ..."]:
    """Return ``value[row_of_B]``, with a gradient that is summed in the same order every time on a CPU.

    The gradient of plain indexing is not: several threads add to one row in any order. A gradient that flows through
    repeated rows needs this function.
    """
    return value.index_select(0, row_of_B)


def encode_by_length(clip: Any, tokens_BT: Int[Tensor, "B T"]) -> Float[Tensor, "B E"]:
    """Encode as :func:`encode_text`, but on a CPU in groups of similar length, so that little work goes to padding.

    On other devices one large batch is faster, and so it is for towers that see their padding.
    """
    if tokens_BT.device.type != "cpu" or len(tokens_BT) <= CAPTIONS_OF_LIKE_LENGTH or CausalTower.of(clip) is None:
        return encode_text(clip, tokens_BT)
    lengths_B = tokens_BT.argmax(dim=1) + 1  # the end token has the highest id
    order_B = lengths_B.argsort(stable=True)
    rows_of = torch.split(order_B, CAPTIONS_OF_LIKE_LENGTH)
    parts = [encode_text(clip, tokens_BT[rows, : int(lengths_B[rows].max())]) for rows in rows_of]
    return take_rows(torch.cat(parts), order_B.argsort())


@dataclass(frozen=True)
class _Tree:
    """Sorted captions as a tree of tokens; a node is a token together with all tokens before it.

    A caption *owns* the nodes that the caption before it does not have: those from position ``n_shared`` to its end.
    Nodes are numbered caption by caption, so the nodes of one caption are contiguous.
    """

    tokens_N: Int64[ndarray, " N"]
    positions_N: Int64[ndarray, " N"]
    node_of: Int64[ndarray, "B T"]
    """The node of each caption at each position (for padding: any)."""
    n_shared: Int64[ndarray, " B"]
    n_own: Int64[ndarray, " B"]
    end_nodes: Int64[ndarray, " B"]


def _make_tree(tokens_BT: Int32[ndarray, "B T"], lengths: Int64[ndarray, " B"]) -> _Tree:
    n_captions, n_tokens = tokens_BT.shape
    n_shared = np.zeros(n_captions, np.int64)
    n_shared[1:] = (tokens_BT[1:] != tokens_BT[:-1]).argmax(axis=1)
    places = np.arange(n_tokens)
    own = (places >= n_shared[:, None]) & (places < lengths[:, None])
    numbers = np.where(own, np.cumsum(own.ravel()).reshape(own.shape) - 1, -1)
    # A shared node belongs to the nearest earlier caption that owns this position: its number is the highest so far.
    node_of = np.maximum.accumulate(numbers, axis=0)
    return _Tree(
        tokens_N=tokens_BT[own].astype(np.int64),
        positions_N=np.broadcast_to(places, own.shape)[own],
        node_of=np.maximum(node_of, 0),
        n_shared=n_shared,
        n_own=lengths - n_shared,
        end_nodes=node_of[np.arange(n_captions), lengths - 1],
    )


@dataclass(frozen=True)
class _Group:
    """Captions of a tree with about as many querying nodes each: one rectangular attention."""

    queries: Int[Tensor, "B Q"]
    """Rows of the queries (for padding: any, and never read)."""
    keys: Int[Tensor, "B T"]
    visible: Bool[Tensor, "B 1 Q T"]
    is_real: Bool[Tensor, "B Q"]


def _group_own(tree: _Tree, device: torch.device) -> Iterator[_Group]:
    """Yield groups in which every node queries; own node counts within a group differ by less than half."""
    size = np.ceil(np.log2(np.maximum(tree.n_own, 1)) * 2).astype(np.int64)
    for value in np.unique(size):
        rows = np.flatnonzero(size == value)
        n_shared, n_own = tree.n_shared[rows], tree.n_own[rows]
        queries = np.arange(n_own.max())
        n_keys = int((n_shared + n_own).max())
        positions = np.minimum(n_shared[:, None] + queries, n_keys - 1)
        keys = tree.node_of[rows, :n_keys]
        yield _Group(
            queries=torch.from_numpy(np.take_along_axis(keys, positions, axis=1)).to(device),
            keys=torch.from_numpy(keys).to(device),
            visible=torch.from_numpy((np.arange(n_keys) <= positions[:, :, None])[:, None]).to(device),
            is_real=torch.from_numpy(queries < n_own[:, None]).to(device),
        )


def _group_ends(tree: _Tree, device: torch.device) -> _Group:
    """Return the group in which only the end tokens query, row by row."""
    n_captions, n_tokens = tree.node_of.shape
    visible = np.arange(n_tokens) < (tree.n_shared + tree.n_own)[:, None]
    rows = torch.arange(n_captions, device=device)[:, None]
    return _Group(
        queries=rows,
        keys=torch.from_numpy(tree.node_of).to(device),
        visible=torch.from_numpy(visible[:, None, None]).to(device),
        is_real=torch.ones_like(rows, dtype=torch.bool),
    )


def _attend(
    attention: nn.MultiheadAttention, asking_QW: Tensor, x_NW: Float[Tensor, "N W"], groups: Sequence[_Group]
) -> Float[Tensor, "Q W"]:
    """Compute the attention of the querying rows over the nodes that their groups show them."""
    width = x_NW.shape[1]
    weight, bias = attention.in_proj_weight, attention.in_proj_bias
    query = linear(asking_QW, weight[:width], bias[:width])
    key, value = linear(x_NW, weight[width:], bias[width:]).chunk(2, dim=-1)
    mixed = torch.empty_like(query)

    def heads(states: Tensor, rows: Tensor) -> Tensor:
        return states[rows].view(*rows.shape, attention.num_heads, -1).transpose(1, 2)

    for group in groups:
        out = scaled_dot_product_attention(
            heads(query, group.queries), heads(key, group.keys), heads(value, group.keys), attn_mask=group.visible
        )
        mixed[group.queries[group.is_real]] = out.transpose(1, 2).flatten(2)[group.is_real]
    return linear(mixed, attention.out_proj.weight, attention.out_proj.bias)


def _encode_tree(tower: CausalTower, tree: _Tree) -> Float[Tensor, "B E"]:
    device = tower.positional_embedding.device
    dtype = tower.transformer.get_cast_dtype()
    tokens, positions = torch.from_numpy(tree.tokens_N).to(device), torch.from_numpy(tree.positions_N).to(device)
    x = tower.token_embedding(tokens).to(dtype) + tower.positional_embedding[positions].to(dtype)
    *blocks, last = tower.transformer.resblocks
    groups = list(_group_own(tree, device))
    for block in blocks:
        normed = block.ln_1(x)
        x = x + block.ls_1(_attend(block.attn, normed, normed, groups))
        x = x + block.ls_2(block.mlp(block.ln_2(x)))
    # In the last block only the end tokens are read.
    ends = torch.from_numpy(tree.end_nodes).to(device)
    normed = last.ln_1(x)
    x = x[ends] + last.ls_1(_attend(last.attn, normed[ends], normed, [_group_ends(tree, device)]))
    x = x + last.ls_2(last.mlp(last.ln_2(x)))
    return tower.project(tower.ln_final(x))


def iter_encoded_tree(
    clip: Any, tokens: RaggedTokens, *, nodes_at_once: int = NODES_AT_ONCE
) -> Iterator[tuple[Int64[ndarray, " B"], Float[Tensor, "B E"]]]:
    """Encode captions, each shared beginning once; yield rows and their vectors (not normalised), in sorted order.

    The captions are sorted and cut into stretches. A stretch is a tree of tokens whose nodes go through each layer
    together, each attending to its ancestors. The result equals encoding every caption alone, up to the order of sums,
    for a :class:`CausalTower`; other towers encode captions plainly. Each distinct row of tokens is encoded once.
    """
    if not len(tokens):
        return
    tower = CausalTower.of(clip)
    if tower is None or not tower.shares_prefixes:
        yield from _iter_encoded_plainly(clip, tokens)
        return
    padded = tokens.padded().astype(np.int32)
    order = np.argsort(padded.astype(">u4").view(f"S{4 * padded.shape[1]}").ravel(), kind="stable")
    differs = np.ones(len(order), bool)
    differs[1:] = (padded[order[1:]] != padded[order[:-1]]).any(axis=1)
    firsts = np.flatnonzero(differs)
    rows, copies = order[firsts], np.split(order, firsts[1:])
    lengths = tokens.lengths[rows]
    for begin, end in _stretches(padded[rows], lengths, nodes_at_once):
        part = slice(begin, end)
        tree = _make_tree(padded[rows[part], : lengths[part].max()], lengths[part])
        vectors = _encode_tree(tower, tree)
        counts = torch.tensor([len(same) for same in copies[part]], device=vectors.device)
        yield np.concatenate(copies[part]), vectors.repeat_interleave(counts, dim=0)


def _stretches(
    padded: Int32[ndarray, "B T"],
    lengths: Int64[ndarray, " B"],
    nodes_at_once: int,
) -> Iterator[tuple[int, int]]:
    """Cut sorted captions so that each stretch has about ``nodes_at_once`` nodes."""
    n_own = lengths.copy()
    n_own[1:] -= (padded[1:] != padded[:-1]).argmax(axis=1)
    total = np.cumsum(n_own)
    begin = 0
    while begin < len(lengths):
        before = total[begin] - lengths[begin]  # the first of a stretch owns all its nodes
        end = max(int(np.searchsorted(total, before + nodes_at_once, side="right")), begin + 1)
        end = min(end, begin + MAX_CAPTIONS_AT_ONCE)
        yield begin, end
        begin = end


_PLAIN_BATCH = 256


def _iter_encoded_plainly(clip: Any, tokens: RaggedTokens) -> Iterator[tuple[Any, Tensor]]:
    device = next(clip.parameters()).device
    order = np.argsort(tokens.lengths, kind="stable")
    for start in range(0, len(order), _PLAIN_BATCH):
        rows = order[start : start + _PLAIN_BATCH]
        yield rows, encode_text(clip, torch.from_numpy(tokens.padded(rows)).to(device))


@dataclass(frozen=True)
class TokenTable:
    """The captions of all taxa, each tokenised once; training reads this table instead of calling a tokenizer.

    ``caption_of[taxon, text type]`` is the number of a distinct caption. The table also holds each taxon's lineage.
    """

    text_types: tuple[TextType, ...]
    caption_of: Int32[ndarray, "K types"]
    captions: RaggedTokens
    lineage_of: Int32[ndarray, "K ranks"]
    """The number of the taxon's ancestor at each rank, counted from 0 in the order of the taxa; -1: no name."""
    rank_caption_of: Int32[ndarray, "K ranks"] | None = None
    """The caption of the ancestor at each rank (its lineage down to it), if requested; -1: none."""

    @property
    def n_captions(self) -> int:
        return len(self.captions)

    @property
    def n_truncated(self) -> int:
        """Return how many distinct captions exceed the context; they keep its first tokens and the end token."""
        return self.captions.n_truncated

    def batch(
        self, taxon_ids: NDArray[np.integer[Any]], text_types: NDArray[np.integer[Any]]
    ) -> tuple[Int[Tensor, "U T"], Int[Tensor, " B"]]:
        """Return the distinct captions of a batch, trimmed to the longest, and for each sample the row of its caption.

        ``text_types`` are positions in :attr:`text_types`.
        """
        return self.distinct(self.caption_of[taxon_ids, text_types])

    def distinct(self, captions: NDArray[np.integer[Any]]) -> tuple[Int[Tensor, "U T"], Int[Tensor, " B"]]:
        """Return the tokens of the distinct captions among these numbers, and for each number its row in them."""
        numbers, inverse = np.unique(captions, return_inverse=True)
        return torch.from_numpy(self.captions.padded(numbers)), torch.from_numpy(inverse.astype(np.int64))


def make_token_table(
    tokenizer: Any,
    taxa: Sequence[Taxon],
    text_types: Sequence[TextType] = TRAINING_TEXT_TYPES,
    *,
    with_ranks: bool = False,
) -> TokenTable:
    """Tokenise the captions of all taxa in all text types, each distinct caption once.

    ``with_ranks`` adds the captions of the ancestors at every rank.
    """
    numbers: dict[str, int] = {}
    caption_of = np.empty((len(taxa), len(text_types)), np.int32)
    for row, taxon in enumerate(taxa):
        for column, text_type in enumerate(text_types):
            caption_of[row, column] = numbers.setdefault(taxon.caption(text_type, PHOTO_TEMPLATE), len(numbers))
    lineage_of = number_lineages(taxon.lineage for taxon in taxa)
    rank_caption_of = None
    if with_ranks:
        rank_caption_of = np.full(lineage_of.shape, -1, np.int32)
        for row, column in zip(*np.nonzero(lineage_of >= 0), strict=True):
            caption = taxa[row].at(Rank(column)).caption(TextType.TAXON, PHOTO_TEMPLATE)
            rank_caption_of[row, column] = numbers.setdefault(caption, len(numbers))
    return TokenTable(
        tuple(text_types), caption_of, tokenize_ragged(tokenizer, list(numbers)), lineage_of, rank_caption_of
    )
