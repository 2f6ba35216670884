"""The same photograph and question give the same answer, whichever door they come through."""

import functools
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

import linnaea
from linnaea.cli import main
from linnaea.predict import session
from linnaea.predict.confidence import DEFAULT_CONFIDENCE
from linnaea.predict.inputs import MOST_OF_ONE_COLOUR, ONE_COLOUR
from linnaea.predict.outputs.rows import rows_of
from linnaea.taxonomy.ranks import RANK_LABELS

ABS = 1e-6
REST_ABS = 2e-6
"""Float32 towers give the last photographs of a batch that is not a multiple of four other last bits (6e-8 in a value
of a vector), and the server's batches depend on time. At nano's scale of 46 that is up to 1.4e-6 of a probability."""
"""How far probabilities may be apart."""
RANKS = (*RANK_LABELS, "auto")
N_PHOTOGRAPHS = 40


def draw(width: int, height: int, seed: int, channels: int = 3) -> np.ndarray:
    """Return a smooth picture in which a model sees something."""
    coarse = np.random.default_rng(seed).integers(0, 256, size=(7, 9, channels), dtype=np.uint8)
    picture = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return picture.reshape(height, width, channels).squeeze()


def draw_all(folder: Path) -> list[Path]:
    """Draw the forty photographs; the names say what they are."""
    folder.mkdir()
    for orientation in range(1, 9):
        image = Image.fromarray(draw(90 + 40 * orientation, 120, orientation))
        exif = image.getexif()
        exif[0x0112] = orientation
        (image).save(folder / f"turned{orientation}.jpg", exif=exif, quality=92)
    for width, height, seed in (
        (6000, 4000, 20),
        (2400, 1700, 21),
        (700, 520, 22),
        (64, 48, 23),
        (3, 300, 24),
        (1, 1, 25),
    ):
        (Image.fromarray(draw(width, height, seed).reshape(height, width, 3))).save(folder / f"{width}x{height}.jpg")
    rgb, rgba, grey = (Image.fromarray(draw(260, 200, 30 + n, n)) for n in (3, 4, 1))
    (rgb).save(folder / "rgb.png")
    (rgb).save(folder / "rgb.bmp")
    (rgb).save(folder / "rgb.tiff")
    (rgb).save(folder / "rgb.webp", quality=80)
    (rgb).save(folder / "progressive.jpg", progressive=True)
    (rgb.convert("CMYK")).save(folder / "cmyk.jpg")
    (rgb.convert("CMYK")).save(folder / "cmyk.tiff")
    (rgba).save(folder / "alpha.png")
    (rgba).save(folder / "alpha.webp", lossless=True)
    (rgba.convert("LA")).save(folder / "grey-alpha.png")
    (grey).save(folder / "grey.png")
    (grey).save(folder / "grey.jpg")
    (grey.convert("1")).save(folder / "bits.png")
    (rgb.convert("P")).save(folder / "palette.png")
    (rgba.quantize()).save(folder / "palette-alpha.png")
    sixteen = np.asarray(draw(240, 180, 40, 1), np.uint16) * 250
    (Image.fromarray(sixteen)).save(folder / "grey16.png")
    (Image.fromarray(sixteen)).save(folder / "grey16.tiff")
    cv2.imwrite(str(folder / "rgb16.png"), np.asarray(draw(240, 180, 41), np.uint16) * 257)
    frames = [Image.fromarray(draw(120, 100, 50 + n)) for n in range(3)]
    (frames[0]).save(folder / "animated.gif", save_all=True, append_images=frames[1:])
    (frames[0]).save(folder / "animated.webp", save_all=True, append_images=frames[1:])
    (folder / "truncated.jpg").write_bytes((folder / "700x520.jpg").read_bytes()[:9_000])
    (folder / "truncated.png").write_bytes((folder / "rgb.png").read_bytes()[:1_000])
    (folder / "empty.jpg").touch()
    (folder / "text.jpg").write_text("not a photograph")
    (folder / "page.png").write_text("<html></html>")
    (folder / "paper.jpg").write_bytes(b"%PDF-1.7\xff\xfe")
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return draw_all(tmp_path_factory.mktemp("doors") / "photographs")


