"""Byte-pair vocabularies trained on names, in the format of open_clip's ``SimpleTokenizer``.

A small vocabulary of scientific and English names makes small models small: CLIP's 49,408 pieces are most of their
weight. The file is ``bpe.txt.gz``: one header line, one merge per line, no newline at the end. The vocabulary has
512 + merges + 2 pieces, and the end token has the highest id.
"""

import gzip
import heapq
import io
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import regex
from jaxtyping import Int32, Int64
from numpy import ndarray
from numpy.typing import NDArray
from open_clip.tokenizer import SimpleTokenizer, bytes_to_unicode, get_clean_fn

from linnaea.errors import LinnaeaError
from linnaea.model.folders import BPE_FILE

N_BYTE_PIECES = 512
N_SPECIAL_PIECES = 2
MAX_MERGES = 49_152 - 256 - 2
"""The number of merges that open_clip reads from the file."""
DEFAULT_VOCABULARY_SIZE = 49_408
"""The size of OpenAI's vocabulary, which open_clip uses if a configuration names none."""
_BLOCK = 4096
PIECES = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+", regex.IGNORECASE)

VOCABULARY_BYTES = 50_000_000
"""A larger vocabulary is none; open_clip's has 3 MB."""

Pair = tuple[str, str]


def vocabulary_size(bpe: bytes) -> int:
    """Return the number of pieces of a ``bpe.txt.gz``: the rows of the token embedding.

    ``SimpleTokenizer.vocab_size`` is smaller if two merges give the same string; the ids are not.
    """
    n_merges = len(_unpacked(bpe).decode().split("\n")) - 1
    return N_BYTE_PIECES + min(n_merges, MAX_MERGES) + N_SPECIAL_PIECES


