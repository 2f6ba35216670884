"""Trimming, sharing of captions and sharing of beginnings change nothing but the time it takes."""

import dataclasses
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.model import CustomTextCLIP
from open_clip.tokenizer import SimpleTokenizer

from linnaea.model.create import ModelConfig, make_model
from linnaea.model.load import TaxonModel
from linnaea.model.text import (
    CAPTIONS_OF_LIKE_LENGTH,
    CausalTower,
    encode_by_length,
    encode_text,
    iter_encoded_tree,
    make_token_table,
    take_rows,
)
from linnaea.model.tokenizer import (
    RaggedTokens,
    make_tokenizer,
    tokenize_ragged,
    train_bpe,
    vocabulary_size,
)
from linnaea.taxonomy.taxon import PHOTO_TEMPLATE, TRAINING_TEXT_TYPES, Taxon, TextType

CLIP_TOKENIZER = SimpleTokenizer()


def full_context(tokens: RaggedTokens, context_length: int) -> torch.Tensor:
    padded = tokens.padded()
    return torch.from_numpy(np.pad(padded, ((0, 0), (0, context_length - padded.shape[1]))))


def all_captions(taxa: list[Taxon]) -> list[str]:
    return [taxon.caption(text_type, PHOTO_TEMPLATE) for text_type in TextType for taxon in taxa]


def encode_tree(clip: Any, tokens: RaggedTokens, width: int, **options: int) -> torch.Tensor:
    vectors = torch.full((len(tokens), width), torch.nan, dtype=clip.positional_embedding.dtype)
    for rows, features in iter_encoded_tree(clip, tokens, **options):
        assert vectors[rows].isnan().all(), "every row comes once"
        vectors[rows] = features
    return vectors


# --- tokens


WORDS = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(
    ["<end_of_text>", "&amp;", "it's", "!?", "!!x", "Ã©", "œ", "\t", "a\u00a0b", "3", "Ⅷ"]
)


@given(st.lists(st.lists(WORDS, max_size=8).map(" ".join), max_size=6))
@settings(max_examples=200, deadline=None)
def test_tokens_are_open_clips(texts: list[str]) -> None:
    expected = CLIP_TOKENIZER(texts) if texts else torch.zeros((0, 77))
    got = tokenize_ragged(CLIP_TOKENIZER, texts)
    assert len(got) == len(texts)
    for row, full, length in zip(got.padded(), expected, got.lengths, strict=True):
        end = int(full.argmax())  # what follows the first end token, the tower does not read
        assert length == end + 1
        assert row[: end + 1].tolist() == full[: end + 1].tolist()
        assert not row[end + 1 :].any()


def test_long_captions_are_cut_as_open_clip_does_and_counted() -> None:
    texts = ["the " * 100, "the", "the " * 75, "the " * 76]
    tokens = tokenize_ragged(CLIP_TOKENIZER, texts)
    assert tokens.n_truncated == 2
    assert tokens.padded().tolist() == CLIP_TOKENIZER(texts).tolist()


def test_other_tokenizers_keep_their_padding() -> None:
    def padded_with_one(texts: list[str]) -> torch.Tensor:
        return torch.tensor([[5, 6, 1, 1]] * len(texts))

    assert tokenize_ragged(padded_with_one, ["a", "b"]).padded().tolist() == [[5, 6, 1, 1]] * 2
    canonical = SimpleTokenizer(clean="canonicalize")
    assert tokenize_ragged(canonical, ["Abies, alba!"]).padded().tolist() == canonical(["Abies, alba!"]).tolist()


# --- vocabularies


def test_a_trained_vocabulary_is_open_clips_format() -> None:
    texts = ["Pica pica", "Pica hudsonia", "Weißtanne", "Abies alba 'Pendula'"] * 3
    bpe = train_bpe(texts, 40)
    tokenizer = make_tokenizer(bpe, 32)
    assert tokenizer.eot_token_id == vocabulary_size(bpe) - 1, "the end token has the highest id"
    assert tokenizer.sot_token_id == vocabulary_size(bpe) - 2
    assert tokenizer.decode(tokenizer.encode("Weißtanne pica")).strip() == "weißtanne pica"
    assert len(tokenizer.encode("pica")) == 1 < len(make_tokenizer(train_bpe(texts, 0), 32).encode("pica"))
    assert train_bpe(reversed(texts), 40) == bpe, "the order of the texts does not matter"


