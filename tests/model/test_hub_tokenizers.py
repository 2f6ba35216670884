"""Models of the hub with a Hugging Face tokenizer: its files are fetched, and stay usable offline and when saved."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from huggingface_hub import constants

from hub import SMALL, Hub
from linnaea.errors import LinnaeaError
from linnaea.model.encode import encode_captions
from linnaea.model.load import save_model
from linnaea.model.open import load_model

transformers = pytest.importorskip("transformers")

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "photo", "of", "pica", "abies", "alba", "."]
SIGLIP: dict[str, Any] = {
    **SMALL,
    "custom_text": True,
    "init_logit_bias": -10,
    "text_cfg": {"context_length": 16, "vocab_size": len(WORDS), "width": 32, "heads": 2, "layers": 1,
                 "hf_tokenizer_name": "org/words", "tokenizer_kwargs": {"clean": "canonicalize"},
                 "no_causal_mask": True, "pool_type": "last"},
}  # fmt: skip
BERT: dict[str, Any] = {
    **SMALL,
    "text_cfg": {"hf_model_name": "org/bert", "hf_tokenizer_name": "org/bert", "hf_proj_type": "linear",
                 "hf_pooler_type": "mean_pooler", "context_length": 16},
}  # fmt: skip


def write_tokenizer(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    transformers.BertTokenizerFast(vocab_file=str(folder / "vocab.txt")).save_pretrained(folder)


def write_model(hub: Hub, repo: str, config: dict[str, Any]) -> None:
    folder = hub.root / "models" / repo
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    torch.manual_seed(0)
    copied = json.loads(json.dumps(config))
    copied.pop("custom_text", None)
    if "hf_model_name" in copied["text_cfg"]:
        copied["text_cfg"] |= {"hf_model_name": str(hub.root / "models" / "org/bert"), "hf_model_pretrained": False}
    weights = open_clip.model.CustomTextCLIP(**copied).state_dict()
    torch.save(weights, folder / "open_clip_pytorch_model.bin")


def check(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The model encodes captions, offline as well, and when it was saved."""
    captions = ["a photo of pica.", "a photo of abies alba."]
    model = load_model(name, device="cpu")
    vectors = encode_captions(model, captions)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert not np.allclose(vectors[0], vectors[1])
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert np.array_equal(encode_captions(load_model(name, device="cpu"), captions), vectors)
    save_model(model, tmp_path / "saved")
    assert np.array_equal(encode_captions(load_model(tmp_path / "saved", device="cpu"), captions), vectors)


@pytest.mark.parametrize("place", ["org/siglip", "org/words"])
def test_a_tokenizer_beside_the_weights_or_in_the_repository_that_is_named(
    place: str, hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write_model(hub, "org/siglip", SIGLIP)
    write_tokenizer(hub.root / "models" / place)
    check("hf-hub:org/siglip", monkeypatch, tmp_path)


def test_a_text_tower_of_hugging_face(hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bert = hub.root / "models" / "org/bert"
    write_tokenizer(bert)
    config = transformers.BertConfig(vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                                     intermediate_size=16, max_position_embeddings=16)  # fmt: skip
    config.save_pretrained(bert)
    write_model(hub, "org/bertclip", BERT)
    check("hf-hub:org/bertclip", monkeypatch, tmp_path)


def test_a_missing_tokenizer_is_one_line(hub: Hub) -> None:
    write_model(hub, "org/siglip", SIGLIP)
    (hub.root / "models" / "org/words").mkdir()
    with pytest.raises(LinnaeaError, match="neither it nor org/words has the files of its tokenizer") as raised:
        load_model("hf-hub:org/siglip", device="cpu")
    assert "\n" not in str(raised.value)
