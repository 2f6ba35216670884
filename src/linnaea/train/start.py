"""Prepare a model for its first step: load or make it, choose the trained weights and how it is computed."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from linnaea.data.shards import DataSet, taxa_from_table
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
    see_both_ways,
)
from linnaea.model.float8 import has_float8
from linnaea.model.folders import DEFAULT_MODEL
from linnaea.model.load import TaxonModel, choose_device
from linnaea.model.open import load_model
from linnaea.model.text import TokenTable
from linnaea.model.tokenizer import train_bpe
from linnaea.model.training_form import has_plain_vision, take_training_form
from linnaea.predict.label_lists import taxa_of_checklist
from linnaea.predict.labels import LabelBank
from linnaea.storage import explain_os_errors, write_atomically
from linnaea.taxonomy.checklists.store import load_checklist
from linnaea.taxonomy.ranks import Rank
from linnaea.taxonomy.taxon import PHOTO_TEMPLATE, TextType
from linnaea.train.heads import RANKS_OF, add_teachers, prepare, start_class_heads
from linnaea.train.parallel import Peers, Spread
from linnaea.train.recipe import Descent, Recipe, Tower
from linnaea.train.recipes import RECIPES
from linnaea.train.tuning import add_low_rank, compile_towers, compiles, freeze, freeze_blocks


def make_vocabulary(tower: Tower, dataset: DataSet) -> bytes:
    """Train a vocabulary (:func:`linnaea.model.tokenizer.train_bpe`) on a checklist's names or the data set's."""
    names = taxa_of_checklist(load_checklist(tower.vocabulary)) if tower.vocabulary else dataset.pictured_taxa
    captions = (taxon.caption(TextType.TAXON_COM, PHOTO_TEMPLATE) for taxon in taxa_from_table(names))
    return train_bpe(captions, tower.n_merges)


def learn_vocabulary_once(path: Path, tower: Tower, dataset: DataSet) -> bytes:
    """Return the vocabulary at ``path``; make and write it first if the file does not exist."""
    if not path.exists():
        learnt = make_vocabulary(tower, dataset)
        with explain_os_errors(path):
            write_atomically(path, learnt)
    return path.read_bytes()


def make_start(
    tower: Tower,
    dataset: DataSet,
    *,
    seed: int,
    device: str,
    vocabulary: Callable[[Tower, DataSet], bytes] = make_vocabulary,
) -> TaxonModel:
    """Load the model to start from, or make a new one.

    ``vocabulary`` is called only for a model that gets a new vocabulary.

    Raises:
        LinnaeaError: There is no such model, or its image tower cannot be changed as the recipe asks.
    """
    if tower.start in RECIPES and tower.start != DEFAULT_MODEL and not Path(tower.start).is_dir():
        raise LinnaeaError(f"this recipe starts from a run of {tower.start}; give the folder of that run with --start")
    text_width = tower.text_width or tower.width
    text = TextTower(
        context_length=tower.context_length, width=text_width, layers=tower.text_layers, heads=text_width // 32,
        no_causal_mask=tower.bidirectional,
    )  # fmt: skip
    if tower.start:
        model = load_model(tower.start, pretrained=tower.pretrained or None, device=device)
        model = at_image_size(model, tower.resize_to) if tower.resize_to else model
        if tower.new_text:
            return renew_text(model, text, vocabulary(tower, dataset), seed=seed)
        return see_both_ways(model) if tower.bidirectional else model
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
        visual: Any = model.clip.visual
        load_backbone(visual.trunk, Path(tower.backbone_weights))
    where = choose_device(device)
    return replace(model, clip=model.clip.to(where), device=where)


def make_ready(
    model: TaxonModel, recipe: Recipe, table: TokenTable, dataset: DataSet, banks: dict[Rank, LabelBank]
) -> TaxonModel:
    """Return the model with the parameters that its objective needs (:mod:`linnaea.train.heads`).

    These are a bias, class heads, a projection or teachers. ``banks`` are the class heads of the run that this one
    starts from. The new parameters are trained even if the towers are frozen; teachers are constant.
    """
    descent = recipe.descent
    model = prepare(model, table, descent, with_replay=bool(recipe.feed.replay), seed=recipe.seed)
    if descent.objective in RANKS_OF:
        start_class_heads(model, dataset, table, banks)
    if descent.teach:
        add_teachers(model, dataset, table, banks)
    return model


def tune(
    model: TaxonModel, descent: Descent, *, peers: Peers, spread: Spread, on_notice: Callable[[str], None]
) -> None:
    """Set, in place, which weights of the towers are trained and how the towers are computed.

    Raises:
        LinnaeaError: The image tower has too few blocks to freeze, low-rank training would be sharded, or the device or
            the image tower cannot multiply in float8.
    """
    if descent.grad_checkpointing:
        model.clip.set_grad_checkpointing(True)  # type: ignore[operator]
    freeze(model.clip, descent.freeze)
    freeze_blocks(model.clip, descent.freeze_blocks)
    if descent.lora_rank:
        if spread == "fsdp" and peers.size > 1:
            raise peers.stop("--lora-rank leaves little to shard with --spread fsdp; use --spread ddp")
        add_low_rank(model.clip, descent.lora_rank)
    _check_float8(model, descent, peers)
    why_not = compile_towers(model, float8=descent.float8) if compiles(descent, model.device) else ""
    if why_not:
        on_notice(why_not)
    if model.device.type == "cuda" and (why_not or not compiles(descent, model.device)):
        take_training_form(model.clip, model.preprocess, compiled=False, float8=descent.float8)


def _check_float8(model: TaxonModel, descent: Descent, peers: Peers) -> None:
    if not descent.float8:
        return
    if not has_float8(model.device):
        why = f"needs an NVIDIA GPU that multiplies in 8 bits (Ada, Hopper or later); this run is on {model.device}"
        raise peers.stop(f"--float8 {why}")
    if not has_plain_vision(model.clip):
        raise peers.stop("--float8 needs one of open_clip's vision transformers; this image tower is of another kind")
