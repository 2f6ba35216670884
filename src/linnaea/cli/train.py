"""``linnaea train RECIPE``: from a data set to a model folder."""

import difflib
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from linnaea.cli import DONE, INTERRUPTED, SOME_FAILED, Commands, parse_words
from linnaea.cli.console import progress_bar, say, warn
from linnaea.errors import LinnaeaError, UsageError
from linnaea.train.recipe import Recipe, check_overrides
from linnaea.train.recipes import NOTES, RECIPES


@dataclass(frozen=True, kw_only=True)
class Train:
    """Train a model after a recipe; every value of the recipe can be overridden."""

    data: Path
    """Folder of the data set."""
    output: Path
    """Folder of the run: model/, checkpoints/, metrics.jsonl."""
    resume: bool = False
    """Go on with the run in the output folder."""
    dry_run: bool = False
    """Say what it would take: steps, parameters, arithmetic, memory, hours; then stop."""
    throughput: float = 0.0
    """With --dry-run: samples per second to reckon the hours with."""
    evaluate_split: str = ""
    """Split to score zero-shot every --evaluate-every steps, into the log; none: no evaluation."""
    device: str = "auto"
    """cpu, cuda, mps or auto."""
    workers: int = 2
    """Threads that decode, of each process; they never change the result."""
    spread: Literal["ddp", "fsdp"] = "ddp"
    """Under torchrun, what a process has of the model: all of it, or a part (FSDP2) where it does not fit."""
    wandb: str = ""
    """Project of Weights & Biases to send the log to; none: stays here."""
    recipe: tyro.conf.OmitArgPrefixes[Recipe]
    """The recipe's values."""
    recipe_name: tyro.conf.Suppress[str] = ""

    def __post_init__(self) -> None:
        if self.throughput and not self.dry_run:
            raise ValueError("--throughput is not used: give it with --dry-run")


def parse(program: str, words: list[str]) -> Train:
    """Options of the recipe that the first word names; its values are the defaults."""
    listing = "\n".join(f"  {name:<25}{NOTES[name]}" for name in RECIPES)
    if not words or words[0] in ("-h", "--help"):
        print(f"usage: {program} RECIPE --data DIR --output RUN [--resume] [--dry-run] [overrides]\n\n{listing}\n\n"
              f"{program} RECIPE --help shows every value of a recipe.")  # fmt: skip
        raise SystemExit(0 if words else 2)
    name, *rest = words
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, n=2) or list(RECIPES)
        raise UsageError(f"no recipe {name!r}; did you mean {' or '.join(near)}? (linnaea list recipes)")
    default = Train(data=tyro.MISSING, output=tyro.MISSING, recipe=RECIPES[name], recipe_name=name)
    options = parse_words(Train, f"{program} {name}", rest, default)
    check_overrides(default.recipe, options.recipe, evaluates=bool(options.evaluate_split))
    return options


def train(options: Train) -> int:
    """Run the training; Ctrl-C and SIGTERM save first, and ``--resume`` goes on. Under torchrun, on all processes."""
    from linnaea.train.parallel import join
    from linnaea.train.run import Run

    run = Run(
        recipe_name=options.recipe_name,
        recipe=options.recipe,
        data_dir=options.data,
        run_dir=options.output,
        device=options.device,
        n_workers=options.workers,
        spread=options.spread,
        wandb=options.wandb,
    )
    with join(options.device) as peers:
        if options.dry_run:
            return peers.first_does(lambda: describe(run, options.throughput))
        if peers.first_does(lambda: is_done(run, resume=options.resume)):
            return DONE
        return run_training(options, run, peers)


def is_done(run: Any, *, resume: bool) -> bool:
    """Whether the run is finished already; otherwise its folder is ready for it."""
    from linnaea.train.run import RECIPE_FILE, check_same_recipe, write_recipe

    if resume:
        check_same_recipe(run)
        if run.is_finished:
            say(f"{run.run_dir}: the run is finished; its model is {run.model_dir}")
        return bool(run.is_finished)
    if (run.run_dir / RECIPE_FILE).exists() or (run.run_dir / "checkpoints").exists():
        raise LinnaeaError(f"{run.run_dir}: holds a run already; --resume goes on with it, or choose another --output")
    write_recipe(run)
    return False


