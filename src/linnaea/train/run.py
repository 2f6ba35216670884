"""A run: a recipe and a data set in, a model folder out."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch

from linnaea import __version__
from linnaea.data.shards import DataSet, taxa_from_table, write_parquet
from linnaea.errors import LinnaeaError
from linnaea.model.create import (
    ImageTower,
    ModelConfig,
    TextTower,
    at_image_size,
    backbone_preprocess,
    load_backbone,
    make_model,
    renew_text,
)
from linnaea.model.folders import BPE_FILE
from linnaea.model.load import TaxonModel, choose_device, save_model
from linnaea.model.open import HUB_ARCHITECTURES, load_model
from linnaea.model.text import TokenTable, make_token_table
from linnaea.model.tokenizer import train_bpe
from linnaea.predict.class_heads import load_class_heads
from linnaea.predict.labels import LabelBank, taxa_of_checklist
from linnaea.storage import explain_os_errors, write_atomically
from linnaea.taxonomy.checklists.store import load_checklist
from linnaea.taxonomy.ranks import Rank
from linnaea.taxonomy.taxon import PHOTO_TEMPLATE, TextType
from linnaea.taxonomy.tree import number_lineages
from linnaea.train.batches import Loader
from linnaea.train.costs import Costs, estimate_costs
from linnaea.train.fit import FitResult, Place, fit
from linnaea.train.heads import (
    RANKS_OF,
    add_teachers,
    count_classes,
    make_head_banks,
    prepare,
    save_head_banks,
    start_class_heads,
    take_off,
)
from linnaea.train.locked import encode_views, lock
from linnaea.train.logs import Meter, find_peak
from linnaea.train.parallel import ALONE, Peers, Spread
from linnaea.train.recipe import Recipe, Tower
from linnaea.train.recipes import RECIPES
from linnaea.train.relatives import Relatives, find_relatives
from linnaea.train.replay import mix
from linnaea.train.tuning import add_low_rank, compile_towers, freeze, freeze_blocks, merge_low_rank

RECIPE_FILE = "recipe.json"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run would take."""

    n_samples: int
    n_taxa: int
    n_steps: int
    costs: Costs


@dataclass(frozen=True, kw_only=True)
class Run:
    """Where a run lives, and what it is made of."""

    recipe_name: str
    recipe: Recipe
    data_dir: Path
    run_dir: Path
    device: str = "auto"
    n_workers: int = 2
    spread: Spread = "ddp"
    wandb: str = ""

    @property
    def model_dir(self) -> Path:
        return self.run_dir / "model"

    @property
    def is_finished(self) -> bool:
        return (self.model_dir / "open_clip_model.safetensors").exists()


def open_part(run: Run) -> DataSet:
    """The part of the data set that the recipe trains on."""
    return DataSet.open(run.data_dir).split(run.recipe.feed.split).sources(run.recipe.feed.sources)


def make_vocabulary(tower: Tower, dataset: DataSet) -> bytes:
    """A vocabulary for :func:`linnaea.model.tokenizer.train_bpe`: of the names of a checklist, or of the data set."""
    names = taxa_of_checklist(load_checklist(tower.vocabulary)) if tower.vocabulary else dataset.pictured_taxa
    captions = (taxon.caption(TextType.TAXON_COM, PHOTO_TEMPLATE) for taxon in taxa_from_table(names))
    return train_bpe(captions, tower.n_merges)


