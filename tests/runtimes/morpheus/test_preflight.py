"""What is said before Morpheus would end without a word."""

import pytest

from eddyline.errors import ConfigError
from eddyline.runtimes.morpheus.preflight import Machine, check, look_around

ONE_NODE = "\tGPU0\tCPU Affinity\tNUMA Affinity\tGPU NUMA ID\nGPU0\t X \t0-15\t0\t\tN/A\n"
TWO_NODES = "\tGPU0\tCPU Affinity\tNUMA Affinity\tGPU NUMA ID\nGPU0\t X \t0-63\t0-1\t\tN/A\n"


@pytest.mark.parametrize(
    ("machine", "words"),
    [
        (Machine("", "", 2), "nvidia-smi finds no GPU"),
        (Machine("580.65.06, Disabled\n", ONE_NODE, 16), "driver 580.65.06 is too new"),
        (Machine("570.1, Enabled\n", ONE_NODE, 16), "MIG mode"),
        (Machine("570.1, Disabled\n" * 4, ONE_NODE, 2), "4 GPUs and 2 CPU cores"),
        (Machine("570.1, Disabled\n", TWO_NODES, 64), "NUMA nodes 0-1"),
    ],
)
def test_what_is_in_the_way_is_named_with_a_remedy(machine: Machine, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check(machine, "cuda")
    check(machine, "cpu")


def test_a_machine_that_morpheus_runs_on_passes() -> None:
    check(Machine("570.124.06, Disabled\n", ONE_NODE, 16), "cuda")
    check(Machine("570.1, Disabled\n", TWO_NODES, 64, numa_ignored=True), "cuda:0")
    check(Machine("570.1, Enabled\n570.1, Disabled\n", ONE_NODE, 64), "cuda")


def test_looking_around_needs_no_gpu() -> None:
    found = look_around({"MRC_IGNORE_NUMA_CHECK": "1"})
    assert found.cores >= 1
    assert found.numa_ignored
