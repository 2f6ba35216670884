"""A server answers to its own names, to callers with the token, and to no page of another site."""

import io
import socket
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from linnaea.predict.predictor import Predictor
from linnaea.serve.access import Access, is_loopback
from linnaea.serve.app import make_app


def picture() -> list[tuple[str, tuple[str, bytes]]]:
    stream = io.BytesIO()
    Image.new("RGB", (30, 20)).save(stream, "JPEG")
    return [("files", ("a.jpg", stream.getvalue()))]


def ask(predictor: Predictor, access: Access, path: str, **headers: str) -> httpx.Response:
    app = make_app(predictor, access=access)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    with TestClient(app) as client:
        return (
            client.post(path, files=picture(), headers=named) if path == "/predict" else client.get(path, headers=named)
        )


HOSTS = Access(hosts=("life.example.org:8000",))


@pytest.mark.parametrize(
    "host",
    ["life.example.org", "LIFE.example.org:8000", "localhost:8000", "127.0.0.1", "[::1]:8000", socket.gethostname()],
)
def test_a_server_answers_to_its_own_names(predictor: Predictor, host: str) -> None:
    assert ask(predictor, HOSTS, "/health", host=host).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example.org", "life.example.org.evil.org", "127.0.0.1.evil.org", "", "[", "a@b"]
)
def test_a_server_answers_to_no_other_name(predictor: Predictor, host: str) -> None:
    answer = ask(predictor, HOSTS, "/health", host=host)
    assert answer.status_code == 421
    assert "--allowed-host" in answer.json()["detail"]


def test_any_name_is_a_choice(predictor: Predictor) -> None:
    assert ask(predictor, Access(hosts=("*",)), "/health", host="evil.example.org").status_code == 200


TOKEN = Access(token="a-secret")
WRONG_TOKENS: list[dict[str, str]] = [
    {}, {"authorization": "Bearer wrong"}, {"authorization": "a-secret"}, {"authorization": "Bearer "},
]  # fmt: skip


@pytest.mark.parametrize("path", ["/predict", "/metrics", "/taxa", "/openapi.json"])
def test_the_token_is_asked_for(predictor: Predictor, path: str) -> None:
    for wrong in WRONG_TOKENS:
        answer = ask(predictor, TOKEN, path, **wrong)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
    assert ask(predictor, TOKEN, path, authorization="Bearer a-secret").status_code == 200


def test_the_page_and_the_health_check_need_no_token(predictor: Predictor) -> None:
    assert ask(predictor, TOKEN, "/").status_code == 200
    assert ask(predictor, TOKEN, "/health").status_code == 200
    assert "a-secret" not in repr(TOKEN)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": "http://testserver"},
        {"origin": "https://testserver:443"},
        {"sec_fetch_site": "same-origin"},
    ],
)
def test_a_page_of_this_site_can_post(predictor: Predictor, headers: dict[str, str]) -> None:
    assert ask(predictor, Access(), "/predict", **headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example.org"},
        {"origin": "http://testserver:8001"},
        {"origin": "http://testserver.evil.org"},
        {"origin": "null"},
        {"origin": "http://["},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
    ],
)
def test_a_page_of_another_site_cannot_post(predictor: Predictor, headers: dict[str, str]) -> None:
    assert ask(predictor, Access(), "/predict", **headers).status_code == 403


def test_which_addresses_are_ones_own_machine() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "localhost", "::1", "127.1.2.3")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.168.1.1", "life.example.org")))


def test_help_warns_of_other_machines(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from linnaea.cli import main

    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "--token" in text
    assert "0.0.0.0 lets every machine" in text
