"""Recipes: named values that hold everything a training run is a function of, besides the data set.

A variant is ``dataclasses.replace`` of another. No torch here: recipes are read to print help.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

from linnaea.taxonomy.taxon import TRAINING_TEXT_TYPES, TextType


@dataclass(frozen=True, kw_only=True)
class Tower:
    """The model: a published one to start from, or a new one."""

    start: str = ""
    """Model to start from (open_clip name, hub, folder); empty: a new one with a vocabulary of its own."""
    pretrained: str = ""
    """open_clip's tag of the start weights."""
    resize_to: int = 0
    """Input of the start's image tower, pixels, where it is convolutional and shall have another; 0: as it is."""
    image_size: int = 64
    """Input of a new image tower, pixels."""
    backbone: str = ""
    """timm architecture of a new image tower; empty: a vision transformer."""
    backbone_weights: str = ""
    """File of trained weights for the backbone (torch's or safetensors); empty: it starts from nothing."""
    patch_size: int = 8
    """Patch of a new vision transformer, pixels."""
    width: int = 128
    """Width of both towers of a new model, and of the joint space."""
    text_width: int = 0
    """Width of the new text tower, where it is another; 0: the same."""
    image_layers: int = 4
    """Layers of a new vision transformer."""
    text_layers: int = 2
    """Layers of the new text tower."""
    context_length: int = 64
    """Tokens of the new text tower."""
    new_text: bool = False
    """Give the start model, too, a new text tower and a new vocabulary."""
    n_merges: int = 1000
    """Merges of the new vocabulary."""
    vocabulary: str = ""
    """Checklist (name or file) whose species' names make the new vocabulary; empty: the taxa of the data set."""


@dataclass(frozen=True, kw_only=True)
class Feed:
    """What the model sees, and in which order."""

    batch_size: int = 256
    """Samples per step."""
    split: str = "train"
    """Split of the data set to train on."""
    sources: tuple[str, ...] = ()
    """Sources to train on; none: all."""
    text_types: tuple[TextType, ...] = TRAINING_TEXT_TYPES
    """Caption forms, one drawn for each sample."""
    text_per_batch: bool = False
    """Draw one caption form for the whole batch, as the reference code does."""
    crop_scale: tuple[float, float] = (0.9, 1.0)
    """Area of the random crop as a share of the picture."""
    crop_ratio: tuple[float, float] = (0.75, 4 / 3)
    """Aspect ratio of the random crop."""
    flip: bool = False
    """Mirror half of the pictures."""
    colour_jitter: float = 0.0
    """Strength of random changes of brightness, contrast and saturation."""
    shuffle_window: int = 0
    """Samples within which the order is shuffled after the shards are (0: all; network storage wants less)."""
    taxon_balance: float = 0.0
    """0: taxa as frequent as in the data; 1: all equally; between: their numbers to the power of 1 - this. Below 0:
    those with many pictures even more, so that species seen once or twice cost less of the time."""
    source_balance: float = 0.0
    """The same for the sources of the pictures."""
    replay: str = ""
    """Folder of general pictures with captions (WebDataset tars of .jpg and .txt) to train on beside; empty: none."""
    replay_batch_size: int = 0
    """Of those, samples per step."""
    relatives: str = ""
    """Checklist (name or file) whose species without photographs are taught beside, by name, to lie among their
    relatives (with ``teach``); empty: none."""
    relatives_per_step: int = 0
    """Of their names, how many per step."""
    cached_views: int = 0
    """With a frozen image tower: augmented views of each picture that are encoded once, before the first step; the
    steps read their vectors. 0: pictures are read and encoded in every step."""
    exact_resize: bool = False
    """Full decoding and Pillow's bicubic, pixel for pixel as open_clip; several times slower."""


