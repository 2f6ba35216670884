"""From the cards of a season to records, and back to a model that knows its animals better."""

import contextlib
import csv
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import polars as pl
import pytest
from packaged import validate, validate_profile
from season import Season, draw_season

from linnaea.cli import main
from linnaea.predict.records.decisions import DecisionLog, Kind, read_decisions
from linnaea.predict.records.review import Item, Review, Wanted
from linnaea.taxonomy.taxon import Taxon


def predict(season: Season, model: Path, output: Path, *more: str) -> pl.DataFrame:
    """Answer the season by its detections; some photographs cannot be read."""
    words = ["predict", str(season.card), "--detections", str(season.detections), "--model", str(model / "model"),
             "--sequence-gap", "60", "--output", str(output), *more]  # fmt: skip
    assert main(words) == 3
    table = pl.read_parquet(output)
    failed = set(table.filter(pl.col("status") == "failed")["file_name"].str.replace("#.*", ""))
    assert failed == season.broken, "the broken ones, and no others"
    return table


def decision(season: Season, item: Item) -> tuple[Kind, Taxon | None]:
    """What a reviewer who knows the truth decides."""
    truth = season.truth[item.photograph]
    return (Kind.CORRECTED, truth) if isinstance(truth, Taxon) else (Kind.CONFIRMED, None)


def share_right(table: pl.DataFrame, season: Season, events: Sequence[int]) -> float:
    """The share of right first answers to animals of these events."""
    first = table.unique("file_name", keep="first", maintain_order=True)
    told = [(season.truth[name.rpartition("#")[0]], species) for name, species, status in
            first.select("file_name", "species", "status").rows()
            if status == "ok" and season.event_of[name.rpartition("#")[0]] in events]  # fmt: skip
    right = [isinstance(truth, Taxon) and truth.scientific_name == species for truth, species in told]
    return sum(right) / len(right)


