"""The named recipes, with their purpose, command, cost and score as far as measured or published."""

import difflib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from linnaea.errors import UsageError
from linnaea.model.open import names_weights
from linnaea.taxonomy.taxon import SHUFFLED_TEXT_TYPES, TRAINING_TEXT_TYPES, TextType
from linnaea.train.recipe import Descent, Feed, Recipe, Tower, vary

TINY = Recipe(
    tower=Tower(image_size=64, patch_size=8, width=128, image_layers=4, text_layers=2, n_merges=1000),
    feed=Feed(batch_size=256, crop_scale=(0.6, 1.0), flip=True),
    descent=Descent(steps=160, lr=2e-3, warmup=20, weight_decay=0.05, clip_norm=1.0, checkpoint_every=100),
)
"""The demo's model: ``linnaea train tiny --data DATA --output RUN``, minutes on two cores; scores: ``docs/log.md``."""
SMALL = replace(
    TINY,
    tower=Tower(image_size=96, backbone="resnet18", width=192, text_layers=2, n_merges=2000),
    feed=Feed(batch_size=128, crop_scale=(0.5, 1.0), flip=True),
    descent=Descent(epochs=8.0, lr=1e-3, warmup=60, weight_decay=0.05, clip_norm=1.0),
)
"""A small model from scratch for a few thousand photographs.

``linnaea train small --data DATA --output RUN``; not measured.
"""
NANO_BASE = Recipe(
    tower=Tower(
        image_size=128,
        backbone="tf_efficientnet_lite1",
        backbone_weights="efficientnet-lite1-77cc7160.pth",
        width=256,
        text_width=128,
        text_layers=3,
        context_length=64,
        n_merges=4000,
    ),
    feed=Feed(batch_size=128, crop_scale=(0.3, 1.0), flip=True, colour_jitter=0.3),
    descent=Descent(
        epochs=5.0,
        lr=8e-4,
        warmup=50,
        weight_decay=0.05,
        clip_norm=1.0,
        objective="hierarchical",
        class_weights=(0.0, 0.0, 0.1, 0.1, 0.3, 0.3, 1.0),
        layer_decay=0.75,
        freeze_blocks=3,
        average=0.995,
        precision="bf16",
        checkpoint_every=100,
    ),
)
"""The first of five steps to the bundled model: classes of all ranks at 128 pixels, from ImageNet weights.

``linnaea train nano-base --data DATA --output BASE --backbone-weights FILE``; all steps: ``docs/nano.md``.
"""
NANO_EYE = Recipe(
    tower=Tower(start="nano-base", resize_to=224),
    feed=replace(NANO_BASE.feed, taxon_balance=-0.25),
    descent=replace(
        NANO_BASE.descent,
        epochs=30.0,
        lr=5e-4,
        warmup=130,
        label_smoothing=0.1,
        cutmix=0.4,
        average=0.998,
        checkpoint_every=50,
    ),
)
"""The second step: the same at 224 pixels, with CutMix and label smoothing.

``linnaea train nano-eye --start BASE --data DATA --output EYE``; all steps: ``docs/nano.md``.
"""
NANO_WIDE = replace(
    NANO_EYE,
    tower=replace(
        NANO_EYE.tower, start="nano-eye", resize_to=192, distil_from="efficientnet-lite1-77cc7160.pth", blend=0.4
    ),
    feed=replace(NANO_EYE.feed, taxon_balance=0.0),
    descent=replace(
        NANO_EYE.descent,
        epochs=4.0,
        lr=3e-4,
        warmup=40,
        class_weights=(0.0, 0.0, 0.2, 0.2, 0.3, 0.3, 1.0),
        cutmix=0.2,
        imprint=True,
        distil=2.0,
        average=0.99,
    ),
)
"""The third step: more kinds of organisms, from version 4 blended with its ImageNet start, whose view it keeps.

``linnaea train nano-wide --start V4 --distil-from FILE --data DATA --output WIDE``; all steps: ``docs/nano.md``.
"""
NANO_COOL = replace(
    NANO_WIDE,
    tower=replace(NANO_WIDE.tower, start="nano-wide", resize_to=224, blend=0.0),
    descent=replace(
        NANO_WIDE.descent,
        epochs=2.0,
        lr=2e-4,
        warmup=20,
        label_smoothing=0.0,
        cutmix=0.0,
        imprint=False,
        average=0.98,
        checkpoint_every=20,
    ),
)
"""The fourth, short step at 224 pixels: whole photographs and hard labels, for better-calibrated confidence.

``linnaea train nano-cool --start WIDE --distil-from FILE --data DATA --output COOL``; all steps: ``docs/nano.md``.
"""
NANO = Recipe(
    tower=Tower(
        start="nano-cool",
        resize_to=256,
        new_text=True,
        text_width=192,
        text_layers=3,
        n_merges=6000,
        vocabulary="inat",
    ),
    feed=Feed(
        batch_size=512,
        crop_scale=(0.6, 1.0),
        flip=True,
        colour_jitter=0.2,
        cached_views=1,
        text_types=(*4 * (TextType.TAXON_COM,), *TRAINING_TEXT_TYPES),
        relatives="inat",
        relatives_per_step=512,
    ),
    descent=Descent(
        epochs=40.0,
        lr=2e-3,
        warmup=80,
        weight_decay=0.05,
        clip_norm=1.0,
        objective="level_restricted",
        teach=10.0,
        freeze=("image",),
        average=0.98,
        precision="bf16",
        checkpoint_every=25,
    ),
)
"""The last step: train a new text tower against the frozen image tower and its class heads.

``linnaea train nano --start COOL --data DATA --output NANO``, then ``linnaea pack NANO``. Scores: ``docs/nano.md``.
"""
BIOCLIP_VIT_B16 = Recipe(
    tower=Tower(start="ViT-B-16", pretrained="openai"),
    feed=Feed(batch_size=32_768),
    descent=Descent(
        epochs=100.0,
        lr=1e-4,
        warmup=1000,
        weight_decay=0.2,
        beta1=0.9,
        beta2=0.98,
        eps=1e-6,
        precision="bf16",
        grad_checkpointing=True,
        checkpoint_every=300,
    ),
)
"""BioCLIP on TreeOfLife-10M (arXiv 2311.18803, section 4.1).

``torchrun --nproc-per-node 8 -m linnaea train bioclip-vit-b16 --data TREE_OF_LIFE_10M --output RUN``. The authors took
4 days on 8 A100-80GB and score 38.1 zero-shot on Rare Species (mean of ten tasks 39.4). By us: not measured.
"""
BIOCLIP_INAT21 = replace(BIOCLIP_VIT_B16, feed=Feed(batch_size=16_384))
"""BioCLIP's settings on iNat21 alone.

``linnaea train bioclip-inat21 --data INAT21 --output RUN``. The authors took 2 days on 4 A100, chose epoch 65 by the
validation loss and score 21.3 zero-shot on Rare Species (mean of ten tasks 31.7). By us: not measured.
"""
ABLATION_TEXT = {
    **{f"ablation-text-{name}": replace(BIOCLIP_INAT21, feed=Feed(batch_size=16_384, text_types=(name,)))
       for name in TRAINING_TEXT_TYPES},
    "ablation-text-mixture": BIOCLIP_INAT21,
}  # fmt: skip
"""The paper's ablation of text types: one text type at a time and their mixture, on a tenth of the tree.

``linnaea train ablation-text-taxon_com --data TREE_OF_LIFE_1M --output RUN``. The authors used 4 GPUs and 100 epochs;
zero-shot on Rare Species with the text type of training: com 24.9, sci 22.3, taxon 26.6, sci_com 28.0, taxon_com 30.4;
the mixture 26.1, 24.9, 26.7, 29.5, 30.9. By us: not measured at that size; docs/claims.md has a small grid.
"""
ABLATION_BIDIRECTIONAL = replace(BIOCLIP_INAT21, tower=replace(BIOCLIP_INAT21.tower, bidirectional=True))
"""The paper's study of the text tower: each token sees the whole caption, not only what precedes it.

``linnaea train ablation-text-bidirectional --data TREE_OF_LIFE_1M --output RUN``; compare with
``ablation-text-mixture``. By us: not measured at that size; at a small one there was no difference beyond error
(docs/claims.md).
"""
ABLATION_SHUFFLED = replace(BIOCLIP_INAT21, feed=Feed(batch_size=16_384, text_types=SHUFFLED_TEXT_TYPES))
"""The paper's study of the order of ranks: captions with a lineage write its ranks in one other order.

``linnaea train ablation-ranks-shuffled --data TREE_OF_LIFE_1M --output RUN``, and ask such a model with captions of the
same order: ``linnaea evaluate RUN --text-type taxon_com_shuffled``. Compare with ``ablation-text-mixture``. By us: not
measured at that size; at a small one there was no difference beyond error (docs/claims.md).
"""
BASELINE_CROSS_ENTROPY = replace(BIOCLIP_INAT21, descent=replace(BIOCLIP_VIT_B16.descent, objective="cross_entropy"))
"""The paper's baseline with a class for each species instead of captions.

``linnaea train baseline-cross-entropy --data TREE_OF_LIFE_1M --output RUN``. The paper's mean over ten tasks: 16.5
1-shot, 26.2 5-shot (CLIP's objective: 44.7, 63.8); quoted from memory. By us: not measured at that size.
"""
BASELINE_HIERARCHICAL = replace(BIOCLIP_INAT21, descent=replace(BIOCLIP_VIT_B16.descent, objective="hierarchical"))
"""The paper's baseline with seven heads, one for each rank, and the sum of their cross-entropies.

``linnaea train baseline-hierarchical --data TREE_OF_LIFE_1M --output RUN``. The paper's mean over ten tasks: 19.3
1-shot, 30.5 5-shot; quoted from memory. By us: not measured at that size.
"""
BIOCLIP2_VIT_L14 = Recipe(
    tower=Tower(start="ViT-L-14", pretrained="laion2b_s32b_b82k"),
    feed=Feed(batch_size=90_112, replay="replay", replay_batch_size=10_240),
    descent=replace(BIOCLIP_VIT_B16.descent, epochs=30.0, warmup=1875),
)
"""BioCLIP 2 on TreeOfLife-200M, with general captions replayed (arXiv 2505.23883).

``torchrun ... -m linnaea train bioclip2-vit-l14 --data TREE_OF_LIFE_200M --replay LAION_TARS --output RUN``. The
authors took 10 days on 32 H100-80GB and score 76.8 zero-shot on Rare Species (mean of ten tasks 55.6). By us: not
measured.
"""
FINE_TUNE = Recipe(
    tower=Tower(start="bioclip"),
    feed=Feed(batch_size=64, crop_scale=(0.4, 1.0), flip=True, colour_jitter=0.2, taxon_balance=0.5),
    descent=Descent(
        epochs=10.0,
        lr=1e-5,
        warmup=50,
        weight_decay=0.2,
        clip_norm=1.0,
        objective="multi_positive",
        average=0.99,
        checkpoint_every=100,
    ),
)
"""Fine-tune a published model on a few thousand photographs, with a low rate and strong augmentation.

``linnaea train fine-tune --data MINE --output RUN`` (``--start bioclip-2`` or ``--start ViT-B-32 --pretrained
laion2b_s34b_b79k`` for another start). Samples of one taxon are positives, because a batch holds many of few taxa. On a
GPU add ``--precision bf16``. Cost: ``--dry-run``; score: not measured (no published weights where this was written).
"""

