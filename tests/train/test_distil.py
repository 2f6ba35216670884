"""A tower in training keeps another tower's view of the pictures."""

from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from stopping import train_whole_and_in_parts
from torch.nn.functional import normalize

from linnaea.errors import LinnaeaError
from linnaea.model.load import TaxonModel
from linnaea.model.text import make_token_table
from linnaea.train.batches import Loader
from linnaea.train.claim import TrainingRun, open_part
from linnaea.train.distil import ImageTeacher, blend_towers, load_teacher, similarity_loss
from linnaea.train.objectives import Guides, compute_loss
from linnaea.train.recipe import Descent, Feed, Recipe, Tower
from linnaea.train.start import make_start

BACKBONE = "test_efficientnet"
RECIPE = Recipe(
    tower=Tower(image_size=32, backbone=BACKBONE, width=32, text_layers=1, text_width=32, context_length=48,
                n_merges=200),
    feed=Feed(batch_size=12),
    descent=Descent(steps=2, lr=2e-3, warmup=1, checkpoint_every=2, log_every=1, objective="hierarchical"),
)  # fmt: skip


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(5)
    path = tmp_path_factory.mktemp("weights") / "backbone.pth"
    torch.save(timm.create_model(BACKBONE, num_classes=0).state_dict(), path)
    return path


def make_run(data: Path, output: Path, recipe: Recipe = RECIPE) -> TrainingRun:
    return TrainingRun(recipe_name="test", recipe=recipe, data_dir=data, run_dir=output, device="cpu")


def start(data: Path) -> TaxonModel:
    return make_start(RECIPE.tower, open_part(make_run(data, data)), seed=0, device="cpu")


def with_teacher(weights: Path, weight: float = 2.0) -> Recipe:
    return replace(
        RECIPE,
        tower=replace(RECIPE.tower, distil_from=str(weights)),
        descent=replace(RECIPE.descent, distil=weight),
    )


def test_similarities_do_not_depend_on_shift_scale_rotation_and_width() -> None:
    torch.manual_seed(0)
    vectors_BE = torch.randn(16, 8, dtype=torch.float64)
    turn, _ = torch.linalg.qr(torch.randn(8, 8, dtype=torch.float64))
    wider_BF = torch.cat([3 * vectors_BE @ turn, torch.zeros(16, 5, dtype=torch.float64)], dim=1) + 7
    assert float(similarity_loss(vectors_BE, wider_BF)) == pytest.approx(0, abs=1e-12)


def test_the_loss_is_one_minus_the_correlation_of_the_cosines() -> None:
    torch.manual_seed(1)
    one_BE, other_BF = torch.randn(20, 6), torch.randn(20, 9)
    above = torch.triu(torch.ones(20, 20, dtype=torch.bool), diagonal=1)
    pairs = torch.stack([_cosines(v)[above] for v in (one_BE, other_BF)])
    expected = 1 - float(torch.corrcoef(pairs)[0, 1])
    assert float(similarity_loss(one_BE, other_BF)) == pytest.approx(expected, abs=1e-5)


def _cosines(vectors: torch.Tensor) -> torch.Tensor:
    centred = vectors - vectors.mean(dim=0)
    return torch.nn.functional.cosine_similarity(centred[:, None], centred[None], dim=-1)


def test_the_loss_of_a_batch_gains_the_weighted_distance(dataset_dir: Path, weights: Path) -> None:
    dataset = open_part(make_run(dataset_dir, dataset_dir))
    model, descent = start(dataset_dir), with_teacher(weights).descent
    table = make_token_table(model.tokenizer, dataset.taxa_list)
    captions = replace(descent, objective="info_nce")
    batch = next(Loader(dataset, RECIPE.feed, 32, 0).iter_batches(0, 1))
    teacher = load_teacher(str(weights), model, "float32")
    model.clip.eval()
    with torch.no_grad():
        plain = compute_loss(model, batch, table, captions)
        both = compute_loss(model, batch, table, captions, guides=Guides(teacher=teacher))
        images = (torch.from_numpy(batch.pixels) / 255 - torch.tensor(model.preprocess.mean).view(3, 1, 1)) / (
            torch.tensor(model.preprocess.std).view(3, 1, 1)
        )
        distance = similarity_loss(normalize(model.clip.encode_image(images), dim=-1), teacher.tower(images))  # type: ignore[operator]
    assert float(distance) > 0.1
    assert float(both - plain) == pytest.approx(2 * float(distance), rel=1e-4)


