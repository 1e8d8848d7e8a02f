"""What a check of the installation found: fine, worth knowing, or wrong, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's report.

    Args:
        level: "ok", "note" (it runs, less well than it could) or "wrong" (it does not run, or its results are wrong).
        about: what was checked.
        says: what was found, with numbers.
        do: what to do about it; "" where nothing is to do.
    """

    level: Literal["ok", "note", "wrong"]
    about: str
    says: str
    do: str = ""

    def line(self) -> str:
        """Return the finding for people."""
        return f"{self.level:<6} {self.about}: {self.says}" + (f"; {self.do}" if self.do else "")
