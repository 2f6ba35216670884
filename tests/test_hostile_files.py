"""Files that mean harm read nothing, write nothing and run nothing outside of their folder, and end nothing but
themselves. Every input here is harmless: limits are lowered, and a file elsewhere stands for a secret.
"""

import ast
import inspect
import io
import json
import os
import shutil
import socket
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from PIL import Image

from linnaea.arrays import map_array
from linnaea.cli import main
from linnaea.cli.console import machine_output, say, show_table, tell, warn
from linnaea.data.config import read_config
from linnaea.data.frames import list_frames
from linnaea.data.repair import repair
from linnaea.data.shards import DataSet, iter_members
from linnaea.data.sources import read_location
from linnaea.data.sources.bioscan import BioscanSource
from linnaea.data.sources.folder import FolderSource, iter_files
from linnaea.data.sources.huggingface import HuggingFaceSource
from linnaea.data.sources.inat21 import Inat21Source
from linnaea.data.sources.table import TableSource
from linnaea.errors import LinnaeaError
from linnaea.evaluate.evaluation import read_templates
from linnaea.parquet import read_parquet
from linnaea.predict.detection_files import open_detections
from linnaea.predict.index import Index
from linnaea.predict.inputs import list_inputs
from linnaea.predict.labels import LabelBank
from linnaea.predict.outputs.files import Context
from linnaea.predict.outputs.write import write_rows
from linnaea.predict.priors import Regions
from linnaea.predict.records.decisions import DecisionLog, read_decisions
from linnaea.progress import visible
from linnaea.storage import check_regular, open_regular, read_json, read_regular, resolve_inside, sha256_of_file
from linnaea.tables import read_list, read_table, scan_table
from linnaea.taxonomy.checklists.archive import describe_archive
from linnaea.taxonomy.checklists.ncbi import _read_dmp
from linnaea.taxonomy.checklists.source import read_checklist_source
from linnaea.taxonomy.columns import ANSWER_COLUMNS


@pytest.fixture
def data(dataset_dir: Path, tmp_path: Path) -> Path:
    """A data set to spoil, in a folder beside a file that is none of its business."""
    shutil.copytree(dataset_dir, tmp_path / "outer" / "data")
    (tmp_path / "outer" / "secret.tar").write_bytes(b"somebody else's" * 1000)
    return tmp_path / "outer" / "data"


OUTSIDE = ["../secret.tar", "train/../../secret.tar", "/etc/hostname", "", ".", "a\0b", "train/.."]


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_path_in_a_file_stays_inside_its_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(LinnaeaError, match="not a path inside this folder"):
        resolve_inside(tmp_path, name)


def test_a_path_inside_is_accepted_in_every_spelling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir()
    assert resolve_inside(tmp_path, "a/b.tar") == tmp_path / "a" / "b.tar"
    assert resolve_inside(tmp_path, str(tmp_path / "a" / "b.tar")) == tmp_path / "a" / "b.tar"
    assert resolve_inside(tmp_path, "a/..b") == tmp_path / "a" / "..b"
    monkeypatch.chdir(tmp_path)
    assert resolve_inside(Path("a"), "b") == Path("a/b")
    assert resolve_inside(Path(), "a") == Path("a")


