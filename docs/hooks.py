"""What mkdocs does beside its plugins: pages from files outside docs/, the reference of commands and Python names."""

import ast
import dataclasses
import inspect
import re
import textwrap
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import linnaea
from linnaea.cli import VERBS, class_of

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

ROOT = Path(__file__).parent.parent
OUTSIDE = {"CHANGELOG.md": "", "CONTRIBUTING.md": "", "SECURITY.md": "", "RESULTS.md": "benchmarks/", "README.md": ""}
"""Pages that lie outside docs/, and their folders."""
SOURCE = "https://github.com/OWNER/linnaea/blob/main/"
"""Where links to files that are no pages lead."""


def on_files(files: "Files", config: "MkDocsConfig") -> "Files":
    """Add the pages that are generated."""
    from mkdocs.structure.files import File

    pages = {name: _move_links((ROOT / folder / name).read_text(), folder) for name, folder in OUTSIDE.items()}
    pages["index.md"] = pages.pop("README.md")
    pages |= {"reference/commands.md": list_commands(), "reference/python.md": list_names()}
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn links from docs/ to files outside of it into links to their pages, or to the repository."""
    depth = "../" * page.file.src_uri.count("/")

    def turn(found: re.Match[str]) -> str:
        path, anchor = found[1], found[2] or ""
        name = Path(path).name
        is_page = name in OUTSIDE and path == OUTSIDE[name] + name
        name = "index.md" if name == "README.md" else name
        return f"]({depth}{name}{anchor})" if is_page else f"]({SOURCE}{path}{anchor})"

    markdown = re.sub(r"\]\(([\w-]+/)\)", rf"]({SOURCE}docs/\1)", markdown)  # a folder is no page
    return re.sub(r"\]\((?:\.\./)+((?:[\w.-]+/)*[\w.-]+/?)(#[\w-]+)?\)",
                  lambda found: found[0] if _inside_docs(page, found) else turn(found), markdown)  # fmt: skip


def on_page_content(html: str, page: Any, **_: Any) -> str:
    """Turn the roles of docstrings into names, and give each function its public name."""
    for name, at_home in linnaea._NAMES_AT_HOME.items():
        html = html.replace(f">{at_home}</span><span", f">{name}</span><span")
    return re.sub(r":\w+:<code>~?(?:[\w.]*\.)?(\w+)</code>", r"<code>\1</code>", html)


def _inside_docs(page: Any, found: re.Match[str]) -> bool:
    target = found[0][2:-1].partition("#")[0]
    docs = ROOT / "docs"
    return (docs / page.file.src_uri).parent.joinpath(target).resolve().is_relative_to(docs.resolve())


def _move_links(text: str, folder: str) -> str:
    """Return a page with its links as if it lay in docs/."""

    def move(found: re.Match[str]) -> str:
        target = found[1]
        if target.startswith(("http", "#")):
            return found[0]
        path = (ROOT / folder / target.partition("#")[0]).resolve().relative_to(ROOT)
        anchor = target[target.find("#") :] if "#" in target else "/" * target.endswith("/")
        inside = path.relative_to("docs") if path.is_relative_to("docs") else None
        return f"]({inside}{anchor})" if inside else f"](../{path}{anchor})"

    return re.sub(r"\]\(([^)\s]+)\)", move, text)


def list_commands() -> str:
    """Return the page of all commands, from the docstrings of their options."""
    parts = ["# Commands\n\nWritten from the options themselves; `linnaea COMMAND --help` prints the same.\n"]
    for verb in VERBS:
        commands = import_module(f"linnaea.cli.{verb.replace('-', '_')}").COMMANDS
        for name, (options, _) in commands.items():
            title = f"linnaea {verb} {name}".rstrip()
            more = (
                f"\n`{title} --help` lists the recipes, `{title} RECIPE --help` all values.\n"
                if verb == "train"
                else ""
            )
            parts.append(f"## {title}\n\n{_describe(class_of(options))}{more}")
    return "\n".join(parts)


def _describe(options: type) -> str:
    return f"{inspect.cleandoc(options.__doc__ or '')}\n\n{_table(options)}"


def _table(options: type) -> str:
    rows = [f"| `{name}` | {default} | {text} |" for name, default, text in _fields(options)]
    return "\n".join(["| option | default | |", "|---|---|---|", *rows]) + "\n"


def _fields(options: type) -> list[tuple[str, str, str]]:
    """Return name, default and docstring of each field that is an option."""
    body = ast.parse(textwrap.dedent(inspect.getsource(options))).body[0].body  # type: ignore[attr-defined]
    defaults = {field.name: field.default for field in dataclasses.fields(options)}
    found = []
    for node, text in pairwise(body):
        if not isinstance(node, ast.AnnAssign) or "Suppress" in ast.unparse(node.annotation):
            continue
        if not (isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)):
            continue
        name = node.target.id  # type: ignore[union-attr]
        is_positional = "Positional" in ast.unparse(node.annotation)
        shown = name.upper() if is_positional else f"--{name.replace('_', '-')}"
        described = " ".join(str(text.value.value).split()).replace("|", "\\|")
        found.append((shown, _show(defaults[name]), described))
    return found


def _show(default: Any) -> str:
    """Return a default as a user would write it."""
    if default is dataclasses.MISSING:
        return "required"
    if isinstance(default, bool):
        return "yes" if default else "no"
    words = " ".join(map(str, default)) if isinstance(default, tuple) else str(default)
    return f"`{words}`" if words and default is not None else ""


def list_names() -> str:
    """Return the page of the public names of the package: functions first, then classes."""
    names = sorted(linnaea._HOMES, key=lambda name: (isinstance(getattr(linnaea, name), type), name))
    parts = ["# Python\n\nAll names are imported from `linnaea`.\n"]
    for name in names:
        here = linnaea._NAMES_AT_HOME.get(name, name)
        parts.append(f"::: {linnaea._HOMES[name]}.{here}\n    options:\n      heading: {name}\n")
    return "\n".join(parts)
