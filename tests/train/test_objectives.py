"""Every objective of a recipe is its formula, written out as loops; what it adds to a model comes off again."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from linnaea.cli import console, main
from linnaea.data.shards import DataSet, make_taxa_table
from linnaea.errors import LinnaeaError
from linnaea.evaluate.evaluation import find_truths, score_class_heads
from linnaea.model.encode import encode_captions, encode_pixels
from linnaea.model.load import TaxonModel
from linnaea.model.open import load_model
from linnaea.model.text import TokenTable, make_token_table
from linnaea.predict.labels import LabelBank, load_class_heads
from linnaea.taxonomy.ranks import Rank
from linnaea.taxonomy.taxon import PHOTO_TEMPLATE, Taxon, TextType
from linnaea.taxonomy.tree import number_lineages
from linnaea.train.batches import Batch, Labels, Loader
from linnaea.train.claim import TrainingRun, open_part
from linnaea.train.heads import CLASS_HEADS, TEACHERS, add_teachers, class_heads, prepare, start_class_heads, take_off
from linnaea.train.losses import class_loss, info_nce, multi_positive, rank_positive
from linnaea.train.objectives import compute_loss, loss_of_features
from linnaea.train.recipe import Descent, Feed, Recipe, Tower
from linnaea.train.run import run_training
from linnaea.train.start import make_start

TINY = Recipe(
    tower=Tower(image_size=32, patch_size=8, width=32, image_layers=1, text_layers=1, context_length=48, n_merges=200),
    feed=Feed(batch_size=12, crop_scale=(0.8, 1.0)),
    descent=Descent(steps=4, lr=2e-3, warmup=1, log_every=1),
)
WEIGHTS = (0.0, 0.0, 0.3, 0.0, 0.5, 1.0, 2.0)
OBJECTIVES = ["info_nce", "multi_positive", "rank_positive", "level_restricted", "sigmoid", "cross_entropy",
              "hierarchical"]  # fmt: skip


def log_mean_target(logits: list[list[Tensor]], positives: list[list[int]]) -> Tensor:
    """Mean over rows of the cross-entropy against a uniform target over each row's positives."""
    total = torch.zeros((), dtype=logits[0][0].dtype)
    for row, own in zip(logits, positives, strict=True):
        whole = torch.stack(row).exp().sum().log()
        for column in own:
            total = total + (whole - row[column]) / len(own)
    return total / len(logits)


def naive_contrastive(image: Tensor, text: Tensor, groups: list[int], scale: Tensor) -> Tensor:
    """Both directions; samples of one group share the target. Group -1 is alone."""
    n = len(image)
    logits = [[scale * (image[i] * text[j]).sum() for j in range(n)] for i in range(n)]
    own = [[j for j in range(n) if i == j or (groups[i] == groups[j] != -1)] for i in range(n)]
    columns = [list(column) for column in zip(*logits, strict=True)]
    return 0.5 * (log_mean_target(logits, own) + log_mean_target(columns, own))


