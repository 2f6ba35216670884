"""Other tools read what we write: MegaDetector's validator, SpeciesNet, camtraptools; MegaDetector runs first."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from answered import FOX, HUMAN, answer, draw, read, written

from linnaea.predict.detections import Detections
from linnaea.predict.inputs import list_inputs
from linnaea.taxonomy.ranks import Rank

pytestmark = pytest.mark.long

PACKAGES = (
    "megadetector==10.0.28", "speciesnet==5.0.6", "camtraptools==0.8.1", "yolov5==7.0.11",
    # what these import and we do not have; --no-deps, since two of their dependencies need more than an index to build
    "absl-py", "cloudpathlib", "fastquadtree", "humanfriendly", "ipython", "jsonpickle", "kagglehub", "kagglesdk",
    "protobuf", "psutil", "python-dateutil", "requests", "reverse_geocoder", "seaborn", "setuptools<81", "traitlets",
)  # fmt: skip


@pytest.fixture(scope="session")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the packages of the other tools."""
    folder = tmp_path_factory.mktemp("tools")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), *PACKAGES]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"the other tools cannot be installed here: {done.stderr.strip()[-200:]}")
    return folder


def run(tools: Path, code: str, *words: Path) -> str:
    """What Python code prints with the packages of the other tools."""
    source = Path(__file__).parent.parent.parent / "src"
    places = {"PYTHONPATH": f"{tools}:{source}", "YOLO_CONFIG_DIR": str(tools), "MPLCONFIGDIR": str(tools)}
    command = [sys.executable, "-W", "ignore", "-c", code, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **places})
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture
def card(tmp_path: Path) -> Detections:
    """What a detector says of five photographs."""
    for name in "abcd":
        draw(tmp_path / f"{name}.jpg")

    def box(category: str, conf: float, **facts: int) -> dict[str, object]:
        return {"category": category, "conf": conf, "bbox": [0.1, 0.1, 0.5, 0.5], **facts}

    images = [
        {"file": "a.jpg", "detections": [box("1", 0.9), box("1", 0.7), box("2", 0.8), box("1", 0.05)]},
        {"file": "b.jpg", "detections": [box("2", 0.9)]},
        {"file": "c.jpg", "detections": [box("3", 0.8)], "datetime": "2024:05:01 12:00:00"},
        {"file": "d.jpg", "detections": []},
        {"file": "e.jpg", "failure": "Failure image access", "detections": None},
    ]
    return read(tmp_path / "md.json", {"info": {"format_version": "1.4"}, "images": images})


VALIDATE = """
import sys
from megadetector.postprocessing.validate_batch_results import validate_batch_results
for path in sys.argv[1:]:
    found = validate_batch_results(path)["validation_results"]
    print(found["errors"], found["warnings"])
"""


def test_megadetectors_validator_accepts_what_we_write(card: Detections, tools: Path, tmp_path: Path) -> None:
    import cv2
    import numpy as np

    clip = tmp_path / "clip.mp4"
    video = cv2.VideoWriter(str(clip), cv2.VideoWriter.fourcc(*"mp4v"), 10.0, (64, 48))
    for number in range(30):
        video.write(np.full((48, 64, 3), number * 8, np.uint8))
    video.release()
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    rows = [
        answer(card.inputs(), FOX, HUMAN, FOX.at(Rank.PHYLUM)),
        answer(list_inputs([str(clip), str(tmp_path / "broken.mp4"), str(tmp_path / "a.jpg")]), FOX),
        answer(card.inputs()),
    ]
    paths = [tmp_path / f"{number}.json" for number in range(3)]
    for path, of_one, source in zip(paths, rows, (card, None, card), strict=True):
        path.write_text(written("megadetector", of_one, source))
    assert run(tools, VALIDATE, *paths).splitlines()[-3:] == ["[] []"] * 3


CONVERT = """
import json, sys
from megadetector.utils.wi_taxonomy_utils import generate_md_results_from_predictions_json
made = generate_md_results_from_predictions_json(sys.argv[1])
from speciesnet.utils import load_partial_predictions
names = [one["filepath"] for one in json.load(open(sys.argv[1]))["predictions"]]
done, todo = load_partial_predictions(sys.argv[1], [{"filepath": name} for name in names])
print(json.dumps({"images": made["images"], "categories": made["classification_categories"], "done": len(done)}))
try:
    load_partial_predictions(sys.argv[2], [{"filepath": name} for name in names])
except RuntimeError as error:
    print(str(error))
"""


