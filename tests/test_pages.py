"""The pages keep their word: the commands of tutorials run and print what stands there, all others are understood.

A tutorial is read from top to bottom in an empty folder. A block ``csv title="names.csv"`` is a file. A block
``console`` has commands after ``$`` and below each what it prints, with or without its messages. A block ``python`` is
run, and a block ``text`` behind it is what it prints. ``...`` stands for any text, on a line of its own for any lines.
Behind the comment ``figures differ`` figures need not agree: those of a model that is trained on the page differ
between processors. ``UPDATE_PINS=1`` writes what is printed into the page.
"""

import os
import re
import shlex
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from importlib import import_module
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path
from typing import Any

import pytest

import linnaea
from linnaea import cli
from linnaea.errors import LinnaeaError

ROOT = Path(__file__).parent.parent
TUTORIALS = sorted((ROOT / "docs/tutorials").glob("*.md"))
QUICK = ("index", "clean-names", "follow-taxonomy", "name-a-folder")
"""Tutorials that train nothing."""
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FIGURES_DIFFER = "<!-- figures differ -->\n"
BLOCK = re.compile(r"^```(?P<language>\w+)?(?: title=\"(?P<title>.*?)\")?\n(?P<body>.*?)^```$", re.M | re.DOTALL)


FIGURE = re.compile(r" *\d+\.\d+%?| *\d+%")


class Tee(StringIO):
    """Standard output that a second stream, of output and messages in their order, gets too."""

    def __init__(self, both: StringIO) -> None:
        super().__init__()
        self.both = both

    def write(self, text: str) -> int:
        self.both.write(text)
        return super().write(text)


def run_command(line: str) -> tuple[str, str]:
    """Return what one command line prints on standard output, and that with its messages; it must end with 0 or 3."""
    words = shlex.split(line)
    if words[0] == "head":
        shown = "".join(Path(words[-1]).read_text().splitlines(keepends=True)[: int(words[words.index("-n") + 1])])
        return shown, shown
    assert words[0] == "linnaea", line
    both = StringIO()
    with redirect_stdout(Tee(both)) as printed, redirect_stderr(both):
        code = cli.main(words[1:])
    assert code in (cli.DONE, cli.SOME_FAILED), f"{line}: exit code {code}"
    said, all_said = (re.sub(r"[ \t]+$", "", one.getvalue(), flags=re.MULTILINE) for one in (printed, both))
    return said, all_said


def agrees(expected: str, printed: str, *, loosely: bool) -> bool:
    """Return whether a page says what was printed; loosely: but for figures."""
    if loosely:
        expected, printed = FIGURE.sub(" #", expected), FIGURE.sub(" #", printed)
    pattern = "".join(
        "(?:.*\n)*?" if line == "...\n" else ".*?".join(map(re.escape, line.split("...")))
        for line in expected.splitlines(keepends=True)
    )
    return bool(re.fullmatch(pattern, printed))


def settle(expected: str, *printed: str, loosely: bool = False) -> str:
    """Return what a page says if it is one of what was printed, else the first of these."""
    return expected if any(agrees(expected, one, loosely=loosely) for one in printed) else printed[0]


def run_console(body: str, *, loosely: bool) -> str:
    """Run the commands of a block, and return it with what they print."""
    written = []
    for part in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
        command, _, expected = part.partition("\n")
        while command.endswith("\\"):
            more, _, expected = expected.partition("\n")
            command = f"{command}\n{more}"
        printed = run_command(command.replace("\\\n", " "))
        written.append(f"$ {command}\n{settle(expected, *printed, loosely=loosely)}")
    return "".join(written)


