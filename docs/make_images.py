"""Write docs/images/answers.png, the web page with photographs and answers: ``python docs/make_images.py``.

It needs Chromium with its driver, and the extras ``serve`` and ``dev``. The photographs are those of ``linnaea demo``:
openly licensed, and carried by scikit-image and scikit-learn.
"""

import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.request import urlopen

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from linnaea.cli.demo import copy_sample_photographs

IMAGES = Path(__file__).parent / "images"
SHOWN = ("chelsea.png", "flower.jpg", "china.jpg", "brick.png")
"""A cat, a dahlia, a temple and a wall."""
WIDTH = 1100
"""Pixels of the window: two photographs side by side."""


def find_port() -> int:
    """Return a free port."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def open_browser() -> webdriver.Chrome:
    """Return a headless Chromium."""
    options = webdriver.ChromeOptions()
    for word in ("--headless=new", "--no-sandbox", "--hide-scrollbars", f"--window-size={WIDTH},1000"):
        options.add_argument(word)
    driver = webdriver.ChromeService(shutil.which("chromedriver"))  # without it Selenium asks the network for one
    return webdriver.Chrome(options=options, service=driver)


def picture_answers(address: str, photographs: list[Path], target: Path) -> None:
    """Give photographs to the page at ``address``, wait for all answers, and save what a person sees."""
    browser = open_browser()
    try:
        browser.get(address)
        browser.find_element(By.ID, "files").send_keys("\n".join(map(str, photographs)))
        WebDriverWait(browser, 120).until(
            lambda page: len(page.find_elements(By.CSS_SELECTOR, "#results article h2")) == len(photographs)
        )
        frame = browser.execute_script("return document.documentElement.scrollHeight + outerHeight - innerHeight")
        browser.set_window_size(WIDTH, frame)
        browser.save_screenshot(str(target))
    finally:
        browser.quit()


def main() -> None:
    """Start a server with the model in the package, and make the picture."""
    with tempfile.TemporaryDirectory() as folder:
        samples = copy_sample_photographs(Path(folder))
        port = find_port()
        server = subprocess.Popen([sys.executable, "-m", "linnaea.cli", "serve", "--port", str(port)])
        try:
            WebDriverWait(None, 60, ignored_exceptions=[OSError]).until(
                lambda _: urlopen(f"http://127.0.0.1:{port}/health").status == 200
            )
            shown = [samples / name for name in SHOWN]
            picture_answers(f"http://127.0.0.1:{port}/", shown, IMAGES / "answers.png")
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
