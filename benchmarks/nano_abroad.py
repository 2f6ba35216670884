"""Is the bundled model's word kept for photographs from elsewhere? One source after the other is left out.

    python benchmarks/nano_abroad.py --data DATA --rehearsals RUN ... [--no-organism EMPTY] [--model nano]

DATA and the runs, each trained without some sources, are made by the commands in docs/nano.md. Each source that a run
was not trained on is asked in turn, and trust is learned without it. Prints, for the ways to decide how deep an answer
goes, how much is answered and how much of it is right: on all these sources together, on each of them, and on `test`
and `unseen` of the model itself; before that, the share of `test` whose class is right. The ways:

- probability: the deepest taxon whose calibrated probability is as large as asked;
- bound: for each rank the least probability from which on the sources, pooled, are right as often as asked with 95%
  confidence (fixed-sequence tests of Angelopoulos et al., "Learn then Test", 2021, with exact binomial bounds);
- trust: the rule of the product, docs/nano.md.

With pictures of no organism, it also prints how many photographs of the sources left out are taken for such pictures.
"""

import argparse
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from linnaea.data.shards import DataSet
from linnaea.evaluate.intervals import bootstrap_mean
from linnaea.model.folders import LABELS_FOLDER, find_model_folder
from linnaea.model.load import TaxonModel
from linnaea.model.open import load_model
from linnaea.predict.calibrate import MOST_ORGANISMS, encode_no_organism
from linnaea.predict.calibration import Calibration, find_groups, has_names
from linnaea.predict.calibration_fit import fit_calibration
from linnaea.predict.classifier import iter_scored
from linnaea.predict.labels import LabelBank, load_class_heads
from linnaea.predict.places import draw_places, encode_places, list_places, sources_at, taxa_at
from linnaea.predict.published import open_bank
from linnaea.predict.rehearsals import draw_strangers, rehearse_run, split_sources
from linnaea.predict.trust import weigh_signs
from linnaea.predict.trust_fit import Rehearsal, rehearse
from linnaea.taxonomy.ranks import N_RANKS, Rank
from linnaea.taxonomy.taxon import Taxon

ASKED = (0.8, 0.9, 0.95)
NO_RANK = -1
LEAST = 5
"""The least number of photographs of a class whose share counts."""
Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Confidence = Callable[[Rehearsal], Floats]
"""Returns ``[N, 7]``: the confidence in each step of the paths of a rehearsal."""


def read_probability(answers: Rehearsal) -> Floats:
    return np.asarray(1 / (1 + np.exp(-answers.signs_NRS[:, :, 0])))


def bound_errors(abroad: Sequence[Rehearsal], asked: float) -> Confidence:
    """Return a confidence that is `asked` exactly where a rank's probability reaches the bound."""
    least = np.full(N_RANKS, np.inf)
    for rank in Rank:
        judged = [one.judged_NR[:, rank] for one in abroad]
        p = np.concatenate([read_probability(one)[keep, rank] for one, keep in zip(abroad, judged, strict=True)])
        right = np.concatenate([one.right_NR[keep, rank] for one, keep in zip(abroad, judged, strict=True)])
        for wanted in np.concatenate([np.linspace(0.999, 0.9, 100), np.linspace(0.89, 0.1, 80)]):
            n = int((p >= wanted).sum())
            n_right = int(right[p >= wanted].sum())
            if n >= 30 and beta.ppf(0.05, n_right, n - n_right + 1) < asked:
                break
            least[rank] = wanted if n >= 30 else least[rank]
    return lambda answers: np.where(read_probability(answers) >= least, 1.0, 0.0)


def choose(confidence_NR: Floats, asked: float) -> Ints:
    """Return the deepest rank whose confidence is as large as asked, `NO_RANK` if there is none."""
    enough = confidence_NR >= asked
    return np.where(enough.any(axis=1), N_RANKS - 1 - enough[:, ::-1].argmax(axis=1), NO_RANK)


