"""Find the tokenizer that belongs to the files of a model: its own vocabulary, CLIP's, or a Hugging Face tokenizer."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import open_clip
from open_clip.tokenizer import DEFAULT_CONTEXT_LENGTH, HFTokenizer

from linnaea.errors import LinnaeaError
from linnaea.model.folders import BPE_FILE
from linnaea.model.hub import NotOnHubError, NotReachedError, fetch_file
from linnaea.model.tokenizer import DEFAULT_VOCABULARY_SIZE, make_tokenizer, vocabulary_size
from linnaea.storage import open_regular, resolve_inside

_VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "sentencepiece.bpe.model")
_TOKENIZER_FILES = (
    *_VOCABULARIES,
    "merges.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
"""The files of which a Hugging Face tokenizer has some, and those of them that hold the pieces."""


def names_vocabulary(text_cfg: Mapping[str, Any]) -> str:
    """Return the path of the model's own ``bpe.txt.gz`` in its folder, if the configuration names one."""
    return str((text_cfg.get("tokenizer_kwargs") or {}).get("bpe_path") or "")


def context_length_of(text_cfg: Mapping[str, Any]) -> int:
    return int(text_cfg.get("context_length", DEFAULT_CONTEXT_LENGTH))


def without_second_tokenizer(model_cfg: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration without the Hugging Face form of a vocabulary that is beside it (:func:`save_model`)."""
    text_cfg = model_cfg["text_cfg"]
    if not names_vocabulary(text_cfg):
        return model_cfg
    return {**model_cfg, "text_cfg": {key: value for key, value in text_cfg.items() if key != "hf_tokenizer_name"}}


def check_transformers(name: str) -> None:
    try:
        import transformers  # noqa: F401
    except ImportError as error:
        raise LinnaeaError(
            f"model {name}: its tokenizer or text tower needs transformers: pip install 'linnaea[hf]'"
        ) from error


def load_hf_tokenizer(folder: Path, text_cfg: Mapping[str, Any]) -> HFTokenizer:
    """Return the Hugging Face tokenizer of a folder, with the options that open_clip reads for it."""
    return HFTokenizer(
        str(folder),
        context_length=context_length_of(text_cfg),
        tokenizer_mode=text_cfg.get("tokenizer_mode"),
        **(text_cfg.get("tokenizer_kwargs") or {}),
    )


def load_tokenizer(folder: Path, model_cfg: Mapping[str, Any]) -> tuple[Any, bytes | None]:
    """Return the tokenizer of a folder, and the bytes of its vocabulary if it has its own.

    open_clip 3.3 looks for the vocabulary in the working directory, or uses its default; this looks beside the weights.
    """
    text_cfg = model_cfg["text_cfg"]
    named = names_vocabulary(text_cfg)
    path = resolve_inside(folder, named or BPE_FILE)
    if not path.exists():
        if named:
            raise LinnaeaError(f"{folder}: its vocabulary {named} is missing; copy the whole folder again")
        return open_clip.get_tokenizer(f"local-dir:{folder}"), None
    with open_regular(path) as stream:
        bpe = stream.read()
    has, wants = vocabulary_size(bpe), text_cfg.get("vocab_size", DEFAULT_VOCABULARY_SIZE)
    if has != wants:
        raise LinnaeaError(f"{path}: has {has:,} pieces, the model needs {wants:,}; it is another model's vocabulary")
    return make_tokenizer(bpe, context_length_of(text_cfg)), bpe


def fetch_tokenizer(repo: str, commit: str, text_cfg: Mapping[str, Any]) -> Path | None:
    """Fetch the files of a Hugging Face tokenizer, and return their folder; ``None`` for CLIP's own tokenizer.

    They are those of the model's repository, or else of the repository that its configuration names.
    """
    named = str(text_cfg.get("hf_tokenizer_name") or "")
    if not named:
        return None
    for source, revision in ((repo, commit), (named, "")):
        found = [path for name in _TOKENIZER_FILES if (path := _fetch_if_there(source, name, revision))]
        if any(path.name in _VOCABULARIES for path in found):
            return found[0].parent
    raise LinnaeaError(f"{repo}: neither it nor {named} has the files of its tokenizer ({', '.join(_VOCABULARIES)})")


def _fetch_if_there(repo: str, name: str, revision: str) -> Path | None:
    try:
        return fetch_file(repo, name, revision)
    except (NotOnHubError, NotReachedError):
        return None
