"""``linnaea embed`` writes a row for every photograph, with a vector or a reason, in three forms."""

import csv
import json
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from PIL import Image

from linnaea.cli import DONE, FAILED, SOME_FAILED, USAGE, main
from linnaea.model.create import ImageTower, ModelConfig, TextTower, make_model
from linnaea.model.encode import iter_encoded_images
from linnaea.model.load import save_model
from linnaea.model.open import load_model
from linnaea.model.tokenizer import train_bpe

N_PICTURES = 5


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = ModelConfig(
        embed_dim=16,
        image=ImageTower(image_size=32, layers=1, width=32, patch_size=8),
        text=TextTower(width=32, layers=1, heads=2),
    )
    folder = tmp_path_factory.mktemp("model")
    save_model(make_model(config, train_bpe(["Pica pica"], 5)), folder)
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "deeper").mkdir()
    rng = np.random.default_rng(0)
    for number in range(N_PICTURES):
        name = f"{'deeper/' if number % 2 else ''}{number}.jpg"
        Image.fromarray(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(folder / name)
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing more")
    return folder


def run(*words: object) -> int:
    try:
        return main(["embed", *map(str, words)])
    except SystemExit as left:  # tyro, on wrong options
        assert isinstance(left.code, int)
        return left.code


def read(output: Path) -> list[tuple[str, str, str, np.ndarray | None]]:
    """File name, status, reason, vector of each row."""
    match output.suffix:
        case ".npy":
            vectors = np.load(output)
            with output.with_suffix(".files.csv").open(newline="") as stream:
                rows = list(csv.DictReader(stream))
            assert len(vectors) == len(rows)
            return [
                (r["file_name"], r["status"], r["reason"], None if np.isnan(v).all() else v)
                for r, v in zip(rows, vectors, strict=True)
            ]
        case ".jsonl":
            found = [json.loads(line) for line in output.read_text().splitlines()]
        case _:
            found = pl.read_parquet(output).to_dicts()
    return [
        (r["file_name"], r["status"], r["reason"], None if r["embedding"] is None else np.array(r["embedding"]))
        for r in found
    ]


@pytest.mark.parametrize("ending", [".npy", ".jsonl", ".parquet"])
def test_every_photograph_is_a_row(ending: str, model_dir: Path, pictures: Path, tmp_path: Path) -> None:
    output = tmp_path / "out" / f"vectors{ending}"
    assert run(pictures, "missing.jpg", "--output", output, "--model", model_dir, "--device", "cpu") == SOME_FAILED
    rows = read(output)
    assert len(rows) == N_PICTURES + 2
    bad = {Path(name).name: reason for name, status, reason, _ in rows if status == "failed"}
    assert set(bad) == {"broken.jpg", "missing.jpg"}
    assert bad["missing.jpg"] == "no such file"
    model = load_model(str(model_dir), device="cpu")
    for name, status, reason, vector in rows:
        assert (vector is None) == (status == "failed") == bool(reason)
        if vector is not None:
            [(_, expected)] = iter_encoded_images(model, [(name, Path(name))])
            np.testing.assert_allclose(vector, expected, atol=1e-5)
    leftovers = {path.name for path in output.parent.iterdir()} - {output.name, "vectors.files.csv"}
    assert not leftovers


def test_all_good_is_done_and_says_so(
    model_dir: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "v.parquet"
    assert run(pictures / "deeper", pictures / "[0-9].jpg", "--output", output, "--model", model_dir) == DONE
    assert f"{N_PICTURES} of {N_PICTURES} photographs encoded" in capsys.readouterr().err
    names = [Path(name).name for name, *_ in read(output)]
    assert names == ["1.jpg", "3.jpg", "0.jpg", "2.jpg", "4.jpg"], "in the order given"


def test_what_cannot_be_done_is_one_line(
    model_dir: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "v.npy"
    (tmp_path / "nothing").mkdir()
    cases = [
        ((pictures, "--output", output, "--model", "nanoo"), FAILED, "no model 'nanoo'"),
        ((pictures, "--output", output, "--model", "bioclipp"), FAILED, "did you mean bioclip"),
        ((tmp_path / "nothing", "--output", output, "--model", model_dir), FAILED, "no photographs"),
        ((pictures / "no.jpg", "--output", output, "--model", model_dir), FAILED, "no such file"),
        ((pictures, "--output", tmp_path / "v.txt", "--model", model_dir), USAGE, "must end in"),
        ((pictures, "--output", output, "--model", model_dir, "--batch-size", 0), USAGE, "at least 1"),
    ]
    for words, code, message in cases:
        assert run(*words) == code, words
        said = capsys.readouterr().err
        assert message in " ".join(said.split())
        assert "Traceback" not in said


def test_a_full_disk_leaves_the_old_file_and_one_line(
    model_dir: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "v.jsonl"
    output.write_text("old")
    monkeypatch.setattr("linnaea.cli.embed.json.dumps", _no_space)
    assert run(pictures, "--output", output, "--model", model_dir) == FAILED
    assert "disk is full" in capsys.readouterr().err
    assert output.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["v.jsonl"]


def _no_space(*_: object, **__: object) -> str:
    raise OSError(28, "No space left on device")


def test_bf16_is_asked_for_and_written_down(model_dir: Path, pictures: Path, tmp_path: Path) -> None:
    """Nearly the vectors of float32, which is the default: on every machine the same."""
    plain, low = tmp_path / "plain.parquet", tmp_path / "low.parquet"
    command = ["embed", str(pictures), "--model", str(model_dir), "--device", "cpu"]
    assert main([*command, "--output", str(plain)]) == SOME_FAILED
    assert main([*command, "--output", str(low), "--precision", "bf16"]) == SOME_FAILED
    a, b = (np.stack(pl.read_parquet(path)["embedding"].drop_nulls().to_list()) for path in (plain, low))
    assert 0 < np.linalg.norm(a - b, axis=1).max() < 0.02
    said = [pq.read_schema(path).metadata[b"linnaea.precision"] for path in (plain, low)]
    assert said == [b"float32", b"bf16"]
    assert main([*command, "--output", str(low), "--precision", "int8"]) == FAILED, "a model without a form in 8 bits"
