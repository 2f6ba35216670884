"""``linnaea labels calibrate``: make a model's probabilities mean what they say, from photographs with known names."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from linnaea.cli import DONE
from linnaea.cli.console import progress_bar
from linnaea.errors import LinnaeaError
from linnaea.taxonomy.taxon import TextType

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from linnaea.data.shards import DataSet
    from linnaea.model.load import TaxonModel
    from linnaea.predict.labels import LabelBank

MOST_ORGANISMS = 4_000
"""Photographs of ``--organisms`` that are looked at."""


@dataclass(frozen=True, kw_only=True)
class Calibrate:
    """Fit the confidence of predictions on photographs that were not trained on."""

    model: str
    """Folder or name of the model."""
    data: Path
    """Data set with known names."""
    split: tuple[str, ...] = ("val",)
    """Splits to learn from; neither the one trained on nor the one the result is measured on."""
    sources: tuple[str, ...] = ()
    """Sources to learn from; none: all."""
    labels: Path | None = None
    """Label bank that is calibrated (its bank.json is written); default: the model's own taxa (linnaea.json)."""
    no_organism: Path | None = None
    """Folder of pictures that show no organism; teaches where recognition begins."""
    organisms: tuple[str, ...] = ()
    """Splits whose photographs show what organisms look like, beside those of --split, for --no-organism; the model may
    have been trained on them. 4,000 are taken, at most."""
    strangers: bool = False
    """Learn from each photograph once more as if the labels lacked its species, or its genus: surer less often, and
    right more often about what the labels lack."""
    text_type: TextType = TextType.TAXON_COM
    """Caption form of the model's own taxa."""
    pretrained: str | None = None
    """open_clip's tag, where the model is an architecture's name."""
    device: str = "auto"
    """cpu, cuda, mps or auto."""
    workers: int = 2
    """Threads that decode."""

    def __post_init__(self) -> None:
        if self.organisms and self.no_organism is None:
            raise ValueError("--organisms needs --no-organism: what shall they be told from?")


def calibrate(options: Calibrate) -> int:
    """Learn, say what was learnt, write it beside the model or the bank."""
    from linnaea.cli.folder_vectors import encode_folder
    from linnaea.data.shards import DataSet
    from linnaea.model.load import load_model
    from linnaea.predict.calibration import UNKNOWN, find_groups, write_calibration
    from linnaea.predict.calibration_fit import fit_calibration
    from linnaea.taxonomy.ranks import RANK_LABELS, Rank

    whole = DataSet.open(options.data).sources(options.sources)
    splits, others = ([whole.split(name) for name in names] for names in (options.split, options.organisms))
    model = load_model(options.model, pretrained=options.pretrained, device=options.device)
    bank, folder = _open_labels(options, model)
    truth = [split.taxon(number) for split in splits for number in split.index["taxon_id"]]
    vectors = _encode(model, _places(splits), options.workers)
    nothing = encode_folder(model, options.no_organism, options.workers) if options.no_organism else None
    more = _encode(model, _draw(_places(others)), options.workers) if others else None
    group = find_groups(truth, bank)
    learnt = fit_calibration(
        vectors,
        group,
        bank,
        model.logit_scale,
        nothing_ME=nothing,
        organism_OE=more,
        with_strangers=options.strangers,
    )
    path = write_calibration(folder, learnt)
    print(f"temperature {learnt.temperature:.3f}")
    if learnt.untrained < 1:
        print(f"labels that the model was not trained on: {learnt.untrained:.3g} times as likely")
    for label, value in zip(RANK_LABELS, learnt.sharpness, strict=True):
        print(f"{label:<10}sharpness {value:.3f}")
    known = int((group[:, Rank.SPECIES] != UNKNOWN).sum())
    print(f"{len(truth):,} photographs, {known:,} of species among {len(bank):,} labels: {path}", flush=True)
    return DONE


def _open_labels(options: Calibrate, model: "TaxonModel") -> "tuple[LabelBank, Path]":
    from linnaea.predict.labels import LabelBank, load_cached_bank, read_taxa

    if options.labels is not None:
        bank = LabelBank.open(options.labels)
        if bank.facts.get("model") != model.fingerprint:
            raise LinnaeaError(f"{options.labels}: was built with another model; see `linnaea labels build`")
        return bank, options.labels
    folder = Path(options.model)
    own = next((place for place in (folder, folder / "model") if (place / "taxa.parquet").exists()), None)
    if own is None:
        raise LinnaeaError(f"{options.model}: brings no taxa of its own; give --labels BANK")
    with progress_bar("encoding labels", "labels") as on_progress:
        return load_cached_bank(model, read_taxa(own), options.text_type, on_progress=on_progress), own


def _places(splits: "list[DataSet]") -> "list[tuple[DataSet, int]]":
    return [(part, row) for part in splits for row in range(len(part))]


def _draw(places: "list[tuple[DataSet, int]]") -> "list[tuple[DataSet, int]]":
    """Some photographs, the same ones every time."""
    import numpy as np

    return [places[number] for number in np.sort(np.random.default_rng(0).permutation(len(places))[:MOST_ORGANISMS])]


def _encode(model: "TaxonModel", places: "list[tuple[DataSet, int]]", n_workers: int) -> "NDArray[np.float32]":
    import numpy as np

    from linnaea.data.images import ImageError
    from linnaea.model.encode import iter_encoded_images

    vectors = np.empty((len(places), model.width), np.float32)
    items = ((number, part.read(row)) for number, (part, row) in enumerate(places))
    with progress_bar("encoding images", "images") as on_progress:
        for number, vector in iter_encoded_images(model, items, n_workers=n_workers):
            if isinstance(vector, ImageError):
                raise LinnaeaError(f"sample {number}: {vector}; see `linnaea data check`")
            vectors[number] = vector
            on_progress(number + 1, len(places))
    return vectors
