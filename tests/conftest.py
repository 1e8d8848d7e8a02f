"""What all tests share."""

import os
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import settings

os.environ["EDDYLINE_METRICS"] = ""  # the default port may be another service's; tests that want one ask for a free one
settings.register_profile("suite", derandomize=True)  # the same examples for everyone; `make fuzz` draws new ones
settings.register_profile("explore", print_blob=True)
settings.load_profile("suite")
torch.set_num_threads(1)  # small windows: threads cost more than they bring, and results stay the same anywhere


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that compute for long come first, then those that wait for a broker: so several processes end together."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: (not slow[item.path], "kafka" in item.path.parts))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of third-party data beside the checkout; tests that need it skip where it is not."""
    folder = Path(__file__).parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("no ../shared beside the checkout")
    return folder
