"""An alert as other systems read it: flat (our own fields), ECS 9 (Elastic), OCSF 1.4 Detection Finding. Pure.

An alert of a file without times has none, though both schemas ask for one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import ip_address
from typing import Any, Final

from eddyline.alerts import Alert
from eddyline.sinks.alert_json import alert_record, severity, utc

_ECS_SEVERITY: Final = {"low": 21, "medium": 47, "high": 73, "critical": 99}  # Elastic Security's scale, 0 to 100
_OCSF_SEVERITY: Final = {"low": 2, "medium": 3, "high": 4, "critical": 5}
_ECS_VERSION: Final = "9.0.0"
_OCSF_VERSION: Final = "1.4.0"


def ecs_record(alert: Alert) -> dict[str, Any]:
    """Elastic Common Schema: `event.kind: alert`, the host under its role; times in UTC, `event.duration` in ns."""
    end, level = _ends(alert, "domain"), severity(alert.p)
    told = {
        "@timestamp": utc(alert.last_seen_us),
        "ecs": {"version": _ECS_VERSION},
        "message": _sentence(alert),
        "event": {
            "kind": "alert", "category": ["network"], "type": ["info"], "module": "eddyline",
            "dataset": "eddyline.alert", "id": alert.id, "sequence": alert.update, "reason": _sentence(alert),
            "severity": _ECS_SEVERITY[level], "risk_score": 100 * (1 - alert.p), "start": utc(alert.first_seen_us),
            "end": utc(alert.last_seen_us), "duration": _lasting_us(alert, 1_000, multiply=True),
        },
        "rule": {"name": alert.reason, "category": "network anomaly", "ruleset": "eddyline"},
        alert.role: end,
        "network": {"bytes": alert.total_bytes, **_service(alert)},
        "related": {"ip": sorted({text for text in (alert.host, *alert.peers) if _is_ip(text)})},
        "eddyline": alert_record(alert),
    }  # fmt: skip
    return _known(told)


def ocsf_record(alert: Alert) -> dict[str, Any]:
    """OCSF Detection Finding, class 2004: create where `update` is 0, else update; times in ms since 1970."""
    level, update = severity(alert.p), alert.update > 0
    told = {
        "metadata": {
            "version": _OCSF_VERSION, "uid": f"{alert.id}/{alert.update}",
            "product": {"name": "Eddyline", "vendor_name": "Eddyline"},
        },
        "category_uid": 2, "class_uid": 2004, "activity_id": 2 if update else 1,
        "type_uid": 200402 if update else 200401, "time": _ms(alert.last_seen_us),
        "start_time": _ms(alert.first_seen_us), "end_time": _ms(alert.last_seen_us),
        "duration": _lasting_us(alert, 1_000, multiply=False),
        "severity_id": _OCSF_SEVERITY[level], "severity": level.capitalize(), "status_id": 2 if update else 1,
        "count": alert.count, "message": _sentence(alert), "is_alert": True,
        "finding_info": {
            "uid": alert.id, "title": f"{alert.reason}: {alert.host} ({alert.service})", "desc": _sentence(alert),
            "first_seen_time": _ms(alert.first_seen_us), "last_seen_time": _ms(alert.last_seen_us),
            "analytic": {
                "name": "eddyline", "uid": f"eddyline/{alert.reason}", "type_id": 4, "type": "Learning (ML/DL)",
            },
        },
        "evidences": [{f"{'src' if alert.role == 'source' else 'dst'}_endpoint": _ends(alert, "name")}],
        "unmapped": alert_record(alert),
    }  # fmt: skip
    return _known(told)


VIEWS: Final[Mapping[str, Callable[[Alert], dict[str, Any]]]] = {
    "flat": alert_record,
    "ecs": ecs_record,
    "ocsf": ocsf_record,
}


def _sentence(alert: Alert) -> str:
    return "; ".join(alert.reasons) or alert.reason


def _ends(alert: Alert, otherwise: str) -> dict[str, Any]:
    return {"ip" if _is_ip(alert.host) else otherwise: alert.host}


def _is_ip(text: str) -> bool:
    try:
        return bool(ip_address(text))
    except ValueError:
        return False


def _service(alert: Alert) -> dict[str, str]:
    port, slash, proto = alert.service.rpartition("/")
    return {"transport": proto} if slash and port.isdigit() else {}


def _ms(time_us: int | None) -> int | None:
    return None if time_us is None else time_us // 1_000


def _lasting_us(alert: Alert, factor: int, multiply: bool) -> int | None:
    if alert.first_seen_us is None or alert.last_seen_us is None:
        return None
    lasting = alert.last_seen_us - alert.first_seen_us
    return lasting * factor if multiply else lasting // factor


def _known(record: dict[str, Any]) -> dict[str, Any]:
    """Without empty fields, which both schemas leave out."""
    kept = {name: _known(value) if isinstance(value, dict) else value for name, value in record.items()}
    return {name: value for name, value in kept.items() if value is not None and value not in ({}, [])}
