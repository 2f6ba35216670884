"""What is changed in place is the old or the new after a kill at any moment, and two commands never mix."""

import threading
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from killing import Killer, killed_at
from linnaea import exchange
from linnaea.cli import main
from linnaea.errors import LinnaeaError
from linnaea.exchange import hold_output, replaced_folder
from linnaea.predict.labels import LabelBank
from linnaea.taxonomy.checklists.store import import_checklist, list_checklists, load_checklist


def bank_of(number: int) -> LabelBank:
    names = ("kingdom", "phylum", "class", "order", "family", "genus", "species", "scientific_name", "common_name")
    taxa = pl.DataFrame(
        {"taxon_id": [0], **{name: [f"{number}"] for name in names}}, schema_overrides={"taxon_id": pl.Int32}
    )
    return LabelBank(taxa, np.full((1, 4), number, np.float32), {"model": str(number), "text_type": "sci"})


def number_of(folder: Path) -> int:
    """The number of a bank, all three files of which belong together."""
    bank = LabelBank.open(folder)
    numbers = {int(bank.facts["model"]), int(bank.taxa["genus"][0]), int(bank.vectors[0, 0])}
    assert len(numbers) == 1
    return numbers.pop()


def test_the_current_folder_is_an_output_but_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    with hold_output(Path(), kind="command"):
        assert [*tmp_path.glob(".*")] == [tmp_path / ".here.lock"]
        with pytest.raises(LinnaeaError, match="another command"), hold_output(here, kind="command"):
            pass
    for output in (Path(), here):
        with pytest.raises(LinnaeaError, match="the current folder cannot be replaced in one step; write to"):
            bank_of(1).save(output)
    assert not [*here.iterdir()]


