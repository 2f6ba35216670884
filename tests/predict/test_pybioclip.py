"""What users of pybioclip know: signatures, dictionaries, filters; and the published label banks."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

from linnaea.cli import main
from linnaea.errors import LinnaeaError
from linnaea.predict import pybioclip
from linnaea.predict.label_lists import read_bins
from linnaea.predict.labels import LabelBank
from linnaea.predict.published import ARRAY_FILE, NAMES_FILE, read_published_bank, write_published_bank
from linnaea.predict.pybioclip import (
    CustomLabelsBinningClassifier,
    CustomLabelsClassifier,
    Rank,
    TreeOfLifeClassifier,
    get_rank_labels,
)


@pytest.fixture(scope="module")
def classifier(trained: Path) -> TreeOfLifeClassifier:
    return TreeOfLifeClassifier(model_str=str(trained / "model"))


@pytest.fixture(scope="module")
def pictures(photographs: Path) -> list[str]:
    return [str(path) for path in sorted(photographs.rglob("*.jpg"))[:5]]


def naive(classifier: TreeOfLifeClassifier, path: str, rank: Rank) -> dict[tuple[str, ...], float]:
    """Softmax over all taxa, then a loop over names, from the documentation's description."""
    with torch.no_grad():
        pixels = classifier.preprocess(Image.open(path).convert("RGB"))[None]
        vector = classifier.model.encode_image(pixels)[0]  # type: ignore[operator]
        vector = vector / vector.norm()
        logits = classifier.model.logit_scale.exp() * vector @ classifier.get_txt_embeddings()  # type: ignore[operator]
        probability = logits.softmax(0).tolist()
    sums: dict[tuple[str, ...], float] = {}
    for (lineage, _), p in zip(classifier.get_current_txt_names(), probability, strict=True):
        sums[tuple(lineage[: rank + 1])] = sums.get(tuple(lineage[: rank + 1]), 0) + p
    return sums


@pytest.mark.parametrize("rank", list(Rank))
def test_scores_and_order_are_those_of_the_definition(
    classifier: TreeOfLifeClassifier, pictures: list[str], rank: Rank
) -> None:
    rows = classifier.predict(pictures[:2], rank, k=3)
    for path in pictures[:2]:
        expected = sorted(naive(classifier, path, rank).items(), key=lambda item: -item[1])[:3]
        got = [row for row in rows if row["file_name"] == path]
        assert [row["score"] for row in got] == pytest.approx([score for _, score in expected], rel=1e-3)
        for row, (lineage, _) in zip(got, expected, strict=True):
            assert [row[label] for label in get_rank_labels()[: min(rank, 5) + 1]] == list(lineage[:6])


def test_the_dictionaries_have_the_known_keys(classifier: TreeOfLifeClassifier, pictures: list[str]) -> None:
    (row, *_) = classifier.predict(pictures[0])
    assert list(row) == ["file_name", "kingdom", "phylum", "class", "order", "family", "genus",
                         "species_epithet", "species", "common_name", "score"]  # fmt: skip
    (row, *_) = classifier.predict([pictures[0]], rank=Rank.FAMILY, k=1)
    assert list(row) == ["file_name", "kingdom", "phylum", "class", "order", "family", "score"]
    assert Rank.FAMILY.get_label() == "family"


def test_pictures_in_memory_and_callbacks(classifier: TreeOfLifeClassifier, pictures: list[str]) -> None:
    seen: list[tuple[int, int]] = []
    images = [Image.open(path) for path in pictures]
    rows = classifier.predict(images, k=1, batch_size=2, callback=lambda done, total: seen.append((done, total)))
    assert [row["file_name"] for row in rows] == ["0", "1", "2", "3", "4"]
    assert seen == [(2, 5), (4, 5), (5, 5)]
    one = classifier.predict(images[0], k=1)
    assert one[0]["score"] == pytest.approx(rows[0]["score"], rel=1e-5)


