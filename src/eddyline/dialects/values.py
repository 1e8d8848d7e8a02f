"""Single values: what counts as a number, port, protocol, time, address and label in text; Arrow values to NumPy."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from ipaddress import ip_address
from typing import Any, Final
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from eddyline.flows import PROTOCOLS, TIME

SECOND_US: Final = 1_000_000
MILLISECOND_US: Final = 1_000
MICROSECOND_US: Final = 1
NULL_WORDS: Final = ("", "-", "nan", "null", "none", "na", "n/a")
SERVICES: Final[Mapping[str, int]] = {
        "ftp-data": 20, "ftp": 21, "ssh": 22, "telnet": 23, "smtp": 25, "domain": 53, "bootps": 67, "bootpc": 68,
    "tftp": 69, "http": 80, "kerberos": 88, "pop3": 110, "sunrpc": 111, "ident": 113, "auth": 113, "nntp": 119,
    "ntp": 123, "netbios-ns": 137, "netbios-dgm": 138, "netbios-ssn": 139, "imap": 143, "imap2": 143, "snmp": 161,
    "snmptrap": 162, "bgp": 179, "irc": 194, "ldap": 389, "https": 443, "microsoft-ds": 445, "syslog": 514,
    "ipp": 631, "ldaps": 636, "imaps": 993, "pop3s": 995, "socks": 1080, "ms-sql-s": 1433, "mysql": 3306,
    "ms-wbt-server": 3389, "mdns": 5353, "http-alt": 8080,
}  # fmt: skip  # IANA service names that argus and nfdump print instead of ports
_IANA: Final = (
    "hopopt icmp igmp ggp ipv4 st tcp cbt egp igp bbn-rcc-mon nvp-ii pup argus emcon xnet chaos udp mux dcn-meas "
    "hmp prm xns-idp trunk-1 trunk-2 leaf-1 leaf-2 rdp irtp iso-tp4 netblt mfe-nsp merit-inp dccp 3pc idpr xtp "
    "ddp idpr-cmtp tp++ il ipv6 sdrp ipv6-route ipv6-frag idrp rsvp gre dsr bna esp ah i-nlsp swipe narp mobile "
    "tlsp skip ipv6-icmp ipv6-no ipv6-opts 61 cftp 63 sat-expak kryptolan rvd ippc 68 sat-mon visa ipcv cpnx cphb "
    "wsn pvp br-sat-mon sun-nd wb-mon wb-expak iso-ip vmtp secure-vmtp vines ttp nsfnet-igp dgp tcf eigrp ospf "
    "sprite-rpc larp mtp ax.25 ipip micp scc-sp etherip encap 99 gmtp ifmp pnni pim aris scps qnx a/n ipcomp snp "
    "compaq-peer ipx-n-ip vrrp pgm 114 l2tp ddx iatp stp srp uti smp sm ptp isis fire crtp crudp sccopmce iplt "
    "sps pipe sctp fc rsvp-e2e-ignore mobility-header udplite mpls-in-ip manet hip shim6 wesp rohc"
)  # RFC 5237 registry, in the order of its numbers; the spelling is that of the data sets that use the rarer ones
PROTOCOL_NUMBERS: Final[Mapping[str, int]] = {name: number for number, name in enumerate(_IANA.split())} | dict(
    PROTOCOLS
)

_NUMBER: Final = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?", re.ASCII)
_DOTTED: Final = r"^(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(?:\.|$)){4}$"  # IPv4 as RFC 5952 and everyone writes it
_HEXADECIMAL: Final = re.compile(r"[+-]?0x[0-9a-f]+", re.ASCII)
_TRUTH: Final[Mapping[str, tuple[str, ...]]] = {
    "benign": ("0", "0.0", "false", "benign", "normal"),
    "malicious": ("1", "1.0", "true", "malicious", "attack", "anomaly"),
    "background": ("background",),
}
Numbers = tuple[NDArray[Any], NDArray[np.bool_]]  # int64 or float64 values, and which of them are known


def known_values(column: pa.Array, fill: object) -> Numbers:
    """The values of a primitive Arrow array, nulls replaced by `fill`, and which are not null."""
    if not column.null_count:
        return column.to_numpy(zero_copy_only=False), np.ones(len(column), np.bool_)
    return column.fill_null(fill).to_numpy(zero_copy_only=False), column.is_valid().to_numpy(zero_copy_only=False)


def is_usable(type_: pa.DataType) -> bool:
    """Whether a field of a flow can come from a column of this type."""
    if pa.types.is_dictionary(type_):
        return _is_plain(type_.value_type)
    return _is_plain(type_) or any(
        test(type_) for test in (pa.types.is_null, pa.types.is_timestamp, pa.types.is_date, pa.types.is_string_view)
    )


def _is_plain(type_: pa.DataType) -> bool:
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_integer, pa.types.is_floating,
             pa.types.is_boolean, pa.types.is_decimal)  # fmt: skip
    return any(test(type_) for test in tests)


def simplified(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The same values: text as `string`, times with a zone in UTC, no dictionary that has a null or long text in it."""
    type_ = column.type
    if pa.types.is_timestamp(type_) and type_.tz is not None:
        return column.cast(pa.timestamp(type_.unit, "UTC"))
    if pa.types.is_dictionary(type_):
        type_ = type_.value_type
        if not pa.types.is_large_string(type_) and not any(chunk.dictionary.null_count for chunk in column.chunks):
            return column
        column = column.cast(type_)
    as_text = (pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null)
    return column.cast(pa.utf8()) if any(test(type_) for test in as_text) else column