def make_leaves(n: int, n_captions: int, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    image = normalize(torch.randn(n, 6, generator=generator, dtype=torch.float64), dim=-1).requires_grad_()
    own = torch.unique(torch.randint(0, n_captions, (n,), generator=generator), return_inverse=True)[1]
    caption = torch.randn(int(own.max()) + 1, 6, generator=generator, dtype=torch.float64)
    return image, normalize(caption, dim=-1).requires_grad_(), torch.tensor(9.0).double().requires_grad_(), own


def assert_same(ours: Tensor, naive: Tensor, leaves: tuple[Tensor, ...]) -> None:
    assert torch.allclose(ours, naive, rtol=0, atol=1e-10)
    gradients = [torch.autograd.grad(loss, leaves) for loss in (ours, naive)]
    for a, b in zip(*gradients, strict=True):
        assert torch.allclose(a, b, rtol=0, atol=1e-10)


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 9), st.integers(1, 9), st.integers(0, 10_000), st.sampled_from([0, 2]))
def test_rank_positive_is_the_weighted_mean_over_ranks(n: int, n_captions: int, seed: int, rows: int) -> None:
    image, caption, scale, own = make_leaves(n, n_captions, seed)
    lineage = torch.randint(-1, 3, (n, 7), generator=torch.Generator().manual_seed(seed))
    ours = rank_positive(image, caption, own, lineage, WEIGHTS, scale, rows_at_once=rows)
    parts = [naive_contrastive(image, caption[own], lineage[:, r].tolist(), scale) * w for r, w in enumerate(WEIGHTS)]
    assert_same(ours, torch.stack(parts).sum() / sum(WEIGHTS), (image, caption, scale))


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 9), st.integers(1, 9), st.integers(0, 10_000))
def test_multi_positive_and_info_nce_are_their_loops(n: int, n_captions: int, seed: int) -> None:
    image, caption, scale, own = make_leaves(n, n_captions, seed)
    taxon = torch.randint(0, 3, (n,), generator=torch.Generator().manual_seed(seed))
    naive = naive_contrastive(image, caption[own], taxon.tolist(), scale)
    assert_same(multi_positive(image, caption, own, taxon, scale), naive, (image, caption, scale))
    naive = naive_contrastive(image, caption[own], [-1] * n, scale)
    assert_same(info_nce(image, caption, own, scale), naive, (image, caption, scale))


def test_class_loss_leaves_out_what_has_no_class() -> None:
    logits = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    ours = class_loss(logits, torch.tensor([2, -1, 0, -1, 1]))
    naive = sum(logits[i].exp().sum().log() - logits[i][k] for i, k in ((0, 2), (2, 0), (4, 1))) / 3
    assert_same(ours, naive, (logits,))  # type: ignore[arg-type]
    nothing = class_loss(logits, torch.full((5,), -1))
    assert float(nothing.detach()) == 0.0
    assert torch.autograd.grad(nothing, logits)[0].abs().sum() == 0


def test_smoothed_labels_give_every_class_a_share() -> None:
    logits = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    ours = class_loss(logits, torch.tensor([2, -1, 0, -1, 1]), 0.3)
    naive = torch.zeros((), dtype=torch.float64)
    for i, own in ((0, 2), (2, 0), (4, 1)):
        for k in range(3):
            target = 0.3 / 3 + (0.7 if k == own else 0.0)
            naive = naive + target * (logits[i].exp().sum().log() - logits[i][k]) / 3
    assert_same(ours, naive, (logits,))
    assert float(class_loss(logits, torch.full((5,), -1), 0.3).detach()) == 0.0


TAXA = [
    Taxon.of(kingdom="Animalia", order="Passeriformes", family="Corvidae", genus="Pica", species="pica"),
    Taxon.of(kingdom="Animalia", order="Passeriformes", family="Corvidae", genus="Pica", species="hudsonia"),
    Taxon.of(kingdom="Animalia", order="Passeriformes", family="Corvidae", genus="Corvus"),
    Taxon.of(kingdom="Plantae", family="Rosaceae", genus="Rosa", species="canina", common_name="dog rose"),
    Taxon.of(common_name="some moss"),
    Taxon.of(kingdom="Plantae", genus="Pica", species="ficta"),  # a homonym
]


def test_lineages_are_numbered_by_all_that_is_above() -> None:
    lineage = number_lineages(taxon.lineage for taxon in TAXA)
    assert lineage[:, Rank.GENUS].tolist() == [0, 0, 1, 2, -1, 3]
    assert lineage[:, Rank.SPECIES].tolist() == [0, 1, -1, 2, -1, 3]
    assert lineage[:, Rank.KINGDOM].tolist() == [0, 0, 0, 1, -1, 1]


