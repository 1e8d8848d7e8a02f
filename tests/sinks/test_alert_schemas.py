"""Alerts against the published schemas, and the check against records that are wrong."""

from dataclasses import replace

import pytest

from eddyline.alerts import Alert
from eddyline.sinks.alert_views import ecs_record, ocsf_record
from tests.sinks.schemas import ECS, OCSF, ecs_faults, ocsf_faults
from tests.sinks.test_alert_views import ALERT

ALERTS = [
    ALERT, replace(ALERT, update=3, p=1e-7), replace(ALERT, p=5e-5, host="2001:db8::7", reasons=()),
    replace(ALERT, p=0.01, role="destination", host="srv-1.example.org", service="many", peers=(), peer_count=0),
    replace(ALERT, host="printer room 2", truth=("scan",), count=1 << 30, total_bytes=1 << 62),
]  # fmt: skip


@pytest.mark.parametrize("alert", ALERTS)
def test_every_field_of_an_ecs_alert_is_in_the_published_list_and_of_its_type(alert: Alert) -> None:
    record = ecs_record(alert)
    assert ecs_faults(record) == []
    assert record["ecs"]["version"] == ECS["version"]
    assert {"@timestamp", "ecs", "event", "message"} <= record.keys()


@pytest.mark.parametrize("alert", ALERTS)
def test_an_ocsf_finding_has_what_its_class_requires_and_nothing_that_it_does_not_know(alert: Alert) -> None:
    record = ocsf_record(alert)
    assert list(ocsf_faults(record)) == []
    assert record["metadata"]["version"] == OCSF["version"]
    assert record["type_uid"] == 100 * record["class_uid"] + record["activity_id"]


def test_an_alert_of_a_file_without_times_lacks_only_the_time() -> None:
    timeless = replace(ALERT, first_seen_us=None, last_seen_us=None)
    assert list(ocsf_faults(ocsf_record(timeless))) == ["time is missing"]
    assert ecs_faults(ecs_record(timeless)) == []


def test_a_field_that_ecs_does_not_have_or_means_otherwise_is_found() -> None:
    record = ecs_record(ALERT)
    record["event"] |= {
        "colour": "red", "severity": "high", "kind": "alarm", "category": "network", "start": "2026-01-05",
        "type": ["deletion"],
    }  # fmt: skip
    record["source"] |= {"ip": ["10.0.0.7"]}
    assert ecs_faults(record) == [
        "event.kind is never alarm", "event.category is no array", "event.severity is no long",
        "event.start is no date", "event.colour is no field", "source.ip is an array",
        "event.type deletion does not go with network",
    ]  # fmt: skip


def test_an_attribute_that_ocsf_does_not_have_or_means_otherwise_is_found() -> None:
    record = ocsf_record(ALERT)
    del record["finding_info"]["uid"], record["severity_id"]
    record["finding_info"]["colour"] = "red"
    record["finding_info"]["analytic"] = {"type_id": 4}
    record |= {"status_id": 8, "time": 1.5, "is_alert": 1, "evidences": {"src_endpoint": {}}, "count": 1 << 31}
    record["metadata"]["product"] = {"vendor_name": "Eddyline"}
    assert list(ocsf_faults(record)) == [
        "severity_id is missing", "metadata.product. has none of name, uid", "time is no timestamp_t",
        "status_id is never 8", "count is no integer_t", "is_alert is no boolean_t", "finding_info.uid is missing",
        "finding_info.analytic. has none of name, uid", "finding_info.colour is no attribute",
        "evidences is no array",
    ]  # fmt: skip
    endpoint = ocsf_record(ALERT) | {"evidences": [{"src_endpoint": {"port": 70_000}}, {}]}
    told = list(ocsf_faults(endpoint))
    assert told[0].startswith("evidences.src_endpoint. has none of ip, uid, name")
    assert told[1] == "evidences.src_endpoint.port is no port_t"
    assert told[2].startswith("evidences. has none of actor, api")
