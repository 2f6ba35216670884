"""The page for reviewers: a keyboard alone suffices, nothing is lost, and callers reach only what is in the table."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from answered import FOX, answer
from packaged import photograph

from linnaea.predict.inputs import list_inputs
from linnaea.predict.outputs.rows import make_empty_row
from linnaea.predict.outputs.write import write_rows
from linnaea.predict.records.decisions import DecisionLog, Kind, Verdicts, read_decisions
from linnaea.predict.records.review import Review, Wanted
from linnaea.serve.access import Access
from linnaea.serve.review_app import Desk, make_review_app, open_desk
from linnaea.taxonomy.taxon import Taxon

LYNX = Taxon(("Animalia", "Chordata", "Mammalia", "Carnivora", "Felidae", "Lynx", "lynx"), common_name="Eurasian Lynx")
ENTER, LEFT = "\ue007", "\ue012"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Three events at two cameras: a sure fox, two shots of an unsure lynx, and one of nothing; one file is broken."""
    rows = []
    for name, after_s, taxa, score in [
        ("north/a", 0, (FOX, LYNX), 0.9), ("north/b", 3600, (LYNX, FOX), 0.4), ("north/c", 3605, (LYNX, FOX), 0.6),
        ("south/d", 0, (), 0.0),
    ]:  # fmt: skip
        path = photograph(tmp_path / f"card/{name}.jpg", after_s)
        rows += answer(list_inputs([str(path)]), *taxa, score=score)
    rows.append(make_empty_row(str(tmp_path / "card/south/e.jpg"), "failed", "truncated"))
    write_rows(tmp_path / "taxa.parquet", "parquet", iter(rows))
    return tmp_path / "taxa.parquet"


@pytest.fixture
def desk(table: Path) -> Desk:
    log = DecisionLog(table.with_name("decisions.jsonl"))
    return open_desk(Review.open(table), log, reviewer="Ann")


@pytest.fixture
def client(desk: Desk) -> Any:
    from fastapi.testclient import TestClient

    return TestClient(make_review_app(desk, access=Access(hosts=())), base_url="http://localhost")


def names(review: Review, wanted: Wanted, verdicts: Verdicts | None = None) -> list[str]:
    return [Path(review.items[n].file_name).stem for n in review.choose(wanted, verdicts or Verdicts())]


def test_the_least_sure_come_first_and_events_stay_together(desk: Desk) -> None:
    review = desk.review
    assert names(review, Wanted()) == ["d", "b", "c", "a"], "no answer, then the event of the least sure one"
    assert names(review, Wanted(order="time")) == ["a", "b", "c", "d"]
    assert names(review, Wanted(taxon=" felidae ")) == ["b", "c"]
    assert names(review, Wanted(taxon="eurasian")) == ["b", "c"]
    assert names(review, Wanted(camera="south")) == ["d"]
    assert names(review, Wanted(at_most=0.5)) == ["d", "b"]
    assert sorted(names(review, Wanted(order="random"))) == ["a", "b", "c", "d"]
    assert sorted(len(members) for members in review.events.values()) == [1, 1, 2]
    assert len(review.failed) == 1


def test_a_table_of_any_form_is_reviewed_and_no_other(table: Path, tmp_path: Path) -> None:
    import polars as pl

    from linnaea.errors import LinnaeaError, UsageError

    rows = pl.read_parquet(table)
    rows.drop("event", "prior", "bbox").write_csv(tmp_path / "old.csv")
    assert len(Review.open(tmp_path / "old.csv").items) == 4
    (tmp_path / "other.csv").write_text("name,label\na,b\n")
    with pytest.raises(UsageError, match="not a table of answers"):
        Review.open(tmp_path / "other.csv")
    rows.filter(pl.col("status") == "failed").write_csv(tmp_path / "broken.csv")
    with pytest.raises(LinnaeaError, match="no photographs to review"):
        Review.open(tmp_path / "broken.csv")


