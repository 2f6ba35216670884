"""Files of answers are made from what the caller sends; no file of the server is read for them."""

import base64
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from linnaea.predict.inputs import find_input
from linnaea.serve.exports import ENDINGS, PACKAGE, TITLES, Export, export
from linnaea.taxonomy.columns import ANSWER_COLUMNS

FOX = {"file_name": "fox.jpg", "kingdom": "Animalia", "genus": "Vulpes", "species_epithet": "vulpes", "rank": "species",
       "species": "Vulpes vulpes", "common_name": "Red fox", "score": 0.97, "status": "ok"}  # fmt: skip
NOTHING = {"file_name": "b.jpg", "status": "abstained", "reason": "no organism recognised", "score": ""}


@pytest.fixture(scope="module")
def client(predictor: Any) -> Iterator[TestClient]:
    from linnaea.serve.app import make_app

    with TestClient(make_app(predictor)) as client:
        yield client


@pytest.mark.parametrize("form", [form for form in ENDINGS if form != PACKAGE])
def test_every_format_has_the_answers(client: TestClient, form: str) -> None:
    answer = client.post("/export", json={"format": form, "rows": [FOX, NOTHING]})
    assert answer.status_code == 200
    assert answer.headers["content-disposition"] == f'attachment; filename="taxa{ENDINGS[form]}"'
    data = answer.content
    match form:
        case "parquet":
            text = pl.read_parquet(io.BytesIO(data)).write_csv()
        case "xlsx" | "dwca":
            with zipfile.ZipFile(io.BytesIO(data)) as parts:
                text = "".join(parts.read(name).decode("utf-8", "replace") for name in parts.namelist())
        case _:
            text = data.decode()
    assert "vulpes vulpes" in text.lower() or "vulpes;vulpes" in text.lower()
    assert ENDINGS.keys() == TITLES.keys()


def make_head(clock: str) -> str:
    """Return a JPEG in base64 whose EXIF states when it was taken."""
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9003] = clock
    stream = io.BytesIO()
    Image.new("RGB", (16, 16)).save(stream, "JPEG", exif=exif)
    return base64.b64encode(stream.getvalue()).decode()


def test_a_package_has_the_times_and_the_place_that_the_page_sends(client: TestClient) -> None:
    asked = {"format": PACKAGE, "rows": [FOX, NOTHING], "heads": {"fox.jpg": make_head("2024:05:01 12:00:00")}}
    here = {"timezone": "Europe/Berlin", "lat": 52.5, "lon": 13.25}
    answer = client.post("/export", json=asked | here)
    assert answer.status_code == 200, answer.text
    with zipfile.ZipFile(io.BytesIO(answer.content)) as parts:
        text = {name: parts.read(name).decode() for name in parts.namelist()}
    media = pl.read_csv(io.StringIO(text["media.csv"]), infer_schema=False).to_dicts()
    assert [(one["fileName"], one["timestamp"]) for one in media] == [("fox.jpg", "2024-05-01T12:00:00+02:00")]
    place = pl.read_csv(io.StringIO(text["deployments.csv"])).to_dicts()
    assert [(one["deploymentID"], one["latitude"], one["longitude"]) for one in place] == [("photographs", 52.5, 13.25)]
    assert "Vulpes vulpes" in text["observations.csv"]
    assert "1 photograph without a time is not in the package" in text["notes.txt"]
    assert json.loads(text["datapackage.json"])["resources"]
    for wrong, words in ((asked, "no position"), (asked | {"heads": {}} | here, "when it was taken"),
                         (asked | here | {"timezone": "Mars"}, "Mars")):  # fmt: skip
        refused = client.post("/export", json=wrong | {"timezone": wrong.get("timezone", "UTC")})
        assert (refused.status_code, words in refused.json()["detail"]) == (422, True), refused.text


def test_rows_keep_their_columns_and_numbers() -> None:
    data, _ = export(Export(format="jsonl", rows=[FOX, NOTHING]))
    fox, nothing = map(json.loads, data.decode().splitlines())
    assert (*fox,) == ANSWER_COLUMNS
    assert (fox["score"], nothing["score"]) == (0.97, None)


def test_no_file_of_the_server_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, photographs: Path) -> None:
    """A caller who knows the name of a photograph here learns neither its picture nor its time."""
    photo = tmp_path / "fox.jpg"
    photo.write_bytes(min(photographs.rglob("*.jpg")).read_bytes())
    monkeypatch.chdir(tmp_path)
    named: list[Path] = []

    def note(name: str, *of: Any) -> Any:
        named.append(Path(name))
        return find_input(name)

    monkeypatch.setattr("linnaea.predict.outputs.contact_sheet.find_input", note)
    for name in ("fox.jpg", str(photo), "../fox.jpg", "clip.mp4#t=1.0", "http://127.0.0.1/fox.jpg", "a.tar/fox.jpg"):
        data, _ = export(Export(format="html", rows=[FOX | {"file_name": name}]))
        assert base64.b64encode(photo.read_bytes()[:60]) not in data
    assert named
    assert not [path for path in named if path.exists()]


def test_a_page_shows_the_pictures_that_came_with_the_request() -> None:
    _, jpeg = cv2.imencode(".jpg", np.full((20, 30, 3), 90, np.uint8))
    picture = base64.b64encode(jpeg.tobytes()).decode()
    data, _ = export(Export(format="html", rows=[FOX], pictures={"fox.jpg": picture}))
    assert picture.encode() in data


@pytest.mark.parametrize(
    "wrong",
    [
        {"format": "exe", "rows": [FOX]},
        {"format": "csv", "rows": [FOX | {"score": "much"}]},
        {"format": "html", "rows": [FOX], "pictures": {"fox.jpg": "PHN2Zz4="}},
        {"format": "html", "rows": [FOX], "pictures": {"fox.jpg": "%%%"}},
        {"format": "csv"},
    ],
)
def test_what_is_no_export_is_refused(client: TestClient, wrong: dict[str, Any]) -> None:
    assert client.post("/export", json=wrong).status_code == 422


def test_a_heat_map_is_what_the_model_sees(client: TestClient, photographs: Path) -> None:
    photo = min(photographs.rglob("*.jpg"))
    answer = client.post("/explain", files={"file": ("a.jpg", photo.read_bytes())})
    assert answer.headers["content-type"] == "image/jpeg"
    assert cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_COLOR).shape == (32, 32, 3)
    assert client.post("/explain", files={"file": ("a.jpg", b"text")}).status_code == 415
    wrong = client.post("/explain", files={"file": ("a.jpg", photo.read_bytes())}, data={"within": "Nowhere"})
    assert wrong.status_code == 422
