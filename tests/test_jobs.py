"""A folder belongs to one job, finished parts are not run again, and the words say what to do."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from linnaea.errors import LinnaeaError
from linnaea.jobs import claim_folder, hold_alone, make_fingerprint, read_finished, run_parts


def claim(folder: Path, content: str) -> bool:
    return claim_folder(folder, ".job/fingerprint", content, kind="an unfinished job")


def test_a_folder_is_claimed_once_and_found_again(tmp_path: Path) -> None:
    assert not claim(tmp_path / "new", "one")
    (tmp_path / "new" / ".job" / "part").touch()
    (tmp_path / "new" / "output").touch()
    assert claim(tmp_path / "new", "one")
    with pytest.raises(LinnaeaError, match=r"new: holds an unfinished job from other inputs.*choose another --output"):
        claim(tmp_path / "new", "two")


@pytest.mark.parametrize(
    ("name", "why"), [("file", "a file, not a folder"), ("folder", "not empty, and not an unfinished job")]
)
def test_what_is_not_the_jobs_own_is_left_alone(tmp_path: Path, name: str, why: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.docx").touch()
    with pytest.raises(LinnaeaError, match=f"{name}: {why}"):
        claim(tmp_path / name, "one")


def test_a_claim_may_say_itself_why_it_is_another(tmp_path: Path) -> None:
    def why_other(earlier: str) -> str:
        return "" if earlier[0] == "o" else f"of {earlier}"

    for content, begun in (("one", False), ("other", True)):
        assert claim_folder(tmp_path, "facts", content, kind="an index", why_other=why_other) == begun
    (tmp_path / "facts").write_text("two")
    with pytest.raises(LinnaeaError, match="holds an index of two"):
        claim_folder(tmp_path, "facts", "one", kind="an index", why_other=why_other)


def test_the_manifest_of_another_job_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    path.write_text('{"fingerprint": "a", "n": 3}')
    assert read_finished(path, "a", kind="an export")["n"] == 3
    with pytest.raises(LinnaeaError, match="holds an export from other inputs"):
        read_finished(path, "b", kind="an export")


def test_a_second_process_is_kept_out(tmp_path: Path) -> None:
    refused = pytest.raises(LinnaeaError, match="another build is running")
    with hold_alone(tmp_path, "lock", kind="build"), refused, hold_alone(tmp_path, "lock", kind="build"):
        pass
    with hold_alone(tmp_path, "lock", kind="build"):
        pass


@dataclass(frozen=True)
class Part:
    receipt_path: Path
    length: int


def test_parts_with_a_receipt_are_not_run_again(tmp_path: Path) -> None:
    parts = [Part(tmp_path / str(number), number + 1) for number in range(4)]
    ran: list[int] = []

    def write(part: Part) -> int:
        ran.append(part.length)
        part.receipt_path.touch()
        return part.length

    def backwards(function: Callable[[Part], int], tasks: Iterable[Part]) -> Iterator[int]:
        return map(function, reversed(list(tasks)))

    parts[1].receipt_path.touch()
    told: list[tuple[int, int | None]] = []
    run_parts(write, parts, backwards, lambda done, total: told.append((done, total)))
    assert ran == [4, 3, 1]
    assert told == [(2, 10), (6, 10), (9, 10), (10, 10)]
    run_parts(write, parts, backwards, lambda done, total: None)
    assert ran == [4, 3, 1]


def test_a_fingerprint_does_not_depend_on_the_order_of_keys() -> None:
    assert make_fingerprint({"a": 1, "b": [2]}) == make_fingerprint({"b": [2], "a": 1}) != make_fingerprint({"a": 1})