def hand_in(season: Season, table: Path, folder: Path) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Write both packages with the decisions; return the observations and the occurrences, which are valid."""
    from dwca.read import DwCAReader

    words = ["review", str(table), "--timezone", "Europe/Berlin", "--deployments", str(season.deployments), "--format"]
    assert main([*words, "camtrapdp-package", "--output", str(folder / "package")]) == 0
    assert main([*words, "dwca", "--output", str(folder / "archive.zip")]) == 0
    assert validate(folder / "package") == validate_profile(folder / "package") == []
    with (folder / "package/observations.csv").open(newline="") as stream:
        observations = [*csv.DictReader(stream)]
    with DwCAReader(str(folder / "archive.zip")) as archive:
        occurrences = [{key.rpartition("/")[2]: value for key, value in row.data.items()} for row in archive]
    return observations, occurrences


def check_records(season: Season, observations: list[dict[str, str]], n_reviewed: int, table: Path) -> None:
    verdicts = read_decisions(table.with_name("decisions.jsonl"))
    by_people = [row for row in observations if row["observationLevel"] == "media"
                 and row["classificationMethod"] == "human"]  # fmt: skip
    assert len(by_people) == len(verdicts) >= n_reviewed
    assert {row["classifiedBy"] for row in by_people} == {"Ann"}
    told = {verdict.agreed.outcome for _, verdict in verdicts.items() if verdict.agreed is not None}
    assert {row["scientificName"] for row in by_people} - {""} == told - {"nothing there"}
    assert {"human", "blank"} <= {row["observationType"] for row in observations}


def test_a_small_season_becomes_records_and_teaches_the_labels(
    photographs: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    season = draw_season(tmp_path, photographs, n_events=26, n_photographs=60)
    table = tmp_path / "taxa.parquet"
    before = predict(season, trained, table, "--top-k", "3")
    review, log = Review.open(table), DecisionLog(tmp_path / "decisions.jsonl")
    todo = review.choose(Wanted(), log.verdicts)
    assert len(todo) == len(season.truth) - len(season.broken)
    for number in todo[:36]:
        kind, taxon = decision(season, review.items[number])
        log.add([review.items[number].decide(kind, "Ann", taxon)])
    observations, occurrences = hand_in(season, table, tmp_path)
    check_records(season, observations, 36, table)
    assert {row["identificationVerificationStatus"] for row in occurrences} >= {"verified"}
    head = str(tmp_path / "head")
    words = ["adapt", "--decisions", str(log.path), "--model", str(trained / "model"), "--output", head]
    capsys.readouterr()
    assert main(words) == 0
    assert "held out by event" in capsys.readouterr().err
    after = predict(season, trained, tmp_path / "again.parquet", "--labels", head, "--decisions", str(log.path))
    assert after.filter(pl.col("review") != "")["file_name"].n_unique() == 36
    every = range(26)
    assert share_right(after, season, every) > share_right(before, season, every)


@contextlib.contextmanager
def reviewing(table: Path, names: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The command ``linnaea review``; yields its address and its process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [sys.executable, "-m", "linnaea", "review", str(table), "--port", str(port), "--reviewer", "Ann",
             "--labels", str(names), "--checklist", "none"]  # fmt: skip
    process = subprocess.Popen(words)
    try:
        address = f"http://127.0.0.1:{port}/"
        for _ in range(600):
            with contextlib.suppress(OSError), urlopen(f"{address}table"):
                break
            time.sleep(0.1)
        yield address, process
    finally:
        process.kill()
        process.wait()


def wait(browser: Any, script: str, *values: Any) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 60, 0.05).until(lambda driver: driver.execute_script(f"return {script}", *values), script)


def review_event(browser: Any, season: Season) -> None:
    """Decide on the event of the photograph that is shown, with the keyboard alone."""
    body = browser.find_element("tag name", "body")
    file, names, members = browser.execute_script(
        "return [item.file, item.guesses.map(guess => guess.name), item.event.map(one => one.id)]"
    )
    truth = season.truth[file]
    if not isinstance(truth, Taxon):
        body.send_keys("\ue007")  # a person, or nothing: the answer is right
    elif truth.scientific_name in names:
        body.send_keys(str(names.index(truth.scientific_name) + 1))
    else:
        body.send_keys("c")
        field = browser.find_element("id", "name")
        field.send_keys(truth.scientific_name)
        field.send_keys("\ue007")
    wait(browser, "!busy && (!item || !arguments[0].includes(item.id))", members)


@pytest.mark.long
def test_a_season_from_detections_over_a_review_to_packages_and_a_better_model(
    browser: Any, photographs: Path, trained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    season = draw_season(tmp_path, photographs, n_events=60, n_photographs=400)
    assert len(season.truth) == 400
    table = tmp_path / "taxa.parquet"
    before = predict(season, trained, table)
    names = photographs / "metadata.csv"
    with reviewing(table, names) as (address, process):
        browser.get(address)
        wait(browser, "item !== null")
        browser.find_element("tag name", "body").send_keys("e")
        for _ in range(40):
            review_event(browser, season)
        n_done = browser.execute_script("return +document.querySelector('#bar').getAttribute('aria-valuenow')")
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    verdicts = read_decisions(tmp_path / "decisions.jsonl")
    assert len(verdicts) == n_done > 150, "what the page counted is on the disk"
    with reviewing(table, names) as (address, _):
        browser.get(address)
        wait(browser, "document.querySelector('#count').textContent.startsWith(arguments[0])", f"{n_done} of")
    observations, occurrences = hand_in(season, table, tmp_path)
    check_records(season, observations, n_done, table)
    events = [row for row in observations if row["observationLevel"] == "event"]
    assert len({row["eventID"] for row in events}) == 60
    verified = [row for row in occurrences if row["identificationVerificationStatus"] == "verified"]
    agreed = {name.rpartition("/")[2].rpartition("#")[0]: verdict.agreed for name, verdict in verdicts.items()}
    named = {(name, one.outcome) for name, one in agreed.items() if one is not None and one.taxon is not None}
    said = {(row["associatedMedia"].rpartition("/")[2], row["scientificName"]) for row in verified}
    assert said == {pair for pair in named if pair[1] != "Homo sapiens"}
    head = str(tmp_path / "head")
    capfd.readouterr()
    words = ["adapt", "--decisions", str(tmp_path / "decisions.jsonl"), "--model", str(trained / "model")]
    assert main([*words, "--output", head]) == 0
    assert "held out by event" in capfd.readouterr().err
    after = predict(season, trained, tmp_path / "again.parquet", "--labels", head)
    reviewed = {season.event_of[name.rpartition("#")[0] or name] for name, _ in verdicts.items() if "#" in name}
    others = [event for event in range(60) if event not in reviewed]
    assert share_right(after, season, others) > share_right(before, season, others) + 0.1
