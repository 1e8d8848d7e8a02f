"""Alerts as Elastic (ECS) and OCSF readers expect them, field by field."""

import json
from dataclasses import replace

from eddyline.alerts import Alert
from eddyline.sinks.alert_views import ecs_record, ocsf_record

ALERT = Alert(
    id="0123456789ab", site="hq", host="10.0.0.7", role="source", service="22/tcp", reason="fan-out",
    reasons=("talked to 40 hosts, usually 2", "never used 22/tcp before"), p=2e-6, first_seen_us=1_767_600_000_000_000,
    last_seen_us=1_767_600_060_500_000, count=40, peers=("10.0.1.1", "printer"), peer_count=40, total_bytes=2_400,
    update=0, truth=(),
)  # fmt: skip


def test_an_ecs_alert_names_host_rule_and_times() -> None:
    found = ecs_record(ALERT)
    assert found["@timestamp"] == "2026-01-05T08:01:00.500000Z"
    assert found["event"]["kind"] == "alert"
    assert found["event"]["duration"] == 60_500_000_000  # ns
    assert (found["event"]["severity"], found["eddyline"]["severity"]) == (73, "high")
    assert found["source"] == {"ip": "10.0.0.7"}
    assert "destination" not in found
    assert found["rule"]["name"] == "fan-out"
    assert found["network"] == {"bytes": 2_400, "transport": "tcp"}
    assert found["related"]["ip"] == ["10.0.0.7", "10.0.1.1"]
    assert found["message"] == "talked to 40 hosts, usually 2; never used 22/tcp before"
    json.dumps(found, allow_nan=False)


def test_an_alert_about_a_destination_that_is_no_address_has_a_domain() -> None:
    found = ecs_record(replace(ALERT, role="destination", host="srv-1", service="many", peers=()))
    assert found["destination"] == {"domain": "srv-1"}
    assert "source" not in found
    assert found["network"] == {"bytes": 2_400}
    assert "related" not in found


def test_an_alert_without_times_has_none() -> None:
    found = ecs_record(replace(ALERT, first_seen_us=None, last_seen_us=None))
    assert "@timestamp" not in found
    assert not {"start", "end", "duration"} & found["event"].keys()
    assert "start_time" not in ocsf_record(replace(ALERT, first_seen_us=None))


def test_an_ocsf_finding_is_created_and_then_updated() -> None:
    first, later = ocsf_record(ALERT), ocsf_record(replace(ALERT, update=3))
    assert (first["class_uid"], first["activity_id"], first["type_uid"], first["status_id"]) == (2004, 1, 200401, 1)
    assert (later["activity_id"], later["type_uid"], later["status_id"]) == (2, 200402, 2)
    assert first["finding_info"]["uid"] == later["finding_info"]["uid"] == "0123456789ab"
    assert first["metadata"]["uid"] != later["metadata"]["uid"]
    assert (first["time"], first["start_time"], first["duration"]) == (1_767_600_060_500, 1_767_600_000_000, 60_500)
    assert (first["severity_id"], first["severity"]) == (4, "High")
    assert first["evidences"] == [{"src_endpoint": {"ip": "10.0.0.7"}}]
