"""A model goes to disk and back through open_clip unchanged, and what is missing is said in one line."""

import dataclasses
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from linnaea.errors import LinnaeaError
from linnaea.model.create import ModelConfig, make_model
from linnaea.model.load import TaxonModel, choose_device, save_model
from linnaea.model.open import load_model
from linnaea.model.preprocess import Preprocess, decode_pixels

CAPTIONS = ["a photo of Pica pica.", "a photo of Plantae Tracheophyta.", "Weißtanne", ""]


def outputs(clip: torch.nn.Module, tokenizer: object, image_size: int = 32) -> tuple[Tensor, Tensor]:
    pixels = torch.rand(2, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        return clip.encode_image(pixels), clip.encode_text(tokenizer(CAPTIONS))  # type: ignore[operator]


def test_open_clip_loads_a_saved_folder_bit_for_bit_wherever_it_lies(model: TaxonModel, tmp_path: Path) -> None:
    save_model(model, tmp_path / "here")
    there = tmp_path / "moved" / "there"
    shutil.move(tmp_path / "here", there)
    clip, _, _ = open_clip.create_model_and_transforms(f"local-dir:{there}")
    for name, value in model.clip.state_dict().items():
        assert torch.equal(clip.state_dict()[name], value), name
    tokenizer = open_clip.get_tokenizer(f"local-dir:{there}", bpe_path=str(there / "bpe.txt.gz"))
    assert torch.equal(tokenizer(CAPTIONS), model.tokenizer(CAPTIONS))
    for got, expected in zip(outputs(clip.eval(), tokenizer), outputs(model.clip.eval(), model.tokenizer), strict=True):
        assert torch.equal(got, expected)


@pytest.mark.parametrize(
    "captions", [CAPTIONS, ["an ounce! it's", "ÆRØ  naïve\tx"], ["&amp; 日本 Ca\u0301e", ""], ["<end_of_text> " * 40]]
)
def test_open_clip_finds_the_tokenizer_of_a_saved_folder_by_itself(
    captions: list[str], model: TaxonModel, tmp_path: Path
) -> None:
    pytest.importorskip("transformers")
    save_model(model, tmp_path)
    tokenizer = open_clip.get_tokenizer(f"local-dir:{tmp_path}")
    assert torch.equal(tokenizer(captions), model.tokenizer(captions))
    loaded = load_model(tmp_path, device="cpu")
    assert (loaded.fingerprint, loaded.bpe) == (model.fingerprint, model.bpe)
    assert torch.equal(loaded.tokenizer(captions), model.tokenizer(captions))


def test_a_moved_folder_loads_with_its_own_vocabulary_from_any_working_directory(
    model: TaxonModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_model(dataclasses.replace(model, facts={"recipe": "tiny"}), tmp_path / "model")
    (tmp_path / "bpe.txt.gz").write_bytes(b"another vocabulary")  # open_clip would take this one
    monkeypatch.chdir(tmp_path)
    loaded = load_model("model", device="cpu")
    assert torch.equal(loaded.tokenizer(CAPTIONS), model.tokenizer(CAPTIONS))
    assert (loaded.fingerprint, loaded.preprocess) == (model.fingerprint, model.preprocess)
    assert loaded.facts == {"recipe": "tiny"}
    assert not loaded.clip.training
    assert len({file.stat().st_mode for file in (tmp_path / "model").iterdir()}) == 1, "who may read one may read all"
    run = load_model(".", device="cpu")  # a run's folder stands for the model in it
    assert run.fingerprint == model.fingerprint


def test_fp16_halves_the_folder_and_keeps_what_would_overflow(model: TaxonModel, tmp_path: Path) -> None:
    with torch.no_grad():
        model.clip.positional_embedding[0, 0] = 1e6  # type: ignore[operator, index]
    save_model(model, tmp_path / "full")
    save_model(model, tmp_path / "half", dtype=torch.float16)
    sizes = [(tmp_path / name / "open_clip_model.safetensors").stat().st_size for name in ("full", "half")]
    assert sizes[1] < 0.6 * sizes[0]
    stored = load_file(tmp_path / "half" / "open_clip_model.safetensors")
    assert stored["positional_embedding"].dtype == torch.float32
    assert stored["token_embedding.weight"].dtype == torch.float16
    loaded = load_model(str(tmp_path / "half"), device="cpu")
    for name, value in model.clip.state_dict().items():
        torch.testing.assert_close(loaded.clip.state_dict()[name], value, rtol=1e-3, atol=1e-6)
    again, _, _ = open_clip.create_model_and_transforms(f"local-dir:{tmp_path / 'half'}")
    assert torch.equal(again.state_dict()["token_embedding.weight"], stored["token_embedding.weight"].float())


def test_a_convolutional_tower_and_its_own_normalisation_survive(tmp_path: Path, bpe: bytes) -> None:
    config = ModelConfig(
        embed_dim=32,
        image=dataclasses.replace(ModelConfig().image, image_size=32, timm_model_name="test_resnet"),
        text=dataclasses.replace(ModelConfig().text, width=32, layers=1, heads=2),
    )
    preprocess = Preprocess(image_size=32, mean=(0.5,) * 3, std=(0.5,) * 3, interpolation="bilinear")  # type: ignore[arg-type]
    model = make_model(config, bpe, preprocess=preprocess)
    save_model(model, tmp_path / "m")
    loaded = load_model(str(tmp_path / "m"), device="cpu")
    assert loaded.preprocess == preprocess
    assert loaded.fingerprint == model.fingerprint
    for got, expected in zip(
        outputs(loaded.clip, loaded.tokenizer), outputs(model.clip.eval(), model.tokenizer), strict=True
    ):
        assert torch.equal(got, expected)


def test_weights_are_a_function_of_the_seed(tiny_config: ModelConfig, bpe: bytes) -> None:
    torch.manual_seed(5)
    first = make_model(tiny_config, bpe, seed=3).fingerprint
    before = torch.rand(1)
    torch.manual_seed(5)
    make_model(tiny_config, bpe, seed=4)
    assert torch.equal(torch.rand(1), before), "making a model must not disturb the global generator"
    assert make_model(tiny_config, bpe, seed=3).fingerprint == first != make_model(tiny_config, bpe, seed=4).fingerprint


def test_the_fingerprint_sees_weights_preprocessing_and_vocabulary(model: TaxonModel) -> None:
    other = [
        dataclasses.replace(model, preprocess=dataclasses.replace(model.preprocess, mean=(0.5, 0.5, 0.5))),
        dataclasses.replace(model, bpe=b"x"),
    ]
    with torch.no_grad():
        before = model.fingerprint
        model.clip.visual.proj[0, 0] += 1e-3  # type: ignore[union-attr, index]
        other.append(dataclasses.replace(model))
    assert len({before, *(changed.fingerprint for changed in other)}) == 4


@pytest.mark.parametrize(
    ("name", "pretrained", "message"),
    [
        ("biocllip", None, "did you mean bioclip"),
        ("ViT-B16", None, "did you mean ViT-B-16"),
        ("xyzzy-nothing-like-it", None, "give nano, "),
        ("./no/such/folder", None, "no such folder"),
        ("ViT-B-16", None, "--pretrained, one of"),
        ("ViT-B-16", "no-such-tag", "available: openai"),
        ("hf-hub:no-organisation", None, "hf-hub:ORG/NAME"),
    ],
)
def test_an_unknown_model_is_explained_in_one_line(name: str, pretrained: str | None, message: str) -> None:
    with pytest.raises(LinnaeaError, match=message) as raised:
        load_model(name, pretrained=pretrained, device="cpu")
    assert "\n" not in str(raised.value)


def damage(folder: Path, what: str) -> None:
    weights, config = folder / "open_clip_model.safetensors", folder / "open_clip_config.json"
    match what:
        case "no weights":
            weights.unlink()
        case "truncated weights":
            weights.write_bytes(weights.read_bytes()[:1000])
        case "no configuration":
            config.unlink()
        case "broken configuration":
            config.write_text(config.read_text()[:50])
        case "empty configuration":
            config.write_text("{}")
        case "no vocabulary":
            (folder / "bpe.txt.gz").unlink()
        case "other vocabulary":
            from linnaea.model.tokenizer import train_bpe

            (folder / "bpe.txt.gz").write_bytes(train_bpe(["some other names"], 5))
        case "broken facts":
            (folder / "linnaea.json").write_text("[")
        case "oblong input":
            content = json.loads(config.read_text())
            content["model_cfg"]["vision_cfg"]["image_size"] = [32, 48]
            config.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("no weights", "has no weights"),  # open_clip would go on with random ones
        ("truncated weights", "cannot be loaded"),
        ("no configuration", "not a model folder"),
        ("broken configuration", "not JSON .* the description of a model"),
        ("empty configuration", "not a CLIP configuration"),
        ("no vocabulary", "vocabulary bpe.txt.gz is missing"),
        ("other vocabulary", "another model's vocabulary"),
        ("broken facts", "linnaea.json"),
        ("oblong input", "only square inputs work"),
    ],
)
def test_a_damaged_folder_is_refused_with_the_reason(
    model: TaxonModel, tmp_path: Path, what: str, message: str
) -> None:
    save_model(model, tmp_path / "m")
    damage(tmp_path / "m", what)
    with pytest.raises(LinnaeaError, match=message) as raised:
        load_model(str(tmp_path / "m"), device="cpu")
    assert "\n" not in str(raised.value)


