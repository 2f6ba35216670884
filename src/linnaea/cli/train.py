"""The command ``linnaea train RECIPE``."""

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from linnaea.cli import DONE, INTERRUPTED, SOME_FAILED, Commands
from linnaea.cli.console import tell, warn
from linnaea.cli.parsing import parse_words
from linnaea.counting import count
from linnaea.errors import UsageError
from linnaea.train.fleet import BYTES_PER_PICTURE, PICTURES_PER_THREAD, Fleet, find_fleet, forecast
from linnaea.train.recipe import Recipe, list_changes
from linnaea.train.recipes import NOTES, RECIPES, find_recipe

if TYPE_CHECKING:
    from linnaea.model.load import TaxonModel
    from linnaea.train.claim import TrainingRun
    from linnaea.train.costs import Plan


@dataclass(frozen=True, kw_only=True)
class Train:
    """Train a model with a recipe; every value of the recipe can be overridden."""

    data: Path
    """Folder of the data set."""
    output: Path
    """Folder of the run, for model/, checkpoints/ and metrics.jsonl."""
    resume: bool = False
    """Continue the run in the output folder."""
    dry_run: bool = False
    """Print an estimate (steps, parameters, arithmetic, memory, hours) and exit."""
    throughput: float = 0.0
    """With --dry-run: samples per second, to estimate the hours."""
    evaluate_split: str = ""
    """Split to score zero-shot every --evaluate-every steps, for the log; empty: no evaluation."""
    device: str = "auto"
    """cpu, cuda, mps or auto. With --dry-run also GPUs to plan for, such as H200x8."""
    workers: int = 2
    """Decoding threads per process; they do not change the result."""
    spread: Literal["ddp", "fsdp"] = "ddp"
    """Under torchrun: ddp keeps the whole model in each process, fsdp shards it (FSDP2) if it does not fit."""
    wandb: str = ""
    """Weights & Biases project that also receives the log; empty: none."""
    recipe: tyro.conf.OmitArgPrefixes[Recipe]
    """The recipe's values."""
    recipe_name: tyro.conf.Suppress[str] = ""
    asked: tyro.conf.Suppress[tuple[str, ...]] = ()
    """The options that were written, by the names of their values."""

    def __post_init__(self) -> None:
        if self.throughput and not self.dry_run:
            raise ValueError("--throughput is not used: it needs --dry-run")


_FLAGS = {"--compile": "--compile=True", "--no-compile": "--compile=False"}
"""A flag with a third state, which is its default; tyro has only options for that."""


def parse(program: str, words: list[str]) -> Train:
    """Return the parsed options; the first word names the recipe, whose values are the defaults."""
    width = 2 + max(map(len, RECIPES))
    listing = "\n".join(f"  {name:<{width}}{NOTES[name]}" for name in RECIPES)
    if not words or words[0] in ("-h", "--help"):
        tell(
            f"usage: {program} RECIPE --data DIR --output RUN [--resume] [--dry-run] [overrides]\n\n{listing}\n\n"
            f"{program} RECIPE --help shows every value of a recipe.\n"
            f"{program} --resume --output RUN continues a run with the recipe and the data set that it has."
        )
        raise SystemExit(0 if words else 2)
    name, rest = ("", words) if words[0].startswith("-") else (words[0], words[1:])
    rest = [_FLAGS.get(word, word) for word in rest]
    asked = tuple(word[2:].partition("=")[0].replace("-", "_") for word in rest if word.startswith("--"))
    started = _find_started(name, rest)
    recipe = started.recipe if started else find_recipe(name)
    data = started.data_dir if started else tyro.MISSING
    default = Train(data=data, output=tyro.MISSING, recipe=recipe, recipe_name=name, asked=asked)
    return parse_words(Train, f"{program} {name}".rstrip(), rest, default)


def _find_started(name: str, words: list[str]) -> "TrainingRun | None":
    """Return the run that the words resume, whose recipe and data set need not be written again."""
    output = next((word.partition("=")[2] or after for word, after in pairwise([*words, ""])
                   if word.partition("=")[0] == "--output"), "")  # fmt: skip
    if not name and not ("--resume" in words and output):
        raise UsageError("give a recipe (linnaea list recipes), or --resume --output RUN to continue a run")
    if "--resume" not in words or not output:
        return None
    from linnaea.train.run import find_started

    return find_started(name or None, output)