def test_filters_restrict_and_can_be_cleared(
    classifier: TreeOfLifeClassifier, pictures: list[str], tmp_path: Path
) -> None:
    names = classifier.get_label_data()["species"]
    (tmp_path / "taxa.csv").write_text(f"species,note\n{names[0]},x\n")
    classifier.apply_filter(classifier.create_taxa_filter_from_csv(tmp_path / "taxa.csv"))
    try:
        rows = classifier.predict(pictures[0])
        assert [(row["species"], row["score"]) for row in rows] == [(names[0], 1.0)]
        assert len(classifier.predict(pictures[0], rank=Rank.FAMILY)) == 1, "a taxon that is alone in its rank"
        assert classifier.get_txt_embeddings().shape == (classifier.taxon_model.width, 1)
        assert classifier(torch.zeros(1, 3, 32, 32)).shape == (1, 1), "forward knows the filter"
    finally:
        classifier.apply_filter(None)
    assert len(classifier.predict(pictures[0], k=100)) == len(names)
    with pytest.raises(ValueError, match=r"Unknown genus received: Nosuch\. Only known genus may be used\."):
        classifier.create_taxa_filter(Rank.GENUS, ["Nosuch"])
    for bad in ([True], [False] * len(names)):
        with pytest.raises(ValueError, match="filter"):
            classifier.apply_filter(bad)


def test_forward_is_differentiable(classifier: TreeOfLifeClassifier) -> None:
    pixels = torch.rand(1, 3, 32, 32, requires_grad=True)
    classifier(pixels)[0, 0].backward()
    assert pixels.grad is not None
    assert pixels.grad.abs().sum() > 0


def test_words_as_classes(trained: Path, pictures: list[str]) -> None:
    model = str(trained / "model")
    classifier = CustomLabelsClassifier([" beetle ", "moth", "bear, brown"], model_str=model)
    rows = classifier.predict(pictures[:2])
    assert [row["file_name"] for row in rows] == [pictures[0]] * 3 + [pictures[1]] * 3
    assert {row["classification"] for row in rows} == {"beetle", "moth", "bear, brown"}
    assert sum(row["score"] for row in rows[:3]) == pytest.approx(1, rel=1e-5)
    assert [row["score"] for row in rows[:3]] == sorted((row["score"] for row in rows[:3]), reverse=True)
    assert classifier.predict(pictures[:2], k=1) == [rows[0], rows[3]]
    bins = CustomLabelsBinningClassifier({"beetle": "insect", "moth": "insect", "bear, brown": 3}, model_str=model)
    by_bin = {row["classification"]: row["score"] for row in bins.predict(pictures[0])}
    scores = {row["classification"]: row["score"] for row in rows[:3]}
    assert by_bin == pytest.approx({"insect": scores["beetle"] + scores["moth"], 3: scores["bear, brown"]}, rel=1e-5)
    own = CustomLabelsClassifier(["beetle", "moth"], templates=["a drawing of a {}."], model_str=model)
    assert own.txt_embeddings.shape[1] == 2


def test_bins_on_the_command_line_are_those_of_the_class(trained: Path, pictures: list[str], tmp_path: Path) -> None:
    bins = {"beetle": "insect", "bear, brown": "3", "moth": "insect"}
    table = tmp_path / "bins.csv"
    table.write_text("what,where\n" + "".join(f'"{label}",{of}\n' for label, of in bins.items()))
    model, output = str(trained / "model"), tmp_path / "out.csv"
    words = ["predict", *pictures[:2], "--model", model, "--device", "cpu", "--bins", str(table)]
    assert main([*words, "--output", str(output)]) == 0
    wanted = CustomLabelsBinningClassifier(bins, model_str=model).predict(pictures[:2])
    rows = pl.read_csv(output).select("file_name", "common_name", "score").rows()
    assert [row[:2] for row in rows] == [(row["file_name"], row["classification"]) for row in wanted]
    assert [row[2] for row in rows] == pytest.approx([row["score"] for row in wanted], rel=1e-4)
    assert main([*words, "--labels", str(table)]) == 2


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("label\na\n", "two columns"),
        ("label,bin\na,x\na,y\n", "'a' is in two bins"),
        ("label,bin\na,\n", "lacks its label or its bin"),
        ("label,bin\n", "has no labels"),
    ],
)
def test_bins_that_are_none_are_one_line(content: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "bins.csv").write_text(content)
    with pytest.raises(LinnaeaError, match=reason):
        read_bins(tmp_path / "bins.csv")