def test_a_link_leads_out_only_where_the_user_put_it(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "secret").touch()
    (tmp_path / "home" / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(LinnaeaError, match="not a path inside"):
        resolve_inside(tmp_path / "home", "link")
    assert resolve_inside(tmp_path / "home", "link", follow_links=True) == tmp_path / "home" / "link"


def test_links_of_the_hubs_cache_are_followed(tmp_path: Path) -> None:
    snapshot = tmp_path / "models--a--b" / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    (tmp_path / "models--a--b" / "blobs").mkdir()
    (tmp_path / "models--a--b" / "blobs" / "f").touch()
    (snapshot / "bpe.txt.gz").symlink_to("../../blobs/f")
    assert resolve_inside(snapshot, "bpe.txt.gz").exists()
    (snapshot / "elsewhere").symlink_to(tmp_path)
    with pytest.raises(LinnaeaError, match="not a path inside"):
        resolve_inside(snapshot, "elsewhere")


def respell(data: Path, column: str, value: str) -> None:
    index = pl.read_parquet(data / "index.parquet")
    first = pl.int_range(pl.len()) == 0
    changed = index.with_columns(pl.when(first).then(pl.lit(value)).otherwise(pl.col(column)).alias(column))
    changed.write_parquet(data / "index.parquet")


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("shard", "../secret.tar"),
        ("shard", "/etc/passwd"),
        ("split", "../../elsewhere"),
        ("split", "/tmp"),
        ("key", "../../../marker"),
        ("key", "/tmp/marker"),
        ("key", ""),
    ],
)
def test_no_index_leads_out_of_its_data_set(column: str, value: str, data: Path, tmp_path: Path) -> None:
    respell(data, column, value)
    with pytest.raises(LinnaeaError, match=r"cannot be the name of|not a path inside"):
        DataSet.open(data)
    for form in ("parquet", "imagefolder", "webdataset"):
        assert main(["data", "export", str(data), "--output", str(tmp_path / form), "--format", form]) == 1
        assert not (tmp_path / form).exists()


def test_a_shard_that_is_a_link_publishes_nothing(data: Path, tmp_path: Path) -> None:
    shard = next(iter(DataSet.open(data).index["shard"]))
    (data / shard).unlink()
    (data / shard).symlink_to(tmp_path / "outer" / "secret.tar")
    assert main(["data", "export", str(data), "--output", str(tmp_path / "out"), "--format", "parquet"]) == 1


@pytest.mark.parametrize("name", ["../written.tar", "/tmp/written-by-repair.tar"])
def test_repair_writes_only_inside_the_data_set(name: str, data: Path) -> None:
    manifest = json.loads((data / "manifest.json").read_text())
    shard, facts = next(iter(manifest["shards"].items()))
    manifest["shards"] = {name: facts}
    (data / "manifest.json").write_text(json.dumps(manifest))
    respell(data, "shard", shard)
    with pytest.raises(LinnaeaError, match="not a path inside"):
        repair(data)
    assert not (data.parent / "written.tar").exists()
    assert not Path("/tmp/written-by-repair.tar").exists()


def test_the_size_of_a_sample_is_no_order_to_allocate(data: Path) -> None:
    index = pl.read_parquet(data / "index.parquet").with_columns(size=pl.lit(2**62, pl.Int64))
    index.write_parquet(data / "index.parquet")
    with pytest.raises(LinnaeaError, match="ends before sample"):
        DataSet.open(data).read(0)


@pytest.mark.parametrize("text", ["../secret.txt", "/etc/passwd"])
def test_an_archive_names_only_its_own_files(text: str, tmp_path: Path) -> None:
    (tmp_path / "archive").mkdir()
    (tmp_path / "secret.txt").write_text("id\n")
    meta = tmp_path / "archive" / "meta.xml"
    meta.write_text(f'<archive><core rowType="Taxon"><files><location>{text}</location></files></core></archive>')
    with pytest.raises(LinnaeaError, match="not a path inside"):
        describe_archive(meta)


def test_a_parquet_of_the_hub_packs_only_pictures_of_its_folder(tmp_path: Path) -> None:
    Image.new("RGB", (20, 20)).save(tmp_path / "secret.png")
    (tmp_path / "hub").mkdir()
    Image.new("RGB", (20, 20)).save(tmp_path / "hub" / "own.png")
    places = ["../secret.png", str(tmp_path / "secret.png"), "own.png"]
    rows = pl.DataFrame({"image": [{"bytes": None, "path": place} for place in places], "label": ["Pica pica"] * 3},
                        schema_overrides={"image": pl.Struct({"bytes": pl.Binary, "path": pl.String})})  # fmt: skip
    rows.write_parquet(tmp_path / "hub" / "train.parquet")
    found = [item.location != "" for item in HuggingFaceSource(folder=tmp_path / "hub").records()]
    assert found == [False, False, True]


