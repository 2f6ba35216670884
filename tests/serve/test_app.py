"""The service answers everybody: with taxa, or with a status and one line that say what is wrong."""

import asyncio
import io
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.ExifTags import GPS, IFD, Base

from linnaea.cli import main
from linnaea.data.images import ImageError
from linnaea.predict.inputs import file_input
from linnaea.predict.predictor import Predictor
from linnaea.predict.priors import Regions, make_regions
from linnaea.predict.session import open_model
from linnaea.serve import service as service_module
from linnaea.serve.app import make_app
from linnaea.serve.service import Limits, Service, TooSlowError
from linnaea.taxonomy.ranks import RANK_LABELS

LIMITS = Limits(file_bytes=200_000, request_bytes=500_000, files=5, waiting=4, seconds=10)


@pytest.fixture(scope="module")
def client(predictor: Predictor) -> Iterator[TestClient]:
    with TestClient(make_app(predictor, limits=LIMITS)) as opened:
        yield opened


@pytest.fixture(scope="module")
def pictures(photographs: Path) -> list[Path]:
    return sorted(photographs.rglob("*.jpg"))


def post(client: TestClient, paths: list[Path], **form: Any) -> Any:
    return client.post("/predict", files=[("files", (path.name, path.read_bytes())) for path in paths], data=form)


def test_answers_equal_those_of_the_command(client: TestClient, predictor: Predictor, pictures: list[Path]) -> None:
    results = post(client, pictures[:4], top_k=3).raise_for_status().json()["results"]
    expected = predictor.answer(file_input(path) for path in pictures[:4])
    for path, got, answer in zip(pictures, results, expected, strict=False):
        assert got["file_name"] == path.name
        names = [taxon["name"] for taxon in got["alternatives"]]
        assert names == [guess.taxon.scientific_name for guess in answer.guesses[:3]]
        scores = [taxon["probability"] for taxon in got["alternatives"]]
        assert scores == pytest.approx([guess.score for guess in answer.guesses[:3]], abs=1e-4)


def test_the_path_goes_down_and_the_answer_is_its_deepest_sure_taxon(client: TestClient, pictures: list[Path]) -> None:
    for confidence in (0.05, 0.3, 0.999):
        (got,) = post(client, pictures[:1], confidence=confidence).json()["results"]
        assert [taxon["rank"] for taxon in got["path"]] == list(RANK_LABELS)
        scores = [taxon["probability"] for taxon in got["path"]]
        assert scores == sorted(scores, reverse=True)
        sure = [taxon for taxon in got["path"] if taxon["probability"] >= confidence]
        assert got["answer"] == (sure[-1] if sure else None)
        assert got["status"] == ("ok" if sure else "abstained")
        assert got["abstention"] == ("" if sure else "not sure enough")


def test_a_confidence_may_differ_by_rank(client: TestClient, pictures: list[Path]) -> None:
    (got,) = post(client, pictures[:1]).json()["results"]
    genus = got["path"][-2]["probability"] - 1e-4
    forms: list[Any] = [["species=1", f"genus={genus}"], f"species=1 genus={genus}"]
    for form in forms:
        (got,) = post(client, pictures[:1], confidence=form).json()["results"]
        assert got["answer"]["rank"] == "genus"
    assert post(client, pictures[:1], confidence="tribe=1").status_code == 422


def test_only_within(client: TestClient, predictor: Predictor, pictures: list[Path]) -> None:
    (clade,) = client.get("/taxa", params={"q": "kingdom:", "limit": 1}).json()
    answers = post(client, pictures[:1], within=clade["clade"]).json()
    assert answers["n_labels"] == clade["n_labels"]
    assert {taxon["lineage"][0] for taxon in answers["results"][0]["alternatives"]} == {clade["name"]}
    none = post(client, pictures[:1], within="order:Nowhere")
    assert none.status_code == 422
    assert "no order of that name" in none.json()["detail"]


def test_completion_begins_with_what_begins_so(client: TestClient, predictor: Predictor) -> None:
    genus = predictor.bank.taxa["genus"][0]
    found = client.get("/taxa", params={"q": genus[:4].upper()}).json()
    assert f"genus:{genus}" in [one["clade"] for one in found]
    assert client.get("/taxa", params={"q": "x" * 101}).status_code == 422
    assert client.get("/taxa", params={"limit": 0}).status_code == 422


