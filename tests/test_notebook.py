"""training.ipynb: it runs as committed on small settings, and holds nothing but calls of the package."""

import ast
import base64
import re
from math import isfinite
from pathlib import Path

import nbformat
import pytest
from ipykernel.kernelspec import write_kernel_spec
from nbclient import NotebookClient
from nbformat import NotebookNode

NOTEBOOK = Path(__file__).parents[1] / "training.ipynb"
SMALL = {"SECONDS": "900", "HOSTS": "40", "DETECTORS": "habits gae", "EPOCHS": "1", "BASELINES": "none"}
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def notebook() -> NotebookNode:
    found = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(found)
    return found


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of a kernel of this interpreter, which keeps all its files, and those of the notebook, in `tmp_path`."""
    for variable in ("JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "TMPDIR"):
        (tmp_path / variable.lower()).mkdir()
        monkeypatch.setenv(variable, str(tmp_path / variable.lower()))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for name, value in SMALL.items():
        monkeypatch.setenv(f"NOTEBOOK_{name}", value)
    write_kernel_spec(tmp_path / "jupyter_data_dir" / "kernels" / "here")
    return "here"


def tagged(notebook: NotebookNode, tag: str) -> NotebookNode:
    [cell] = [cell for cell in notebook.cells if tag in cell.metadata.get("tags", ())]
    return cell


@pytest.mark.slow
def test_the_notebook_runs_through_and_shows_finite_metrics_and_every_plot(
    notebook: NotebookNode, kernel: str, tmp_path: Path
) -> None:
    (tmp_path / "here").mkdir()
    place = {"metadata": {"path": str(tmp_path / "here")}}
    NotebookClient(notebook, kernel_name=kernel, timeout=300, resources=place).execute()

    assert not list((tmp_path / "here").iterdir())  # it writes into a temporary folder only
    assert not list((tmp_path / "tmpdir").glob("eddyline-*"))  # which goes with the kernel
    metrics = ast.literal_eval(tagged(notebook, "metrics").outputs[0].data["text/plain"])
    assert metrics.keys() == {"eddyline", "habits alone", "gae alone"}
    assert all(isfinite(value) for row in metrics.values() for value in row.values())
    shown = [output.data for output in tagged(notebook, "plots").outputs]
    titles = [data["text/markdown"].strip("*") for data in shown if "text/markdown" in data]
    pictures = [base64.b64decode(data["image/png"]) for data in shown if "image/png" in data]
    assert titles == ["promise", "scores", "roc", "precision recall", "classes"]
    assert len(pictures) == len(titles)
    assert all(picture.startswith(PNG) for picture in pictures)


def test_the_notebook_defines_no_function_and_no_class(notebook: NotebookNode) -> None:
    defined = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert not [node for node in ast.walk(ast.parse(cell.source)) if isinstance(node, defined)], cell.source


def test_the_notebook_calls_public_names_only(notebook: NotebookNode) -> None:
    for cell in notebook.cells:
        if cell.cell_type == "code":
            for node in ast.walk(ast.parse(cell.source)):
                names = [alias.name for alias in node.names] if isinstance(node, ast.ImportFrom) else []
                names += [node.attr] if isinstance(node, ast.Attribute) else []
                assert not [name for name in names if name.startswith("_")], cell.source


def test_the_notebook_is_committed_without_outputs(notebook: NotebookNode) -> None:
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None


def test_the_notebook_names_no_absolute_path() -> None:
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert not re.findall(r"(?:(?<=[\s\"'(=])/|file:///|~/|[A-Z]:\\\\)\w[^\s\"']*", text)
