"""The web page in a real browser: photographs in, lineages out, on a desk and on a phone."""

import time
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
