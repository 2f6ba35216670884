"""The training order is a pure function of (seed, step, world size), and a batch one of its place in it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import RandomResizedCrop

from linnaea.data.shards import DataSet
from linnaea.errors import LinnaeaError
from linnaea.train.batches import (
    Loader,
    balanced_counts,
    draw_uniforms,
    epoch_order,
    jitter_colours,
    make_rng,
    random_crop,
    resize,
)
from linnaea.train.recipe import Feed

FEED = Feed(batch_size=8, crop_scale=(0.5, 1.0), flip=True, colour_jitter=0.2)


def rows_without_shards(n_samples: int) -> DataSet:
    index = pl.DataFrame({"taxon_id": [0] * n_samples}, schema={"taxon_id": pl.Int32})
    return DataSet(Path("nowhere"), index, pl.DataFrame())


@pytest.fixture
def train(dataset_dir: Path) -> DataSet:
    return DataSet.open(dataset_dir).split("train")


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 500), st.integers(0, 99), st.integers(0, 5), st.integers(0, 40), st.integers(1, 6))
def test_an_epoch_takes_every_sample_once(n: int, seed: int, epoch: int, window: int, n_shards: int) -> None:
    shards = np.sort(np.arange(n) % n_shards)
    order = epoch_order(n, seed, epoch, shards, window)
    assert sorted(order.tolist()) == list(range(n))
    assert order.tolist() == epoch_order(n, seed, epoch, shards, window).tolist()


def test_epochs_and_seeds_differ() -> None:
    orders = [tuple(epoch_order(200, seed, epoch)) for seed in range(3) for epoch in range(3)]
    assert len(set(orders)) == 9


def test_a_window_keeps_reads_near_each_other() -> None:
    shards = np.repeat(np.arange(50), 20)
    near = epoch_order(1000, 0, 0, shards, 40)
    touched = [len(set(shards[near[i : i + 40]])) for i in range(0, 1000, 40)]
    assert max(touched) <= 3


@settings(max_examples=20, deadline=None, suppress_health_check=[])
@given(world_size=st.sampled_from([1, 2, 4, 8]), step=st.integers(0, 40))
def test_processes_share_a_step_without_overlap(world_size: int, step: int) -> None:
    loaders = [
        Loader(rows_without_shards(37), FEED, 16, seed=3, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    together = np.concatenate([loader.rows_at(step) for loader in loaders])
    alone = Loader(rows_without_shards(37), FEED, 16, seed=3)
    assert together.tolist() == alone.rows_at(step).tolist()


def test_batches_are_the_same_with_any_number_of_workers_and_from_any_start(train: DataSet) -> None:
    whole = list(Loader(train, FEED, 32, seed=1, n_workers=1).iter_batches(0, 12))
    other = list(Loader(train, FEED, 32, seed=1, n_workers=4).iter_batches(5, 12))
    for a, b in zip(whole[5:], other, strict=True):
        assert a.step == b.step
        assert a.keys == b.keys
        assert (a.pixels == b.pixels).all()
        assert (a.text_types == b.text_types).all()
        assert (a.taxon_ids == b.taxon_ids).all()


def test_captions_are_mixed_per_image_or_per_batch(train: DataSet) -> None:
    per_image = next(Loader(train, Feed(batch_size=40), 32, seed=1).iter_batches(0, 1))
    assert len(set(per_image.text_types.tolist())) == 5
    feed = Feed(batch_size=40, text_per_batch=True)
    per_batch = list(Loader(train, feed, 32, seed=1).iter_batches(0, 8))
    assert all(len(set(batch.text_types.tolist())) == 1 for batch in per_batch)
    assert len({batch.text_types[0] for batch in per_batch}) > 1


def test_a_corrupt_sample_is_named_and_replaced(train: DataSet, monkeypatch: pytest.MonkeyPatch) -> None:
    key = train.index["key"][7]
    read = DataSet.read
    monkeypatch.setattr(DataSet, "read", lambda self, row: b"broken" if row == 7 else read(self, row))
    n_steps = len(train) // 8
    batches = list(Loader(train, FEED, 32, seed=1).iter_batches(0, n_steps))
    named = [line for batch in batches for line in batch.unreadable]
    assert len(named) == 1
    assert named[0].startswith(key)
    assert all(len(batch.keys) == 8 and key not in batch.keys for batch in batches)
    again = list(Loader(train, FEED, 32, seed=1, n_workers=3).iter_batches(0, n_steps))
    assert [batch.keys for batch in again] == [batch.keys for batch in batches]


def test_a_set_of_broken_samples_stops(train: DataSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DataSet, "read", lambda self, row: b"broken")
    with pytest.raises(LinnaeaError, match="samples in a row cannot be read"):
        next(Loader(train, FEED, 32, seed=1).iter_batches(0, 1))


def test_an_odd_batch_does_not_divide(train: DataSet) -> None:
    with pytest.raises(LinnaeaError, match="does not divide"):
        Loader(train, replace(FEED, batch_size=9), 32, seed=0, world_size=2)


@given(first=st.integers(0, 2**45), n=st.integers(1, 20), n_drawn=st.integers(1, 9))
def test_a_places_numbers_are_its_own_however_many_are_drawn(first: int, n: int, n_drawn: int) -> None:
    together = draw_uniforms(7, 1, first, n, n_drawn)
    alone = [draw_uniforms(7, 1, first + i, 1, n_drawn)[0] for i in range(n)]
    assert (together == np.array(alone)).all()
    assert len(np.unique(together)) == together.size
    assert (together >= 0).all()
    assert (together < 1).all()


def test_places_streams_and_seeds_have_uniform_numbers_that_do_not_meet() -> None:
    parts = [draw_uniforms(seed, stream, 0, 1000, 7) for seed in range(3) for stream in range(3)]
    assert len(np.unique(np.concatenate(parts))) == 9 * 7000
    assert all(scipy.stats.kstest(part[:, i], "uniform").pvalue > 1e-4 for part in parts for i in range(7))


@given(st.lists(st.floats(0, 0.999), min_size=3, max_size=3), st.floats(0.05, 0.6))
def test_colours_change_by_their_three_factors(drawn: list[float], strength: float) -> None:
    """Brightness, then saturation about a pixel's grey, then contrast about the mean grey: a step at a time."""
    picture = np.random.default_rng(0).integers(60, 160, (9, 11, 3), dtype=np.uint8)
    brightness, contrast, saturation = (1 + strength * (2 * number - 1) for number in drawn)
    values = picture * brightness
    grey = values @ [0.299, 0.587, 0.114]
    values = grey[..., None] + saturation * (values - grey[..., None])
    values = grey.mean() + contrast * (values - grey.mean())
    assert np.abs(jitter_colours(drawn, picture, strength) - values.clip(0, 255)).max() <= 1.0
    assert (jitter_colours([0.5, 0.5, 0.5], picture, strength) == picture).all()


