"""Read the web pages of the package, which share one head and one policy."""

from importlib.resources import files

PAGE_POLICY = (
    "default-src 'none'; img-src 'self' blob: data:; style-src 'unsafe-inline'; script-src 'unsafe-inline';"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The content security policy of the pages: nothing is loaded from elsewhere."""


def read_template(name: str, title: str) -> str:
    """Return a page of this folder, with the head that all pages share."""
    head, page = (files("linnaea.serve").joinpath(one).read_text(encoding="utf-8") for one in ("head.html", name))
    return page.replace("{{head}}", head.rstrip("\n").replace("{{title}}", title), 1)
