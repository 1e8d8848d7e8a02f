"""kafka:// URLs, and that what is secret stays so."""

from pathlib import Path

import pytest

from eddyline.errors import ConfigError, EddylineError, redact
from eddyline.kafka.address import parse_address


def test_an_address_has_brokers_a_topic_our_options_and_the_client_s() -> None:
    found = parse_address(
        "kafka://b1:9092,b2:9092/flows?format=json&linger.ms=5&ssl.ca.location=%2Fca", "x", ("format",)
    )
    assert (found.servers, found.topic) == ("b1:9092,b2:9092", "flows")
    assert found.options == {"format": "json"}
    assert found.client == {"linger.ms": "5", "ssl.ca.location": "/ca"}


def test_options_come_from_a_file_and_the_url_has_the_last_word(tmp_path: Path) -> None:
    file = tmp_path / "client"
    file.write_text("# SASL\nsasl.username = me\n\nsasl.password=a=b\nlinger.ms=1\n")
    found = parse_address(f"kafka://b/t?client={file}&linger.ms=9", "x", ())
    assert found.client == {"sasl.username": "me", "sasl.password": "a=b", "linger.ms": "9"}
    assert "a=b" not in repr(found)


@pytest.mark.parametrize(
    "url",
    [
        "kafka://b:1", "kafka:///t", "kafka://b/t/u", "kafka://me:pw@b/t", "kafka://b/t?colour=red", "kafka://b/t?x",
        "kafka://b/t?group.id=mine", "kafka://b/t?enable.auto.commit=true", "kafka://b/t?client=/no/such/file",
    ],
)  # fmt: skip
def test_a_url_that_cannot_work_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="x: "):
        parse_address(url, "x", ("format",))


def test_a_line_of_the_file_that_is_no_option_is_refused_without_being_shown(tmp_path: Path) -> None:
    (tmp_path / "client").write_text("sasl.username=me\nhunter2\n")
    with pytest.raises(ConfigError, match="option 2 is not NAME=VALUE") as refused:
        parse_address(f"kafka://b/t?client={tmp_path}/client", "x", ())
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("kafka://b/t?sasl.password=p%40ss,w0rd&format=json x", "kafka://b/t?sasl.password=***&format=json x"),
        ("kafka://me:pw@b:1/t", "kafka://***@b:1/t"),
        ("ssl.key.pem=--BEGIN and sasl.client.secret=s", "ssl.key.pem=*** and sasl.client.secret=***"),
        ("SSL.KEY.PASSWORD=x", "SSL.KEY.PASSWORD=***"),
        ("netflow://:2055?times=exporter", "netflow://:2055?times=exporter"),
    ],
)  # fmt: skip
def test_errors_never_show_a_secret(said: str, shown: str) -> None:
    assert redact(said) == shown
    assert str(EddylineError(said)) == shown