def test_crops_have_torchvisions_distribution() -> None:
    """Area and aspect ratio of our crops and of the reference's, two-sample Kolmogorov-Smirnov."""
    import torch

    scale, ratio, shape = (0.3, 1.0), (0.75, 4 / 3), (120, 160)
    drawn = draw_uniforms(0, 1, 0, 3000, 22).tolist()
    ours = np.array([random_crop(drawn[i], shape, scale, ratio) for i in range(3000)])
    torch.manual_seed(0)
    picture = torch.empty(3, *shape)
    theirs = np.array([RandomResizedCrop.get_params(picture, list(scale), list(ratio)) for _ in range(3000)])
    for measure in (lambda c: c[:, 2] * c[:, 3], lambda c: c[:, 2] / c[:, 3], lambda c: c[:, 0], lambda c: c[:, 1]):
        assert scipy.stats.ks_2samp(measure(ours), measure(theirs)).pvalue > 0.001
    assert (ours[:, 0] + ours[:, 2] <= 120).all()
    assert (ours[:, 1] + ours[:, 3] <= 160).all()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=200),
    st.floats(0, 1),
    st.floats(0, 1),
    st.integers(0, 1000),
)
def test_balancing_keeps_the_length_of_an_epoch(taxa: list[int], by_taxon: float, by_source: float, seed: int) -> None:
    taxon_ids = np.array(taxa)
    sources = np.arange(len(taxa)) % 2
    counts = balanced_counts(make_rng(seed, 0, 0), (taxon_ids, sources), (by_taxon, by_source))
    assert counts.sum() == len(taxa)
    assert (counts >= 0).all()
    for cell in {*zip(taxa, sources, strict=True)}:  # within a cell all as often as each other, to one
        here = counts[(taxon_ids == cell[0]) & (sources == cell[1])]
        assert here.max() - here.min() <= 1


def test_balancing_does_what_its_strength_says() -> None:
    sizes = np.array([900, 90, 10])
    taxa = np.repeat(np.arange(3), sizes)
    for strength in (0.0, 0.5, 1.0):
        counts = balanced_counts(make_rng(0, 0, 0), (taxa,), (strength,))
        expected = sizes ** (1 - strength) / (sizes ** (1 - strength)).sum() * 1000
        assert np.abs(np.bincount(taxa, counts) - expected).max() <= 1
    assert (balanced_counts(make_rng(0, 0, 0), (taxa,), (0.0,)) == 1).all()


def test_a_balanced_loader_shows_rare_taxa_as_often_as_common_ones(train: DataSet) -> None:
    feed = Feed(batch_size=len(train), taxon_balance=1.0)
    rows = Loader(train, feed, 16, seed=2).rows_at(0)
    shown = train.index["taxon_id"].gather(rows).value_counts()["count"]
    assert shown.max() - shown.min() <= 1


@given(world_size=st.sampled_from([2, 4]), step=st.integers(0, 5), per_batch=st.booleans())
def test_a_samples_caption_does_not_depend_on_the_number_of_processes(
    world_size: int, step: int, per_batch: bool
) -> None:
    feed = Feed(batch_size=16, text_per_batch=per_batch)
    alone = next(Loader(rows_without_shards(37), feed, 16, seed=3).iter_labels(step, step + 1))
    parts = [
        next(Loader(rows_without_shards(37), feed, 16, 3, rank=rank, world_size=world_size).iter_labels(step, step + 1))
        for rank in range(world_size)
    ]
    assert np.concatenate([part.text_types for part in parts]).tolist() == alone.text_types.tolist()


def test_exact_resize_is_open_clips_crop_pixel_for_pixel() -> None:
    from PIL import Image
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.functional import resized_crop

    picture = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    top, left, height, width = random_crop(
        draw_uniforms(0, 1, 0, 1, 22)[0].tolist(), picture.shape[:2], (0.5, 1.0), (0.75, 4 / 3)
    )
    theirs = resized_crop(
        Image.fromarray(picture), top, left, height, width, [32, 32], InterpolationMode.BICUBIC, antialias=True
    )
    ours = resize(picture[top : top + height, left : left + width], 32, exact=True)
    assert (ours == np.asarray(theirs)).all()
