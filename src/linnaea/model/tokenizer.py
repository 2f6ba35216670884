"""Byte-pair vocabularies of our own, in the format of open_clip's ``SimpleTokenizer``.

A small vocabulary trained on scientific and English names makes small models small: CLIP's 49,408 pieces are most
of their weight. The file is ``bpe.txt.gz``: one header line, one merge per line, no newline at the end;
the vocabulary has 512 + merges + 2 pieces, and the end token has the highest id.
"""

import gzip
import heapq
import io
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import regex
from open_clip.tokenizer import SimpleTokenizer, bytes_to_unicode, get_clean_fn

N_BYTE_PIECES = 512
N_SPECIAL_PIECES = 2
_PIECES = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+", regex.IGNORECASE)

Pair = tuple[str, str]


def vocabulary_size(bpe: bytes) -> int:
    """How many pieces a ``bpe.txt.gz`` gives."""
    return N_BYTE_PIECES + len(gzip.decompress(bpe).decode().split("\n")) - 1 + N_SPECIAL_PIECES


def make_tokenizer(bpe: bytes, context_length: int) -> Any:
    """open_clip's own tokenizer over a vocabulary given as bytes."""
    return SimpleTokenizer(bpe_path=io.BytesIO(bpe), context_length=context_length)


def train_bpe(texts: Iterable[str], n_merges: int) -> bytes:
    """A vocabulary with at most ``n_merges`` merges, the commonest pair first; ties go by the alphabet.

    Works on the distinct words (a million names are some hundred thousand of them) and updates pair counts
    only where a merge changed a word.
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
    while heap and len(merges) < n_merges:
        count, pair = heapq.heappop(heap)
        if counts[pair] != -count or not counts[pair]:
            continue  # an older count of this pair
        merges.append(pair)
        changed = set()
        for number in holders.pop(pair):
            changed |= _merge_in_word(symbols, number, pair, frequency[number], counts, holders)
        counts[pair] = 0
        for other in changed - {pair}:
            if counts[other] > 0:
                heapq.heappush(heap, (-counts[other], other))
    lines = ["#version: linnaea", *(f"{first} {second}" for first, second in merges)]
    return gzip.compress("\n".join(lines).encode(), mtime=0)


def _count_words(texts: Iterable[str]) -> Counter[str]:
    clean, byte_letters = get_clean_fn("lower"), bytes_to_unicode()
    words: Counter[str] = Counter()
    for text in texts:
        words.update(_PIECES.findall(clean(text)))
    counted: Counter[str] = Counter()
    for word, count in words.items():
        counted["".join(byte_letters[byte] for byte in word.encode())] += count
    return counted


def _merge_in_word(
    symbols: list[list[str]],
    number: int,
    pair: Pair,
    frequency: int,
    counts: Counter[Pair],
    holders: defaultdict[Pair, set[int]],
) -> set[Pair]:
    """Join ``pair`` in one word and keep the counts; returns the pairs whose count changed."""
    word = symbols[number]
    joined: list[str] = []
    position = 0
    while position < len(word):
        if tuple(word[position : position + 2]) == pair:
            joined.append(pair[0] + pair[1])
            position += 2
        else:
            joined.append(word[position])
            position += 1
    before, after = list(pairwise(word)), list(pairwise(joined))
    for old in before:
        counts[old] -= frequency
    for new in after:
        counts[new] += frequency
        holders[new].add(number)
    for gone in set(before) - set(after):
        holders[gone].discard(number)
    symbols[number] = joined
    return set(before) ^ set(after) | {p for p in set(before) & set(after) if before.count(p) != after.count(p)}