def read_tutorial(text: str) -> str:
    """Do what a tutorial says, and return it with what its commands print."""
    names: dict[str, object] = {}
    parts, end, said = [], 0, ""
    for found in BLOCK.finditer(text):
        body, loosely = found["body"], text[: found.start()].endswith(FIGURES_DIFFER)
        if found["title"]:
            Path(found["title"]).write_text(body)
        elif found["language"] == "console":
            body = run_console(body, loosely=loosely)
        elif found["language"] == "python":
            printed = StringIO()
            with redirect_stdout(printed):
                exec(compile(body, "tutorial", "exec"), names)
            said = printed.getvalue()
        elif found["language"] == "text":
            body = settle(body, said, loosely=loosely)
        parts += [text[end : found.start("body")], body]
        end = found.end("body")
    return "".join([*parts, text[end:]])


def test_what_stands_for_other_text_stands_for_no_more() -> None:
    assert agrees("a\n...\nd 1.5\n", "a\nb\nc\nd 1.5\n", loosely=False)
    assert agrees("score 0.9...\n", "score 0.9876\n", loosely=False)
    assert agrees("top 74.2% ± 5.4%\n", "top  8.0% ± 0.1%\n", loosely=True)
    assert not agrees("top 74.2%\n", "top 74.3%\n", loosely=False)
    assert not agrees("top 74.2%\n", "worst 74.2%\n", loosely=True)
    assert not agrees("96 images\n", "97 images\n", loosely=True), "counts are no figures of a model"
    assert settle("a\n", "b\n", "b\nc\n") == "b\n"


def _case(page: Path) -> Any:
    return pytest.param(page, id=page.stem, marks=() if page.stem in QUICK else pytest.mark.long)


@pytest.mark.parametrize("page", [_case(page) for page in TUTORIALS])
def test_a_tutorial_does_what_it_says(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    text = page.read_text(encoding="utf-8")
    done = read_tutorial(text)
    if os.environ.get("UPDATE_PINS"):
        page.write_text(done, encoding="utf-8")
    else:
        assert done == text


def iter_commands(page: Path) -> Iterator[str]:
    """Yield each line of a page's blocks that begins with ``linnaea``."""
    for found in BLOCK.finditer(page.read_text(encoding="utf-8")):
        joined = re.sub(r"\\\n\s*", " ", found["body"])
        for line in joined.splitlines():
            words = line.removeprefix("$ ").partition(" #")[0].strip()
            if words.startswith("linnaea ") and "..." not in words:
                yield re.split(r" (?:&&|\||>|2>) ?", words)[0]


COMMANDS = [(page.name, line) for page in PAGES for line in iter_commands(page)]


def test_every_command_of_every_page_is_understood() -> None:
    wrong = []
    for page, line in COMMANDS:
        verb, *words = shlex.split(line)[1:]
        if verb.startswith("-") or verb == "help":
            continue
        commands = import_module(f"linnaea.cli.{verb.replace('-', '_')}").COMMANDS
        name = "" if "" in commands else words.pop(0)
        try:
            with redirect_stdout(TextIOWrapper(BytesIO(), encoding="utf-8")):
                cli._parse(commands[name][0], f"linnaea {verb}", words)
        except SystemExit as stop:  # --help
            if stop.code:
                wrong.append(f"{page}: {line}")
        except (cli.UsageError, KeyError) as error:
            wrong.append(f"{page}: {line}: {error}")
        except LinnaeaError:
            continue  # it is understood, and looked for the run that it names
    assert len(COMMANDS) > 50
    assert not wrong, "\n".join(wrong)


def test_the_changelog_has_each_version_once_and_the_newest_is_ours() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    unreleased, *versions = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert unreleased == "Unreleased"
    assert [version.partition(" - ")[0] for version in versions] == ["0.2.0", "0.1.0"]
    assert linnaea.__version__ == "0.2.0"
    assert f"version: {linnaea.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


MESSAGES = re.findall(r"^### (.*)$", (ROOT / "docs/faq.md").read_text().partition("## Messages")[2], re.MULTILINE)


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_that_is_explained_is_one_of_ours(message: str) -> None:
    assert any(message in path.read_text() for path in (ROOT / "src").rglob("*.py"))
