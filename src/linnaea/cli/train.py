"""``linnaea train RECIPE``: from a data set to a model folder."""

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from linnaea.cli import DONE, INTERRUPTED, SOME_FAILED, Commands, parse_words
from linnaea.cli.console import progress_bar, say, warn
from linnaea.errors import LinnaeaError, UsageError
from linnaea.train.recipes import NOTES, RECIPES, Recipe


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
    """Say what would happen: parameters, steps, samples; then stop."""
    device: str = "auto"
    """cpu, cuda, mps or auto."""
    workers: int = 2
    """Threads that decode; they never change the result."""
    recipe: tyro.conf.OmitArgPrefixes[Recipe]
    """The recipe's values."""
    recipe_name: tyro.conf.Suppress[str] = ""


def parse(program: str, words: list[str]) -> Train:
    """Options of the recipe that the first word names; its values are the defaults."""
    listing = "\n".join(f"  {name:<18}{NOTES[name]}" for name in RECIPES)
    if not words or words[0] in ("-h", "--help"):
        print(f"usage: {program} RECIPE --data DIR --output RUN [--resume] [--dry-run] [overrides]\n\n{listing}\n\n"
              f"{program} RECIPE --help shows every value of a recipe.")  # fmt: skip
        raise SystemExit(0 if words else 2)
    name, *rest = words
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, n=2) or list(RECIPES)
        raise UsageError(f"no recipe {name!r}; did you mean {' or '.join(near)}? (linnaea list recipes)")
    default = Train(data=tyro.MISSING, output=tyro.MISSING, recipe=RECIPES[name], recipe_name=name)
    return parse_words(Train, f"{program} {name}", rest, default)


def train(options: Train) -> int:
    """Run the training; Ctrl-C saves first, and ``--resume`` goes on."""
    from linnaea.train.run import RECIPE_FILE, Run, check_same_recipe, write_recipe
    from linnaea.train.run import train as run_training

    run = Run(
        recipe_name=options.recipe_name,
        recipe=options.recipe,
        data_dir=options.data,
        run_dir=options.output,
        device=options.device,
        n_workers=options.workers,
    )
    if options.dry_run:
        return describe(run)
    if options.resume:
        check_same_recipe(run)
        if run.is_finished:
            say(f"{run.run_dir}: the run is finished; its model is {run.model_dir}")
            return DONE
    elif (run.run_dir / RECIPE_FILE).exists():
        raise LinnaeaError(f"{run.run_dir}: holds a run already; --resume goes on with it, or choose another --output")
    else:
        write_recipe(run)
    with progress_bar("training", "steps") as on_progress:

        def on_step(step: int, total: int, line: dict[str, Any]) -> None:
            on_progress(step, total, f"loss {line['loss']:.3f}, {line['samples_per_s']:.0f} samples/s")
            for sample in line["unreadable"]:
                warn(f"sample {sample}; another stands in")

        result = run_training(run, on_step)
    if not result.finished:
        warn(f"stopped after step {result.step}; `linnaea train {options.recipe_name} ... --resume` goes on")
        return INTERRUPTED
    print(f"model: {run.model_dir}", flush=True)
    return SOME_FAILED if result.n_unreadable else DONE


def describe(run: Any) -> int:
    """What a run would take: parameters, samples, steps."""
    from linnaea.train.run import make_start, open_part

    dataset = open_part(run)
    n_steps, size = run.recipe.n_steps(len(dataset)), run.recipe.feed.batch_size
    lines = [
        f"samples      {len(dataset):,} of {dataset.index['taxon_id'].n_unique():,} taxa",
        f"steps        {n_steps:,} of {size:,} samples: {n_steps * size / len(dataset):.1f} epochs",
    ]
    tower = run.recipe.tower
    if tower.start:
        lines.append(f"start        {tower.start} {tower.pretrained}".rstrip())
    else:
        lines.append(f"parameters   {make_start(tower, dataset, seed=0, device='cpu').parameter_count():,}")
    print("\n".join(lines))
    return DONE


COMMANDS: Commands = {"": (parse, train)}
