"""Recipes: all settings of a training run besides the data set, as values.

``dataclasses.replace`` makes a variant. This module does not import torch, because ``--help`` reads recipes.
"""

import difflib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from linnaea.errors import UsageError
from linnaea.taxonomy.taxon import TRAINING_TEXT_TYPES, TextType


@dataclass(frozen=True, kw_only=True)
class Tower:
    """The model: one to start from, or a new one."""

    start: str = ""
    """Model to start from (open_clip name, hub, folder); empty: a new one with its own vocabulary."""
    pretrained: str = ""
    """Weights of the model to start from: an open_clip tag or a file."""
    resize_to: int = 0
    """Input size of the start's image tower, in pixels; only convolutional towers can change it. 0: unchanged."""
    image_size: int = 64
    """Input size of a new image tower, in pixels."""
    backbone: str = ""
    """timm architecture of a new image tower; empty: a vision transformer."""
    backbone_weights: str = ""
    """File of trained weights for the backbone (torch or safetensors); empty: random weights."""
    distil_from: str = ""
    """Another image tower, for --distil and --blend: a model, or a file of trained weights of the start's backbone."""
    blend: float = 0.0
    """Share of the weights of --distil-from in the image tower at the start, from 0 (none) to below 1. A mixture of
    a tower's weights and those that it was tuned from keeps the knowledge of both (WiSE-FT, arXiv 2109.01903)."""
    patch_size: int = 8
    """Patch size of a new vision transformer, in pixels."""
    width: int = 128
    """Width of both towers of a new model, and of the joint space."""
    text_width: int = 0
    """Width of the new text tower if it differs; 0: the same."""
    image_layers: int = 4
    """Layers of a new vision transformer."""
    text_layers: int = 2
    """Layers of the new text tower."""
    context_length: int = 64
    """Context length of the new text tower, in tokens."""
    new_text: bool = False
    """Replace the text tower and vocabulary of the model to start from by new ones."""
    bidirectional: bool = False
    """Let every token of the text tower, new or that of the start, see the whole caption (no causal mask)."""
    n_merges: int = 1000
    """Number of merges in the new vocabulary."""
    vocabulary: str = ""
    """Checklist (name or file) whose species' names train the new vocabulary; empty: the taxa of the data set."""


@dataclass(frozen=True, kw_only=True)
class Feed:
    """The training samples and their order."""

    batch_size: int = 256
    """Samples per step."""
    split: str = "train"
    """Split of the data set to train on."""
    sources: tuple[str, ...] = ()
    """Sources to train on; empty: all."""
    text_types: tuple[TextType, ...] = TRAINING_TEXT_TYPES
    """Caption types; one is drawn for each sample."""
    text_per_batch: bool = False
    """Draw one caption type for the whole batch, as the reference code does."""
    crop_scale: tuple[float, float] = (0.9, 1.0)
    """Area of the random crop as a share of the picture."""
    crop_ratio: tuple[float, float] = (0.75, 4 / 3)
    """Aspect ratio of the random crop."""
    flip: bool = False
    """Mirror half of the pictures, at random."""
    colour_jitter: float = 0.0
    """Strength of random changes of brightness, contrast and saturation."""
    shuffle_window: int = 0
    """Samples per window that are shuffled after the shards are; set it for network storage. 0: shuffle all samples."""
    taxon_balance: float = 0.0
    """Balance of taxa. 0: as frequent as in the data; 1: all equally frequent; between: in proportion to their number
    of pictures to the power of 1 - this. Below 0, taxa with many pictures are even more frequent, so that less time
    goes into species with one or two pictures."""
    source_balance: float = 0.0
    """Balance of sources, like --taxon-balance."""
    replay: str = ""
    """Folder of general pictures with captions (WebDataset tars of .jpg and .txt) to add to each step; empty: none."""
    replay_batch_size: int = 0
    """Replayed samples per step."""
    relatives: str = ""
    """Checklist (name or file) whose species without photographs are also taught: their names are placed among their
    relatives (needs --teach). Empty: none."""
    relatives_per_step: int = 0
    """Names of relatives per step."""
    cached_views: int = 0
    """Augmented views of each picture that are encoded once, before the first step (needs a frozen image tower). Steps
    then read the vectors. 0: read and encode pictures in every step."""
    exact_resize: bool = False
    """Decode fully and resize with Pillow's bicubic, pixel for pixel as open_clip; several times slower."""