def test_decisions_of_a_request_are_on_the_disk(client: Any, desk: Desk) -> None:
    ids = client.get("/queue", params={"reviewer": "Ann"}).json()["ids"]
    done = client.post("/decisions", json={"ids": ids[1:3], "reviewer": " Ann ", "decision": "confirmed"})
    assert done.json()["progress"]["done"] == 2
    verdicts = read_decisions(desk.log.path)
    assert [verdict.word for _, verdict in verdicts.items()] == ["confirmed", "confirmed"]
    assert client.get("/queue").json()["ids"] == [ids[0], ids[3]]
    assert client.get("/queue", params={"state": "mine", "reviewer": "Ben"}).json()["ids"] == ids
    other = {
        "ids": ids[1:2],
        "reviewer": "Ben",
        "decision": "corrected",
        "taxon": {"genus": "Felis", "family": "Felidae"},
    }
    assert client.post("/decisions", json=other).json()["progress"]["disputed"] == 1
    assert client.get("/queue", params={"state": "disputed"}).json()["ids"] == ids[1:2]
    item = client.get(f"/items/{ids[1]}").json()
    assert item["verdict"] == "disputed"
    assert {one["reviewer"]: one["name"] for one in item["decisions"]} == {"Ann": "Lynx lynx", "Ben": "Felis"}
    assert client.post("/undo", json={"reviewer": "Ben"}).json()["ids"] == ids[1:2]
    assert client.post("/undo", json={"reviewer": "Ben"}).status_code == 422


def test_the_answers_own_taxon_is_a_confirmation_and_nothing_to_confirm_is_said(client: Any, desk: Desk) -> None:
    d, b, *_ = client.get("/queue").json()["ids"]
    lynx = {key: value for key, value in client.get(f"/items/{b}").json()["guesses"][0]["taxon"].items() if value}
    client.post("/decisions", json={"ids": [b], "reviewer": "Ann", "decision": "corrected",
                                    "taxon": lynx | {"common_name": ""}})  # fmt: skip
    assert desk.log.verdicts[desk.review.items[b].file_name].word == "confirmed"  # type: ignore[union-attr]
    refused = client.post("/decisions", json={"ids": [b, d], "reviewer": "Ann", "decision": "confirmed"})
    assert refused.status_code == 422
    assert "no answer to confirm" in refused.json()["detail"]
    assert len(desk.log.path.read_text().splitlines()) == 1, "all or none"


@pytest.mark.parametrize(
    "body",
    [
        {"ids": [], "reviewer": "Ann", "decision": "nothing there"},
        {"ids": [0], "reviewer": "", "decision": "nothing there"},
        {"ids": [0], "reviewer": "   ", "decision": "nothing there"},
        {"ids": [0], "reviewer": "x" * 101, "decision": "nothing there"},
        {"ids": [0], "reviewer": "Ann", "decision": "eaten"},
        {"ids": [0], "reviewer": "Ann", "decision": "corrected"},
        {"ids": [0], "reviewer": "Ann", "decision": "corrected", "taxon": {}},
        {"ids": [0], "reviewer": "Ann", "decision": "corrected", "taxon": {"species_epithet": "vulpes"}},
        {"ids": [0], "reviewer": "Ann", "decision": "corrected", "taxon": {"genus": "Vul\npes"}},
    ],
)
def test_what_is_no_decision_is_refused(body: dict[str, Any], client: Any, desk: Desk) -> None:
    assert client.post("/decisions", json=body).status_code == 422
    assert desk.log.path.read_text() == ""


