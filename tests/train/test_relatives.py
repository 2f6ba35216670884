"""Names of species without photographs come to lie where their ancestors' class heads lie."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from stopping import train_whole_and_in_parts

from linnaea.data.shards import DataSet, make_taxa_table, taxa_from_table
from linnaea.errors import LinnaeaError
from linnaea.model.encode import encode_captions
from linnaea.model.load import TaxonModel
from linnaea.model.text import make_token_table
from linnaea.predict.labels import LabelBank
from linnaea.taxonomy.ranks import Rank
from linnaea.taxonomy.taxon import PHOTO_TEMPLATE, Taxon, TextType
from linnaea.train.batches import Loader
from linnaea.train.claim import TrainingRun, open_part
from linnaea.train.objectives import Guides, compute_loss
from linnaea.train.recipe import Descent, Feed, Recipe, Tower
from linnaea.train.relatives import Relatives, find_relatives
from linnaea.train.run import run_training
from linnaea.train.start import make_start

RECIPE = Recipe(
    tower=Tower(image_size=32, patch_size=8, width=32, image_layers=1, text_layers=1, context_length=48, n_merges=200),
    feed=Feed(batch_size=12),
    descent=Descent(steps=2, lr=2e-3, warmup=1, log_every=1, objective="level_restricted", teach=0.5),
)
ABOVE = ("Animalia", "Chordata", "Aves", "Passeriformes")


def bird(family: str, genus: str, species: str = "", common_name: str = "") -> Taxon:
    return Taxon((*ABOVE, family, genus, species), common_name=common_name)


def heads(seed: int = 0) -> dict[Rank, LabelBank]:
    """Heads that know two genera and three families of one order."""
    rng = np.random.default_rng(seed)
    known = {
        Rank.GENUS: [bird("Corvidae", "Corvus"), bird("Paridae", "Parus")],
        Rank.FAMILY: [bird(family, "") for family in ("Corvidae", "Paridae", "Sittidae")],
        Rank.ORDER: [Taxon((*ABOVE, "", "", ""))],
    }
    return {
        rank: LabelBank(make_taxa_table(taxa), rng.normal(size=(len(taxa), 8)).astype(np.float32), {"rank": rank.label})
        for rank, taxa in known.items()
    }


NAMES = make_taxa_table(
    [
        *(bird("Corvidae", "Corvus", f"c{letter}") for letter in "abcde"),
        bird("Paridae", "Parus", "major", "Great Tit"),
        bird("Paridae", "Parus", "minor", "Japanese Tit"),
        bird("Corvidae", "Pica", "pica", "Eurasian Magpie"),  # a genus without pictures
        bird("Turdidae", "Turdus", "merula", "Common Blackbird"),  # a family without
        Taxon(("Animalia", "Chordata", "Aves", "Strigiformes", "Strigidae", "Strix", "aluco")),  # an order without
    ]
)


@pytest.fixture
def found(dataset_dir: Path) -> Relatives:
    """Relatives, where the data set has Parus minor, in whatever split."""
    dataset = replace(DataSet.open(dataset_dir), taxa=make_taxa_table([bird("Paridae", "Parus", "minor")]))
    tokenizer = make_start(RECIPE.tower, open_part(_run(dataset_dir, dataset_dir)), seed=0, device="cpu").tokenizer
    types = (TextType.TAXON, TextType.TAXON_COM)
    return find_relatives(NAMES, dataset, heads(), tokenizer, types, n_per_step=64, seed=3)


def _run(data: Path, output: Path, recipe: Recipe = RECIPE) -> TrainingRun:
    return TrainingRun(recipe_name="test", recipe=recipe, data_dir=data, run_dir=output, device="cpu")


def test_a_name_lies_between_its_ancestors(found: Relatives) -> None:
    """Genus + 1/2 family + 1/4 order, of those that have heads; a held-out or pictured name and one without relatives
    are not taught."""
    banks = heads()

    def unit(rank: Rank, name: str) -> np.ndarray:
        row = [taxon.lineage[rank] for taxon in banks[rank].taxa_list].index(name)
        vector = np.asarray(banks[rank].vectors[row])
        return vector / np.linalg.norm(vector)

    order = unit(Rank.ORDER, "Passeriformes")
    corvids, tits = unit(Rank.FAMILY, "Corvidae"), unit(Rank.FAMILY, "Paridae")
    expected = {
        "Corvus": unit(Rank.GENUS, "Corvus") + corvids / 2 + order / 4,
        "Parus": unit(Rank.GENUS, "Parus") + tits / 2 + order / 4,
        "Pica": corvids / 2 + order / 4,
        "Turdus": order / 4,
    }
    place_of = np.repeat(np.arange(len(found.unit_PE)), np.diff(found.first_of))
    taught = {taxon.scientific_name: found.unit_PE[place] for taxon, place in zip(
        taxa_from_table(found.names), place_of, strict=True)}  # fmt: skip
    assert set(taught) == {"Corvus ca", "Corvus cb", "Corvus cc", "Corvus cd", "Corvus ce", "Parus major",
                           "Pica pica", "Turdus merula"}  # fmt: skip
    for name, vector in taught.items():
        wanted = expected[name.split()[0]]
        assert np.allclose(vector, wanted / np.linalg.norm(wanted), atol=1e-6), name


def test_genera_are_drawn_alike_and_most(found: Relatives) -> None:
    """Two genera, a family, an order: 1/2 + 1/2 to 1/2 to 1/4, however many names each has."""
    shares = dict(zip(("Corvus", "Parus", "Pica", "Turdus"), found.chance_of * 7, strict=True))
    assert shares == pytest.approx({"Corvus": 2.0, "Parus": 2.0, "Pica": 2.0, "Turdus": 1.0}, rel=1e-5)
    drawn: Counter[str] = Counter()
    for step in range(40):
        tokens, _ = found.draw(step)
        words = [found.tokenizer.decode(row) for row in tokens.padded().tolist()]
        drawn.update(next(genus for genus in ("corvus", "parus", "pica", "turdus") if genus in text) for text in words)
    total = sum(drawn.values())
    assert total == 40 * 64
    for genus, share in shares.items():
        assert abs(drawn[genus.lower()] / total - share / 7) < 4 * np.sqrt(share / 7 / total), drawn


def test_a_name_without_a_common_name_borrows_a_relatives(dataset_dir: Path) -> None:
    """Half of the captions that can show one, of the nearest rank that has any; never a held-out species'."""
    taxa = make_taxa_table(
        [
            bird("Corvidae", "Corvus", "corax", "Common Raven"),
            bird("Corvidae", "Corvus", "corone", "Carrion Crow"),
            bird("Paridae", "Cyanistes", "caeruleus", "Blue Tit"),
            bird("Paridae", "Parus", "heldout", "Unseen Tit"),
        ]
    )
    whole = DataSet.open(dataset_dir)
    pictured = taxa.filter(pl.col("species") != "heldout")["taxon_id"].to_list()
    index = whole.index.head(3).with_columns(taxon_id=pl.Series(pictured, dtype=whole.index["taxon_id"].dtype))
    dataset = replace(whole, taxa=taxa, index=index)
    tokenizer = make_start(RECIPE.tower, open_part(_run(dataset_dir, dataset_dir)), seed=0, device="cpu").tokenizer
    types = (TextType.TAXON_COM, TextType.TAXON, TextType.SCI_COM, TextType.COM)
    found = find_relatives(NAMES, dataset, heads(), tokenizer, types, n_per_step=64, seed=3)
    genera = [found.names["genus"][first] for first in found.first_of[:-1].tolist()]
    lent = dict(zip(genera, (set(names) for names in found.lent), strict=True))
    corvids = {"Common Raven", "Carrion Crow"}
    assert lent == {"Corvus": corvids, "Parus": {"Blue Tit"}, "Pica": corvids, "Turdus": {*corvids, "Blue Tit"}}
    assert "Unseen Tit" not in set().union(*lent.values())

    corvus = taxa_from_table(found.names)[int(found.first_of[genera.index("Corvus")])]
    lucks = (0.0, 0.24, 0.26, 0.49, 0.5, 0.99)
    captions = {
        kind: [found._caption(corvus, i, genera.index("Corvus"), luck) for luck in lucks]
        for i, kind in enumerate(types)
    }
    for kind in (TextType.TAXON_COM, TextType.SCI_COM):
        borrowed = [text.partition(" with common name ")[2].rstrip(".") for text in captions[kind]]
        assert borrowed[0] == borrowed[1] != borrowed[2] == borrowed[3]
        assert set(borrowed[:4]) == corvids and borrowed[4:] == ["", ""]
    for kind in (TextType.TAXON, TextType.COM):
        assert set(captions[kind]) == {corvus.caption(kind, PHOTO_TEMPLATE)}
    own = bird("Paridae", "Parus", "major", "Great Tit")
    assert "Great Tit" in found._caption(own, 0, genera.index("Parus"), 0.1)