def make_hub_cache(cache: Path, model: TaxonModel, repo: str, commit: str = "a" * 40) -> None:
    """What the hub's client leaves after a download."""
    folder = cache / f"models--{repo.replace('/', '--')}"
    save_model(model, folder / "snapshots" / commit)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(commit)


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path


def test_a_hub_model_loads_offline_from_the_cache(model: TaxonModel, hub_cache: Path) -> None:
    make_hub_cache(hub_cache, model, "imageomics/bioclip")
    loaded = load_model("bioclip", device="cpu")
    assert loaded.fingerprint == model.fingerprint
    assert torch.equal(loaded.tokenizer(CAPTIONS), model.tokenizer(CAPTIONS))
    assert loaded.facts == {"source": "hf-hub:imageomics/bioclip", "revision": "a" * 40}
    assert load_model(f"hf-hub:imageomics/bioclip@{'a' * 40}", device="cpu").fingerprint == model.fingerprint
    with pytest.raises(LinnaeaError, match="not in the hub's cache"):
        load_model(f"hf-hub:imageomics/bioclip@{'b' * 40}", device="cpu")


def test_a_hub_model_that_is_not_cached_or_half_cached_is_one_line(model: TaxonModel, hub_cache: Path) -> None:
    with pytest.raises(LinnaeaError, match="not in the hub's cache") as raised:
        load_model("bioclip-2", device="cpu")
    assert "\n" not in str(raised.value)
    make_hub_cache(hub_cache, model, "org/half")
    next(hub_cache.rglob("open_clip_model.safetensors")).unlink()
    with pytest.raises(LinnaeaError, match="not in the hub's cache"):  # open_clip would go on with random weights
        load_model("hf-hub:org/half", device="cpu")