def start(descent: Descent, n: int = 12) -> tuple[TaxonModel, TokenTable, Labels, Tensor]:
    """A model with what its objective needs, and samples of six taxa."""
    from linnaea.model.create import ImageTower, ModelConfig, TextTower, make_model
    from linnaea.model.tokenizer import train_bpe

    bpe = train_bpe((taxon.caption(TextType.TAXON_COM) for taxon in TAXA), 60)
    text = TextTower(context_length=64, width=32, layers=1, heads=1)
    config = ModelConfig(embed_dim=32, image=ImageTower(image_size=32, width=32, layers=1), text=text)
    model = make_model(config, bpe)
    model = replace(model, clip=model.clip.double())
    table = make_token_table(model.tokenizer, TAXA, with_ranks=True)
    model = prepare(model, table, descent, with_replay=False, seed=0)
    rng = np.random.default_rng(0)
    labels = Labels(rng.integers(0, 6, n), rng.integers(0, 5, n))
    image = normalize(torch.from_numpy(rng.standard_normal((n, 32))), dim=-1).float().requires_grad_()
    model.clip.float()
    return model, table, labels, image


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_gradient_of_a_large_batch_is_the_same_every_time(objective: Any) -> None:
    """At 4,096 samples several threads share the work; what each adds must not depend on which is first."""
    descent = Descent(objective=objective, rank_weights=WEIGHTS, teach=float(objective == "level_restricted"))
    model, table, labels, image = start(descent, n=4096)
    if descent.teach:
        taught = torch.nn.Module()
        unit_KE = normalize(torch.randn(6, 32, generator=torch.Generator().manual_seed(0)), dim=-1)
        taught.register_buffer("species", unit_KE)
        model.clip.add_module(TEACHERS, taught)
    leaves = [image, *(p for name, p in model.clip.named_parameters() if not name.startswith("visual."))]

    def gradients() -> tuple[Tensor | None, ...]:
        loss = loss_of_features(model, image, labels, table, descent)
        return torch.autograd.grad(loss, leaves, allow_unused=True)

    first = gradients()
    assert first[0] is not None
    for _ in range(5):
        for a, b in zip(first, gradients(), strict=True):
            assert (a is None) == (b is None)
            assert a is None or torch.equal(a, b)


def test_level_restricted_compares_within_each_rank() -> None:
    """The loop: at a rank, its images and its captions alone, and what shares the taxon there is no negative."""
    descent = Descent(objective="level_restricted", rank_weights=WEIGHTS)
    model, table, labels, image = start(descent)
    ours = loss_of_features(model, image, labels, table, descent)
    naive, scale = torch.zeros(()), model.clip.logit_scale.exp()  # type: ignore[operator]
    for rank in Rank:
        rows = [b for b in range(12) if TAXA[labels.taxon_ids[b]][rank] or rank == Rank.SPECIES]
        if not WEIGHTS[rank]:
            continue
        captions, groups = [], []
        for b in rows:
            taxon = TAXA[labels.taxon_ids[b]]
            if rank == Rank.SPECIES:
                captions.append(taxon.caption(table.text_types[labels.text_types[b]], PHOTO_TEMPLATE))
                groups.append(int(labels.taxon_ids[b]))
            else:
                captions.append(taxon.at(rank).caption(TextType.TAXON, PHOTO_TEMPLATE))
                groups.append(hash(taxon.lineage[: rank + 1]))
        if rows:
            text = model.clip.encode_text(model.tokenizer(captions), normalize=True)  # type: ignore[operator]
            naive = naive + WEIGHTS[rank] / sum(WEIGHTS) * naive_contrastive(image[rows], text, groups, scale)
    assert float(ours.detach()) == pytest.approx(float(naive.detach()), abs=2e-5)
    a, b = (torch.autograd.grad(loss, [image, model.clip.token_embedding.weight]) for loss in (ours, naive))  # type: ignore[list-item,union-attr]
    for ours_, naive_ in zip(a, b, strict=True):
        assert (ours_ - naive_).norm() <= 1e-4 * naive_.norm()