def test_a_draw_is_a_function_of_the_step(found: Relatives) -> None:
    (tokens, unit_RE), (again, same_RE), (other, _) = found.draw(5), found.draw(5), found.draw(6)
    assert np.array_equal(tokens.padded(), again.padded()) and torch.equal(unit_RE, same_RE)
    assert tokens.padded().shape != other.padded().shape or not np.array_equal(tokens.padded(), other.padded())
    assert torch.allclose(unit_RE.norm(dim=-1), torch.ones(64), atol=1e-6)


def test_nothing_to_teach_is_said(dataset_dir: Path) -> None:
    with pytest.raises(LinnaeaError, match="relatives: no species of the checklist"):
        find_relatives(NAMES[:0], DataSet.open(dataset_dir), heads(), None, (), n_per_step=4, seed=0)


def test_the_loss_gains_the_mean_distance(dataset_dir: Path) -> None:
    dataset = open_part(_run(dataset_dir, dataset_dir))
    model: TaxonModel = make_start(RECIPE.tower, dataset, seed=0, device="cpu")
    table = make_token_table(model.tokenizer, dataset.taxa_list, with_ranks=True)
    batch = next(Loader(dataset, RECIPE.feed, 32, 0).iter_batches(3, 4))
    vectors = {Rank.GENUS: [bird("Corvidae", "Corvus"), bird("Paridae", "Parus")]}
    rng = np.random.default_rng(1)
    banks = {rank: LabelBank(make_taxa_table(taxa), rng.normal(size=(2, 32)).astype(np.float32), {"rank": rank.label})
             for rank, taxa in vectors.items()}  # fmt: skip
    taught = find_relatives(NAMES, dataset, banks, model.tokenizer, (TextType.TAXON,), n_per_step=8, seed=0)
    with torch.no_grad():
        plain = compute_loss(model, batch, table, RECIPE.descent)
        both = compute_loss(model, batch, table, RECIPE.descent, guides=Guides(relatives=taught))
    place_of = {tuple(row): place for place in range(2) for row in [tuple(np.round(taught.unit_PE[place], 5))]}
    _, unit_RE = taught.draw(batch.step)
    assert {tuple(np.round(row, 5)) for row in unit_RE.numpy()} <= set(place_of)
    tokens, _ = taught.draw(batch.step)
    texts = [model.tokenizer.decode([t for t in row if t]) for row in tokens.padded().tolist()]
    names = {taxon.caption(TextType.TAXON, PHOTO_TEMPLATE): taxon for taxon in taxa_from_table(taught.names)}
    words = [next(c for c in names if names[c].species in t and names[c].genus.lower() in t) for t in texts]
    caption_RE = encode_captions(model, words)
    distance = 1 - (torch.from_numpy(caption_RE) * unit_RE).sum(dim=1)
    assert float(both - plain) == pytest.approx(0.5 * float(distance.mean()), rel=1e-4)