def combined(column: pa.ChunkedArray) -> pa.Array:
    """One array, with one dictionary where there are several."""
    if pa.types.is_dictionary(column.type):
        column = column.unify_dictionaries()
    array = column.combine_chunks()
    return pa.concat_arrays(array.chunks) if isinstance(array, pa.ChunkedArray) else array


def joined_text(first: pa.Array, second: pa.Array, mark: str) -> pa.DictionaryArray:
    """Both of each row as one text, `mark` between them; the first alone where the second is null."""
    first = first.cast(pa.utf8())
    return pc.coalesce(pc.binary_join_element_wise(first, second.cast(pa.utf8()), mark), first).dictionary_encode()


def named_attack(label: pa.DictionaryArray | None, attack: pa.DictionaryArray | None) -> pa.DictionaryArray | None:
    """`attack` without the rows that are benign or background: those have none, whatever the file calls them."""
    if label is None or attack is None:
        return attack
    harmless = pc.is_in(label.dictionary, pa.array(["benign", "background"])).take(label.indices).fill_null(False)
    codes = pc.if_else(harmless, pa.scalar(None, pa.int32()), attack.indices)
    return pa.DictionaryArray.from_arrays(codes, attack.dictionary)


def canonical_addresses(texts: pa.Array, only_ip: bool) -> pa.Array:
    """RFC 5952 text per distinct address, IPv4-mapped as IPv4; None for what is empty or, if `only_ip`, no address."""
    dotted = pc.match_substring_regex(texts, _DOTTED).fill_null(False)
    if pc.all(dotted).as_py() is not False:
        return texts
    plain = pc.invert(dotted)
    changed = [None if text is None else canonical_address(text, only_ip) for text in texts.filter(plain).to_pylist()]
    return pc.replace_with_mask(texts, plain, pa.array(changed, pa.utf8()))


@lru_cache(maxsize=1 << 16)
def canonical_address(text: str, only_ip: bool) -> str | None:
    """One address in canonical text; see `canonical_addresses`."""
    stripped = text.strip()
    try:
        address = ip_address(stripped)
    except ValueError:
        return None if only_ip or stripped.lower() in NULL_WORDS else stripped
    mapped = address.ipv4_mapped if address.version == 6 else None
    return str(mapped or address)


