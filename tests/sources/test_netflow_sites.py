"""Which site an exporter belongs to: the longest prefix decides, and a file that is none stops at once."""

from pathlib import Path

import pytest

from eddyline.errors import ConfigError
from eddyline.flows import flow_table
from eddyline.sources.netflow.sites import Sites, read_sites

FILE = """
10.0.0.0/8  = HQ      # all of it
10.9.0.0/16 = branch

2001:db8::1 = lab
"""


def written(folder: Path, text: str) -> Path:
    (folder / "sites").write_text(text)
    return folder / "sites"


def test_the_longest_prefix_that_holds_an_exporter_names_the_site_of_its_flows(tmp_path: Path) -> None:
    exporters = ["10.1.2.3/0", "10.9.0.1/7", None, "2001:db8::1/0", "192.0.2.1/0", "10.1.2.3/0"]
    flows = flow_table({"exporter": exporters, "src_addr": ["a"] * 6, "dst_addr": ["b"] * 6}, 6)
    found = read_sites(written(tmp_path, FILE)).named(flows)
    assert found["site"].to_pylist() == ["hq", "branch", "default", "lab", "default", "hq"]
    assert found.schema == flows.schema
    assert Sites().named(flows) is flows


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("10.0.0.1/8 = hq", "line 1: 10.0.0.1/8 has host bits set"),
        ("\n10.0.0.0/8", "line 2: `` is no name of a site"),
        ("= hq", "line 1: '' does not appear to be an IPv4 or IPv6 network"),
    ],
)
def test_a_line_that_is_none_is_named(tmp_path: Path, text: str, wrong: str) -> None:
    with pytest.raises(ConfigError, match="write PREFIX = SITE") as said:
        read_sites(written(tmp_path, text))
    assert wrong in str(said.value)


def test_a_file_that_is_not_there_stops_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_sites(tmp_path / "nowhere")
