"""Services that start in no time: a process that has loaded everything forks one for every line it reads.

A fork is a process like any other, with its own clients: it can be killed without a word. The parent has no threads.
"""

import faulthandler
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.kafka.topics import ONE_THREAD


class Forks:
    """Starts and ends `eddyline run`; `log` is where all of them write.

    Args:
        model: loaded before the first start. folder: for the log and for warming up.
        module: whose `main` answers, another than this one where the services need more than is here.
    """

    def __init__(self, model: Path, folder: Path, module: str = "tests.kafka.forks") -> None:
        self.log = folder / "services.txt"
        self.model = model
        with self.log.open("ab") as log:
            self._parent = subprocess.Popen(
                [sys.executable, "-m", module, str(model), str(folder)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=ONE_THREAD,
                cwd=Path(__file__).parents[2],
            )  # fmt: skip
        assert self._told() == 0

    def start(self, *arguments: object) -> int:
        """Start `eddyline run`; its process id."""
        return self.command("run", "--model", self.model, *arguments)

    def command(self, *words: object) -> int:
        """Start any command; its process id."""
        return self._ask(["start", *map(str, words)])

    def lines(self) -> list[str]:
        """What all of them have said so far."""
        return self.log.read_text().splitlines()

    def signal(self, process: int, number: int) -> None:
        os.kill(process, number)

    def wait(self, process: int, seconds: float = 60.0) -> int:
        """Exit status of one that ends, minus the signal that ended it."""
        until = time.monotonic() + seconds
        while (status := self._ask(["status", str(process)])) == 256:
            assert time.monotonic() < until, f"still running after {seconds} s: {self.log.read_text()[-2000:]}"
            time.sleep(0.02)
        return status

    def close(self) -> None:
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        self._parent.stdin.close()
        self._parent.wait(30)
        self._parent.stdout.close()

    def _ask(self, words: list[str]) -> int:
        assert self._parent.stdin is not None
        self._parent.stdin.write(json.dumps(words) + "\n")
        self._parent.stdin.flush()
        return self._told()

    def _told(self) -> int:
        assert self._parent.stdout is not None
        line = self._parent.stdout.readline()
        assert line, self.log.read_text()[-2000:]
        return int(line)


def main(command: Callable[[list[str]], int] | None = None) -> None:
    from eddyline.cli import status

    command = command or status
    model, folder = sys.argv[1:]
    warm = ["--source", "simulate://office?hosts=30&seconds=180", "--model", model, "--sink", f"file://{folder}/warm"]
    code = status(["run", *warm])
    sys.stdout.write(f"{code}\n")
    sys.stdout.flush()
    faulthandler.register(signal.SIGUSR1)  # says in the log where a fork hangs
    running: set[int] = set()
    for line in sys.stdin:
        what, *words = json.loads(line)
        if what == "start":
            child = os.fork()
            if child == 0:
                os.close(0)
                os.dup2(2, 1)
                os._exit(command(words))
            running.add(child)
            answer = child
        else:
            child, ended = os.waitpid(int(words[0]), os.WNOHANG)
            answer = 256 if child == 0 else os.waitstatus_to_exitcode(ended)
            running.discard(child)
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()
    for child in running:
        os.kill(child, 9)


if __name__ == "__main__":
    main()
