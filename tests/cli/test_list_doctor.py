"""list and doctor: what is there is listed; what is broken is found, named, and makes the exit code 1."""

import importlib.metadata
import json
from pathlib import Path

import polars as pl
import pytest

from linnaea.cli import DONE, FAILED, doctor, main
from linnaea.cli import list as listing
from linnaea.cli.doctor import Doctor, Finding


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINNAEA_CACHE", str(tmp_path / "cache"))


def test_recipes_and_checklists_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "recipes"]) == DONE
    assert "tiny" in {line.split("\t")[0] for line in capsys.readouterr().out.splitlines()}
    assert main(["list", "checklists"]) == DONE
    assert "inat" in {line.split("\t")[0] for line in capsys.readouterr().out.splitlines()}
    assert main(["list", "tasks"]) == DONE


def test_models_and_banks_in_folders_are_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bank, model = tmp_path / "banks" / "birds", tmp_path / "run" / "model"
    bank.mkdir(parents=True)
    model.mkdir(parents=True)
    (bank / "bank.json").write_text(json.dumps({"text_type": "taxon", "model": "abc"}))
    pl.DataFrame({"taxon_id": range(1234)}).write_parquet(bank / "taxa.parquet")
    (model / "open_clip_config.json").write_text("{}")
    assert main(["list", "banks", str(tmp_path)]) == DONE
    assert f"{bank}\t1,234\ttaxon\tabc" in capsys.readouterr().out
    assert main(["list", "models", str(tmp_path)]) == DONE
    out = capsys.readouterr().out
    assert str(model) in out
    assert "bioclip-2" in out
    assert main(["list", "banks", str(tmp_path / "no")]) == FAILED
    assert set(listing.COMMANDS) == {"recipes", "tasks", "models", "banks", "checklists"}


def test_the_model_of_the_package_is_listed_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder, here in ((tmp_path, True), (tmp_path / "not there", False)):
        monkeypatch.setattr("linnaea.model.folders._BUNDLED", {"nano": folder})
        assert main(["list", "models", str(tmp_path)]) == DONE
        rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
        assert (["nano", "this package", "yes"] in rows) is here


def test_a_good_installation_is_good(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.doctor(Doctor()) == DONE
    out = capsys.readouterr().out
    for word in ("python", "torch", "device", "cache folder", "checklist inat"):
        assert f"\n{word}" in out, word
    assert "BROKEN" not in out


def test_what_is_broken_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quiet = {name: lambda: iter(()) for name in ("check_device", "check_checklists")}
    for name, check in quiet.items():
        monkeypatch.setattr(doctor, name, check)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LINNAEA_CACHE", str(tmp_path / "file" / "cache"))
    wanted = ["rich>=1", "no-such-package>=1", "numpy>=999", 'no-such-extra; extra == "serve"']
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: wanted)
    assert doctor.doctor(Doctor()) == FAILED
    out, err = capsys.readouterr()
    verdicts = {line.split("\t")[0]: line.split("\t")[2] for line in out.splitlines()}
    assert verdicts["rich"] == "ok"
    assert verdicts["no-such-package"] == verdicts["numpy"] == verdicts["cache folder"] == "BROKEN"
    assert verdicts["no-such-extra (optional)"] == "-"
    assert "3 broken: no-such-package, numpy, cache folder" in err


def test_a_package_that_does_not_import_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "brittle.py").write_text("raise OSError('libGL.so.1: no such file')")
    metadata = tmp_path / "brittle-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: brittle\nVersion: 1.0\n")
    (metadata / "top_level.txt").write_text("brittle\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: ["brittle"])
    found = list(doctor.check_packages())
    assert found == [Finding("brittle", "1.0, import fails: OSError: libGL.so.1: no such file", "BROKEN")]