def judge(answers: Rehearsal, deepest_N: Ints) -> Floats:
    """Return for each photograph 1 or 0, right or wrong, at the rank that was said; NaN where nothing was said."""
    right = np.full(len(deepest_N), np.nan)
    for row in np.flatnonzero(deepest_N != NO_RANK):
        named = np.flatnonzero(answers.judged_NR[row, : deepest_N[row] + 1])
        right[row] = answers.right_NR[row, named[-1]] if len(named) else np.nan
    return right


def describe(right: Floats, deepest: Ints, taxa: Ints) -> tuple[str, ...]:
    """Return the cells of a row: answered, right with its interval (taxa drawn whole), each rank, species."""
    told = ~np.isnan(right)
    if not told.any():
        return "0", "", "", "0"
    share = bootstrap_mean(right[told], group_N=taxa[told])
    parts = [(rank, told & (deepest == rank)) for rank in Rank]
    ranks = [f"{rank.label} {100 * right[at].mean():.0f} ({100 * at.mean():.0f})" for rank, at in parts if at.any()]
    return (f"{100 * told.mean():.0f}", f"{100 * share.mean:.1f} ({100 * share.low:.1f}–{100 * share.high:.1f})",
            ", ".join(ranks), f"{100 * (deepest == Rank.SPECIES).mean():.0f}")  # fmt: skip