def test_a_bad_photograph_among_good_ones_is_a_row(client: TestClient, pictures: list[Path], tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    answer = post(client, [pictures[0], tmp_path / "bad.jpg", pictures[1]])
    assert answer.status_code == 200
    assert [one["status"] != "failed" for one in answer.json()["results"]] == [True, False, True]
    assert answer.json()["results"][1]["reason"]


def test_a_note_on_the_file_comes_with_the_answer(client: TestClient, pictures: list[Path], tmp_path: Path) -> None:
    (tmp_path / "cut.jpg").write_bytes(pictures[0].read_bytes()[:-2])
    whole, cut = post(client, [pictures[0], tmp_path / "cut.jpg"]).json()["results"]
    assert cut["alternatives"] == whole["alternatives"]
    assert "end marker is missing" in cut["reason"]
    assert "end marker is missing" in cut["rows"][0]["reason"]
    assert not whole["rows"][0]["reason"]


@pytest.mark.parametrize(
    ("content", "form", "status", "word"),
    [
        (b"", {}, 415, "empty"),
        (b"text", {}, 415, ""),
        (b"x" * 200_001, {}, 413, "at most 200,000"),
        (b"x" * 600_000, {}, 413, "longer than 500,000"),
        (None, {"rank": "tribe"}, 422, "is not a rank"),
        (None, {"confidence": "2"}, 422, "above 0 and at most 1"),
        (None, {"top_k": "0"}, 422, "greater than"),
        (None, {"lat": "95", "lon": "0"}, 422, "less than or equal"),
        (None, {"lat": "50", "lon": "9"}, 422, "no file of regions"),
        (None, {"lat": "50"}, 422, "lat and lon together"),
        (None, {"within": "x" * 101}, 422, "101 characters"),
        (None, {"within": [f"genus:G{n}" for n in range(17)]}, 422, "17 clades"),
        (None, {"species_list": "Pica pica"}, 422, "linnaea serve --labels FILE"),
        (None, {"k": "3"}, 422, "send it as top_k"),
        (None, {"date": "2024-05-01"}, 422, "send the month as month"),
    ],
)
def test_what_is_wrong_is_said(
    client: TestClient, pictures: list[Path], content: bytes | None, form: dict[str, Any], status: int, word: str
) -> None:
    data = pictures[0].read_bytes() if content is None else content
    answer = client.post("/predict", files=[("files", ("a.jpg", data))], data=form)
    assert answer.status_code == status
    assert word in str(answer.json()["detail"])


def test_too_many_files_no_files_and_no_form(client: TestClient, pictures: list[Path]) -> None:
    assert post(client, pictures[:6]).status_code == 413
    assert client.post("/predict").status_code == 422
    assert client.post("/predict", content=b"no form", headers={"content-type": "text/plain"}).status_code == 422
    broken = {"content-type": "multipart/form-data; boundary=x"}
    assert client.post("/predict", content=b"--y\r\nno form", headers=broken).status_code in (400, 422)


def test_a_body_that_hides_its_length_is_cut_off(client: TestClient) -> None:
    def endless() -> Iterator[bytes]:
        head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.jpg"\r\n\r\n'
        yield head
        for _ in range(1000):
            yield b"y" * 10_000

    answer = client.post("/predict", content=endless(), headers={"content-type": "multipart/form-data; boundary=x"})
    assert answer.status_code == 413


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=3000), st.integers(0, 1000), st.booleans())
def test_200_malformed_uploads_and_no_server_error(
    client: TestClient, pictures: list[Path], noise: bytes, place: int, cut: bool
) -> None:
    good = pictures[place % len(pictures)].read_bytes()
    at = place * len(good) // 1001
    data = good[:at] + noise + (b"" if cut else good[at:])
    answer = client.post("/predict", files=[("files", ("a\r\nb.jpg", data))])
    assert answer.status_code in (200, 415)


def test_the_page_is_whole_and_loads_nothing_from_elsewhere(client: TestClient) -> None:
    answer = client.get("/")
    assert answer.status_code == 200
    assert "{{" not in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "http://" not in answer.text
    assert "https://" not in answer.text
    assert client.get("/openapi.json").json()["paths"].keys() >= {"/predict", "/taxa", "/health"}