def train(options: Train) -> int:
    """Run the training, on all processes under torchrun.

    Ctrl-C and SIGTERM save a checkpoint first, and ``--resume`` continues from it.
    """
    from linnaea.train.parallel import is_first
    from linnaea.train.run import find_started, train

    started = find_started(options.recipe_name or None, options.output) if options.resume else None
    named = started.recipe if started else RECIPES[options.recipe_name]
    overrides = list_changes(named, options.recipe, options.asked)
    if options.dry_run:
        return _show_plan(options, named, overrides) if is_first() else DONE
    result = train(
        options.recipe_name or None,
        data=options.data,
        output=options.output,
        resume=options.resume,
        evaluate=_make_validator(options) if options.evaluate_split else None,
        device=options.device,
        workers=options.workers,
        spread=options.spread,
        wandb=options.wandb,
        on_notice=warn,
        **overrides,
    )
    if not result.finished:
        if is_first():
            again = f"linnaea train --output {shlex.quote(str(options.output))} --resume"
            warn(f"stopped after step {result.steps}; `{again}` continues")
        return INTERRUPTED
    if is_first():
        tell(f"model: {result.model}", flush=True)
    return SOME_FAILED if result.n_unreadable else DONE


def _make_validator(options: Train) -> "Callable[[TaxonModel], Mapping[str, float]]":
    from linnaea.evaluate.validation import make_validator

    reads_captions = options.recipe.descent.reads_captions
    return make_validator(options.data, options.evaluate_split, reads_captions=reads_captions, workers=options.workers)


def _show_plan(options: Train, named: Recipe, overrides: dict[str, Any]) -> int:
    """Print the estimated costs of a run."""
    from linnaea.train.run import plan

    fleet = find_fleet(options.device)
    found = plan(named, data=options.data, evaluates=bool(options.evaluate_split), **overrides)
    costs, tower, size, throughput = found.costs, found.recipe.tower, found.recipe.feed.batch_size, options.throughput
    n_seen, n_flops = found.n_steps * size, costs.flops * found.n_steps
    lines = [
        f"samples      {found.n_samples:,} of {count(found.n_taxa, 'taxon')}",
        f"steps        {found.n_steps:,} of {count(size, 'sample')}: {n_seen / found.n_samples:.1f} epochs",
        f"start        {tower.start} {tower.pretrained}".rstrip() if tower.start else "start        new weights",
        f"parameters   {costs.n_parameters:,}",
        f"arithmetic   {costs.flops / size / 1e9:,.2f} GFLOP per sample, {n_flops / 1e15:,.3f} PFLOP in total",
        f"memory       about {costs.memory_bytes / 1e9:,.2f} GB on one device: {costs.state_bytes / 1e9:,.2f} for"
        f" weights and optimiser, {costs.activation_bytes / 1e9:,.2f} for a batch (--accumulate divides that)",
        f"time         {n_flops / 1e12 / 3600:,.2f} hours at 1 TFLOP/s sustained"
        + (f"; {n_seen / throughput / 3600:,.2f} hours at {throughput:,.0f} samples/s" if throughput > 0 else ""),
        *(_describe_fleet(found, fleet) if fleet else []),
    ]
    tell("\n".join(lines))
    return DONE


def _describe_fleet(found: "Plan", fleet: Fleet) -> list[str]:
    """Return the lines about the GPUs that ``--device`` names: hours, memory, and what the loader must do."""
    descent, size, costs = found.recipe.descent, found.recipe.feed.batch_size, found.costs
    speed = forecast(
        fleet,
        found.plain_flops / size,
        recomputes=descent.grad_checkpointing,
        in_parts=descent.accumulate > descent.keep_parts + 1,
    )
    rate = speed.samples_per_s
    each = costs.state_bytes + costs.activation_bytes / fleet.n
    return [
        f"on {fleet.n} x {fleet.name}".ljust(13) + f"{found.n_steps * size / rate / 3600:,.2f} hours at {rate:,.0f}"
        f" samples/s, {speed.utilisation:.1%} of the peak arithmetic: {speed.basis}",
        f"             about {each / 1e9:,.0f} GB on each GPU; {rate / PICTURES_PER_THREAD:,.0f} decoding threads in"
        f" all (--workers is per process) read {rate * BYTES_PER_PICTURE / 1e6:,.0f} MB/s of 256-pixel shards",
    ]


COMMANDS: Commands = {"": (parse, train)}
