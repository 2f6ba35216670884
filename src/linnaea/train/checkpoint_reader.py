"""Read checkpoints without running code from them.

PyTorch describes a checkpoint in ``.metadata``, a pickle, and a pickle may call anything. Here it may only build the
descriptions of tensors. Entries that are not tensors, which Linnaea never writes, are read as plain values.
"""

import io
import pickle
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import torch
from torch.distributed.checkpoint import filesystem
from torch.distributed.checkpoint import metadata as described
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta
from torch.distributed.checkpoint.planner import ReadItem

from linnaea.errors import LinnaeaError
from linnaea.storage import open_regular, resolve_inside

_DESCRIBED = ("BytesStorageMetadata", "ChunkStorageMetadata", "Metadata", "MetadataIndex", "StorageMeta",
              "TensorProperties", "TensorStorageMetadata", "_MEM_FORMAT_ENCODING")  # fmt: skip
_FOREIGN = {
    ("torch", "Size"): torch.Size,
    ("torch.serialization", "_get_layout"): lambda name: {str(torch.strided): torch.strided}[name],
    ("torch.distributed.checkpoint.filesystem", "_StorageInfo"): filesystem._StorageInfo,
    ("pathlib", "PosixPath"): PurePosixPath,
    ("pathlib", "WindowsPath"): PureWindowsPath,
    ("pathlib._local", "PosixPath"): PurePosixPath,
    ("pathlib._local", "WindowsPath"): PureWindowsPath,
}


class _Unpickler(pickle.Unpickler):
    """An unpickler that builds descriptions of tensors and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if module == described.__name__ and name in _DESCRIBED:
            return getattr(described, name)
        if module == "torch" and isinstance(dtype := getattr(torch, name, None), torch.dtype):
            return dtype
        if (found := _FOREIGN.get((module, name))) is not None:
            return found
        raise pickle.UnpicklingError(f"{module}.{name} is not part of a description of tensors")


def read_metadata(path: Path) -> Metadata:
    """Return the description of a checkpoint; its files are inside the folder.

    Raises:
        LinnaeaError: it is broken, holds something else, or names a file outside of the folder.
    """
    try:
        with open_regular(path / ".metadata") as stream:
            found = _Unpickler(io.BytesIO(stream.read())).load()
    except LinnaeaError:
        raise
    except Exception as error:  # a broken pickle raises anything
        why = " ".join(str(error).split())[:200] or type(error).__name__
        raise LinnaeaError(f"{path / '.metadata'}: not the description of a checkpoint ({why}); refused") from error
    if not isinstance(found, Metadata) or not isinstance(found.storage_data, dict):
        raise LinnaeaError(f"{path / '.metadata'}: not the description of a checkpoint; refused")
    for info in found.storage_data.values():
        resolve_inside(path, str(info.relative_path))
        if getattr(info, "transform_descriptors", None):
            raise LinnaeaError(f"{path / '.metadata'}: its tensors are packed in a way that Linnaea does not write")
    return found


class CheckpointReader(FileSystemReader):
    """PyTorch's reader with :func:`read_metadata`."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        found = read_metadata(Path(self.path))
        found.storage_meta = found.storage_meta or StorageMeta()
        found.storage_meta.load_id = self.load_id
        return found


class PlainLoadPlanner(DefaultLoadPlanner):
    """PyTorch's planner, which loads an entry that is not a tensor only if it holds plain values."""

    def load_bytes(self, read_item: ReadItem, value: io.BytesIO) -> None:
        torch.load(value, weights_only=True)
        value.seek(0)
        super().load_bytes(read_item, value)