def make_start(
    tower: Tower,
    dataset: DataSet,
    *,
    seed: int,
    device: str,
    vocabulary: Callable[[Tower, DataSet], bytes] = make_vocabulary,
) -> TaxonModel:
    """The model before its first step: published weights, or a new one with a vocabulary of the data's names.

    ``vocabulary`` is asked only where the model shall have its own.
    """
    if tower.start in RECIPES and not Path(tower.start).is_dir():
        raise LinnaeaError(f"this recipe goes on from a run of {tower.start}: give its folder with --start")
    text_width = tower.text_width or tower.width
    text = TextTower(
        context_length=tower.context_length, width=text_width, layers=tower.text_layers, heads=text_width // 32
    )
    if tower.start:
        model = load_model(tower.start, pretrained=tower.pretrained or None, device=device)
        model = at_image_size(model, tower.resize_to) if tower.resize_to else model
        return renew_text(model, text, vocabulary(tower, dataset), seed=seed) if tower.new_text else model
    config = ModelConfig(
        embed_dim=tower.width,
        image=ImageTower(
            image_size=tower.image_size,
            layers=tower.image_layers,
            width=tower.width,
            patch_size=tower.patch_size,
            timm_model_name=tower.backbone,
        ),
        text=text,
        n_merges=tower.n_merges,
    )
    preprocess = backbone_preprocess(tower.backbone, tower.image_size) if tower.backbone_weights else None
    model = make_model(config, vocabulary(tower, dataset), seed=seed, preprocess=preprocess)
    if tower.backbone_weights:
        load_backbone(model.clip, Path(tower.backbone_weights))
    where = choose_device(device)
    return dataclasses.replace(model, clip=model.clip.to(where), device=where)


def train(
    run: Run,
    on_step: Callable[[int, int, dict[str, Any]], None] = lambda step, total, line: None,
    evaluate: Callable[[TaxonModel], Mapping[str, float]] = lambda model: {},
    *,
    peers: Peers = ALONE,
    on_notice: Callable[[str], None] = lambda text: None,
    on_view: Callable[[int, int], None] = lambda done, total: None,
) -> FitResult:
    """Train, or go on with, a run; leaves ``model/``, ``checkpoints/`` and ``metrics.jsonl`` in its folder.

    ``evaluate`` is given the model now and then; what it says goes into the log. With ``peers`` (see
    :func:`linnaea.train.parallel.join`) all processes call this alike.

    Raises:
        LinnaeaError: see :func:`linnaea.train.fit.fit`; or the data set does not fit the recipe.
    """
    recipe, dataset = run.recipe, open_part(run)
    torch.manual_seed(recipe.seed)
    run.run_dir.mkdir(parents=True, exist_ok=True)
    model = make_start(
        recipe.tower,
        dataset,
        seed=recipe.seed,
        device=run.device,
        vocabulary=lambda *of: peers.first_does(lambda: _learn_vocabulary_once(run.run_dir / BPE_FILE, *of)),
    )
    table = make_token_table(
        model.tokenizer,
        dataset.taxa_list,
        recipe.feed.text_types,
        with_ranks=recipe.descent.objective == "level_restricted",
    )
    _prepare(model, recipe, peers, run.spread, on_notice)
    # After freezing: what an objective adds always learns.
    model = prepare(model, table, recipe.descent, with_replay=bool(recipe.feed.replay), seed=recipe.seed)
    banks = load_class_heads(recipe.tower.start) if recipe.tower.start else {}
    if recipe.descent.objective in RANKS_OF:
        start_class_heads(model, dataset, table, banks)
    if recipe.descent.teach:
        add_teachers(model, dataset, table, banks)
    size = model.preprocess.image_size
    loader = Loader(dataset, recipe.feed, size, recipe.seed, run.n_workers, peers.rank, peers.size)
    loader = mix(loader, model.tokenizer)
    if recipe.feed.cached_views:
        peers.first_does(lambda: encode_views(model, loader, run.run_dir, on_view))
        loader, meter = lock(loader, run.run_dir), Meter()
    else:
        meter = make_meter(model, loader, table, recipe, peers) if peers.is_first else Meter()
    place = Place(peers=peers, spread=run.spread, meter=meter, wandb=run.wandb)
    n_steps = recipe.n_steps(len(dataset))
    result = fit(
        model,
        loader,
        table,
        recipe.descent,
        n_steps,
        run.run_dir,
        relatives=_find_relatives(recipe, dataset, banks, model.tokenizer),
        place=place,
        evaluate=evaluate,
        on_step=on_step,
    )
    if result.finished:
        merge_low_rank(result.clip)
        final = dataclasses.replace(model, clip=result.clip)
        peers.first_does(lambda: _save_result(run, final, dataset, table, result))
    return result