def test_health_and_metrics_name_no_folder(client: TestClient, trained: Path, pictures: list[Path]) -> None:
    post(client, pictures[:1])
    health = client.get("/health").json()
    assert health["status"] == "ok"
    assert "/" not in health["model"]
    assert 'linnaea_requests_total{code="200"}' in client.get("/metrics").text


def test_a_place_changes_answers_and_says_so(predictor: Predictor, pictures: list[Path], tmp_path: Path) -> None:
    name = predictor.bank.taxa["scientific_name"][0]
    rows = "\n".join(f"{name}\t10\t20\t5" for _ in range(5000)) + "\nPica pica\t-30\t20\t5" * 5000
    (tmp_path / "occ.txt").write_text(f"species\tdecimalLatitude\tdecimalLongitude\tmonth\n{rows}\n")
    make_regions(tmp_path / "occ.txt", tmp_path / "r.parquet")
    with TestClient(make_app(predictor, limits=LIMITS, regions=Regions.open(tmp_path / "r.parquet"))) as client:
        nowhere = post(client, pictures[:1]).json()["results"][0]
        here = post(client, pictures[:1], lat=10, lon=20, month=5).json()["results"][0]
    p = {taxon["name"]: taxon["probability"] for taxon in here["alternatives"]}
    before = {taxon["name"]: taxon["probability"] for taxon in nowhere["alternatives"]}
    assert nowhere["prior"] == ""
    assert here["prior"] in ("same", "changed")
    assert p[name] > before.get(name, 0)


def test_what_an_upload_says_of_place_and_date_comes_first(predictor: Predictor, tmp_path: Path) -> None:
    """The photograph's own place and month count before the request's, each by itself, as in the command."""
    name = predictor.bank.taxa["scientific_name"][0]
    rows = "\n".join(f"{name}\t10\t20\t5" for _ in range(5000)) + "\nPica pica\t-30\t20\t5" * 5000
    (tmp_path / "occ.txt").write_text(f"species\tdecimalLatitude\tdecimalLongitude\tmonth\n{rows}\n")
    make_regions(tmp_path / "occ.txt", tmp_path / "r.parquet")
    for word, position, date in (("both", True, "2024:05:03 08:00:00"), ("place", True, ""), ("neither", False, "")):
        image = Image.new("RGB", (60, 60), "gray")
        exif = image.getexif()
        if date:
            exif.get_ifd(IFD.Exif)[Base.DateTimeOriginal] = date
        if position:
            gps = exif.get_ifd(IFD.GPSInfo)
            gps[GPS.GPSLatitude], gps[GPS.GPSLatitudeRef] = (10.0, 0.0, 0.0), "N"
            gps[GPS.GPSLongitude], gps[GPS.GPSLongitudeRef] = (20.0, 0.0, 0.0), "E"
        image.save(tmp_path / f"{word}.jpg", exif=exif)
    app = make_app(predictor, limits=LIMITS, regions=Regions.open(tmp_path / "r.parquet"))
    with TestClient(app) as client:

        def ask(word: str, **form: float) -> tuple[str, float]:
            (result,) = post(client, [tmp_path / f"{word}.jpg"], top_k=50, **form).json()["results"]
            return result["prior"], {one["name"]: one["probability"] for one in result["alternatives"]}.get(name, 0)

        elsewhere = {"lat": -30, "lon": 20}
        assert ask("neither")[0] == ""
        here = ask("neither", lat=10, lon=20, month=5)
        assert here[1] > ask("neither")[1]
        assert ask("both") == ask("both", **elsewhere, month=11) == ask("place", **elsewhere, month=5) == here
        unknown = ask("place", **elsewhere, month=11)[1]
        assert unknown == pytest.approx(ask("neither")[1], abs=1e-6), "nothing is known of November there"


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """A model that waits until it is let go."""
    go = threading.Event()

    def encode(model: Any, pixels: Any) -> Any:
        go.wait(10)
        return np.zeros((len(pixels), model.width), np.float32)

    monkeypatch.setattr(service_module, "encode_pixels", encode)
    return go


