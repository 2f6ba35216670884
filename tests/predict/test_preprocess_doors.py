"""A photograph is seen in one way: the model's own, or the one that was chosen, which heads and calibrations record."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import linnaea
from linnaea.cli import main
from linnaea.model.open import load_model, open_encoder, see_as
from linnaea.predict.labels import PREPROCESS, LabelBank


@pytest.fixture(scope="module")
def wide(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders of wide pictures, of which a crop shows half."""
    folder = tmp_path_factory.mktemp("wide")
    for species in sorted(path for path in photographs.iterdir() if path.is_dir())[:2]:
        (folder / species.name).mkdir()
        pictures = [Image.open(path) for path in sorted(species.glob("*.jpg"))]
        for number, (left, right) in enumerate(zip(pictures[::2], pictures[1::2], strict=True)):
            both = np.concatenate([np.asarray(left), np.asarray(right)], axis=1)
            Image.fromarray(both).save(folder / species.name / f"{number}.png")
    return folder


def one_of(folder: Path) -> Path:
    return next(folder.rglob("*.png"))


def test_a_head_answers_as_it_was_fitted(
    wide: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    head, model = tmp_path / "head", ["--model", str(trained), "--device", "cpu"]
    assert main(["adapt", str(wide), *model, "--output", str(head), "--preprocess", "squash"]) == 0
    assert LabelBank.open(head).facts[PREPROCESS]["resize_mode"] == "pybioclip"
    followed = linnaea.open(trained, labels=head, device="cpu")
    squashed = linnaea.open(trained, device="cpu", preprocess="squash")
    assert np.array_equal(followed.embed(one_of(wide)).array, squashed.embed(one_of(wide)).array)
    assert followed.encoder.fingerprint == squashed.encoder.fingerprint
    words = ["predict", str(one_of(wide)), *model, "--labels", str(head), "--output", str(tmp_path / "p.csv")]
    capsys.readouterr()
    assert main([*words, "--preprocess", "squash"]) == 0
    assert "another form" not in capsys.readouterr().err
    assert main([*words, "--preprocess", "crop"]) == 1
    assert "was fitted to photographs in another form; leave out --preprocess crop" in capsys.readouterr().err


def test_a_calibration_says_how_its_photographs_were_seen(
    trained: Path, dataset_dir: Path, wide: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "model"
    shutil.copytree(trained / "model", model)
    words = [
        "labels",
        "calibrate",
        "--model",
        str(model),
        "--data",
        str(dataset_dir),
        "--split",
        "train",
        "--preprocess",
        "squash",
    ]
    assert main(words) == 0
    stored = json.loads((model / "linnaea.json").read_text())["calibration"]
    assert stored["preprocess"]["resize_mode"] == "pybioclip"
    predict = ["predict", str(one_of(wide)), "--model", str(model), "--output", str(tmp_path / "p.csv")]
    capsys.readouterr()
    assert main([*predict, "--preprocess", "squash"]) == 0
    assert "another form" not in capsys.readouterr().err
    assert main(predict) == 0
    assert "the calibration was learned from photographs in another form (--preprocess squash)" in (
        capsys.readouterr().err
    )


def test_an_evaluation_records_it_and_keeps_vectors_apart(trained: Path, dataset_dir: Path, tmp_path: Path) -> None:
    vectors = []
    for form in ("crop", "squash", "crop"):
        words = ["evaluate", str(trained), "--data", str(dataset_dir), "--output", str(tmp_path), "--shots", "0"]
        assert main([*words, "--preprocess", form]) == 0
        vectors.append(np.load(tmp_path / "features.npy").copy())
        mode = json.loads((tmp_path / "run.json").read_text())["preprocess"]["resize_mode"]
        assert mode == {"crop": "shortest", "squash": "pybioclip"}[form]
    assert not np.allclose(vectors[0], vectors[1])
    assert np.array_equal(vectors[0], vectors[2])


def test_every_bank_records_the_models_own(trained: Path, dataset_dir: Path, tmp_path: Path) -> None:
    own = load_model(trained, device="cpu").preprocess.to_json()
    words = ["labels", "build", "--taxa", str(dataset_dir), "--model", str(trained), "--output", str(tmp_path / "bank")]
    assert main(words) == 0
    assert LabelBank.open(tmp_path / "bank").facts[PREPROCESS] == own
    squashed = linnaea.open(trained, labels=["Pica pica"], preprocess="squash", device="cpu")
    assert squashed.bank.facts[PREPROCESS] == own, "labels of names are not of photographs"


def test_what_is_chosen_may_be_chosen_again(trained: Path) -> None:
    encoder = open_encoder(trained, device="cpu")
    again = see_as(see_as(encoder, "squash"), "crop")
    assert (again.preprocess, again.fingerprint) == (encoder.preprocess, encoder.fingerprint)
    assert see_as(encoder, None) is encoder


def test_an_exported_model_squashes_too(trained: Path, wide: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    linnaea.export(trained, tmp_path / "exported")
    places = (trained, tmp_path / "exported")
    ours, theirs = (
        linnaea.open(place, device="cpu", preprocess="squash").embed(one_of(wide)).array for place in places
    )
    cropped = linnaea.open(trained, device="cpu").embed(one_of(wide)).array
    assert np.abs(ours - theirs).max() < 2e-3, "apart from the rounding of pixels"
    assert np.abs(ours - cropped).max() > 1e-2
