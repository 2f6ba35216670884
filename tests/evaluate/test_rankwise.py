"""The four ways to answer at a rank are those of a naive reading of their definitions."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from linnaea.data.shards import make_taxa_table, taxa_from_table
from linnaea.evaluate.rankwise import WAYS, encode_ranks, make_prototypes, rank_rows, score_by_rank
from linnaea.model.encoder import Encoder
from linnaea.model.preprocess import Preprocess
from linnaea.predict.labels import LabelBank
from linnaea.taxonomy.ranks import Rank
from linnaea.taxonomy.taxon import Taxon, TextType

WIDTH = 12


class HashedWords(Encoder):
    """A caption's vector is the sum of its words' vectors, so that captions of relatives are near."""

    name, preprocess, facts = "words", Preprocess(image_size=8), {}

    @property
    def fingerprint(self) -> str:
        return "words"

    @property
    def width(self) -> int:
        return WIDTH

    @property
    def logit_scale(self) -> float:
        return 20.0

    def encode_pixels(self, pixels_BCHW: Any, *, unit: bool = True) -> Any:
        raise NotImplementedError

    def encode_captions(self, captions: Sequence[str], on_progress: Callable[[int, int | None], None]) -> Any:
        vectors = np.stack([sum(word_vector(word) for word in caption.split()) for caption in captions])
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def word_vector(word: str) -> np.ndarray:
    return np.random.default_rng(abs(hash_of(word))).normal(size=WIDTH)


def hash_of(word: str) -> int:
    return sum((place + 1) * 31**place * ord(letter) for place, letter in enumerate(word)) % 2**32


TAXA = make_taxa_table(
    [
        Taxon.of({"kingdom": "A", "class": "" if c == 2 else f"C{c}", "family": f"F{c}{f}", "genus": f"G{c}{f}{g}",
                  "species": f"s{s}"})
        for c in range(3) for f in range(2) for g in range(2) for s in range(2)
    ]
)  # fmt: skip


@pytest.fixture
def asked() -> tuple[HashedWords, LabelBank, np.ndarray, list[Taxon]]:
    model = HashedWords()
    taxa = taxa_from_table(TAXA)
    vectors = model.encode_captions([taxon.caption(TextType.TAXON) for taxon in taxa], lambda *_: None)
    bank = LabelBank(TAXA, vectors, {"text_type": "taxon"})
    rng = np.random.default_rng(0)
    who = rng.integers(0, len(taxa), 80)
    images = vectors[who] + rng.normal(scale=0.25, size=(80, WIDTH))
    images = (images / np.linalg.norm(images, axis=1, keepdims=True)).astype(np.float32)
    return model, bank, images, [taxa[i] for i in who]


def head(taxon: Taxon, rank: Rank) -> tuple[str, ...]:
    return taxon.lineage[: rank + 1]


def test_the_ways_are_their_definitions(asked: tuple[HashedWords, LabelBank, np.ndarray, list[Taxon]]) -> None:
    model, bank, images, truth = asked
    metrics = score_by_rank(model, images, truth, bank, ["{}"])
    taxa = bank.taxa_list
    cosine = images @ np.asarray(bank.vectors).T
    probability = np.exp(20 * cosine) / np.exp(20 * cosine).sum(axis=1, keepdims=True)
    for rank in (Rank.FAMILY, Rank.GENUS, Rank.CLASS):
        named = [i for i, taxon in enumerate(truth) if taxon[rank]]
        heads = list(dict.fromkeys(head(taxon, rank) for taxon in taxa))
        members = {one: [i for i, taxon in enumerate(taxa) if head(taxon, rank) == one] for one in heads}
        sums = np.stack([probability[:, members[one]].sum(axis=1) for one in heads], axis=1)
        right = [heads[sums[i].argmax()] == head(truth[i], rank) for i in named]
        assert metrics[f"by_rank/sums/{rank.label}"] == pytest.approx(np.mean(right))
        answerable = [one for one in heads if one[-1]]
        captions = [taxa[members[one][0]].at(rank).caption(TextType.TAXON) for one in answerable]
        near = images @ model.encode_captions(captions, lambda *_: None).T
        right = [answerable[near[i].argmax()] == head(truth[i], rank) for i in named]
        assert metrics[f"by_rank/captions/{rank.label}"] == pytest.approx(np.mean(right))
        means = np.stack([np.asarray(bank.vectors)[members[one]].mean(axis=0) for one in answerable])
        near = images @ (means / np.linalg.norm(means, axis=1, keepdims=True)).T
        right = [answerable[near[i].argmax()] == head(truth[i], rank) for i in named]
        assert metrics[f"by_rank/prototypes/{rank.label}"] == pytest.approx(np.mean(right))


def test_from_the_top_down_is_greedy_and_always_one_path(
    asked: tuple[HashedWords, LabelBank, np.ndarray, list[Taxon]],
) -> None:
    model, bank, images, truth = asked
    metrics = score_by_rank(model, images, truth, bank, ["{}"])
    assert metrics["by_rank/top_down/consistency"] == 1
    assert metrics["by_rank/sums/consistency"] < 1
    vectors = encode_ranks(model, bank, ["{}"])
    right = dict.fromkeys(Rank, 0)
    for image, taxon in zip(images, truth, strict=True):
        above, group = 0, 0
        for rank in Rank:
            children = [n for n, parent in enumerate(bank.groups.parents(rank)) if parent == above]
            group = max(children, key=lambda n: float(image @ vectors[rank][n]))
            above = group
            first = int(bank.groups.starts[rank][group])
            right[rank] += head(bank.taxon(first), rank) == head(taxon, rank)
    for rank in (Rank.KINGDOM, Rank.FAMILY, Rank.GENUS, Rank.SPECIES):
        assert metrics[f"by_rank/top_down/{rank.label}"] == pytest.approx(right[rank] / len(truth))
    assert metrics["by_rank/top_down/path"] == pytest.approx(right[Rank.SPECIES] / len(truth))


def test_at_species_rank_captions_and_prototypes_are_the_candidates(
    asked: tuple[HashedWords, LabelBank, np.ndarray, list[Taxon]],
) -> None:
    model, bank, images, truth = asked
    metrics = score_by_rank(model, images, truth, bank, ["{}"])
    nearest = (images @ np.asarray(bank.vectors).T).argmax(axis=1)
    right = np.mean([bank.taxon(int(row)) == taxon for row, taxon in zip(nearest, truth, strict=True)])
    for way in ("sums", "captions", "prototypes"):
        assert metrics[f"by_rank/{way}/species"] == pytest.approx(right)
    assert "by_rank/sums/phylum" not in metrics, "no truth has a phylum"
    assert np.allclose(np.linalg.norm(make_prototypes(bank)[Rank.FAMILY], axis=1), 1, atol=1e-6)


def test_one_table_shows_them(asked: tuple[HashedWords, LabelBank, np.ndarray, list[Taxon]]) -> None:
    model, bank, images, truth = asked
    rows = rank_rows(score_by_rank(model, images, truth, bank, ["{}"]))
    assert [row["answered by"] for row in rows] == [way.replace("_", " ") for way in WAYS]
    assert rows[0]["phylum"] is None
    nameless = [Taxon.of(common_name="a cage")] * len(truth)
    assert rank_rows(score_by_rank(model, images, nameless, bank, ["{}"])) == []