RECIPES: dict[str, Recipe] = {
    "tiny": TINY,
    "small": SMALL,
    "nano-base": NANO_BASE,
    "nano-eye": NANO_EYE,
    "nano-wide": NANO_WIDE,
    "nano-cool": NANO_COOL,
    "nano": NANO,
    "fine-tune": FINE_TUNE,
    "bioclip-vit-b16": BIOCLIP_VIT_B16,
    "bioclip-inat21": BIOCLIP_INAT21,
    "bioclip2-vit-l14": BIOCLIP2_VIT_L14,
    "baseline-cross-entropy": BASELINE_CROSS_ENTROPY,
    "baseline-hierarchical": BASELINE_HIERARCHICAL,
    **ABLATION_TEXT,
    "ablation-text-bidirectional": ABLATION_BIDIRECTIONAL,
    "ablation-ranks-shuffled": ABLATION_SHUFFLED,
}

UNNAMED = "custom"
"""The recorded name of a recipe that is not in :data:`RECIPES`."""


def find_recipe(name: str) -> Recipe:
    """Return the recipe with this name.

    Raises:
        UsageError: There is no such recipe.
    """
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, n=2) or list(RECIPES)
        raise UsageError(f"no recipe {name!r}; did you mean {' or '.join(near)}? (linnaea list recipes)")
    return RECIPES[name]


