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
    wait_for(lambda: (tmp_path / "taxa.csv").exists() and (tmp_path / "taxa.csv").stat().st_size)
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


def take(browser: Any, served: str, paths: list[Path]) -> None:
    browser.get(served)
    browser.execute_script("document.body.dataset.kept = ''")
    browser.find_element("id", "files").send_keys("\n".join(map(str, paths)))
    wait_for(lambda: browser.execute_script("return document.body.dataset.kept") == str(len(paths)))


def names_on(browser: Any) -> list[str]:
    return [card.find_element("class name", "file").text for card in browser.find_elements("tag name", "article")]


def test_what_is_on_the_page_survives_a_reload(browser: Any, served: str, photographs: Path) -> None:
    paths = sorted(photographs.rglob("*.jpg"))[:3]
    take(browser, served, paths)
    before = [card.text for card in browser.find_elements("tag name", "article")]
    browser.refresh()
    wait_for(lambda: len(browser.find_elements("tag name", "article")) == 3)
    assert [card.text for card in browser.find_elements("tag name", "article")] == before
    image = browser.find_element("css selector", "article img")
    wait_for(lambda: image.get_property("naturalWidth") > 0)
    browser.find_element("id", "clear").click()
    wait_for(lambda: browser.execute_script("return document.body.dataset.kept") == "0")
    browser.refresh()
    time.sleep(0.5)
    assert browser.find_elements("tag name", "article") == []


def test_cards_are_sorted_removed_enlarged_and_corrected(
    browser: Any, served: str, photographs: Path, predictor: Any, tmp_path: Path
) -> None:
    paths = [tmp_path / f"photo {letter}.jpg" for letter in "dbca"]
    for path, photo in zip(paths, sorted(photographs.rglob("*.jpg"))[::16], strict=False):
        path.write_bytes(photo.read_bytes())
    take(browser, served, paths)
    order = "const o = document.getElementById('order'); o.value = arguments[0]; o.onchange();"
    browser.execute_script(order, "doubt")
    certainty = browser.execute_script("return ordered().map(certainty)")
    assert certainty == sorted(certainty)
    browser.execute_script(order, "name")
    assert names_on(browser) == sorted(path.name for path in paths)
    browser.find_element("css selector", "article .to-remove").click()
    assert len(names_on(browser)) == 3
    browser.find_element("css selector", "article .photo").click()
    dialog = browser.find_element("id", "large")
    assert dialog.is_displayed()
    assert dialog.find_element("tag name", "img").size["width"] > 1000
    first = dialog.find_element("tag name", "span").text
    dialog.find_element("class name", "next").click()
    assert dialog.find_element("tag name", "span").text != first
    dialog.find_element("class name", "close").click()
    assert not dialog.is_displayed()
    name = predictor.bank.taxa["scientific_name"][3]
    browser.find_element("css selector", "article .to-correct").click()
    field = browser.find_element("css selector", "article form input")
    field.send_keys(name[:6])
    wait_for(lambda: browser.execute_script("return document.querySelectorAll('#names option').length > 0"))
    field.clear()
    field.send_keys(f"species:{name}\ue007")
    wait_for(lambda: "corrected by you" in browser.find_element("tag name", "article").text)
    assert browser.find_element("css selector", "article h2").text == name
    browser.find_element("id", "save").click()
    wait_for(lambda: (tmp_path / "taxa.csv").exists() and (tmp_path / "taxa.csv").stat().st_size)
    assert f",{name}," in (tmp_path / "taxa.csv").read_text()
    assert (tmp_path / "taxa.csv").read_text().count("corrected by hand") == 1


def test_every_format_can_be_downloaded(browser: Any, served: str, photographs: Path, tmp_path: Path) -> None:
    from linnaea.serve.exports import ENDINGS, PACKAGE

    take(browser, served, sorted(photographs.rglob("*.jpg"))[:2])
    for form, ending in ENDINGS.items():
        if form == PACKAGE:  # it asks for the time, which these photographs do not state
            continue
        for old in tmp_path.glob("taxa*"):
            old.unlink()
        browser.execute_script("document.getElementById('format').value = arguments[0]", form)
        browser.find_element("id", "save").click()
        wait_for((tmp_path / f"taxa{ending}").exists)
        assert (tmp_path / f"taxa{ending}").stat().st_size > 0
    assert len(browser.find_elements("css selector", "#format option")) == len(ENDINGS)
    choose = "format.value = arguments[0]; format.dispatchEvent(new Event('change'))"
    browser.execute_script(f"const format = document.getElementById('format'); {choose}", PACKAGE)
    assert browser.find_element("id", "lat").is_displayed(), "where the camera stood"
    browser.find_element("id", "save").click()
    wait_for(lambda: "when it was taken" in browser.find_element("id", "status").text)