def _learn_vocabulary_once(path: Path, tower: Tower, dataset: DataSet) -> bytes:
    """The vocabulary that a run keeps at ``path``; one that was stopped has it already."""
    if not path.exists():
        learnt = make_vocabulary(tower, dataset)
        with explain_os_errors(path):
            write_atomically(path, learnt)
    return path.read_bytes()


def _find_relatives(recipe: Recipe, dataset: DataSet, banks: dict[Rank, LabelBank], tokenizer: Any) -> Relatives | None:
    """The names to teach beside, where the recipe asks for them."""
    feed = recipe.feed
    if not feed.relatives:
        return None
    names, n_per_step = taxa_of_checklist(load_checklist(feed.relatives)), feed.relatives_per_step
    types, seed = feed.text_types, recipe.seed
    return find_relatives(names, dataset, banks, tokenizer, types, n_per_step=n_per_step, seed=seed)


def _prepare(model: TaxonModel, recipe: Recipe, peers: Peers, spread: Spread, on_notice: Callable[[str], None]) -> None:
    """What of the model learns, and how it is computed."""
    descent = recipe.descent
    if descent.grad_checkpointing:
        model.clip.set_grad_checkpointing(True)  # type: ignore[operator]
    freeze(model.clip, descent.freeze)
    freeze_blocks(model.clip, descent.freeze_blocks)
    if descent.lora_rank:
        if spread == "fsdp" and peers.size > 1:
            raise peers.stop("low-rank training has little to shard: use --spread ddp with --lora-rank")
        add_low_rank(model.clip, descent.lora_rank)
    if descent.compile and (why_not := compile_towers(model.clip, model.device)):
        on_notice(why_not)


def make_meter(model: TaxonModel, loader: Loader, table: TokenTable, recipe: Recipe, peers: Peers) -> Meter:
    """For the utilisation in the log: arithmetic of a step as large as the first, and what the devices could do.

    Towers whose arithmetic is not known (not open_clip's plain ones) have no utilisation.
    """
    labels = next(iter(dataclasses.replace(loader, rank=0, world_size=1).iter_labels(0, 1)))
    n_captions, n_tokens = table.batch(labels.taxon_ids, labels.text_types)[0].shape
    n_classes = count_classes(table.lineage_of, recipe.descent)
    once = dataclasses.replace(recipe.descent, accumulate=1, keep_parts=0, grad_checkpointing=False)
    plain = dataclasses.replace(recipe, descent=once)
    try:
        costs = estimate_costs(model.model_cfg, plain, 0 if n_classes else n_captions, n_tokens, n_classes=n_classes)
    except (TypeError, KeyError, AttributeError, RuntimeError):
        return Meter()
    return Meter(step_flops=costs.flops, peak=peers.size * find_peak(model.device, recipe.descent.precision))