@pytest.fixture(autouse=True, scope="module")
def _opened_once() -> Iterator[None]:
    """Load the model once for all doors; that takes most of their time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "open_encoder", functools.cache(session.open_encoder))
        yield


def by_command(paths: Sequence[Path], rank: str, words: Sequence[str], folder: Path) -> list[dict[str, Any]]:
    output = folder / f"{rank}.jsonl"
    given = ["predict", *map(str, paths), "--rank", rank, "--device", "cpu", "--output", str(output), *words]
    assert main(given) in (0, 3)
    return [json.loads(line) for line in output.read_text().splitlines()]


def by_rest(client: Any, paths: Sequence[Path], rank: str) -> list[dict[str, Any]]:
    files = [("files", (str(path), path.read_bytes())) for path in paths]
    results = client.post("/predict", files=files, data={"rank": rank}).raise_for_status().json()["results"]
    for result in results:
        if result["status"] != "failed" and result["abstention"] not in ("no organism", "not among the labels"):
            sure = [taxon for taxon in result["path"] if taxon["probability"] >= DEFAULT_CONFIDENCE]
            assert sure[-1:] == [result["answer"]] * (result["answer"] is not None)  # so the page decides
    return [row for result in results for row in result["rows"]]


def assert_same(
    rows: list[dict[str, Any]], wanted: list[dict[str, Any]], but: Sequence[str] = (), within: float = ABS
) -> None:
    """Rows are the same, probabilities ``within`` that much; columns that a door does not have are left out."""
    assert len(rows) == len(wanted)
    for row, of_wanted in zip(rows, wanted, strict=True):
        shared = [column for column in of_wanted if column in row and column not in ("score", *but)]
        assert {name: row[name] for name in shared} == {name: of_wanted[name] for name in shared}
        assert row["score"] == pytest.approx(of_wanted["score"], abs=within)


@pytest.mark.parametrize("calibrated", [True, False])
def test_forty_photographs_through_every_door(calibrated: bool, pictures: list[Path], tmp_path: Path) -> None:
    from fastapi.testclient import TestClient

    from linnaea.serve.app import make_app

    assert len(pictures) == N_PHOTOGRAPHS
    words = [] if calibrated else ["--no-calibration"]
    model = linnaea.open("nano", device="cpu", calibrated=calibrated)
    classifier = linnaea.TreeOfLifeClassifier(model_str="nano")
    few = [path for path in pictures if path.stem in ("turned6", "alpha", "700x520", "empty")]
    with TestClient(make_app(model.predictor())) as client:
        for rank in RANKS:
            paths = pictures if rank == ("species" if calibrated else "auto") else few
            wanted = model.predict(paths, rank=rank).to_dicts()
            assert {row["status"] for row in wanted} >= {
                "abstained" if calibrated and rank == "auto" else "ok",
                "failed",
            }
            assert_same(by_command(paths, rank, words, tmp_path), wanted)
            assert_same(by_rest(client, paths, rank), wanted, within=REST_ABS)
            if calibrated and rank != "auto":
                rows = classifier.predict([str(path) for path in paths], linnaea.Rank.parse(rank), min_prob=-1.0)
                assert_same(rows, wanted)


def test_alone_is_as_in_a_batch(pictures: list[Path]) -> None:
    from fastapi.testclient import TestClient

    from linnaea.serve.app import make_app

    model = linnaea.open("nano", device="cpu")
    together = model.predict(pictures, rank="auto")
    with TestClient(make_app(model.predictor())) as client:
        for path, answer in zip(pictures, together, strict=True):
            assert_same(model.predict(path, rank="auto").to_dicts(), rows_of(answer))
            reply = client.post("/predict", files=[("files", (str(path), path.read_bytes()))], data={"rank": "auto"})
            if answer.status == "failed":
                assert reply.status_code == 415
                assert answer.reason in reply.json()["detail"]
                continue
            (result,) = reply.json()["results"]
            assert (result["status"], result["reason"]) == (answer.status, answer.reason)
            assert_same(result["rows"], rows_of(answer))


@pytest.mark.parametrize("calibrated", [True, False])
def test_a_picture_of_one_colour_shows_nothing_at_every_door(calibrated: bool, tmp_path: Path) -> None:
    from fastapi.testclient import TestClient

    from linnaea.serve.app import make_app

    path, fade = tmp_path / "covered.jpg", tmp_path / "fade.png"
    Image.fromarray(np.full((300, 400, 3), (20, 22, 27), np.uint8)).save(path, quality=60)
    across = np.linspace(90, 90 + MOST_OF_ONE_COLOUR + 4, 400).round().astype(np.uint8)
    Image.fromarray(np.broadcast_to(across[None, :, None], (300, 400, 3)).copy()).save(fade)
    model = linnaea.open("nano", device="cpu", calibrated=calibrated)
    words = [] if calibrated else ["--no-calibration"]
    both = model.predict([path, fade], rank="auto")
    assert [one.reason == ONE_COLOUR for one in both] == [True, False]
    assert both[0].abstention == "no organism"
    assert_same(by_command([path, fade], "auto", words, tmp_path), both.to_dicts())
    with TestClient(make_app(model.predictor())) as client:
        assert_same(by_rest(client, [path, fade], "auto"), both.to_dicts(), within=REST_ABS)
        assert_same(by_rest(client, [path], "auto"), rows_of(both[0]))
    assert model.predict(path, rank="species")[0].status == "ok", "who asks for a rank gets it"
    words = linnaea.open("nano", device="cpu", labels=["covered lens", "Parus major"])
    assert words.predict(path, rank="auto")[0].reason != ONE_COLOUR, "a label may mean just that"


@pytest.mark.parametrize("name", ["700x520.jpg", "alpha.png", "grey16.png", "palette-alpha.png", "turned6.jpg"])
def test_a_picture_in_memory_is_as_its_file(name: str, pictures: list[Path]) -> None:
    (path,) = (path for path in pictures if path.name == name)
    model = linnaea.open("nano", device="cpu")
    wanted = model.predict(path).to_dicts()
    with Image.open(path) as image:
        held: list[Any] = [path.read_bytes(), image]
        if name in ("alpha.png", "grey16.png"):
            held.append(np.asarray(image))
        answers = model.predict(iter(held))
        assert [one.name for one in answers] == [str(number) for number in range(len(held))]
        for one in answers:
            assert_same(rows_of(one), wanted, but=["file_name"])


def test_the_published_models_are_seen_as_pybioclip_sees_them(
    trained: Path, pictures: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command gives what pybioclip's classes give under ``--preprocess squash --no-calibration``."""
    import torch
    from torchvision.transforms import Compose, Normalize, Resize, ToTensor

    from linnaea.predict import pybioclip

    name = str(trained / "model")
    monkeypatch.setitem(pybioclip.TOL_MODELS, name, "imageomics/TreeOfLife-10M")
    classifier = linnaea.TreeOfLifeClassifier(model_str=name)
    paths = [path for path in pictures if path.stem in ("700x520", "alpha", "turned6", "text")]
    rows = classifier.predict([str(path) for path in paths], min_prob=-1.0)
    words = ["--model", name, "--preprocess", "squash", "--no-calibration"]
    assert_same(rows, by_command(paths, "species", words, tmp_path))
    image = classifier.ensure_rgb_image(paths[0])
    mean, std = (getattr(classifier.taxon_model.preprocess, part) for part in ("mean", "std"))
    size = classifier.taxon_model.preprocess.image_size
    theirs = Compose([ToTensor(), Resize((size, size), antialias=True), Normalize(mean, std)])(image)
    assert torch.allclose(classifier.preprocess(image), theirs, atol=1e-5)