def test_a_table_of_the_hub_names_only_files_of_its_folder(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_text("file_name,label\n../a.jpg,Pica\nb/../../a.jpg,Pica\nc.jpg,Pica\n")
    reasons = [getattr(item, "reason", "") for item in HuggingFaceSource(folder=tmp_path).records()]
    assert ["leads outside" in reason for reason in reasons] == [True, True, False]


def test_annotations_name_only_files_below_their_root(tmp_path: Path) -> None:
    images = [{"id": n, "file_name": name} for n, name in enumerate(["../a.jpg", "train/b.jpg"])]
    annotations = [{"image_id": n, "category_id": 0} for n in range(2)]
    content = {"images": images, "annotations": annotations, "categories": [{"id": 0, "name": "x", "genus": "Pica"}]}
    (tmp_path / "train.json").write_text(json.dumps(content))
    items = Inat21Source(annotations=tmp_path / "train.json", root=tmp_path).records()
    assert ["leads outside" in getattr(item, "reason", "") for item in items] == [True, False]


MALFORMED = [
    {"file": "../../secret.jpg", "detections": []},
    {"file": "/etc/passwd", "detections": []},
    {"file": 3, "detections": []},
    "no image at all",
    {"detections": []},
    {"file": "no-list.jpg", "detections": 7},
    {"file": "no-box.jpg", "detections": [{"category": "1", "conf": 0.9}]},
    {"file": "short-box.jpg", "detections": [{"category": "1", "conf": 0.9, "bbox": [0.1]}]},
    {"file": "words.jpg", "detections": [{"category": "1", "conf": "high", "bbox": [0, 0, 1, 1]}]},
    {"file": "infinite.jpg", "detections": [{"category": "1", "conf": 0.9, "bbox": [0, 0, 1, 1e999]}]},
    {"file": "null.jpg", "detections": [None]},
]
GOOD = {"file": "good.jpg", "detections": [{"category": "1", "conf": 0.9, "bbox": [0, 0, 1, 1]}]}


def test_a_malformed_detection_is_one_row(tmp_path: Path) -> None:
    images = [*MALFORMED, GOOD]
    (tmp_path / "found.json").write_text(json.dumps({"images": images, "detection_categories": {"1": "animal"}}))
    Image.new("RGB", (30, 20)).save(tmp_path / "good.jpg")
    inputs = open_detections(tmp_path / "found.json").inputs(0.2)
    assert len(inputs) == len(images)
    for one in inputs[:-1]:
        with pytest.raises(LinnaeaError):
            one.load(None)
    assert inputs[-1].load(None).shape == (20, 30, 3)


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        here = Path.cwd()
        os.chdir(path.parent)  # the path of a socket is short
        one.bind(path.name)
        os.chdir(here)


def within(seconds: float, function: Callable[[], object]) -> None:
    """Fail if a call waits instead of raising a :class:`LinnaeaError`."""
    errors: list[BaseException] = []

    def call() -> None:
        try:
            function()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(seconds)
    assert errors, "it waits, or it works"
    assert isinstance(errors[0], LinnaeaError), repr(errors[0])


def table_source(path: Path) -> TableSource:
    return TableSource(table=path, root=path.parent, path_column="file")


OPENERS: dict[str, Callable[[Path], object]] = {
    "check": check_regular,
    "open": open_regular,
    "read": read_regular,
    "checksum": sha256_of_file,
    "JSON": lambda path: read_json(path, kind="x"),
    "tar": lambda path: list(iter_members(path)),
    "location": lambda path: read_location(str(path)),
    "part of a file": lambda path: read_location(f"{path}::0::10"),
    "detections": open_detections,
    "table": read_table,
    "list": read_list,
    "NCBI's dump": lambda path: _read_dmp(path, ["id"]),
    "table of photographs": lambda path: table_source(path).describe(),
    "Parquet": read_parquet,
    "array": lambda path: map_array(path, kind="x"),
    "configuration": read_config,
    "decisions": read_decisions,
    "log of decisions": DecisionLog,
    "regions": Regions.open,
    "meta.xml": describe_archive,
    "checklist": read_checklist_source,
    "video": lambda path: list_frames(path, 1),
    "BIOSCAN": lambda path: list(BioscanSource(metadata=path, images=path.parent).records()),
    "annotations": lambda path: list(Inat21Source(annotations=path, root=path.parent).records()),
    "templates": lambda path: read_templates(str(path)),
}


@pytest.mark.parametrize("make", [make_pipe, make_socket])
@pytest.mark.parametrize("opener", OPENERS)
def test_a_special_file_is_refused_and_never_waited_for(
    opener: str, make: Callable[[Path], None], tmp_path: Path
) -> None:
    make(tmp_path / "special")
    within(20, lambda: OPENERS[opener](tmp_path / "special"))


def test_a_special_file_among_photographs_is_one_reject(tmp_path: Path) -> None:
    make_pipe(tmp_path / "special")
    assert main(["predict", str(tmp_path / "special"), "--format", "csv"]) in (1, 3)


@pytest.mark.parametrize("name", ["manifest.json", "index.parquet", "taxa.parquet"])
def test_a_data_set_of_pipes_is_refused(name: str, data: Path) -> None:
    (data / name).unlink()
    os.mkfifo(data / name)
    within(20, lambda: repair(data))


def test_a_bank_and_an_index_of_pipes_are_refused(tmp_path: Path) -> None:
    for name in ("taxa.parquet", "embeddings.npy", "bank.json", "index.json"):
        os.mkfifo(tmp_path / name)
    within(20, lambda: LabelBank.open(tmp_path))
    within(20, lambda: Index.open(tmp_path))


def test_a_link_to_itself_is_one_reject(tmp_path: Path) -> None:
    (tmp_path / "Pica pica").mkdir()
    Image.new("RGB", (20, 20)).save(tmp_path / "Pica pica" / "a.png")
    (tmp_path / "Pica pica" / "loop").symlink_to("loop")
    assert [path.name for path in iter_files(tmp_path)] == ["a.png", "loop"]
    assert len(list(FolderSource(root=tmp_path).records())) == 2
    good, bad = list_inputs([str(tmp_path)])
    assert good.load(None).shape == (20, 20, 3)
    with pytest.raises(LinnaeaError, match="cannot be read"):
        bad.load(None)


def test_headers_that_chain_end_one_tar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Headers that announce headers; a lowered limit stands for a long chain."""
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 2
    (tmp_path / "chain.tar").write_bytes((header.tobuf(tarfile.GNU_FORMAT) + b"a\0".ljust(512, b"\0")) * 100)
    Image.new("RGB", (20, 20)).save(tmp_path / "good.png")
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 150)
    try:
        with pytest.raises(LinnaeaError, match=r"chain\.tar: not a tar archive"):
            list(iter_members(tmp_path / "chain.tar"))
        bad, good = list_inputs([str(tmp_path / "chain.tar"), str(tmp_path / "good.png")])
    finally:
        sys.setrecursionlimit(before)
    with pytest.raises(LinnaeaError, match="not a tar archive"):
        bad.load(None)
    assert good.load(None).shape == (20, 20, 3)


def test_a_name_with_dollar_signs_is_a_label_and_no_formula() -> None:
    from linnaea.data.figures import plot_licences

    rows = pl.DataFrame({"source": [r"$\frac{x$ and $y"], "licence": ["CC0-1.0"], "images": [3]})
    figure = plot_licences(rows, {"CC0-1.0": "open"})
    figure.savefig(io.BytesIO(), format="png")


PATTERNS = ("a[1]", "b*", "c?", "d{e,f}")


@pytest.mark.parametrize("name", PATTERNS)
def test_a_path_is_a_name_and_no_pattern(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    folder.mkdir()
    (tmp_path / "a1").mkdir()
    for ending in ("csv", "parquet", "jsonl"):
        table = pl.DataFrame({"name": ["Pica pica"]})
        other = pl.DataFrame({"name": ["Bubo bubo"]})
        for place, content in ((folder / f"t.{ending}", table), (tmp_path / "a1" / f"t.{ending}", other)):
            {"csv": content.write_csv, "parquet": content.write_parquet, "jsonl": content.write_ndjson}[ending](place)
        assert read_table(folder / f"t.{ending}").rows["name"].to_list() == ["Pica pica"]
        with scan_table(folder / f"t.{ending}") as lazy:
            assert lazy.collect()["name"].to_list() == ["Pica pica"]
    with pytest.raises(LinnaeaError, match="no such file"):
        read_table(folder / "*.csv")


def test_a_data_set_under_a_pattern_works(dataset_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(dataset_dir, tmp_path / "a[1]")
    assert main(["data", "check", str(tmp_path / "a[1]")]) == 0
    assert (
        main(["data", "export", str(tmp_path / "a[1]"), "--output", str(tmp_path / "b[2]"), "--format", "parquet"]) == 0
    )


def test_no_call_of_polars_takes_a_path_as_a_pattern() -> None:
    """polars has ``glob`` only for some readers; the others get an open file, or a path without the letters."""
    source = Path(__file__).parent.parent / "src" / "linnaea"
    calls = {
        f"{path.relative_to(source)}: {ast.unparse(node)[:80]}"
        for path in source.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("read_parquet", "scan_parquet", "read_csv", "scan_csv")
        and not any(keyword.arg == "glob" for keyword in node.keywords)
        and "encode()" not in ast.unparse(node)
    }
    assert not calls


ESCAPES = "\x1b]0;title\x07\x1b[2J\r\x9b31mPica\u202e"


def test_control_characters_never_reach_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert visible("Größe\ta\n") == "Größe\ta\n"
    assert visible(ESCAPES) == r"\x1b]0;title\x07\x1b[2J\r\x9b31mPica\u202e"
    tell(ESCAPES)
    say(ESCAPES)
    warn(ESCAPES)
    show_table(("name",), [(ESCAPES,)])
    main(["predict", str(tmp_path / f"{ESCAPES}.jpg".replace("/", ""))])
    main([ESCAPES])
    shown = "".join(capsys.readouterr())
    assert "Pica" in shown
    assert not set("\x1b\x07\r\x9b\u202e") & set(shown)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    machine_output().write(ESCAPES)
    assert "\x1b" not in capsys.readouterr().out


ROW = {**dict.fromkeys(ANSWER_COLUMNS, ""), "file_name": "=cmd.jpg", "species": "@SUM(1)"} | {
    "score": 0.5,
    "detection_confidence": None,
}


def test_a_name_is_no_formula_of_a_spreadsheet(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.xlsx", "xlsx", [ROW])
    with zipfile.ZipFile(tmp_path / "a.xlsx") as book:
        sheet = book.read("xl/worksheets/sheet1.xml").decode()
        assert "<f>" not in sheet
        assert "=cmd.jpg" in book.read("xl/sharedStrings.xml").decode()
    write_rows(tmp_path / "a.csv", "csv", [ROW])
    assert "\n=cmd.jpg," in (tmp_path / "a.csv").read_text(), "as it is, unless asked"
    write_rows(tmp_path / "b.csv", "csv", [ROW], Context(no_formulas=True))
    assert "\n'=cmd.jpg," in (tmp_path / "b.csv").read_text()
    assert ",'@SUM(1)," in (tmp_path / "b.csv").read_text()
