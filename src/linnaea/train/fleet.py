"""The GPUs that a run is planned for, and how fast they train: measured rates, and what is assumed beside them."""

import re
from dataclasses import dataclass

from linnaea.errors import UsageError

PEAKS = {
    "B200": 2250e12, "H200": 989e12, "H100": 989e12, "GH200": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12,
    "A10": 125e12, "V100": 125e12, "T4": 65e12, "4090": 165e12, "3090": 71e12,
}  # fmt: skip
"""Dense bf16 (fp16 before Ampere) operations per second, from the vendors' data sheets."""

PICTURES_PER_THREAD = 2_280
"""Pictures per second that one decoding thread loads from shards of 256 pixels (benchmarks/RESULTS.md)."""
BYTES_PER_PICTURE = 21_000
"""Size of a stored picture with a short side of 256 pixels, at quality 90."""

_DEVICES = ("auto", "cpu", "cuda", "mps")


@dataclass(frozen=True, kw_only=True)
class _Rate:
    """A measured share of the peak arithmetic, without recomputation."""

    utilisation: float
    source: str


_PLAIN = _Rate(utilisation=0.216, source="1,974 samples/s, compiled, batch 1,024")
_RECOMPUTED = _Rate(utilisation=0.184, source="1,742 samples/s, gradient checkpointing, batch 4,096")
_IN_PARTS = _Rate(utilisation=0.164, source="1,587 samples/s, batch 16,384 in 16 parts")
"""ViT-B/16 in bf16 on one H200, 27 November 2026, before the towers had their training form."""


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """A number of GPUs of one kind."""

    name: str
    n: int

    @property
    def peak(self) -> float:
        """Return the peak operations per second of all GPUs together."""
        return self.n * PEAKS[self.name]


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """The expected speed of a run on a fleet, and the measurements that it is based on."""

    samples_per_s: float
    utilisation: float
    basis: str


def find_fleet(device: str) -> Fleet | None:
    """Return the GPUs that a word such as ``H200x8`` or ``A100`` names, or ``None`` for a device of this machine.

    Raises:
        UsageError: The word names neither.
    """
    if device.split(":", maxsplit=1)[0] in _DEVICES:
        return None
    found = re.fullmatch(r"([A-Za-z0-9]+?)(?:x(\d+))?", device)
    name, n = (found[1].upper(), int(found[2] or 1)) if found else ("", 0)
    if name not in PEAKS or n < 1:
        raise UsageError(f"--device {device}: not a GPU that is known; give one of {', '.join(PEAKS)}, as in H200x8")
    return Fleet(name=name, n=n)


def forecast(fleet: Fleet, flops_per_sample: float, *, recomputes: bool, in_parts: bool) -> Forecast:
    """Return the expected speed from the utilisation that was measured for ViT-B/16 on one H200.

    ``flops_per_sample`` leaves out what is computed twice: with ``recomputes`` (gradient checkpointing) and
    ``in_parts`` (accumulation) the utilisation is that of such runs.
    """
    rate = _IN_PARTS if in_parts else _RECOMPUTED if recomputes else _PLAIN
    assumed = [] if fleet.name == "H200" else [f"{fleet.name} assumed to be used as well"]
    assumed += [f"{fleet.n} GPUs assumed to be {fleet.n} times as fast as one"] if fleet.n > 1 else []
    basis = f"measured for ViT-B/16 on one H200 ({rate.source})"
    return Forecast(
        samples_per_s=fleet.peak * rate.utilisation / flops_per_sample,
        utilisation=rate.utilisation,
        basis="; ".join([basis, *assumed]),
    )
