"""Counts as Prometheus text."""

import math
import re
from collections import Counter

import numpy as np
import pytest

from eddyline import __version__
from eddyline.combine import ScoredFlows
from eddyline.metrics import Counts, Standing
from eddyline.operating.exposition import exposition
from eddyline.windows import Window
from tests.test_graphs import window


def counted() -> Counts:
    """Two windows: three flows of 10, 20 and 30 bytes, then one of 40."""
    counts = Counts(flows=5, late=1, alerts=2, held_back=3, seconds=7.5)
    for start, sizes, p in ((60_000_000, (10, 20, 30), (1e-7, 1e-3, 0.5)), (120_000_000, (40,), (1.0,))):
        flows = window(*[("a", "b", size) for size in sizes], rev_bytes=[1] * len(sizes)).flows
        placed = Window("default", start, start + 60_000_000, 0, False, flows)
        raw = {"habits": np.array(p, np.float32)}
        counts.wrote(ScoredFlows(placed, raw, {}, np.array(p), "model"), 0.02 if start < 1e8 else 2.0)
    return counts


def samples(counts: Counts, now_s: float = 200.0) -> dict[str, float]:
    lines = [line for line in exposition(counts, now_s).splitlines() if not line.startswith("#")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


def test_what_a_run_counts_is_said_in_full() -> None:
    counts = counted()
    counts.queues = {"read": (3, 4), "scored": (0, 4)}
    counts.levels = {"left": 2.0, "right": 6.5}
    counts.source = {"missing_datagrams": 9}
    said = samples(counts)
    assert said == said | {
        f'eddyline_build_info{{version="{__version__}"}}': 1,
        "eddyline_flows_total": 5, "eddyline_scored_flows_total": 4, "eddyline_bytes_total": 104,
        "eddyline_windows_total": 2, "eddyline_late_flows_total": 1, "eddyline_alerts_total": 2,
        "eddyline_alerts_held_back_total": 3, "eddyline_run_seconds": 7.5, "eddyline_drift_bucket": 6.5,
        "eddyline_lag_seconds": 20, 'eddyline_source_total{what="missing_datagrams"}': 9,
        'eddyline_queue_batches{queue="read"}': 3, 'eddyline_queue_size_batches{queue="scored"}': 4,
    }  # fmt: skip


def test_flows_are_counted_by_p_and_windows_by_seconds_as_cumulative_histograms() -> None:
    said = samples(counted())
    assert [said[f'eddyline_flow_p_bucket{{le="{step}"}}'] for step in ("1e-06", "0.001", "0.1", "1", "+Inf")] == [
        1, 2, 2, 4, 4,
    ]  # fmt: skip
    assert said["eddyline_flow_p_count"] == 4
    assert math.isclose(said["eddyline_flow_p_sum"], 1.5010001)
    seconds = [said[f'eddyline_window_to_sink_seconds_bucket{{le="{step}"}}'] for step in ("0.01", "0.03", "1", "3")]
    assert seconds == [0, 1, 1, 2]
    assert said["eddyline_window_to_sink_seconds_sum"] == pytest.approx(2.02)


def test_score_quantiles_are_those_of_the_latest_windows() -> None:
    said = samples(counted())
    assert said['eddyline_score{score="combined",quantile="0.5"}'] == pytest.approx((0.5 + 0.999) / 2)
    assert said['eddyline_score{score="habits",quantile="0.5"}'] == pytest.approx((0.001 + 0.5) / 2)


def test_a_large_window_is_sampled_so_that_memory_stays_bounded() -> None:
    counts, flows = Counts(), window(*[("a", "b", 1)] * 10_000).flows
    scored = ScoredFlows(Window("x", None, None, 0, False, flows), {}, {}, np.linspace(0, 1, 10_000), "model")
    for _ in range(20):
        counts.wrote(scored, 0.0)
    assert len(counts.recent) == 16
    assert all(len(kept["combined"]) <= 4_096 for kept in counts.recent)
    assert counts.newest_us is None
    assert samples(counts)['eddyline_score{score="combined",quantile="0.9"}'] == pytest.approx(0.9, abs=1e-3)


def test_no_label_holds_an_address_or_a_number_of_a_senders_choice() -> None:
    rejected = Counter({"datagram of 12 bytes from 10.1.2.3": 2, "datagram of 13 bytes from fe80::1%eth0": 1,
                        'a "quote"\\ and\nmore': 4, "2001:db8:0:0:0:0:0:1 has 7 templates": 1})  # fmt: skip
    text = exposition(Counts(rejected=rejected), 0.0)
    assert 'rejected_records_total{reason="datagram of N bytes from ADDRESS"} 2' in text
    assert 'rejected_records_total{reason="a \\"quote\\"\\\\ and\\nmore"} 4' in text
    assert 'rejected_records_total{reason="ADDRESS has N templates"} 1' in text
    for part in ("10.1", "fe80", "2001", "db8"):
        assert part not in text


def test_reasons_beyond_the_bound_are_counted_together() -> None:
    rejected = Counter({"x" * length: 1 for length in range(1, 301)})
    said = samples(Counts(rejected=rejected))
    assert said['eddyline_rejected_records_total{reason="other"}'] == 100
    assert sum(value for name, value in said.items() if name.startswith("eddyline_rejected")) == 300


def test_the_reference_parser_reads_every_metric() -> None:
    parser = pytest.importorskip("prometheus_client.parser", reason="no prometheus-client installed")
    counts = counted()
    counts.rejected = Counter({'a "quote"\\ and\nmore': 4})
    counts.exporters = {"1": {"datagrams": 7, "sequence_gaps": 2}}
    counts.partitions = {("flows", 3): Standing(9, 150_000_000), ("flows", 4): Standing(None, None)}
    families = {family.name: family for family in parser.text_string_to_metric_families(exposition(counts, 200.0))}
    assert families["eddyline_flows"].type == "counter"
    assert families["eddyline_flow_p"].type == "histogram"
    read = {
        name: [(sample.labels, sample.value) for sample in families[f"eddyline_{name}"].samples]
        for name in ("exporter", "kafka_records_behind", "kafka_window_lag_seconds")
    }
    place = {"topic": "flows", "partition": "3"}
    assert read == {
        "exporter": [
            ({"exporter": "1", "what": "datagrams"}, 7), ({"exporter": "1", "what": "sequence_gaps"}, 2),
        ],
        "kafka_records_behind": [(place, 9)], "kafka_window_lag_seconds": [(place, 50)],
    }  # fmt: skip
    assert families["eddyline_rejected_records"].samples[0].labels == {"reason": 'a "quote"\\ and\nmore'}
    assert {family.type for family in families.values()} == {"counter", "gauge", "histogram"}


def test_an_empty_run_says_zero_and_no_lag() -> None:
    text = exposition(Counts(), 0.0)
    assert "eddyline_flows_total 0\n" in text
    assert not re.search(r"^eddyline_lag_seconds", text, re.MULTILINE)


def test_partitions_beyond_the_bound_are_told_by_the_worst_of_them() -> None:
    standings = {("flows", n): Standing(n, (300 - n) * 1_000_000) for n in range(300)}
    text = exposition(Counts(partitions=standings), 1_000.0)
    lines = [line for line in text.splitlines() if line.startswith("eddyline_kafka_")]
    assert len(lines) == 2 * 201
    assert lines[200] == 'eddyline_kafka_records_behind{topic="flows",partition="others"} 299.0'
    assert lines[-1] == 'eddyline_kafka_window_lag_seconds{topic="flows",partition="others"} 999.0'
