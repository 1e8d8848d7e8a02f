"""A control message with the rules of Morpheus' C++ one, which our stages must not notice."""

from typing import Any

_MOST = 2**63 - 1


class CppLetter:
    """Keeps metadata as the C++ ControlMessage does: JSON by value, anything else by reference."""

    def __init__(self) -> None:
        self._kept: dict[str, Any] = {}

    def set_metadata(self, key: str, value: Any) -> None:
        self._kept[key] = as_json(value)

    def get_metadata(self, key: str | None = None, default_value: Any = None) -> Any:
        if key is None:
            return as_json(self._kept)
        value = self._kept.get(key)
        return default_value if value is None or value == [] or value == {} else as_json(value)


def as_json(value: Any) -> Any:
    """A deep copy of what JSON has, lists for tuples, the same object for what it has not."""
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise TypeError("keys of metadata must be str")
        return {key: as_json(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(each) for each in value]
    if isinstance(value, int) and not -_MOST - 1 <= value <= _MOST:
        raise OverflowError("metadata keeps signed 64-bit integers")
    return value
