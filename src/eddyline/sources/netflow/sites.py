"""Which site an exporter belongs to, from a file: lines `ADDRESS or PREFIX = SITE`, `#` begins a remark.

192.0.2.1    = branch
10.0.0.0/8   = hq      # the longest prefix that holds an address decides
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from eddyline.errors import ConfigError

_OTHERWISE: Final = "default"


@dataclass(frozen=True)
class Sites:
    """Prefixes and their sites, the longest first; an exporter in none of them is of site "default"."""

    prefixes: tuple[tuple[IPv4Network | IPv6Network, str], ...] = ()

    def named(self, flows: pa.Table) -> pa.Table:
        """The flows with the site of their exporter; one look-up per exporter, none per flow."""
        if not self.prefixes or not flows.num_rows:
            return flows
        exporters = flows["exporter"].unify_dictionaries().combine_chunks()
        known = [site_of(self, str(name)) for name in exporters.dictionary.to_pylist()]
        names = sorted({*known, _OTHERWISE})
        codes = np.array([names.index(site) for site in (*known, _OTHERWISE)], np.int32)  # the last one of none
        sites = codes[exporters.indices.fill_null(len(known)).to_numpy()]
        place = flows.schema.get_field_index("site")
        column = pa.DictionaryArray.from_arrays(pa.array(sites), pa.array(names, pa.utf8()))
        return flows.set_column(place, flows.schema.field(place), column)


@lru_cache(maxsize=65_536)
def site_of(sites: Sites, exporter: str) -> str:
    """The site of "address/domain"."""
    address = ip_address(exporter.partition("/")[0])
    return next((site for prefix, site in sites.prefixes if address in prefix), _OTHERWISE)


def read_sites(file: Path) -> Sites:
    """Read the file; raises ConfigError that names the line which is none."""
    try:
        lines = file.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"netflow source: sites={file}: cannot be read: {error}; give a file of lines "
                          "PREFIX = SITE") from error  # fmt: skip
    found = {}
    for number, line in enumerate(lines, 1):
        prefix, equals, site = (part.strip() for part in line.partition("#")[0].partition("="))
        if not prefix and not equals:
            continue
        try:
            found[ip_network(prefix)] = _checked(site)
        except ValueError as error:
            raise ConfigError(f"netflow source: sites={file}: line {number}: {error}; "
                              "write PREFIX = SITE, such as 10.0.0.0/8 = hq") from error  # fmt: skip
    return Sites(_longest_first(tuple(found.items())))


def _checked(site: str) -> str:
    if not site or not site.isprintable() or len(site) > 255:
        raise ValueError(f"`{site}` is no name of a site")
    return site.lower()


def _longest_first(
    found: Sequence[tuple[IPv4Network | IPv6Network, str]],
) -> tuple[tuple[IPv4Network | IPv6Network, str], ...]:
    return tuple(sorted(found, key=lambda pair: -pair[0].prefixlen))
