"""Write docs/api.md from the docstrings of the public names: ``python docs/make_api.py``."""

import inspect
import textwrap
from enum import Enum
from pathlib import Path
from typing import Any

import linnaea

PAGE = Path(__file__).parent / "api.md"
HEAD = """# Python API

All names below are imported from `linnaea`. This page is generated from their docstrings by `python docs/make_api.py`.
The tests run its examples.
"""


def describe(value: Any) -> str:
    """Return the docstring of ``value`` with its own indentation removed."""
    return inspect.cleandoc(value.__doc__ or "")


def signature_of(name: str, value: Any) -> str:
    """Return ``name`` with the parameters of ``value``, wrapped at 100 characters."""
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        return name
    parameters = [str(one) for one in signature.parameters.values() if one.name != "self"]
    returns = "" if signature.return_annotation in (inspect.Signature.empty, None) else f" -> {_plain(signature)}"
    line = f"{name}({', '.join(parameters)}){returns}"
    if len(line) <= 100:
        return line
    rows = textwrap.indent(",\n".join(parameters), "    ")
    return f"{name}(\n{rows},\n){returns}"


def _plain(signature: inspect.Signature) -> str:
    return inspect.formatannotation(signature.return_annotation).removeprefix("linnaea.")


def iter_members(value: type) -> list[tuple[str, Any]]:
    """The public methods and properties that a class defines and documents, in order."""
    found = []
    for name, member in vars(value).items():
        plain = member.__func__ if isinstance(member, classmethod | staticmethod) else member
        if not name.startswith("_") and getattr(plain, "__doc__", None) and not isinstance(member, type):
            found.append((name, plain))
    return found


def section(name: str) -> str:
    """Return the part of the page about one public name."""
    value = getattr(linnaea, name)
    if isinstance(value, type) and issubclass(value, Enum):
        return f"## {name}\n\n{describe(value)}\n\nMembers: {', '.join(f'`{one.name}`' for one in value)}.\n"
    parts = [f"## {name}", f"```text\n{signature_of(name, value)}\n```", describe(value)]
    if isinstance(value, type):
        for member, function in iter_members(value):
            title = signature_of(member, function) if callable(function) else member
            parts.append(f"### {name}.{member}\n\n```text\n{title}\n```\n\n{describe(function)}")
    return "\n\n".join(parts) + "\n"


def make_page() -> str:
    """Return the whole page: functions first, then classes."""
    names = [name for name in linnaea.__all__ if name != "__version__"]
    functions = [name for name in names if not isinstance(getattr(linnaea, name), type)]
    classes = [name for name in names if name not in functions]
    return "\n".join([HEAD, *map(section, functions), *map(section, classes)])


if __name__ == "__main__":
    PAGE.write_text(make_page(), encoding="utf-8")