@pytest.mark.parametrize("can_exchange", [True, False])
def test_a_bank_is_the_old_or_the_new_after_a_kill_at_any_step(
    can_exchange: bool, killer: Killer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not can_exchange:
        monkeypatch.setattr(exchange, "_exchange", lambda first, second: False)
    folder = tmp_path / "bank"
    bank_of(0).save(folder)
    (folder / "report.html").write_text("kept")
    (folder / "more").mkdir()
    (folder / "more" / "file").write_text("kept too")
    before, killed, moment = 0, True, 0
    while killed:
        moment += 1
        killed = killed_at(moment, killer, partial(bank_of(moment).save, folder))
        number = number_of(folder) if can_exchange or folder.exists() else before
        assert number in (before, moment)
        before = number
    assert before == moment
    assert moment > 10, "it was killed at many steps"
    assert (folder / "report.html").read_text() == "kept"
    assert (folder / "more" / "file").read_text() == "kept too"
    bank_of(0).save(folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bank"], "nothing is left behind"


def table(path: Path, name: str) -> Path:
    path.write_text(f"kingdom,phylum,class,order,family,genus,species\nAnimalia,Chordata,Aves,P,C,Pica,{name}\n")
    return path


def test_an_imported_checklist_is_the_old_or_the_new_after_a_kill_at_any_step(
    killer: Killer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from linnaea.taxonomy.checklists import store

    monkeypatch.setenv("LINNAEA_CACHE", str(tmp_path / "cache"))
    imported = tmp_path / "cache" / "checklists" / "imported" / "mine"
    old, new = (
        store.make_checklist(store.read_checklist_source(table(tmp_path / f"{name}.csv", name)))
        for name in ("pica", "alba")
    )
    store._save(old, imported, "mine", "x")
    killed, moment = True, 0
    while killed:
        moment += 1
        killed = killed_at(moment, killer, lambda: store._save(new, imported, "mine", "x"))
        assert load_checklist("mine").taxa["name"][-1] in ("Pica pica", "Pica alba")
        assert [one.name for one in list_checklists() if one.name not in ("inat", "ncbi")] == ["mine"]
        if killed:
            store._save(old, imported, "mine", "x")
    assert load_checklist("mine").taxa["name"][-1] == "Pica alba"


DAMAGES = [("taxa.arrow", b""), ("taxa.arrow", b"not Arrow"), ("taxa.arrow", None), ("checklist.json", b"{")]


def test_a_damaged_cache_of_a_checklist_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINNAEA_CACHE", str(tmp_path / "cache"))
    source = table(tmp_path / "birds.csv", "pica")
    assert "Pica pica" in load_checklist(str(source)).taxa["name"]
    (folder,) = (tmp_path / "cache" / "checklists" / "read").iterdir()
    for name, damage in DAMAGES:
        (folder / name).write_bytes((folder / name).read_bytes()[:100] if damage is None else damage)
        assert "Pica pica" in load_checklist(str(source)).taxa["name"]


def test_a_damaged_import_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINNAEA_CACHE", str(tmp_path / "cache"))
    import_checklist(table(tmp_path / "birds.csv", "pica"), "mine")
    folder = tmp_path / "cache" / "checklists" / "imported" / "mine"
    (folder / "taxa.arrow").write_bytes(b"not Arrow")
    with pytest.raises(LinnaeaError, match=r"checklist mine: damaged; import .* again"):
        load_checklist("mine")
    (folder / "checklist.json").write_text("{}")
    assert "mine" in [one.name for one in list_checklists()]


def test_a_name_that_is_a_pattern_empties_no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINNAEA_CACHE", str(tmp_path / "cache"))
    load_checklist(str(table(tmp_path / "birds.csv", "pica")))
    load_checklist(str(table(tmp_path / "*.csv", "alba")))
    load_checklist(str(table(tmp_path / "[a-z]*.csv", "alba")))
    assert len(list((tmp_path / "cache" / "checklists" / "read").iterdir())) == 3


def test_checklists_of_one_name_in_two_folders_are_kept_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an older state of a file was read as goes; so does what was cached under the names of before."""
    monkeypatch.setenv("LINNAEA_CACHE", str(tmp_path / "cache"))
    read = tmp_path / "cache" / "checklists" / "read"
    before = read / "birds-0123456789abcdef"
    before.mkdir(parents=True)
    for place, name in (("a", "pica"), ("b", "alba")):
        (tmp_path / place).mkdir()
        load_checklist(str(table(tmp_path / place / "birds.csv", name)))
    kept = set(read.iterdir())
    assert len(kept) == 2 and before not in kept
    load_checklist(str(table(tmp_path / "a" / "birds.csv", "cyanus")))
    assert len(set(read.iterdir())) == 2 and len(set(read.iterdir()) & kept) == 1


def test_a_failed_replacement_changes_nothing(tmp_path: Path) -> None:
    bank_of(1).save(tmp_path / "bank")
    with pytest.raises(RuntimeError), replaced_folder(tmp_path / "bank") as new:
        (new / "bank.json").write_text("{}")
        raise RuntimeError
    assert number_of(tmp_path / "bank") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bank"]


def test_one_command_at_a_time_writes_an_output(tmp_path: Path) -> None:
    first, second = threading.Event(), threading.Event()

    def hold() -> None:
        with hold_output(tmp_path / "out", kind="command"):
            first.set()
            second.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    first.wait(20)
    with (
        pytest.raises(LinnaeaError, match="another command is writing here"),
        hold_output(tmp_path / "out", kind="command"),
    ):
        pass
    with hold_output(tmp_path / "other", kind="command"):
        pass
    second.set()
    thread.join()
    with hold_output(tmp_path / "out", kind="command"):
        pass
    assert not list(tmp_path.iterdir()), "no lock is left"


WRITERS = ("answers.csv", "head", "packed", "exported", "index", "vectors.npy", "scores", "bank")


def test_commands_say_that_another_one_writes(
    photographs: Path, trained: Path, dataset_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, folder = str(trained / "model"), str(next(path for path in sorted(photographs.iterdir()) if path.is_dir()))
    assert (
        main(["labels", "build", "--taxa", str(dataset_dir), "--model", model, "--output", str(tmp_path / "bank")]) == 0
    )
    commands: dict[str, list[str]] = {
        "answers.csv": ["predict", folder, "--model", model, "--output"],
        "head": ["adapt", str(photographs), "--model", model, "--output"],
        "packed": ["pack", str(trained), "--output"],
        "exported": ["data", "export", str(dataset_dir), "--format", "parquet", "--output"],
        "index": ["index", folder, "--model", model, "--output"],
        "vectors.npy": ["embed", folder, "--model", model, "--output"],
        "scores": ["evaluate", str(trained), "--data", str(dataset_dir), "--split", "val", "--output"],
        "bank": ["labels", "append", str(tmp_path / "bank"), "--taxa", str(dataset_dir), "--model", model, "--output"],
    }
    assert tuple(commands) == WRITERS
    for name, words in commands.items():
        capsys.readouterr()
        with hold_output(tmp_path / name, kind="command"):
            assert main([*words, str(tmp_path / name)]) == 1, name
        assert "is writing here; wait for it or stop it" in capsys.readouterr().err
        assert name == "bank" or not (tmp_path / name).exists()
