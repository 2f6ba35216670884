"""``linnaea list-models``: list the models that can be named, one a line, as pybioclip does."""

from dataclasses import dataclass

from linnaea.cli import DONE, Commands
from linnaea.cli.console import tell
from linnaea.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class ListModels:
    """List the models that --model takes by name: bundled, published, and open_clip's architectures."""

    model: str = ""
    """List the tags of pretrained weights of this architecture instead."""


def list_models(options: ListModels) -> int:
    """Print the names; an architecture needs --pretrained with one of its tags."""
    import open_clip

    from linnaea.model.folders import bundled_models
    from linnaea.model.hub import PUBLISHED

    if not options.model:
        published = [f"hf-hub:{model.repo}" for model in PUBLISHED.values()]
        tell("\n".join([*bundled_models(), *PUBLISHED, *published, *open_clip.list_models()]))
        return DONE
    if options.model not in open_clip.list_models():
        raise UsageError(f"{options.model!r} is not an architecture of open_clip; see linnaea list-models")
    tell("\n".join(open_clip.list_pretrained_tags_by_model(options.model)))
    return DONE


COMMANDS: Commands = {"": (ListModels, list_models)}
