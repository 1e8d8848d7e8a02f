"""A real broker, Apache Kafka in KRaft mode from its own jars: for the tests, and for a person by `make kafka`.

Maven fetches the jars that `pom.xml` names, once, into `build/kafka/jars`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
JARS = HERE.parents[1] / "build" / "kafka" / "jars"
CLUSTER = "ZWRkeWxpbmUtdGVzdC1raw"  # any 16 bytes in base64
USER, PASSWORD = "eddy", "s3cret-of-the-tests"
_START_S = 180.0  # on a machine that has other things to do
_JAVA = ("-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dlog4j2.level=WARN")


class NoBroker(Exception):
    """Why none can be started here."""


def fetch_jars() -> str:
    """Return the class path; raises NoBroker where Java or Maven is absent or Maven fails."""
    if shutil.which("java") is None:
        raise NoBroker("no `java` here; install a Java 17 runtime")
    pom, done = (HERE / "pom.xml").read_bytes(), JARS / "pom.xml"
    if not done.is_file() or done.read_bytes() != pom:
        if shutil.which("mvn") is None:
            raise NoBroker("no `mvn` here to fetch Apache Kafka; install Maven")
        shutil.rmtree(JARS, ignore_errors=True)
        JARS.mkdir(parents=True)
        command = ["mvn", "-q", "-B", "-f", HERE / "pom.xml", "dependency:copy-dependencies", "-DincludeScope=runtime"]
        got = subprocess.run([*command, f"-DoutputDirectory={JARS}"], capture_output=True, text=True)
        if got.returncode:
            raise NoBroker(f"Maven cannot fetch Apache Kafka: {got.stdout.strip()[-300:]}")
        done.write_bytes(pom)
    return f"{JARS}/*"


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago."""
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


class Broker:
    """One node that is broker and controller; its topics outlive `stop` and `start`.

    Args:
        folder: for its log and its configuration.
        ports: without a password, with one (SASL PLAIN), over TLS for who has a certificate, of the controller.

    Attributes:
        certificate: whom clients are to trust. keys: a certificate for clients and its key; PASSWORD opens it.
    """

    def __init__(self, folder: Path, ports: Sequence[int]) -> None:
        self._classes, self._folder = fetch_jars(), folder
        self.address, self.guarded, self.tls = (f"127.0.0.1:{port}" for port in ports[:3])
        self.certificate, self.keys = folder / "certificate.pem", folder / "keys.p12"
        self._make_keys(folder / "trusted.p12")
        self._settings = folder / "server.properties"
        self._settings.write_text(_settings(folder, ports))
        self._java("kafka.tools.StorageTool", "format", "-t", CLUSTER, "-c", str(self._settings))
        self._running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Return when clients can connect; raises NoBroker where it ends or takes three minutes."""
        with (self._folder / "output.txt").open("ab") as output:
            command = ["java", *_JAVA, "-cp", self._classes, "kafka.Kafka", str(self._settings)]
            self._running = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=self._folder)
        until = time.monotonic() + _START_S
        while not _listens(self.address):
            if self._running.poll() is not None or time.monotonic() > until:
                said = (self._folder / "output.txt").read_text()[-500:]
                raise NoBroker(f"Apache Kafka did not start (exit status {self._running.poll()}): {said}")
            time.sleep(0.1)

    def stop(self, kill: bool = False) -> None:
        """End it, gently or not; twice is once."""
        if self._running is not None:
            if kill:
                self._running.kill()
            else:
                self._running.terminate()
            self._running.wait(60)
            self._running = None

    def stall(self, seconds: float) -> None:
        """Keep its connections and answer nobody for a while, as behind a disk that hangs."""
        assert self._running is not None
        self._running.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        self._running.send_signal(signal.SIGCONT)

    def wait(self) -> None:
        """Return when it has ended."""
        if self._running is not None:
            self._running.wait()

    def _make_keys(self, trusted: Path) -> None:
        """One self-signed certificate for both ends, each of which trusts it."""
        mine = ("-alias", "eddyline", "-keystore", str(self.keys), "-storepass", PASSWORD)
        name = ("-dname", "CN=eddyline tests", "-ext", "san=ip:127.0.0.1", "-validity", "30")
        _done("keytool", "-genkeypair", "-keyalg", "EC", "-groupname", "secp256r1", *name, *mine)
        _done("keytool", "-exportcert", "-rfc", "-file", str(self.certificate), *mine)
        of = ("-keystore", str(trusted), "-storepass", PASSWORD)
        _done("keytool", "-importcert", "-noprompt", "-file", str(self.certificate), "-alias", "eddyline", *of)

    def _java(self, *command: str) -> None:
        _done("java", *_JAVA, "-cp", self._classes, *command)


def _done(*command: str) -> None:
    got = subprocess.run(command, capture_output=True, text=True)
    if got.returncode:
        raise NoBroker(f"{' '.join(command)} failed: {(got.stdout + got.stderr).strip()[-500:]}")


def _listens(address: str) -> bool:
    host, port = address.split(":")
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((host, int(port))) == 0


def _settings(folder: Path, ports: Sequence[int]) -> str:
    plain, guarded, tls, controller = ports
    login = f'org.apache.kafka.common.security.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'
    return "\n".join(
        f"{name}={value}"
        for name, value in {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "listeners": f"PLAINTEXT://127.0.0.1:{plain},SASL_PLAINTEXT://127.0.0.1:{guarded},"
            f"SSL://127.0.0.1:{tls},CONTROLLER://127.0.0.1:{controller}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT,SSL:SSL,"
            "CONTROLLER:PLAINTEXT",
            "controller.listener.names": "CONTROLLER",
            "sasl.enabled.mechanisms": "PLAIN",
            "listener.name.sasl_plaintext.plain.sasl.jaas.config": login,
            "ssl.keystore.location": folder / "keys.p12",
            "ssl.keystore.password": PASSWORD,
            "ssl.truststore.location": folder / "trusted.p12",
            "ssl.truststore.password": PASSWORD,
            "ssl.client.auth": "required",
            "log.dirs": folder / "log",
            "offsets.topic.replication.factor": 1,
            "offsets.topic.num.partitions": 4,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "transaction.state.log.num.partitions": 4,
            "group.initial.rebalance.delay.ms": 0,
            "group.min.session.timeout.ms": 500,
            "auto.create.topics.enable": "false",
        }.items()
    )


def main() -> None:
    """Run one until Ctrl-C; what was in it is gone then."""
    asked = argparse.ArgumentParser(description=main.__doc__)
    asked.add_argument("--port", type=int, default=9092)
    plain = asked.parse_args().port
    with tempfile.TemporaryDirectory(prefix="eddyline-kafka-") as folder:
        broker = Broker(Path(folder), [plain, *free_ports(3)])
        broker.start()
        sys.stderr.write(f"Apache Kafka listens on {broker.address}; Ctrl-C ends it\n")
        try:
            broker.wait()
        except KeyboardInterrupt:
            os.write(2, b"\n")
        finally:
            broker.stop()


if __name__ == "__main__":
    main()
