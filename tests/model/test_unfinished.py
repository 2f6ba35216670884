"""Whoever interrupts a long encoding and asks again gets the same bits, and only the rest is encoded."""

import gc
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from linnaea.errors import LinnaeaError
from linnaea.model import encode, unfinished
from linnaea.model.encode import encode_names, encode_readable
from linnaea.model.load import TaxonModel
from linnaea.model.unfinished import open_unfinished
from linnaea.storage import cache_dir, write_atomically

NAMES = [f"Pica {chr(97 + i % 26)}ica{i}" for i in range(23)]
TEMPLATES = ("{}", "a photo of {}.")


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(encode, "CAPTIONS_AT_ONCE", 8)
    monkeypatch.setattr(encode, "KEPT_FROM", 16)
    monkeypatch.setenv("LINNAEA_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def count_captions(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[int]]:
    """Count the captions of each block; the block of a number is interrupted."""

    def count(interrupted: int = -1) -> list[int]:
        seen: list[int] = []

        def counted(model: TaxonModel, captions: Sequence[str], **more: Any) -> Any:
            if len(seen) == interrupted:
                raise KeyboardInterrupt
            seen.append(len(captions))
            return whole(model, captions, **more)

        monkeypatch.setattr(encode, "encode_captions", counted)
        return seen

    whole = encode.encode_captions
    return count


def left() -> list[str]:
    gc.collect()
    return sorted(path.name for path in (cache_dir() / "unfinished").rglob("*") if path.is_file())


def test_an_interrupted_encoding_goes_on(model: TaxonModel, count_captions: Callable[..., list[int]]) -> None:
    whole = np.array(encode_names(model, NAMES, TEMPLATES))
    assert left() == []
    seen = count_captions(3)
    with pytest.raises(KeyboardInterrupt):
        encode_names(model, NAMES, TEMPLATES)
    assert seen == [8, 8, 8]
    assert left() == ["done", "lock", "vectors.npy"]
    seen, told = count_captions(), list[tuple[int, int | None]]()
    again = encode_names(model, NAMES, TEMPLATES, on_progress=lambda done, total: told.append((done, total)))
    assert seen == [8, 8, 6]
    assert told[0] == (12, 23)
    assert (again == whole).all()
    del again
    assert left() == []


@pytest.mark.parametrize("change", ["names", "templates", "blocks"])
def test_another_question_begins_anew(
    change: str, model: TaxonModel, count_captions: Callable[..., list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    count_captions(2)
    with pytest.raises(KeyboardInterrupt):
        encode_names(model, NAMES, TEMPLATES)
    seen = count_captions()
    names = [*NAMES[:-1], "Pica pica"] if change == "names" else NAMES
    if change == "blocks":
        monkeypatch.setattr(encode, "CAPTIONS_AT_ONCE", 10)
    encode_names(model, names, ("{}", "{} in a book") if change == "templates" else TEMPLATES)
    assert sum(seen) == 46


@pytest.mark.parametrize("content", ["", "-1", "900", "no number", "missing", "short", "half a header"])
def test_damaged_files_begin_anew(content: str, model: TaxonModel, count_captions: Callable[..., list[int]]) -> None:
    whole = np.array(encode_names(model, NAMES, TEMPLATES))
    count_captions(2)
    with pytest.raises(KeyboardInterrupt):
        encode_names(model, NAMES, TEMPLATES)
    (done,) = (cache_dir() / "unfinished").glob("*/done")
    if content == "missing":
        done.with_name("vectors.npy").unlink()
    elif content == "short":
        os.truncate(done.with_name("vectors.npy"), 500)
    elif content == "half a header":
        done.with_name("vectors.npy").write_bytes(b"\x93NUMPY\x01\x00\x10\x00{'descr': '<f4',")
    else:
        done.write_text(content)
    seen = count_captions()
    assert (encode_names(model, NAMES, TEMPLATES) == whole).all()
    assert sum(seen) == 46


def test_few_names_write_nothing(model: TaxonModel) -> None:
    encode_names(model, NAMES[:7], TEMPLATES)
    assert not cache_dir().exists()


def test_a_cache_that_cannot_be_written_costs_the_resume_alone(model: TaxonModel, tmp_path: Path) -> None:
    whole = np.array(encode_names(model, NAMES, TEMPLATES))
    (tmp_path / "cache" / "unfinished").rmdir()
    (tmp_path / "cache" / "unfinished").touch()
    assert (encode_names(model, NAMES, TEMPLATES) == whole).all()


def test_a_disk_that_is_full_later_costs_the_resume_alone(
    model: TaxonModel, count_captions: Callable[..., list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = np.array(encode_names(model, NAMES, TEMPLATES))
    kept: list[str] = []

    def write_twice(path: Path, content: str) -> None:
        if len(kept) == 2:
            raise LinnaeaError(f"{path}: the disk is full")
        kept.append(content)
        write_atomically(path, content)

    monkeypatch.setattr(unfinished, "write_atomically", write_twice)
    count_captions(4)
    with pytest.raises(KeyboardInterrupt):
        encode_names(model, NAMES, TEMPLATES)
    assert kept == ["4", "8"]
    seen = count_captions()
    assert (encode_names(model, NAMES, TEMPLATES) == whole).all()
    assert seen == [8, 8, 8, 6], "what was finished before the disk was full is not encoded again"


def test_two_processes_do_not_write_the_same_file(tmp_path: Path) -> None:
    code = (
        "import time\nfrom linnaea.model.unfinished import open_unfinished\nwith open_unfinished('q', (4, 2)) as one:\n"
    )
    code += "    one.vectors[:2] = 7\n    one.finish(2)\n    print('held', flush=True)\n    time.sleep(60)\n"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        with open_unfinished("q", (4, 2)) as mine:
            assert (mine.done, mine.folder) == (0, None)
        other.kill()
    with open_unfinished("q", (4, 2)) as mine:
        assert mine.done == 2 and (mine.vectors[:2] == 7).all(), "kill -9 loses nothing that was finished"


def test_what_nobody_goes_on_with_is_removed(tmp_path: Path) -> None:
    old = tmp_path / "cache" / "unfinished" / "old"
    old.mkdir(parents=True)
    (old / "done").write_text("3")
    long_ago = time.time() - 40 * 24 * 3600
    for path in (old / "done", old):
        os.utime(path, (long_ago, long_ago))
    new = old.with_name("new")
    new.mkdir()  # another command is about to lock it, or was killed before it did
    with open_unfinished("q", (4, 2)) as mine:
        assert not old.exists() and new.exists()
        assert mine.folder is not None


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    for number in range(22):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 50, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number:02d}.png")
    (tmp_path / "03.png").write_bytes(b"no picture")
    (tmp_path / "17.png").unlink()
    return [tmp_path / f"{number:02d}.png" for number in range(22)]


def encode_files(model: TaxonModel, paths: Sequence[Path]) -> tuple[dict[str, bytes], dict[str, str]]:
    good, failed = encode_readable(model, [(path.name, path) for path in paths], "encoding", batch_size=4)
    return {name: vector.tobytes() for name, vector in good}, {name: str(error) for name, error in failed}


@pytest.mark.parametrize("stopped_at", [3, 9, 18])
def test_interrupted_photographs_go_on(
    stopped_at: int, model: TaxonModel, pictures: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(encode, "KEPT_PHOTOGRAPHS_FROM", 8)
    monkeypatch.setenv("LINNAEA_CACHE", str(tmp_path / "another"))
    whole = encode_files(model, pictures)
    assert set(whole[1]) == {"03.png", "17.png"}
    monkeypatch.setenv("LINNAEA_CACHE", str(tmp_path / "cache"))
    read, seen = encode.read_image_file, list[str]()

    def interrupted(path: Path) -> bytes:
        seen.append(path.name)
        if path == pictures[stopped_at] and len(seen) <= 22:
            raise KeyboardInterrupt
        return read(path)

    monkeypatch.setattr(encode, "read_image_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        encode_files(model, pictures)
    seen[:] = 23 * [""]
    assert encode_files(model, pictures) == whole
    n_kept = len(pictures) - len({name for name in seen[23:] if name not in whole[1]}) - 2
    assert n_kept >= stopped_at // 4 * 4 - 8, "but for the batch that was being encoded, and those read ahead"
    seen[:] = 23 * [""]
    assert encode_files(model, pictures) == whole
    assert sorted(seen[23:]) == ["03.png", "17.png"], "only photographs that cannot be read are asked again"


def test_a_changed_photograph_is_encoded_anew(
    model: TaxonModel, pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encode, "KEPT_PHOTOGRAPHS_FROM", 8)
    before, _ = encode_files(model, pictures)
    pictures[5].write_bytes(pictures[6].read_bytes())
    after, _ = encode_files(model, pictures)
    assert {name for name in before if before[name] != after[name]} == {"05.png"}
    assert np.allclose(
        np.frombuffer(after["05.png"], np.float32), np.frombuffer(after["06.png"], np.float32), atol=1e-6
    )
    other, _ = encode_files(replace(model, preprocess=replace(model.preprocess, mean=(0.1, 0.1, 0.1))), pictures)
    assert not set(other.values()) & set(after.values())
