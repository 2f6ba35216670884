"""What a training run is a function of, besides the data set: a recipe, as a value.

A variant is ``dataclasses.replace`` of another. No torch here: recipes are read to print help.
"""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from linnaea.errors import UsageError
from linnaea.taxonomy.taxon import TRAINING_TEXT_TYPES, TextType


@dataclass(frozen=True, kw_only=True)
class Tower:
    """The model: a published one to start from, or a new one."""

    start: str = ""
    """Model to start from (open_clip name, hub, folder); empty: a new one with a vocabulary of its own."""
    pretrained: str = ""
    """Weights of the start: a tag of open_clip's, or a file."""
    resize_to: int = 0
    """Input of the start's image tower, in pixels; only a convolutional tower can change. 0: unchanged."""
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

    @property
    def reads_captions(self) -> bool:
        """Whether the objective compares pictures with captions; the others have classes."""
        return self.objective not in ("cross_entropy", "hierarchical")


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
        tower, feed, descent = self.tower, self.feed, self.descent
        yield (
            bool(tower.pretrained) and not tower.start,
            "pretrained: names the weights of the model to start from; give it with --start",
        )
        yield (
            bool(tower.resize_to or tower.new_text) and not tower.start,
            "resize to and new text: change the model to start from; give them with --start",
        )
        yield bool(tower.backbone_weights) and not tower.backbone, "backbone weights: give them with --backbone"
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
        yield not 0 <= descent.label_smoothing < 1, "label smoothing: from 0 (none) to below 1"
        yield not 0 <= descent.cutmix <= 1, "cutmix: a share of the steps, from 0 (none) to 1"
        yield (
            bool(descent.label_smoothing or descent.cutmix) and descent.reads_captions,
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


_PARTS: dict[str, type[Tower] | type[Feed] | type[Descent]] = {"tower": Tower, "feed": Feed, "descent": Descent}
_NEW_IMAGE_TOWER = ("image_size", "backbone", "backbone_weights", "patch_size", "image_layers")
_NEW_TEXT_TOWER = ("text_width", "text_layers", "context_length", "n_merges", "vocabulary")


def vary(recipe: Recipe, overrides: Mapping[str, Any], *, evaluates: bool) -> Recipe:
    """Return the recipe with other values, each by the name of its field: ``{"lr": 1e-4, "start": "nano"}``.

    Raises:
        UsageError: there is no such field, its value is not valid, or a run of the recipe would not read it (one that
            ``evaluates`` reads more).
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


def list_changes(named: Recipe, recipe: Recipe) -> dict[str, Any]:
    """Return the values in which ``recipe`` differs from ``named``, as :func:`vary` takes them."""
    changes = {} if recipe.seed == named.seed else {"seed": recipe.seed}
    for part, cls in _PARTS.items():
        before, now = getattr(named, part), getattr(recipe, part)
        changes |= {
            field.name: getattr(now, field.name)
            for field in fields(cls)
            if getattr(now, field.name) != getattr(before, field.name)
        }
    return changes


def _read_value(part: type, name: str, value: Any) -> Any:
    """Return a value as its field keeps it: a list as a tuple, a path as its name."""
    hint = get_type_hints(part)[name]
    choices = get_args(hint) if get_origin(hint) is Literal else ()
    if choices and value not in choices:
        raise UsageError(f"{name}: {value!r} is none of {', '.join(map(str, choices))}")
    if name == "text_types":
        return tuple(TextType(form) for form in ([value] if isinstance(value, str) else value))
    if isinstance(value, list):
        return tuple(value)
    return str(value) if isinstance(value, Path) else value


def _unused_values(recipe: Recipe, *, evaluates: bool) -> dict[str, str]:
    """Map each value that a run would not read, such as ``width``, to the reason."""
    tower, descent = recipe.tower, recipe.descent
    unused: dict[str, str] = {}
    if tower.start:
        unused |= dict.fromkeys(_NEW_IMAGE_TOWER, "the model that --start names has its own image tower")
        if not tower.new_text or tower.text_width:
            unused["width"] = "the model that --start names has its own width"
        if not tower.new_text:
            unused |= dict.fromkeys(_NEW_TEXT_TOWER, "the start's text tower stays; --new-text replaces it")
    elif tower.backbone:
        unused |= dict.fromkeys(("patch_size", "image_layers"), f"the backbone {tower.backbone} has its own")
    if descent.steps:
        unused["epochs"] = f"the run ends after {descent.steps} steps; give --steps 0 to count epochs"
    if descent.objective not in ("rank_positive", "level_restricted"):
        unused["rank_weights"] = f"the objective {descent.objective} does not weigh ranks"
    if descent.reads_captions:
        unused["class_weights"] = f"the objective {descent.objective} has no classes"
    if not evaluates:
        unused["evaluate_every"] = "no split is evaluated; give --evaluate-split"
    return unused