def test_callers_reach_only_what_is_in_the_table(client: Any, table: Path) -> None:
    picture = client.get("/photos/0")
    assert picture.headers["content-type"] == "image/jpeg"
    assert b"Drawn" not in picture.content, "made anew, without metadata"
    for path in ("/photos/4", "/photos/-1", "/photos/..%2f..%2fetc%2fpasswd", "/thumbs/99", "/items/4"):
        assert client.get(path).status_code in (404, 422)
    assert client.get("/table", headers={"Host": "evil.example"}).status_code == 421
    body = {"ids": [0], "reviewer": "Ann", "decision": "nothing there"}
    assert client.post("/decisions", json=body, headers={"Origin": "http://evil.example"}).status_code == 403
    assert client.post("/undo", json=body, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    for header in ("Content-Security-Policy", "Cross-Origin-Resource-Policy", "X-Content-Type-Options"):
        assert header in client.get("/").headers
    Path(table.parent / "card/north/b.jpg").write_text("no picture")
    assert client.get("/photos/1").status_code == 404


def test_a_root_keeps_photographs_inside(tmp_path: Path, table: Path) -> None:
    from linnaea.errors import LinnaeaError

    Review.open(table, root=tmp_path / "card")
    with pytest.raises(LinnaeaError, match="not a path inside"):
        Review.open(table, root=tmp_path / "card/north")


def test_a_token_is_asked_for(desk: Desk) -> None:
    from fastapi.testclient import TestClient

    client = TestClient(make_review_app(desk, access=Access(hosts=(), token="word")), base_url="http://localhost")
    assert client.get("/").status_code == 200
    assert client.get("/table").status_code == client.get("/photos/0").status_code == 401
    assert client.get("/table", headers={"Authorization": "Bearer word"}).status_code == 200


def test_a_folder_is_reviewed_beside_the_service(card_folder: Path, predictor: Any) -> None:
    from fastapi.testclient import TestClient

    from linnaea.cli.serve import _add_review
    from linnaea.serve.app import make_app

    app = make_app(predictor, access=Access(hosts=(), token="word"))
    _add_review(app, card_folder, predictor)
    client = TestClient(app, base_url="http://localhost", headers={"Authorization": "Bearer word"})
    assert "<title>Review" in client.get("/review", headers={"Authorization": ""}).text
    assert 'href="review/"' in client.get("/").text
    assert client.get("/review/table").json()["progress"]["n"] == 3
    assert client.get("/review/photos/0").headers["content-type"] == "image/jpeg"
    client.post("/review/decisions", json={"ids": [0], "reviewer": "Ann", "decision": "cannot tell"})
    assert len(read_decisions(card_folder / "decisions.jsonl")) == 1
    assert (card_folder / "taxa.parquet").exists(), "answered once; a table that is there is taken"
    assert client.get("/review/table", headers={"Authorization": ""}).status_code == 401


@pytest.fixture
def card_folder(tmp_path: Path) -> Path:
    for n in range(3):
        photograph(tmp_path / f"folder/{n}.jpg", 100 * n)
    return tmp_path / "folder"


@pytest.mark.parametrize("form", ["csv", "xlsx", "jsonl", "parquet", "html", "megadetector", "camtrapdp", "dwca"])
def test_every_file_can_be_downloaded(form: str, client: Any) -> None:
    answered = client.get("/export", params={"form": form})
    assert answered.status_code == 200
    assert "taxa-reviewed" in answered.headers["Content-Disposition"]
    assert len(answered.content) > 200
    assert client.get("/export", params={"form": "exe"}).status_code == 422


def test_a_package_of_camtrap_dp_is_downloaded_as_a_zip(desk: Desk, tmp_path: Path) -> None:
    """Without a time zone or positions it says what is missing."""
    import io
    import zipfile
    from dataclasses import replace
    from zoneinfo import ZoneInfo

    from fastapi.testclient import TestClient

    def download(one: Desk) -> Any:
        app = make_review_app(one, access=Access(hosts=()))
        return TestClient(app, base_url="http://localhost").get("/export", params={"form": "camtrapdp-package"})

    assert "--timezone" in download(desk).json()["detail"]
    (tmp_path / "cameras.csv").write_text("deploymentID,latitude,longitude\nnorth,52.5,13.4\nsouth,52.6,13.5\n")
    context = replace(desk.context, deployments=tmp_path / "cameras.csv", zone=ZoneInfo("Europe/Berlin"))
    answered = download(replace(desk, context=context))
    assert answered.status_code == 200
    names = zipfile.ZipFile(io.BytesIO(answered.content)).namelist()
    assert {"datapackage.json", "deployments.csv", "media.csv", "observations.csv"} <= {*names}


@pytest.fixture
def served(desk: Desk, listen: Any) -> Iterator[str]:
    with listen(make_review_app(desk, access=Access(hosts=()))) as address:
        yield address


def wait(browser: Any, script: str, *values: Any) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 30, 0.05).until(lambda driver: driver.execute_script(f"return {script}", *values), script)


def press(browser: Any, keys: str) -> None:
    browser.find_element("tag name", "body").send_keys(keys)


def shown(browser: Any, name: str) -> None:
    """Wait for a photograph."""
    wait(browser, "item && item.file.endsWith(arguments[0]) && document.querySelector('#frame img')?.naturalWidth > 0"
         " && !busy", f"{name}.jpg")  # fmt: skip


