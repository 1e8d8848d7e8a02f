"""Scored output v1 as the columns that judging and the baselines need, in time order.

Which rows are judged: in a protocol, whose file has a `part` column, part 2; else rows from a given time on. Parts 0
and 1, or the benign rows before that time, are what the baselines may learn from. `part` is no column of a flow, so it
is fetched from the file by `source_row`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from eddyline.errors import ConfigError
from eddyline.evaluation.truth import Codes, Floats, Mask, Truth, truth_of
from eddyline.flows import TEXT

TRAIN, CALIBRATE, TEST, STREAMED = 0, 1, 2, 3  # the values of `part`
_CALIBRATE_SHARE: Final = 0.4  # of the benign rows before --from, the later ones: as much as the protocols keep


@dataclass(frozen=True, slots=True)
class Scored:
    """A whole stream after scoring, N flows in time order.

    Args:
        table: Scored output v1.
        time_us: event time, microseconds since 1970: the first packet, where unknown the last.
        src, dst: hosts, codes of one numbering.
        part: TRAIN, CALIBRATE, TEST or STREAMED of each flow.
        attack: True for attack flows.
        truth: what the judged flows (part TEST) were, in order.
        p: p-values of every flow: `p`, then `p_<detector>` where there are several.
    """

    table: pa.Table
    time_us: Codes
    src: Codes
    dst: Codes
    part: Codes
    attack: Mask
    truth: Truth
    p: Mapping[str, Floats]

    def __len__(self) -> int:
        return len(self.time_us)

    @property
    def judged(self) -> Mask:
        """The flows that `truth` is about."""
        return np.equal(self.part, TEST)


def scored_flows(table: pa.Table, part: Codes | None, from_us: int | None) -> Scored:
    """Prepare scored rows for judging.

    Args:
        table: rows of Scored output v1 with labels and times, in any order.
        part: of every row of the source file, by `source_row`; None where the file has none.
        from_us: flows from this time on are judged where there is no `part`; None judges all.

    Raises:
        ConfigError: there are no labels, no times, or nothing is left to judge.
    """
    table, time_us = _in_time(table)
    attack = _attacks(table)
    src, dst = _hosts(table)
    parts = _by_time(time_us, attack, from_us) if part is None else part[table["source_row"].to_numpy()]
    judged = parts == TEST
    if not judged.any():
        raise ConfigError("evaluate: no flow to judge; give an earlier --from")
    kind, kinds = _kinds(table, attack)
    truth = truth_of(time_us[judged], src[judged], dst[judged], kind[judged], kinds)
    detectors = [name for name in table.column_names if name.startswith("p_")]
    columns = ["p", *(detectors if len(detectors) > 1 else [])]
    p = {name: np.asarray(table[name].to_numpy(), np.float64) for name in columns}
    return Scored(table, time_us, src, dst, parts, attack, truth, p)


def parts_of(file: Path) -> Codes | None:
    """Read the `part` column of a Parquet file; None where it has none."""
    if "part" not in pq.read_schema(file).names:
        return None
    return np.asarray(pq.read_table(file, columns=["part"])["part"].to_numpy(), np.int64)


def _in_time(table: pa.Table) -> tuple[pa.Table, Codes]:
    time = pc.coalesce(table["ts_start"], table["ts_end"]).cast(pa.int64())
    if time.null_count:
        raise ConfigError(f"evaluate: {time.null_count:,} flows have no time; judging needs minutes and hours")
    time_us = np.asarray(time.to_numpy(), np.int64)
    order = np.argsort(time_us, kind="stable")
    return table.take(order), time_us[order]


def _attacks(table: pa.Table) -> Mask:
    """Flows labelled malicious; rows without a label count as benign, as in training."""
    label = table["label"].cast(pa.utf8())
    if label.null_count == len(label):
        raise ConfigError("evaluate: the source has no labels; judging needs `label` or `attack` columns")
    return np.asarray(pc.fill_null(pc.equal(label, "malicious"), False).to_numpy(), np.bool_)


def _kinds(table: pa.Table, attack: Mask) -> tuple[Codes, list[str]]:
    """Class of each flow, -1 for benign ones, and the names of the classes; attacks without a name are `attack`."""
    names = pc.if_else(pa.array(attack), pc.fill_null(table["attack"].cast(pa.utf8()), "attack"), None)
    coded = pa.chunked_array([names]) if isinstance(names, pa.Array) else names
    found = coded.dictionary_encode().combine_chunks()
    return np.asarray(found.indices.cast(pa.int64()).fill_null(-1).to_numpy(), np.int64), found.dictionary.to_pylist()


def _hosts(table: pa.Table) -> tuple[Codes, Codes]:
    both = pa.chunked_array([*table["src_addr"].chunks, *table["dst_addr"].chunks], TEXT)
    codes = np.asarray(both.cast(pa.utf8()).dictionary_encode().combine_chunks().indices.to_numpy(), np.int64)
    return codes[: len(table)], codes[len(table) :]


def _by_time(time_us: Codes, attack: Mask, from_us: int | None) -> Codes:
    part = np.full(len(time_us), TEST)
    if from_us is None:
        return part
    early = np.flatnonzero((time_us < from_us) & ~attack)
    part[time_us < from_us] = STREAMED
    cut = round(len(early) * (1 - _CALIBRATE_SHARE))
    part[early[:cut]], part[early[cut:]] = TRAIN, CALIBRATE
    return part
