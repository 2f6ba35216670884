"""``python -m linnaea.compat.bioclip``: pybioclip's command line. Its help imports neither torch nor polars."""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from linnaea import __version__
from linnaea.errors import LinnaeaError
from linnaea.taxonomy.ranks import RANK_LABELS, Rank

DEFAULT_MODEL_STR = "hf-hub:imageomics/bioclip-2"


def create_parser() -> argparse.ArgumentParser:
    """Return the parser of pybioclip's commands and options."""
    parser = argparse.ArgumentParser(prog="bioclip", description="pybioclip's commands, answered by Linnaea")
    parser.add_argument("--version", action="version", version=f"linnaea {__version__} (as pybioclip)")
    commands = parser.add_subparsers(title="commands", dest="command")
    predict = commands.add_parser("predict", help="name the organisms on photographs")
    _add_model_options(predict)
    predict.add_argument("--format", choices=["table", "csv"], default="csv", help="format of the output")
    predict.add_argument("--k", type=int, help="answers per photograph, 5 for taxa")
    predict.add_argument("--log", metavar="LOG_FILE", help="file for a log: new JSON (.json), or text to append to")
    labels = predict.add_mutually_exclusive_group()
    labels.add_argument("--rank", choices=RANK_LABELS, help="rank of the answers, species by default")
    labels.add_argument("--cls", help="classes instead of taxa: names separated by commas, or a file with one per line")
    labels.add_argument("--bins", help="CSV of classes and their bins, in its first two columns")
    labels.add_argument("--subset", help="CSV of the taxa to choose from; its first column is named after a rank")
    _add_model_options(commands.add_parser("embed", help="write the vectors of photographs as JSON"))
    models = commands.add_parser("list-models", help="list models, or the weights of one")
    models.add_argument("--model", help="list the tags of weights of this architecture")
    taxa = commands.add_parser("list-tol-taxa", help="print the taxa of a model's label bank as CSV")
    taxa.add_argument("--model", help=f"default: {DEFAULT_MODEL_STR}")
    return parser


def _add_model_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("image_file", nargs="+", help="photographs")
    command.add_argument("--output", default="stdout", help="file to write, standard output by default")
    command.add_argument("--device", default="cpu", help="cpu, cuda or mps")
    command.add_argument("--model", help=f"default: {DEFAULT_MODEL_STR}")
    command.add_argument("--pretrained", help="tag or file of weights, if the model is an architecture's name")
    command.add_argument("--batch-size", type=int, default=10, help="photographs that the model encodes at once")


def parse_args(input_args: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse arguments as pybioclip does.

    Raises:
        ValueError: a model has no published label bank, or other weights are given for taxa.
    """
    args = create_parser().parse_args(input_args)
    asks_taxa = args.command == "list-tol-taxa" or (args.command == "predict" and not (args.cls or args.bins))
    if asks_taxa and args.model:
        from linnaea.predict.pybioclip import ensure_tol_supported_model

        ensure_tol_supported_model(args.model)
    if asks_taxa and args.command == "predict":
        if args.pretrained:
            raise ValueError("Custom checkpoints are currently not supported for TreeOfLife prediction")
        args.rank = Rank.parse(args.rank or "species")
        args.k = 5 if args.k is None else args.k
    return args


def main() -> None:
    """Run a command; an error of the input is one line."""
    try:
        args = parse_args()
        if args.command is None:
            create_parser().print_help()
            return
        # A script may have put this package under the name bioclip: the commands are those of the same package.
        import_module(".commands", __package__).run(args)
    except (LinnaeaError, ValueError, FileNotFoundError) as error:
        print(f"bioclip: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
