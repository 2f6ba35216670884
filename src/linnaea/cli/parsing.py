"""The words of a command turned into its options, by tyro; every complaint is one line."""

import contextlib
import inspect
import io
import re
from collections.abc import Iterator
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from linnaea.errors import UsageError

Options = TypeVar("Options")

_TITLES = ("Value error", "Parsing error", "Required options", "Invalid choice", "Missing argument",
           "Unrecognized options", "Too many arguments")  # fmt: skip
"""Titles of tyro's frames; the sentence below says the same."""

_CHOICE = re.compile(
    r"invalid choice '(?P<given>.*?)' for argument '(?P<option>.*?)'\. Expected one of \((?P<of>.*?)\)"
)


def parse_words(options: type[Options], name: str, words: list[str], default: Options | None = None) -> Options:
    """Parse ``words`` into ``options`` with tyro. A choice may be written in any case (``--rank Genus``).

    Raises:
        UsageError: The words are not valid. The message is one line.
    """
    import tyro

    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint), _without_indents():
            given = tyro.MISSING_NONPROP if default is None else default
            config = (tyro.conf.EnumChoicesFromValues,)
            parsed: Options = tyro.cli(options, prog=name, args=words, default=given, config=config)
            return parsed
    except SystemExit as stop:
        if not stop.code:  # --help
            raise
        message = _one_line(complaint.getvalue())
        if (lowered := _lower_choice(message, words)) != words:
            return parse_words(options, name, lowered, default)
        raise UsageError(f"{name}: {_plain(message)} ({name} --help)") from None
    except ValueError as error:  # checks in __post_init__
        raise UsageError(f"{name}: {error}") from error


@contextlib.contextmanager
def _without_indents() -> Iterator[None]:
    """Take the indents out of docstrings of several lines, at which tyro breaks the help of an option.

    ``findings/tyro-breaks-help-at-line-ends.sh`` shows it.
    """
    import docstring_parser

    parse = docstring_parser.parse_from_object

    def parse_cleaned(
        obj: Any, style: docstring_parser.DocstringStyle = docstring_parser.DocstringStyle.AUTO
    ) -> docstring_parser.Docstring:
        parsed = parse(obj, style)
        for option in parsed.params:
            option.description = option.description and inspect.cleandoc(option.description)
        return parsed

    docstring_parser.parse_from_object = parse_cleaned
    try:
        yield
    finally:
        docstring_parser.parse_from_object = parse


def values_of(options: Any, *parts: type) -> dict[str, Any]:
    """Return the values of the options that these parts of their class declare, by name."""
    return {field.name: getattr(options, field.name) for part in parts for field in fields(part)}


def refuse_given(options: Any, part: type, belongs_to: str) -> None:
    """Refuse options that a part of their class declares, if they were given.

    Raises:
        ValueError: One of them is not its default. The message names these, and the option they belong to.
    """
    given = [field for field in fields(part) if getattr(options, field.name) != field.default]
    spelled = [f"--{'no-' if field.default is True else ''}{field.name.replace('_', '-')}" for field in given]
    if spelled:
        *others, last = spelled
        listed = f"{', '.join(others)} and {last} go" if others else f"{last} goes"
        raise ValueError(f"{listed} with {belongs_to}")


def suggest(word: str, names: list[str]) -> str:
    """Return `` did you mean NAME?`` for the nearest of some names, or an empty string."""
    near = get_close_matches(word.lower(), names, n=1)
    return f" did you mean {near[0]}?" if near else ""


def swallowed(values: tuple[str, ...], option: str) -> str:
    """Return the advice for an option that took photographs as its values, or an empty string if it took none."""
    taken = [value for value in values if Path(value).exists() or value.endswith(("/", "\\"))]
    if not taken:
        return ""
    first = taken[0]
    return f": {option} took {first!r} as one of its values; write {first} before {option}"


def _one_line(complaint: str) -> str:
    """Return tyro's message on one line, without its frame and its references to the help."""
    lines = [line.strip("│|╭╮╰╯─ \t") for line in complaint.splitlines()]
    kept = [line for line in lines if line.strip("-") and line not in _TITLES]
    ends = ("For full helptext", "Argument helptext")
    stop = next((i for i, line in enumerate(kept) if line.startswith(ends)), None)
    return " ".join(kept[:stop]) or "invalid options"


def _lower_choice(message: str, words: list[str]) -> list[str]:
    """Return the words with a choice in lower case, if tyro knows it in lower case only."""
    found = _CHOICE.search(message)
    if found is None or f"'{found['given'].lower()}'" not in found["of"]:
        return words
    return [_lower_word(word, found["given"]) for word in words]


def _lower_word(word: str, choice: str) -> str:
    if word == choice:
        return word.lower()
    option, equals, value = word.partition("=")
    return option + equals + (value.lower() if value == choice else value)


def _plain(message: str) -> str:
    """Return tyro's commonest complaints as sentences that begin with the option."""
    if found := _CHOICE.search(message):
        choices = found["of"].replace("'", "")
        return f"{found['option']} {found['given']}: choose one of {choices}"
    if found := re.fullmatch(r"Missing value for argument '(.*)'\. Expected \d+ values?\.", message):
        return f"{found[1]} needs a value"
    message = re.sub(r"no type matching .* Got errors: .*?([^:]*: '[^']*')$", r"\1", message)  # the last type's error
    message = re.sub(r"^Error parsing (--\S+): *invalid literal for int\(\) with base 10: (.*)$",
                     r"\1 \2: not a whole number", message)  # fmt: skip
    message = re.sub(
        r"^Error parsing (--\S+): *could not convert string to float: (.*)$", r"\1 \2: not a number", message
    )
    message = re.sub(r"^Error parsing [A-Z]\w*: ", "", message)  # what __post_init__ says
    message = re.sub(r" ?Perhaps you meant: (--[\w-]+).*", r"; did you mean \1?", message)
    message = re.sub(r"Missing from .*?: (--\S+) .*?\(required\)", r"\1 is required", message)
    return re.sub(r" ?Unrecognized options: (.*?)(?=; did you mean|$)", _unknown, message)


def _unknown(found: re.Match[str]) -> str:
    options = [word for word in found[1].replace(",", " ").split() if word.startswith("-")]
    before = "; " if found.start() else ""
    return before + (f"unknown option {' '.join(options)}" if options else f"unexpected {found[1]!r}")
