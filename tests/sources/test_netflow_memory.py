"""Templates that outlive the process."""

from __future__ import annotations

import json
import socket
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eddyline.errors import ConfigError
from eddyline.flows import FlowBatch
from eddyline.sources.netflow import memory
from eddyline.sources.netflow.decoder import Decoder
from eddyline.sources.netflow.memory import TemplateFile
from eddyline.sources.netflow.udp import NetflowSource, open_netflow
from tests.sources.netflow_bytes import (
    VARIABLE,
    address,
    data_set,
    ipfix,
    ipfix_options,
    ipfix_template,
    options_set,
    template_set,
    v9,
)

ENDS = [(8, 4), (12, 4)]
FLOW = data_set(256, address("10.0.0.1") + address("10.0.0.2"))
TAUGHT = [
    v9(
        template_set(256, ENDS),
        options_set(300, [(1, 4)], [(48, 1), (34, 4)]),
        data_set(300, struct.pack(">IBI", 0, 1, 64)),
    ),
    ipfix(ipfix_template(256, [(12, 4), (8, 4), (22, 4), (21, 4), (94, VARIABLE)]), domain=8),
    ipfix(
        ipfix_options(300, [(143, 4)], [(160, 8)]), data_set(300, struct.pack(">IQ", 1, 1_699_999_000_000)), domain=8
    ),
]
LATER = [
    v9(FLOW, sequence=1),
    ipfix(data_set(256, address("10.0.0.4") + address("10.0.0.3") + struct.pack(">II", 10, 20) + b"\1x"), domain=8),
]


def run(path: Path, datagrams: list[bytes]) -> tuple[FlowBatch, dict[str, int]]:
    """One life of a source that receives `datagrams`."""
    source = NetflowSource("127.0.0.1", 0, templates=path)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
        for raw in datagrams:
            end.sendto(raw, ("127.0.0.1", source.port))
    batches = iter(source)
    batch = next(batches)
    source.close()
    list(batches)
    return batch, dict(source.counters)


def test_a_restarted_source_reads_flows_before_any_template_comes_again(tmp_path: Path) -> None:
    path = tmp_path / "templates.json"
    assert len(run(path, TAUGHT)[0]) == 0
    batch, counters = run(path, LATER)
    assert batch.table["src_addr"].to_pylist() == ["10.0.0.1", "10.0.0.3"]
    assert batch.table["sampling_rate"].to_pylist() == [64, 0]
    assert batch.table["ts_end"][1].as_py().timestamp() == 1_699_999_000.020
    assert "unknown_templates" not in counters


def test_without_the_file_they_wait() -> None:
    source = NetflowSource("127.0.0.1", 0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
        end.sendto(LATER[0], ("127.0.0.1", source.port))
    assert len(next(iter(source))) == 0
    assert source.counters["unknown_templates"] == 1
    source.close()


def test_the_file_is_small_json_and_is_written_when_something_changed_only(tmp_path: Path) -> None:
    path = tmp_path / "templates.json"
    decoder = Decoder()
    file = TemplateFile(path, decoder.templated)
    assert json.loads(path.read_text()) == {"schema": 1, "exporters": []}
    decoder.decode([("198.51.100.1", TAUGHT[0])])
    file.save(decoder.counters)
    assert json.loads(path.read_text())["exporters"] == []  # not yet its time
    file.save(decoder.counters, now=True)
    (exporter,) = json.loads(path.read_text())["exporters"]
    assert exporter["version"] == 9
    assert exporter["templates"][0] == {"domain": 7, "id": 256, "scope": None, "fields": "00080004000c0004"}
    assert exporter["options"] == [{"domain": 7, "rates": {"1": 64}, "boot_ms": 0}]
    path.unlink()
    decoder.decode([("198.51.100.1", v9(template_set(256, ENDS), sequence=1))])  # nothing new
    file.save(decoder.counters, now=True)
    assert not path.exists()


def test_a_file_that_can_no_longer_be_written_is_counted_and_stops_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    decoder = Decoder()
    file = TemplateFile(folder / "templates.json", decoder.templated)
    (folder / "templates.json").unlink()
    folder.rmdir()
    decoder.decode([("198.51.100.1", TAUGHT[0])])
    file.save(decoder.counters, now=True)
    assert decoder.counters["templates_not_saved"] == 1


def broken(**changes: Any) -> str:
    template = {"domain": 7, "id": 256, "scope": None, "fields": "00080004000c0004"}
    exporter = {"version": 9, "address": "10.0.0.1", "templates": [template], "options": []}
    for key, value in changes.items():
        (template if key in template else exporter)[key] = value
    return json.dumps({"schema": 1, "exporters": [exporter]})


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{", '{"schema": 2, "exporters": []}', broken(id=255), broken(id="256"), broken(domain=-1),
     broken(fields="0008"), broken(fields="zz"), broken(fields=""), broken(scope=9), broken(version=5),
     broken(address="router"), broken(options=[{"domain": 7, "rates": {"1": 0}, "boot_ms": 0}]),
     broken(templates=5), "\udcff"],
)  # fmt: skip
def test_a_file_that_is_not_of_templates_is_a_wrong_configuration_with_its_remedy(content: str, tmp_path: Path) -> None:
    path = tmp_path / "templates.json"
    path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(ConfigError, match=r"templates=.*delete it"):
        open_netflow(f"netflow://127.0.0.1:0?templates={path}")
    assert path.read_bytes() == content.encode(errors="surrogateescape")  # nobody overwrites what is not ours


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MAX_FILE_BYTES", 10)
    path = tmp_path / "templates.json"
    path.write_text(broken())
    with pytest.raises(ConfigError, match="larger than 10 bytes"):
        TemplateFile(path, Decoder().templated)


def test_a_folder_that_cannot_be_written_is_a_wrong_configuration(tmp_path: Path) -> None:
    for value in (f"{tmp_path}/no/file", ""):
        with pytest.raises(ConfigError, match="give a file"):
            open_netflow(f"netflow://127.0.0.1:0?templates={value}")


templates = st.lists(st.tuples(st.integers(1, 0x7FFF), st.integers(1, 16)), min_size=1, max_size=8)


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(st.tuples(st.booleans(), st.integers(0, 3), st.integers(256, 300)), templates, max_size=8))
def test_what_is_written_is_what_is_read(tmp_path_factory: pytest.TempPathFactory, known: dict[Any, Any]) -> None:
    path = tmp_path_factory.mktemp("templates") / "templates.json"
    first = Decoder()
    file = TemplateFile(path, first.templated)
    for (new, domain, template_id), fields in known.items():
        made = ipfix(ipfix_template(template_id, fields), domain=domain)
        raw = made if new else v9(template_set(template_id, fields), domain=domain)
        assert first.decode([("10.0.0.1", raw)]).rejected.num_rows == 0
    file.save(first.counters, now=True)
    second = Decoder()
    TemplateFile(path, second.templated)
    for version, decoder in first.templated.items():
        there = dict(second.templated[version].exporters)
        assert {origin: dict(each.templates) for origin, each in decoder.exporters} == {
            origin: dict(each.templates) for origin, each in there.items()
        }