def test_speciesnets_readers_find_the_species(card: Detections, tools: Path, tmp_path: Path) -> None:
    """Those of its package and MegaDetector's converter; the format before is refused, as SpeciesNet does."""
    rows = answer(card.inputs(), FOX, HUMAN)
    for name, form in (("new.json", "speciesnet"), ("old.json", "speciesnet-legacy")):
        (tmp_path / name).write_text(written(form, rows, card))
    *_, made, refused = run(tools, CONVERT, tmp_path / "new.json", tmp_path / "old.json").splitlines()
    found = json.loads(made)
    assert found["done"] == 4, "all but the photograph that failed"
    named = {found["categories"][number] for number, _ in found["images"][0]["detections"][0]["classifications"]}
    assert named == {"red fox"}
    assert found["images"][4]["detections"] is None
    assert "older output format" in refused


IMPORT = """
import json, sys
from pathlib import Path
import pandas as pd
from camtraptools import detect, importer
folder, results = Path(sys.argv[1]), Path(sys.argv[2])
names = [f"{letter}.jpg" for letter in "abcde"]
pd.DataFrame({"mediaID": names, "deploymentID": "one", "timestamp": "2024-05-01T12:00:00Z", "filePath": names,
              "fileMediatype": "image/jpeg"}).to_csv(folder / "media.csv", index=False)
importer.run(folder, results)
detect.write_observations(folder, 0.2)
"""


@pytest.mark.parametrize("form", ["megadetector", "speciesnet"])
def test_camtraptools_makes_the_same_observations(form: str, card: Detections, tools: Path, tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(written(form, answer(card.inputs(), FOX), card))
    run(tools, IMPORT, tmp_path, tmp_path / "results.json")
    with (tmp_path / "observations.csv").open() as table:
        rows = [(row["mediaID"], row["observationType"], row["scientificName"]) for row in csv.DictReader(table)]
    fox, human = ("a.jpg", "animal", "Vulpes vulpes"), ("a.jpg", "human", "")
    assert sorted(rows) == sorted([
        fox, fox, human, ("b.jpg", "human", ""), ("c.jpg", "vehicle", ""), ("d.jpg", "blank", ""),
        ("e.jpg", "unclassified", ""),
    ])  # fmt: skip


WEIGHTS = """
import sys
import torch
from yolov5.models.yolo import Model

def level(width, source):
    return [[-1, 1, "Conv", [width, 1, 1]], [-1, 1, "nn.Upsample", [None, 2, "nearest"]],
            [[-1, source], 1, "Concat", [1]]]

def down(width, source, out):
    return [[-1, 1, "Conv", [width, 3, 2]], [[-1, source], 1, "Concat", [1]], [-1, 3, "C3", [out, False]]]

backbone = [[-1, 1, "Conv", [64, 6, 2, 2]]]
for width, n in ((128, 3), (256, 6), (512, 9), (768, 3), (1024, 3)):
    backbone += [[-1, 1, "Conv", [width, 3, 2]], [-1, n, "C3", [width]]]
backbone += [[-1, 1, "SPPF", [1024, 5]]]
c3 = lambda width: [[-1, 3, "C3", [width, False]]]
head = level(768, 8) + c3(768) + level(512, 6) + c3(512) + level(256, 4) + c3(256)
head += down(256, 20, 512) + down(512, 16, 768) + down(768, 12, 1024)
head += [[[23, 26, 29, 32], 1, "Detect", ["nc", "anchors"]]]
anchors = [[19, 27, 44, 40, 38, 94], [96, 68, 86, 152, 180, 137], [140, 301, 303, 264, 238, 542],
           [436, 615, 739, 380, 925, 792]]
torch.manual_seed(0)
model = Model({"nc": 3, "depth_multiple": 0.33, "width_multiple": 0.125, "anchors": anchors, "backbone": backbone,
               "head": head})
model.names = {0: "animal", 1: "person", 2: "vehicle"}
torch.save({"epoch": -1, "model": model.half()}, sys.argv[1])
"""
"""Weights in the layout of MegaDetector 5 (YOLOv5 with four levels), an eighth as wide, untrained."""

DETECT = """
import sys
from PIL import ImageFile
from linnaea.cli import main
weights, photograph, model, output = sys.argv[1:]
code = main(["predict", photograph, "--detector", weights, "--detection-threshold", "0.005", "--device", "cpu",
             "--model", model, "--output", output])
assert not ImageFile.LOAD_TRUNCATED_IMAGES
sys.exit(code)
"""


def test_megadetector_runs_first(tools: Path, trained: Path, tmp_path: Path) -> None:
    weights, output = tmp_path / "md_v5a.0.0.pt", tmp_path / "out.json"
    run(tools, WEIGHTS, weights)
    said = run(tools, DETECT, weights, draw(tmp_path / "a.jpg"), trained / "model", output)
    assert "PTDetector" not in said, "what the package prints goes to standard error"
    content = json.loads(output.read_text())
    assert content["info"]["detector"] == "md_v5a.0.0.pt"
    (image,) = content["images"]
    assert image["detections"]
    assert all(("classifications" in one) == (one["category"] == "1") for one in image["detections"])
    assert run(tools, VALIDATE, output).splitlines()[-1] == "[] []"