def naive_bpe(words: dict[tuple[str, ...], int], n_merges: int) -> list[tuple[str, str]]:
    """The definition: count all pairs anew before each merge."""
    merges = []
    for _ in range(n_merges):
        counts: dict[tuple[str, str], int] = {}
        for word, count in words.items():
            for pair in pairwise(word):
                counts[pair] = counts.get(pair, 0) + count
        if not counts:
            break
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        merges.append(best)
        merged: dict[tuple[str, ...], int] = {}
        for word, count in words.items():
            joined: list[str] = []
            for symbol in word:
                if joined and (joined[-1], symbol) == best and not joined[-1].startswith("\0"):
                    joined[-1] = "\0" + joined[-1] + symbol  # a marker: this one is not merged twice
                else:
                    joined.append(symbol)
            key = tuple(symbol.removeprefix("\0") for symbol in joined)
            merged[key] = merged.get(key, 0) + count
        words = merged
    return merges


@given(st.lists(st.text("abc", min_size=1, max_size=9), min_size=1, max_size=12), st.integers(0, 25))
@settings(max_examples=150, deadline=None)
def test_merges_are_those_of_the_definition(words: list[str], n_merges: int) -> None:
    import gzip

    counted: dict[tuple[str, ...], int] = {}
    for word in words:
        key = (*word[:-1], word[-1] + "</w>")
        counted[key] = counted.get(key, 0) + 1
    lines = gzip.decompress(train_bpe(words, n_merges)).decode().split("\n")[1:]
    assert [tuple(line.split()) for line in lines] == naive_bpe(counted, n_merges)


# --- trimmed encoding


def test_trimming_is_exact_with_gradients(model: TaxonModel, taxa: list[Taxon]) -> None:
    clip = model.clip.double().train()
    tokens = tokenize_ragged(model.tokenizer, all_captions(taxa))
    assert tokens.lengths.max() < 77, "otherwise there is nothing to trim"
    gradients = []
    weights = torch.rand(len(tokens), 32, dtype=torch.float64)
    for text in (full_context(tokens, 77), torch.from_numpy(tokens.padded())):
        clip.zero_grad()
        out = clip.encode_text(text) if text.shape[1] == 77 else encode_text(clip, text)  # type: ignore[operator]
        (out * weights).sum().backward()
        gradients.append((out.detach(), [p.grad.clone() for p in clip.parameters() if p.grad is not None]))
    torch.testing.assert_close(gradients[1][0], gradients[0][0], rtol=0, atol=1e-10)
    for got, expected in zip(gradients[1][1], gradients[0][1], strict=True):
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-10)


def test_trimming_is_exact_in_float32(model: TaxonModel, taxa: list[Taxon]) -> None:
    tokens = tokenize_ragged(model.tokenizer, all_captions(taxa))
    with torch.no_grad():
        expected = model.clip.encode_text(full_context(tokens, 77))  # type: ignore[operator]
        got = encode_text(model.clip, torch.from_numpy(tokens.padded()))
    assert (got - expected).abs().max() < 1e-6


def test_captions_of_like_length_are_the_same_captions(model: TaxonModel, taxa: list[Taxon]) -> None:
    """Values and gradients, in the order they were given in, with less on padding."""
    clip: Any = model.clip.double()
    tokens = torch.from_numpy(tokenize_ragged(model.tokenizer, all_captions(taxa)).padded())
    tokens = tokens.repeat(2 * CAPTIONS_OF_LIKE_LENGTH // len(tokens) + 1, 1)[: 2 * CAPTIONS_OF_LIKE_LENGTH + 5]
    tokens = tokens[torch.randperm(len(tokens), generator=torch.Generator().manual_seed(0))]
    widths: list[int] = []
    hook = clip.transformer.register_forward_hook(lambda _, inputs, __: widths.append(inputs[0].shape[1]))
    results = []
    for encode in (encode_text, encode_by_length):
        clip.zero_grad()
        features = encode(clip, tokens)
        weights = torch.linspace(-1, 1, features.numel(), dtype=torch.float64).view_as(features)
        (features * weights).sum().backward()
        results.append((features.detach(), [p.grad.clone() for p in clip.parameters() if p.grad is not None]))
    hook.remove()
    (plain, plain_gradients), (grouped, grouped_gradients) = results
    assert torch.allclose(plain, grouped, rtol=1e-10, atol=1e-12)
    for one, other in zip(plain_gradients, grouped_gradients, strict=True):
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-11)
    assert len(widths) == 4 and widths[1] < widths[2] <= widths[3] == widths[0]