def _unpacked(bpe: bytes) -> bytes:
    """Return the text of a vocabulary.

    Raises:
        LinnaeaError: it is broken, or larger than any vocabulary.
    """
    try:
        with gzip.open(io.BytesIO(bpe)) as stream:
            text = stream.read(VOCABULARY_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise LinnaeaError(f"{BPE_FILE}: not a gzip file ({error}); copy the whole folder again") from error
    if len(text) > VOCABULARY_BYTES:
        raise LinnaeaError(f"{BPE_FILE}: unpacks to more than {VOCABULARY_BYTES:,} bytes; refused")
    return text


def make_tokenizer(bpe: bytes, context_length: int) -> Any:
    """Return open_clip's own tokenizer for a vocabulary given as bytes."""
    _unpacked(bpe)
    return SimpleTokenizer(bpe_path=io.BytesIO(bpe), context_length=context_length)


@dataclass(frozen=True)
class RaggedTokens:
    """The token ids of many captions without padding: caption i is ``tokens[starts[i] : starts[i + 1]]``."""

    tokens: Int32[ndarray, " N"]
    starts: Int64[ndarray, " K_plus_1"]
    n_truncated: int
    """Captions longer than the context; they keep its first tokens and the end token."""

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> Int64[ndarray, " K"]:
        return np.diff(self.starts)

    def padded(self, rows: NDArray[np.integer[Any]] | slice = slice(None)) -> Int64[ndarray, "B T"]:
        """Return the captions at ``rows``, padded with 0 to the longest of them."""
        starts, lengths = self.starts[:-1][rows], self.lengths[rows]
        places = np.arange(lengths.max(initial=1))
        filled = places < lengths[:, None]
        padded = np.zeros(filled.shape, np.int64)
        padded[filled] = self.tokens[(starts[:, None] + places)[filled]]
        return padded


def tokenize_ragged(tokenizer: Any, captions: Sequence[str]) -> RaggedTokens:
    """Return token ids as ``tokenizer(captions)`` gives them, without padding.

    open_clip's own tokenizer spends most of its time on repairing text. Printable ASCII needs no repair, and no piece
    crosses white space, so each distinct word is tokenised once. Tokenizers of other kinds keep their padding, since
    their models see it.
    """
    if not _is_usual(tokenizer):
        return _join([row for block in _blocks(captions) for row in tokenizer(block).numpy()], 0)
    ids_of: dict[str, list[int]] = {}
    limit, start, end = tokenizer.context_length, tokenizer.sot_token_id, tokenizer.eot_token_id
    rows: list[list[int]] = []
    n_truncated = 0
    for caption in captions:
        row = [start]
        if _is_plain(caption):
            for word in caption.split():
                if (ids := ids_of.get(word)) is None:
                    ids = ids_of[word] = _encode_plain_word(tokenizer, word)
                row += ids
        else:
            row += tokenizer.encode(caption)
        row.append(end)
        if len(row) > limit:
            n_truncated += 1
            row = [*row[: limit - 1], end]
        if "<" in caption:  # an end token spelt out in the text: the tower reads the first one
            row = row[: row.index(end) + 1]
        rows.append(row)
    return _join(rows, n_truncated)


def _is_usual(tokenizer: Any) -> bool:
    """Tell whether this is CLIP's tokenizer as open_clip makes it by default."""
    usual = isinstance(tokenizer, SimpleTokenizer) and tokenizer.reduction_fn is None
    return usual and tokenizer.clean_fn is get_clean_fn("lower")


def _encode_plain_word(tokenizer: SimpleTokenizer, word: str) -> list[int]:
    """Return what ``tokenizer.encode`` returns, without repairing the text."""
    pieces = regex.findall(tokenizer.pat, word.lower())  # bytes of plain text are their own letters
    return [tokenizer.encoder[part] for piece in pieces for part in tokenizer.bpe(piece).split(" ")]


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable() and "&" not in text


def _blocks(captions: Sequence[str]) -> Iterable[list[str]]:
    return (list(captions[i : i + _BLOCK]) for i in range(0, len(captions), _BLOCK))


def _join(rows: Sequence[Any], n_truncated: int) -> RaggedTokens:
    starts = np.zeros(len(rows) + 1, np.int64)
    np.cumsum([len(row) for row in rows], out=starts[1:])
    tokens = np.empty(starts[-1], np.int32)
    for row, first, last in zip(rows, starts[:-1], starts[1:], strict=True):
        tokens[first:last] = row
    return RaggedTokens(tokens, starts, n_truncated)


def train_bpe(texts: Iterable[str], n_merges: int) -> bytes:
    """Train a vocabulary of at most ``n_merges`` merges, the most frequent pair first; ties go by the alphabet.

    The function works on distinct words (a million names have some hundred thousand) and updates pair counts only
    where a merge changed a word.
    """
    words = _count_words(texts)
    symbols = [[*word[:-1], f"{word[-1]}</w>"] for word in words]
    frequency = list(words.values())
    counts: Counter[Pair] = Counter()
    holders: defaultdict[Pair, set[int]] = defaultdict(set)
    for number, word in enumerate(symbols):
        for pair in pairwise(word):
            counts[pair] += frequency[number]
            holders[pair].add(number)
    heap = [(-count, pair) for pair, count in counts.items()]
    heapq.heapify(heap)
    merges: list[Pair] = []
    while heap and len(merges) < min(n_merges, MAX_MERGES):
        count, pair = heapq.heappop(heap)
        if counts[pair] != -count:  # it has become rarer in the meantime
            if counts[pair] > 0:
                heapq.heappush(heap, (-counts[pair], pair))
            continue
        merges.append(pair)
        new: set[Pair] = set()
        for number in holders.pop(pair):
            symbols[number], added = _merge_in_word(symbols[number], pair, frequency[number], counts)
            new |= added
            for other in added:
                holders[other].add(number)
        counts[pair] = 0
        for other in new:
            if counts[other] > 0:
                heapq.heappush(heap, (-counts[other], other))
    lines = ["#version: linnaea", *(f"{first} {second}" for first, second in merges)]
    return gzip.compress("\n".join(lines).encode(), mtime=0)


def _count_words(texts: Iterable[str]) -> Counter[str]:
    """Count each word (in byte letters) of the cleaned texts, as the tokenizer cuts them."""
    clean, byte_letters = get_clean_fn("lower"), bytes_to_unicode()
    parts: Counter[str] = Counter()
    for text in texts:
        parts.update((text.lower() if _is_plain(text) else clean(text)).split())
    counted: Counter[str] = Counter()
    for part, count in parts.items():
        for word in PIECES.findall(part):
            counted["".join(byte_letters[byte] for byte in word.encode())] += count
    return counted


def _merge_in_word(word: list[str], pair: Pair, weight: int, counts: Counter[Pair]) -> tuple[list[str], set[Pair]]:
    """Return the word with ``pair`` joined from the left, and the new pairs; update all other counts."""
    first, second = pair
    whole = first + second
    joined: list[str] = []
    added: set[Pair] = set()
    position, last = 0, len(word) - 1
    while position <= last:
        symbol = word[position]
        if position == last or symbol != first or word[position + 1] != second:
            joined.append(symbol)
            position += 1
            continue
        if joined:
            counts[joined[-1], first] -= weight
            counts[joined[-1], whole] += weight
            added.add((joined[-1], whole))
        joined.append(whole)
        position += 2
        if position <= last:
            counts[second, word[position]] -= weight
            counts[whole, word[position]] += weight
            added.add((whole, word[position]))
    return joined, added
