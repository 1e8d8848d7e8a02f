"""Columns as a file has them to typed FLOW_SCHEMA columns, a column at a time; rows that cannot be read are marked.

Fast casts accept a subset of what the slow parser of single values accepts, with the same result.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from eddyline.dialects.values import (
    NULL_WORDS,
    SECOND_US,
    Numbers,
    canonical_addresses,
    cast_or_none,
    combined,
    is_usable,
    iso_times,
    joined_text,
    known_values,
    parse_number,
    parse_port,
    parse_protocol,
    parse_time,
    parse_whole,
    parsed_text,
    simplified,
    timestamps,
)
from eddyline.errors import ConfigError
from eddyline.flows import TEXT, constant

WITH_PORTS: Final = (6, 17, 33, 132, 136)  # TCP, UDP, DCCP, SCTP, UDP-Lite
_LATEST_US: Final = 253_402_300_800 * SECOND_US  # year 10000: beyond it a unit was mistaken
Distinct = tuple[pa.Array, pa.Array]  # distinct values, and per row the index of its value


@dataclass(slots=True)
class RawColumns:
    """The columns of a piece of a file by lower-case name; E rows. Every method answers None for an absent column."""

    table: pa.Table
    zone: str = "UTC"  # of times in text that do not name theirs
    faults: NDArray[np.int32] = field(init=False)  # (E,), 0 = readable, 1 + row of `reasons`, or -1: no flow at all
    reasons: list[str] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.faults = np.zeros(self.table.num_rows, np.int32)

    def first(self, *names: str) -> str:
        """The first of `names` that the file has; the last if it has none."""
        return next((name for name in names if name in self.table.column_names), names[-1])

    def constant(self, value: int, type_: pa.DataType) -> pa.Array:
        """`value` in every row."""
        return pa.repeat(pa.scalar(value, type_), self.table.num_rows)

    def site(self, name: str) -> pa.DictionaryArray:
        """The text of `name`; "default" where it is empty or absent."""
        found = self.text(name)
        if found is None:
            return constant("default", self.table.num_rows)
        return found if not found.null_count else found.cast(pa.utf8()).fill_null("default").dictionary_encode()

    def refuse(self, rows: NDArray[np.bool_], reason: str) -> None:
        """Mark rows as unreadable; the first reason of a row stays."""
        if rows.any():
            self.reasons.append(reason)
            self.faults[rows & (self.faults == 0)] = len(self.reasons)

    def skip(self, rows: NDArray[np.bool_]) -> None:
        """Mark rows as records of another kind: neither flows nor faults."""
        self.faults[rows & (self.faults == 0)] = -1

    def column(self, name: str) -> pa.Array | None:
        """The column as it came, in one piece; other text types as `string`.

        Raises:
            ConfigError: a type that no field of a flow can come from.
        """
        if name not in self.table.column_names:
            return None
        column = self.table[name]
        if not is_usable(column.type):
            raise ConfigError(f"dialect: column `{name}` is {column.type}; give it as text, number or timestamp")
        return combined(simplified(column))

    def plain(self, name: str) -> pa.Array | None:
        """`column` without dictionary."""
        column = self.column(name)
        if column is not None and pa.types.is_dictionary(column.type):
            column = column.dictionary.take(column.indices)
        return column

    def distinct(self, name: str, parse: Callable[[str], Any], type_: pa.DataType, wanted: str) -> Distinct | None:
        """Apply `parse` to each distinct text, stripped; None means null, a ValueError that it is not `wanted`."""
        column = self.column(name)
        if column is None:
            return None
        if not pa.types.is_dictionary(column.type):
            column = column.dictionary_encode()
        parsed: list[Any] = []
        bad: list[bool] = []
        for text in column.dictionary.cast(pa.utf8()).to_pylist():
            value, wrong = parsed_text(text, parse)
            parsed.append(value)
            bad.append(wrong)
        if any(bad):
            rows = pa.array(bad).take(column.indices).fill_null(False)
            self.refuse(rows.to_numpy(zero_copy_only=False), f"column `{name}` is no {wanted}")
        return pa.array(parsed, type_), column.indices

    def mapped(self, name: str, parse: Callable[[str], Any], type_: pa.DataType, wanted: str) -> pa.Array | None:
        """`distinct`, one value per row."""
        found = self.distinct(name, parse, type_, wanted)
        return None if found is None else found[0].take(found[1])

    def text(self, name: str, change: Callable[[str], str | None] = str) -> pa.DictionaryArray | None:
        """Stripped text, changed per distinct value, dictionary-encoded; NULL_WORDS become null."""
        if (found := self.distinct(name, change, pa.utf8(), "known word")) is None:
            return None
        texts = found[0].dictionary_encode()
        return pa.DictionaryArray.from_arrays(texts.indices.take(found[1]).cast(pa.int32()), texts.dictionary)

    def numbers(self, name: str, whole: bool, infinite: bool = False) -> Numbers | None:
        """Numbers from a numeric, bool or text column; text may be padded, whole numbers hexadecimal (0x..)."""
        column = self.plain(name)
        if column is None:
            return None
        if pa.types.is_temporal(column.type) or pa.types.is_string(column.type):
            column = self._parsed(name, column.cast(pa.utf8()), whole)
        exact = pa.types.is_integer(column.type) or pa.types.is_boolean(column.type)
        values, known = known_values(column.cast(pa.int64() if exact else pa.float64(), safe=False), 0)
        if exact:
            return values, known
        known = known & ~np.isnan(values)
        odd = (np.trunc(values) != values) | (abs(values) >= 2**63) if whole else np.isinf(values) & (not infinite)
        wrong = known & odd
        self.refuse(wrong, f"column `{name}` is no {'whole ' * whole}number")
        known &= ~wrong
        values = np.where(known, values, 0)
        return (values.astype(np.int64) if whole else values), known

    def _parsed(self, name: str, column: pa.Array, whole: bool) -> pa.Array:
        if (numbers := cast_or_none(column, pa.int64() if whole else pa.float64())) is not None:
            return numbers
        column = pc.utf8_trim_whitespace(column)
        column = pc.if_else(pc.is_in(pc.utf8_lower(column), pa.array(NULL_WORDS)), pa.scalar(None, pa.utf8()), column)
        for type_ in (pa.int64(), pa.float64()) if whole else (pa.float64(),):
            if (numbers := cast_or_none(column, type_)) is not None:
                return numbers
        wanted = "whole number" if whole else "number"
        return self.mapped(name, parse_whole if whole else parse_number, pa.int64() if whole else pa.float64(), wanted)

    def integer(self, name: str, type_: pa.DataType) -> pa.Array | None:
        """Whole numbers of the unsigned `type_`; out of its range is unreadable."""
        column = self.column(name)
        if column is not None and column.type == type_:
            return column
        numbers = self.numbers(name, whole=True)
        return None if numbers is None else self.bounded(name, numbers, type_)

    def bounded(self, name: str, numbers: Numbers, type_: pa.DataType) -> pa.Array:
        """`numbers` as the unsigned `type_`; out of its range is unreadable."""
        values, known = numbers
        highest = np.iinfo(type_.to_pandas_dtype()).max
        wrong = known & ((values < 0) | (values > highest))
        self.refuse(wrong, f"column `{name}` is not from 0 to {highest}")
        known = known & ~wrong
        return pa.array(np.where(known, values, 0).astype(type_.to_pandas_dtype()), mask=~known)

    def probe(self, name: str) -> pa.Array | None:
        """A float32 extra; infinite values (the NF sets have them) become null, they cost no flow."""
        column = self.column(name)
        if column is not None and column.type == pa.float32():
            return column
        numbers = self.numbers(name, whole=False, infinite=True)
        if numbers is None:
            return None
        with np.errstate(over="ignore"):
            small = numbers[0].astype(np.float32)
        return pa.array(small, mask=~(numbers[1] & np.isfinite(small)))

    def times(self, name: str, unit_us: int = SECOND_US) -> Numbers | None:
        """Microseconds since 1970 from timestamps (UTC), ISO text (of `zone`) or numbers of `unit_us` since 1970."""
        column = self.plain(name)
        if column is None:
            return None
        if pa.types.is_string(column.type) and cast_or_none(column, pa.float64()) is None:
            column = iso_times(column, self.zone)
            if column is None:
                values = self.mapped(name, lambda text: parse_time(text, unit_us, self.zone), pa.int64(), "time")
                return self._within(name, *known_values(values, 0))
        if pa.types.is_temporal(column.type):
            return self._within(name, *known_values(column.cast(pa.timestamp("us"), safe=False).cast(pa.int64()), 0))
        return self.spans(name, unit_us)

    def spans(self, name: str, unit_us: int = SECOND_US) -> Numbers | None:
        """Microseconds from numbers in `unit_us`, never negative."""
        column = self.column(name)
        whole = column is not None and pa.types.is_integer(column.type)
        numbers = self.numbers(name, whole)
        if numbers is None:
            return None
        clipped = np.clip(numbers[0], -1, _LATEST_US // unit_us + 1)  # so that the product stays in int64
        return self._within(name, np.rint(clipped * unit_us).astype(np.int64), numbers[1])

    def _within(self, name: str, values: NDArray[np.int64], known: NDArray[np.bool_]) -> Numbers:
        wrong = known & ((values < 0) | (values > _LATEST_US))
        self.refuse(wrong, f"column `{name}` is out of range")
        return values, known & ~wrong

    def interval(self, start: Numbers | None, end: Numbers | None, duration: Numbers | None) -> dict[str, pa.Array]:
        """`ts_start`, `ts_end` and `duration_us`, each from the others where it is not known.

        Without end and duration a flow is taken to end as it starts, and its duration stays null.
        """
        rows = self.table.num_rows
        unknown: Numbers = (np.zeros(rows, np.int64), np.zeros(rows, np.bool_))
        (first, has_first), (last, has_last), (span, has_span) = start or unknown, end or unknown, duration or unknown
        self.refuse(has_first & has_last & (last < first), "ends before it starts")
        lasting = np.where(has_span, span, np.where(has_first & has_last, last - first, 0))
        return {
            "ts_start": timestamps(np.where(has_first, first, last - lasting), has_first | has_last),
            "ts_end": timestamps(np.where(has_last, last, first + lasting), has_first | has_last),
            "duration_us": pa.array(lasting, mask=~(has_span | (has_first & has_last))),
        }

    def addresses(self, src: str, dst: str, only_ip: bool) -> dict[str, pa.DictionaryArray]:
        """`src_addr` and `dst_addr` in canonical text, over one dictionary; a row without one of them is unreadable.

        Args:
            only_ip: anything but an IP address is unreadable; otherwise other text (MAC, AS number, name) is a host.
        """
        columns = [self._hosts(name) for name in (src, dst)]
        both = pa.chunked_array(columns, TEXT).unify_dictionaries().combine_chunks()
        both = both.chunk(0) if isinstance(both, pa.ChunkedArray) else both
        canonical = canonical_addresses(both.dictionary, only_ip).dictionary_encode()
        indices, rows = canonical.indices.take(both.indices), self.table.num_rows
        found = {}
        for at, (column, name) in enumerate((("src_addr", src), ("dst_addr", dst))):
            codes = indices.slice(at * rows, rows)
            if codes.null_count:
                self.refuse(codes.is_null().to_numpy(zero_copy_only=False), f"column `{name}` is no address")
            found[column] = pa.DictionaryArray.from_arrays(codes, canonical.dictionary)
        return found

    def _hosts(self, name: str) -> pa.DictionaryArray:
        column = self.column(name)
        if column is None:
            return pa.nulls(self.table.num_rows, pa.utf8()).dictionary_encode()
        if not pa.types.is_dictionary(column.type):
            column = column.cast(pa.utf8()).dictionary_encode()
        return column if column.type == TEXT else column.cast(TEXT)

    def protocol(self, name: str, only_ip: bool = False) -> pa.Array | None:
        """IANA numbers from numbers or names, also as in "IPV4-TCP"; null for what is not on IP (ARP, LLDP).

        Args:
            only_ip: an unknown name is unreadable instead.
        """

        def number(text: str) -> int | None:
            found = parse_protocol(text)
            if found is None and only_ip:
                raise ValueError(text)
            return found

        return self.mapped(name, number, pa.uint8(), "protocol")

    def raw_port(self, name: str) -> Numbers | None:
        """Ports as written: decimal, hexadecimal or a service name; not yet within bounds, null where empty."""
        column = self.plain(name)
        if column is None or not pa.types.is_string(column.type) or cast_or_none(column, pa.int64()) is not None:
            return self.numbers(name, whole=True)
        return known_values(self.mapped(name, parse_port, pa.int64(), "port or known service"), 0)

    def port(self, name: str, numbers: Numbers | None, proto: pa.Array | None) -> pa.Array | None:
        """A uint16 column: 0 where the protocol has no ports, whatever is written; else up to 65535 or null."""
        if numbers is None:
            return None
        values, known = numbers
        if proto is not None:
            code, is_ip = known_values(proto, 0)
            portless = is_ip & ~np.isin(code, WITH_PORTS)
            values, known = np.where(portless, 0, values), known | portless
        return self.bounded(name, (values, known), pa.uint16())


def exporters(raw: RawColumns, address: str, domain: str) -> pa.DictionaryArray | None:
    """ADDRESS/DOMAIN as our own collector writes it; the address alone where there is no domain."""
    first, second = raw.plain(address), raw.plain(domain)
    return raw.text(address) if first is None or second is None else joined_text(first, second, "/")
