"""Programs that nobody here wrote: softflowd exports captures, nfcapd and nfdump read exports. Skips where absent."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def need(*programs: str) -> None:
    missing = [program for program in programs if not shutil.which(program, path="/usr/bin:/usr/sbin:/usr/local/bin")]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed")


def free_udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
        end.bind(("127.0.0.1", 0))
        return int(end.getsockname()[1])


def nfdump_reads(send: Callable[[int], None], folder: Path) -> list[dict[str, Any]]:
    """What nfdump reads of what `send` sends to a local port where nfcapd listens; counters and times as it says."""
    need("nfcapd", "nfdump")
    port = free_udp_port()
    capture = subprocess.Popen(
        ["nfcapd", "-b", "127.0.0.1", "-p", str(port), "-w", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert capture.stdout is not None
    for line in capture.stdout:
        if "Startup" in line:
            break
    time.sleep(0.2)
    send(port)
    time.sleep(0.3)
    capture.terminate()
    capture.communicate(timeout=10)
    (file,) = folder.glob("nfcapd.*")
    read = subprocess.run(
        ["nfdump", "-r", str(file), "-o", "json"],
        capture_output=True,
        text=True,
        check=True,
        env={"TZ": "UTC", "PATH": "/usr/bin:/bin:/usr/local/bin"},
    )
    return list(json.loads(read.stdout))


def softflowd(pcap: Path, *options: str, port: int) -> None:
    """Export the flows of a capture to a local port, and end."""
    need("softflowd")
    program = shutil.which("softflowd", path="/usr/sbin:/usr/bin:/usr/local/bin") or ""
    target = f"127.0.0.1:{port}"
    subprocess.run([program, "-r", str(pcap), "-n", target, "-d", "-a", *options], capture_output=True, check=True)