def test_the_environment_alone_is_enough_offline(model: TaxonModel, tmp_path: Path) -> None:
    make_hub_cache(tmp_path / "hub", model, "org/name")
    code = "from linnaea.model.open import load_model; print(load_model('hf-hub:org/name', device='cpu').fingerprint)"
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    environment.pop("HF_HUB_CACHE", None)
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.stdout.strip(), done.stderr) == (model.fingerprint, "")


def test_openai_weights_get_the_gelu_they_were_trained_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_config: ModelConfig
) -> None:
    cfg = tiny_config.as_open_clip(49_408)
    del cfg["text_cfg"]["tokenizer_kwargs"]
    (tmp_path / "Tiny-Test.json").write_text(json.dumps(cfg))
    open_clip.add_model_config(tmp_path)
    plain = open_clip.create_model("Tiny-Test", force_quick_gelu=True)
    torch.save(plain.state_dict(), tmp_path / "tiny.pt")
    tag = {"file": str(tmp_path / "tiny.pt"), "quick_gelu": True}
    tags = open_clip.pretrained._PRETRAINED
    monkeypatch.setitem(tags, "Tiny-Test", {"openai": tag})
    monkeypatch.setattr(open_clip.factory, "download_pretrained", lambda cfg, cache_dir=None: cfg["file"])
    loaded = load_model("Tiny-Test", pretrained="openai", device="cpu")
    got, expected = outputs(loaded.clip, loaded.tokenizer), outputs(plain.eval(), loaded.tokenizer)
    assert torch.equal(got[1], expected[1])
    save_model(loaded, tmp_path / "saved")
    again = load_model(str(tmp_path / "saved"), device="cpu")
    assert torch.equal(outputs(again.clip, again.tokenizer)[0], expected[0])


def test_a_device_that_is_not_there_is_refused() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    with pytest.raises(LinnaeaError, match="--device"):
        choose_device("warp-drive")
    if not torch.cuda.is_available():
        with pytest.raises(LinnaeaError, match="try cpu"):
            choose_device("cuda")


@given(
    height=st.integers(5, 150),
    width=st.integers(5, 150),
    size=st.sampled_from([16, 33, 64]),
    interpolation=st.sampled_from(["bicubic", "bilinear", "random"]),
    resize_mode=st.sampled_from(["shortest", "longest", "squash"]),
    fill=st.sampled_from([0, 128]),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=150, deadline=None)
