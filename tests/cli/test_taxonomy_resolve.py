"""``linnaea taxonomy resolve`` keeps rows and order, adds its columns, and says 3 only for rows it cannot read."""

from pathlib import Path

import polars as pl
import pytest

from linnaea.cli import DONE, FAILED, SOME_FAILED, USAGE, main
from linnaea.taxonomy.columns import RESULT_COLUMNS

CHECKLIST = (
    "kingdom,class,family,genus,species,common_name\n"
    "Animalia,Aves,Corvidae,Pica,pica,Eurasian Magpie\n"
    "Animalia,Aves,Prunellidae,Prunella,modularis,Dunnock\n"
    "Plantae,Magnoliopsida,Lamiaceae,Prunella,vulgaris,Selfheal\n"
)


@pytest.fixture(autouse=True)
def birds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LINNAEA_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "birds.csv"
    path.write_text(CHECKLIST)
    return path


def resolve(source: Path, output: Path, checklist: Path | str, *more: str) -> int:
    return main(["taxonomy", "resolve", str(source), "--output", str(output), "--checklist", str(checklist), *more])


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet"])
def test_columns_are_added_and_rows_stay(tmp_path: Path, birds: Path, suffix: str) -> None:
    source, output = tmp_path / "in.csv", tmp_path / f"out.{suffix}"
    source.write_text("id,name,note\n3,Pica pica,a\n1,PICA_PICA,b\n2,unknown,c\n3,Pica pica,d\n4,,e\n5,Foo bar,f\n")
    assert resolve(source, output, birds, "--column", "name") == DONE
    if suffix == "parquet":
        table = pl.read_parquet(output)
    else:
        table = pl.read_csv(output, separator="\t" if suffix == "tsv" else ",", infer_schema=False)
    assert table["id"].to_list() == ["3", "1", "2", "3", "4", "5"]
    assert table["note"].to_list() == list("abcdef")
    ours = ["resolved_note" if name == "note" else name for name in RESULT_COLUMNS]
    assert table.columns == ["id", "name", "note", *ours]
    assert table["status"].to_list() == ["accepted", "accepted", "rejected", "accepted", "rejected", "unresolved"]
    assert table["species"].to_list()[0] == "pica"
    assert table["common_name"].to_list()[0] == "Eurasian Magpie"


def test_context_and_rank_columns(tmp_path: Path, birds: Path) -> None:
    source, output = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text("name,Family\nPrunella,Lamiaceae\nPrunella,\n")
    assert resolve(source, output, birds, "--column", "name") == DONE
    assert pl.read_csv(output)["status"].to_list() == ["genus_only", "ambiguous"]
    assert resolve(source, output, birds, "--column", "name", "--context", "kingdom=Animalia") == DONE
    assert pl.read_csv(output)["status"].to_list() == ["conflict", "genus_only"]


def test_a_text_file_with_a_name_per_line(tmp_path: Path, birds: Path) -> None:
    source, output = tmp_path / "names.txt", tmp_path / "out.csv"
    source.write_text("Pica pica\nDunnock\n")
    assert resolve(source, output, birds) == DONE
    assert pl.read_csv(output)["status"].to_list() == ["accepted", "vernacular"]


def test_rows_that_cannot_be_read_are_kept_and_make_three(tmp_path: Path, birds: Path) -> None:
    source, output = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text('name,n\nPica pica,1\nDunnock,2,3,4\n"Pica, pica",5\n')
    assert resolve(source, output, birds, "--column", "name") == SOME_FAILED
    table = pl.read_csv(output, infer_schema=False)
    assert table["n"].to_list() == ["1", "2", "5"]
    assert table["status"].to_list()[:2] == ["accepted", "rejected"]
    assert "4 cells" in table["note"][1]


def test_another_encoding_is_read(tmp_path: Path, birds: Path) -> None:
    source, output = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_bytes("name,place\nPica pica,Zürich\n".encode("cp1252"))
    assert resolve(source, output, birds, "--column", "name") == DONE
    assert pl.read_csv(output)["place"].to_list() == ["Zürich"]


def test_an_imported_checklist_goes_by_its_name(
    tmp_path: Path, birds: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["taxonomy", "checklists", "--add", str(birds), "--name", "mine"]) == DONE
    printed = capsys.readouterr().err
    assert " rows in = " in printed and "columns used: " in printed and "imported mine" in printed
    birds.unlink()
    source, output = tmp_path / "in.txt", tmp_path / "out.csv"
    source.write_text("Selfheal\n")
    assert resolve(source, output, "mine") == DONE
    assert pl.read_csv(output)["scientific_name"].to_list() == ["Prunella vulgaris"]
    capsys.readouterr()
    assert main(["taxonomy", "checklists"]) == DONE
    assert "mine" in capsys.readouterr().out
    assert main(["taxonomy", "checklists", "--show", "mine"]) == DONE
    assert "species" in capsys.readouterr().out


def test_an_import_without_a_taxon_fails_and_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "list.csv"
    path.write_text("name\nPica sp.\nCorvus sp.\n")
    assert main(["taxonomy", "checklists", "--add", str(path)]) == FAILED
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "no taxon of a rank from kingdom to species" in line
    assert "not the name of one taxon: Pica sp., Corvus sp." in line


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        (["--column", "nam"], USAGE, "no column"),
        ([], USAGE, "no column of names"),
        (["--column", "name", "--context", "Plantae"], USAGE, "RANK=NAME"),
        (["--column", "name", "--context", "kindom=Plantae"], FAILED, "not a rank"),
        (["--column", "name", "--context", "kingdom=Plantea"], FAILED, "check the spelling"),
    ],
)
def test_mistakes_are_told_in_one_line(
    tmp_path: Path, birds: Path, capsys: pytest.CaptureFixture[str], more: list[str], code: int, words: str
) -> None:
    source, output = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text("name,n\nPica pica,1\n")
    assert resolve(source, output, birds, *more) == code
    assert words in capsys.readouterr().err
    assert not output.exists()


def test_missing_files_and_checklists(tmp_path: Path, birds: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "in.csv"
    assert resolve(source, tmp_path / "out.csv", birds, "--column", "name") == FAILED
    assert "no such file" in capsys.readouterr().err
    source.write_text("name\nPica pica\n")
    assert resolve(source, tmp_path / "out.csv", "no-such-list") == FAILED
    assert "neither a checklist" in capsys.readouterr().err
    source.write_text("")
    assert resolve(source, tmp_path / "out.csv", birds) == FAILED
    assert "empty" in capsys.readouterr().err
