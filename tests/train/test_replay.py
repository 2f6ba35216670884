"""General captions beside the taxa: as many as asked for, always the same, through a projection of their own."""

import io
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from torch.nn.functional import normalize

from linnaea.data.shards import DataSet
from linnaea.errors import LinnaeaError
from linnaea.model.load import TaxonModel
from linnaea.model.text import make_token_table
from linnaea.train.batches import Loader
from linnaea.train.claim import TrainingRun, open_part
from linnaea.train.heads import REPLAY_PROJECTION, encode_replayed, prepare, projection_of
from linnaea.train.objectives import compute_loss, normalise_pixels
from linnaea.train.recipe import Descent, Feed, Recipe, Tower
from linnaea.train.replay import MixedLoader, make_replay_loader, open_captioned
from linnaea.train.run import run_training
from linnaea.train.start import make_start

CAPTIONS = [f"a {colour} square number {number}" for number in range(4) for colour in ("red", "green")]


@pytest.fixture(scope="module")
def general(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tars as img2dataset leaves them; one picture has no caption, one caption no picture."""
    folder = tmp_path_factory.mktemp("general")
    rng = np.random.default_rng(0)
    for shard in range(2):
        with tarfile.open(folder / f"{shard:05d}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
            for number, caption in enumerate(CAPTIONS[shard * 4 : shard * 4 + 4]):
                stream = io.BytesIO()
                Image.fromarray(rng.integers(0, 255, (40, 40, 3), np.uint8)).save(stream, "JPEG")
                add(tar, f"{shard}{number:04d}.jpg", stream.getvalue())
                add(tar, f"{shard}{number:04d}.txt", caption.encode())
                add(tar, f"{shard}{number:04d}.json", b"{}")
            add(tar, f"{shard}0008.jpg", b"no caption")
            add(tar, f"{shard}0009.txt", b"no picture")
    return folder


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def make_recipe(general: Path) -> Recipe:
    return Recipe(
        tower=Tower(image_size=32, width=32, image_layers=1, text_layers=1, context_length=48, n_merges=200),
        feed=Feed(batch_size=8, replay=str(general), replay_batch_size=4),
        descent=Descent(steps=4, warmup=1, lr=1e-3, log_every=1),
    )


def open_part_of(dataset_dir: Path, recipe: Recipe) -> DataSet:
    return open_part(TrainingRun(recipe_name="", recipe=recipe, data_dir=dataset_dir, run_dir=Path()))


def start(dataset_dir: Path, general: Path) -> tuple[TaxonModel, MixedLoader, Recipe]:
    recipe = make_recipe(general)
    dataset = open_part_of(dataset_dir, recipe)
    model = make_start(recipe.tower, dataset, seed=0, device="cpu")
    table = make_token_table(model.tokenizer, dataset.taxa_list)
    model = prepare(model, table, recipe.descent, with_replay=True, seed=0)
    taxa = Loader(dataset, recipe.feed, 32, 0)
    return model, MixedLoader(taxa=taxa, general=make_replay_loader(taxa), tokenizer=model.tokenizer), recipe


def test_pairs_alone_are_replayed(general: Path) -> None:
    assert len(open_captioned(general)) == len(CAPTIONS)


def test_a_folder_without_captions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LinnaeaError, match=r"no captioned pictures to replay"):
        open_captioned(tmp_path)


def test_batches_are_a_function_of_the_step(dataset_dir: Path, general: Path) -> None:
    model, loader, recipe = start(dataset_dir, general)
    taxa = Loader(open_part_of(dataset_dir, recipe), recipe.feed, 32, 0, n_workers=1)
    again = MixedLoader(taxa=taxa, general=make_replay_loader(taxa), tokenizer=model.tokenizer)
    whole, late = list(loader.iter_batches(0, 5)), list(again.iter_batches(3, 5))
    for a, b in zip(whole[3:], late, strict=True):
        assert a.replayed is not None
        assert b.replayed is not None
        assert np.array_equal(a.replayed.pixels, b.replayed.pixels)
        assert np.array_equal(a.replayed.tokens, b.replayed.tokens)
    plain = next(Loader(taxa.dataset, replace(recipe.feed, replay="", replay_batch_size=0), 32, 0).iter_batches(0, 1))
    assert np.array_equal(plain.pixels, whole[0].pixels)
    assert plain.replayed is None
    assert whole[0].replayed is not None
    assert len(whole[0].replayed.pixels) == 4
    seen = set()
    for batch in whole[:2]:  # an epoch of eight
        known = {tuple(row): caption for caption, row in
                 zip(CAPTIONS, model.tokenizer(CAPTIONS).tolist(), strict=True)}  # fmt: skip
        seen |= {known[tuple(row)] for row in batch.replayed.tokens.tolist()}  # type: ignore[union-attr]
    assert seen == set(CAPTIONS)


def test_the_loss_is_the_sum_and_each_part_has_its_projection(dataset_dir: Path, general: Path) -> None:
    model, loader, recipe = start(dataset_dir, general)
    table = make_token_table(model.tokenizer, open_part_of(dataset_dir, recipe).taxa_list)
    batch = next(loader.iter_batches(0, 1))
    assert batch.replayed is not None
    clip, (_, first) = model.clip, projection_of(model.clip)
    second = getattr(clip, REPLAY_PROJECTION)
    pixels = normalise_pixels(model, torch.from_numpy(batch.replayed.pixels))
    before = first.detach().clone()
    with torch.no_grad():  # by hand: the second in the place of the first
        first.copy_(second)
        expected = clip.encode_image(pixels)  # type: ignore[operator]
        first.copy_(before)
    assert torch.equal(encode_replayed(model, pixels), expected)
    whole = compute_loss(model, batch, table, recipe.descent)
    plain = replace(batch, replayed=None)
    alone = compute_loss(model, plain, table, recipe.descent)
    text = clip.encode_text(torch.from_numpy(batch.replayed.tokens), normalize=True)  # type: ignore[operator]
    replayed = open_clip.ClipLoss()(normalize(expected, dim=-1), text, clip.logit_scale.exp())  # type: ignore[operator]
    assert float(whole.detach()) == pytest.approx(float(alone.detach()) + float(replayed.detach()), rel=1e-5)
    assert torch.autograd.grad(alone, [first, second], allow_unused=True)[1] is None
    both = compute_loss(model, batch, table, recipe.descent)
    to_first, to_second = torch.autograd.grad(both, [first, second])
    alone_first = torch.autograd.grad(compute_loss(model, plain, table, recipe.descent), first)[0]
    assert torch.allclose(to_first, alone_first, atol=1e-6)
    assert to_second.abs().sum() > 0


def test_a_run_with_replay_leaves_a_plain_model(dataset_dir: Path, general: Path, tmp_path: Path) -> None:
    run = TrainingRun(
        recipe_name="t", recipe=make_recipe(general), data_dir=dataset_dir, run_dir=tmp_path / "r", device="cpu"
    )
    assert run_training(run).finished
    clip, _, _ = open_clip.create_model_and_transforms(f"local-dir:{run.model_dir}")
    assert not hasattr(clip, REPLAY_PROJECTION)


def test_a_tower_without_projection_is_refused() -> None:
    clip = torch.nn.Module()
    clip.visual = torch.nn.Identity()
    with pytest.raises(LinnaeaError, match="last linear projection"):
        projection_of(clip)


def test_a_run_with_replay_beside_cached_views_finishes(dataset_dir: Path, general: Path, tmp_path: Path) -> None:
    recipe = make_recipe(general)
    recipe = replace(
        recipe,
        feed=replace(recipe.feed, cached_views=1),
        descent=replace(recipe.descent, freeze=("image",), steps=2),
    )
    run = TrainingRun(recipe_name="t", recipe=recipe, data_dir=dataset_dir, run_dir=tmp_path, device="cpu")
    before = make_start(recipe.tower, open_part(run), seed=0, device="cpu").clip
    clip = run_training(run).clip
    assert torch.equal(projection_of(clip)[1], projection_of(before)[1]), "the frozen tower keeps its projection"
    assert not torch.equal(clip.token_embedding.weight, before.token_embedding.weight)  # type: ignore[union-attr]
