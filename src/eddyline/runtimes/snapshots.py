"""What a partition's run remembers, as small named pieces of bytes and back: JSON and safetensors, pure."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from eddyline.errors import SourceError
from eddyline.windows import Commit, SiteState

VERSION: Final = 1
MOST_BYTES: Final = 512 << 10  # of a piece: brokers take a mebibyte by default
_MOST_JSON: Final = 64 << 20  # of a commit without memories, unpacked
HEAD: Final = "commit"
_MEMORY: Final = "memory/"
_BOOK: Final = "book"


@dataclass(frozen=True, slots=True)
class Remembered:
    """What a run leaves to the next one.

    Args:
        commit: position, windows, the book of alerts and, of the same model, memories.
        rejected_until: the last offset whose bad records are out; a replay brings them again.
        same_model: whether it was written under the model that now runs.
    """

    commit: Commit
    rejected_until: int = -1
    same_model: bool = True


def to_pieces(commit: Commit, model: str, rejected_until: int = -1) -> dict[str, bytes]:
    """Pieces by name, `HEAD`, `book/NUMBER` and `memory/SITE/NUMBER`; equal parts of two commits have equal pieces.

    Raises:
        SourceError: more sites than one piece can tell of.
    """
    pieces: dict[str, bytes] = {}
    counts: dict[str, int] = {}
    arrays = {_MEMORY + site: parts for site, parts in commit.memories.items()} | {_BOOK: commit.book}
    for name, parts in arrays.items():
        # in C order: the library writes the bytes of an array as they lie and reads them back as if they lay so
        packed = save({part: np.asarray(values, order="C") for part, values in parts.items()}) if parts else b""
        counts[name] = -(-len(packed) // MOST_BYTES)
        for number in range(counts[name]):
            pieces[f"{name}/{number}"] = packed[number * MOST_BYTES : (number + 1) * MOST_BYTES]
    head = {
        "version": VERSION, "model": model, "position": commit.position, "seen": commit.seen, "arrays": counts,
        "rejected_until": rejected_until,
        "sites": {site: _state_record(state) for site, state in commit.sites.items()},
    }  # fmt: skip
    pieces[HEAD] = zlib.compress(json.dumps(head, sort_keys=True).encode(), 1)
    if len(pieces[HEAD]) > MOST_BYTES:
        raise SourceError(f"kafka source: {len(commit.sites):,} sites in one partition are more than can be "
                          "remembered; give the topic more partitions")  # fmt: skip
    return pieces


def from_pieces(pieces: Mapping[str, bytes], model: str) -> Remembered:
    """Read `to_pieces` back; memories of another than this `model` are left out.

    Raises:
        SourceError: what is there was written by another version, or is incomplete.
    """
    try:
        head = _head(pieces[HEAD])
        same = head["model"] == model
        found = {name: _arrays(pieces, name, count) for name, count in head["arrays"].items() if same or name == _BOOK}
        book = found.pop(_BOOK)
        memories = {name.removeprefix(_MEMORY): parts for name, parts in found.items()}
        sites = {site: _state_of(record) for site, record in head["sites"].items()}
        return Remembered(Commit(head["position"], head["seen"], sites, memories, book), head["rejected_until"], same)
    except (KeyError, ValueError, TypeError, zlib.error, SafetensorError) as error:
        raise SourceError(f"kafka source: what an earlier run remembered cannot be read: {error!r}; give another "
                          "group= to begin anew") from error  # fmt: skip


def _head(piece: bytes) -> dict[str, Any]:
    head: dict[str, Any] = json.loads(zlib.decompressobj().decompress(piece, _MOST_JSON))
    if head["version"] != VERSION:
        raise ValueError(f"version {head['version']}, this is version {VERSION}")
    return head


def _arrays(pieces: Mapping[str, bytes], name: str, count: int) -> Mapping[str, Any]:
    return load(b"".join(pieces[f"{name}/{number}"] for number in range(count))) if count else {}


def _state_record(state: SiteState) -> dict[str, Any]:
    return {**asdict(state), "parts": [[start, *known] for start, known in state.parts.items()]}


def _state_of(record: Mapping[str, Any]) -> SiteState:
    parts = {start: (part, flows) for start, part, flows in record["parts"]}
    return SiteState(**{**record, "parts": parts})
