"""Published models and their banks: fetched once, pinned, checked against each other, converted, answered offline."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from huggingface_hub import constants

import linnaea
from hub import SHA, Hub
from linnaea.cli import main
from linnaea.errors import LinnaeaError
from linnaea.model.encode import encode_names
from linnaea.model.hub import PUBLISHED, find_published
from linnaea.model.open import load_model, open_encoder
from linnaea.predict.labels import LabelBank, openai_templates
from linnaea.predict.published import IMAGE_TEMPLATE, read_published_bank

EPITHETS = ("aurea", "borealis", "candida", "decora", "elegans", "fusca", "gracilis", "hirta", "iners", "jocosa")
NAMES = [[["Animalia", "Arthropoda", "Insecta", "Coleoptera", "Testidae", genus, epithet], f"{epithet} beetle"]
         for genus in ("Betaria", "Alpharia") for epithet in EPITHETS]  # fmt: skip


def captions(names: list[Any]) -> list[str]:
    return [f"{' '.join(lineage)} with common name {common}" for lineage, common in names]


@pytest.fixture
def served(hub: Hub) -> Hub:
    """A hub with BioCLIP 2 and its bank, made with its weights in the layout of today."""
    folder = hub.add_model("imageomics/bioclip-2")
    model = load_model(str(folder), device="cpu")
    vectors = encode_names(model, captions(NAMES), [IMAGE_TEMPLATE])
    hub.add_bank("imageomics/TreeOfLife-200M", "txt_emb_bioclip-2", NAMES, vectors)
    return hub


def photo(photographs: Path) -> str:
    return str(next(photographs.rglob("*.jpg")))


def test_a_published_model_answers_over_its_published_bank(
    served: Hub, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["predict", photo(photographs), "--model", "bioclip-2", "--device", "cpu", "--output"]
    assert main([*words, str(tmp_path / "first.csv")]) == 0
    err = capsys.readouterr().err
    assert "converting the label bank" in err
    assert err.count("not calibrated") == 1
    assert "labels calibrate" in err
    assert "not made with the weights" not in err
    assert sorted(served.downloads()) == ["open_clip_config.json", "open_clip_pytorch_model.bin",
                                          "txt_emb_bioclip-2.json", "txt_emb_bioclip-2.npy"]  # fmt: skip
    rows = pl.read_csv(tmp_path / "first.csv")
    assert set(rows["genus"]) <= {"Alpharia", "Betaria"}
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    served.asked.clear()
    assert main([*words, str(tmp_path / "again.csv")]) == 0
    assert not served.asked
    assert "converting" not in capsys.readouterr().err
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "first.csv").read_bytes()


def test_the_scores_are_those_of_the_published_files(served: Hub, photographs: Path) -> None:
    model = linnaea.open("hf-hub:imageomics/bioclip-2", device="cpu")
    (answer,) = model.predict(photo(photographs), top_k=20)
    array = np.load(served.root / "datasets/imageomics/TreeOfLife-200M/embeddings/txt_emb_bioclip-2.npy")
    assert answer.vector is not None
    logits = model.encoder.logit_scale * answer.vector @ array
    wanted = np.exp(logits - logits.max())
    wanted /= wanted.sum()
    found = {guess.taxon.scientific_name: guess.score for guess in answer.guesses}
    assert found == pytest.approx({f"{lineage[5]} {lineage[6]}": score for (lineage, _), score
                                   in zip(NAMES, wanted, strict=True)}, abs=4e-4)  # fmt: skip
    assert model.bank.facts["published"] == f"imageomics/TreeOfLife-200M@{SHA}/embeddings/txt_emb_bioclip-2.npy"
    assert model.bank.facts["templates"] == [IMAGE_TEMPLATE]
    assert isinstance(model.bank.vectors.base, np.memmap) or isinstance(model.bank.vectors, np.memmap)


def test_the_first_layout_is_read_where_the_new_one_is_not(hub: Hub) -> None:
    folder = hub.add_model("imageomics/bioclip")
    vectors = encode_names(load_model(str(folder), device="cpu"), captions(NAMES), openai_templates())
    hub.add_bank("imageomics/TreeOfLife-10M", "txt_emb_species", NAMES, vectors)
    bank = linnaea.open("bioclip", device="cpu").bank
    assert len(bank) == len(NAMES)
    assert len(bank.facts["templates"]) == 80


@pytest.mark.parametrize("name", ["bioclip-2.5", "biocap"])
def test_a_model_takes_no_bank_of_another_model(name: str, hub: Hub) -> None:
    published = PUBLISHED[name]
    hub.add_model(published.repo)
    hub.add_bank(published.bank_repo, "txt_emb_species", NAMES, np.ones((20, 32)))
    with pytest.raises(LinnaeaError, match=rf"has no file embeddings/txt_emb_{published.repo.split('/')[1]}.npy"):
        _ = linnaea.open(name, device="cpu").bank
    vectors = np.random.default_rng(0).normal(size=(20, 32))
    hub.add_bank(published.bank_repo, f"txt_emb_{published.repo.split('/')[1]}", NAMES, vectors)
    assert len(linnaea.open(name, device="cpu").bank) == 20


def test_weights_that_were_replaced_are_noticed(served: Hub, caplog: pytest.LogCaptureFixture) -> None:
    before = linnaea.open("bioclip-2", device="cpu").bank
    assert "not made with the weights" not in caplog.text
    served.add_model("imageomics/bioclip-2", seed=1)
    model = linnaea.open(str(served.root / "models/imageomics/bioclip-2"), device="cpu", labels="bioclip-2")
    assert "was not made with the weights" in caplog.text
    assert model.bank.facts["model"] != before.facts["model"]


def test_a_bank_of_another_width_is_refused(served: Hub) -> None:
    served.add_bank("imageomics/TreeOfLife-200M", "txt_emb_bioclip-2", NAMES, np.ones((20, 16)))
    with pytest.raises(LinnaeaError, match="has vectors of 16 numbers, bioclip-2 has 32"):
        _ = linnaea.open("bioclip-2", device="cpu").bank


def test_a_download_that_breaks_off_resumes(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 100_000)
    served.cut["open_clip_pytorch_model.bin"] = 1_000_000
    encoder = open_encoder("bioclip-2", device="cpu")
    assert encoder.facts["revision"] == SHA
    sent = [line for line in served.asked if "open_clip_pytorch_model.bin" in line and line.startswith("GET")]
    assert [line.rsplit(" ", 1)[1] for line in sent] == ["200", "206"]


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("hf-hub:imageomics/bioclip-2@nosuch", "the hub has no revision nosuch of it"),
        ("hf-hub:imageomics/absent", "the hub has no such repository"),
        ("bioclip", "the hub has no such repository"),
        ("hf-hub:imageomics", "written hf-hub:ORG/NAME"),
    ],
)
def test_what_the_hub_lacks_is_one_line(
    model: str, reason: str, served: Hub, photographs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", photo(photographs), "--model", model]) == 1
    err = capsys.readouterr().err
    assert reason in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [
        ["predict", "PHOTO"],
        ["embed", "PHOTO", "--output", "OUT.npy"],
        ["index", "PHOTO", "--output", "OUT"],
        ["adapt", "FOLDER", "--output", "OUT"],
        ["evaluate", "MODEL", "--data", "DATA", "--output", "OUT"],
        ["labels", "calibrate", "--data", "DATA"],
        ["export", "MODEL", "--output", "OUT"],
        ["pack", "MODEL", "--image-only", "--output", "OUT"],
    ],
    ids=lambda words: " ".join(words[:2]),
)
@pytest.mark.parametrize("state", ["wrong revision", "missing file", "no network", "told to be offline"])
def test_every_command_says_in_one_line_what_the_hub_lacks(
    words: list[str], state: str, hub: Hub, photographs: Path, dataset_dir: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (hub.root / "models" / "imageomics/bioclip-2").mkdir(parents=True)
    model = f"hf-hub:imageomics/bioclip-2@{'nosuch' if state == 'wrong revision' else 'main'}"
    if state == "no network":
        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", state == "told to be offline")
    places = {"PHOTO": photo(photographs), "FOLDER": str(photographs), "DATA": str(dataset_dir), "MODEL": model,
              "OUT": str(tmp_path / "out"), "OUT.npy": str(tmp_path / "out.npy")}  # fmt: skip
    asked = [places.get(word, word) for word in words]
    assert main([*asked, *["--model", model] * ("MODEL" not in words)]) == 1
    err = capsys.readouterr().err.rstrip("\n").splitlines()[-1]
    told = {"wrong revision": "the hub has no revision nosuch", "missing file": "has no file open_clip_config.json"}
    assert told.get(state, "is not in the hub's cache and cannot be downloaded; go online once") in err
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize("suffix", [".npy", ".json"])
def test_a_missing_part_of_the_bank_is_one_line(
    suffix: str, served: Hub, photographs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    array = served.root / "datasets/imageomics/TreeOfLife-200M/embeddings/txt_emb_bioclip-2.npy"
    array.with_suffix(suffix).unlink()
    assert main(["predict", photo(photographs), "--model", "bioclip-2", "--device", "cpu"]) == 1
    err = capsys.readouterr().err.splitlines()[-1]
    assert err.startswith("linnaea: imageomics/TreeOfLife-200M: has no file embeddings/txt_emb_")
    assert suffix in err


@pytest.mark.parametrize("name", ["open_clip_pytorch_model.bin", "open_clip_config.json"])
def test_a_missing_file_is_one_line(name: str, served: Hub) -> None:
    (served.root / "models/imageomics/bioclip-2" / name).unlink()
    with pytest.raises(LinnaeaError, match=rf"^imageomics/bioclip-2: has no file {name}"):
        load_model("hf-hub:imageomics/bioclip-2@main", device="cpu")


def test_without_a_network_it_says_so_at_once(
    hub: Hub, photographs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert main(["predict", photo(photographs), "--model", "bioclip-2"]) == 1
    err = capsys.readouterr().err
    assert "is not in the hub's cache and cannot be downloaded; go online once, or give a folder" in err
    assert err.count("\n") == 1


def test_a_pinned_revision_is_preferred() -> None:
    for published in PUBLISHED.values():
        assert len(published.revision) == len(published.bank_revision) == 40
        assert find_published(f"hf-hub:{published.repo}@main") is published
    assert find_published("hf-hub:imageomics/other") is None
    assert find_published("imageomics/bioclip") is None


def test_a_calibration_is_kept_beside_the_converted_bank(
    served: Hub, dataset_dir: Path, photographs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    taxa = pl.read_parquet(dataset_dir / "taxa.parquet")
    names = [[[row[rank] for rank in ("kingdom", "phylum", "class", "order", "family", "genus", "species")],
              row["common_name"]] for row in taxa.iter_rows(named=True)]  # fmt: skip
    vectors = np.random.default_rng(0).normal(size=(len(names), 32))
    served.add_bank("imageomics/TreeOfLife-200M", "txt_emb_bioclip-2", names, vectors)
    words = ["labels", "calibrate", "--model", "bioclip-2", "--device", "cpu"]
    assert main([*words, "--data", str(dataset_dir), "--split", "train"]) == 0
    capsys.readouterr()
    assert main(["predict", photo(photographs), "--model", "bioclip-2", "--device", "cpu", "--rank", "auto"]) == 0
    assert "not calibrated" not in capsys.readouterr().err


def test_an_array_with_its_names_is_a_bank(
    served: Hub, photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    array = served.root / "datasets/imageomics/TreeOfLife-200M/embeddings/txt_emb_bioclip-2.npy"
    for place in (array, array.with_suffix(".json")):
        words = ["predict", photo(photographs), "--model", "bioclip-2", "--labels", str(place), "--top-k", "20"]
        assert main([*words, "--output", str(tmp_path / f"{place.suffix}.csv")]) == 0
    first, second = (pl.read_csv(tmp_path / f"{suffix}.csv") for suffix in (".npy", ".json"))
    assert first.equals(second)
    assert first.height == 20
    array.with_suffix(".json").unlink()
    capsys.readouterr()
    assert main(["predict", photo(photographs), "--model", "bioclip-2", "--labels", str(array)]) == 1
    assert "FILE.npy and FILE.json" in capsys.readouterr().err


def test_names_that_no_taxon_may_have_are_mended(tmp_path: Path) -> None:
    names = [
        [["Animalia", "", "", "", "", "Pica", "Pica pica"], "magpie"],
        [["Animalia", "", "", "", "", "", "lonely"], None],
        [["Animalia", None, "", "", "", "Abies  ", "al\nba"], " Silver  Fir "],
        [["", "", "", "", "", "", ""], ""],
    ]
    np.save(tmp_path / "bank.npy", np.eye(4, dtype=np.float32))
    (tmp_path / "bank.json").write_text(json.dumps(names))
    bank = read_published_bank(tmp_path / "bank.npy")
    found = {taxon.scientific_name: taxon.common_name for taxon in bank.taxa_list}
    assert found == {"Pica pica": "magpie", "Animalia": "lonely", "Abies al ba": "Silver Fir"}


@pytest.mark.parametrize("names", ["[[", "{}", "[1]", "", '[["a"], "b"]', "[[[1,2,3,4,5,6,7], 8]]"])
def test_names_of_another_form_are_one_line(names: str, tmp_path: Path) -> None:
    np.save(tmp_path / "bank.npy", np.eye(4, dtype=np.float32))
    (tmp_path / "bank.json").write_text(names)
    with pytest.raises(LinnaeaError, match=r"published label bank|but 1 names") as raised:
        read_published_bank(tmp_path / "bank.npy")
    assert "\n" not in str(raised.value)


def test_words_on_the_command_line(trained: Path, photographs: Path, tmp_path: Path) -> None:
    words = ["predict", photo(photographs), "--model", str(trained), "--device", "cpu"]
    assert main([*words, "--labels", "a red beetle, moth ,wasp", "--output", str(tmp_path / "words.csv")]) == 0
    rows = pl.read_csv(tmp_path / "words.csv")
    assert set(rows["common_name"]) == {"a red beetle", "moth", "wasp"}
    assert rows["score"].sum() == pytest.approx(1, abs=1e-5)
    model = linnaea.open(trained, labels=["a red beetle", "moth", "wasp"], device="cpu")
    assert model.bank.facts["templates"] == openai_templates()
    (answer,) = model.predict(photo(photographs))
    scores = {guess.taxon.common_name: guess.score for guess in answer.guesses}
    assert scores == pytest.approx(dict(zip(rows["common_name"], rows["score"], strict=True)), abs=1e-5)
    assert linnaea.open(trained, labels="Ursus arctos,Pica pica", device="cpu").bank.facts["text_type"] == "taxon_com"


def test_a_file_with_a_comma_in_its_name_is_a_file(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "a,b").write_text("Ursus arctos\nPica pica\n")
    assert len(linnaea.open(trained, labels=tmp_path / "a,b", device="cpu").bank) == 2


def test_evaluation_takes_a_published_bank(served: Hub, dataset_dir: Path, tmp_path: Path) -> None:
    taxa = pl.read_parquet(dataset_dir / "taxa.parquet")
    names = [[[row[rank] for rank in ("kingdom", "phylum", "class", "order", "family", "genus", "species")],
              row["common_name"]] for row in taxa.iter_rows(named=True)]  # fmt: skip
    array = served.add_bank("imageomics/TreeOfLife-200M", "txt_emb_bioclip-2", [*names, *NAMES],
                            np.random.default_rng(0).normal(size=(len(names) + 20, 32)))  # fmt: skip
    scores = [linnaea.evaluate("bioclip-2", data=dataset_dir, split="train", labels=labels, shots=(0,), device="cpu")
              for labels in ("bioclip-2", array)]  # fmt: skip
    assert scores[0].metrics["n_candidates"] == len(names) + 20
    assert scores[0].metrics["zero_shot/taxon_com/top1"] == scores[1].metrics["zero_shot/taxon_com/top1"]


def test_an_open_model_takes_no_other_weights(trained: Path, dataset_dir: Path) -> None:
    model = load_model(trained, device="cpu")
    assert load_model(model) is model
    assert open_encoder(model) is model
    for verb in (linnaea.evaluate, linnaea.calibrate):
        with pytest.raises(linnaea.UsageError, match="is already open"):
            verb(model, data=dataset_dir, pretrained="file.bin")


def test_the_cache_is_named_after_files_and_model(tmp_path: Path) -> None:
    np.save(tmp_path / "bank.npy", np.eye(2, dtype=np.float32))
    (tmp_path / "bank.json").write_text(json.dumps(NAMES[:2]))
    first, other = (read_published_bank(tmp_path / "bank.npy", model=model) for model in ("a", "b"))
    assert first.folder != other.folder
    assert read_published_bank(tmp_path / "bank.npy", model="a").folder == first.folder
    np.save(tmp_path / "bank.npy", np.eye(2, dtype=np.float32)[::-1])
    os.utime(tmp_path / "bank.npy", ns=(1, 1))
    again = read_published_bank(tmp_path / "bank.npy", model="a")
    assert again.folder != first.folder
    assert isinstance(again, LabelBank)
