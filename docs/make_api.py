"""Write docs/api.md from the docstrings of the public names: ``python docs/make_api.py``."""

import ast
import inspect
import re
import textwrap
from enum import Enum
from pathlib import Path
from typing import Any

import linnaea

PAGE = Path(__file__).parent / "api.md"
HEAD = """# Python API

All names below are imported from `linnaea`. `python docs/make_api.py` writes this page from their docstrings, and the
tests run its examples.
"""
WIDTH = 100
"""Characters of a line of a signature."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def to_markdown(docstring: str) -> str:
    """Return a docstring as Markdown: code in single backticks, examples and lists as blocks."""
    text = inspect.cleandoc(docstring)
    text = re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"`\1`", text)
    text = re.sub(r"``([^`\n]+)``", r"`\1`", text)
    text = re.sub(r"(?:^>>> .*\n?(?:^(?!>>> |\n).*\n?)*)+", lambda found: _example(found[0]), text, flags=re.MULTILINE)
    return re.sub(r"^(Args|Raises|Returns):\n((?: {4}.*\n?)+)", _list, text, flags=re.MULTILINE)


def _example(lines: str) -> str:
    return f"```python\n{lines.rstrip()}\n```\n"


def _list(found: re.Match[str]) -> str:
    items = re.split(r"\n(?=\S)", textwrap.dedent(found[2]).rstrip())
    rows = [re.sub(r"^([\w*]+): ", r"`\1`: ", " ".join(item.split())) for item in items]
    return f"**{found[1]}**\n\n" + "\n".join(f"- {row}" for row in rows) + "\n"


def tree_of(value: Any) -> Any:
    """Return the syntax tree of a function or a class."""
    return ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(value)))).body[0]


def signature(function: Function, name: str) -> str:
    """Return ``name`` with parameters and types as they stand in the source, in lines of at most ``WIDTH``."""
    arguments = function.args
    plain = [*arguments.posonlyargs, *arguments.args]
    missing = len(plain) - len(arguments.defaults)
    shown = [_parameter(one, None if i < missing else arguments.defaults[i - missing]) for i, one in enumerate(plain)]
    if arguments.vararg is not None:
        shown.append(f"*{_parameter(arguments.vararg, None)}")
    elif arguments.kwonlyargs:
        shown.append("*")
    shown += [_parameter(*pair) for pair in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    if arguments.kwarg is not None:
        shown.append(f"**{_parameter(arguments.kwarg, None)}")
    shown = [one for one in shown if one.partition(":")[0] not in ("self", "cls")]
    returns = "" if function.returns is None else f" -> {ast.unparse(function.returns).strip(chr(39))}"
    returns = returns.removesuffix(" -> None") if function.name == "__init__" else returns
    line = f"{name}({', '.join(shown)}){returns}"
    if len(line) <= WIDTH:
        return line
    rows = textwrap.indent(",\n".join(shown), "    ")
    return f"{name}(\n{rows},\n){returns}"


def _parameter(argument: ast.arg, default: ast.expr | None) -> str:
    kind = f": {ast.unparse(argument.annotation).strip(chr(39))}" if argument.annotation is not None else ""
    equals = " = " if kind else "="
    return f"{argument.arg}{kind}" + ("" if default is None else f"{equals}{ast.unparse(default)}")


def block(text: str) -> str:
    return f"```text\n{text}\n```"


def describe_function(name: str, value: Any) -> str:
    """Return the section of a function."""
    return f"{block(signature(tree_of(value), name))}\n\n{to_markdown(inspect.unwrap(value).__doc__ or '')}"


def describe_class(name: str, value: type) -> str:
    """Return the section of a class: its fields, its methods and properties."""
    parts, fields = [to_markdown(value.__doc__ or "")], []
    body = tree_of(value).body
    for node, following in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id[0] != "_":
            fields.append(_field(node, following))
        elif isinstance(node, Function) and node.name == "__init__":
            parts.insert(0, block(signature(node, name)))
        elif isinstance(node, Function) and node.name[0] != "_" and ast.get_docstring(node):
            is_value = any(ast.unparse(one).endswith("property") for one in node.decorator_list)
            title = node.name if is_value else signature(node, node.name)
            parts.append(f"### {name}.{node.name}\n\n{block(title)}\n\n{to_markdown(ast.get_docstring(node) or '')}")
    if fields:
        parts.insert(1, "\n".join(fields))
    return "\n\n".join(parts)


def _field(node: ast.AnnAssign, following: ast.stmt | None) -> str:
    text = ""
    if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
        text = ": " + " ".join(to_markdown(str(following.value.value)).split())
    return f"- `{ast.unparse(node.target)}: {ast.unparse(node.annotation).strip(chr(39))}`{text}"


def section(name: str) -> str:
    """Return the part of the page about one public name."""
    value = getattr(linnaea, name)
    if isinstance(value, type) and issubclass(value, Enum):
        members = ", ".join(f"`{one}`" for one in value.__members__)
        text = f"{to_markdown(value.__doc__ or '')}\n\nMembers: {members}."
    elif isinstance(value, type):
        text = describe_class(name, value)
    else:
        text = describe_function(name, value)
    return re.sub(r"\n{3,}", "\n\n", f"## {name}\n\n{text.strip()}\n")


def make_page() -> str:
    """Return the whole page: functions first, then classes."""
    names = [name for name in linnaea.__all__ if name != "__version__"]
    functions = [name for name in names if not isinstance(getattr(linnaea, name), type)]
    return "\n".join([HEAD, *map(section, functions), *map(section, [one for one in names if one not in functions])])


if __name__ == "__main__":
    PAGE.write_text(make_page(), encoding="utf-8")