@pytest.mark.parametrize("objective", ["cross_entropy", "hierarchical"])
def test_class_objectives_sum_the_ranks_and_mask_what_is_missing(objective: Any) -> None:
    descent = Descent(objective=objective)
    model, table, labels, image = start(descent)
    ours = loss_of_features(model, image, labels, table, descent)
    ranks = [Rank.SPECIES] if objective == "cross_entropy" else list(Rank)
    heads, scale = class_heads(model), model.clip.logit_scale.exp()  # type: ignore[operator]
    naive = torch.zeros(())
    for rank in ranks:
        names = list(dict.fromkeys(taxon.lineage[: rank + 1] for taxon in TAXA if taxon[rank]))
        costs = []
        for b in range(12):
            taxon = TAXA[labels.taxon_ids[b]]
            if taxon[rank]:
                logits = scale * (heads[rank].weight @ image[b])  # type: ignore[operator]
                costs.append(logits.exp().sum().log() - logits[names.index(taxon.lineage[: rank + 1])])
        naive = naive + (torch.stack(costs).mean() if costs else 0)
    assert float(ours.detach()) == pytest.approx(float(naive.detach()), rel=1e-5)
    leaves = [image, *(head.weight for head in heads.values())]
    for a, b in zip(torch.autograd.grad(ours, leaves), torch.autograd.grad(naive, leaves), strict=True):  # type: ignore[arg-type]
        assert (a - b).norm() <= 1e-4 * b.norm() + 1e-6


def make_run(data: Path, output: Path, **descent: Any) -> TrainingRun:
    recipe = replace(TINY, descent=replace(TINY.descent, **descent))
    return TrainingRun(recipe_name="test", recipe=recipe, data_dir=data, run_dir=output, device="cpu")


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_parts_change_neither_loss_nor_gradient(dataset_dir: Path, objective: Any) -> None:
    recipe = replace(TINY, descent=replace(TINY.descent, objective=objective))
    dataset = open_part(make_run(dataset_dir, Path("unused"), objective=objective))
    model = make_start(recipe.tower, dataset, seed=0, device="cpu")
    table = make_token_table(model.tokenizer, dataset.taxa_list, with_ranks=True)
    model = prepare(model, table, recipe.descent, with_replay=False, seed=0)
    batch = next(Loader(dataset, recipe.feed, 32, 0).iter_batches(0, 1))
    found = []
    for parts in (1, 5):
        model.clip.zero_grad()
        loss = compute_loss(model, batch, table, replace(recipe.descent, accumulate=parts))
        loss.backward()
        found.append(
            (float(loss.detach()), {n: p.grad for n, p in model.clip.named_parameters() if p.grad is not None})
        )
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    assert found[0][1].keys() == found[1][1].keys()
    for name, gradient in found[0][1].items():
        assert (gradient - found[1][1][name]).norm() <= 1e-4 * gradient.norm() + 1e-7, name


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_trains_and_leaves_a_plain_model(dataset_dir: Path, tmp_path: Path, objective: Any) -> None:
    run = make_run(dataset_dir, tmp_path / "run", objective=objective)
    assert run_training(run).finished
    clip, _, _ = open_clip.create_model_and_transforms(f"local-dir:{run.model_dir}")
    assert not hasattr(clip, CLASS_HEADS)
    assert bool(load_class_heads(run.run_dir)) == (objective in ("cross_entropy", "hierarchical"))


def test_class_heads_resume_bit_for_bit(dataset_dir: Path, tmp_path: Path) -> None:
    whole, parted = (make_run(dataset_dir, tmp_path / n, objective="hierarchical", average=0.5) for n in ("a", "b"))
    run_training(whole)

    def stop(step: int, total: int, line: dict[str, Any]) -> None:
        if step == 2:
            raise KeyboardInterrupt

    often = replace(parted.recipe.descent, checkpoint_every=1)
    with pytest.raises(KeyboardInterrupt):
        run_training(replace(parted, recipe=replace(parted.recipe, descent=often)), stop)
    run_training(parted)
    for rank, bank in load_class_heads(whole.run_dir).items():
        assert np.array_equal(bank.vectors, load_class_heads(parted.run_dir)[rank].vectors)


