"""Files are whole or absent, and a full disk is said in one line."""

import errno
import os
import socket
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Literal

import pytest

from linnaea import storage
from linnaea.errors import LinnaeaError
from linnaea.storage import (
    atomic_path,
    cache_dir,
    explain_os_errors,
    find_spelled,
    parse_facts,
    remove_partial_files,
    write_atomically,
)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "folder" / "file.txt"
    write_atomically(target, "old")
    with pytest.raises(RuntimeError), atomic_path(target) as partial:
        partial.write_text("half of the n")
        raise RuntimeError
    assert target.read_text() == "old"
    assert [path.name for path in target.parent.iterdir()] == ["file.txt"]


def test_a_full_disk_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LinnaeaError, match=r"file\.txt: the disk is full; free some space"):
        write_atomically(tmp_path / "file.txt", "text")
    assert not list(tmp_path.iterdir())


def test_a_folder_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "inside").touch()
    with pytest.raises(LinnaeaError, match="taken"):
        write_atomically(tmp_path / "taken", "text")


def test_the_cache_can_be_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINNAEA_CACHE", str(tmp_path))
    assert cache_dir() == tmp_path


def test_what_the_killed_left_goes_and_what_the_living_write_stays(tmp_path: Path) -> None:
    script = """if True:
        import sys
        from pathlib import Path
        from linnaea.storage import atomic_path
        with atomic_path(Path(sys.argv[1])) as partial:
            partial.touch()
            print("writing", flush=True)
            input()
    """
    writers = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path / name / "a.json")], stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE, text=True)
        for name in ("dies", "lives")
    ]  # fmt: skip
    for writer in writers:
        assert writer.stdout is not None
        writer.stdout.readline()
    writers[0].kill()
    writers[0].wait()
    (tmp_path / ".old.png.elsewhere.1.partial").touch()
    remove_partial_files(tmp_path)
    left = [path.parent.name for path in tmp_path.rglob("*.partial")]
    writers[1].kill()
    writers[1].wait()
    assert left == ["lives"]


class LibraryError(Exception):
    """What polars or safetensors raise."""


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        LibraryError("IO error: No space left on device (os error 28)"),
        OSError("60000 requested and 0 written"),
    ],
)
def test_a_full_disk_is_named_however_a_library_says_it(error: Exception, tmp_path: Path) -> None:
    with pytest.raises(LinnaeaError, match="the disk is full"), explain_os_errors(tmp_path / "bank"):
        raise error


def test_missing_shared_memory_is_named_and_not_the_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "_SHARED_MEMORY", str(tmp_path / "none"))
    with (
        pytest.raises(LinnaeaError, match=r"none: is missing or cannot be written"),
        explain_os_errors(tmp_path / "out"),
    ):
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")
    with pytest.raises(LinnaeaError, match="out: No such file"), explain_os_errors(tmp_path):
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(tmp_path / "out"))


@pytest.mark.skipif(sys.platform != "linux", reason="zombies are told by /proc")
def test_a_writer_that_was_killed_and_not_yet_waited_for_has_left_its_file(tmp_path: Path) -> None:
    writer = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    left = tmp_path / f".a.csv.{socket.gethostname()}.{writer.pid}.partial"
    left.touch()
    remove_partial_files(tmp_path)
    assert left.exists(), "its writer runs"
    writer.kill()
    os.waitid(os.P_PID, writer.pid, os.WEXITED | os.WNOWAIT)
    remove_partial_files(tmp_path)
    assert not left.exists()
    writer.wait()


@pytest.mark.parametrize(
    ("text", "why"),
    [("{", "not JSON"), (b"\xff", "not JSON"), ("[1]", "not a JSON object"), ("3", "not a JSON object")],
)
def test_facts_of_a_sample_are_an_object_or_one_line(text: str | bytes, why: str) -> None:
    with pytest.raises(LinnaeaError, match=f"shard-0.tar: a.json: facts that are {why}.*data repair"):
        parse_facts(text, "shard-0.tar: a.json")
    assert parse_facts(b'{"licence": "CC0-1.0"}', "x") == {"licence": "CC0-1.0"}


@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
@pytest.mark.parametrize("stated", ["Höhle/Fuchs é.jpg", "Höhle\\Fuchs é.jpg", "plain/a.jpg", "plain\\a.jpg"])
def test_names_that_another_system_wrote_are_found(stated: str, on_disk: Literal["NFC", "NFD"], tmp_path: Path) -> None:
    place = tmp_path / unicodedata.normalize(on_disk, stated.replace("\\", "/"))
    place.parent.mkdir()
    place.touch()
    assert {find_spelled(tmp_path, unicodedata.normalize(form, stated)) for form in ("NFC", "NFD")} == {place}


@pytest.mark.parametrize(("stated", "path"), [("ä/b.jpg", "ä/b.jpg"), ("ä\\b.jpg", "ä/b.jpg"), ("a.jpg", "a.jpg")])
def test_names_without_a_file_stay(stated: str, path: str, tmp_path: Path) -> None:
    assert find_spelled(tmp_path, stated) == tmp_path / path
