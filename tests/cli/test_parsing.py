"""What the command line says about words it does not understand, and what it understands all the same."""

import socket
import subprocess
from pathlib import Path

import pytest

from linnaea.cli import DONE, FAILED, USAGE, main


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("preddict a.jpg", "'preddict' is not a command; did you mean predict? (linnaea --help)"),
        ("data biuld", "'biuld' is not a command of linnaea data; did you mean build? (linnaea data --help)"),
        (
            "predict a.jpg --rank gnus",
            "linnaea predict: --rank gnus: choose one of species, genus, family, order, class, phylum, kingdom, auto "
            "(linnaea predict --help)",
        ),
        ("predict a.jpg --rank", "linnaea predict: --rank needs a value (linnaea predict --help)"),
        (
            "predict a.jpg --rnk x",
            "linnaea predict: unknown option --rnk; did you mean --rank? (linnaea predict --help)",
        ),
        ("predict a.jpg --nope x", "linnaea predict: unknown option --nope (linnaea predict --help)"),
        ("predict a.jpg --lat x", "linnaea predict: --lat 'x': not a number (linnaea predict --help)"),
        ("predict a.jpg --workers x", "linnaea predict: --workers 'x': not a whole number (linnaea predict --help)"),
        ("predict a.jpg --every x", "linnaea predict: --every 'x': not a number (linnaea predict --help)"),
        ("data build", "linnaea data build: --output is required (linnaea data build --help)"),
        ("predict", "linnaea predict: give at least one photograph or folder (linnaea predict --help)"),
        ("adapt birds --output o --root .", "linnaea adapt: --root goes with --decisions (linnaea adapt --help)"),
        (
            "adapt --decisions d.jsonl --output o --class-level 2 --no-resolve --checklist inat",
            "linnaea adapt: --class-level, --no-resolve and --checklist go with FOLDER (linnaea adapt --help)",
        ),
        (
            "labels calibrate --model nano --decisions d.jsonl --split test --strangers",
            "linnaea labels calibrate: --split and --strangers go with --data (linnaea labels calibrate --help)",
        ),
        (
            "labels calibrate --model nano --data D --root .",
            "linnaea labels calibrate: --root goes with --decisions (linnaea labels calibrate --help)",
        ),
    ],
)
def test_a_usage_error_says_what_is_wrong_once(words: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words.split()) == USAGE
    assert capsys.readouterr().err == f"linnaea: {message}\n"


def test_photographs_behind_an_option_with_several_values(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "--within", "Aves", str(tmp_path)]) == USAGE
    assert (
        f"--within took '{tmp_path}' as one of its values; write {tmp_path} before --within" in capsys.readouterr().err
    )


@pytest.mark.parametrize("words", ["--rank Genus", "--rank=GENUS"])
def test_choices_may_be_in_any_case(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "no-such.jpg", *words.split()]) == FAILED
    assert "no-such.jpg: no such file" in capsys.readouterr().err


def test_help_runs_on_over_the_lines_of_a_docstring(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    with pytest.raises(SystemExit):
        main(["adapt", "--help"])
    assert "If it has splits, train is fitted and test is scored." in capsys.readouterr().out


def test_help_is_a_verb_too(capsys: pytest.CaptureFixture[str]) -> None:
    for words, first in (
        (["help", "data", "build"], "linnaea data build"),
        (["help"], "linnaea COMMAND"),
    ):
        try:
            assert main(words) == DONE
        except SystemExit as stop:  # tyro's way
            assert not stop.code
        assert capsys.readouterr().out.startswith(f"usage: {first}")


def test_the_shell_completes_verbs_options_and_choices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("SHELL", "/bin/bash")
    assert main(["--install-completion"]) == DONE
    script = tmp_path / "bash-completion/completions/linnaea"

    def complete(*words: str) -> set[str]:
        line = " ".join(f"'{word}'" for word in words)
        ask = f"COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _tyro_linnaea; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        done = subprocess.run(["bash", "-c", f"source {script}\n{ask}"], capture_output=True, text=True, check=True)
        return set(done.stdout.split())

    assert {"predict", "data", "serve"} <= complete("linnaea", "")
    assert {"build", "export"} <= complete("linnaea", "data", "")
    assert {"--rank", "--within"} <= complete("linnaea", "predict", "--")
    assert {"genus", "auto"} <= complete("linnaea", "predict", "--rank", "")
    assert "nano-eye" in complete("linnaea", "train", "")


def test_completion_for_another_shell(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("SHELL", "/usr/bin/fish")
    assert main(["--install-completion"]) == USAGE
    assert capsys.readouterr().err == "linnaea: --install-completion: fish: choose one of bash, zsh\n"


def test_a_busy_port_is_said_before_a_model_is_loaded(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", "--model", "no-such-model", "--port", str(port)]) == FAILED
    assert capsys.readouterr().err == (
        f"linnaea: --host 127.0.0.1 --port {port}: another program listens there; give another --port, or 0 for any "
        "that is free\n"
    )
