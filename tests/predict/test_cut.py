"""A bank cut to clades: one row for each group of other taxa keeps the probability of what was cut."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from huggingface_hub import ModelCard

import linnaea
from hub import Hub
from linnaea.cli import main
from linnaea.data.shards import make_taxa_table
from linnaea.errors import LinnaeaError, UsageError
from linnaea.model.encode import encode_names
from linnaea.model.open import load_model, open_encoder
from linnaea.predict.calibration import Calibration
from linnaea.predict.classifier import iter_probabilities, sum_to_all_ranks
from linnaea.predict.cut import OTHERS, cut_bank
from linnaea.predict.labels import OFFSET, TRAINED, LabelBank
from linnaea.predict.published import IMAGE_TEMPLATE
from linnaea.taxonomy.ranks import RANK_LABELS, Rank
from linnaea.taxonomy.taxon import Taxon

SCALE = 20.0
TREE = {
    ("Animalia", "Chordata", "Aves", "Passeriformes", "Corvidae"): ("Pica", "Corvus", "Garrulus"),
    ("Animalia", "Chordata", "Mammalia", "Carnivora", "Felidae"): ("Felis", "Lynx"),
    ("Animalia", "Arthropoda", "Insecta", "Coleoptera", "Carabidae"): ("Carabus", "Abax"),
    ("Plantae", "Tracheophyta", "Pinopsida", "Pinales", "Pinaceae"): ("Abies", "Pinus"),
}
SPECIES = [(*above, genus, f"{genus.lower()}{number}us")
           for above, genera in TREE.items() for genus in genera for number in range(8)]  # fmt: skip


def unit(x: np.ndarray) -> np.ndarray:
    return np.asarray(x / np.linalg.norm(x, axis=-1, keepdims=True), np.float32)


def make_bank(spread: float = 0.2, width: int = 24) -> LabelBank:
    """Species around their genera, and a label that is not in the tree."""
    rng = np.random.default_rng(0)
    taxa = make_taxa_table([*(Taxon(lineage) for lineage in SPECIES), Taxon.of(common_name="a stone")])
    genera = taxa["genus"].to_list()
    centre = dict(zip(sorted(set(genera)), unit(rng.normal(size=(len(set(genera)), width))), strict=True))
    noise = unit(rng.normal(size=(len(genera), width)))
    return LabelBank(taxa, unit(np.stack([centre[genus] for genus in genera]) + spread * noise), {"model": "m"})


def photographs_of(bank: LabelBank, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    common = unit(np.ones(bank.vectors.shape[1]))
    rows = rng.integers(len(bank), size=200)
    return unit(np.asarray(bank.vectors)[rows] + 2 * common + 0.5 * unit(rng.normal(size=(200, len(common)))))


def sums_of(bank: LabelBank, images: np.ndarray) -> list[dict[tuple[str, ...], float]]:
    """Return the sums of all groups of every rank, by their lineage, for each photograph."""
    (probability,) = iter_probabilities(images, bank, SCALE)
    sums = sum_to_all_ranks(probability, bank)
    found: list[dict[tuple[str, ...], float]] = [{} for _ in images]
    for rank in Rank:
        for number, start in enumerate(bank.groups.starts[rank]):
            lineage = bank.taxon(int(start)).lineage[: rank + 1]
            for image, values in enumerate(sums[rank][:, number].tolist()):
                found[image][lineage] = values
    return found


@pytest.mark.parametrize(("rank", "n_groups"), [(Rank.GENUS, 6), (Rank.FAMILY, 3), (Rank.KINGDOM, 2)])
def test_every_taxon_is_kept_or_in_one_group(rank: Rank, n_groups: int) -> None:
    bank = make_bank()
    cut = cut_bank(bank, ["class:Aves"], photographs_of(bank, 1), SCALE, group_rank=rank)
    assert cut.taxa.filter(pl.col("class") == "Aves").height == 24
    assert len(cut) == 24 + n_groups + 1
    assert OTHERS in cut.taxa["common_name"].to_list()
    assert cut.taxa.filter(pl.col("class") != "Aves").select(pl.col(RANK_LABELS[rank + 1 :]) == "").to_numpy().all()


def test_what_remains_and_all_ranks_above_keep_their_probability() -> None:
    bank, rank = make_bank(), Rank.GENUS
    cut = cut_bank(bank, ["class:Aves"], photographs_of(bank, 1), SCALE)
    worst = 0.0
    for whole, after in zip(*(sums_of(one, photographs_of(bank, 2)) for one in (bank, cut)), strict=True):
        shared = [lineage for lineage in after if lineage in whole and (len(lineage) <= rank + 1 or "Aves" in lineage)]
        assert len(shared) > 30
        worst = max(worst, *(abs(whole[lineage] - after[lineage]) for lineage in shared))
    assert worst < 0.02
    plain = LabelBank(cut.taxa.drop(OFFSET), cut.vectors, {})
    (without,) = iter_probabilities(photographs_of(bank, 2), plain, SCALE)
    (whole_b,) = iter_probabilities(photographs_of(bank, 2), bank, SCALE)
    aves, is_bird = (one.taxa["class"].to_numpy() == "Aves" for one in (plain, bank))
    assert np.abs(without[:, aves].sum(axis=1) - whole_b[:, is_bird].sum(axis=1)).max() > 0.05, "offsets matter"


def test_a_cut_bank_is_saved_and_opened(tmp_path: Path) -> None:
    bank = make_bank()
    cut = cut_bank(bank, ["Pica", "family:Felidae"], photographs_of(bank, 1), SCALE)
    cut.save(tmp_path)
    again = LabelBank.open(tmp_path)
    assert again.offsets is not None
    before, after = (
        np.concatenate(list(iter_probabilities(photographs_of(bank, 2), one, SCALE))) for one in (cut, again)
    )
    assert np.abs(before - after).max() < 5e-3, "half precision"
    lineages = again.taxa.select(
        "kingdom", "phylum", "class", "order", "family", "genus", "species", "common_name"
    ).rows()
    assert lineages == sorted(lineages), "the order of the tree"


def test_a_calibration_of_untrained_labels_is_kept_in_the_sums() -> None:
    bank = make_bank()
    bank = LabelBank(
        bank.taxa.with_columns(pl.Series(TRAINED, np.arange(len(bank)) % 2 == 0)), bank.vectors, bank.facts
    )
    learned = Calibration(untrained=0.1, temperature=2.0)
    images = photographs_of(bank, 2)
    cut = cut_bank(bank, ["class:Aves"], photographs_of(bank, 1), SCALE, calibration=learned)
    from linnaea.predict.calibration import calibrate_probabilities

    answers = []
    for one in (bank, cut):
        (raw,) = iter_probabilities(images, one, SCALE / learned.temperature)
        of_birds = one.taxa["class"].to_numpy() == "Aves"
        answers.append(calibrate_probabilities(raw, one, learned)[:, of_birds])
    assert np.abs(answers[0] - answers[1]).max() < 0.02


def test_a_clade_that_is_not_there_is_told() -> None:
    bank = make_bank()
    with pytest.raises(UsageError, match="Nosuch"):
        cut_bank(bank, ["class:Nosuch"], photographs_of(bank, 1), SCALE)


@pytest.fixture
def served(hub: Hub) -> Hub:
    """A hub with a small random BioCLIP 2 and a bank in the published layout."""
    model = load_model(str(hub.add_model("imageomics/bioclip-2")), device="cpu")
    names: list[Any] = [[list(lineage), ""] for lineage in SPECIES]
    vectors = encode_names(model, [" ".join(lineage) for lineage in SPECIES], [IMAGE_TEMPLATE])
    vectors = unit(
        vectors + 2 * unit(np.random.default_rng(0).normal(size=vectors.shape))
    )  # as far apart as trained ones
    hub.add_bank("imageomics/TreeOfLife-200M", "txt_emb_bioclip-2", names, vectors)
    return hub


@pytest.mark.parametrize("int8", [False, True])
def test_a_published_model_made_small_answers_as_the_whole(
    int8: bool, served: Hub, photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = tmp_path / "small"
    words = ["pack", "bioclip-2", "--within", "class:Aves", "--image-only", "--output", str(small), "--licence", "mit"]
    assert main([*words, *["--int8"] * int8]) == 0
    assert "30 labels" in capsys.readouterr().out
    assert {path.name for path in small.iterdir()} == {"README.md", "image.onnx", "labels", "onnx.json"}
    images = [str(path) for path in sorted(photographs.rglob("*.jpg"))[::8]]
    worst = {}
    for rank in ("species", "genus", "order", "class", "kingdom"):
        whole, after = (
            linnaea.open(name, device="cpu").predict(images, rank=rank, top_k=99) for name in ("bioclip-2", str(small))
        )
        for one, other in zip(whole, after, strict=True):
            scores = [{guess.taxon: guess.score for guess in answer.guesses if guess.taxon.rank == Rank.parse(rank)}
                      for answer in (one, other)]  # fmt: skip
            assert len(scores[1]) >= 2
            worst[rank] = max(
                worst.get(rank, 0), *(abs(score - scores[0][taxon]) for taxon, score in scores[1].items())
            )
    assert max(worst.values()) < 0.02, worst
    card = ModelCard.load(small / "README.md")
    assert card.data.library_name == "onnx"
    assert card.data.license == "mit"
    assert "class:Aves among 72" in card.text


def test_a_small_model_has_no_text(served: Hub, tmp_path: Path) -> None:
    linnaea.pack("bioclip-2", tmp_path / "small", image_only=True)
    encoder = open_encoder(tmp_path / "small")
    assert not encoder.has_text
    assert len(linnaea.open(tmp_path / "small").bank) == len(SPECIES), "without --within the bank is whole"
    with pytest.raises(LinnaeaError, match="knows images alone"):
        linnaea.open(tmp_path / "small", labels=["Pica pica"])


def test_a_trained_model_is_cut_too(trained: Path, photographs: Path, tmp_path: Path) -> None:
    own = linnaea.open(trained, device="cpu")
    genus = own.bank.taxa["genus"][0]
    linnaea.pack(trained, tmp_path / "small", image_only=True, within=[f"genus:{genus}"])
    images = sorted(photographs.rglob("*.jpg"))[::8]
    small = linnaea.open(tmp_path / "small")
    assert not json.loads((tmp_path / "small" / "onnx.json").read_text())["facts"].get("data", "").startswith("/")
    for one, other in zip(own.predict(images, rank="genus", top_k=99), small.predict(images, rank="genus", top_k=99),
                          strict=True):  # fmt: skip
        scores = {guess.taxon: guess.score for guess in one.guesses}
        assert {guess.taxon: guess.score for guess in other.guesses} == pytest.approx(scores, abs=0.02)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--within", "Aves"], "need --image-only"),
        (["--int8"], "need --image-only"),
        ([], "--image-only packs a model of the hub"),
        (["--image-only", "--image-size", "64"], "leave one of them out"),
        (["--image-only", "--within", "class:Nosuch"], "Nosuch"),
        (["--image-only", "--within", "Animalia", "Plantae"], "includes all 72 labels"),
    ],
)
def test_what_does_not_go_together_is_one_line(
    options: list[str], reason: str, served: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pack", "bioclip-2", "--output", str(tmp_path / "small"), *options]) in (1, 2)
    assert reason in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "small").exists()