@dataclass(frozen=True, kw_only=True)
class Descent:
    """The optimiser and its schedule."""

    steps: int = 0
    """Steps in all; 0: as many as ``epochs`` takes."""
    epochs: float = 1.0
    """Passes over the data, where ``steps`` is 0."""
    lr: float = 1e-3
    """Peak learning rate."""
    warmup: int = 100
    """Steps of linear warm-up; then a cosine to zero."""
    weight_decay: float = 0.2
    """On matrices only: not on gains, biases and the logit scale."""
    beta1: float = 0.9
    beta2: float = 0.98
    eps: float = 1e-6
    clip_norm: float = 0.0
    """Largest norm of the gradient; 0: not clipped."""
    objective: Literal[
        "info_nce",
        "multi_positive",
        "rank_positive",
        "level_restricted",
        "sigmoid",
        "cross_entropy",
        "hierarchical",
    ] = "info_nce"
    """info_nce is CLIP's; multi_positive makes samples of one taxon no negatives; rank_positive makes relatives share
    the target; level_restricted compares within each rank; sigmoid is SigLIP's; cross_entropy has a class for each
    species and hierarchical for each taxon of each rank, and neither reads captions."""
    rank_weights: tuple[float, float, float, float, float, float, float] = (0.0, 0.0, 0.0, 0.0, 0.1, 0.2, 1.0)
    """Weights of kingdom to species, for rank_positive and level_restricted."""
    class_weights: tuple[float, float, float, float, float, float, float] = (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
    """Weights of kingdom to species, for hierarchical; the paper's baseline sums them as they are."""
    label_smoothing: float = 0.0
    """With cross_entropy and hierarchical: the share of the target that is spread over all classes."""
    cutmix: float = 0.0
    """With these two: the share of the steps in which a box of each picture is another's, and as much of its loss."""
    teach: float = 0.0
    """With level_restricted: weight of each caption's distance (1 - cosine) to its taxon's vector among the class heads
    of the run that it starts from."""
    precision: Literal["float32", "bf16"] = "float32"
    """bf16 is automatic mixed precision."""
    grad_checkpointing: bool = False
    """Less memory for more work."""
    accumulate: int = 1
    """Parts in which a batch goes through the towers; the loss is over all of it. Less memory for a third more work."""
    keep_parts: int = 0
    """Of these parts as many, the first, keep their activations and need no second pass: as far as memory allows."""
    compile: bool = False
    """Compile the towers; goes on without where the machine has no compiler."""
    layer_decay: float = 1.0
    """Learning rate of a block as a share of the block's above it; 1: the same everywhere."""
    freeze: tuple[Literal["image", "text"], ...] = ()
    """Towers that stay as they are, statistics of BatchNorm included."""
    freeze_blocks: int = 0
    """Of the image tower's blocks (stages, in timm's convolutional ones) as many, the first, stay as they are."""
    lora_rank: int = 0
    """Train low-rank additions to the blocks' matrices instead of these; merged into them at the end. 0: none."""
    average: float = 0.0
    """Decay of a moving average of the weights, which becomes the model (say 0.999); 0: none."""
    checkpoint_every: int = 200
    """Steps between checkpoints."""
    evaluate_every: int = 0
    """Steps between evaluations, where there are any; 0: at the first and the last."""
    log_every: int = 10
    """Steps between lines of the log."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A training run."""

    tower: Tower = field(default_factory=Tower)
    feed: Feed = field(default_factory=Feed)
    descent: Descent = field(default_factory=Descent)
    seed: int = 0
    """Seed of weights, order and augmentation."""

    def __post_init__(self) -> None:
        for is_wrong, what in self._checks():
            if is_wrong:
                raise ValueError(what)

    def _checks(self) -> Iterator[tuple[bool, str]]:
        feed, descent = self.feed, self.descent
        yield feed.batch_size < 2, "a contrastive batch needs at least 2 samples"
        yield descent.steps <= 0 and descent.epochs <= 0, "give steps or epochs above 0"
        yield not feed.text_types, "give at least one text type"
        yield (
            not 0 < feed.crop_scale[0] <= feed.crop_scale[1] <= 1,
            "crop scale: two shares of the picture, above 0, at most 1, the smaller first",
        )
        yield (
            not 0 < feed.crop_ratio[0] <= feed.crop_ratio[1],
            "crop ratio: two numbers above 0, the smaller first",
        )
        yield (
            not 1 <= descent.accumulate <= feed.batch_size,
            "accumulate: at least 1 part, at most as many as there are samples in a batch",
        )
        yield (
            bool(descent.teach) and descent.objective != "level_restricted",
            "teach: with the objective level_restricted",
        )
        has_classes = descent.objective in ("cross_entropy", "hierarchical")
        yield not 0 <= descent.label_smoothing < 1, "label smoothing: from 0 (none) to below 1"
        yield not 0 <= descent.cutmix <= 1, "cutmix: a share of the steps, from 0 (none) to 1"
        yield (
            bool(descent.label_smoothing or descent.cutmix) and not has_classes,
            "label smoothing and cutmix: with the objective cross_entropy or hierarchical",
        )
        yield bool(descent.cutmix and feed.cached_views), "cutmix: of pictures, not of cached views"
        for name, weights in (("rank", descent.rank_weights), ("class", descent.class_weights)):
            yield (
                min(weights) < 0 or not any(weights),
                f"{name} weights: seven numbers, none below 0, one at least above",
            )
        yield (
            bool(feed.replay) != (feed.replay_batch_size >= 2),
            "replay: a folder and a replay batch size of at least 2, or neither",
        )
        yield (
            bool(feed.relatives) != (feed.relatives_per_step >= 1),
            "relatives: a checklist and a number per step, or neither",
        )
        yield bool(feed.relatives) and not descent.teach, "relatives: with teach"
        yield not 0 <= descent.keep_parts <= descent.accumulate, "keep parts: at most as many as accumulate"
        yield not 0 < descent.layer_decay <= 1, "layer decay: above 0, at most 1 (none)"
        yield min(descent.lora_rank, descent.freeze_blocks) < 0, "lora rank and freeze blocks: 0 (none) or more"
        yield (
            feed.cached_views < 0 or (feed.cached_views > 0 and "image" not in descent.freeze),
            "cached views: 0, or more with a frozen image tower (--freeze image)",
        )
        yield not 0 <= descent.average < 1, "average: a decay from 0 (none) to below 1"

    def n_steps(self, n_samples: int) -> int:
        """Steps for a data set of ``n_samples``."""
        return self.descent.steps or max(1, round(self.descent.epochs * n_samples / self.feed.batch_size))


TINY = Recipe(
    tower=Tower(image_size=64, patch_size=8, width=128, image_layers=4, text_layers=2, n_merges=1000),
    feed=Feed(batch_size=256, crop_scale=(0.6, 1.0), flip=True),
    descent=Descent(steps=160, lr=2e-3, warmup=20, weight_decay=0.05, clip_norm=1.0, checkpoint_every=100),
)
"""The demo's model. ``linnaea train tiny --data DATA --output RUN``; minutes on two cores; score: ``docs/log.md``."""
SMALL = replace(
    TINY,
    tower=Tower(image_size=96, backbone="resnet18", width=192, text_layers=2, n_merges=2000),
    feed=Feed(batch_size=128, crop_scale=(0.5, 1.0), flip=True),
    descent=Descent(epochs=8.0, lr=1e-3, warmup=60, weight_decay=0.05, clip_norm=1.0),
)
"""From nothing on some thousand photographs. ``linnaea train small --data DATA --output RUN``; not measured."""
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
"""First of three steps to the bundled model: classes of all ranks, at 128 pixels, from ImageNet's weights.

``linnaea train nano-base --data DATA --output BASE --backbone-weights FILE``; the whole way: ``docs/nano.md``.
"""
NANO_EYE = Recipe(
    tower=Tower(start="nano-base", resize_to=192),
    feed=replace(NANO_BASE.feed, taxon_balance=-0.25),
    descent=replace(
        NANO_BASE.descent,
        epochs=12.0,
        lr=5e-4,
        warmup=130,
        label_smoothing=0.1,
        cutmix=0.4,
        average=0.998,
        checkpoint_every=50,
    ),
)
"""Second step: the same at 192 pixels, with CutMix and smoothed labels.

``linnaea train nano-eye --start BASE --data DATA --output EYE``; the whole way: ``docs/nano.md``.
"""
NANO = Recipe(
    tower=Tower(
        start="nano-eye",
        resize_to=240,
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
        relatives_per_step=256,
    ),
    descent=Descent(
        epochs=20.0,
        lr=2e-3,
        warmup=40,
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
"""Third step: a new text tower learns the names, against the vectors of the image tower and of its class heads.

``linnaea train nano --start EYE --data DATA --output NANO``, then ``linnaea pack NANO``. Scores: ``docs/nano.md``.
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
"""The same on iNat21 alone.

``linnaea train bioclip-inat21 --data INAT21 --output RUN``. The authors took 2 days on 4 A100, chose epoch 65 by the
validation loss and score 21.3 zero-shot on Rare Species (mean of ten tasks 31.7). By us: not measured.
"""
ABLATION_TEXT = {
    **{f"ablation-text-{name}": replace(BIOCLIP_INAT21, feed=Feed(batch_size=16_384, text_types=(name,)))
       for name in TRAINING_TEXT_TYPES},
    "ablation-text-mixture": BIOCLIP_INAT21,
}  # fmt: skip
"""One text type at a time, and their mixture, on a tenth of the tree (the paper's ablation of text types).

``linnaea train ablation-text-taxon_com --data TREE_OF_LIFE_1M --output RUN``. The authors used 4 GPUs and 100 epochs;
zero-shot on Rare Species, asked as trained: com 24.9, sci 22.3, taxon 26.6, sci_com 28.0, taxon_com 30.4; the mixture
26.1, 24.9, 26.7, 29.5, 30.9. By us: not measured at that size; docs/claims.md has a small grid.
"""
BASELINE_CROSS_ENTROPY = replace(BIOCLIP_INAT21, descent=replace(BIOCLIP_VIT_B16.descent, objective="cross_entropy"))
"""A class for each species in place of captions.

``linnaea train baseline-cross-entropy --data TREE_OF_LIFE_1M --output RUN``. The paper's mean over ten tasks: 16.5
1-shot, 26.2 5-shot (CLIP's objective: 44.7, 63.8); quoted from memory. By us: not measured at that size.
"""
BASELINE_HIERARCHICAL = replace(BIOCLIP_INAT21, descent=replace(BIOCLIP_VIT_B16.descent, objective="hierarchical"))
"""Seven heads, one for each rank; their cross-entropies summed.

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
"""A published model made to fit a few thousand photographs of one's own; low rate, strong augmentation.

``linnaea train fine-tune --data MINE --output RUN`` (``--start bioclip-2`` or ``--start ViT-B-32 --pretrained
laion2b_s34b_b79k`` for another start). Samples of one taxon are no negatives, since a batch holds many of few taxa. On
a GPU add ``--precision bf16``. Cost: ``--dry-run``; score: not measured (no published weights where this was written).
"""

RECIPES: dict[str, Recipe] = {
    "tiny": TINY,
    "small": SMALL,
    "nano-base": NANO_BASE,
    "nano-eye": NANO_EYE,
    "nano": NANO,
    "fine-tune": FINE_TUNE,
    "bioclip-vit-b16": BIOCLIP_VIT_B16,
    "bioclip-inat21": BIOCLIP_INAT21,
    "bioclip2-vit-l14": BIOCLIP2_VIT_L14,
    "baseline-cross-entropy": BASELINE_CROSS_ENTROPY,
    "baseline-hierarchical": BASELINE_HIERARCHICAL,
    **ABLATION_TEXT,
}

_ABLATION_SCORES = {"com": "24.9", "sci": "22.3", "taxon": "26.6", "sci_com": "28.0", "taxon_com": "30.4",
                    "mixture": "26.1 to 30.9"}  # fmt: skip

NOTES: dict[str, str] = {
    "tiny": "1.5 M parameters from nothing at 64 px, for the demo: minutes on 2 cores (figures: docs/log.md)",
    "small": "a small convolutional tower from nothing at 96 px, for some thousand photographs on a CPU; not measured",
    "nano-base": "the bundled model, first step: classes of all ranks at 128 px, from ImageNet weights (docs/nano.md)",
    "nano-eye": "second step: the same at 192 px (--start a run of nano-base)",
    "nano": "third step: names against a frozen image tower (--start a run of nano-eye)",
    "fine-tune": "BioCLIP (or --start another) on a few thousand photographs of one's own, one GPU or a CPU;"
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
    "baseline-hierarchical": "the paper's baseline: seven heads, one a rank; published mean of ten tasks 19.3 1-shot"
    " and 30.5 5-shot. Not run by us at that size.",
    **{
        f"ablation-text-{name}": f"captions: {name}; 100 epochs of a tenth of the tree, batch 16,384; published"
        f" zero-shot on Rare Species, asked as trained: {score}. Not run by us at that size."
        for name, score in _ABLATION_SCORES.items()
    },
}
"""What each recipe is for, its cost and its score; only what was measured or published."""
