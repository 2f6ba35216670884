"""One's own photographs, found again: the index equals a plain product, grows at its end, survives a kill."""

import json
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
from PIL import Image

from killing import Killer, killed_at
from linnaea.cli import main
from linnaea.errors import LinnaeaError
from linnaea.model.encode import encode_captions, iter_encoded_images
from linnaea.model.load import TaxonModel
from linnaea.model.open import load_model
from linnaea.predict import approximate
from linnaea.predict import index as search
from linnaea.predict.index import Index, update_index
from linnaea.predict.inputs import list_inputs


@pytest.fixture(scope="module")
def model(trained: Path) -> TaxonModel:
    return load_model(str(trained / "model"), device="cpu")


@pytest.fixture
def folder(photographs: Path, tmp_path: Path) -> Path:
    """Ten photographs, one of them twice, and one that is none."""
    folder = tmp_path / "mine"
    folder.mkdir()
    for number, path in enumerate(sorted(photographs.rglob("*.jpg"))[::9][:10]):
        shutil.copy(path, folder / f"{number}.jpg")
    shutil.copy(folder / "3.jpg", folder / "copy.jpg")
    (folder / "bad.jpg").write_text("no picture")
    return folder


def test_the_nearest_are_those_of_a_plain_product(
    model: TaxonModel, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = update_index(model, list_inputs([str(folder)]), tmp_path / "index")
    assert len(failed) == 1
    assert "bad.jpg" in failed[0]
    index = Index.open(tmp_path / "index")
    good = sorted(path for path in folder.iterdir() if path.name != "bad.jpg")
    assert sorted(index.names) == [str(path) for path in good]
    vectors = np.stack([vector for _, vector in iter_encoded_images(model, [(path, path) for path in good])])
    (query,) = encode_captions(model, ["a photo of a moth."])
    expected = dict(zip(map(str, good), vectors @ query, strict=True))
    monkeypatch.setattr(search, "ROWS_AT_ONCE", 4)
    hits = index.nearest(query, top_k=5)
    assert [hit.score for hit in hits] == pytest.approx(sorted(expected.values(), reverse=True)[:5], abs=2e-3)
    for hit in hits:
        assert hit.score == pytest.approx(expected[hit.name], abs=2e-3)
    monkeypatch.setattr(search, "ROWS_AT_ONCE", 64)
    pairs = {(Path(a).name, Path(b).name) for a, b, score in index.iter_pairs(0.9999) if score}
    assert ("3.jpg", "copy.jpg") in pairs
    assert all(a != b for a, b in pairs)


def test_a_deleted_photograph_leaves_the_index(model: TaxonModel, folder: Path, tmp_path: Path) -> None:
    (folder / "below").mkdir()
    shutil.move(folder / "7.jpg", folder / "below" / "7.jpg")
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(folder, elsewhere)
    search.index([folder, elsewhere], tmp_path / "index", model=model)
    shutil.rmtree(folder / "below")
    (folder / "4.jpg").unlink()
    (elsewhere / "4.jpg").unlink()
    found = search.index(folder, tmp_path / "index", model=model).index
    gone = {str(folder / "4.jpg"), str(folder / "below" / "7.jpg")}
    assert not gone & set(found.names)
    assert str(elsewhere / "4.jpg") in found.names, "its disk may be away"
    assert len(found) == 2 * 11 - 2
    shutil.copy(folder / "3.jpg", folder / "4.jpg")
    found = search.index(f"{folder}/*.jpg", tmp_path / "index", model=model).index
    assert str(folder / "4.jpg") in found.names
    (folder / "4.jpg").unlink()
    assert str(folder / "4.jpg") not in search.index(f"{folder}/?.jpg", tmp_path / "index", model=model).index.names


def test_identical_photographs_are_pairs_at_a_cosine_of_one(
    model: TaxonModel, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Vectors are stored in 16 bits, and so are a little shorter or longer than 1."""
    for number in range(8):
        shutil.copy(folder / f"{number}.jpg", folder / f"again-{number}.jpg")
    update_index(model, list_inputs([str(folder)]), tmp_path / "index", batch_size=3)
    index = Index.open(tmp_path / "index")
    expected = {tuple(sorted((f"{number}.jpg", f"again-{number}.jpg"))) for number in range(8)} | {
        ("3.jpg", "copy.jpg")
    }
    for rows_at_once in (4, 64):
        monkeypatch.setattr(search, "ROWS_AT_ONCE", rows_at_once)
        found = {tuple(sorted((Path(a).name, Path(b).name))): score for a, b, score in index.iter_pairs(1.0)}
        assert expected <= set(found)
        assert max(found.values()) <= 1


def test_no_cosine_is_above_one(model: TaxonModel, folder: Path, tmp_path: Path) -> None:
    update_index(model, list_inputs([str(folder)]), tmp_path / "index")
    index = Index.open(tmp_path / "index")
    queries = np.asarray(index.vectors(0, len(index)), np.float32)
    assert ((queries @ queries.T) > 1).any(), "rounding takes some above 1"
    assert all(hit.score <= 1 for query in queries for hit in index.nearest(query, top_k=2))
    assert all(score <= 1 for _, _, score in index.iter_pairs(0.9))


def test_an_index_grows_and_follows_changes(
    model: TaxonModel, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[str] = []
    whole = search.iter_encoded_images

    def spy(model: TaxonModel, items: object, **more: object) -> object:
        listed = list(items)  # type: ignore[call-overload]
        encoded.extend(name for name, _ in listed)
        return whole(model, listed, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(search, "iter_encoded_images", spy)
    update_index(model, list_inputs([str(folder)]), tmp_path / "index")
    first = len(encoded)
    assert len(update_index(model, list_inputs([str(folder)]), tmp_path / "index")) == 1, "still said"
    assert len(encoded) == first, "nothing is encoded twice"
    shutil.copy(folder / "5.jpg", folder / "bad.jpg")
    shutil.copy(folder / "5.jpg", folder / "new.jpg")
    assert update_index(model, list_inputs([str(folder)]), tmp_path / "index") == []
    assert [Path(name).name for name in encoded[first:]] == ["bad.jpg", "new.jpg"]
    index = Index.open(tmp_path / "index")
    assert len(index) == 13
    (vector,) = (vector for _, vector in iter_encoded_images(model, [("q", folder / "5.jpg")]))
    assert {Path(hit.name).name for hit in index.nearest(vector, 3)} == {"5.jpg", "bad.jpg", "new.jpg"}


@pytest.mark.parametrize("torn", ["vector", "line"])
def test_torn_ends_are_cut_and_done_again(model: TaxonModel, folder: Path, tmp_path: Path, torn: str) -> None:
    """What kill -9 can leave: a vector without its line, or half a line."""
    inputs = list_inputs([str(folder)])
    update_index(model, inputs, tmp_path / "whole")
    update_index(model, inputs[:6], tmp_path / "torn")
    if torn == "vector":
        with (tmp_path / "torn" / "vectors.f16").open("ab") as stream:
            stream.write(b"xyz")
    else:
        with (tmp_path / "torn" / "photographs.jsonl").open("a") as stream:
            stream.write('{"name": "tor')
    update_index(model, inputs, tmp_path / "torn")
    for name in ("photographs.jsonl", "index.json"):
        assert (tmp_path / "torn" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    a, b = Index.open(tmp_path / "torn"), Index.open(tmp_path / "whole")
    assert a.names == b.names
    np.testing.assert_allclose(a.vectors(0, 99), b.vectors(0, 99), atol=2e-3)


class Slow:
    """A file whose every write is two, each of which a kill may come before."""

    def __init__(self, stream: IO[Any], killer: Killer) -> None:
        self.stream, self.killer = stream, killer

    def __enter__(self) -> "Slow":
        return self

    def __exit__(self, *_: object) -> None:
        self.stream.close()

    def write(self, content: Any) -> None:
        for part in (content[: len(content) // 2], content[len(content) // 2 :]):
            self.killer("write", ())
            self.stream.write(part)
            self.stream.flush()

    def flush(self) -> None:
        pass


def test_an_index_is_whole_after_a_kill_at_any_step(
    model: TaxonModel, folder: Path, tmp_path: Path, killer: Killer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in the index is right, and the next command ends with the index that an unharmed one makes."""
    (folder / "1.jpg").rename(folder / "below.jpg")
    old, new = (list_inputs([str(folder / f"{name}.jpg") for name in names]) for names in ("23", "4567"))
    every, words = old + new, [str(folder / "2.jpg"), str(folder / "below.jpg")]
    update_index(model, [*every, *list_inputs([str(folder / "below.jpg")])], tmp_path / "whole", batch_size=1)
    vector_of = dict(
        zip(Index.open(tmp_path / "whole").names, Index.open(tmp_path / "whole").vectors(0, 9), strict=True)
    )
    update_index(model, [*old, *list_inputs([str(folder / "below.jpg")])], tmp_path / "old", batch_size=1)
    (folder / "below.jpg").unlink()
    plain = Path.open

    def slow(path: Path, mode: str = "r", *more: Any) -> Any:
        stream = plain(path, mode, *more)
        return Slow(stream, killer) if mode.startswith("a") else stream

    killed, moment = True, 0
    while killed:
        moment += 1
        shutil.copytree(tmp_path / "old", tmp_path / "index", dirs_exist_ok=True)
        with monkeypatch.context() as patched:
            patched.setattr(Path, "open", slow)
            killed = killed_at(moment, killer, partial(update_index, model, every, tmp_path / "index", words))
        index = Index.open(tmp_path / "index")
        assert {one.name for one in old} <= set(index.names)
        for name, vector in zip(index.names, index.vectors(0, 99), strict=True):
            np.testing.assert_allclose(vector, vector_of[name], atol=2e-3)
        update_index(model, every, tmp_path / "index", words)
        assert set(Index.open(tmp_path / "index").names) == {one.name for one in every}
        shutil.rmtree(tmp_path / "index")
    assert moment > 30, "it was killed at many steps"


def test_what_is_no_index_or_another_models_is_one_line(model: TaxonModel, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(LinnaeaError, match="not an index"):
        Index.open(folder)
    with pytest.raises(LinnaeaError, match="not empty, and not an index"):
        update_index(model, [], folder)
    update_index(model, list_inputs([str(folder)])[:1], tmp_path / "index")
    facts = (tmp_path / "index" / "index.json").read_text()
    (tmp_path / "index" / "index.json").write_text(facts.replace(model.fingerprint, "other"))
    with pytest.raises(LinnaeaError, match="another model"):
        update_index(model, [], tmp_path / "index")


def test_the_commands(trained: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    index = str(tmp_path / "index")
    assert main(["index", str(folder), "--output", index, "--model", str(trained / "model")]) == 3
    assert "11 photographs" in capsys.readouterr().out
    assert main(["search", index, "--image", str(folder / "3.jpg"), "--top-k", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {Path(line.split("\t")[1]).name for line in lines[1:]} == {"3.jpg", "copy.jpg"}
    for words in (["--text", "a moth"], ["--taxon", "Pica hudsonia"], ["--near-duplicates", "0.9999"]):
        assert main(["search", index, *words]) == 0
        assert len(capsys.readouterr().out.splitlines()) > 1
    assert main(["search", index]) == 2
    assert main(["search", index, "--text", "a", "--taxon", "b"]) == 2
    assert main(["search", index, "--taxon", "zzzz qqqq"]) == 1
    assert main(["search", index, "--image", str(folder / "bad.jpg")]) == 1
    assert main(["search", str(folder), "--text", "a"]) == 1


@pytest.fixture
def large(tmp_path: Path) -> Index:
    """An index of 4,000 vectors around 200 centres, two of which do not count."""
    random = np.random.default_rng(0)
    centres = random.standard_normal((200, 32))
    vectors = centres[random.integers(0, 200, 4000)] + 0.5 * random.standard_normal((4000, 32))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    folder = tmp_path / "large"
    folder.mkdir()
    (folder / "index.json").write_text(json.dumps({"model": "none", "name": "none", "width": 32}))
    (folder / "vectors.f16").write_bytes(vectors.astype(np.float16).tobytes())
    lines = [
        {"name": f"{number}.jpg", "stamp": [], "reason": "broken" if number in (7, 9) else ""} for number in range(4000)
    ]
    (folder / "photographs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return Index.open(folder)


def test_many_photographs_are_searched_in_lists_and_little_is_missed(
    large: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("faiss")
    monkeypatch.setattr(search, "EXACT_UP_TO", 1000)
    monkeypatch.setattr(approximate, "ROWS_AT_ONCE", 512)
    queries = large.vectors(0, len(large))[::97]
    found = 0
    for query in queries:
        truth, hits = large.nearest(query, 10, exact=True), large.nearest(query, 10)
        score_of = {hit.name: hit.score for hit in large.nearest(query, len(large), exact=True)}
        assert hits[0] == truth[0], "the photograph itself"
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
        assert all(hit.score == pytest.approx(score_of[hit.name], abs=1e-6) for hit in hits), "scores are exact"
        found += len({hit.name for hit in hits} & {hit.name for hit in truth})
    assert found >= 0.95 * 10 * len(queries)


def test_lists_are_made_once_and_again_when_the_index_changed(large: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    faiss = pytest.importorskip("faiss")
    monkeypatch.setattr(search, "EXACT_UP_TO", 1000)
    made: list[int] = []
    large.approximate(lambda done, total: made.append(done))
    assert made[-1] == len(large)
    n_calls = len(made)
    large.approximate(lambda done, total: made.append(done))
    assert len(made) == n_calls
    (first,) = large.directory.glob("nearest-*.faiss")
    with (large.directory / "photographs.jsonl").open("a") as lines:
        lines.write(json.dumps({"name": "5.jpg", "stamp": [1], "reason": ""}) + "\n")
    with (large.directory / "vectors.f16").open("ab") as vectors:
        vectors.write(np.asarray(large.vectors(3, 4), np.float16).tobytes())
    changed = Index.open(large.directory)
    hits = changed.nearest(large.vectors(3, 4)[0], 2)
    assert {hit.name for hit in hits} == {"3.jpg", "5.jpg"}
    assert [path != first for path in large.directory.glob("nearest-*.faiss")] == [True], "the old lists are gone"
    (second,) = large.directory.glob("nearest-*.faiss")
    second.write_bytes(second.read_bytes()[:1000])
    assert changed.nearest(large.vectors(3, 4)[0], 2) == hits, "a damaged file is made again"
    faiss.write_index(faiss.IndexFlatIP(32), str(second))
    assert changed.nearest(large.vectors(3, 4)[0], 2) == hits, "so is a file of other vectors"


def test_without_faiss_many_photographs_are_one_line(large: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    monkeypatch.setattr(search, "EXACT_UP_TO", 1000)
    query = large.vectors(0, 1)[0]
    with pytest.raises(LinnaeaError, match=r"3,998 photographs needs faiss: pip install 'linnaea\[search\]'.*--exact"):
        large.nearest(query)
    assert large.nearest(query, 1, exact=True)[0].name == "0.jpg"


def test_an_index_records_how_photographs_are_seen(
    trained: Path, photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = [str(path) for path in sorted(photographs.rglob("*.jpg"))[:3]]
    wide = tmp_path / "wide.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 90, 3), dtype=np.uint8)).save(wide)
    words = ["index", *few, str(wide), "--model", str(trained), "--device", "cpu", "--output", str(tmp_path / "index")]
    assert main([*words, "--preprocess", "squash"]) == 0
    assert Index.open(tmp_path / "index").facts["preprocess"]["resize_mode"] == "pybioclip"
    hit = search.search(tmp_path / "index", image=wide, top_k=1, device="cpu")[0]
    assert hit.score == pytest.approx(1, abs=1e-3), "the photograph is asked as it was indexed"
    capsys.readouterr()
    assert main(words) == 1
    assert "of photographs in another form (--preprocess squash)" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--text", "a crow"], ["--near-duplicates", "0.99"]])
def test_what_is_found_can_be_looked_at(
    model: TaxonModel, folder: Path, trained: Path, tmp_path: Path, words: list[str]
) -> None:
    update_index(model, list_inputs([str(folder)]), tmp_path / "index")
    place = [str(tmp_path / "index"), "--model", str(trained / "model"), *words]
    assert main(["search", *place, "--output", str(tmp_path / "found.html")]) == 0
    page = (tmp_path / "found.html").read_text()
    assert page.count('src="data:image/jpeg') >= 2
    assert "3.jpg" in page
    assert main(["search", *place, "--output", str(tmp_path / "found.csv")]) == 0
    assert "3.jpg" in (tmp_path / "found.csv").read_text()
    assert main(["search", *place, "--output", str(tmp_path / "found.txt")]) == 2
