"""Banks of labels as a user makes, extends and updates them, and predictions among a part of them."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from linnaea.cli import main
from linnaea.data.shards import make_taxa_table
from linnaea.model import encode
from linnaea.model.open import load_model
from linnaea.predict.labels import ADAPTED, LabelBank, mark_trained
from linnaea.predict.restrict import keep_rows
from linnaea.taxonomy.columns import ANSWER_COLUMNS
from linnaea.taxonomy.taxon import Taxon

HEADER = "kingdom,phylum,class,order,family,genus,species,common_name\n"
BIRD = "Animalia,Chordata,Aves,"


@pytest.fixture
def taxa(tmp_path: Path) -> Path:
    path = tmp_path / "taxa.csv"
    path.write_text(HEADER + BIRD + "Passeriformes,Corvidae,Pica,pica,Magpie\n"
                    + BIRD + "Passeriformes,Paridae,Parus,major,Great Tit\n"
                    + "Animalia,Arthropoda,Insecta,Lepidoptera,Erebidae,Arctia,caja,Garden Tiger\n")  # fmt: skip
    return path


@pytest.fixture
def bank(taxa: Path, trained: Path, tmp_path: Path) -> Path:
    path = tmp_path / "bank"
    assert main(["labels", "build", "--output", str(path), "--taxa", str(taxa), "--model", str(trained / "model")]) == 0
    return path


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The captions that were encoded since."""
    seen: list[str] = []
    whole = encode.encode_captions

    def spy(model: object, captions: list[str], **more: object) -> object:
        seen.extend(captions)
        return whole(model, captions, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(encode, "encode_captions", spy)
    return seen


def test_a_packed_bank_says_what_the_model_was_trained_on(taxa: Path, trained: Path, tmp_path: Path) -> None:
    """And goes on to when it is appended to, cut or evaluated; names of another list were not trained on."""
    own = pl.read_parquet(trained / "model" / "taxa.parquet").filter(pl.col("species") != "").head(3)
    table = pl.concat([own.select(HEADER.strip().split(",")), pl.read_csv(taxa, infer_schema=False)])
    table.write_csv(tmp_path / "both.csv")
    packed = tmp_path / "packed"
    assert main(["pack", str(trained), "--labels", str(tmp_path / "both.csv"), "--output", str(packed)]) == 0
    bank, names = LabelBank.open(packed / "labels"), set(own["scientific_name"])
    assert {name for name, is_own in zip(bank.taxa["scientific_name"], bank.trained, strict=True) if is_own} == names
    (tmp_path / "raven.csv").write_text(HEADER + BIRD + "Passeriformes,Corvidae,Corvus,corax,Raven\n")
    words = ["--taxa", str(tmp_path / "raven.csv"), "--model", str(packed), "--output", str(tmp_path / "more")]
    assert main(["labels", "append", str(packed / "labels"), *words]) == 0
    more = LabelBank.open(tmp_path / "more")
    assert len(more) == len(bank) + 1
    assert set(more.taxa.filter(more.trained)["scientific_name"]) == names
    assert keep_rows(more, np.flatnonzero(more.trained)).trained.all()
    assert mark_trained(more.taxa, more.taxa.filter(more.trained)).equals(more.taxa)


def test_appending_encodes_what_is_new_and_keeps_the_order(
    bank: Path, trained: Path, tmp_path: Path, encoded: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = LabelBank.open(bank)
    vectors = dict(zip(before.taxa["scientific_name"], np.array(before.vectors), strict=True))
    (tmp_path / "mine.csv").write_text(HEADER + BIRD + "Passeriformes,Corvidae,Corvus,corax,Raven\n"
                                       + BIRD + "Passeriformes,Corvidae,Pica,pica,Magpie\n")  # fmt: skip
    words = ["--taxa", str(tmp_path / "mine.csv"), "--model", str(trained / "model")]
    assert main(["labels", "append", str(bank), *words]) == 0
    assert "4 taxa, 1 caption encoded" in capsys.readouterr().out
    assert len(encoded) == 1
    assert "Corvus corax" in encoded[0]
    after = LabelBank.open(bank)
    assert after.taxa["scientific_name"].to_list() == ["Arctia caja", "Corvus corax", "Pica pica", "Parus major"]
    for name, vector in zip(after.taxa["scientific_name"], after.vectors, strict=True):
        if name in vectors:
            assert (vectors[name] == vector).all(), "bit for bit"


def test_a_change_of_taxonomy_encodes_only_the_captions_that_changed(
    bank: Path, taxa: Path, trained: Path, tmp_path: Path, encoded: list[str]
) -> None:
    old, new = tmp_path / "old.csv", tmp_path / "new.csv"
    old.write_text(taxa.read_text())
    new.write_text(taxa.read_text().replace("Erebidae,Arctia,caja", "Arctiidae,Arctia,caja"))
    words = ["--from", str(old), "--to", str(new), "--model", str(trained / "model"), "--output", str(tmp_path / "b2")]
    assert main(["labels", "update", str(bank), *words]) == 0
    assert len(encoded) == 1
    assert "Arctiidae" in encoded[0]
    assert LabelBank.open(tmp_path / "b2").taxa["family"].to_list() == ["Arctiidae", "Corvidae", "Paridae"]
    assert LabelBank.open(bank).taxa["family"].to_list() == ["Erebidae", "Corvidae", "Paridae"], "the old one stays"


def test_a_head_of_photographs_takes_new_names_and_keeps_its_vectors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    head = "scientificName,acceptedNameUsage,class,family,genus\n"
    (tmp_path / "old.csv").write_text(head + "Carduelis chloris,,Aves,Fringillidae,Carduelis\n"
                                      "Pica pica,,Aves,Corvidae,Pica\n")  # fmt: skip
    (tmp_path / "new.csv").write_text(head + "Chloris chloris,,Aves,Fringillidae,Chloris\n"
                                      "Carduelis chloris,Chloris chloris,Aves,Fringillidae,Carduelis\n"
                                      "Aaa pica,,Aves,Corvidae,Aaa\n"
                                      "Pica pica,Aaa pica,Aves,Corvidae,Pica\n")  # fmt: skip
    (tmp_path / "one.csv").write_text(head + "Pica pica,,Aves,Corvidae,Pica\n"
                                      "Carduelis chloris,Pica pica,Aves,Fringillidae,Carduelis\n")  # fmt: skip
    names = (("Corvidae", "Pica", "pica"), ("Fringillidae", "Carduelis", "chloris"))
    taxa = make_taxa_table(Taxon(("", "", "Aves", "", *name)) for name in names)
    vectors = {name: np.eye(4, dtype=np.float32)[row] for row, name in enumerate(taxa["scientific_name"])}
    bank = LabelBank(taxa, np.stack([*vectors.values()]), {"text_type": "taxon_com", ADAPTED: {"photographs": 9}})
    bank.save(tmp_path / "head", dtype=np.float32)
    update = ["labels", "update", str(tmp_path / "head"), "--from", str(tmp_path / "old.csv"), "--to"]
    assert main([*update, str(tmp_path / "one.csv")]) == 1
    assert "adapt again" in capsys.readouterr().err
    assert main([*update, str(tmp_path / "new.csv")]) == 0
    assert "2 renamed" in capsys.readouterr().out
    now = LabelBank.open(tmp_path / "head")
    assert dict(zip(now.taxa["scientific_name"], map(tuple, np.asarray(now.vectors).tolist()), strict=True)) == {
        "Aaa pica": tuple(vectors["Pica pica"]), "Chloris chloris": tuple(vectors["Carduelis chloris"]),
    }  # fmt: skip
    assert ADAPTED in now.facts
    assert main(["taxonomy", "migrate", *update[2:], str(tmp_path / "new.csv")]) == 1
    assert f"`linnaea labels update {tmp_path / 'head'}" in capsys.readouterr().err


def test_a_bank_stays_whole_until_the_new_one_is_written(
    bank: Path, taxa: Path, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    before = LabelBank.open(bank)
    names, vectors = before.taxa["scientific_name"].to_list(), before.vectors.copy()
    monkeypatch.setattr("linnaea.predict.labels.np.save", full_disk)
    assert main(["labels", "update", str(bank), "--taxa", str(taxa), "--model", str(trained / "model")]) == 1
    after = LabelBank.open(bank)
    assert after.taxa["scientific_name"].to_list() == names
    assert (after.vectors == vectors).all()
    assert sorted(path.name for path in bank.iterdir()) == ["bank.json", "embeddings.npy", "taxa.parquet"]


def test_a_clade_of_the_embedded_checklist(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--within", "genus:Pica", "--output", str(tmp_path / "bank"), "--model", str(trained / "model")]
    assert main(["labels", "build", *words]) == 0
    names = LabelBank.open(tmp_path / "bank").taxa["scientific_name"].to_list()
    assert "Pica hudsonia" in names
    assert all(name.startswith("Pica ") for name in names)
    assert main(["labels", "build", *words[2:], "--within", "genus:Picca"]) == 2
    assert "did you mean" in capsys.readouterr().err


def predict(photographs: Path, bank: Path, trained: Path, output: Path, *words: str) -> int:
    images = [str(path) for path in sorted(photographs.rglob("*.jpg"))[:3]]
    fixed = ["--model", str(trained / "model"), "--labels", str(bank), "--output", str(output)]
    return main(["predict", *images, *fixed, *words])


def test_predictions_stay_within_what_is_asked(
    photographs: Path, bank: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "p.csv"
    assert predict(photographs, bank, trained, out, "--within", "class:Aves", "--exclude", "genus:Parus") == 0
    table = pl.read_csv(out)
    assert table.columns == list(ANSWER_COLUMNS)
    assert set(table["species"]) == {"Pica pica"}
    assert set(table["score"]) == {1.0}
    assert "choosing among 1 of 3 labels" in capsys.readouterr().err
    assert predict(photographs, bank, trained, out, "--within", "class:Mammalia") == 2
    (tmp_path / "list.txt").write_text("Parus major\nPhlogophora meticulosa\n")
    assert predict(photographs, bank, trained, out, "--species-list", str(tmp_path / "list.txt")) == 0
    assert "Phlogophora meticulosa" in capsys.readouterr().err
    assert set(pl.read_csv(out)["species"]) == {"Parus major"}
    strict = ("--species-list", str(tmp_path / "list.txt"), "--strict")
    assert predict(photographs, bank, trained, out, *strict) == 1


def test_a_prior_says_where_it_changed_the_answer(photographs: Path, bank: Path, trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "p.csv"
    assert predict(photographs, bank, trained, out) == 0
    first = pl.read_csv(out).group_by("file_name", maintain_order=True).first()["species"].to_list()
    (tmp_path / "w.csv").write_text("name,weight\n" + f"{first[0]},0.000001\n")
    assert predict(photographs, bank, trained, out, "--prior", str(tmp_path / "w.csv")) == 0
    table = pl.read_csv(out).group_by("file_name", maintain_order=True).first()
    for was, now, prior in zip(first, table["species"], table["prior"], strict=True):
        assert prior == ("changed" if was == first[0] else "same")
        assert (now != was) == (prior == "changed")


def test_regions_need_a_place(photographs: Path, bank: Path, trained: Path, tmp_path: Path) -> None:
    rows = "\n".join(f"{n}\tParus major\t52.5\t13.4\t{n % 12 + 1}" for n in range(5000))
    (tmp_path / "occ.txt").write_text(f"id\tspecies\tdecimalLatitude\tdecimalLongitude\tmonth\n{rows}\n")
    regions = tmp_path / "r.parquet"
    assert main(["labels", "regions", str(tmp_path / "occ.txt"), "--output", str(regions)]) == 0
    out = tmp_path / "p.csv"
    berlin = ("--prior", str(regions), "--lat", "52.5", "--lon", "13.4", "--date", "2024-05-01")
    assert predict(photographs, bank, trained, out, *berlin) == 0
    here = pl.read_csv(out).filter(pl.col("species") == "Parus major")["score"]
    assert predict(photographs, bank, trained, out, "--prior", str(regions)) == 0
    nowhere = pl.read_csv(out).filter(pl.col("species") == "Parus major")["score"]
    assert (here > nowhere).all(), "a boost where it lives, nothing where no place is known"
    assert predict(photographs, bank, trained, out, "--lat", "52.5", "--lon", "13.4") == 2
    assert predict(photographs, bank, trained, out, *berlin[:-1], "May") == 2
    assert predict(photographs, bank, trained, out, "--prior", str(regions), "--lat", "99", "--lon", "0") == 2


def test_every_run_leaves_a_line_of_where_its_answers_come_from(
    photographs: Path, bank: Path, trained: Path, tmp_path: Path
) -> None:
    log, bad = tmp_path / "logs" / "runs.jsonl", tmp_path / "bad.jpg"
    bad.write_text("no picture")
    assert predict(photographs, bank, trained, tmp_path / "a.csv", "--log", str(log)) == 0
    words = ["--model", str(trained / "model"), "--labels", str(bank), "--top-k", "2", "--log", str(log)]
    assert main(["predict", str(min(photographs.rglob("*.jpg"))), str(bad), *words]) == 3
    first, second = map(json.loads, log.read_text().splitlines())
    assert (first["photographs"], first["failed"], first["output"]) == (3, 0, str(tmp_path / "a.csv"))
    assert (second["photographs"], second["failed"], second["output"]) == (2, 1, None)
    assert first["question"]["model"] == second["question"]["model"] == load_model(str(trained / "model")).fingerprint
    assert first["question"] != second["question"], "another number of answers was asked for"
    assert set(first) >= {"started", "seconds", "linnaea", "packages", "command", "machine"}


def test_detections_go_in_and_come_out_in_megadetectors_form(
    photographs: Path, bank: Path, trained: Path, tmp_path: Path
) -> None:
    image = min(photographs.rglob("*.jpg"))
    detections = [{"category": "1", "conf": 0.9, "bbox": [0.1, 0.1, 0.5, 0.5]}]
    content = {"detection_categories": {"1": "animal"}, "images": [
        {"file": image.name, "detections": detections}, {"file": "missing.jpg", "failure": "no access"},
        {"file": "blank.jpg", "detections": []}]}  # fmt: skip
    (tmp_path / "md.json").write_text(json.dumps(content))
    out = tmp_path / "out.json"
    words = ["--labels", str(bank), "--model", str(trained / "model"), "--detections", str(tmp_path / "md.json")]
    assert main(["predict", str(image.parent), *words, "--output", str(out), "--top-k", "2"]) == 3
    made = json.loads(out.read_text())
    assert made["info"]["format_version"] == "1.6"
    good, failed, blank, *omitted = made["images"]
    assert [one["file"] for one in omitted] == sorted(path.name for path in image.parent.iterdir() if path != image)
    assert {one["failure"] for one in omitted} == {"not in the detector's file"}
    assert blank["file"].endswith("blank.jpg")
    assert blank["detections"] == []
    assert failed["failure"].endswith("no access")
    assert failed["detections"] is None
    (detection,) = good["detections"]
    assert detection["bbox"] == [0.1, 0.1, 0.5, 0.5]
    assert detection["conf"] == 0.9, "the detector's"
    scores = [score for _, score in detection["classifications"]]
    assert scores == sorted(scores, reverse=True)
    assert len(scores) == 2
    numbers = [number for number, _ in detection["classifications"]]
    assert {made["classification_categories"][number] for number in numbers} <= {
        "Pica pica",
        "Parus major",
        "Arctia caja",
    }
    assert all(made["classification_category_descriptions"][number].count(";") == 6 for number in numbers)
    camtrap = tmp_path / "observations.csv"
    assert main(["predict", str(image.parent), *words, "--output", str(camtrap), "--format", "camtrapdp"]) == 3
    table = pl.read_csv(camtrap)
    assert table["scientificName"][0] in {"Pica pica", "Parus major", "Arctia caja"}
    assert table["mediaID"][0] == str(image)
    assert table["bboxWidth"][0] == 0.5
    assert table["observationType"].to_list() == ["animal", "unclassified", "blank", *7 * ["unclassified"]]


def test_a_page_shows_every_photograph(photographs: Path, bank: Path, trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "sheet.html"
    assert predict(photographs, bank, trained, out) == 0
    page = out.read_text()
    assert page.count("data:image/jpeg") == 3
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_a_bank_in_8_bits_is_half_the_size_and_stays_so(
    photographs: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "few.txt").write_text("Pica pica\nBubo bubo\n")
    (tmp_path / "more.txt").write_text("Abies alba\n")
    model, bank = ["--model", str(trained / "model")], tmp_path / "bank"
    build = ["labels", "build", "--taxa", str(tmp_path / "few.txt"), "--output", str(bank), *model]
    assert main([*build, "--vectors", "int8"]) == 0
    assert main(["labels", "append", str(bank), "--taxa", str(tmp_path / "more.txt"), *model]) == 0
    capsys.readouterr()
    assert main(["labels", "show", str(bank)]) == 0
    assert ", int8, text type taxon_com" in capsys.readouterr().out
    assert len(LabelBank.open(bank)) == 3
    assert main(["predict", str(photographs), "--labels", str(bank), *model, "--precision", "bf16"]) == 0


def test_an_exported_bank_is_the_same_bank(bank: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The form that pybioclip reads, and back."""
    from linnaea.predict.published import read_published_bank

    assert main(["labels", "export", str(bank), "--output", str(tmp_path / "published")]) == 0
    again, before = read_published_bank(tmp_path / "published" / "txt_emb_species.npy"), LabelBank.open(bank)
    assert "txt_emb_species.npy" in capsys.readouterr().out
    assert again.taxa_list == before.taxa_list
    assert np.array_equal(again.vectors, before.vectors)