def test_pixels_are_open_clips_own_to_the_bit(
    height: int, width: int, size: int, interpolation: str, resize_mode: str, fill: int, seed: int
) -> None:
    picture = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    preprocess = Preprocess(image_size=size, interpolation=interpolation, resize_mode=resize_mode, fill_color=fill)
    transform = open_clip.transform.image_transform(
        size, is_train=False, interpolation=interpolation, resize_mode=resize_mode, fill_color=fill
    )
    expected = transform(Image.fromarray(picture))
    pixels = torch.from_numpy(preprocess.pixels(picture))
    mean, std = (torch.tensor(part).view(3, 1, 1) for part in (preprocess.mean, preprocess.std))
    assert torch.equal(pixels.float().div(255).sub(mean).div(std), expected)


@pytest.mark.parametrize("mode", ["1", "P"])
def test_pictures_without_shades_are_resized_with_shades(mode: str) -> None:
    """Pillow takes the nearest pixels of palettes and 1-bit scans; open_clip's transform lets it."""
    lines = np.random.default_rng(0).integers(0, 2, (200, 200), dtype=np.uint8) * 255
    scan, same = io.BytesIO(), io.BytesIO()
    Image.fromarray(lines).convert(mode).save(scan, "PNG")
    Image.fromarray(lines).convert("RGB").save(same, "PNG")
    found, in_rgb = (decode_pixels(file.getvalue(), Preprocess(image_size=32), None, 10**6)[0] for file in (scan, same))
    assert np.array_equal(found, in_rgb)
    assert len(np.unique(found)) > 20


def test_a_preprocessing_that_open_clip_does_not_know_is_refused() -> None:
    with pytest.raises(ValueError, match="interpolation"):
        Preprocess(image_size=32, interpolation="lanczos")
    with pytest.raises(ValueError, match="resize mode"):
        Preprocess(image_size=32, resize_mode="stretch")
    with pytest.raises(LinnaeaError, match="square"):
        Preprocess.of_open_clip({"size": (32, 48), "mean": 0.5, "std": 0.5})
    assert Preprocess.of_open_clip({"size": (32, 32), "mean": 0.5, "std": 0.5}).mean == (0.5, 0.5, 0.5)


class Touches:
    """A value whose pickle would touch a file where it is loaded."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.marker,)


def test_weights_that_are_code_are_refused_without_pytorchs_advice(model: TaxonModel, tmp_path: Path) -> None:
    save_model(model, tmp_path / "m")
    (tmp_path / "m" / "open_clip_model.safetensors").unlink()
    torch.save({"state_dict": Touches(tmp_path / "ran")}, tmp_path / "m" / "open_clip_pytorch_model.bin")
    with pytest.raises(LinnaeaError, match="could run code") as caught:
        load_model(str(tmp_path / "m"), device="cpu")
    assert not (tmp_path / "ran").exists()
    assert "weights_only" not in str(caught.value)


@pytest.mark.parametrize("part", ["vision_cfg", "text_cfg"])
def test_a_local_folder_never_asks_a_hub(
    part: str, model: TaxonModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("socket.getaddrinfo", lambda *place, **_: asked.append(place) or [])
    save_model(model, tmp_path / "m")
    path = tmp_path / "m" / "open_clip_config.json"
    config = json.loads(path.read_text())
    names = {
        "vision_cfg": {"timm_model_name": "hf-hub:nobody/nothing"},
        "text_cfg": {"hf_model_name": "nobody/nothing"},
    }
    config["model_cfg"][part] |= names[part]
    path.write_text(json.dumps(config))
    with pytest.raises(LinnaeaError):
        load_model(str(tmp_path / "m"), device="cpu")
    assert not asked
    assert not huggingface_hub.constants.HF_HUB_OFFLINE


def test_a_folder_that_asks_to_run_its_own_code_is_refused(model: TaxonModel, tmp_path: Path) -> None:
    save_model(model, tmp_path)
    path = tmp_path / "open_clip_config.json"
    config = json.loads(path.read_text())
    config["model_cfg"]["text_cfg"]["tokenizer_kwargs"]["trust_remote_code"] = True
    path.write_text(json.dumps(config))
    with pytest.raises(LinnaeaError, match="trust_remote_code"):
        load_model(str(tmp_path), device="cpu")


@pytest.mark.parametrize("name", ["../bpe.txt.gz", "/etc/passwd"])
def test_a_vocabulary_is_inside_its_folder(name: str, model: TaxonModel, tmp_path: Path) -> None:
    save_model(model, tmp_path / "m")
    shutil.copy(tmp_path / "m" / "bpe.txt.gz", tmp_path / "bpe.txt.gz")
    path = tmp_path / "m" / "open_clip_config.json"
    config = json.loads(path.read_text())
    config["model_cfg"]["text_cfg"]["tokenizer_kwargs"]["bpe_path"] = name
    path.write_text(json.dumps(config))
    with pytest.raises(LinnaeaError, match="not a path inside"):
        load_model(str(tmp_path / "m"), device="cpu")
