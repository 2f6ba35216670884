"""The heat lies where the organism is, for a transformer and a convolutional tower, wherever that is."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import linnaea
from linnaea.cli import main
from linnaea.errors import LinnaeaError
from linnaea.model.attribution import attribute
from linnaea.model.preprocess import Preprocess
from linnaea.predict.explain import contrast, explain, place_heat
from linnaea.predict.inputs import list_inputs
from linnaea.predict.session import Model

CORNERS = ["upper left", "upper right", "lower left", "lower right"]


SIDE = 200


def draw_scene(corner: int) -> np.ndarray:
    """A smooth background."""
    drawn = np.random.default_rng(corner).integers(120, 136, (3, 3, 3), np.uint8)
    return cv2.resize(drawn, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)


def find_corner(corner: int) -> np.ndarray:
    """The mask of a corner, a quarter of the picture."""
    half, mask = SIDE // 2, np.zeros((SIDE, SIDE), bool)
    top, left = half * (corner // 2), half * (corner % 2)
    mask[top : top + half, left : left + half] = True
    return mask


def draw(path: Path, corner: int, organism: np.ndarray) -> np.ndarray:
    """Draw an organism into a corner of a scene; return the corner's mask."""
    picture, mask = draw_scene(corner), find_corner(corner)
    picture[mask] = cv2.resize(organism, (SIDE // 2, SIDE // 2)).reshape(-1, 3)
    cv2.imwrite(str(path), picture)
    return mask


@pytest.fixture(scope="module")
def nano() -> Model:
    return linnaea.open("nano", device="cpu")


@pytest.fixture(scope="module", params=["transformer", "convolutions"])
def model(request: pytest.FixtureRequest, trained: Path, nano: Model) -> Model:
    return linnaea.open(trained, device="cpu") if request.param == "transformer" else nano


@pytest.mark.parametrize("corner", range(4), ids=CORNERS)
def test_what_an_organism_adds_to_a_scene_is_in_its_corner(
    model: Model, photographs: Path, tmp_path: Path, corner: int
) -> None:
    """Also of a model that knows next to nothing, along what tells the scene with an organism from the empty one."""
    inside = draw(tmp_path / "a.png", corner, cv2.imread(str(sorted(photographs.rglob("*.jpg"))[7 * corner])))
    preprocess = model.encoder.preprocess
    pixels, empty = (preprocess.pixels(one[..., ::-1].copy())
                     for one in (cv2.imread(str(tmp_path / "a.png")), draw_scene(corner)))  # fmt: skip
    with_it, without = model.encoder.encode_pixels(np.stack([pixels, empty]))
    heat = place_heat(
        attribute(model.encoder, pixels, with_it - without), np.zeros((SIDE, SIDE, 3), np.uint8), preprocess
    )
    assert inside[np.unravel_index(heat.argmax(), heat.shape)]
    assert heat[inside].sum() > 0.6 * heat.sum()


@pytest.mark.parametrize("corner", range(4), ids=CORNERS)
def test_the_heat_of_an_answer_is_where_the_organism_is(
    nano: Model, photographs: Path, tmp_path: Path, corner: int
) -> None:
    inside = draw(tmp_path / "a.png", corner, cv2.imread(str(sorted(photographs.rglob("*.jpg"))[7 * corner])))
    (found,) = nano.explain(tmp_path / "a.png")
    assert found.heat.shape == (SIDE, SIDE)
    assert inside[np.unravel_index(found.heat.argmax(), found.heat.shape)]
    assert found.heat[inside].sum() > 0.6 * found.heat.sum()


def test_real_organisms_are_found_too(nano: Model, shared: Path, tmp_path: Path) -> None:
    photos = sorted((shared / "species-images" / "big-cats" / "Jaguar").glob("*.jpg"))[:3]
    if not photos:
        pytest.skip("no photographs of jaguars")
    for corner, photo in enumerate(photos):
        inside = draw(tmp_path / "a.png", corner, cv2.imread(str(photo)))
        (found,) = nano.explain(tmp_path / "a.png", rank="class")
        assert inside[np.unravel_index(found.heat.argmax(), found.heat.shape)]


def test_the_command_writes_a_picture_for_each_photograph(
    photographs: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = [str(path) for path in sorted(photographs.rglob("*.jpg"))[:2]]
    (tmp_path / "broken.jpg").write_text("no picture")
    output = tmp_path / "taxa.csv"
    words = [*photos, str(tmp_path / "broken.jpg"), "--model", str(trained), "--output", str(output), "--explain"]
    assert main(["predict", *words]) == 3
    drawn = sorted((tmp_path / "taxa-explained").iterdir())
    assert len(drawn) == 2
    assert cv2.imread(str(drawn[0])).shape == cv2.imread(photos[0]).shape
    assert "2 heat maps in" in capsys.readouterr().err


def test_the_heat_is_that_of_the_answer_of_the_question(photographs: Path, trained: Path) -> None:
    photo = min(photographs.rglob("*.jpg"))
    model = linnaea.open(trained, device="cpu")
    first = model.predict(photo, rank="kingdom", top_k=1)[0].guesses[0]
    (found,) = model.explain(photo, rank="kingdom")
    assert found.guess.taxon == first.taxon
    assert found.answer.guesses == (first,)


def test_the_direction_is_from_the_others_to_the_taxon(trained: Path, photographs: Path) -> None:
    model = linnaea.open(trained, device="cpu")
    predictor = model.predictor()
    (guess,) = model.predict(min(photographs.rglob("*.jpg")), top_k=1)[0].guesses
    even = np.full(len(predictor.bank), 1 / len(predictor.bank), np.float32)
    vectors = np.asarray(predictor.bank.vectors, np.float32)
    row = predictor.bank.taxa["scientific_name"].to_list().index(guess.taxon.scientific_name)
    others = np.delete(vectors, row, axis=0).mean(axis=0)
    np.testing.assert_allclose(contrast(predictor.bank, guess, even), vectors[row] - others, atol=1e-5)


@pytest.mark.parametrize(
    ("mode", "size", "expected"),
    [
        ("squash", (40, 80), (40, 80)),
        ("shortest", (40, 80), (40, 40)),
        ("shortest", (80, 40), (40, 40)),
        ("longest", (40, 80), (40, 80)),
    ],
)
def test_the_heat_covers_what_the_model_sees(mode: str, size: tuple[int, int], expected: tuple[int, int]) -> None:
    preprocess = Preprocess(image_size=8, resize_mode=mode)
    heat = place_heat(np.ones((8, 8), np.float32), np.zeros((*size, 3), np.uint8), preprocess)
    assert heat.shape == size
    assert heat.sum() == expected[0] * expected[1]
    assert heat[size[0] // 2, size[1] // 2] == 1


def test_an_exported_model_says_that_it_cannot(trained: Path, photographs: Path, monkeypatch: Any) -> None:
    predictor = linnaea.open(trained, device="cpu").predictor()
    monkeypatch.setattr("linnaea.model.load.TaxonModel", type("Another", (), {}))
    (one,) = list_inputs([str(min(photographs.rglob("*.jpg")))])
    with pytest.raises(LinnaeaError, match="an exported model has no gradients"):
        explain(predictor, one)
