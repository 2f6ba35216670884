"""The JSON of the REST service, and how answers become it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pydantic import BaseModel, Field

from linnaea.predict.classifier import Guess
from linnaea.predict.inputs import Input
from linnaea.predict.labels import LabelBank
from linnaea.predict.outputs.rows import make_row, rows_of
from linnaea.predict.predictor import Answer, Predictor
from linnaea.predict.surroundings import ENGLISH
from linnaea.taxonomy.columns import TAXON_COLUMNS, answer_names
from linnaea.taxonomy.find import Finder
from linnaea.taxonomy.ranks import Rank


class TaxonScore(BaseModel):
    """A taxon and its probability, also in the columns of the command's files."""

    rank: str
    name: str
    common_name: str
    probability: float
    lineage: list[str]
    kingdom: str
    phylum: str
    class_: str = Field(alias="class")
    order: str
    family: str
    genus: str
    species_epithet: str
    species: str
    score: float


class Result(BaseModel):
    """The answer to one photograph."""

    file_name: str
    status: str
    """ok, abstained or failed"""
    reason: str
    answer: TaxonScore | None
    """The deepest taxon that reaches the confidence."""
    path: list[TaxonScore]
    """The likeliest taxon at each rank below the one before, from kingdom down, with the probabilities that decide at
    rank ``auto``: the answer is the deepest one that reaches the confidence."""
    alternatives: list[TaxonScore]
    """The likeliest taxa of the requested rank; for rank ``auto``, the answer."""
    prior: str
    """If a place was given: whether it ``changed`` the likeliest alternative or left it the ``same``."""
    recognised: bool
    """True if the photograph shows enough evidence of an organism."""
    abstention: str
    """Why there is no answer: ``no organism``, ``not among the labels`` or ``not sure enough``; empty if there is."""
    rows: list[dict[str, str | float | None]]
    """The rows that ``linnaea predict`` writes for this photograph and question."""


class Results(BaseModel):
    """The answers to a request's photographs, in order."""

    model: str
    n_labels: int
    results: list[Result]


class Clade(BaseModel):
    """A taxon above the labels, for completion."""

    clade: str
    rank: str
    name: str
    n_labels: int
    names: dict[str, str]
    """Its names in the command's columns, the common name among them."""


def list_clades(bank: LabelBank, finder: Finder, text: str, limit: int) -> list[Clade]:
    """Return the taxa that complete a text, with their names."""
    clades = []
    for rank, name, n, row in finder.complete(text, limit).select("rank", "name", "n", "row").iter_rows():
        names = answer_names(bank.taxon(row).at(Rank.parse(rank)))
        names |= {"common_name": names["common_name"] or ENGLISH.get(name, "")}
        clades.append(Clade(clade=f"{rank}:{name}", rank=rank, name=name, n_labels=n, names=names))
    return clades


def answer_all(photographs: list[tuple[Input, Any]], predictor: Predictor) -> list[Result]:
    """Return the answers for photographs' vectors, at the requested rank and as deep as the confidence allows."""
    inputs, vectors = (list(each) for each in zip(*photographs, strict=True))
    auto, results = replace(predictor.asked, rank=None), list[Result]()
    for judged in predictor.judge(inputs, vectors):
        wanted = deepest = predictor.choose(judged, predictor.asked)
        if predictor.asked.rank is not None:
            deepest = predictor.choose(judged, auto)
        each = zip(wanted, deepest, predictor.paths(judged), judged.recognised_B, strict=True)
        results += [make_result(one, deep, path, recognised=bool(known)) for one, deep, path, known in each]
    return results


def make_result(
    wanted: Answer, deepest: Answer | None = None, path: Sequence[Guess] = (), *, recognised: bool = False
) -> Result:
    """Return the answer to a photograph at the rank that was asked for, and the deepest one that is sure enough."""
    deepest = deepest or wanted
    return Result(
        file_name=wanted.input.name,
        status=deepest.status,
        reason="; ".join(filter(None, (deepest.reason, deepest.note))),
        answer=_score(deepest.guesses[0]) if deepest.guesses else None,
        path=[_score(guess) for guess in path],
        alternatives=[_score(guess) for guess in wanted.guesses],
        prior=wanted.prior,
        recognised=recognised,
        abstention=deepest.abstention,
        rows=rows_of(wanted),
    )


def _score(guess: Guess) -> TaxonScore:
    """Return a taxon with the command's columns, without those of the photograph."""
    taxon, row = guess.taxon, make_row("", guess)
    return TaxonScore(
        name=taxon.name,
        probability=round(guess.score, 7),
        lineage=[name for name in taxon.lineage[: Rank.SPECIES] if name],
        **{column: row[column] for column in TAXON_COLUMNS},
    )
