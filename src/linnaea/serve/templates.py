"""Read the web pages of the package, which share one head."""

from importlib.resources import files


def read_template(name: str, title: str) -> str:
    """Return a page of this folder, with the head that all pages share."""
    head, page = (files("linnaea.serve").joinpath(one).read_text(encoding="utf-8") for one in ("head.html", name))
    return page.replace("{{head}}", head.rstrip("\n").replace("{{title}}", title), 1)
