"""Servers on loopback, for browsers and other programs."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


@contextmanager
def listening(app: Any, limits: Any = None) -> Iterator[str]:
    """The application behind a port, as the command serves it; yields its address, with a slash at the end."""
    import uvicorn

    from linnaea.serve.connections import make_config
    from linnaea.serve.service import Limits

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = uvicorn.Server(make_config(app, limits or Limits(), host="127.0.0.1", port=port))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    yield f"http://127.0.0.1:{port}/"
    server.should_exit = True
    thread.join(10)


@pytest.fixture
def listen() -> Any:
    """:func:`listening`, for tests in other modules."""
    return listening


@pytest.fixture(scope="module")
def predictor(trained: Path) -> Any:
    from linnaea.predict.session import open_model

    return open_model(trained / "model", device="cpu").predictor(batch_size=4)


@pytest.fixture(scope="module")
def served(predictor: Any) -> Iterator[str]:
    """The address of a server."""
    from linnaea.serve.app import make_app

    with listening(make_app(predictor)) as address:
        yield address


@pytest.fixture(scope="module")
def served_with_places(predictor: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that knows of its first taxon from one place, in May."""
    from linnaea.predict.priors import Regions, make_regions
    from linnaea.serve.app import make_app

    folder = tmp_path_factory.mktemp("regions")
    rows = f"{predictor.bank.taxa['scientific_name'][0]}\t10\t20\t5\n" * 5000 + "Pica pica\t-30\t20\t5\n" * 5000
    (folder / "occ.txt").write_text(f"species\tdecimalLatitude\tdecimalLongitude\tmonth\n{rows}")
    make_regions(folder / "occ.txt", folder / "r.parquet")
    with listening(make_app(predictor, regions=Regions.open(folder / "r.parquet"))) as address:
        yield address
