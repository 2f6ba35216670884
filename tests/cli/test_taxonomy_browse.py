"""lineage, search and tree: what is printed, what is said where a name is not there, and the page that is drawn."""

from pathlib import Path

import pytest

from linnaea.cli import DONE, FAILED, USAGE, Commands, _parse, _verdict, taxonomy_browse

TABLE = """kingdom,phylum,class,order,family,genus,species,common_name
Animalia,Chordata,Aves,Passeriformes,Corvidae,Pica,hudsonia,Black-billed Magpie
Animalia,Chordata,Aves,Passeriformes,Corvidae,Pica,pica,Eurasian Magpie
Animalia,Chordata,Aves,Passeriformes,Corvidae,Corvus,corax,Common Raven
Animalia,Chordata,Aves,Passeriformes,Muscicapidae,Oenanthe,oenanthe,Northern Wheatear
Plantae,Tracheophyta,Magnoliopsida,Apiales,Apiaceae,Oenanthe,aquatica,Fine-leaved Water Dropwort
"""


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("LINNAEA_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "birds.csv"
    path.write_text(TABLE)
    return str(path)


def call(commands: Commands, *words: str) -> tuple[int, str]:
    """Exit code and error message of one command, as the command line gives them."""
    options, run = commands[words[0]]
    try:
        return run(_parse(options, f"linnaea taxonomy {words[0]}", list(words[1:]))), ""
    except SystemExit as stop:
        return int(stop.code or 0), ""
    except Exception as error:
        return _verdict(error)


def browse(*words: str) -> tuple[int, str]:
    return call(taxonomy_browse.COMMANDS, *words)


@pytest.mark.parametrize("name", ["Pica hudsonia", "pica_hudsonia", "black-billed magpie"])
def test_a_lineage_by_any_of_its_names(table: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert browse("lineage", name, "--checklist", table) == (DONE, "")
    out = capsys.readouterr().out
    for label, value in (("kingdom", "Animalia"), ("family", "Corvidae"), ("species", "hudsonia")):
        assert f"{label:<9}{value}" in out
    assert "Black-billed Magpie" in out


def test_all_homonyms_are_printed_with_their_kingdoms(table: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert browse("lineage", "Oenanthe", "--checklist", table)[0] == DONE
    out, err = capsys.readouterr()
    assert out.count("Oenanthe (genus") == 2
    assert "Animalia" in out
    assert "Plantae" in out
    assert "2 taxa" in err
    assert browse("lineage", "Oenanthe", "--checklist", table, "--kingdom", "Plantae")[0] == DONE
    assert capsys.readouterr().out.count("Oenanthe (genus") == 1


def test_an_unknown_name_fails_in_one_line_with_the_nearest(table: str, capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("lineage", "tree"):
        code, message = browse(verb, "Pica hudsonica", "--checklist", table)
        assert code == FAILED
        assert "Pica hudsonia" in message
        assert "\n" not in message
    code, message = browse("lineage", "Pica pica", "--checklist", table, "--kingdom", "Fungi")
    assert code == FAILED
    assert "Fungi" in message
    assert browse("lineage", " ", "--checklist", table)[0] == USAGE
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("Pica hudsnoia", "Pica hudsonia"),
        ("hudsonia pica", "Pica hudsonia"),
        ("Corvidea", "Corvidae"),
        ("comon ravn", "Corvus corax"),
        ("magpie eurasian", "Pica pica"),
        ("dropwort", "Oenanthe aquatica"),
        ("OENANTHE_OENANTHE", "Oenanthe oenanthe"),
    ],
)
def test_search_forgives_slips_of_the_pen(
    table: str, text: str, first: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert browse("search", text, "--checklist", table) == (DONE, "")
    header, best, *_ = capsys.readouterr().out.splitlines()
    assert header.split("\t")[0] == "name"
    assert best.split("\t")[0] == first


def test_search_keeps_to_its_limits(table: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert browse("search", "pica", "--checklist", table, "--rank", "genus", "--top-k", "1")[0] == DONE
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[:2] for line in lines[1:]] == [["Pica", "genus"]]
    assert browse("search", "zzzzzzzz", "--checklist", table)[0] == FAILED
    assert browse("search", "pica", "--checklist", table, "--top-k", "0")[0] == USAGE


def test_a_clade_is_printed_to_a_depth(table: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert browse("tree", "Corvidae", "--checklist", table) == (DONE, "")
    assert capsys.readouterr().out.splitlines() == [
        "Corvidae  family, 3 species",
        "├─ Corvus  genus, 1 species",
        "│  └─ Corvus corax",
        "└─ Pica  genus, 2 species",
        "   ├─ Pica hudsonia",
        "   └─ Pica pica",
    ]
    assert browse("tree", "Corvidae", "--checklist", table, "--depth", "1", "--limit", "1")[0] == DONE
    assert capsys.readouterr().out.splitlines()[1:] == ["├─ Pica  genus, 2 species", "└─ … and 1 more"]
    assert browse("tree", "life", "--checklist", table, "--depth", "1")[0] == DONE
    assert "Life  5 species" in capsys.readouterr().out


def test_a_clade_with_two_meanings_asks_which(table: str) -> None:
    code, message = browse("tree", "Oenanthe", "--checklist", table)
    assert code == FAILED
    assert "--kingdom" in message
    assert browse("tree", "Oenanthe", "--checklist", table, "--kingdom", "animalia")[0] == DONE


def test_the_page_of_a_clade_is_offline(table: str, tmp_path: Path) -> None:
    page = tmp_path / "out" / "corvids.html"
    assert browse("tree", "Corvidae", "--checklist", table, "--plot", str(page)) == (DONE, "")
    html = page.read_text()
    assert "default-src 'none'" in html
    assert "Corvus corax" in html
    assert "All 5 taxa below it are shown." in html
