"""Counts by hand on six flows of two minutes."""

import numpy as np
import pytest

from eddyline.evaluation import structure
from eddyline.evaluation.structure import Contacts

A, B, C, D = range(4)
MINUTE = np.array([0, 0, 0, 1, 1, 1])
SRC = np.array([A, A, A, A, B, B])
DST = np.array([B, B, C, B, A, D])
PORT = np.array([80, 443, 80, 80, 5, 5])
FLOWS = Contacts(MINUTE, SRC, DST, PORT, np.ones(6), np.array([False, True, True, False, True, False]))


def test_a_pair_bursts_in_its_minute_and_one_way() -> None:
    assert structure.pair_burst(FLOWS).tolist() == [2, 2, 1, 1, 1, 1]


def test_fan_out_counts_distinct_partners_and_ports() -> None:
    assert structure.fan_out(FLOWS).tolist() == [2, 2, 2, 1, 2, 2]
    assert structure.fan_out_ports(FLOWS, PORT).tolist() == [2, 2, 2, 1, 1, 1]


def test_novelty_knows_only_earlier_minutes() -> None:
    assert structure.source_novelty(FLOWS).tolist() == [1, 1, 1, 1 / 4, 1, 1]
    assert structure.pair_novelty(FLOWS).tolist() == [1, 1, 1, 1 / 3, 1, 1]


def test_flows_without_a_reply_count_for_the_host_asked_about() -> None:
    quiet = FLOWS.unanswered
    assert quiet is not None
    assert structure.unanswered(FLOWS, SRC, quiet).tolist() == [2, 2, 2, 0, 1, 1]
    assert structure.unanswered(FLOWS, DST, quiet).tolist() == [1, 1, 1, 0, 1, 0]


def test_a_host_is_compared_with_its_own_earlier_minutes() -> None:
    """For 20 minutes one host sends 1 flow a minute and its neighbour 8; then both send 8."""
    quiet, loud = np.arange(20), np.repeat(np.arange(20), 8)
    minute = np.concatenate([quiet, loud, np.full(16, 20)])
    host = np.concatenate([np.zeros(20), np.ones(160), np.repeat([0, 1], 8)]).astype(np.int64)
    order = np.argsort(minute, kind="stable")
    minute, host = minute[order], host[order]
    peer = np.full(len(host), 2)
    z = structure.host_z(Contacts(minute, host, peer, None, None, None), host, peer, minute < 20)
    new = minute == 20
    assert z[new & (host == 0)].min() > 2.5 > 0.5 > z[new & (host == 1)].max()


def test_a_new_host_is_compared_with_what_all_hosts_do() -> None:
    minute = np.array([0, 0, 1, 1, 2, 2, 2, 2])
    host = np.array([0, 1, 0, 1, 3, 3, 3, 3])
    peer = np.full(8, 5)
    z = structure.host_z(Contacts(minute, host, peer, None, None, None), host, peer, minute < 2)
    assert z[:4] == pytest.approx(0)  # all do the same
    assert z[4:].min() > 100


def test_pairs_are_numbered_in_order_and_unknown_ports_are_a_value() -> None:
    assert structure.ids(np.array([1, 0, 1]), np.array([-1, 7, -1])).tolist() == [1, 0, 1]