def test_a_bidirectional_tower_gets_its_full_context(tiny_config: ModelConfig, bpe: bytes, taxa: list[Taxon]) -> None:
    text = dataclasses.replace(tiny_config.text, no_causal_mask=True)
    model = make_model(dataclasses.replace(tiny_config, text=text), bpe)
    tokens = tokenize_ragged(model.tokenizer, all_captions(taxa))
    assert CausalTower.of(model.clip) is None
    with torch.no_grad():
        expected = model.clip.encode_text(full_context(tokens, 77))  # type: ignore[operator]
        torch.testing.assert_close(encode_text(model.clip, torch.from_numpy(tokens.padded())), expected)
        torch.testing.assert_close(encode_tree(model.clip, tokens, 32), expected)


# --- shared beginnings


def make_custom(tiny_config: ModelConfig, bpe: bytes, **text: Any) -> Any:
    cfg = tiny_config.as_open_clip(vocabulary_size(bpe))
    cfg["text_cfg"] |= text
    return CustomTextCLIP(**cfg)


TOWERS: dict[str, Callable[[TaxonModel, ModelConfig, bytes], Any]] = {
    "clip": lambda model, config, bpe: model.clip,
    "custom text": lambda model, config, bpe: make_custom(config, bpe),
    "layer scale, projection with bias": lambda model, config, bpe: make_custom(
        config, bpe, ls_init_value=0.5, proj_bias=True
    ),
    "no projection": lambda model, config, bpe: make_custom(config, bpe, proj_type="none"),
    "other blocks": lambda model, config, bpe: make_custom(config, bpe, qk_norm=True),  # trimmed, not shared
    "pools the last": lambda model, config, bpe: make_custom(config, bpe, pool_type="last"),  # full context
    "class token": lambda model, config, bpe: make_custom(config, bpe, embed_cls=True, pad_id=0),  # full context
}
SHARED = {"clip", "custom text", "layer scale, projection with bias", "no projection"}


@pytest.mark.parametrize("kind", TOWERS)
@pytest.mark.parametrize("nodes_at_once", [1, 40, 4096])
def test_the_tree_is_exact_for_every_kind_of_tower(
    kind: str, nodes_at_once: int, model: TaxonModel, tiny_config: ModelConfig, bpe: bytes, taxa: list[Taxon]
) -> None:
    clip = TOWERS[kind](model, tiny_config, bpe).eval().double()
    clip.positional_embedding = getattr(clip, "positional_embedding", torch.zeros((), dtype=torch.float64))
    tower = CausalTower.of(clip)
    assert (tower is not None and tower.shares_prefixes) == (kind in SHARED)
    tokens = tokenize_ragged(model.tokenizer, all_captions(taxa))
    with torch.no_grad():
        expected = clip.encode_text(full_context(tokens, 77))
        got = encode_tree(clip, tokens, expected.shape[1], nodes_at_once=nodes_at_once)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-10)


@given(
    rows=st.lists(st.lists(st.integers(0, 2), max_size=6), min_size=1, max_size=30),
    nodes_at_once=st.integers(1, 60),
)
@settings(max_examples=40, deadline=None)
def test_the_tree_is_exact_for_any_tokens(rows: list[list[int]], nodes_at_once: int) -> None:
    """Few letters make many shared beginnings, duplicates, and tokens 0 that look like padding."""
    torch.manual_seed(0)
    cfg = {"context_length": 9, "vocab_size": 5, "width": 16, "heads": 2, "layers": 2}
    clip = open_clip.model.CLIP(8, {"layers": 1, "width": 16, "head_width": 16, "image_size": 8, "patch_size": 8}, cfg)
    clip = clip.eval().double()
    captions = [[3, *row, 4] for row in rows]
    starts = np.cumsum([0, *map(len, captions)])
    tokens = RaggedTokens(np.concatenate(captions).astype(np.int32), starts.astype(np.int64), 0)
    with torch.no_grad():
        expected = clip.encode_text(full_context(tokens, 9))
        got = encode_tree(clip, tokens, 8, nodes_at_once=nodes_at_once)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-10)


