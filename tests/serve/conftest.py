"""A server on loopback, for browsers and other programs."""

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def served(trained: Path) -> Iterator[str]:
    """Its address, with a slash at the end."""
    import uvicorn

    from linnaea.cli.predict import load_model_and_bank
    from linnaea.predict.predictor import Predictor
    from linnaea.serve.app import make_app

    model, bank = load_model_and_bank(str(trained / "model"), None, device="cpu")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    app = make_app(Predictor(model=model, bank=bank))
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    yield f"http://127.0.0.1:{port}/"
    server.should_exit = True
    thread.join(10)