@pytest.mark.parametrize("value", [None, "", float("nan")])
def test_bins_must_have_names(value: Any, trained: Path) -> None:
    with pytest.raises(ValueError, match="Empty, null, or nan are not allowed"):
        CustomLabelsBinningClassifier({"a": "x", "b": value}, model_str=str(trained / "model"))


def test_photographs_are_turned_upright(tmp_path: Path) -> None:
    image = Image.new("RGB", (40, 20))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.jpg", exif=exif)
    assert pybioclip.BaseClassifier.ensure_rgb_image(str(tmp_path / "turned.jpg")).size == (20, 40)


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """Three taxa, not in depth-first order, one with a null; and one column of zeros."""
    names = [[["Plantae", "", "", "", "", "Abies", "alba"], "Silver Fir"],
             [["Animalia", "Chordata", "Aves", None, "", "Pica", "pica"], None],
             [["Animalia", "Chordata", "", "", "", "", ""], ""],
             [["Animalia", "Zero", "", "", "", "", ""], ""]]  # fmt: skip
    vectors = np.eye(4, dtype=np.float32)[:, :3]
    np.save(tmp_path / "txt_emb_species.npy", np.concatenate([vectors, np.zeros((4, 1), np.float32)], axis=1))
    (tmp_path / "txt_emb_species.json").write_text(json.dumps(names))
    return tmp_path / "txt_emb_species.npy"


def test_published_banks_are_read_into_the_order_of_the_tree(published: Path) -> None:
    bank = read_published_bank(published)
    assert bank.taxa["scientific_name"].to_list() == ["Chordata", "Pica pica", "Abies alba"]
    assert bank.vectors.argmax(axis=1).tolist() == [2, 1, 0]
    assert bank.taxa["common_name"].to_list() == ["", "", "Silver Fir"]


def test_a_bank_that_is_published_and_read_is_the_same(published: Path, tmp_path: Path) -> None:
    bank = read_published_bank(published)
    path = write_published_bank(bank, tmp_path / "out")
    array = np.load(path)
    assert array.shape == (4, 3)
    assert array.dtype == np.float32
    again = read_published_bank(path)
    assert again.taxa.equals(bank.taxa)
    assert (np.asarray(again.vectors) == np.asarray(bank.vectors)).all()


def test_published_banks_that_do_not_fit_are_one_line(published: Path) -> None:
    published.with_suffix(".json").write_text("[]")
    with pytest.raises(LinnaeaError, match="but 0 names"):
        read_published_bank(published)
    published.with_suffix(".json").unlink()
    with pytest.raises(LinnaeaError, match="not a published label bank"):
        read_published_bank(published)


def test_the_hubs_bank_is_fetched_where_there_are_no_labels(
    published: Path, trained: Path, pictures: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    model = str(trained / "model")
    asked: list[tuple[str, str]] = []

    def fetch(repository: str, name: str, repo_type: str) -> str:
        asked.append((repository, name))
        return str(published.parent / Path(name).name)

    width = TreeOfLifeClassifier(model_str=model).taxon_model.width
    vectors = np.random.default_rng(0).normal(size=(width, 4)).astype(np.float32)
    np.save(published, vectors / np.linalg.norm(vectors, axis=0))
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
    monkeypatch.setattr(pybioclip, "find_own_labels", lambda name: None)
    monkeypatch.setitem(pybioclip.TOL_MODELS, model, "imageomics/TreeOfLife-10M")
    classifier = TreeOfLifeClassifier(model_str=model)
    assert asked == [("imageomics/TreeOfLife-10M", f"embeddings/{name}") for name in (NAMES_FILE, ARRAY_FILE)]
    assert len(classifier.predict(pictures[0])) == 4
    monkeypatch.delitem(pybioclip.TOL_MODELS, model)
    with pytest.raises(ValueError, match="only supported for the following models"):
        TreeOfLifeClassifier(model_str=model)


def test_a_bank_may_be_handed_in(trained: Path, classifier: TreeOfLifeClassifier, tmp_path: Path) -> None:
    bank: LabelBank = classifier._bank
    bank.save(tmp_path / "bank")
    for labels in (bank, tmp_path / "bank", str(trained / "model")):
        again = TreeOfLifeClassifier(labels=labels, model_str=str(trained / "model"))
        assert again.get_current_txt_names() == classifier.get_current_txt_names()
