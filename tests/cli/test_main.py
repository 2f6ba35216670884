"""The command line's manners: exit codes, one-line errors, quick help."""

import subprocess
import sys
import time

import pytest

from linnaea import __version__, cli
from linnaea.errors import LinnaeaError, UsageError


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == cli.DONE
    assert capsys.readouterr().out == f"linnaea {__version__}\n"


def test_help_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == cli.DONE
    out = capsys.readouterr().out
    assert all(f"  {verb} " in out for verb in cli.VERBS)


def test_help_takes_less_than_half_a_second() -> None:
    def seconds() -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "linnaea", "--help"], check=True, capture_output=True)
        return time.perf_counter() - start

    assert min(seconds() for _ in range(5)) < 0.5


@pytest.mark.parametrize("verb", list(cli.VERBS))
def test_every_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = cli.main([verb, "--help"])
    except SystemExit as stop:  # tyro's own way
        code = int(stop.code or 0)
    assert code == cli.DONE
    assert capsys.readouterr().out.strip()


def test_an_unknown_command_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["preddict"]) == cli.USAGE
    err = capsys.readouterr().err
    assert "preddict" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (LinnaeaError("a.jpg: no such file"), cli.FAILED),
        (UsageError("no column 'x'"), cli.USAGE),
        (KeyboardInterrupt(), cli.INTERRUPTED),
        (ZeroDivisionError("division by zero"), cli.FAILED),
    ],
)
def test_errors_are_one_line(
    error: BaseException, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(words: list[str]) -> int:
        raise error

    monkeypatch.setattr(cli, "_dispatch", fail)
    assert cli.main(["predict"]) == code
    err = capsys.readouterr().err
    assert err.startswith("linnaea: ")
    assert err.count("\n") == 1
    with pytest.raises(type(error)):
        cli.main(["predict", "--debug"])