def make_plan(run: Run) -> Plan:
    """Reckon what a run would take, without taking a step or fetching any weights."""
    recipe, dataset = run.recipe, open_part(run)
    tower = _first_tower(recipe.tower)
    first = next(iter(Loader(dataset, recipe.feed, 1, recipe.seed).iter_labels(0, 1)))
    architecture = HUB_ARCHITECTURES.get(tower.start, tower.start)
    if architecture in open_clip.list_models():  # no need for its weights
        model_cfg, tokenizer = open_clip.get_model_config(architecture), open_clip.get_tokenizer(architecture)
    else:
        model = make_start(dataclasses.replace(tower, backbone_weights=""), dataset, seed=0, device="cpu")
        model_cfg, tokenizer = dict(model.model_cfg), model.tokenizer
    taxon_ids, place = np.unique(first.taxon_ids, return_inverse=True)
    table = make_token_table(tokenizer, [dataset.taxon(number) for number in taxon_ids], recipe.feed.text_types)
    n_captions, n_tokens = table.batch(place, first.text_types)[0].shape
    n_classes = count_classes(number_lineages(taxon.lineage for taxon in dataset.taxa_list), recipe.descent)
    return Plan(
        n_samples=len(dataset),
        n_taxa=dataset.index["taxon_id"].n_unique(),
        n_steps=recipe.n_steps(len(dataset)),
        costs=estimate_costs(model_cfg, recipe, 0 if n_classes else n_captions, n_tokens, n_classes=n_classes),
    )


def _first_tower(tower: Tower) -> Tower:
    """What a chain of recipes begins with, at the size that it ends with."""
    if tower.start not in RECIPES:
        return tower
    first = _first_tower(RECIPES[tower.start].tower)
    return dataclasses.replace(first, image_size=tower.resize_to or first.image_size)


def write_recipe(run: Run) -> None:
    """Keep what the run is a function of, beside it."""
    write_atomically(run.run_dir / RECIPE_FILE, json.dumps(_describe(run), indent=1))


def check_same_recipe(run: Run) -> None:
    """Raise where the run in the folder was started with something else."""
    try:
        before = json.loads((run.run_dir / RECIPE_FILE).read_text())
    except (OSError, ValueError) as error:
        raise LinnaeaError(f"{run.run_dir}: no run to resume ({RECIPE_FILE} is missing or broken)") from error
    now, plain = (json.loads(json.dumps(part)) for part in (_describe(run), dataclasses.asdict(Recipe())))
    changed = sorted(_changes(_complete(before, plain), now))
    if changed:
        raise LinnaeaError(
            f"{run.run_dir}: was started with other settings ({'; '.join(changed)}); choose another --output"
        )


def _describe(run: Run) -> dict[str, Any]:
    return {"recipe": run.recipe_name, "data": str(run.data_dir.resolve()), **dataclasses.asdict(run.recipe)}


def _complete(before: dict[str, Any], plain: dict[str, Any]) -> dict[str, Any]:
    """With the settings that did not exist when the run was started, as they do nothing."""
    parts = {key: _complete(before[key], part) for key, part in plain.items() if isinstance(before.get(key), dict)}
    return plain | before | parts


def _changes(before: dict[str, Any], now: dict[str, Any], prefix: str = "") -> list[str]:
    changes = []
    for key in {*before, *now}:
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            changes += _changes(old, new, f"{prefix}{key}.")
        elif old != new:
            changes.append(f"{prefix}{key}: {old} -> {new}")
    return changes


def _save_result(run: Run, model: TaxonModel, dataset: DataSet, table: TokenTable, result: FitResult) -> None:
    facts = {
        "linnaea": __version__,
        "recipe": run.recipe_name,
        "text_types": [str(text_type) for text_type in run.recipe.feed.text_types],
        "template": PHOTO_TEMPLATE,
        "objective": run.recipe.descent.objective,
        "steps": result.step,
        "n_images": len(dataset),
        "n_taxa": dataset.index["taxon_id"].n_unique(),
        "data": _describe(run)["data"],
    }
    seen = dataset.pictured_taxa
    write_parquet(seen.with_columns(taxon_id=seen["taxon_id"].rank("ordinal").cast(seen["taxon_id"].dtype) - 1),
                  run.model_dir / "taxa.parquet")  # fmt: skip
    weights = take_off(model)
    final = dataclasses.replace(model, facts=facts)
    save_head_banks(make_head_banks(weights, dataset, table, final.fingerprint), run.model_dir)
    save_model(final, run.model_dir)
