"""What hosts do: an activity is a small bundle of flows that belong together, such as a page with its DNS lookups."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eddyline.sources.simulate.shapes import number

ROLES: Final = (
    "dns", "directory", "file", "mail", "monitor", "ntp", "proxy", "print", "database", "backup", "build", "pbx", "app",
    "web", "update", "recorder",
)  # fmt: skip  # what servers are for
TARGET, CONTENT = -1, -2  # where else a flow goes: to the task's own target, or to a content network that it uses


class Part(NamedTuple):
    """Some flows of an activity: `least` and on average `more` of them, begun within about `spread_s` seconds."""

    shape: str
    to: str = ""  # a role; "" = the target, "content" = a content network
    least: int = 1
    more: float = 0.0
    delay_s: float = 0.0
    spread_s: float = 0.5


ACTIVITIES: Final[dict[str, tuple[Part, ...]]] = {
    "browse": (
        Part("dns", "dns", 0, 1.3, 0.0, 0.1),
        Part("https", "", 1, 1.5, 0.1, 2.0),
        Part("https", "content", 0, 1.4, 0.4, 3.0),
        Part("quic", "content", 0, 0.3, 0.4, 2.0),
        Part("http", "", 0, 0.08, 0.1, 1.0),
        Part("post", "", 0, 0.06, 2.0, 30.0),
    ),
    "proxied": (Part("proxy", "proxy", 1, 2.2, 0.0, 2.0),),
    "fetch": (Part("dns", "dns", 0, 0.5, 0.0, 0.1), Part("https", "", 1, 1.3, 0.1, 1.5)),
    "cloud": (Part("dns", "dns", 0, 0.3, 0.0, 0.05), Part("cloud", "", 1, 0.25, 0.05, 2.0)),
    "read_mail": (Part("imaps", "mail", 1, 0.2, 0.0, 1.0),),
    "send_mail": (Part("submission", "mail"),),
    "relay_mail": (Part("dns", "dns", 1, 0.6, 0.0, 0.1), Part("smtp", "", 1, 0.05, 0.2, 0.5)),
    "receive_mail": (Part("smtp", ""),),
    "files": (Part("smb", "file", 1, 0.5, 0.0, 20.0),),
    "logon": (
        Part("dns", "dns", 2, 1.0, 0.0, 0.2),
        Part("kerberos", "directory", 2, 1.5, 0.2, 0.6),
        Part("ldap", "directory", 1, 1.0, 0.5, 1.5),
        Part("smb", "directory", 1, 0.3, 1.0, 4.0),
        Part("smb", "file", 0, 0.8, 2.0, 6.0),
    ),
    "tickets": (Part("kerberos", "directory", 1, 0.6, 0.0, 0.4), Part("ldap", "directory", 0, 0.7, 0.2, 1.0)),
    "names": (Part("dns", "dns"),),
    "recursion": (Part("recursion", ""),),
    "print": (Part("spool", "print", 0, 0.6, 0.0, 0.3), Part("print", "", 1, 0.05, 0.5, 1.0)),
    "spool": (Part("spool", "print"),),
    "time": (Part("ntp", "ntp"),),
    "dhcp": (Part("dhcp", "directory"),),
    "watch": (Part("snmp", "", 1, 0.0, 0.0, 0.05), Part("ping", "", 1, 0.0, 0.2, 0.05)),
    "alive": (Part("ping", ""),),
    "syslog": (Part("syslog", "monitor"),),
    "update": (Part("update", "update", 1, 0.4, 0.0, 3.0),),
    "git": (Part("git", "build", 1, 0.8, 0.0, 2.0),),
    "packages": (Part("dns", "dns", 1, 0.5, 0.0, 0.1), Part("package", "content", 1, 1.6, 0.2, 3.0)),
    "admin_ssh": (Part("ssh", ""),),
    "admin_rdp": (Part("rdp", ""),),
    "query": (Part("database", "database", 1, 0.7, 0.0, 0.5),),
    "replicate": (Part("replication", ""),),
    "backup": (Part("backup", "backup", 1, 0.3, 0.0, 10.0),),
    "full_backup": (Part("fullbackup", "backup", 4, 3.0, 0.0, 90.0),),
    "register": (Part("sip", "pbx"),),
    "call_out": (Part("sip", "pbx", 1, 0.5, 0.0, 0.5), Part("rtp", "pbx", 1, 0.0, 2.5, 0.5)),
    "call_in_house": (Part("sip", "pbx", 1, 0.5, 0.0, 0.5), Part("rtp", "", 1, 0.0, 3.0, 0.5)),
    "stream": (Part("stream", "recorder", 1, 0.0, 0.0, 0.01),),
    "telemetry": (Part("telemetry", ""),),
    "visit": (Part("https", "", 1, 1.2, 0.0, 2.0),),
    "stale": (Part("smb", ""),),
    "noise_tcp": (Part("noise_tcp", ""),),
    "noise_udp": (Part("noise_udp", ""),),
    "noise_ping": (Part("ping", ""),),
}
_NAMES: Final = {name: row for row, name in enumerate(ACTIVITIES)}


def activity(name: str) -> int:
    """The row of an activity in `FIRST_PART` and `PARTS_OF`."""
    return _NAMES[name]


def _place(to: str) -> int:
    return {"": TARGET, "content": CONTENT}[to] if to in ("", "content") else ROLES.index(to)


_ALL: Final = [part for parts in ACTIVITIES.values() for part in parts]
PARTS_OF: Final = np.array([len(parts) for parts in ACTIVITIES.values()])
FIRST_PART: Final = np.cumsum(PARTS_OF) - PARTS_OF
# The parts of all activities as columns, one row per part.
PARTS: Final[dict[str, NDArray[Any]]] = {
    "shape": np.array([number(part.shape) for part in _ALL]),
    "to": np.array([_place(part.to) for part in _ALL]),
    "least": np.array([part.least for part in _ALL]),
    "more": np.array([part.more for part in _ALL]),
    "delay_s": np.array([part.delay_s for part in _ALL]),
    "spread_s": np.array([part.spread_s for part in _ALL]),
}
