"""Photographs in, taxa out: probabilities that add up, rows for everything, files that are whole."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linnaea.cli import main
from linnaea.data.shards import make_taxa_table
from linnaea.errors import LinnaeaError
from linnaea.predict.classifier import guess_at_rank, iter_probabilities, sum_to_all_ranks
from linnaea.predict.inputs import list_images
from linnaea.predict.label_lists import read_taxa
from linnaea.predict.labels import LabelBank
from linnaea.predict.predictor import decide
from linnaea.taxonomy.columns import ANSWER_COLUMNS
from linnaea.taxonomy.ranks import RANK_LABELS, Rank
from linnaea.taxonomy.taxon import Taxon

PYBIOCLIP_COLUMNS = ["file_name", "kingdom", "phylum", "class", "order", "family", "genus",
                     "species_epithet", "species", "common_name", "score"]  # fmt: skip

names = st.sampled_from(["", "A", "B", "C"])


@st.composite
def taxa_lists(draw: st.DrawFn) -> list[Taxon]:
    """Lineages with homonyms and missing ranks."""
    rows = draw(st.lists(st.tuples(*[names] * 7), min_size=1, max_size=25))
    taxa = []
    for row in rows:
        lineage = (*row[:6], row[6].lower() * 3 if row[5] else "")
        if any(lineage):
            taxa.append(Taxon(lineage))
    return taxa or [Taxon.of(common_name="x")]


@settings(max_examples=80, deadline=None)
@given(taxa_lists(), st.integers(0, 1000))
def test_probabilities_add_up_along_the_lineage(taxa: list[Taxon], seed: int) -> None:
    table = make_taxa_table(taxa)
    bank = LabelBank(table, np.zeros((table.height, 1), np.float32), {})
    p = np.random.default_rng(seed).dirichlet(np.ones(len(bank)), size=3).astype(np.float32)
    lineages = table.select(RANK_LABELS).rows()
    for rank in Rank:
        sums = sum_to_all_ranks(p, bank, rank)[rank]
        np.testing.assert_allclose(sums.sum(axis=1), 1, rtol=1e-5)
        naive: dict[tuple[str, ...], np.ndarray] = {}
        for column, lineage in enumerate(lineages):
            naive[lineage[: rank + 1]] = naive.get(lineage[: rank + 1], 0) + p[:, column]
        np.testing.assert_allclose(sums, np.stack(list(naive.values()), axis=1), rtol=1e-4, atol=1e-7)


@settings(max_examples=60, deadline=None)
@given(taxa_lists(), st.integers(0, 1000), st.floats(0.05, 0.99))
def test_auto_goes_as_deep_as_it_is_sure_on_one_path(taxa: list[Taxon], seed: int, confidence: float) -> None:
    table = make_taxa_table(taxa)
    bank = LabelBank(table, np.zeros((table.height, 1), np.float32), {})
    p = np.random.default_rng(seed).dirichlet(np.full(len(bank), 0.3), size=4).astype(np.float32)
    for row, guess in zip(p, decide(sum_to_all_ranks(p, bank), bank, confidence), strict=True):
        if guess is None:
            continue
        depth = next((i for i in reversed(range(7)) if guess.taxon.lineage[i]), 6)
        members = [
            i for i, t in enumerate(bank.taxa_list) if t.lineage[: depth + 1] == guess.taxon.lineage[: depth + 1]
        ]
        assert guess.score >= confidence - 1e-5
        assert guess.score <= row[members].sum() + 1e-4


def test_no_probability_is_above_one() -> None:
    """A sum of float32 may be: it is cut, for every door."""
    bank = LabelBank(
        make_taxa_table([Taxon.of(genus="G", species=f"s{i}") for i in range(50)]), np.zeros((50, 1), np.float32), {}
    )
    p = np.random.default_rng(0).dirichlet(np.ones(50), size=200).astype(np.float32)
    assert (np.add.reduceat(p, [0], axis=1) > 1).any()
    assert (sum_to_all_ranks(p, bank, Rank.GENUS)[Rank.GENUS] <= 1).all()
    assert all(
        guess.score <= 1
        for row in guess_at_rank(sum_to_all_ranks(p, bank, Rank.GENUS)[Rank.GENUS], bank, Rank.GENUS, 1)
        for guess in row
    )


def test_scores_do_not_depend_on_how_images_are_blocked(monkeypatch: pytest.MonkeyPatch) -> None:
    from linnaea.predict import classifier

    rng = np.random.default_rng(0)
    taxa = [Taxon.of(genus=f"G{i % 7}", species=f"s{i}") for i in range(50)]
    bank = LabelBank(make_taxa_table(taxa), rng.normal(size=(50, 8)).astype(np.float32), {})
    images = rng.normal(size=(20, 8)).astype(np.float32)
    whole = np.concatenate(list(iter_probabilities(images, bank, 5.0)))
    monkeypatch.setattr(classifier, "MAX_CELLS", 150)
    blocks = list(iter_probabilities(images, bank, 5.0))
    assert len(blocks) == 7
    again, seen = np.concatenate(blocks), whole > 1e-30
    np.testing.assert_allclose(again, whole, rtol=1e-5, atol=1e-7, err_msg="float32's rounding of numbers up to 1")
    np.testing.assert_allclose(np.log(again[seen]), np.log(whole[seen]), rtol=0, atol=1e-4, err_msg="logits")
    best = guess_at_rank(sum_to_all_ranks(whole, bank, Rank.GENUS)[Rank.GENUS], bank, Rank.GENUS, 3)
    assert all(a.score >= b.score for row in best for a, b in pairwise(row))
    assert {guess.rank for row in best for guess in row} == {Rank.GENUS}


def test_predictions_from_a_bank_equal_those_from_its_taxa(photographs: Path, trained: Path, tmp_path: Path) -> None:
    folder = a_folder_of(photographs, tmp_path / "new", 4)
    bank = tmp_path / "bank"
    assert (
        main(["labels", "build", "--taxa", str(trained / "model"), "--model", str(trained), "--output", str(bank)]) == 0
    )
    assert main(["labels", "show", str(bank)]) == 0
    for name, labels in (("bank", bank), ("taxa", trained / "model")):
        words = ["--labels", str(labels), "--output", str(tmp_path / f"{name}.csv"), "--top-k", "1"]
        assert main(["predict", str(folder), "--model", str(trained), *words]) == 0
    for a, b in zip(read_rows(tmp_path / "bank.csv"), read_rows(tmp_path / "taxa.csv"), strict=True):
        assert float(a.pop("score")) == pytest.approx(float(b.pop("score")), abs=0.01), "the bank is fp16"
        assert a == b


def test_a_bank_of_another_model_is_refused(
    photographs: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bank = LabelBank(
        read_taxa(trained / "model"), np.zeros((len(read_taxa(trained / "model")), 64), np.float32), {"model": "x"}
    )
    bank.save(tmp_path / "bank")
    image = str(next(photographs.rglob("*.jpg")))
    assert main(["predict", image, "--model", str(trained), "--labels", str(tmp_path / "bank")]) == 1
    assert "built with another model" in capsys.readouterr().err


def test_labels_with_english_names_alone_stay_apart() -> None:
    table = make_taxa_table([Taxon.of(common_name="cat"), Taxon.of(common_name="dog"), Taxon.of(genus="Pica")])
    bank = LabelBank(table, np.zeros((3, 1), np.float32), {})
    p = np.array([[0.2, 0.5, 0.3]], np.float32)
    assert [
        guess.taxon.common_name
        for guess in guess_at_rank(sum_to_all_ranks(p, bank, Rank.SPECIES)[Rank.SPECIES], bank, Rank.SPECIES, 3)[0]
    ] == ["dog", "", "cat"]
    assert [
        guess.taxon.genus
        for guess in guess_at_rank(sum_to_all_ranks(p, bank, Rank.GENUS)[Rank.GENUS], bank, Rank.GENUS, 3)[0]
    ] == ["Pica"]
    answer = decide(sum_to_all_ranks(p, bank), bank, 0.4)[0]
    assert answer is not None
    assert answer.taxon.common_name == "dog"


def test_a_bank_on_disk_is_the_same_bank(tmp_path: Path) -> None:
    table = make_taxa_table([Taxon.of(genus="Pica", species="pica"), Taxon.of(genus="Corvus", species="corax")])
    bank = LabelBank(table, np.eye(2, 4, dtype=np.float32), {"model": "m"})
    bank.save(tmp_path / "bank")
    again = LabelBank.open(tmp_path / "bank")
    assert again.taxa.equals(bank.taxa)
    assert (np.asarray(again.vectors) == bank.vectors).all()
    assert again.facts == bank.facts
    with pytest.raises(LinnaeaError, match="it should be the taxa of a label bank"):
        LabelBank.open(tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "scientific"),
    [
        ("l.txt", "# mine\nPica pica\n\nCorvus corax\n", ["Corvus corax", "Pica pica"]),
        ("l.csv", "genus,species,common_name\nPica,pica,Eurasian magpie\n", ["Pica pica"]),
        ("l.csv", "scientific_name\nPica pica\nCorvus corax\n", ["Corvus corax", "Pica pica"]),
        ("l.txt", "magpie\n", [""]),
    ],
)
def test_labels_are_read_from_lists_and_tables(tmp_path: Path, name: str, text: str, scientific: list[str]) -> None:
    (tmp_path / name).write_text(text)
    assert read_taxa(tmp_path / name)["scientific_name"].to_list() == scientific


@pytest.mark.parametrize(("name", "text"), [("l.txt", "\n"), ("l.csv", "a,b\n1,2\n"), ("l.csv", "species\npica\n")])
def test_labels_without_names_are_refused(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(LinnaeaError, match=r"l\.(txt|csv)"):
        read_taxa(tmp_path / name)


def test_folders_patterns_and_files_become_one_list(tmp_path: Path) -> None:
    for name in ("b/2.jpg", "b/1.png", "b/notes.txt", "b/deep/3.JPG", "c.jpg", ".hidden.jpg"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    found = list_images(
        [str(tmp_path / "c.jpg"), str(tmp_path / "b"), str(tmp_path / "*.jpg"), str(tmp_path / "no.jpg")]
    )
    assert [str(path.relative_to(tmp_path)) for path in found] == [
        "c.jpg",
        "b/1.png",
        "b/2.jpg",
        "b/deep/3.JPG",
        "no.jpg",
    ]


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open() as stream:
        return list(csv.DictReader(stream))


def a_folder_of(photographs: Path, target: Path, n: int = 6) -> Path:
    target.mkdir()
    for number, path in enumerate(sorted(photographs.rglob("*.jpg"))[:: 96 // n][:n]):
        (target / f"{number}.jpg").write_bytes(path.read_bytes())
    return target


def test_every_photograph_gets_its_rows(photographs: Path, trained: Path, tmp_path: Path) -> None:
    folder = a_folder_of(photographs, tmp_path / "new")
    output = tmp_path / "out.csv"
    assert main(["predict", str(folder), "--model", str(trained), "--output", str(output), "--top-k", "3"]) == 0
    rows = read_rows(output)
    assert list(rows[0])[: len(PYBIOCLIP_COLUMNS)] == PYBIOCLIP_COLUMNS
    assert tuple(rows[0]) == ANSWER_COLUMNS
    assert [row["file_name"] for row in rows] == [str(p) for p in sorted(folder.iterdir()) for _ in range(3)]
    assert all(row["species"] == f"{row['genus']} {row['species_epithet']}" for row in rows)
    assert not list(tmp_path.glob("*.journal"))


@pytest.mark.parametrize("rank", ["kingdom", "family", "genus"])
def test_higher_ranks_are_sums(rank: str, photographs: Path, trained: Path, tmp_path: Path) -> None:
    folder = a_folder_of(photographs, tmp_path / "new", 3)
    for name, chosen in (("species", "species"), ("rank", rank)):
        words = ["--rank", chosen, "--top-k", "100", "--output", str(tmp_path / f"{name}.parquet")]
        assert main(["predict", str(folder), "--model", str(trained), *words]) == 0
    species, higher = pl.read_parquet(tmp_path / "species.parquet"), pl.read_parquet(tmp_path / "rank.parquet")
    sums = species.group_by("file_name", rank).agg(pl.col("score").sum()).sort("file_name", rank)
    there = higher.select("file_name", rank, "score").sort("file_name", rank)
    assert sums.select("file_name", rank).equals(there.select("file_name", rank))
    np.testing.assert_allclose(sums["score"], there["score"], atol=1e-4)
    assert (higher["genus" if rank != "genus" else "species"] == "").all()


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_standard_output_is_for_results(
    form: str, photographs: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = a_folder_of(photographs, tmp_path / "new", 2)
    assert main(["predict", str(folder), "--model", str(trained), "--format", form, "--top-k", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    if form == "csv":
        assert lines[0].split(",")[0] == "file_name"
        assert len(lines) == 3
    else:
        assert [json.loads(line)["status"] for line in lines] == ["ok", "ok"]


def test_a_missing_photograph_is_one_line(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(tmp_path / "no.jpg"), "--model", str(trained)]) == 1
    err = capsys.readouterr().err
    assert err == f"linnaea: {tmp_path / 'no.jpg'}: no such file\n"


def test_bad_photographs_among_good_ones_are_rows_with_a_reason(
    photographs: Path, trained: Path, tmp_path: Path
) -> None:
    folder = a_folder_of(photographs, tmp_path / "new", 3)
    (folder / "empty.jpg").touch()
    (folder / "words.jpg").write_text("no picture")
    words = [
        str(folder),
        str(tmp_path / "missing.jpg"),
        "--model",
        str(trained),
        "--output",
        str(tmp_path / "o.csv"),
        "--top-k",
        "1",
    ]
    assert main(["predict", *words]) == 3
    rows = {Path(row["file_name"]).name: row for row in read_rows(tmp_path / "o.csv")}
    assert len(rows) == 6
    assert {name: row["reason"] for name, row in rows.items() if row["status"] == "failed"} == {
        "empty.jpg": "file is empty",
        "words.jpg": "not an image (text file)",
        "missing.jpg": "no such file",
    }


def test_where_nothing_is_sure_it_abstains(photographs: Path, trained: Path, tmp_path: Path) -> None:
    folder = a_folder_of(photographs, tmp_path / "new", 3)
    labels = tmp_path / "labels.csv"  # two kingdoms: a model that knows nothing is sure of neither
    labels.write_text("kingdom,genus,species\nAnimalia,Pica,pica\nPlantae,Salix,alba\n")
    words = ["--rank", "auto", "--confidence", "0.999999", "--output", str(tmp_path / "o.csv"), "--labels", str(labels)]
    assert main(["predict", str(folder), "--model", str(trained), *words]) == 0
    assert {row["status"] for row in read_rows(tmp_path / "o.csv")} == {"abstained"}
    words = ["--rank", "auto", "--confidence", "0.01", "--output", str(tmp_path / "p.csv")]
    assert main(["predict", str(folder), "--model", str(trained), *words]) == 0
    assert {row["rank"] for row in read_rows(tmp_path / "p.csv")} == {"species"}


def test_kill_9_and_the_same_command_give_the_same_file(photographs: Path, trained: Path, tmp_path: Path) -> None:
    folder = a_folder_of(photographs, tmp_path / "new", 96)
    output = tmp_path / "out.csv"
    command = [sys.executable, "-m", "linnaea", "predict", str(folder), "--model", str(trained),
               "--output", str(output), "--batch-size", "4"]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=environment)
    journal, deadline = tmp_path / "out.csv.journal", time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if journal.exists() and journal.read_text().count("\n") > 8:
            break
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    if journal.exists():
        with journal.open("a") as stream:
            stream.write('{"file_name": "torn')
        assert not output.exists()
    assert main(command[3:]) == 0
    assert main([*command[3:-3], str(tmp_path / "whole.csv"), "--batch-size", "4"]) == 0
    assert [row["file_name"] for row in read_rows(output)] == [
        row["file_name"] for row in read_rows(tmp_path / "whole.csv")
    ]
    for a, b in zip(read_rows(output), read_rows(tmp_path / "whole.csv"), strict=True):
        assert float(a.pop("score")) == pytest.approx(float(b.pop("score")), abs=2e-6)
        assert a == b


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["--model", "no-such-model"], 1, "no model 'no-such-model': no such folder or name; give nano, bioclip"),
        (["--model", "bioclap"], 1, "did you mean bioclip"),
        (["--model", "MODEL", "--labels", "nowhere.csv"], 1, "nowhere.csv: no such file"),
        (["--model", "MODEL", "--format", "parquet"], 2, "needs --output"),
        (["--model", "MODEL", "--rank", "tribe"], 2, "tribe"),
        (["--model", "MODEL", "--confidence", "7"], 2, "--confidence"),
    ],
)
def test_wrong_usage_is_one_line(
    words: list[str], code: int, says: str, photographs: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = str(next(photographs.rglob("*.jpg")))
    assert main(["predict", image, *(str(trained) if word == "MODEL" else word for word in words)]) == code
    err = capsys.readouterr().err
    assert says in err
    assert err.count("\n") == 1