async def post_at_once(predictor: Predictor, limits: Limits, bodies: list[list[bytes]], go: Callable[[], Any]) -> Any:
    """The answers of requests that come together; ``go`` is called once all have come."""
    app = make_app(predictor, limits=limits)
    transport = httpx.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        jobs = [
            asyncio.create_task(client.post("/predict", files=[("files", ("a.jpg", data)) for data in body]))
            for body in bodies
        ]
        await asyncio.sleep(1)
        n_waiting = app.state.service.n_waiting
        go()
        answers = await asyncio.gather(*jobs)
        again = await client.post("/predict", files=[("files", ("a.jpg", bodies[0][0]))])
        return answers, n_waiting, again


def test_a_full_queue_says_come_back(predictor: Predictor, pictures: list[Path], slow: threading.Event) -> None:
    data = pictures[0].read_bytes()
    limits = Limits(waiting=6, files=10, seconds=8)
    answers, n_waiting, again = asyncio.run(post_at_once(predictor, limits, [[data]] * 4 + [[data] * 3] * 20, slow.set))
    codes = [answer.status_code for answer in answers]
    assert set(codes) == {200, 429}
    taken = sum(n for n, code in zip([1] * 4 + [3] * 20, codes, strict=True) if code == 200)
    assert n_waiting == taken <= limits.waiting, "all of a request's photographs find room, or none"
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.headers["retry-after"] == "2"
    assert "try again" in refused.json()["detail"]
    assert again.status_code == 200, "what was refused holds no room"
    slow.clear()
    answers, n_waiting, _ = asyncio.run(post_at_once(predictor, limits, [[data] * 8], slow.set))
    assert answers[0].status_code == 200, "an idle server takes any request that is allowed"
    assert n_waiting == 8


def test_all_requests_together_hold_a_bounded_number_of_bytes(
    predictor: Predictor, pictures: list[Path], slow: threading.Event
) -> None:
    data = pictures[0].read_bytes()
    limits = Limits(bytes_under_way=3 * len(data) + 2_000, seconds=8)
    answers, _, again = asyncio.run(post_at_once(predictor, limits, [[data]] * 10, slow.set))
    codes = [answer.status_code for answer in answers]
    assert 200 in codes
    assert codes.count(429) >= 7
    assert set(codes) == {200, 429}
    assert again.status_code == 200
    answers, _, _ = asyncio.run(post_at_once(predictor, limits, [[data] * 9], slow.set))
    assert answers[0].status_code == 200, "alone, any request that is allowed"


def test_too_large_a_photograph_among_others_is_a_row(client: TestClient, pictures: list[Path]) -> None:
    parts = [("files", ("large.jpg", b"x" * 200_001)), ("files", ("good.jpg", pictures[0].read_bytes()))]
    results = client.post("/predict", files=parts).raise_for_status().json()["results"]
    assert [one["status"] == "failed" for one in results] == [True, False]
    assert "at most 200,000" in results[0]["reason"]


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*args: Any, **options: Any) -> Any:
        raise AssertionError("decoded")

    stream = io.BytesIO()
    Image.new("RGB", (400, 300)).save(stream, "JPEG")
    monkeypatch.setattr("linnaea.data.images.simplejpeg.decode_jpeg", never)
    with TestClient(make_app(predictor, limits=Limits(pixels=119_999))) as client:
        answer = client.post("/predict", files=[("files", ("a.jpg", stream.getvalue()))])
    assert answer.status_code == 415
    assert "too large: 400 x 300 pixels" in answer.json()["detail"]


def test_a_slow_answer_is_given_up(predictor: Predictor, pictures: list[Path], slow: threading.Event) -> None:
    async def one() -> None:
        service = Service(predictor, Limits(seconds=0.2))
        start = time.monotonic()
        with pytest.raises(TooSlowError):
            await service.encode(pictures[0].read_bytes())
        assert time.monotonic() - start < 5
        slow.set()
        await asyncio.to_thread(service.close)

    asyncio.run(one())


