"""A confidence holds for all ranks or has one for each, and means the same through every door."""

from pathlib import Path
from typing import Any

import pytest

import linnaea
from linnaea.cli import main
from linnaea.cli.predict import parse
from linnaea.errors import UsageError
from linnaea.predict.confidence import parse_confidence


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (0.8, 0.8),
        ("0.8", 0.8),
        ("species=0.95 genus=0.5", (0.9,) * 5 + (0.5, 0.95)),
        ("Species=0.95,genus=0.5", (0.9,) * 5 + (0.5, 0.95)),
        ({"species": 0.95, "genus": 0.5}, (0.9,) * 5 + (0.5, 0.95)),
        ("0.7, species=0.95", (0.7,) * 6 + (0.95,)),
        ("kingdom=.99", (0.99,) + (0.9,) * 6),
    ],
)
def test_every_way_of_writing_it(given: Any, expected: Any) -> None:
    assert parse_confidence(given) == expected


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("7", "'7' is not a number above 0"),
        ("nan", "above 0 and at most 1"),
        ("species=0", "confidence of species"),
        ("tribe=0.9", "'tribe' is not a rank"),
        ("species=0.9 species=0.8", "stated twice"),
        ("0.9 0.8", "stated twice"),
        ("", "write a number"),
        ({}, "write a number"),
    ],
)
def test_what_is_no_confidence_is_refused(given: Any, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        parse_confidence(given)


@pytest.mark.parametrize(
    ("words", "confidence", "images"),
    [
        ("--confidence species=0.95 genus=0.9 a.jpg", "species=0.95,genus=0.9", ("a.jpg",)),
        ("a.jpg b.jpg --confidence 0.8", "0.8", ("a.jpg", "b.jpg")),
        ("--confidence 0.7 species=.95 a.jpg", "0.7,species=.95", ("a.jpg",)),
        ("--confidence=species=0.95 a.jpg", "species=0.95", ("a.jpg",)),
    ],
)
def test_photographs_may_follow_it(words: str, confidence: str, images: tuple[str, ...]) -> None:
    options = parse("linnaea predict", words.split())
    assert options.confidence == confidence
    assert options.images == images


def test_it_warns_where_it_does_not_count(photographs: Path, trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = min(photographs.rglob("*.jpg"))
    words = ["predict", str(image), "--model", str(trained), "--format", "csv", "--confidence", "0.5"]
    assert main(words) == 0
    assert capsys.readouterr().err.count("--confidence counts with --rank auto only") == 1
    assert main([*words, "--rank", "auto"]) == 0
    assert "--rank auto only" not in capsys.readouterr().err
    with pytest.warns(UserWarning, match="--rank auto only"):
        linnaea.open(trained).predict(image, confidence=0.5)


def test_the_command_and_python_agree_by_rank(
    photographs: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = min(photographs.rglob("*.jpg"))
    model = linnaea.open(trained, calibrated=False)
    genus = model.predict(image, rank="genus")[0].score
    assert genus is not None
    least = {"species": 1.0, "genus": genus - 1e-4}
    words = [f"{rank}={value}" for rank, value in least.items()]
    auto = ["--rank", "auto", "--no-calibration", "--format", "csv"]
    assert main(["predict", "--confidence", *words, str(image), "--model", str(trained), *auto]) == 0
    row = capsys.readouterr().out.splitlines()[1]
    (answer,) = model.predict(image, rank="auto", confidence=least)
    assert [*answer.lineage][-1] == "genus"
    assert f",{answer.lineage['genus']},,," in row