def number_taxa(taxa: Sequence[Taxon]) -> Ints:
    numbers = {taxon: number for number, taxon in enumerate(dict.fromkeys(taxa))}
    return np.array([numbers[taxon] for taxon in taxa])


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Photographs of one source or split, as they were answered, and their taxa."""

    name: str
    answers: Rehearsal
    taxa: Sequence[Taxon]

    def judge(self, confidence_of: Confidence, asked: float) -> tuple[Floats, Ints, Ints]:
        deepest = choose(confidence_of(self.answers), asked)
        return judge(self.answers, deepest), deepest, number_taxa(self.taxa)


def ask_runs(runs: Sequence[Path], data: DataSet, ranks: Collection[Rank]) -> list[Asked]:
    """Ask each run about each source that it was not trained on."""
    asked = []
    for run in runs:
        _, others = split_sources(run, data)
        for source, answers in zip(others, rehearse_run(run, data, ("val",), "cpu", 2, ranks), strict=True):
            asked.append(Asked(name=source, answers=answers, taxa=taxa_at(draw_strangers(data, source))))
    return asked


@dataclass(frozen=True, kw_only=True)
class Home:
    """The model itself: what its calibration learns from, and how it answers the splits that nothing learns from."""

    model: TaxonModel
    bank: LabelBank
    data: DataSet

    def encode(self, split: str) -> tuple[NDArray[np.float32], list[Taxon]]:
        places = list_places([self.data.split(split)])
        return encode_places(self.model, places, 2), taxa_at(places)

    def ask(self, split: str, calibration: Calibration) -> Asked:
        vectors, taxa = self.encode(split)
        answers = rehearse(vectors, find_groups(taxa, self.bank), has_names(taxa), self.bank, calibration,
                           self.model.logit_scale)  # fmt: skip
        return Asked(name=f"`{split}`", answers=answers, taxa=taxa)


def print_classes(asked: Asked) -> None:
    """Print for each class how many photographs are of it, and how many are said to be, among all labels."""
    names = np.array([taxon[Rank.CLASS] for taxon in asked.taxa])
    right = asked.answers.right_NR[:, Rank.CLASS]
    shares = [(int((names == name).sum()), float(right[names == name].mean()), name) for name in set(names) - {""}]
    for n, share, name in sorted(shares, reverse=True):
        print_row(name, n, f"{100 * share:.1f}")
    large = [share for n, share, _ in shares if n >= LEAST]
    print_row(f"mean of the {len(large)} classes of {LEAST} photographs or more", "", f"{100 * np.mean(large):.1f}")


def print_nothing(run: Path, data: DataSet, no_organism: Path) -> None:
    """Print for each source that a run was not trained on the share of its photographs that are called no organism."""
    model, bank = load_model(str(run), device="cpu"), load_class_heads(run)[Rank.SPECIES]
    own, others = split_sources(run, data)
    known = data.sources(own)
    places, more = (list_places([known.split(split)]) for split in ("val", "train"))
    more = draw_places(more, MOST_ORGANISMS)
    calibration = fit_calibration(
        encode_places(model, places, 2), find_groups(taxa_at(places), bank), bank, model.logit_scale,
        nothing_ME=encode_no_organism(model, no_organism, 2)[0], organism_OE=encode_places(model, more, 2),
        sources=sources_at(places + more),
    )  # fmt: skip
    for source in others:
        blocks = iter_scored(
            encode_places(model, draw_strangers(data, source), 2), bank, model.logit_scale / calibration.temperature
        )
        recognised = np.concatenate([calibration.recognises(calibration.weigh(block)) for block in blocks])
        print_row(run.name, source, len(recognised), f"{100 * (1 - recognised.mean()):.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rehearsals", type=Path, nargs="+", required=True)
    parser.add_argument("--no-organism", type=Path)
    parser.add_argument("--model", default="nano")
    given = parser.parse_args()
    model, data = load_model(given.model, device="cpu"), DataSet.open(given.data)
    folder = find_model_folder(given.model) or Path(given.model)
    home = Home(model=model, bank=open_bank(folder / LABELS_FOLDER, model), data=data)
    vectors, taxa = home.encode("val")
    abroad = ask_runs(given.rehearsals, data, home.bank.heads)

    @cache
    def learn(left_out: str) -> Calibration:
        others = [one.answers for one in abroad if one.name != left_out]
        return fit_calibration(vectors, find_groups(taxa, home.bank), home.bank, model.logit_scale,
                               with_strangers=True, abroad=others)  # fmt: skip

    def trust(left_out: str) -> Confidence:
        weights = learn(left_out).trust.weights
        return lambda answers: weigh_signs(answers.signs_NRS, weights)

    splits = [home.ask(split, learn("")) for split in ("test", "unseen")]
    print_classes(splits[0])
    print_row("asked", "decides", "photographs of", "answered, %", "right, % (95% interval)",
              "right at the rank that is said (% of photographs)", "species said, %")  # fmt: skip
    print_row(*["---"] * 3, *["---:"] * 2, "---", "---:")
    for asked in ASKED:
        ways: dict[str, Callable[[str], Confidence]] = {
            "probability": lambda _: read_probability,
            "bound": lambda name, asked=asked: bound_errors([o.answers for o in abroad if o.name != name], asked),
            "trust": trust,
        }
        for way, learn_without in ways.items():
            judged = {one.name + str(number): one.judge(learn_without(one.name), asked)
                      for number, one in enumerate(abroad)}  # fmt: skip
            offsets = np.cumsum([0, *(len(one.taxa) for one in abroad)])
            right, deepest, kinds = (np.concatenate(parts) for parts in zip(*judged.values(), strict=True))
            kinds = kinds + offsets[:-1].repeat(np.diff(offsets))
            print_row(asked, way, "all sources left out", *describe(right, deepest, kinds))
            for one, of_source in zip(abroad, judged.values(), strict=True):
                if asked == 0.9:
                    print_row(asked, way, one.name, *describe(*of_source))
            for split in splits:
                print_row(asked, way, split.name, *describe(*split.judge(learn_without(""), asked)))
    if given.no_organism is not None:
        print_row("run", "source that it was not trained on", "photographs", "called no organism, %")
        print_row("---", "---", "---:", "---:")
        for run in given.rehearsals:
            print_nothing(run, data, given.no_organism)


def print_row(*cells: object) -> None:
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


if __name__ == "__main__":
    main()