def test_answers_become_tables_and_files(pictures: list[Path], tmp_path: Path) -> None:
    import polars as pl

    model = linnaea.open("nano", device="cpu")
    paths = [path for path in pictures if path.stem in ("64x48", "rgb", "empty")]
    answers = model.predict(paths, rank="Genus", top_k=2)
    assert list(answers.failed) == [str(path) for path in paths if path.stem == "empty"]
    assert answers[0].lineage["genus"] == answers[0].guesses[0].taxon.genus
    assert "failed" in repr(answers)
    assert "<table>" in answers._repr_html_()
    table = answers.to_polars()
    assert answers.to_pandas().shape == table.shape
    for name in ("a.csv", "a.parquet", "a.jsonl", "a.xlsx", "a.html", "a.json"):
        assert answers.save(tmp_path / "made" / name).stat().st_size > 0
    assert pl.read_parquet(tmp_path / "made" / "a.parquet").equals(table)
    assert pl.read_csv(tmp_path / "made" / "a.csv")["genus"].fill_null("").to_list() == table["genus"].to_list()
    with pytest.raises(linnaea.UsageError, match=r"must end in \.csv"):
        answers.save(tmp_path / "a.doc")


def test_vectors_have_names_and_failures(pictures: list[Path]) -> None:
    model = linnaea.open("nano", device="cpu")
    vectors = model.embed([path for path in pictures if path.suffix == ".png"])
    assert vectors.array.shape == (len(vectors.names), model.encoder.width)
    assert [Path(name).name for name in vectors.failed] == ["page.png", "truncated.png"]
    assert np.linalg.norm(np.asarray(vectors), axis=1) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"rank": "tribe"}, "is not a rank"), ({"within": "Nowhere"}, "no taxon of that name"), ({"lat": 3.0}, "prior")],
)
def test_a_wrong_question_is_one_line(options: dict[str, Any], message: str, pictures: list[Path]) -> None:
    with pytest.raises(linnaea.UsageError, match=message):
        linnaea.open("nano", device="cpu").predict(pictures[0], **options)


def test_names_are_labels_and_a_clade_restricts(pictures: list[Path]) -> None:
    model = linnaea.open("nano", device="cpu", labels=["Pica pica", "Corvus corax", "Salix alba"])
    (answer,) = model.predict(io.BytesIO(pictures[0].read_bytes()).getvalue(), within="genus:Pica")
    assert [guess.taxon.scientific_name for guess in answer.guesses] == ["Pica pica"]