def test_the_tree_is_exact_to_1e_5_in_float32_and_shares_its_work(model: TaxonModel, taxa: list[Taxon]) -> None:
    tokens = tokenize_ragged(model.tokenizer, all_captions(taxa))
    rows_through_mlp: list[int] = []
    hook = model.clip.transformer.resblocks[0].mlp.register_forward_hook(  # type: ignore[union-attr, operator, index]
        lambda module, inputs, output: rows_through_mlp.append(inputs[0].shape[0])
    )
    with torch.no_grad():
        got = encode_tree(model.clip, tokens, 32)
        hook.remove()
        expected = model.clip.encode_text(full_context(tokens, 77))  # type: ignore[operator]
    assert (got - expected).abs().max() < 1e-5
    beginnings = {tuple(row[: n + 1]) for row, length in zip(tokens.padded(), tokens.lengths, strict=True)
                  for n in range(length)}  # fmt: skip
    assert sum(rows_through_mlp) == len(beginnings), "each distinct beginning goes through the tower once"


def test_gradients_flow_through_the_tree(model: TaxonModel, taxa: list[Taxon]) -> None:
    clip = model.clip.double()
    tokens = tokenize_ragged(model.tokenizer, all_captions(taxa)[:12])
    gradients = []
    for encode in (
        lambda: clip.encode_text(full_context(tokens, 77)).square().sum(),  # type: ignore[operator]
        lambda: sum(features.square().sum() for _, features in iter_encoded_tree(clip, tokens)),
    ):
        clip.zero_grad()
        encode().backward()
        gradients.append([p.grad.clone() for p in clip.parameters() if p.grad is not None])
    for got, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-9)


def test_no_captions_are_no_work(model: TaxonModel) -> None:
    assert list(iter_encoded_tree(model.clip, tokenize_ragged(model.tokenizer, []))) == []


# --- rows


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize(("n_rows", "shape"), [(256, (100, 512)), (1024, (100, 512)), (60_000, (100,))])
def test_the_gradient_of_rows_that_repeat_is_the_same_every_time(n_rows: int, shape: tuple[int, ...]) -> None:
    """``value[rows]`` has the same values, but its gradient differs from run to run at these sizes."""
    generator = torch.Generator().manual_seed(0)
    value = torch.randn(shape, generator=generator, requires_grad=True)
    rows = torch.randint(0, len(value), (n_rows,), generator=generator)
    asked = torch.randn(n_rows, *shape[1:], generator=generator)
    taken = take_rows(value, rows)
    assert torch.equal(taken, value[rows])
    (first,) = torch.autograd.grad(taken, value, asked)
    exact = torch.zeros(shape, dtype=torch.float64).index_add(0, rows, asked.double())
    assert torch.allclose(first.double(), exact, rtol=0, atol=1e-3)
    for _ in range(50):
        assert torch.equal(torch.autograd.grad(take_rows(value, rows), value, asked)[0], first)


# --- the table


def test_a_batch_of_the_table_is_what_the_tokenizer_says(model: TaxonModel, taxa: list[Taxon]) -> None:
    table = make_token_table(model.tokenizer, taxa)
    rng = np.random.default_rng(0)
    taxon_ids, text_types = rng.integers(len(taxa), size=64), rng.integers(len(TRAINING_TEXT_TYPES), size=64)
    tokens, inverse = table.batch(taxon_ids, text_types)
    captions = [
        taxa[taxon].caption(TRAINING_TEXT_TYPES[text_type], PHOTO_TEMPLATE)
        for taxon, text_type in zip(taxon_ids, text_types, strict=True)
    ]
    expected = model.tokenizer(captions)
    got = tokens[inverse]
    assert torch.equal(got, expected[:, : got.shape[1]])
    assert not expected[:, got.shape[1] :].any()
    assert (got[:, -1] != 0).any(), "trimmed to the longest"
    assert len(tokens) == len(set(captions)), "each distinct caption once"
    assert table.n_captions == len({t.caption(tt, PHOTO_TEMPLATE) for t in taxa for tt in TRAINING_TEXT_TYPES})


def test_the_table_counts_what_does_not_fit(bpe: bytes, taxa: list[Taxon]) -> None:
    table = make_token_table(make_tokenizer(bpe, 8), taxa)
    tokens, _ = table.batch(np.arange(len(taxa)), np.zeros(len(taxa), np.int64))
    assert tokens.shape[1] == 8
    assert 0 < table.n_truncated <= table.n_captions
    assert (tokens.max(dim=1).values == vocabulary_size(bpe) - 1).all(), "cut captions keep the end token"
