"""The page of answers says how sure the model is and whether that is calibrated; a reader filters and sorts."""

from pathlib import Path
from typing import Any

import pytest
from answered import FOX, HUMAN, MAMMAL, answer, draw, written

from linnaea.predict.index import Hit
from linnaea.predict.inputs import list_inputs
from linnaea.predict.outputs.found_page import write_found


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """A fox, a mammal, a person, nothing and a broken file."""
    rows = []
    for name, taxa, score in (("b", [FOX], 0.97), ("a", [MAMMAL], 0.6), ("c", [HUMAN, FOX], 0.8), ("d", [], 0)):
        rows += answer(list_inputs([str(draw(tmp_path / f"{name}.png"))]), *taxa, score=score)
    (tmp_path / "e.png").write_text("no picture")
    rows += answer(list_inputs([str(tmp_path / "e.png")]), FOX)
    path = tmp_path / "page.html"
    path.write_text(written("html", rows, calibrated=True))
    return path


def shown(browser: Any) -> list[str]:
    return [card.text.splitlines()[0] for card in browser.find_elements("css selector", ".card") if card.is_displayed()]


def choose(browser: Any, field: str, value: str) -> None:
    browser.execute_script(
        "const one = document.querySelector(arguments[0]); one.value = arguments[1];"
        "one.dispatchEvent(new Event('input', {bubbles: true}))", f".tools .{field}", value)  # fmt: skip


@pytest.mark.parametrize("browser", [1280, 500], indirect=True)
def test_answers_are_filtered_and_sorted(browser: Any, page: Path) -> None:
    browser.get(page.as_uri())
    every = ["Vulpes vulpes (97%)", "Mammalia (60%)", "Homo sapiens (80%)", "no answer", "cannot be read"]
    assert shown(browser) == every
    choose(browser, "order", "doubt")
    assert shown(browser) == [
        "no answer", "cannot be read", "Mammalia (60%)", "Homo sapiens (80%)", "Vulpes vulpes (97%)"
    ]  # fmt: skip
    choose(browser, "order", "name")
    assert shown(browser)[:2] == ["Mammalia (60%)", "Vulpes vulpes (97%)"]
    choose(browser, "rank", "class")
    assert shown(browser) == ["Mammalia (60%)"]
    choose(browser, "rank", "")
    choose(browser, "least", "0.9")
    assert shown(browser) == ["Vulpes vulpes (97%)"]
    choose(browser, "least", "0")
    choose(browser, "status", "cannot be read")
    assert shown(browser) == ["cannot be read"]
    choose(browser, "status", "")
    choose(browser, "text", "carnivora")
    assert shown(browser) == ["Vulpes vulpes (97%)"]
    assert browser.find_element("css selector", ".tools output").text == "1 of 5 shown"
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    assert [one for one in browser.get_log("browser") if one["level"] == "SEVERE"] == []


def test_a_card_has_lineage_rank_and_the_next_answers(page: Path) -> None:
    html = page.read_text()
    assert "<em>Vulpes vulpes</em> (97%)" in html
    text = html.replace("<em>", "").replace("</em>", "")
    assert "Animalia › Chordata › Mammalia › Carnivora › Canidae › Vulpes" in text
    assert "<span>species</span>" in text
    assert "or Vulpes vulpes (40%)" in text
    assert "no organism recognised" in text


@pytest.mark.parametrize(
    ("calibrated", "says"), [(True, "are calibrated"), (False, "not calibrated"), (None, "among the labels")]
)
def test_the_page_says_whether_it_is_calibrated(tmp_path: Path, calibrated: bool | None, says: str) -> None:
    rows = answer(list_inputs([str(draw(tmp_path / "a.png"))]), FOX)
    assert says in written("html", rows, calibrated=calibrated)


def test_photographs_of_one_name_in_two_folders_are_told_apart(tmp_path: Path) -> None:
    cards = [draw(tmp_path / f"card/{camera}/IMG_0001.png") for camera in ("north/night 1", "south")]
    page = written("html", answer(list_inputs([str(tmp_path / "card")]), FOX))
    for card in cards:
        name = card.relative_to(tmp_path / "card").as_posix().replace("_", "_<wbr>").replace("/", "/<wbr>")
        assert f"<small>{name}</small>" in page
    write_found(tmp_path / "found.html", "a fox", [Hit(name=str(card), score=0.5) for card in cards])
    assert "<small>south/<wbr>IMG_<wbr>0001.png</small>" in (tmp_path / "found.html").read_text()
