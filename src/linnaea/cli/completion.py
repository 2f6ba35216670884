"""``linnaea --install-completion``: the shell completes verbs, options and choices."""

import os
from collections.abc import Sequence
from dataclasses import MISSING, fields, make_dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Union

from linnaea.cli import class_of
from linnaea.errors import UsageError

SHELLS = ("bash", "zsh")


def install_completion(verbs: Sequence[str], shell: str | None) -> str:
    """Write the completion script of a shell where it looks for them, and return what to do next.

    Args:
        verbs: Every verb of the command line.
        shell: bash or zsh; None takes it from the environment variable ``SHELL``.

    Raises:
        UsageError: The shell is another one.
    """
    shell = shell or Path(os.environ.get("SHELL", "")).name
    if shell not in SHELLS:
        raise UsageError(f"--install-completion: {shell or 'no shell'}: choose one of {', '.join(SHELLS)}")
    data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share")
    script = data / ("bash-completion/completions/linnaea" if shell == "bash" else "zsh/site-functions/_linnaea")
    script.parent.mkdir(parents=True, exist_ok=True)
    _write_script(verbs, shell, script)
    if shell == "bash":
        return f"wrote {script}; open a new shell (completion needs the package bash-completion)"
    return f"wrote {script}; put `fpath+=({script.parent}); autoload -U compinit; compinit` into ~/.zshrc"


def _write_script(verbs: Sequence[str], shell: str, script: Path) -> None:
    import tyro

    every = _choose({verb: _options_of(verb) for verb in verbs})
    words = ["--tyro-write-completion", shell, str(script)]
    try:
        tyro.cli(every, prog="linnaea", args=words,
                 config=(tyro.conf.EnumChoicesFromValues, tyro.conf.OmitSubcommandPrefixes))  # fmt: skip
    except SystemExit as stop:
        if stop.code:
            raise


def _options_of(verb: str) -> Any:
    """Return the class of a verb's options; for one with subcommands, a class that has them as a field."""
    commands = import_module(f"linnaea.cli.{verb.replace('-', '_')}").COMMANDS
    if verb == "train":
        return _recipes()
    if "" in commands:
        return class_of(commands[""][0])
    classes = {name: class_of(options) for name, (options, _) in commands.items()}
    return make_dataclass(verb.title(), [("command", _choose(classes))])


def _recipes() -> Any:
    """Return the class that completes ``linnaea train RECIPE`` and the options beside the recipe's values."""
    from linnaea.cli.train import Train
    from linnaea.train.recipes import RECIPES

    beside = [field for field in fields(Train) if field.name not in ("recipe", "recipe_name", "asked")]
    given = [(one.name, one.type) if one.default is MISSING else (one.name, one.type, one) for one in beside]
    recipes = {name: make_dataclass("Options", given, kw_only=True) for name in RECIPES}
    return make_dataclass("Train", [("command", _choose(recipes))])


def _choose(classes: dict[str, Any]) -> Any:
    """Return the type of which tyro makes a subcommand for each class."""
    import tyro

    return Union[tuple(Annotated[cls, tyro.conf.subcommand(name)] for name, cls in classes.items())]  # noqa: UP007
