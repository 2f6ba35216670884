"""Every command's options, choices and defaults are pinned in ``options.txt``; the words around them are free.

After a change that is meant: ``UPDATE_PINS=1 python -m pytest tests/cli/test_options.py``.
"""

import io
import re
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from linnaea import cli

PINNED = Path(__file__).parent / "options.txt"
LISTED = re.compile(r"^  ([a-z0-9-]+) +\S", re.MULTILINE)


@pytest.fixture(autouse=True)
def _width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")


def read_help(*words: str) -> str:
    """Return what ``linnaea WORDS --help`` prints."""
    printed = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")  # without an encoding, frames are of ASCII
    with redirect_stdout(printed):
        try:
            cli.main([*words, "--help"])
        except SystemExit as stop:
            assert not stop.code
    printed.seek(0)
    return printed.read()


def iter_options(text: str) -> Iterator[str]:
    """Yield one line an option of a help text: names, values to choose from, and the default."""
    entries: list[list[str]] = []  # of each option: what it is called, then its description
    begins = ""
    for line in text.splitlines():
        inside = line.strip("│").rstrip()
        if line.startswith("╭"):
            begins = " " if "positional" in line else " -"
        elif not line.startswith("│"):
            continue
        elif entries and entries[-1][0].count("{") > entries[-1][0].count("}"):  # choices that are wrapped
            entries[-1][0] += inside
        elif inside.startswith(begins) and inside[1:2].strip():
            entries.append(re.split(r"\s{2,}", inside.strip(), maxsplit=1))
        elif entries and inside.startswith("   "):
            entries[-1].append(inside.strip())
    for name, *described in entries:
        default = re.fullmatch(r".*(\((?:default:.*|required)\))", " ".join(described))
        yield f"{name.replace(', ', ',') if '{' in name else name} {default.group(1) if default else ''}".strip()


def iter_commands() -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield the words of every command (of ``train``, of every recipe) and its help text."""
    for verb in cli.VERBS:
        text = read_help(verb)
        if re.match(r"usage: linnaea \w+ (COMMAND|RECIPE) ", text):
            yield from (((verb, word), read_help(verb, word)) for word in LISTED.findall(text))
        else:
            yield (verb,), text


def list_options() -> str:
    """Every command with its sorted options; of a recipe only what differs from the first one."""
    sections: list[str] = []
    first_recipe: list[str] = []
    for words, text in iter_commands():
        options = sorted(iter_options(text))
        assert options, f"no option was read from `linnaea {' '.join(words)} --help`"
        shown = options
        if words[0] == "train":
            shown = [option for option in options if option not in first_recipe]
            first_recipe = first_recipe or options
        sections.append("\n".join([f"linnaea {' '.join(words)}", *(f"  {option}" for option in shown)]))
    return "\n\n".join(sections) + "\n"


def test_no_option_choice_or_default_is_lost(pinned: Callable[[str, Path], None]) -> None:
    pinned(list_options(), PINNED)


HELP = """\
usage: linnaea x [-h] [OPTIONS] PATH

╭─ positional arguments ───────────────────────────╮
│ PATH                 A table. (required)         │
╰──────────────────────────────────────────────────╯
╭─ recipe options ─────────────────────────────────╮
│ How it is trained.                               │
│ ──────────────────────────────────────────────── │
│ --rank {a,b}         Words. (default: a)         │
│ --objective {info_nce,sigmoid,                   │
│ hierarchical}                                    │
│                      Words that go on. (default: │
│                      info_nce)                   │
╰──────────────────────────────────────────────────╯
"""


def test_a_help_text_is_read_whole() -> None:
    assert [*iter_options(HELP)] == [
        "PATH (required)",
        "--rank {a,b} (default: a)",
        "--objective {info_nce,sigmoid,hierarchical} (default: info_nce)",
    ]


@pytest.mark.parametrize(
    ("old", "new"),
    [("--rank", "--level"), ("{a,b}", "{a}"), ("default: a", "default: b"), (" hierarchical}", "}")],
)
def test_the_listing_sees_what_changes(old: str, new: str) -> None:
    assert [*iter_options(HELP.replace(old, new))] != [*iter_options(HELP)]


def test_the_listing_does_not_see_words() -> None:
    assert [*iter_options(HELP.replace("Words", "Others").replace("How it", "It"))] == [*iter_options(HELP)]
