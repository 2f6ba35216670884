"""Recipes: named values that hold everything a training run is a function of, besides the data set.

A variant is ``dataclasses.replace`` of another. No torch here: recipes are read to print help.
"""

import dataclasses
from dataclasses import dataclass, field
from typing import Literal

from linnaea.taxonomy.taxon import TRAINING_TEXT_TYPES, TextType


@dataclass(frozen=True, kw_only=True)
class Tower:
    """The model: a published one to start from, or a new one."""

    start: str = ""
    """Model to start from (open_clip name, hub, folder); empty: a new one with a vocabulary of its own."""
    pretrained: str = ""
    """open_clip's tag of the start weights."""
    image_size: int = 64
    """Input of a new image tower, pixels."""
    backbone: str = ""
    """timm architecture of a new image tower; empty: a vision transformer."""
    patch_size: int = 8
    """Patch of a new vision transformer, pixels."""
    width: int = 128
    """Width of both towers of a new model, and of the joint space."""
    image_layers: int = 4
    """Layers of a new vision transformer."""
    text_layers: int = 2
    """Layers of the new text tower."""
    context_length: int = 64
    """Tokens of the new text tower."""
    n_merges: int = 1000
    """Merges of the new vocabulary."""


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
    """0: taxa as frequent as in the data; 1: all equally; between: their numbers to the power of 1 - this."""
    source_balance: float = 0.0
    """The same for the sources of the pictures."""
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
    objective: Literal["info_nce", "multi_positive", "sigmoid"] = "info_nce"
    """info_nce is CLIP's; multi_positive makes samples of one taxon no negatives; sigmoid is SigLIP's."""
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
    """Towers that stay as they are."""
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
        if self.feed.batch_size < 2:
            raise ValueError("a contrastive batch needs at least 2 samples")
        if self.descent.steps <= 0 and self.descent.epochs <= 0:
            raise ValueError("give steps or epochs above 0")
        if not self.feed.text_types:
            raise ValueError("give at least one text type")
        if not 0 < self.feed.crop_scale[0] <= self.feed.crop_scale[1] <= 1:
            raise ValueError("crop scale: two shares of the picture, above 0, at most 1, the smaller first")
        if not 0 < self.feed.crop_ratio[0] <= self.feed.crop_ratio[1]:
            raise ValueError("crop ratio: two numbers above 0, the smaller first")
        if not 1 <= self.descent.accumulate <= self.feed.batch_size:
            raise ValueError("accumulate: at least 1 part, at most as many as there are samples in a batch")
        if not 0 <= self.descent.keep_parts <= self.descent.accumulate:
            raise ValueError("keep parts: at most as many as accumulate")
        if not 0 < self.descent.layer_decay <= 1:
            raise ValueError("layer decay: above 0, at most 1 (none)")
        if self.descent.lora_rank < 0:
            raise ValueError("lora rank: 0 (none) or more")
        if not 0 <= self.descent.average < 1:
            raise ValueError("average: a decay from 0 (none) to below 1")

    def n_steps(self, n_samples: int) -> int:
        """Steps for a data set of ``n_samples``."""
        return self.descent.steps or max(1, round(self.descent.epochs * n_samples / self.feed.batch_size))


TINY = Recipe(
    tower=Tower(image_size=64, patch_size=8, width=128, image_layers=4, text_layers=2, n_merges=1000),
    feed=Feed(batch_size=256, crop_scale=(0.6, 1.0), flip=True),
    descent=Descent(steps=100, lr=2e-3, warmup=20, weight_decay=0.05, clip_norm=1.0, checkpoint_every=100),
)
SMALL = dataclasses.replace(
    TINY,
    tower=Tower(image_size=96, backbone="resnet18", width=192, text_layers=2, n_merges=2000),
    feed=Feed(batch_size=128, crop_scale=(0.5, 1.0), flip=True),
    descent=Descent(epochs=8.0, lr=1e-3, warmup=60, weight_decay=0.05, clip_norm=1.0),
)
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

RECIPES: dict[str, Recipe] = {"tiny": TINY, "small": SMALL, "bioclip-vit-b16": BIOCLIP_VIT_B16}

NOTES: dict[str, str] = {
    "tiny": "1.5 M parameters from nothing at 64 px, for the demo: minutes on 2 cores (figures: docs/log.md)",
    "small": "a small convolutional tower from nothing at 96 px, for some thousand photographs on a CPU",
    "bioclip-vit-b16": (
        "the paper's settings (arXiv 2311.18803, section 4.1): OpenAI's ViT-B/16, global batch 32,768, 100 epochs;"
        " the authors took 4 days on 8 A100-80GB and score 38.1 zero-shot on Rare Species. Not run by us."
    ),
}
"""What each recipe is for, its cost and its score; only what was measured or published."""