def test_class_heads_start_from_those_of_the_run_before(dataset_dir: Path, tmp_path: Path) -> None:
    first = make_run(dataset_dir, tmp_path / "first", objective="hierarchical")
    run_training(first)
    still = {"objective": "hierarchical", "steps": 1, "lr": 0.0, "weight_decay": 0.0, "average": 0.0}
    known = make_run(dataset_dir, tmp_path / "known", **still)
    tower = replace(known.recipe.tower, start=str(first.run_dir))
    run_training(replace(known, recipe=replace(known.recipe, tower=tower)))
    old, new = load_class_heads(first.run_dir), load_class_heads(known.run_dir)
    assert set(old) == set(new) == set(Rank)
    for rank in Rank:
        assert np.allclose(old[rank].vectors, new[rank].vectors, atol=2e-3)


def test_class_heads_of_another_width_are_left(dataset_dir: Path) -> None:
    recipe = replace(TINY, descent=replace(TINY.descent, objective="cross_entropy"))
    dataset = open_part(make_run(dataset_dir, Path("unused")))
    model = make_start(recipe.tower, dataset, seed=0, device="cpu")
    table = make_token_table(model.tokenizer, dataset.taxa_list, with_ranks=True)
    model = prepare(model, table, recipe.descent, with_replay=False, seed=0)
    taxa = [taxon for taxon in dataset.taxa_list if taxon.species][:2]

    def bank(width: int) -> dict[Rank, LabelBank]:
        vectors = np.eye(2, width, dtype=np.float16)
        return {Rank.SPECIES: LabelBank(make_taxa_table(taxa), vectors, {})}

    assert start_class_heads(model, dataset, table, bank(model.width + 1)) == 0
    assert start_class_heads(model, dataset, table, bank(model.width)) == 2
    assert start_class_heads(model, dataset, table, {}) == 0


def test_heads_teach_the_captions(dataset_dir: Path) -> None:
    """The loss gains, at each rank, the mean distance of captions to known classes' vectors, by its formula."""
    descent = replace(TINY.descent, objective="level_restricted", rank_weights=(0.0, 0.0, 0.0, 0.0, 0.0, 0.5, 1.0))
    dataset = open_part(make_run(dataset_dir, Path("unused")))
    model = make_start(TINY.tower, dataset, seed=0, device="cpu")
    table = make_token_table(model.tokenizer, dataset.taxa_list, with_ranks=True)
    batch = next(Loader(dataset, TINY.feed, 32, 0).iter_batches(0, 1))
    labels = Labels(batch.taxon_ids, batch.text_types)
    taxa = sorted({taxon.at(Rank.SPECIES) for taxon in dataset.taxa_list if taxon.species}, key=lambda t: t.lineage)
    taxa.remove(dataset.taxon(int(batch.taxon_ids[0])).at(Rank.SPECIES))
    vectors = np.random.default_rng(0).normal(size=(len(taxa), model.width)).astype(np.float32)
    image_BE = normalize(torch.randn(len(batch.taxon_ids), model.width), dim=-1)
    plain = loss_of_features(model, image_BE, labels, table, descent)
    add_teachers(model, dataset, table, {Rank.SPECIES: LabelBank(make_taxa_table(taxa), vectors, {})})
    taught = loss_of_features(model, image_BE, labels, table, replace(descent, teach=0.7))
    unit = normalize(torch.from_numpy(vectors), dim=-1)
    number_of = {taxon.lineage: number for number, taxon in enumerate(taxa)}
    costs = []
    for taxon_id, text_type in zip(labels.taxon_ids, labels.text_types, strict=True):
        taxon = dataset.taxon(int(taxon_id)).at(Rank.SPECIES)
        if taxon.species and taxon.lineage in number_of:
            words = dataset.taxon(int(taxon_id)).caption(TINY.feed.text_types[text_type], PHOTO_TEMPLATE)
            text = torch.from_numpy(encode_captions(model, [words]))
            costs.append(1 - text[0] @ unit[number_of[taxon.lineage]])
    assert 0 < len(costs) < len(batch.taxon_ids)
    expected = plain + 0.7 * torch.stack(costs).mean() / 1.5
    assert torch.allclose(taught, expected, rtol=1e-4)
    assert not hasattr(take_off(model) or model.clip, TEACHERS)