def test_where_the_answer_comes_from_is_drawn(browser: Any, served: str, photographs: Path) -> None:
    take(browser, served, sorted(photographs.rglob("*.jpg"))[:1])
    image = browser.find_element("css selector", "article img")
    before = image.get_attribute("src")
    browser.find_element("css selector", "article .to-where").click()
    wait_for(lambda: image.get_attribute("src") != before)
    wait_for(lambda: image.get_property("naturalWidth") == 32)


def test_the_reason_is_shown_and_no_certain_class_below_no_organism(
    browser: Any, served: str, photographs: Path
) -> None:
    take(browser, served, sorted(photographs.rglob("*.jpg"))[:1])
    change = "Object.assign(results[0], arguments[0]); card(results[0]);"
    for abstention, reason in (
        ("no organism", "no organism recognised: less evidence than 99% of known photographs show"),
        ("not among the labels", "an organism, but not one of the 190 birds (Aves)"),
    ):
        browser.execute_script(change, {"abstention": abstention, "reason": reason, "status": "abstained"})
        shown = browser.find_element("tag name", "article").text
        assert abstention in shown
        assert reason in shown
        assert "%" not in shown.replace(reason, "")
    browser.execute_script(change, {"abstention": "not sure enough"})
    assert "kingdom" in browser.find_element("tag name", "article").text


LEAST_CONTRAST = """
const linear = v => v / 255 <= .03928 ? v / 255 / 12.92 : ((v / 255 + .055) / 1.055) ** 2.4;
const luminance = colour => colour.map(linear).reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
const parse = text => (text.match(/[\\d.]+/g) || []).map(Number);
const behind = element => {
  for (let one = element; one; one = one.parentElement) {
    const [r, g, b, a = 1] = parse(getComputedStyle(one).backgroundColor);
    if (a === 1) return [r, g, b];
  }
  return matchMedia("(prefers-color-scheme: dark)").matches ? [0, 0, 0] : [255, 255, 255];
};
const found = [];
for (const element of document.body.querySelectorAll("*")) {
  const own = [...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
  const field = element.matches("input, select");
  if (!own && !field || !element.checkVisibility() || element.closest("script") || element.clientWidth < 2) continue;
  let opacity = 1;
  for (let one = element; one; one = one.parentElement) opacity *= +getComputedStyle(one).opacity;
  const back = behind(element), ink = parse(getComputedStyle(element).color).slice(0, 3)
    .map((v, i) => v * opacity + back[i] * (1 - opacity));
  const [low, high] = [luminance(ink), luminance(back)].sort((a, b) => a - b);
  const what = element.tagName + "." + element.className + " " + element.textContent.slice(0, 30);
  found.push([(high + .05) / (low + .05), what]);
}
return found.sort((a, b) => a[0] - b[0]);
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_has_a_contrast_of_at_least_4_5(
    browser: Any, served: str, photographs: Path, tmp_path: Path, scheme: str
) -> None:
    """WCAG 2.2, success criterion 1.4.3, also of greyed rows, hints and buttons that are off."""
    scheme_is = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", scheme_is)
    (tmp_path / "bad.jpg").write_text("no picture")
    browser.get(served)
    off = browser.execute_script(LEAST_CONTRAST)
    assert off[0][0] >= 4.5, off[:3]
    take(browser, served, [*sorted(photographs.rglob("*.jpg"))[:2], tmp_path / "bad.jpg"])
    browser.execute_script("document.querySelectorAll('details').forEach(one => one.open = true)")
    browser.execute_script("const c = document.getElementById('confidence'); c.value = .99; c.oninput();")
    browser.find_element("css selector", "article .to-correct").click()
    ratios = browser.execute_script(LEAST_CONTRAST)
    assert len(ratios) > 40
    assert ratios[0][0] >= 4.5, ratios[:3]
    enter(browser, "within", "order:Nowhere")
    wait_for(lambda: browser.find_element("id", "status").get_attribute("class") == "bad")
    large = browser.execute_script(LEAST_CONTRAST)
    assert large[0][0] >= 4.5, large[:3]
