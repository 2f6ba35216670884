"""The bundled model: small, whole, offline; it names what it knows and abstains where there is nothing."""

import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import linnaea
from linnaea.cli import DONE, main
from linnaea.data.images import decode
from linnaea.data.no_organism import write_pictures
from linnaea.model.encode import encode_captions
from linnaea.model.folders import LABELS_FOLDER, bundled_models
from linnaea.model.onnx import GraphModel
from linnaea.model.open import load_model, open_encoder
from linnaea.predict.calibration import read_calibration
from linnaea.predict.labels import LabelBank
from linnaea.taxonomy.taxon import PHOTO_TEMPLATE, TextType

NANO = bundled_models()["nano"]
MOST_BYTES = 25_000_000


def test_it_is_small() -> None:
    assert sum(path.stat().st_size for path in NANO.rglob("*") if path.is_file()) <= MOST_BYTES


def test_open_clip_loads_it_from_wherever_it_lies(tmp_path: Path) -> None:
    import open_clip
    import torch

    elsewhere = tmp_path / "moved"
    shutil.copytree(NANO, elsewhere)
    clip, _, _ = open_clip.create_model_and_transforms(f"local-dir:{elsewhere}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{elsewhere}", bpe_path=str(elsewhere / "bpe.txt.gz"))
    captions = ["a photo of Animalia Chordata Aves Passeriformes Corvidae Pica pica with common name Magpie."]
    with torch.inference_mode():
        theirs = clip.eval().encode_text(tokenizer(captions), normalize=True).numpy()
    ours = encode_captions(load_model("nano", device="cpu"), captions)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_its_graph_gives_its_vectors() -> None:
    model, graph = load_model("nano", device="cpu"), open_encoder("nano", device="cpu")
    assert isinstance(graph, GraphModel), "the graph belongs to other weights; pack nano again"
    assert graph.fingerprint == model.fingerprint
    flower = decode((files("sklearn") / "datasets/images/flower.jpg").read_bytes())
    pixels = model.preprocess.pixels(flower)[None]
    np.testing.assert_allclose(graph.encode_pixels(pixels), model.encode_pixels(pixels), atol=2e-6)


FIRST_ANSWERS = """
import sys, warnings
import linnaea
from linnaea.serve.app import make_app
from linnaea.predict.predictor import Asked
model = linnaea.open("nano")
answer = model.predict(sys.argv[1])[0]
assert answer.lineage["class"] == "Magnoliopsida"
make_app(model.predictor(Asked()))
for name in ("torch", "torchvision", "open_clip", "timm", "matplotlib", "scipy", "sklearn", "transformers"):
    assert name not in sys.modules, name
"""


def test_the_first_answer_and_the_server_need_no_heavy_import() -> None:
    flower = str(files("sklearn") / "datasets/images/flower.jpg")
    done = subprocess.run([sys.executable, "-c", FIRST_ANSWERS, flower], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_its_labels_are_its_own_and_calibrated() -> None:
    model, bank = load_model("nano", device="cpu"), LabelBank.open(NANO / LABELS_FOLDER)
    assert bank.facts["model"] == model.fingerprint
    calibration = read_calibration(bank.facts)
    assert calibration is not None
    assert calibration.n_labels == len(bank)
    assert len(calibration.organism) == model.width + 1
    trained = bank.taxa["trained"].to_numpy()
    assert bank.facts["learned"] == trained.sum()
    rows = [*np.flatnonzero(~trained)[[0, -1]], *np.flatnonzero(trained)[[0, -1]]]
    captions = [PHOTO_TEMPLATE.replace("{}", bank.taxon(int(row)).caption(TextType.TAXON_COM)) for row in rows]
    of_captions, vectors = encode_captions(model, captions), bank.vectors[rows].astype(np.float32)
    np.testing.assert_allclose(of_captions[:2], vectors[:2], atol=1e-3)
    assert (np.einsum("ke,ke->k", of_captions[2:], vectors[2:]) > 0.5).all(), "the mean of name and photographs"


def test_its_labels_are_the_species_of_the_research_sets(shared: Path) -> None:
    tables = [pl.read_csv(shared / name / "metadata.csv", infer_schema=False).fill_null("")
              for name in ("species-images", "species-images-broad")]  # fmt: skip
    resolved = [table.filter(pl.col("label_status") == "resolved", pl.col("species") != "") for table in tables]
    species = set(pl.concat([table.select("genus", "species") for table in resolved]).rows())
    labels = set(LabelBank.open(NANO / LABELS_FOLDER).taxa.select("genus", "species").rows())
    assert len(species - labels) <= 0.02 * len(species), "names that the checklist calls otherwise"
    assert len(labels - species) <= 0.02 * len(species), "what it calls them, and names that no list knows"


def test_photographs_of_packages(tmp_path: Path) -> None:
    """Drawn walls, pages and charts are nothing, a dahlia is a flowering plant; every picture has its row."""
    pictures = tmp_path / "pictures"
    write_pictures(pictures, 18, seed=2)
    for name in ("flower.jpg", "china.jpg"):
        shutil.copyfile(str(files("sklearn") / "datasets/images" / name), pictures / name)
    output = tmp_path / "taxa.csv"
    assert main(["predict", str(pictures), "--rank", "auto", "--output", str(output)]) == DONE
    table = pl.read_csv(output, infer_schema=False).fill_null("")
    answer = {Path(row["file_name"]).name: row for row in table.iter_rows(named=True)}
    assert set(answer) == {path.name for path in pictures.iterdir()}
    drawn = [row["status"] for name, row in answer.items() if name[0].isdigit()]
    assert len(drawn) == 18
    assert drawn.count("abstained") >= 0.9 * 18
    assert answer["flower.jpg"]["class"] == "Magnoliopsida"
    assert answer["china.jpg"]["status"] == "abstained", "a temple among trees"


@pytest.mark.parametrize("grey", [0, 60, 128, 200, 255])
def test_a_blank_picture_has_no_name(grey: int) -> None:
    flat = np.full((480, 640, 3), grey, np.uint8)
    noisy = (flat + np.random.default_rng(0).normal(0, 4, flat.shape)).clip(0, 255).astype(np.uint8)
    answers = linnaea.open("nano").predict([flat, noisy], rank="auto")
    assert [answer.abstention for answer in answers] == ["no organism"] * 2


def test_it_wants_no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where nothing is cached and no socket can be opened."""
    import socket

    monkeypatch.setenv("HF_HOME", str(tmp_path / "empty"))
    monkeypatch.setattr(socket.socket, "connect", lambda *given: sys.exit("the network was asked"))
    flower = str(files("sklearn") / "datasets/images/flower.jpg")
    assert main(["predict", flower, "--rank", "species", "--output", str(tmp_path / "one.csv")]) == DONE
    assert pl.read_csv(tmp_path / "one.csv").height >= 1