def test_a_new_text_tower_learns_beside_an_old_image_tower(dataset_dir: Path, tmp_path: Path) -> None:
    """A run's image tower and heads go on; vocabulary and text tower are new, and as wide as asked."""
    first = make_run(dataset_dir, tmp_path / "first", objective="hierarchical", steps=2)
    run_training(first)
    names = tmp_path / "names.csv"
    names.write_text("kingdom,phylum,class,order,family,genus,species\n" + "".join(
        f"Animalia,Chordata,Aves,Xyz,Xyzidae,Xyzus,xyz{'abc'[number]}\n" for number in range(3)
    ))  # fmt: skip
    run = make_run(
        dataset_dir, tmp_path / "second", steps=2, objective="level_restricted", teach=1.0, freeze=("image",)
    )
    tower = replace(run.recipe.tower, start=str(first.run_dir), new_text=True, text_width=64, vocabulary=str(names))
    run = replace(run, recipe=replace(run.recipe, tower=tower))
    assert run_training(run).finished
    old, new = (load_model(str(r.model_dir), device="cpu") for r in (first, run))
    assert new.model_cfg["text_cfg"]["width"] == 64
    assert len(new.tokenizer.encode("xyzidae")) < len(old.tokenizer.encode("xyzidae"))
    side = old.preprocess.image_size
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, side, side))
    assert np.array_equal(*(encode_pixels(m, pixels.astype(np.uint8)) for m in (old, new)))


def test_teaching_wants_a_run_with_heads(dataset_dir: Path, tmp_path: Path) -> None:
    first = make_run(dataset_dir, tmp_path / "first", steps=1)
    run_training(first)
    run = make_run(dataset_dir, tmp_path / "second", steps=1, objective="level_restricted", teach=1.0)
    tower = replace(run.recipe.tower, start=str(first.run_dir))
    with pytest.raises(LinnaeaError, match="class heads"):
        run_training(replace(run, recipe=replace(run.recipe, tower=tower)))
    with pytest.raises(ValueError, match="level_restricted"):
        make_run(dataset_dir, tmp_path / "third", teach=1.0)


def test_a_saved_head_answers_as_the_trained_one(dataset_dir: Path, tmp_path: Path) -> None:
    run = make_run(dataset_dir, tmp_path / "run", objective="hierarchical", steps=2)
    dataset = open_part(run)
    model = make_start(run.recipe.tower, dataset, seed=0, device="cpu")
    table = make_token_table(model.tokenizer, dataset.taxa_list)
    before = prepare(model, table, run.recipe.descent, with_replay=False, seed=0)
    weights = {rank: head.weight.detach().clone() for rank, head in class_heads(before).items()}  # type: ignore[operator]
    from linnaea.train.heads import make_head_banks

    banks = make_head_banks(take_off(before), dataset, table, before)
    assert not hasattr(before.clip, CLASS_HEADS)
    for rank, bank in banks.items():
        for taxon, vector in zip(bank.taxa_list, bank.vectors, strict=True):
            row = next(i for i, other in enumerate(dataset.taxa_list)
                       if other.lineage[: rank + 1] == taxon.lineage[: rank + 1])  # fmt: skip
            assert np.array_equal(vector, weights[rank][table.lineage_of[row, rank]].numpy())
        seen = {dataset.taxon(int(i)).lineage[: rank + 1] for i in dataset.index["taxon_id"].unique()}
        assert {taxon.lineage[: rank + 1] for taxon in bank.taxa_list} == {s for s in seen if s[rank]}


