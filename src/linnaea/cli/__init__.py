"""The command line, with one module per verb. Only this package prints.

This module stays light: ``linnaea --help`` imports neither torch nor polars. The module of a verb has frozen
dataclasses of options, whose docstrings are the help, and imports heavy packages only when it runs.
"""

import inspect
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, TypeAlias

from linnaea import __version__
from linnaea.cli.parsing import parse_words, suggest
from linnaea.errors import LinnaeaError, UsageError
from linnaea.progress import lines_in_logs, visible
from linnaea.storage import explain_system_error

DONE, FAILED, USAGE, SOME_FAILED = 0, 1, 2, 3
INTERRUPTED = 130
"""Exit codes; 130 is the shell's convention for Ctrl-C."""

Commands: TypeAlias = Mapping[str, tuple[Any, Callable[[Any], int]]]
"""The option class and the function of each subcommand; a verb without subcommands has the key ``""``.

The function takes the options and returns the exit code.
"""

VERBS: dict[str, str] = {
    "predict": "name the organisms on photographs",
    "review": "confirm or correct answers on a web page, and export them with the decisions",
    "embed": "turn photographs into vectors",
    "adapt": "fit a head to your own labelled photographs",
    "index": "make your own photographs searchable",
    "search": "find photographs by text, taxon or example, and near copies",
    "taxonomy": "resolve names, look up lineages, compare checklists",
    "labels": "encode candidate taxa once, for many predictions",
    "data": "build, check and describe data sets",
    "train": "train a model from a recipe",
    "pack": "pack a trained model into a small folder to share",
    "export": "export a model to ONNX Runtime, to run without PyTorch",
    "evaluate": "score a model zero-shot and few-shot",
    "compare": "compare evaluations, with published numbers and error bars",
    "serve": "serve a model as a web page and a REST API",
    "list": "list recipes, tasks, models, label banks and checklists",
    "list-models": "list the models that can be named, as pybioclip does",
    "list-tol-taxa": "print the taxa of a published model's label bank as CSV",
    "doctor": "check this installation",
    "demo": "run the whole pipeline once, on a synthetic tree of life",
}
"""Every verb with one line of help; its module is ``linnaea.cli.<verb>``, with ``_`` for ``-``."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code (see the constants above)."""
    given = [*(sys.argv[1:] if arguments is None else arguments)]  # not list(): linnaea.cli.list is a module
    words = [word for word in given if word != "--debug"]
    if logging.lastResort is not None:  # what the library logs, where nobody has set up logging
        logging.lastResort.setFormatter(_Visible())
    try:
        with lines_in_logs():
            return _dispatch(words)
    except BrokenPipeError:
        sys.stderr.close()
        return DONE
    except BaseException as error:
        if "--debug" in given or isinstance(error, SystemExit | GeneratorExit):
            raise
        code, message = _verdict(error)
        print(f"linnaea: {visible(' '.join(message.split()))}", file=sys.stderr)
        return code


class _Visible(logging.Formatter):
    """Formats a log line for a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record))


def _verdict(error: BaseException) -> tuple[int, str]:
    match error:
        case UsageError():
            return USAGE, str(error)
        case LinnaeaError():
            return FAILED, str(error)
        case KeyboardInterrupt():
            return INTERRUPTED, "interrupted; run the same command again to resume"
        case _:
            return FAILED, _explain(error)


_OF_INPUTS = ("polars.", "pyo3_runtime", "pyarrow.", "sqlite3", "zipfile", "tarfile", "zlib", "struct", "json.", "gzip",
              "xml.", "pyexpat", "safetensors", "fastexcel")  # fmt: skip
"""Libraries that read files; what they raise is about a file."""


def _explain(error: BaseException) -> str:
    """Return one line for an error that no part of the package explains."""
    name, text = type(error).__name__, " ".join(str(error).split())[:300]
    if why := explain_system_error(error):
        return why
    if isinstance(error, MemoryError):
        return "not enough memory; use a smaller --batch-size or fewer --workers, or a machine with more"
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or text or name}"
    of_input = isinstance(error, (UnicodeError, EOFError)) or type(error).__module__.startswith(_OF_INPUTS)
    if of_input or isinstance(error, RecursionError):
        return f"an input is damaged or not what it should be ({name}); --debug shows which part reads it"
    return f"unexpected {name}: {text} (--debug shows the traceback)"


def _dispatch(words: list[str]) -> int:
    match words:
        case [] | ["-h" | "--help", *_]:
            print(_overview())
            return DONE
        case ["help", *rest]:
            return _dispatch([*rest[:2], "--help"])
        case ["--version", *_]:
            print(f"linnaea {__version__}")
            return DONE
        case ["--install-completion", *rest]:
            from linnaea.cli.completion import install_completion

            print(install_completion([*VERBS], rest[0] if rest else None))
            return DONE
        case [verb, *rest] if verb in VERBS:
            return _run_verb(verb, rest)
        case [word, *_]:
            near = suggest(word, [*VERBS]) or f" choose one of {', '.join(VERBS)}"
            raise UsageError(f"{word!r} is not a command;{near} (linnaea --help)")
    raise AssertionError(words)


def _run_verb(verb: str, words: list[str]) -> int:
    commands: Commands = import_module(f"linnaea.cli.{verb.replace('-', '_')}").COMMANDS
    name = f"linnaea {verb}"
    if "" in commands:
        options, run = commands[""]
    elif words and words[0] in commands:
        options, run = commands[words[0]]
        name, words = f"{name} {words[0]}", words[1:]
    else:
        listing = "\n".join(f"  {key:<12}{_first_line(cls)}" for key, (cls, _) in commands.items())
        if not words or words[0] in ("-h", "--help"):
            print(f"usage: {name} COMMAND ...\n\n{listing}\n\n{name} COMMAND --help shows its options.")
            return DONE if words else USAGE
        near = suggest(words[0], [*commands]) or f" choose one of {', '.join(commands)}"
        raise UsageError(f"{words[0]!r} is not a command of {name};{near} ({name} --help)")
    return run(_parse(options, name, words))


def _parse(options: Any, name: str, words: list[str]) -> Any:
    """Return the options parsed from words; ``options`` is a class for tyro or a function of (program name, words)."""
    return parse_words(options, name, words) if isinstance(options, type) else options(name, words)


def class_of(options: Any) -> type:
    """Return the class of a command's options: ``options`` itself, or the return type of a function that makes them."""
    found: type = options if isinstance(options, type) else inspect.signature(options, eval_str=True).return_annotation
    return found


def _first_line(options: Any) -> str:
    return (options.__doc__ or "").strip().splitlines()[0]


def _overview() -> str:
    verbs = "\n".join(f"  {verb:<14}{text}" for verb, text in VERBS.items())
    return (
        "usage: linnaea COMMAND ...\n\n"
        "Vision foundation models of the tree of life.\n\n"
        f"{verbs}\n\n"
        "linnaea COMMAND --help (or linnaea help COMMAND) shows a command's options, --version the version, --debug\n"
        "full tracebacks; --install-completion [bash|zsh] lets the shell complete commands and options.\n"
        "Exit codes: 0 success, 1 failure, 2 usage error, 3 success, but some inputs failed."
    )