def test_a_run_with_relatives_goes_on_as_if_never_stopped(dataset_dir: Path, tmp_path: Path) -> None:
    first = replace(RECIPE, descent=Descent(steps=2, lr=2e-3, warmup=1, objective="hierarchical"))
    run_training(_run(dataset_dir, tmp_path / "first", first))
    genus = next(taxon for taxon in DataSet.open(dataset_dir).taxa_list if taxon.genus).lineage[:6]
    names = tmp_path / "names.csv"
    rows = [",".join((*genus, f"novus{letter}")) for letter in "abcdefgh"]
    names.write_text("kingdom,phylum,class,order,family,genus,species\n" + "\n".join(rows) + "\n")
    recipe = replace(
        RECIPE,
        tower=replace(RECIPE.tower, start=str(tmp_path / "first")),
        feed=replace(RECIPE.feed, relatives=str(names), relatives_per_step=4),
        descent=replace(RECIPE.descent, steps=4, freeze=("image",), checkpoint_every=2),
    )
    whole, parts = (_run(dataset_dir, tmp_path / name, recipe) for name in ("whole", "parts"))
    losses, again = train_whole_and_in_parts(whole, parts)
    assert losses == again and len(losses) == 4


def test_relatives_want_teaching_and_a_number() -> None:
    with pytest.raises(ValueError, match="relatives: needs teach"):
        replace(RECIPE, feed=Feed(relatives="inat", relatives_per_step=4), descent=Descent(steps=1))
    with pytest.raises(ValueError, match="a number per step"):
        replace(RECIPE, feed=Feed(relatives="inat"))
