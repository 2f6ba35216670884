"""A model of 0.2 million parameters with a vocabulary of its own."""

import pytest

from linnaea.model.create import ImageTower, ModelConfig, TextTower, make_model
from linnaea.model.load import TaxonModel
from linnaea.model.tokenizer import train_bpe
from linnaea.taxonomy.taxon import Taxon

NAMES = [
    ("Animalia", "Chordata", "Aves", "Passeriformes", "Corvidae", "Pica", "hudsonia", "Black-billed Magpie"),
    ("Animalia", "Chordata", "Aves", "Passeriformes", "Corvidae", "Pica", "pica", "Eurasian Magpie"),
    ("Animalia", "Chordata", "Aves", "Passeriformes", "Corvidae", "Corvus", "corax", ""),
    ("Animalia", "Chordata", "Aves", "Strigiformes", "Strigidae", "Bubo", "bubo", "Eagle Owl"),
    ("Animalia", "Arthropoda", "Insecta", "Lepidoptera", "Noctuidae", "Acronicta", "psi", "Grey Dagger"),
    ("Animalia", "Arthropoda", "Insecta", "Lepidoptera", "Noctuidae", "", "", ""),
    ("Plantae", "Tracheophyta", "Pinopsida", "Pinales", "Pinaceae", "Abies", "alba", "Silver Fir"),
    ("", "", "", "", "", "", "", "Weißtanne"),
]

TINY = ModelConfig(
    embed_dim=32,
    image=ImageTower(image_size=32, layers=2, width=64, patch_size=8, head_width=32),
    text=TextTower(context_length=77, width=64, layers=3, heads=2),
    n_merges=200,
)


@pytest.fixture(scope="session")
def taxa() -> list[Taxon]:
    return [Taxon((*row[:7],), common_name=row[7]) for row in NAMES]  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def bpe() -> bytes:
    return train_bpe((" ".join(row) for row in NAMES), TINY.n_merges)


@pytest.fixture
def tiny_config() -> ModelConfig:
    return TINY


@pytest.fixture
def model(bpe: bytes) -> TaxonModel:
    return make_model(TINY, bpe, seed=1)
