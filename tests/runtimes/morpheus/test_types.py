"""The stages against the types of the real Morpheus sources, and of MRC by stubs; skips where these are absent."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.runtimes.morpheus.standin import SOURCE

ROOT = Path(__file__).parents[3]
STUBS = Path(os.environ.get("MRC_STUBS", ROOT.parent / "shared" / "morpheus" / "stubs"))
WRONG = """
import mrc
from morpheus.messages import ControlMessage

def wrong(builder: mrc.Builder, message: ControlMessage) -> None:
    builder.make_node("a", "b")
    message.set_meta("key", 1)
"""


def pyright(folder: Path, *files: Path) -> list[str]:
    """Errors that pyright finds in `files`, over the real sources."""
    command = shutil.which("pyright", path=os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])))
    if SOURCE is None or not STUBS.is_dir() or command is None:
        pytest.skip("needs MORPHEUS_SRC, stubs of MRC (MRC_STUBS) and pyright")
    settings = {
        "include": [os.path.relpath(file, folder) for file in files],
        "extraPaths": [SOURCE, str(ROOT / "src")],
        "stubPath": str(STUBS),
        "pythonVersion": "3.12",
        "typeCheckingMode": "standard",
    }
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    asked = [command, "-p", folder, "--pythonpath", sys.executable, "--outputjson"]
    said = json.loads(subprocess.run(asked, capture_output=True, text=True).stdout)
    assert said["summary"]["filesAnalyzed"] == len(files)
    return [each["message"] for each in said["generalDiagnostics"] if each["severity"] == "error"]


@pytest.mark.slow
def test_the_stages_fit_the_types_of_morpheus(tmp_path: Path) -> None:
    folder = ROOT / "src" / "eddyline" / "runtimes" / "morpheus"
    stages = sorted(folder.glob("*_stage.py"))
    assert len(stages) == 6
    assert pyright(tmp_path, *stages, *(folder / name for name in ("stage.py", "stages.py", "run.py"))) == []


@pytest.mark.slow
def test_what_does_not_fit_is_found(tmp_path: Path) -> None:
    (tmp_path / "wrong.py").write_text(WRONG)
    found = pyright(tmp_path, tmp_path / "wrong.py")
    assert len(found) == 2
    assert any("set_meta" in message for message in found)
