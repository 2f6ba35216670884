"""What ``linnaea predict`` chooses among: clades and lists that restrict the labels, priors that weigh them."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from linnaea.cli.console import say, warn
from linnaea.errors import LinnaeaError, UsageError

if TYPE_CHECKING:
    from linnaea.cli.predict import Predict
    from linnaea.predict.inputs import Input
    from linnaea.predict.labels import LabelBank
    from linnaea.predict.predictor import WeightsOf
    from linnaea.predict.priors import Regions
    from linnaea.predict.restrict import Unknown
    from linnaea.taxonomy.resolve import Resolver


def restrict(options: "Predict", bank: "LabelBank") -> "LabelBank":
    """The labels that the command line leaves to choose among."""
    from linnaea.predict.restrict import keep_clades, keep_listed

    kept = keep_clades(bank, options.within, options.exclude)
    if options.species_list is not None:
        from linnaea.taxonomy.name_tables import read_species_list

        names = read_species_list(options.species_list).to_list()
        kept, unknown = keep_listed(kept, names, lambda: _load_resolver(options), strict=options.strict)
        _name_unknown(options.species_list, unknown)
    if len(kept) < len(bank):
        say(f"choosing among {len(kept):,} of {len(bank):,} labels")
    return kept


def _load_resolver(options: "Predict") -> "Resolver":
    from linnaea.taxonomy.resolve import Resolver

    return Resolver.of(options.checklist)


def _name_unknown(path: Path, unknown: "Sequence[Unknown]") -> None:
    for one in unknown[:10]:
        warn(f"{path}: {one}")
    if len(unknown) > 10:
        warn(f"{path}: ... and {len(unknown) - 10} more names that no label has")


def read_prior(options: "Predict", bank: "LabelBank") -> "WeightsOf | None":
    """From an input to the weights of the bank's taxa."""
    if options.prior is None:
        if options.lat is not None or options.date:
            raise UsageError("--lat, --lon and --date need --prior, a file of regions (linnaea labels regions)")
        return None
    from linnaea.predict.priors import Regions, has_weights, read_weights

    if options.prior.suffix.lower() == ".parquet" and not has_weights(options.prior):
        return _weights_by_place(options, bank, Regions.open(options.prior))
    weights, unknown = read_weights(options.prior, bank, lambda: _load_resolver(options))
    _name_unknown(options.prior, unknown)
    if unknown and options.strict:
        raise LinnaeaError(f"{options.prior}: {len(unknown)} names are not among the labels")
    return lambda one: weights


def _weights_by_place(options: "Predict", bank: "LabelBank", regions: "Regions") -> "WeightsOf":
    from functools import lru_cache

    import numpy as np

    from linnaea.predict.exif import place_of_photograph
    from linnaea.predict.priors import Place

    month = _month(options.date)
    try:
        given = None if options.lat is None else Place(lat=options.lat, lon=options.lon or 0.0, month=month)
    except ValueError as error:
        raise UsageError(str(error)) from error
    no_weights = np.ones(len(bank), np.float32)

    @lru_cache(maxsize=16)
    def weights_at(place: Place) -> Any:
        return regions.weights(bank, place)

    def weights_of(one: "Input") -> Any:
        place = (place_of_photograph(one.path) if one.path else None) or given
        return no_weights if place is None else weights_at(place)

    return weights_of


def _month(date: str) -> int:
    if not date:
        return 0
    words = date.split("-")
    if len(words) < 2 or not words[1].isdigit() or not 1 <= int(words[1]) <= 12:
        raise UsageError(f"--date {date}: write YYYY-MM-DD or YYYY-MM")
    return int(words[1])