def choose_recipe(recipe: str | Recipe, overrides: Mapping[str, Any], *, evaluates: bool) -> tuple[str, Recipe]:
    """Return a recipe's name and the recipe with ``overrides`` (:func:`linnaea.train.recipe.vary`).

    The recipe's tag of pretrained weights belongs to its own start. Another start keeps the tag only where it is an
    open_clip architecture, which needs one.

    Raises:
        UsageError: There is no such recipe, or an override does not fit it.
    """
    name, named = (recipe, find_recipe(recipe)) if isinstance(recipe, str) else (UNNAMED, recipe)
    if "pretrained" not in overrides and names_weights(str(overrides.get("start", ""))):
        overrides = {**overrides, "pretrained": ""}
    return name, vary(named, overrides, evaluates=evaluates)


_ABLATION_SCORES = {"com": "24.9", "sci": "22.3", "taxon": "26.6", "sci_com": "28.0", "taxon_com": "30.4",
                    "mixture": "26.1 to 30.9"}  # fmt: skip

NOTES: dict[str, str] = {
    "tiny": "1.5 M parameters from scratch at 64 px, for the demo; minutes on 2 cores (figures: docs/log.md)",
    "small": "a small convolutional tower from scratch at 96 px, for a few thousand photographs on a CPU; not measured",
    "nano-base": "the bundled model, first step: classes of all ranks at 128 px, from ImageNet weights (docs/nano.md)",
    "nano-eye": "second step: the same at 224 px, 30 epochs; a GPU helps (--start a run of nano-base)",
    "nano-wide": "third step: more kinds of organisms (--start version 4, --distil-from its ImageNet weights)",
    "nano-cool": "fourth step: 2 epochs without CutMix and label smoothing (--start a run of nano-wide)",
    "nano": "last step: names against a frozen image tower (--start a run of nano-cool)",
    "fine-tune": "BioCLIP (or --start another) on a few thousand of your photographs, on one GPU or a CPU;"
    " not measured",
    "bioclip-vit-b16": (
        "the paper's settings (arXiv 2311.18803, section 4.1): OpenAI's ViT-B/16, global batch 32,768, 100 epochs;"
        " the authors took 4 days on 8 A100-80GB and score 38.1 zero-shot on Rare Species. Not run by us."
    ),
    "bioclip-inat21": "the same on iNat21 alone, batch 16,384; the authors took 2 days on 4 A100 and score 21.3 on"
    " Rare Species. Not run by us.",
    "bioclip2-vit-l14": "BioCLIP 2 (arXiv 2505.23883): LAION's ViT-L/14, batch 90,112 and 10,240 general captions"
    " (--replay DIR); 10 days on 32 H100, 76.8 on Rare Species. Not run by us.",
    "baseline-cross-entropy": "the paper's baseline: a class per species, no captions; published mean of ten tasks 16.5"
    " 1-shot and 26.2 5-shot. Not run by us at that size.",
    "baseline-hierarchical": "the paper's baseline: seven heads, one per rank; published mean of ten tasks 19.3 1-shot"
    " and 30.5 5-shot. Not run by us at that size.",
    **{
        f"ablation-text-{name}": f"captions: {name}; 100 epochs on a tenth of the tree, batch 16,384; published"
        f" zero-shot on Rare Species, with the caption type of training: {score}. Not run by us at that size."
        for name, score in _ABLATION_SCORES.items()
    },
    "ablation-text-bidirectional": "the text tower sees the whole caption at once (no causal mask); compare with"
    " ablation-text-mixture. Not run by us at that size; at a small one no difference (docs/claims.md).",
    "ablation-ranks-shuffled": "captions write the ranks in another order (evaluate with --text-type"
    " taxon_com_shuffled); compare with ablation-text-mixture. Not run by us at that size; at a small one no difference"
    " (docs/claims.md).",
}
"""Each recipe's purpose, cost and score, as measured or published."""
