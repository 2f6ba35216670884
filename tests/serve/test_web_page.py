"""The web page in a real browser: photographs in, lineages out, on a desk and on a phone."""

import base64
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest


def wait_for(condition: Any, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the page did not get there"
        time.sleep(0.1)


@pytest.mark.parametrize("browser", [1100, 500], indirect=True)
def test_photographs_become_cards_and_a_table(browser: Any, served: str, photographs: Path, tmp_path: Path) -> None:
    bad = tmp_path / "<b>bad.jpg"
    bad.write_text("no picture")
    files = [*sorted(photographs.rglob("*.jpg"))[:9], bad]
    browser.get(served)
    browser.find_element("id", "files").send_keys("\n".join(map(str, files)))
    wait_for(lambda: "10 photographs, 1 cannot be read" in browser.find_element("id", "status").text)
    cards = browser.find_elements("tag name", "article")
    assert len(cards) == 10
    assert "cannot be read" in cards[-1].text
    assert "<b>bad.jpg" in cards[-1].text, "a file's name is text"
    assert "kingdom" in cards[0].text
    assert cards[0].find_element("tag name", "img").get_property("naturalWidth") > 0
    wide = browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    assert wide, "nothing sticks out"
    browser.find_element("id", "save").click()
    wait_for((tmp_path / "taxa.csv").exists)
    lines = (tmp_path / "taxa.csv").read_text().splitlines()
    assert len(lines) == 11
    assert lines[0].startswith("file_name,kingdom,phylum")
    assert [
        entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE" and "415" not in entry["message"]
    ] == []


def test_the_asked_confidence_moves_the_answer_without_asking_again(
    browser: Any, served: str, photographs: Path
) -> None:
    browser.get(served)
    browser.find_element("id", "files").send_keys(str(min(photographs.rglob("*.jpg"))))
    wait_for(lambda: browser.find_elements("tag name", "article"))
    move = "const c = document.getElementById('confidence'); c.value = arguments[0]; c.oninput();"
    path = browser.execute_script("return results[0].path")
    for confidence in (0.3, 0.6, 0.99):
        browser.execute_script(move, confidence)
        sure = [taxon["name"] for taxon in path if taxon["probability"] >= confidence]
        assert browser.find_element("css selector", "article h2").text == (sure or ["not sure enough"])[-1]
    assert browser.find_element("id", "sure").text == "99%"


def test_clades_are_completed(browser: Any, served: str) -> None:
    browser.get(served)
    browser.find_element("id", "within").send_keys("ani")
    wait_for(lambda: browser.execute_script("return document.querySelectorAll('#clades option').length > 0"))
    first = browser.execute_script("return document.querySelector('#clades option').value")
    assert first == "kingdom:Animaria"


DROP = """
const held = new DataTransfer();
for (const [name, text] of arguments[0])
  held.items.add(new File([Uint8Array.from(atob(text), letter => letter.charCodeAt(0))], name));
const event = new DragEvent("drop", {dataTransfer: held, bubbles: true, cancelable: true});
document.querySelector("h1").dispatchEvent(event);
return event.defaultPrevented;
"""


def drop(browser: Any, paths: list[Path]) -> None:
    """Beside the frame that is meant for it."""
    held = [(path.name, base64.b64encode(path.read_bytes()).decode()) for path in paths]
    assert browser.execute_script(DROP, held), "the browser does not leave for the picture"


def status(browser: Any) -> str:
    return str(browser.find_element("id", "status").text)


def enter(browser: Any, name: str, text: str) -> None:
    field = browser.find_element("id", name)
    field.clear()
    field.send_keys(text + "\ue007")


def test_the_last_photographs_dropped_are_those_answered(browser: Any, served: str, photographs: Path) -> None:
    paths = sorted(photographs.rglob("*.jpg"))
    browser.get(served)
    drop(browser, paths[:20])
    drop(browser, paths[20:22])
    wait_for(lambda: status(browser) == "2 photographs")
    time.sleep(1)
    files = [card.find_element("class name", "file").text for card in browser.find_elements("tag name", "article")]
    assert files == [path.name for path in paths[20:22]]
    assert browser.execute_script("return results.length") == 2


def test_a_clade_restricts_the_answers_and_an_unknown_one_is_said(
    browser: Any, served: str, photographs: Path, predictor: Any
) -> None:
    kingdoms = sorted(set(predictor.bank.taxa["kingdom"]))
    browser.get(served)
    drop(browser, [min(photographs.rglob("*.jpg"))])
    wait_for(lambda: status(browser) == "1 photograph")
    first = "return results.length ? results[0].path[0].name : ''"

    def answers(kingdom: str) -> bool:
        return bool(browser.execute_script(first) == kingdom)

    for kingdom in kingdoms:
        enter(browser, "within", f"kingdom:{kingdom}")
        wait_for(partial(answers, kingdom))
    enter(browser, "within", "order:Nowhere")
    wait_for(lambda: "no order of that name" in status(browser))
    assert browser.find_element("id", "status").get_attribute("class") == "bad"


def test_a_place_and_a_date_count_where_the_server_knows_places(
    browser: Any, served: str, served_with_places: str, photographs: Path, predictor: Any
) -> None:
    browser.get(served)
    assert not browser.find_element("id", "lat").is_displayed()
    browser.get(served_with_places)
    name = predictor.bank.taxa["scientific_name"][0]
    drop(browser, [min(photographs.rglob("*.jpg"))])
    wait_for(lambda: status(browser) == "1 photograph")
    of_name = (
        "const found = results[0]?.alternatives.find(one => one.name === arguments[0]); return found?.probability ?? 0"
    )
    before = browser.execute_script(of_name, name)
    enter(browser, "lat", "10")
    browser.find_element("id", "again").click()
    wait_for(lambda: "longitude together" in status(browser))
    enter(browser, "lon", "20")
    wait_for(lambda: browser.execute_script("return results[0]?.prior"))
    assert browser.execute_script(of_name, name) > before
    asked = browser.execute_script(
        "const ask = window.fetch; window.fetch = (to, what) => { window.body = what.body; return ask(to, what); };"
        "const date = document.getElementById('date'); date.value = '2024-05-17'; date.onchange();"
        "return Object.fromEntries([...window.body].filter(([name]) => name !== 'files'))"
    )
    assert (asked["lat"], asked["lon"], asked["month"]) == ("10", "20", "5")


def test_one_photograph_that_is_too_large_spoils_no_other(
    browser: Any, served: str, photographs: Path, tmp_path: Path
) -> None:
    (tmp_path / "large.jpg").write_bytes(b"x" * 20_000_001)
    browser.get(served)
    files = [tmp_path / "large.jpg", min(photographs.rglob("*.jpg"))]
    browser.find_element("id", "files").send_keys("\n".join(map(str, files)))
    wait_for(lambda: status(browser) == "2 photographs, 1 cannot be read")
    assert "at most 20,000,000" in browser.find_element("tag name", "article").text
