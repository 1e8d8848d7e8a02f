"""Attacks that the simulator has no campaign for, implanted into benign flows: what `held_out.py` adds to its table."""

from contextlib import closing
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from eddyline.sources import open_source

EACH: Final = 60  # flows of a kind
HABIT: Final = 20  # flows that a pair must have to be habitual
MINUTE_US: Final = 60_000_000
Ints = NDArray[np.int64]


def implanted(benign: str, file: Path, seed: int) -> None:
    """Write the flows of the source `benign` and implants among them, labelled, to a Parquet file in our own layout.

    exfiltration: flows of habitual pairs with e^5 to e^8 times their bytes and packets; new_pair: flows to another
    destination of the same network that their source never talks to; slow_scan: one new host a minute on port 22,
    from a host that sends otherwise, unanswered.
    """
    with closing(open_source(benign)) as source:
        flows = pa.concat_tables([batch.table for batch in source]).unify_dictionaries().combine_chunks()
    plain = flows.cast(pa.schema([field.with_type(_plain(field.type)) for field in flows.schema]))
    columns: dict[str, Any] = {name: plain[name].to_numpy(zero_copy_only=False).copy() for name in flows.column_names}
    src, dst = columns["src_addr"], columns["dst_addr"]
    pair = np.unique(np.char.add(np.char.add(src.astype(str), ">"), dst.astype(str)), return_inverse=True)[1]
    habitual = np.flatnonzero(np.bincount(pair)[pair] >= HABIT)
    rng = np.random.default_rng(seed)
    drawn = rng.choice(habitual, 2 * EACH, replace=False)
    columns["attack"] = np.full(len(flows), None, object)
    columns["label"] = np.full(len(flows), "benign", object)
    more = np.exp(rng.uniform(5, 8, EACH))
    for name in ("bytes", "packets"):
        columns[name][drawn[:EACH]] = (columns[name][drawn[:EACH]] * more).astype(np.uint64)
    columns["attack"][drawn[:EACH]] = "exfiltration"
    for row in drawn[EACH:]:
        met = set(dst[src == src[row]])
        columns["dst_addr"][row] = rng.choice([host for host in np.unique(dst) if host not in met])
        columns["attack"][row] = "new_pair"
    joined = {name: np.concatenate([values, scan]) for (name, values), scan in _with_scan(columns, rng)}
    hits = joined["attack"] != np.array(None)
    joined["label"][hits] = "malicious"
    order = np.argsort(joined["ts_end"], kind="stable")
    table = pa.table(
        {
            name: pa.array(values[order], flows.schema.field(name).type, from_pandas=True)
            for name, values in joined.items()
        }
    )
    pq.write_table(table, file)


def _plain(type_: pa.DataType) -> pa.DataType:
    return type_.value_type if pa.types.is_dictionary(type_) else type_


def _with_scan(columns: dict[str, Any], rng: np.random.Generator) -> Any:
    """Each column with the values of a slow scan to append: copies of one flow, a minute apart."""
    src, end = columns["src_addr"], columns["ts_end"]
    times = np.arange(end.min(), end.max(), np.timedelta64(MINUTE_US, "us"))[:-1]
    model = int(rng.choice(np.flatnonzero(columns["proto"] == 6)))
    met = set(columns["dst_addr"][src == src[model]])
    others = np.array([host for host in np.unique(src) if host not in met and host != src[model]], object)
    own = {
        "ts_end": times, "ts_start": times, "dst_addr": rng.permutation(others)[: len(times)], "dst_port": 22,
        "src_port": 50_000, "bytes": 60, "packets": 1, "rev_bytes": 0, "rev_packets": 0, "duration_us": 0,
        "attack": "slow_scan",
    }  # fmt: skip
    size = min(len(times), len(others))
    for name, values in columns.items():
        given = own.get(name, values[model])
        column = np.empty(size, values.dtype)
        column[:] = given[:size] if isinstance(given, np.ndarray) and given.ndim else given
        yield (name, values), column
