"""Asking a broker what it allows, without a word to anybody else."""

from pathlib import Path

import pytest

from ssn_agent.errors import BrokerError
from ssn_agent.publish.probe import probe
from ssn_agent.publish.settings import BrokerSettings
from support.mosquitto import Subscriber, running_mosquitto

pytestmark = pytest.mark.needs("mosquitto")


def test_a_broker_s_limits_are_known_and_nobody_hears_of_it(tmp_path: Path) -> None:
    lines = ("max_packet_size 2000", "max_inflight_messages 7", "max_qos 0")
    with running_mosquitto(tmp_path, *lines, "retain_available false") as broker:
        listening = Subscriber(broker.port, tmp_path)
        limits = probe(BrokerSettings(port=broker.port), "doctor")
        heard = {message.topic for message in listening.received()}
        listening.close()
    assert (limits.packet_bytes, limits.inflight) == (2000, 7)
    assert (limits.qos, limits.retains, limits.certificate_end) == (0, False, None)
    assert heard == {"t"}  # the subscriber's own


def test_one_that_refuses_us_says_why(tmp_path: Path) -> None:
    with (
        running_mosquitto(tmp_path, "allow_anonymous false") as broker,
        pytest.raises(BrokerError, match=r"Not authorized; check broker\.username"),
    ):
        probe(BrokerSettings(port=broker.port), "doctor")
