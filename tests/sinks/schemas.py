"""What the published schemas of ECS and OCSF say against a record; their names and types lie beside this file."""

import json
import re
from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any

ECS = json.loads((Path(__file__).parent / "ecs_9_0_0.json").read_text())
OCSF = json.loads((Path(__file__).parent / "ocsf_1_4_0.json").read_text())
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
_LONGEST_TEXT = 65_535  # of OCSF's string_t


def is_of(kind: str, value: Any) -> bool:
    """Whether a value is of a plain type of either schema."""
    if kind in ("long", "integer_t", "long_t", "timestamp_t", "port_t"):
        least, most = (-(1 << 31), 1 << 31) if kind == "integer_t" else (-(1 << 63), 1 << 63)
        return type(value) is int and least <= value < (65_536 if kind == "port_t" else most)
    if kind in ("float", "float_t"):
        return type(value) in (int, float)
    if kind in ("ip", "ip_t"):
        return isinstance(value, str) and _is_ip(value)
    if kind == "date":
        return isinstance(value, str) and _TIME.fullmatch(value) is not None
    if kind == "boolean_t":
        return type(value) is bool
    if kind == "object":
        return isinstance(value, dict)
    if kind in ("keyword", "match_only_text", "string_t"):
        return isinstance(value, str) and 0 < len(value) <= _LONGEST_TEXT
    raise NotImplementedError(f"no value of type {kind} was ever checked here: say how")


def _is_ip(text: str) -> bool:
    try:
        return str(ip_address(text)) == text
    except ValueError:
        return False


def ecs_faults(record: Mapping[str, Any], custom: str = "eddyline") -> list[str]:
    """Fields that ECS does not have or means otherwise; `custom` is the one name space of our own."""
    assert not any(name.split(".")[0] == custom for name in ECS["fields"])
    told = {name: value for name, value in record.items() if name != custom}
    faults = [fault for name, value in _flat(told, "") for fault in _ecs_fault(name, value)]
    wrong = set(record["event"]["type"]) - set(ECS["types_of_category"]["network"])
    return faults + [f"event.type {one} does not go with network" for one in sorted(wrong)]


def _flat(record: Mapping[str, Any], before: str) -> Iterator[tuple[str, Any]]:
    for name, value in record.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield before + name, value


def _ecs_fault(name: str, value: Any) -> Iterator[str]:
    kind = ECS["fields"].get(name)
    if kind is None:
        yield f"{name} is no field"
        return
    if kind.endswith("[]") != isinstance(value, list):
        yield f"{name} is {'no' if kind.endswith('[]') else 'an'} array"
        return
    for one in value if isinstance(value, list) else [value]:
        if not is_of(kind.removesuffix("[]"), one):
            yield f"{name} is no {kind}"
        elif name in ECS["allowed"] and one not in ECS["allowed"][name]:
            yield f"{name} is never {one}"


def ocsf_faults(record: Mapping[str, Any], kind: str = "detection_finding", path: str = "") -> Iterator[str]:
    """Attributes that OCSF does not have, misses, or means otherwise."""
    schema = OCSF["objects"][kind]
    for name, about in schema["attributes"].items():
        if about.get("required") and name not in record:
            yield f"{path}{name} is missing"
    if schema["at_least_one"] and not set(schema["at_least_one"]) & set(record):
        yield f"{path or kind} has none of {', '.join(schema['at_least_one'])}"
    for name, value in record.items():
        if name not in schema["attributes"]:
            yield f"{path}{name} is no attribute"
        else:
            yield from _ocsf_fault(f"{path}{name}", schema["attributes"][name], value)


def _ocsf_fault(path: str, about: Mapping[str, Any], value: Any) -> Iterator[str]:
    kind = about["type"].removesuffix("[]")
    if about["type"].endswith("[]") != isinstance(value, list):
        yield f"{path} is {'an' if isinstance(value, list) else 'no'} array"
        return
    for one in value if isinstance(value, list) else [value]:
        if kind in OCSF["objects"]:
            yield from ocsf_faults(one, kind, f"{path}.")
        elif not is_of(kind, one):
            yield f"{path} is no {kind}"
        elif "enum" in about and one not in about["enum"]:
            yield f"{path} is never {one}"
