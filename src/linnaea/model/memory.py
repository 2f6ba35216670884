"""Keep the memory of freed tensors, so that the next batch finds it ready."""

import ctypes
import os
import platform

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's ``mallopt``."""
_NEVER = -1
_LARGEST_KEPT = 2**30
"""Bytes. Larger blocks come from the system and go back to it, as before."""
_OF_THE_USER = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_")


def keep_freed_memory() -> None:
    """Let this process keep memory that it frees, for PyTorch's tensors on a CPU.

    glibc gives every block above 32 MiB back to the system when it is freed. Activations are such blocks: each batch
    would ask for all of them again, and the system clears them page by page. For an EfficientNet that is a quarter of
    the time of a training step and half of a forward pass; vision transformers hardly notice
    (``python benchmarks/freed_memory.py``). The process then needs as much memory as its largest batch until it ends.

    Does nothing without glibc, or where the environment sets glibc's thresholds (``GLIBC_TUNABLES``,
    ``MALLOC_TRIM_THRESHOLD_`` and the like).
    """
    if platform.libc_ver()[0] != "glibc" or _is_set_by_user():
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_MMAP_THRESHOLD, _LARGEST_KEPT)
    libc.mallopt(_TRIM_THRESHOLD, _NEVER)


def _is_set_by_user() -> bool:
    return "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "") or any(name in os.environ for name in _OF_THE_USER)
