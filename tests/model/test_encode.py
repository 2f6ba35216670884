"""Pictures and captions become unit vectors in the order they came, and a bad picture costs itself alone."""

import io
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from linnaea.data.images import ImageError
from linnaea.model import preprocess
from linnaea.model.encode import encode_captions, encode_names, encode_pixels, encode_taxa, iter_encoded_images
from linnaea.model.load import TaxonModel
from linnaea.taxonomy.taxon import PHOTO_TEMPLATE, Taxon, TextType

PHOTOGRAPHS = Path(__file__).parents[2].parent / "shared" / "species-images"


def picture(seed: int, width: int = 50, height: int = 40, form: str = "PNG") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, form)
    return stream.getvalue()


def by_open_clip(model: TaxonModel, data: bytes) -> np.ndarray:
    transform = open_clip.transform.image_transform(model.preprocess.image_size, is_train=False)
    with torch.inference_mode():
        vector = model.clip.eval().encode_image(transform(Image.open(io.BytesIO(data)))[None], normalize=True)  # type: ignore[operator]
    return vector[0].numpy()


def test_vectors_are_open_clips_in_order_with_bad_pictures_as_reasons(model: TaxonModel, tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "good.png").write_bytes(picture(99))
    items: list[tuple[object, bytes | Path]] = [(i, picture(i)) for i in range(7)]
    items[2:2] = [("text", b"not a picture"), ("cut", picture(1)[:300]), ("empty", tmp_path / "empty.jpg")]
    items += [("missing", tmp_path / "missing.jpg"), ("folder", tmp_path), ("good", tmp_path / "good.png")]
    got = list(iter_encoded_images(model, items, batch_size=3))
    assert [key for key, _ in got] == [key for key, _ in items]
    bad = {key: str(vector) for key, vector in got if isinstance(vector, ImageError)}
    assert set(bad) == {"text", "cut", "empty", "missing", "folder"}
    assert bad["missing"] == "no such file"
    for (key, vector), (_, item) in zip(got, items, strict=True):
        if key not in bad:
            data = item.read_bytes() if isinstance(item, Path) else item
            assert isinstance(vector, np.ndarray)
            assert vector.dtype == np.float32
            np.testing.assert_allclose(vector, by_open_clip(model, data), atol=1e-5)
            np.testing.assert_allclose(np.linalg.norm(vector), 1, atol=1e-5)


def test_only_bad_pictures_and_no_pictures_are_fine(model: TaxonModel) -> None:
    assert list(iter_encoded_images(model, [])) == []
    [(key, error)] = iter_encoded_images(model, [("x", b"")])
    assert key == "x"
    assert isinstance(error, ImageError)


def test_input_is_read_only_a_few_batches_ahead(model: TaxonModel) -> None:
    taken = 0

    def items() -> Iterator[tuple[int, bytes]]:
        nonlocal taken
        for number in range(1000):
            taken += 1
            yield number, picture(number % 3)

    threads = threading.active_count()
    stream = iter_encoded_images(model, items(), batch_size=4)
    next(stream)
    assert taken <= 3 * 4
    stream.close()  # type: ignore[attr-defined]
    assert taken <= 3 * 4
    assert threading.active_count() == threads, "stopping early leaves no thread behind"


def test_normalisation_happens_with_the_models_own_numbers(model: TaxonModel) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 32, 32), dtype=np.uint8)
    mean, std = (torch.tensor(part).view(3, 1, 1) for part in (model.preprocess.mean, model.preprocess.std))
    with torch.inference_mode():
        expected = model.clip.eval().encode_image((torch.from_numpy(pixels) / 255 - mean) / std, normalize=True)  # type: ignore[operator]
    np.testing.assert_allclose(encode_pixels(model, pixels), expected.numpy(), atol=1e-6)


def test_captions_come_back_in_order_whatever_repeats(model: TaxonModel) -> None:
    captions = ["Pica pica", "Abies alba", "Pica pica", "pica PICA", "", "a photo of Aves."]
    seen: list[tuple[int, int | None]] = []
    got = encode_captions(model, captions, on_progress=lambda done, total: seen.append((done, total)))
    with torch.inference_mode():
        expected = model.clip.eval().encode_text(model.tokenizer(captions), normalize=True)  # type: ignore[operator]
    np.testing.assert_allclose(got, expected.numpy(), atol=1e-5)
    assert (got[0] == got[2]).all()
    assert (got[0] == got[3]).all()
    assert seen[-1] == (5, 5), "distinct captions are counted"
    assert encode_captions(model, []).shape == (0, 32)


def test_taxa_are_means_over_templates(model: TaxonModel, taxa: list[Taxon]) -> None:
    templates = (PHOTO_TEMPLATE, "an old drawing of {} in a book", "{}")
    got = encode_taxa(model, taxa, TextType.TAXON_COM, templates)
    parts = [
        encode_captions(model, [taxon.caption(TextType.TAXON_COM, template) for taxon in taxa])
        for template in templates
    ]
    mean = np.mean(parts, axis=0)
    np.testing.assert_allclose(got, mean / np.linalg.norm(mean, axis=1, keepdims=True), atol=1e-5)


def test_blocks_of_names_change_nothing(model: TaxonModel, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"Pica {chr(97 + i)}ica" for i in range(11)]
    templates = ("{}", "a photo of {}.")
    whole = encode_names(model, names, templates)
    monkeypatch.setattr("linnaea.model.encode.CAPTIONS_AT_ONCE", 6)
    seen: list[tuple[int, int | None]] = []
    blocks = encode_names(model, names, templates, on_progress=lambda done, total: seen.append((done, total)))
    np.testing.assert_allclose(blocks, whole, atol=1e-5)
    assert [done for done, _ in seen] == [0, 3, 6, 9, 11]
    assert {total for _, total in seen} == {11}
    with pytest.raises(ValueError, match="template"):
        encode_names(model, names, ())


def test_fast_decoding_is_close_on_photographs(model: TaxonModel) -> None:
    photographs = sorted(path for path in PHOTOGRAPHS.rglob("*.jpg"))[:400:40]
    if not photographs:
        pytest.skip("no photographs in ../shared/species-images")
    items = [(path, path) for path in photographs]
    exact = np.stack([vector for _, vector in iter_encoded_images(model, items)])
    fast = np.stack([vector for _, vector in iter_encoded_images(model, items, fast=True)])
    assert (exact * fast).sum(axis=1).min() > 0.99


@pytest.mark.parametrize(("width", "height"), [(120, 80), (100, 80), (96, 48), (60, 20), (36, 24)])
def test_the_middle_alone_is_resized_to_the_same_bits(width: int, height: int, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
    whole_too = preprocess.Preprocess(image_size=32)
    assert preprocess._scales_exactly((width, height), (32 * width // height, 32), 32)
    middle = whole_too.pixels(picture)
    monkeypatch.setattr(preprocess, "_scales_exactly", lambda *_: False)
    assert np.array_equal(middle, whole_too.pixels(picture))
