"""Which detectors there are: name to "module:class", imported on demand."""

from typing import Final

DETECTORS: Final = {
    "habits": "eddyline.detectors.habits.detector:HabitsDetector",
    "gae": "eddyline.detectors.gae.detector:GaeDetector",
}
