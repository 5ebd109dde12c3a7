"""Asking a broker what it allows, without a word to anybody else."""

import subprocess
from pathlib import Path

import pytest

from ssn_agent.errors import BrokerError
from ssn_agent.publish.probe import probe
from ssn_agent.publish.settings import BrokerSettings
from support.mosquitto import Subscriber, program, running_mosquitto

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


def test_what_waits_in_the_session_of_that_name_goes_on_waiting(tmp_path: Path) -> None:
    with running_mosquitto(tmp_path) as broker:
        Subscriber(broker.port, tmp_path, session="box-a").close()
        told = ("-p", str(broker.port), "-q", "1", "-t", "ssn/label", "-m", "good")
        subprocess.run([program("mosquitto_pub"), *told], check=True)
        for _ in range(2):
            probe(BrokerSettings(port=broker.port), "box-a")
        back = Subscriber(broker.port, tmp_path, session="box-a")
        heard = [message.payload for message in back.received() if message.topic == "ssn/label"]
        back.close()
    assert heard == [b"good"]


def test_one_that_refuses_us_says_why(tmp_path: Path) -> None:
    with (
        running_mosquitto(tmp_path, "allow_anonymous false") as broker,
        pytest.raises(BrokerError, match=r"Not authorized; check broker\.username"),
    ):
        probe(BrokerSettings(port=broker.port), "doctor")
