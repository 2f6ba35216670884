"""pybioclip's options and commands are understood by ours."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from hub import Hub
from linnaea.cli import main


@pytest.fixture
def few(photographs: Path) -> list[str]:
    return [str(path) for path in sorted(photographs.rglob("*.jpg"))[:3]]


def read_csv(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_k_and_csv_where_there_is_no_terminal(
    trained: Path, few: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["predict", *few, "--model", str(trained), "--device", "cpu"]
    assert main([*words, "--k", "2", "--output", "stdout"]) == 0
    first = capsys.readouterr().out
    assert main([*words, "--top-k", "2", "--format", "csv"]) == 0
    assert capsys.readouterr().out == first
    rows = read_csv(first)
    assert len(rows) == 6
    assert list(rows[0])[:11] == ["file_name", "kingdom", "phylum", "class", "order", "family", "genus",
                                  "species_epithet", "species", "common_name", "score"]  # fmt: skip
    assert not Path("stdout").exists()
    assert main([*words, "--k", "2", "--format", "json"]) == 0
    assert [row["species"] for row in json.loads(capsys.readouterr().out)] == [row["species"] for row in rows]
    assert main([*words, "--k", "0"]) == 2


def test_classes_from_words_or_a_file(
    trained: Path, few: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "words.txt").write_text("moth\na red beetle\n")
    words = ["predict", *few, "--model", str(trained), "--device", "cpu"]
    printed = []
    for given in (["--cls", "moth, a red beetle"], ["--cls", str(tmp_path / "words.txt")],
                  ["--labels", "moth,a red beetle"]):  # fmt: skip
        assert main([*words, *given]) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1] == printed[2]
    assert {row["common_name"] for row in read_csv(printed[0])} == {"moth", "a red beetle"}
    for given in (["--rank", "genus"], ["--labels", "x,y"], ["--subset", "taxa.csv"]):
        assert main([*words, "--cls", "moth", *given]) == 2
    assert main([*words, "--cls", " , "]) == 1


def test_a_subset_is_a_species_list(
    trained: Path, few: list[str], dataset_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    taxa = pl.read_parquet(dataset_dir / "taxa.parquet")
    genus = taxa["genus"][0]
    (tmp_path / "taxa.csv").write_text(f"genus\n{genus}\n")
    assert (
        main(["predict", *few, "--model", str(trained), "--device", "cpu", "--subset", str(tmp_path / "taxa.csv")]) == 0
    )
    assert {row["genus"] for row in read_csv(capsys.readouterr().out)} == {genus}


def test_embeddings_are_printed_as_pybioclips(
    trained: Path, few: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["embed", *few, "--model", str(trained), "--device", "cpu"]
    assert main(words) == 0
    printed = json.loads(capsys.readouterr().out)
    assert list(printed["embeddings"]) == few
    assert main([*words, "--output", str(tmp_path / "v.json")]) == 0
    assert json.loads((tmp_path / "v.json").read_text()) == printed
    assert main([*words, "--output", str(tmp_path / "v.npy")]) == 0
    raw, unit = np.array(list(printed["embeddings"].values())), np.load(tmp_path / "v.npy")
    assert np.allclose(raw / np.linalg.norm(raw, axis=1, keepdims=True), unit, atol=2e-6)
    assert not np.allclose(np.linalg.norm(raw, axis=1), 1)
    assert main([*words, "--format", "npy"]) == 2
    assert main([*words, "--output", str(tmp_path / "v"), "--format", "jsonl"]) == 0
    assert len((tmp_path / "v").read_text().splitlines()) == 3


def test_models_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list-models"]) == 0
    assert {"nano", "bioclip-2", "hf-hub:imageomics/bioclip-2", "ViT-B-16"} <= set(capsys.readouterr().out.split())
    assert main(["list-models", "--model", "RN50"]) == 0
    assert "openai" in capsys.readouterr().out
    assert main(["list-models", "--model", "RN51"]) == 2


def test_taxa_of_a_bank_are_listed_in_its_order(hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    names = [[["Animalia", "Chordata", "Aves", "", "", "Pica", "pica"], "magpie"],
             [["Animalia", None, "", "", "", "Abies", "alba"], None]]  # fmt: skip
    hub.add_bank("imageomics/TreeOfLife-200M", "txt_emb_bioclip-2", names, np.eye(2))
    assert main(["list-tol-taxa"]) == 0
    rows = read_csv(capsys.readouterr().out)
    assert [row["species"] for row in rows] == ["Pica pica", "Abies alba"]
    assert hub.downloads() == ["txt_emb_bioclip-2.json"]
    assert main(["list-tol-taxa", "--model", "nano"]) == 2
