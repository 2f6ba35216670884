"""REST's paths, fields, types and status codes are pinned in ``schema.json``; the words around them are free.

After a change that is meant: ``UPDATE_PINS=1 python -m pytest tests/serve/test_openapi.py``.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PINNED = Path(__file__).parent / "schema.json"
WORDS = ("description", "title", "summary", "operationId")


def without_words(node: Any) -> Any:
    """Return the document without texts; a field that has the name of one of them (not a text) stays."""
    match node:
        case dict():
            kept = {key: value for key, value in node.items() if not (key in WORDS and isinstance(value, str))}
            return {key: without_words(value) for key, value in kept.items()}
        case list():
            return [without_words(value) for value in node]
        case _:
            return node


def test_the_schema_is_pinned(predictor: Any, pinned: Callable[[str, Path], None]) -> None:
    from linnaea.serve.app import make_app

    document = make_app(predictor).openapi()
    structure = without_words({key: document[key] for key in ("paths", "components")})
    pinned(json.dumps(structure, indent=1, sort_keys=True, ensure_ascii=False) + "\n", PINNED)


@pytest.mark.parametrize("word", WORDS)
def test_words_are_free_and_fields_are_not(word: str) -> None:
    schema = {"properties": {"rank": {"type": "string", word: "words"}, word: {"type": "string"}}}
    assert without_words(schema) == {"properties": {"rank": {"type": "string"}, word: {"type": "string"}}}
