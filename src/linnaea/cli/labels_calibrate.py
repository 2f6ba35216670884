"""``linnaea labels calibrate``: make a model's probabilities mean what they say, from photographs with known names."""

from dataclasses import dataclass
from pathlib import Path

from linnaea.cli import DONE
from linnaea.cli.console import warn
from linnaea.taxonomy.taxon import TextType


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


def calibrate(options: Calibrate) -> int:
    """Calibrate, and print what was learned."""
    from linnaea.predict.calibrate import calibrate
    from linnaea.taxonomy.ranks import RANK_LABELS

    found = calibrate(**vars(options))
    for note in found.notes:
        warn(note)
    learned = found.calibration
    print(f"temperature {learned.temperature:.3f}")
    if learned.untrained < 1:
        print(f"labels that the model was not trained on: {learned.untrained:.3g} times as likely")
    for label, value in zip(RANK_LABELS, learned.sharpness, strict=True):
        print(f"{label:<10}sharpness {value:.3f}")
    print(f"{found.n_images:,} photographs, {found.n_known:,} of species among {found.n_labels:,} labels: {found.path}",
          flush=True)  # fmt: skip
    return DONE