@dataclass(frozen=True, kw_only=True)
class Descent:
    """The optimiser and its schedule."""

    steps: int = 0
    """Total steps; 0: as many as --epochs needs."""
    epochs: float = 1.0
    """Passes over the data, if --steps is 0."""
    lr: float = 1e-3
    """Peak learning rate."""
    warmup: int = 100
    """Steps of linear warm-up, followed by a cosine to zero."""
    weight_decay: float = 0.2
    """Weight decay of matrices; gains, biases and the logit scale have none."""
    beta1: float = 0.9
    """Decay of AdamW's first moment."""
    beta2: float = 0.98
    """Decay of AdamW's second moment."""
    eps: float = 1e-6
    """Constant in AdamW's denominator."""
    clip_norm: float = 0.0
    """Maximum gradient norm; 0: no clipping."""
    objective: Literal[
        "info_nce",
        "multi_positive",
        "rank_positive",
        "level_restricted",
        "sigmoid",
        "cross_entropy",
        "hierarchical",
    ] = "info_nce"
    """Training objective. info_nce is CLIP's loss. multi_positive treats samples of one taxon as positives.
    rank_positive lets relatives share the target. level_restricted compares within each rank. sigmoid is SigLIP's loss.
    cross_entropy has a class per species, and hierarchical a class per taxon of each rank; neither reads captions."""
    rank_weights: tuple[float, float, float, float, float, float, float] = (0.0, 0.0, 0.0, 0.0, 0.1, 0.2, 1.0)
    """Weights of the ranks from kingdom to species, for rank_positive and level_restricted."""
    class_weights: tuple[float, float, float, float, float, float, float] = (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
    """Weights of the ranks from kingdom to species, for hierarchical; the paper's baseline weighs all equally."""
    imprint: bool = False
    """Start each class without a weight from the mean vector of its pictures, for cross_entropy and hierarchical
    (weight imprinting, arXiv 1712.07136); the pictures are encoded once before the first step."""
    label_smoothing: float = 0.0
    """Share of the target that is spread over all classes, for cross_entropy and hierarchical."""
    cutmix: float = 0.0
    """Share of the steps that use CutMix, for cross_entropy and hierarchical: a box of each picture is replaced by
    another's, and the loss is weighted by area."""
    teach: float = 0.0
    """Weight of each caption's distance (1 - cosine) to its taxon's vector in the class heads of the run given by
    --start, for level_restricted."""
    distil: float = 0.0
    """Weight of 1 - correlation between the similarities of a batch's pictures in this image tower and in the tower of
    --distil-from, which keeps features that the data set does not ask for. 0: none."""
    precision: Literal["float32", "bf16"] = "float32"
    """Precision of the towers; bf16 is automatic mixed precision."""
    float8: bool = False
    """Multiply in 8 bits in the image tower's blocks; needs --precision bf16 and an NVIDIA GPU (Ada, Hopper or later).
    Its speed and its effect on the loss have not been measured yet."""
    grad_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, more work."""
    accumulate: int = 1
    """Parts in which a batch goes through the towers; the loss is over the whole batch. Less memory, 1/3 more work."""
    keep_parts: int = 0
    """Number of first parts that keep their activations and need no second forward pass; raise it if memory allows."""
    compile: bool | None = None
    """Compile the towers (--compile or --no-compile); training continues without if no compiler works. None: on a GPU
    only."""
    layer_decay: float = 1.0
    """Learning rate of a block relative to the block above it; 1: the same everywhere."""
    freeze: tuple[Literal["image", "text"], ...] = ()
    """Towers to freeze, including their BatchNorm statistics."""
    freeze_blocks: int = 0
    """Number of first blocks of the image tower to freeze (stages, in timm's convolutional towers)."""
    lora_rank: int = 0
    """Rank of low-rank additions (LoRA), trained instead of the blocks' matrices and merged at the end. 0: none."""
    average: float = 0.0
    """Decay of a moving average of the weights, which becomes the model (such as 0.999); 0: none."""
    checkpoint_every: int = 200
    """Steps between checkpoints."""
    evaluate_every: int = 0
    """Steps between evaluations; 0: only at the first and the last step."""
    log_every: int = 10
    """Steps between lines of the log."""

    @property
    def reads_captions(self) -> bool:
        """Return whether the objective compares pictures with captions instead of predicting classes."""
        return self.objective not in ("cross_entropy", "hierarchical")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All settings of a training run besides the data set."""

    tower: Tower = field(default_factory=Tower)
    feed: Feed = field(default_factory=Feed)
    descent: Descent = field(default_factory=Descent)
    seed: int = 0
    """Seed of the weights, the order of samples and the augmentation."""

    def __post_init__(self) -> None:
        for is_wrong, what in self._checks():
            if is_wrong:
                raise ValueError(what)

    def _checks(self) -> Iterator[tuple[bool, str]]:
        tower, feed, descent = self.tower, self.feed, self.descent
        yield (
            bool(tower.pretrained) and not tower.start,
            "pretrained: selects the weights of the model to start from; it needs --start",
        )
        yield (
            bool(tower.resize_to or tower.new_text) and not tower.start,
            "resize to and new text: change the model to start from; they need --start",
        )
        yield bool(tower.backbone_weights) and not tower.backbone, "backbone weights: need --backbone"
        yield feed.batch_size < 2, "a contrastive batch needs at least 2 samples"
        yield descent.steps <= 0 and descent.epochs <= 0, "give steps or epochs above 0"
        yield not feed.text_types, "give at least one text type"
        yield (
            not 0 < feed.crop_scale[0] <= feed.crop_scale[1] <= 1,
            "crop scale: must be two shares of the picture, above 0 and at most 1, the smaller first",
        )
        yield (
            not 0 < feed.crop_ratio[0] <= feed.crop_ratio[1],
            "crop ratio: must be two numbers above 0, the smaller first",
        )
        yield (
            not 1 <= descent.accumulate <= feed.batch_size,
            "accumulate: must be from 1 to the number of samples in a batch",
        )
        yield (
            bool(descent.teach) and descent.objective != "level_restricted",
            "teach: needs the objective level_restricted",
        )
        yield not 0 <= descent.label_smoothing < 1, "label smoothing: must be from 0 (none) to below 1"
        yield not 0 <= descent.cutmix <= 1, "cutmix: must be a share of the steps, from 0 (none) to 1"
        yield (
            bool(descent.label_smoothing or descent.cutmix) and descent.reads_captions,
            "label smoothing and cutmix: need the objective cross_entropy or hierarchical",
        )
        yield bool(descent.cutmix and feed.cached_views), "cutmix: mixes pictures and cannot be used with cached views"
        for name, weights in (("rank", descent.rank_weights), ("class", descent.class_weights)):
            yield (
                min(weights) < 0 or not any(weights),
                f"{name} weights: must be seven numbers, none below 0 and at least one above",
            )
        yield (
            bool(feed.replay) != (feed.replay_batch_size >= 2),
            "replay: give a folder and a replay batch size of at least 2, or neither",
        )
        yield (
            bool(feed.relatives) != (feed.relatives_per_step >= 1),
            "relatives: give a checklist and a number per step, or neither",
        )
        yield bool(feed.relatives) and not descent.teach, "relatives: needs teach"
        yield from self._checks_of_the_descent()

    def _checks_of_the_descent(self) -> Iterator[tuple[bool, str]]:
        tower, feed, descent = self.tower, self.feed, self.descent
        yield (
            bool(descent.distil or tower.blend) != bool(tower.distil_from),
            "distil and blend: give a weight or a share and --distil-from, or none of them",
        )
        yield not 0 <= tower.blend < 1, "blend: must be a share from 0 (none) to below 1"
        yield bool(tower.blend) and not tower.start, "blend: changes the model to start from; it needs --start"
        yield descent.imprint and descent.reads_captions, "imprint: needs the objective cross_entropy or hierarchical"
        yield (
            descent.distil > 0 and "image" in descent.freeze,
            "distil: needs an image tower that is trained, not a frozen one",
        )
        yield descent.float8 and descent.precision != "bf16", "float8: needs --precision bf16"
        yield not 0 <= descent.keep_parts <= descent.accumulate, "keep parts: must be at most accumulate"
        yield not 0 < descent.layer_decay <= 1, "layer decay: must be above 0 and at most 1 (none)"
        yield min(descent.lora_rank, descent.freeze_blocks) < 0, "lora rank and freeze blocks: must be 0 (none) or more"
        yield (
            feed.cached_views < 0 or (feed.cached_views > 0 and "image" not in descent.freeze),
            "cached views: must be 0, or more with a frozen image tower (--freeze image)",
        )
        yield not 0 <= descent.average < 1, "average: must be a decay from 0 (none) to below 1"

    def n_steps(self, n_samples: int) -> int:
        """Return the number of steps for a data set of ``n_samples``."""
        return self.descent.steps or max(1, round(self.descent.epochs * n_samples / self.feed.batch_size))


_PARTS: dict[str, type[Tower] | type[Feed] | type[Descent]] = {"tower": Tower, "feed": Feed, "descent": Descent}
_NEW_IMAGE_TOWER = ("image_size", "backbone", "backbone_weights", "patch_size", "image_layers")
_NEW_TEXT_TOWER = ("text_width", "text_layers", "context_length", "n_merges", "vocabulary")


def vary(recipe: Recipe, overrides: Mapping[str, Any], *, evaluates: bool) -> Recipe:
    """Return the recipe with values overridden by field name, such as ``{"lr": 1e-4, "start": "nano"}``.

    ``evaluates`` says whether the run evaluates a split.

    Raises:
        UsageError: There is no such field, its value is not valid, or the run would not use it.
    """
    part_of = {field.name: part for part, cls in _PARTS.items() for field in fields(cls)}
    given: dict[str, dict[str, Any]] = {part: {} for part in _PARTS}
    for name, value in overrides.items():
        if name != "seed" and name not in part_of:
            near = difflib.get_close_matches(name, [*part_of, "seed"], n=2)
            hint = f"did you mean {' or '.join(near)}?" if near else "linnaea train RECIPE --help lists them"
            raise UsageError(f"a recipe has no value {name!r}; {hint}")
        if name != "seed":
            given[part_of[name]][name] = _read_value(_PARTS[part_of[name]], name, value)
    parts: dict[str, Any] = {part: replace(getattr(recipe, part), **values) for part, values in given.items()}
    try:
        varied = replace(recipe, **parts, seed=overrides.get("seed", recipe.seed))
    except ValueError as error:
        raise UsageError(str(error)) from error
    unused = _unused_values(varied, evaluates=evaluates)
    for name in overrides:
        if name in unused:
            raise UsageError(f"--{name.replace('_', '-')} is not used: {unused[name]}")
    return varied


def list_changes(named: Recipe, recipe: Recipe, asked: Collection[str] = ()) -> dict[str, Any]:
    """Return the values of ``recipe`` that differ from ``named``, as overrides for :func:`vary`.

    Values that were ``asked`` for by name are overrides even where they do not differ, so that a run that would not use
    them is an error.
    """
    changes = {} if recipe.seed == named.seed else {"seed": recipe.seed}
    for part, cls in _PARTS.items():
        before, now = getattr(named, part), getattr(recipe, part)
        changes |= {
            field.name: getattr(now, field.name)
            for field in fields(cls)
            if field.name in asked or getattr(now, field.name) != getattr(before, field.name)
        }
    return changes


def read_recipe(values: Mapping[str, Any]) -> Recipe:
    """Return the recipe whose values, part by part, were written as JSON."""
    parts: dict[str, Any] = {
        part: cls(**{one.name: _read_value(cls, one.name, values[part][one.name]) for one in fields(cls)})
        for part, cls in _PARTS.items()
    }
    return Recipe(**parts, seed=values["seed"])


def _read_value(part: type, name: str, value: Any) -> Any:
    """Return a value in the type of its field: a list becomes a tuple, a path its name."""
    hint = get_type_hints(part)[name]
    choices = get_args(hint) if get_origin(hint) is Literal else ()
    if choices and value not in choices:
        raise UsageError(f"{name}: {value!r} is not one of {', '.join(map(str, choices))}")
    if name == "text_types":
        return tuple(TextType(form) for form in ([value] if isinstance(value, str) else value))
    if isinstance(value, list):
        return tuple(value)
    return str(value) if isinstance(value, Path) else value


def _unused_values(recipe: Recipe, *, evaluates: bool) -> dict[str, str]:
    """Return the values that a run would not use, such as ``width``, each with the reason."""
    tower, descent = recipe.tower, recipe.descent
    unused: dict[str, str] = {}
    if tower.start:
        unused |= dict.fromkeys(_NEW_IMAGE_TOWER, "the model that --start names has its own image tower")
        if not tower.new_text or tower.text_width:
            unused["width"] = "the model that --start names has its own width"
        if not tower.new_text:
            unused |= dict.fromkeys(
                _NEW_TEXT_TOWER, "the model of --start keeps its text tower; --new-text replaces it"
            )
    elif tower.backbone:
        unused |= dict.fromkeys(("patch_size", "image_layers"), f"the backbone {tower.backbone} has its own")
    if descent.steps:
        unused["epochs"] = f"the run ends after {descent.steps} steps; give --steps 0 to count epochs"
    if descent.objective not in ("rank_positive", "level_restricted"):
        unused["rank_weights"] = f"the objective {descent.objective} does not weigh ranks"
    if descent.reads_captions:
        unused["class_weights"] = f"the objective {descent.objective} has no classes"
    else:
        unused["bidirectional"] = f"the objective {descent.objective} reads no captions"
    if not evaluates:
        unused["evaluate_every"] = "no split is evaluated; give --evaluate-split"
    return unused