def test_class_heads_on_the_command_line(
    dataset_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Evaluated on seen and unseen species, and asked about a picture."""
    monkeypatch.setattr(console.results, "_width", 160)
    run = make_run(dataset_dir, tmp_path / "run", objective="hierarchical", steps=60, lr=3e-3)
    run_training(run)
    assert main(["evaluate", str(run.run_dir), "--data", str(dataset_dir), "--split", "train", "--output",
                 str(tmp_path / "seen"), "--device", "cpu"]) == 0  # fmt: skip
    out = capsys.readouterr().out
    assert "class head, species (100% of" in " ".join(out.split())
    assert "zero-shot" not in out
    whole = DataSet.open(dataset_dir)
    part, model = whole.split("train"), load_model(str(run.run_dir), device="cpu")
    from linnaea.data.images import decode

    pixels = np.stack([model.preprocess.pixels(decode(part.read(row))) for row in range(len(part))])
    scores = score_class_heads(encode_pixels(model, pixels), part, load_class_heads(run.run_dir))
    assert scores["class_head/kingdom/top1"] > 0.6
    assert main(["evaluate", str(run.run_dir), "--data", str(dataset_dir), "--split", "unseen", "--output",
                 str(tmp_path / "unseen"), "--device", "cpu"]) == 0  # fmt: skip
    assert "class head, species" not in " ".join(capsys.readouterr().out.split())
    picture = tmp_path / "one.jpg"
    picture.write_bytes(part.read(0))
    assert main(["predict", str(picture), "--model", str(run.run_dir), "--format", "csv", "--device", "cpu"]) == 0
    assert "one.jpg" in capsys.readouterr().out


def test_what_has_no_class_is_not_counted(dataset_dir: Path, tmp_path: Path) -> None:
    run = make_run(dataset_dir, tmp_path / "run", objective="cross_entropy", steps=2)
    run_training(run)
    unseen, heads = DataSet.open(dataset_dir).split("unseen"), load_class_heads(run.run_dir)
    truth, named = find_truths(unseen, heads[Rank.SPECIES], Rank.SPECIES)
    assert named.all()
    assert (truth == -1).all()
    scores = score_class_heads(np.zeros((len(unseen), 32), np.float32), unseen, heads)
    assert scores["class_head/species/share_answerable"] == 0
    assert "class_head/species/top1" not in scores


def test_features_of_a_class_model_serve_the_text_side_no_more(dataset_dir: Path, tmp_path: Path) -> None:
    """Its text tower is as it was at the start: captions said nothing."""
    run = make_run(dataset_dir, tmp_path / "run", objective="cross_entropy", weight_decay=0.0)
    dataset = open_part(run)
    fresh = make_start(run.recipe.tower, dataset, seed=0, device="cpu")
    run_training(run)
    trained = load_model(str(run.model_dir), device="cpu")
    words = ["a photo of Pica pica."]
    assert np.allclose(encode_captions(fresh, words), encode_captions(trained, words), atol=1e-6)


def test_batch_is_labels_enough(dataset_dir: Path) -> None:
    """The loss of encoded images needs no pixels: what a cache of features trains with is what pictures do."""
    dataset = open_part(make_run(dataset_dir, Path("unused")))
    model = make_start(TINY.tower, dataset, seed=0, device="cpu")
    table = make_token_table(model.tokenizer, dataset.taxa_list)
    loader = Loader(dataset, TINY.feed, 32, 0)
    batch, labels = next(loader.iter_batches(0, 1)), next(loader.iter_labels(0, 1))
    assert isinstance(batch, Batch)
    pixels = (torch.from_numpy(batch.pixels).float() / 255 - torch.tensor(model.preprocess.mean).view(3, 1, 1)) / (
        torch.tensor(model.preprocess.std).view(3, 1, 1)
    )
    image = normalize(model.clip.encode_image(pixels), dim=-1)  # type: ignore[operator]
    whole = compute_loss(model, batch, table, TINY.descent)
    assert torch.allclose(loss_of_features(model, image, labels, table, TINY.descent), whole, atol=1e-5)
