"""Write a vocabulary in Hugging Face's form too, so that open_clip finds the tokenizer of a model folder by itself.

open_clip 3.3 does not look for ``bpe.txt.gz`` in a folder and silently takes its own 49,408 pieces. It does look in the
folder for ``tokenizer.json`` if the configuration names a Hugging Face tokenizer, and reads it with transformers. The
token ids are those of ``SimpleTokenizer``, padding included.
"""

import json
from typing import Any

from linnaea.model.tokenizer import PIECES, make_tokenizer

PADDING = "<|padding|>"
"""A second name of id 0, which ``SimpleTokenizer`` pads with and which is a piece of text as well."""


def make_tokenizer_files(bpe: bytes, context_length: int) -> dict[str, str]:
    """Return the contents of ``tokenizer.json`` and ``tokenizer_config.json`` for a ``bpe.txt.gz``."""
    usual = make_tokenizer(bpe, context_length)
    names = {number: piece for piece, number in usual.encoder.items()}
    start, end = names[usual.sot_token_id], names[usual.eot_token_id]
    special = {PADDING: 0, start: usual.sot_token_id, end: usual.eot_token_id}
    return {
        "tokenizer.json": json.dumps(_describe(usual, special, start, end), ensure_ascii=False, separators=(",", ":")),
        "tokenizer_config.json": json.dumps({
            "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": start, "eos_token": end, "pad_token": PADDING,
            "model_max_length": context_length, "clean_up_tokenization_spaces": False,
        }, indent=1),
    }  # fmt: skip


def _describe(usual: Any, special: dict[str, int], start: str, end: str) -> dict[str, Any]:
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    words = {"type": "Split", "pattern": {"Regex": PIECES.pattern}, "behavior": "Removed", "invert": True}
    as_bytes = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    first, last, text = ({"SpecialToken": {"id": start, "type_id": 0}}, {"SpecialToken": {"id": end, "type_id": 0}},
                         {"Sequence": {"id": "A", "type_id": 0}})  # fmt: skip
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": number, "content": piece, **plain} for piece, number in special.items()],
        "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [words, as_bytes]},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [first, text, last],
            "pair": [first, text, last, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {piece: {"id": piece, "ids": [special[piece]], "tokens": [piece]}
                               for piece in (start, end)},
        },
        "decoder": as_bytes,
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": "",
            "end_of_word_suffix": "</w>", "fuse_unk": False, "byte_fallback": False,
            "vocab": {**usual.encoder, **special},
            "merges": [list(pair) for pair in sorted(usual.bpe_ranks, key=usual.bpe_ranks.__getitem__)],
        },
    }  # fmt: skip
