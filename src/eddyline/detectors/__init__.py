"""Which detectors there are: name to "module:class", imported on demand."""

from typing import Final

DETECTORS: Final = {"gae": "eddyline.detectors.gae.detector:GaeDetector"}