def parsed_text(text: str | None, parse: Callable[[str], Any]) -> tuple[Any, bool]:
    """What `parse` makes of the stripped text, None for NULL_WORDS; and whether it raised ValueError."""
    if text is None or text.strip().lower() in NULL_WORDS:
        return None, False
    try:
        return parse(text.strip()), False
    except ValueError:
        return None, True


def parse_number(text: str) -> float:
    """A decimal number or infinity; ValueError otherwise."""
    if not _NUMBER.fullmatch(text.lower()) and text.lower().lstrip("+-") not in ("inf", "infinity"):
        raise ValueError(text)
    return float(text)


def parse_whole(text: str) -> int:
    """A whole number that fits int64: decimal, hexadecimal with 0x, or a float without fraction ("7.0")."""
    if _HEXADECIMAL.fullmatch(text.lower()):
        number = int(text, 16)
    elif text.lstrip("+-").isdigit():
        number = int(parse_number(text)) if len(text) < 16 else int(text)
    else:
        if parse_number(text) % 1:
            raise ValueError(text)
        number = int(parse_number(text))
    if abs(number) >= 2**63:
        raise ValueError(text)
    return number


def cast_or_none(column: pa.Array, type_: pa.DataType) -> pa.Array | None:
    """The column as `type_`, or None where one of its values cannot be."""
    try:
        return column.cast(type_)
    except pa.ArrowInvalid:
        return None


def timestamps(values: NDArray[np.int64], known: NDArray[np.bool_]) -> pa.Array:
    """Microseconds since 1970 as a column of the schema's time type."""
    return pa.array(np.where(known, values, 0), mask=~known).cast(TIME)


def iso_times(column: pa.Array, zone: str) -> pa.Array | None:
    """Times from ISO text as `parse_time` reads it, with a zone in all of it or in none; None for anything else."""
    iso = pc.replace_substring(pc.utf8_trim_whitespace(column), "/", "-")
    local = cast_or_none(iso, pa.timestamp("us"))
    if local is None:
        return cast_or_none(iso, TIME)
    if zone == "UTC":
        return local
    try:
        return pc.assume_timezone(local, zone, ambiguous="earliest", nonexistent="raise").cast(TIME)
    except pa.ArrowInvalid:  # an hour that clocks were set past: `parse_time` knows what to make of it
        return None


def parse_time(text: str, unit_us: int, zone: str = "UTC") -> int:
    """Microseconds since 1970 from a number of `unit_us` or ISO text, / for - allowed, of `zone` where none is given.

    An hour that clocks went through twice is the first; one that they never showed is read as if not yet set forward.
    """
    if _NUMBER.fullmatch(text.lower()):
        number = parse_number(text) * unit_us
        if abs(number) >= 2**63:
            raise ValueError(text)
        return round(number)
    time = datetime.fromisoformat(text.replace("/", "-"))
    aware = time if time.tzinfo else time.replace(tzinfo=ZoneInfo(zone))
    return (aware - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def parse_protocol(text: str) -> int | None:
    """An IANA number, or None for a name that is no IP protocol; ValueError for a number out of range."""
    name = text.lower()
    if name not in PROTOCOL_NUMBERS:
        name = name.removeprefix("ipv4-").removeprefix("ipv6-")
    if _NUMBER.fullmatch(name) and name not in PROTOCOL_NUMBERS:
        number = parse_whole(name)
        if not 0 <= number <= 255:
            raise ValueError(text)
        return number
    return PROTOCOL_NUMBERS.get(name)


def parse_port(text: str) -> int:
    """A number, decimal or hexadecimal, or a known service name."""
    return SERVICES[text.lower()] if text.lower() in SERVICES else parse_whole(text)


def parse_truth(text: str) -> str:
    """One of benign, malicious and background; ValueError for any other word."""
    for label, words in _TRUTH.items():
        if text.lower() in words:
            return label
    raise ValueError(text)