@pytest.mark.parametrize("browser", [1280, 500], indirect=True)
def test_a_keyboard_alone_reviews_a_card(browser: Any, served: str, desk: Desk) -> None:
    def word(name: str) -> str:
        verdicts = read_decisions(desk.log.path)
        found = [verdict for file, verdict in verdicts.items() if file.endswith(f"{name}.jpg")]
        return f"{found[0].word} {found[0].decisions[-1].outcome}" if found else ""

    browser.get(served)
    shown(browser, "d")
    assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth"), "nothing sticks out"
    press(browser, ENTER)
    assert word("d") == "", "there is nothing to confirm"
    press(browser, "c")
    browser.find_element("id", "name").send_keys("red f", ENTER)  # faster than the offers come
    shown(browser, "b")
    assert word("d") == "corrected Vulpes vulpes", "completed from the English name"
    press(browser, "e")
    press(browser, "2")
    shown(browser, "a")
    assert word("b") == word("c") == "corrected Vulpes vulpes", "one key for the whole event"
    press(browser, "z")
    shown(browser, "b")
    assert word("b") == word("c") == ""
    press(browser, "e")
    press(browser, ENTER)
    shown(browser, "c")
    assert word("b") == "confirmed Lynx lynx"
    press(browser, "u")
    shown(browser, "a")
    assert word("c") == "cannot tell cannot tell"
    press(browser, LEFT)
    shown(browser, "c")
    press(browser, "n")
    shown(browser, "a")
    press(browser, " b")
    press(browser, ENTER)
    wait(browser, "document.querySelector('#count').textContent === '4 of 4 reviewed'")
    wait(browser, "document.querySelector('#answer h2').textContent === 'Done'")
    assert word("c") == "nothing there nothing there"
    assert word("a") == "confirmed Vulpes vulpes"
    assert [one for one in browser.get_log("browser") if one["level"] == "SEVERE"] == []


def test_a_second_reviewer_sees_what_the_first_said(browser: Any, served: str, desk: Desk, tmp_path: Path) -> None:
    item = next(one for one in desk.review.items if one.file_name.endswith("a.jpg"))
    desk.log.add([item.decide(Kind.CONFIRMED, "Ann")])
    browser.get(served)
    shown(browser, "d")
    press(browser, "f")
    for name, value in {"reviewer": "Ben", "state": "mine", "taxon": "fox"}.items():
        browser.execute_script("const field = document.getElementById(arguments[0]); field.value = arguments[1];"
                               "field.onchange();", name, value)  # fmt: skip
    shown(browser, "a")
    assert "Ann: confirmed, Vulpes vulpes" in browser.find_element("id", "said").text
    browser.find_element("id", "name").send_keys("homo sapiens", ENTER)
    wait(browser, "document.querySelector('#count').textContent.includes('1 in disagreement')")
    assert desk.log.verdicts[item.file_name].reviewers == "Ann | Ben"  # type: ignore[union-attr]
    press(browser, LEFT)
    wait(browser, "document.querySelector('.dispute') !== null")
    browser.find_element("id", "export").click()
    wait(browser, "document.querySelector('#forms button') !== null")
    browser.find_element("css selector", "#forms button").click()
    end = tmp_path / "taxa-reviewed.csv"
    wait(browser, "document.querySelector('#status').textContent.startsWith('exported')")
    assert "disputed" in _read_when_there(end)


def _read_when_there(path: Path) -> str:
    import time

    for _ in range(100):
        if path.exists():
            return path.read_text()
        time.sleep(0.05)
    raise AssertionError("was not downloaded")


def test_whole_names_come_first_whatever_list_they_are_in() -> None:
    from linnaea.serve.completion import Completion

    foxglove = Taxon.of(genus="Digitalis", species="lutea", common_name="Yellow-flowered foxglove")
    zorro = Taxon.of(genus="Lycalopex", species="vetulus", common_name="Small red fox of the plains")
    names = Completion([foxglove], [zorro, FOX])
    assert [one["common_name"] for one in names.complete("red fox")] == [
        "Red Fox", "Small red fox of the plains", "Yellow-flowered foxglove"
    ]  # fmt: skip
    assert [one["name"] for one in names.complete("vulpes")][:2] == ["Vulpes", "Vulpes vulpes"]
    assert names.complete("vulpes v")[0]["taxon"]["family"] == "Canidae"


def test_another_class_of_the_species_is_a_correction(tmp_path: Path) -> None:
    lineage = ("Animalia", "Arthropoda", "Insecta", "Lepidoptera", "Nymphalidae", "Danaus", "plexippus")
    adult, larva = (Taxon(lineage, common_name=f"Danaus plexippus {stage}") for stage in ("adult", "larva"))
    path = photograph(tmp_path / "card/a.jpg", 0)
    write_rows(tmp_path / "taxa.parquet", "parquet", iter(answer(list_inputs([str(path)]), adult, larva, score=0.9)))
    (item,) = Review.open(tmp_path / "taxa.parquet").items
    assert item.decide(Kind.CORRECTED, "Ann", adult).kind is Kind.CONFIRMED
    corrected = item.decide(Kind.CORRECTED, "Ann", larva)
    assert (corrected.kind, corrected.taxon, corrected.answer) == (Kind.CORRECTED, larva, "Danaus plexippus adult")