def test_a_tower_is_drawn_to_its_teacher(dataset_dir: Path, weights: Path) -> None:
    model = start(dataset_dir)
    teacher = load_teacher(str(weights), model, "float32")
    before = {name: value.clone() for name, value in teacher.tower.state_dict().items()}
    pixels = torch.randint(0, 256, (12, 3, 32, 32), dtype=torch.uint8)
    optimizer, losses = torch.optim.Adam(model.clip.visual.parameters(), lr=1e-3), []  # type: ignore[union-attr]
    for _ in range(20):
        loss = similarity_loss(model.clip.encode_image(pixels / 255), teacher.encode(pixels))  # type: ignore[operator]
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert losses[-1] < 0.5 * losses[0]
    assert all(torch.equal(before[name], value) for name, value in teacher.tower.state_dict().items())


def test_a_run_with_a_teacher_goes_on_as_if_never_stopped(dataset_dir: Path, weights: Path, tmp_path: Path) -> None:
    recipe = with_teacher(weights)
    recipe = replace(recipe, descent=replace(recipe.descent, steps=4))
    whole, parts = (make_run(dataset_dir, tmp_path / name, recipe) for name in ("whole", "parts"))
    losses, again = train_whole_and_in_parts(whole, parts)
    assert losses == again and len(losses) == 4


def test_a_model_can_be_the_teacher_at_its_own_size(dataset_dir: Path) -> None:
    model = start(dataset_dir)
    teacher = load_teacher("any", model, "float32", load=lambda name, device: start(dataset_dir))
    small = torch.randint(0, 256, (3, 3, 24, 24), dtype=torch.uint8)
    assert isinstance(teacher, ImageTeacher) and teacher.encode(small).shape == (3, 32)


@pytest.mark.parametrize("given", ["nowhere.pth", "nowhere.safetensors"])
def test_a_missing_file_is_one_line(dataset_dir: Path, given: str) -> None:
    with pytest.raises(LinnaeaError, match=f"{given}: no such file"):
        load_teacher(given, start(dataset_dir), "float32")


def test_a_blended_tower_lies_between_both(dataset_dir: Path, weights: Path) -> None:
    model = start(dataset_dir)
    own = {name: value.clone() for name, value in model.clip.visual.trunk.state_dict().items()}  # type: ignore[union-attr]
    teacher = load_teacher(str(weights), model, "float32")
    blend_towers(model, teacher, 0.25)
    theirs, blended = teacher.tower.state_dict(), model.clip.visual.trunk.state_dict()  # type: ignore[union-attr]
    for name, value in blended.items():
        expected = 0.75 * own[name] + 0.25 * theirs[name] if value.is_floating_point() else own[name]
        torch.testing.assert_close(value, expected)


def test_towers_of_two_architectures_are_not_blended(dataset_dir: Path) -> None:
    model = start(dataset_dir)
    other = ImageTeacher(
        tower=torch.nn.Linear(2, 2), preprocess=model.preprocess, takes_any_size=True, precision="float32"
    )
    with pytest.raises(LinnaeaError, match="another architecture"):
        blend_towers(model, other, 0.5)


def test_weight_and_tower_belong_together(weights: Path) -> None:
    with pytest.raises(ValueError, match="give a weight or a share and --distil-from"):
        with_teacher(weights, 0.0)
    with pytest.raises(ValueError, match="distil: needs an image tower that is trained"):
        recipe = with_teacher(weights)
        replace(recipe, descent=replace(recipe.descent, freeze=("image",)))
    with pytest.raises(ValueError, match="blend: changes the model to start from"):
        replace(RECIPE, tower=replace(RECIPE.tower, distil_from=str(weights), blend=0.5))