def run_training(options: Train, run: Any, peers: Any) -> int:
    """Train, and say how it goes; only the first process says anything."""
    from linnaea.train.run import train as train_run

    with progress_bar("training", "steps") if peers.is_first else nullcontext() as on_progress:

        def on_step(step: int, total: int, line: dict[str, Any]) -> None:
            if on_progress is None:
                return
            on_progress(step, total, f"loss {line['loss']:.3f}, {line['samples_per_s']:.0f} samples/s")
            for sample in line["unreadable"]:
                warn(f"sample {sample}; another stands in")

        def on_view(done: int, total: int) -> None:
            if on_progress is not None:
                on_progress(done, total, "pictures encoded")

        evaluate = make_evaluate(options) if options.evaluate_split else lambda model: {}
        on_notice = warn if peers.is_first else lambda text: None
        result = train_run(run, on_step, evaluate, peers=peers, on_notice=on_notice, on_view=on_view)
    if not result.finished:
        if peers.is_first:
            warn(f"stopped after step {result.step}; `linnaea train {options.recipe_name} ... --resume` goes on")
        return INTERRUPTED
    if peers.is_first:
        print(f"model: {run.model_dir}", flush=True)
    return SOME_FAILED if result.n_unreadable else DONE


def make_evaluate(options: Train) -> Callable[[Any], Mapping[str, float]]:
    """Zero-shot scores of the model in training on one split, among the taxa of that split; few-shot ones where it
    sees no captions."""
    from dataclasses import replace

    import numpy as np

    from linnaea.data.images import ImageError
    from linnaea.data.shards import DataSet
    from linnaea.evaluate.evaluation import Question, evaluate_features
    from linnaea.model.encode import iter_encoded_images

    whole = DataSet.open(options.data)
    part = whole.split(options.evaluate_split)

    def evaluate(model: Any) -> Mapping[str, float]:
        now = replace(model)  # what a model remembers of itself is of other weights
        items = ((row, part.read(row)) for row in range(len(part)))
        encoded = list(iter_encoded_images(now, items, n_workers=options.workers))
        good = [row for row, vector in encoded if not isinstance(vector, ImageError)]
        vectors = np.stack([vector for _, vector in encoded if not isinstance(vector, ImageError)])
        readable = replace(part, index=part.index[good])
        if options.recipe.descent.objective in ("cross_entropy", "hierarchical"):  # captions say nothing to it
            scores = evaluate_features(now, whole, readable, vectors, Question(shots=(1, 5))).metrics
            return {f"{options.evaluate_split}/{key}": scores[key] for key in scores if key.endswith("/mean")}
        scores = evaluate_features(now, whole, readable, vectors, Question(shots=(0,))).metrics
        wanted = ("top1", "genus", "chance/top1")
        return {f"{options.evaluate_split}/{key}": scores[f"zero_shot/taxon_com/{key}"] for key in wanted}

    return evaluate


def describe(run: Any, throughput: float) -> int:
    """What a run would take, on standard output."""
    from linnaea.train.run import make_plan

    plan, size = make_plan(run), run.recipe.feed.batch_size
    costs, tower = plan.costs, run.recipe.tower
    n_seen, n_flops = plan.n_steps * size, costs.flops * plan.n_steps
    lines = [
        f"samples      {plan.n_samples:,} of {plan.n_taxa:,} taxa",
        f"steps        {plan.n_steps:,} of {size:,} samples: {n_seen / plan.n_samples:.1f} epochs",
        f"start        {tower.start} {tower.pretrained}".rstrip() if tower.start else "start        new weights",
        f"parameters   {costs.n_parameters:,}",
        f"arithmetic   {costs.flops / size / 1e9:,.2f} GFLOP a sample, {n_flops / 1e15:,.3f} PFLOP in all",
        f"memory       about {costs.memory_bytes / 1e9:,.2f} GB on one device: {costs.state_bytes / 1e9:,.2f} for"
        f" weights and optimiser, {costs.activation_bytes / 1e9:,.2f} for a batch (--accumulate divides that)",
        f"time         {n_flops / 1e12 / 3600:,.2f} hours at 1 TFLOP/s sustained"
        + (f"; {n_seen / throughput / 3600:,.2f} hours at {throughput:,.0f} samples/s" if throughput > 0 else ""),
    ]
    print("\n".join(lines))
    return DONE


COMMANDS: Commands = {"": (parse, train)}
