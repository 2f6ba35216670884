"""Keep a model folder from elsewhere from running code and from asking a hub."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import constants

from linnaea.errors import LinnaeaError


def check_config(folder: Path, config: Mapping[str, Any]) -> None:
    """Check that a model's configuration asks for no code of its own.

    Raises:
        LinnaeaError: it asks transformers to run the code in the folder or on the hub.
    """
    if any(key == "trust_remote_code" and value for key, value in _iter_items(config)):
        raise LinnaeaError(f"{folder}: its configuration asks to run code of its own (trust_remote_code); refused")


def _iter_items(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield every key and value at any depth."""
    pending = [value]
    while pending:
        one = pending.pop()
        if isinstance(one, Mapping):
            yield from one.items()
            pending.extend(one.values())
        elif isinstance(one, list):
            pending.extend(one)


@contextmanager
def without_hub() -> Iterator[None]:
    """Let everything inside find hub files in the cache only, as ``HF_HUB_OFFLINE`` does."""
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