def test_a_model_that_fails_does_not_end_the_service(
    predictor: Predictor, pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = service_module.encode_pixels
    calls: list[int] = []

    def once(model: Any, pixels: Any) -> Any:
        calls.append(len(pixels))
        if len(calls) == 1:
            raise MemoryError("no room")
        return whole(model, pixels)

    monkeypatch.setattr(service_module, "encode_pixels", once)

    async def both() -> Any:
        service = Service(predictor, Limits())
        with pytest.raises(MemoryError):
            await service.encode(pictures[0].read_bytes())
        with pytest.raises(ImageError):
            await service.encode(b"no picture")
        vector = await service.encode(pictures[0].read_bytes())
        await asyncio.to_thread(service.close)
        return vector

    assert np.linalg.norm(asyncio.run(both())) == pytest.approx(1, abs=1e-5)


def test_what_waits_for_the_same_labels_is_answered_together(predictor: Predictor) -> None:
    """While one is answered the others wait, and are the next call; an error is that of all of its call."""
    calls: list[list[int]] = []
    begun, go_on = threading.Event(), threading.Event()

    def answer(numbers: list[int], asked: Predictor) -> list[int]:
        assert asked is predictor
        calls.append(numbers)
        begun.set()
        assert go_on.wait(20)
        if 9 in numbers:
            raise MemoryError("no room")
        return [number * 10 for number in numbers]

    async def many() -> list[Any]:
        service = Service(predictor, Limits())
        first = asyncio.create_task(service.score_together(answer, 0, predictor))
        await asyncio.to_thread(begun.wait, 20)
        rest = [asyncio.create_task(service.score_together(answer, number, predictor)) for number in (1, 2, 3)]
        await asyncio.sleep(0)
        rest[1].cancel()
        go_on.set()
        found = await asyncio.gather(first, *rest, return_exceptions=True)
        with pytest.raises(MemoryError):
            await service.score_together(answer, 9, predictor)
        await asyncio.to_thread(service.close)
        return found

    found = asyncio.run(many())
    assert [found[0], found[1], found[3]] == [0, 10, 30] and isinstance(found[2], asyncio.CancelledError)
    assert calls == [[0], [1, 2, 3], [9]]


def test_batches_come_in_few_sizes(predictor: Predictor, pictures: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch keeps memory for every size it has seen."""
    whole = service_module.encode_pixels
    sizes: list[int] = []

    def spy(model: Any, pixels: Any) -> Any:
        sizes.append(len(pixels))
        return whole(model, pixels)

    monkeypatch.setattr(service_module, "encode_pixels", spy)

    async def many() -> None:
        service = Service(predictor, Limits())
        await asyncio.gather(*(service.encode(path.read_bytes()) for path in pictures[:13]))
        await asyncio.to_thread(service.close)

    asyncio.run(many())
    assert sum(sizes) == 13
    assert set(sizes) <= {1, 2, 4}


def test_a_small_model_encodes_on_several_threads(pictures: list[Path]) -> None:
    """Each photograph gets its own vector, and closing finishes what waits."""
    model = open_model("nano", device="cpu")
    alone = model.predictor()
    many = replace(alone, model=replace(model.encoder, n_callers=3))

    async def all_of(predictor: Predictor) -> list[Any]:
        service = Service(predictor, Limits())
        found = await asyncio.gather(*(service.encode(path.read_bytes()) for path in pictures[:9]))
        await asyncio.to_thread(service.close)
        return found

    np.testing.assert_allclose(asyncio.run(all_of(many)), asyncio.run(all_of(alone)), atol=1e-6)


def test_a_head_of_ones_own_is_served(trained: Path, photographs: Path, tmp_path: Path) -> None:
    for folder in sorted(path for path in photographs.iterdir() if path.is_dir())[:3]:
        shutil.copytree(folder, tmp_path / "mine" / folder.name)
    name = str(trained / "model")
    assert main(["adapt", str(tmp_path / "mine"), "--output", str(tmp_path / "head"), "--model", name]) == 0
    mine = open_model(name, labels=tmp_path / "head", device="cpu").predictor()
    paths = sorted((tmp_path / "mine").rglob("*.jpg"))[:5]
    with TestClient(make_app(mine)) as client:
        answers = post(client, paths, top_k=3).raise_for_status().json()
    assert answers["n_labels"] == 3
    for got, answer in zip(answers["results"], mine.answer(file_input(path) for path in paths), strict=True):
        names = [taxon["name"] for taxon in got["alternatives"]]
        assert names == [guess.taxon.scientific_name for guess in answer.guesses]


def test_make_app_is_an_application(predictor: Predictor) -> None:
    assert isinstance(make_app(predictor), FastAPI)
