"""Where tensors live: which device is meant and why, and how a window's columns get onto a GPU.

All columns of a window travel in one transfer from one pinned buffer, in the types they have in Arrow, and become
float32 there; torch keeps the buffer for the next window. Everything but `by_cudf` runs on the CPU just as well, which
is how it is tested.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from eddyline.errors import ConfigError
from eddyline.flows import EDGE_FEATURES

Pieces: TypeAlias = Sequence[NDArray[Any]]  # one column in one or several parts, of one type
_TRITON: Final = (3, 6)
_ALIGNED: Final = 256  # bytes between the beginnings of columns, in multiples
_SIGNED: Final = {np.dtype(np.uint16): torch.int16, np.dtype(np.uint64): torch.int64}  # torch counts in few unsigned


@dataclass(frozen=True, slots=True)
class Chosen:
    """A torch device and, for the log, why it is this one."""

    device: str
    why: str


@lru_cache
def chosen(device: str) -> Chosen:
    """Turn a setting into a device that is there: auto is the first GPU, or the CPU where torch finds none.

    Raises:
        ConfigError: the device asked for is not here.
    """
    if device.startswith("cpu"):
        return Chosen(device, "as configured")
    if device != "auto" and not device.startswith("cuda"):
        raise ConfigError(f"model: no device `{device}` here; give --device cpu, cuda or auto")
    missing = _no_cuda(device)
    if missing and device != "auto":
        raise ConfigError(f"model: no device `{device}` here ({missing}); give --device cpu or auto")
    if missing:
        return Chosen("cpu", missing)
    return Chosen("cuda" if device == "auto" else device, _card(device))


def _no_cuda(device: str) -> str:
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA"
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        return f"torch {torch.__version__} finds no CUDA device"
    number = device.partition(":")[2] or "0"
    return "" if number.isdigit() and int(number) < count else f"torch finds {count} CUDA devices, counted from 0"


@lru_cache
def has_triton() -> bool:
    """Whether Triton is here, of a version that compiles our kernels; does not import it."""
    return find_spec("triton") is not None and compiles(version("triton"))


def compiles(triton: str) -> bool:
    """Whether a version of Triton compiles our kernels: 3.6 and 3.7 do, and 3.0 ends the process over one of them."""
    found = tuple(int(part) for part in re.findall(r"\d+", triton)[:2])
    return found >= _TRITON


def _card(device: str) -> str:
    card = torch.cuda.get_device_properties("cuda" if device == "auto" else device)
    return (
        f"{card.name}, {card.total_memory / 2**30:.0f} GiB, {'' if has_triton() else 'no '}Triton kernels, "
        f"columns by {'cuDF' if find_spec('cudf') else 'one pinned copy'}"
    )


def moved(columns: Sequence[Pieces], device: str) -> list[Tensor]:
    """Copy columns, each in pieces, to a device in one transfer; does not wait for it.

    Unsigned types of 16 and 64 bits come back as signed ones with the same bits; `floats` reads them.
    """
    ends, places = 0, []
    for pieces in columns:
        places.append(ends)
        ends += -(-sum(piece.nbytes for piece in pieces) // _ALIGNED) * _ALIGNED
    staging = torch.empty(ends, dtype=torch.uint8, pin_memory=device.startswith("cuda"))
    flat = staging.numpy()
    for place, pieces in zip(places, columns, strict=True):
        for piece in pieces:
            flat[place : place + piece.nbytes] = np.ascontiguousarray(piece).view(np.uint8)
            place += piece.nbytes
    there = staging.to(device, non_blocking=True)
    found = []
    for place, pieces in zip(places, columns, strict=True):
        kind = pieces[0].dtype if pieces else np.dtype(np.uint8)
        dtype = _SIGNED.get(kind) or torch.from_numpy(np.empty(0, kind)).dtype
        found.append(there[place : place + sum(piece.nbytes for piece in pieces)].view(dtype))
    return found


def floats(values: Tensor, kind: np.dtype[Any]) -> Tensor:
    """Values of a NumPy type `kind`, as `moved` gives them, to float32, rounded as NumPy rounds."""
    if kind == np.uint16:
        return (values.int() & 0xFFFF).float()
    if kind != np.uint64:
        return values.float()
    halved = ((values >> 1) & (2**63 - 1)) | (values & 1)  # the last bit stays, so that rounding sees it
    return torch.where(values < 0, halved.float() * 2, values.float())


def by_copy(flows: pa.Table, ends: Sequence[Pieces], device: str) -> tuple[Tensor, Tensor]:
    """Both ends of each flow, (2, E), and EDGE_FEATURES, float32 (E, F), NaN where null; one transfer."""
    columns: list[Pieces] = list(ends)
    places: dict[str, tuple[int, int]] = {}
    for name in EDGE_FEATURES:
        if (nulls := flows[name].null_count) == len(flows):
            continue
        places[name] = len(columns), len(columns) + 1 if nulls else 0
        columns.append([_values(chunk) for chunk in flows[name].chunks])
        if nulls:
            columns.append([chunk.is_null().to_numpy(zero_copy_only=False) for chunk in flows[name].chunks])
    there = moved(columns, device)
    features = torch.full((len(EDGE_FEATURES), len(flows)), torch.nan, device=device)
    for row, name in zip(features, EDGE_FEATURES, strict=True):
        if name in places:
            values, nulls = places[name]
            row.copy_(floats(there[values], columns[values][0].dtype))
            if nulls:
                row.masked_fill_(there[nulls], torch.nan)
    return torch.stack(there[:2]), features.T


def _values(chunk: pa.Array) -> NDArray[Any]:
    """What the buffer of a column of numbers holds, whatever that is where it is null."""
    kind = chunk.type.to_pandas_dtype()
    return np.frombuffer(chunk.buffers()[1], kind)[chunk.offset : chunk.offset + len(chunk)]


def by_cudf(flows: pa.Table, ends: Sequence[Pieces], device: str) -> tuple[Tensor, Tensor]:
    """The same through cuDF, which copies column by column; its memory reaches torch by DLPack."""
    import cudf  # only where CUDA and the gpu extra are

    with torch.cuda.device(device):
        columns = cudf.DataFrame.from_arrow(flows.select(list(EDGE_FEATURES)))
        whole = [columns[name].astype("float32").to_cupy(na_value=float("nan")) for name in EDGE_FEATURES]
        features = torch.stack([from_dlpack(column) for column in whole])
    return torch.stack(moved(ends, device)), features.T


def numbered(ends: Tensor, entries: int) -> tuple[Tensor, Tensor]:
    """Number the dictionary entries that occur by first appearance, senders first.

    Args:
        ends: codes of both ends, (2, E). entries: of the dictionary.

    Returns:
        Both ends by the new numbers, int64 (2, E), and the entry that each number stands for, int64 (V,).
    """
    codes = ends.to(torch.int64).flatten()
    order = torch.arange(len(codes), device=codes.device)
    first = torch.full((entries,), len(codes), device=codes.device).scatter_reduce_(0, codes, order, "amin")
    kept = torch.nonzero(first < len(codes)).flatten()
    kept = kept[torch.argsort(first[kept])]
    place = torch.empty_like(first).scatter_(0, kept, torch.arange(len(kept), device=codes.device))
    return place[codes].view(2, -1), kept
