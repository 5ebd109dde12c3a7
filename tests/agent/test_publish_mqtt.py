"""The line to a real broker: what it answers is reported, and nothing handed over is lost."""

import json
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ssn_agent.errors import BrokerError
from ssn_agent.frames.wake import Doorbell, Ringer
from ssn_agent.publish.mqtt import Acknowledged, BrokerLink, Connected, Disconnected, Event
from ssn_agent.settings import BrokerSettings
from support.mosquitto import Mosquitto, Subscriber, answers, free_port, program
from support.waiting import wait_until

WILL = "ssn/v1/site/line/station/status"

pytestmark = pytest.mark.needs("mosquitto")


class Line:
    """A link with its doorbell, and all events so far."""

    def __init__(self, folder: Path, settings: BrokerSettings) -> None:
        self._bell = Doorbell(folder / "bell")
        self.link = BrokerLink(settings, "ssn-test", Ringer(folder / "bell"))
        self.events: list[Event] = []
        self.link.start(WILL, json.dumps({"state": "offline"}))

    def wait_for(self, found: Callable[[Event], bool]) -> Event:
        """Sleep on the bell until such an event is there."""
        seen = 0

        def look() -> bool:
            nonlocal seen
            if seen == len(self.events):
                self._bell.wait(0.05)
                self.events += self.link.events()
            while seen < len(self.events) and not found(self.events[seen]):
                seen += 1
            return seen < len(self.events)

        wait_until(look, 20, f"no such event among {self.events}")
        return self.events[seen]

    def connected(self) -> None:
        self.wait_for(lambda event: isinstance(event, Connected))

    def acknowledged(self, mid: int) -> str | None:
        event = self.wait_for(lambda event: isinstance(event, Acknowledged) and event.mid == mid)
        assert isinstance(event, Acknowledged)
        return event.refusal

    def disconnected(self) -> str:
        event = self.wait_for(lambda event: isinstance(event, Disconnected))
        assert isinstance(event, Disconnected)
        return event.reason

    def close(self) -> None:
        self.link.stop()
        self._bell.close()


@pytest.fixture
def runtime() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ssn-") as folder:
        yield Path(folder)


@pytest.fixture
def configured(tmp_path: Path) -> Iterator[Callable[[str], Mosquitto]]:
    """Start a broker with configuration lines of the test's own."""
    brokers = []

    def start(lines: str) -> Mosquitto:
        broker = Mosquitto(free_port(), tmp_path)
        config = tmp_path / "own.conf"
        # Started by root it would become a user that may not read this folder.
        config.write_text(f"user root\nlistener {broker.port} 127.0.0.1\n{lines}\n")
        command = [program("mosquitto"), "-c", str(config)]
        broker.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        brokers.append(broker)
        wait_until(lambda: answers(broker.port), 10, "mosquitto does not answer")
        return broker

    yield start
    for broker in brokers:
        broker.kill()


def numbers(subscriber: Subscriber) -> list[int]:
    return [int(m.payload) for m in subscriber.received() if m.topic == "ssn/n"]


def test_everything_handed_over_arrives_although_the_broker_is_killed_in_between(
    mosquitto: Mosquitto, tmp_path: Path, runtime: Path
) -> None:
    with closing(Line(runtime, BrokerSettings(port=mosquitto.port))) as line:
        line.connected()
        first = [line.link.publish("ssn/n", str(i)) for i in range(20)]
        for mid in first:
            assert line.acknowledged(mid) is None
        mosquitto.kill()
        line.disconnected()
        line.events.clear()
        second = [line.link.publish("ssn/n", str(i)) for i in range(20, 120)]
        mosquitto.start()
        with closing(Subscriber(mosquitto.port, tmp_path)) as subscriber:
            for mid in second:
                assert line.acknowledged(mid) is None
            late = line.link.publish("ssn/n", "120")
            assert line.acknowledged(late) is None
            # The subscriber may have come after the first of them: the broker forgot everything.
            wait_until(lambda: 120 in numbers(subscriber), 10, "the last one does not arrive")
            got = numbers(subscriber)
    assert got == list(range(got[0], 121))


def test_a_broker_with_small_queues_of_its_own_loses_nothing(
    configured: Callable[[str], Mosquitto], runtime: Path, tmp_path: Path
) -> None:
    broker = configured("allow_anonymous true\nmax_queued_messages 0\nmax_inflight_messages 5")
    with (
        closing(Subscriber(broker.port, tmp_path)) as subscriber,
        closing(Line(runtime, BrokerSettings(port=broker.port, inflight=100))) as line,
    ):
        line.connected()
        assert Connected(None, 5) in line.events
        for mid in [line.link.publish("ssn/n", str(i)) for i in range(300)]:
            assert line.acknowledged(mid) is None
        wait_until(lambda: len(numbers(subscriber)) >= 300, 10, "not all arrive")
        assert sorted(set(numbers(subscriber))) == list(range(300))
        assert not any(isinstance(event, Disconnected) for event in line.events)


def test_a_wrong_password_is_reported_as_such_and_never_shown(
    configured: Callable[[str], Mosquitto], tmp_path: Path, runtime: Path
) -> None:
    passwords = tmp_path / "passwords"
    command = [program("mosquitto_passwd"), "-c", "-b", str(passwords), "station", "right"]
    subprocess.run(command, check=True)
    broker = configured(f"allow_anonymous false\npassword_file {passwords}")
    for password in ("hunter2", "right"):
        settings = BrokerSettings.model_validate(
            {"port": broker.port, "username": "station", "password": password}
        )
        with closing(Line(runtime, settings)) as line:
            if password == "right":  # noqa: S105 -- of this test's own broker
                line.connected()
            else:
                reason = line.disconnected()
                assert "Not authorized" in reason
                assert "hunter2" not in reason


def test_a_topic_that_the_broker_does_not_allow_comes_back_refused(
    configured: Callable[[str], Mosquitto], tmp_path: Path, runtime: Path
) -> None:
    rules = tmp_path / "acl"
    rules.write_text("topic write ssn/allowed\n")
    broker = configured(f"allow_anonymous true\nacl_file {rules}")
    with closing(Line(runtime, BrokerSettings(port=broker.port))) as line:
        line.connected()
        assert line.acknowledged(line.link.publish("ssn/allowed", "x")) is None
        assert "Not authorized" in str(line.acknowledged(line.link.publish("ssn/denied", "x")))


def test_the_broker_s_packet_limit_is_reported(
    configured: Callable[[str], Mosquitto], runtime: Path
) -> None:
    broker = configured("allow_anonymous true\nmax_packet_size 4096")
    with closing(Line(runtime, BrokerSettings(port=broker.port))) as line:
        event = line.wait_for(lambda event: isinstance(event, Connected))
        assert isinstance(event, Connected)
        assert event.max_packet_bytes == 4096


def test_a_broker_that_is_not_there_is_reported_by_its_address_and_taken_when_it_comes(
    tmp_path: Path, runtime: Path
) -> None:
    broker = Mosquitto(free_port(), tmp_path)
    with closing(Line(runtime, BrokerSettings(port=broker.port))) as line:
        assert f"127.0.0.1:{broker.port}" in line.disconnected()
        broker.start()
        try:
            line.connected()
        finally:
            broker.kill()


def test_a_host_whose_name_nobody_knows_is_reported(runtime: Path) -> None:
    settings = BrokerSettings(host="no-such-host.invalid")
    with closing(Line(runtime, settings)) as line:
        assert "no-such-host.invalid" in line.disconnected()


def test_an_orderly_end_sends_the_last_message_and_no_will(
    mosquitto: Mosquitto, tmp_path: Path, runtime: Path
) -> None:
    with closing(Subscriber(mosquitto.port, tmp_path)) as subscriber:
        line = Line(runtime, BrokerSettings(port=mosquitto.port))
        line.connected()
        line.link.publish("ssn/last", "word")
        line.close()
        wait_until(
            lambda: any(m.topic == "ssn/last" for m in subscriber.received()), 10, "no last word"
        )
        assert not any(m.topic == WILL for m in subscriber.received())


@pytest.mark.parametrize("content", ["", "no certificate"])
def test_certificates_that_do_not_load_are_an_error_that_names_the_setting(
    tmp_path: Path, runtime: Path, content: str
) -> None:
    broken = tmp_path / "ca.pem"
    broken.write_text(content)
    settings = BrokerSettings(tls=True, ca_file=broken)
    with pytest.raises(BrokerError, match=r"broker\.\*_file"):
        BrokerLink(settings, "ssn-test", Ringer(runtime / "bell"))


def test_an_orderly_end_is_none_the_worse_for_pahos_thread_ending_first(
    mosquitto: Mosquitto, runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # `loop_stop` looks whether the thread is there, then which thread asks, then joins the first.
    line = Line(runtime, BrokerSettings(port=mosquitto.port))
    line.connected()
    (paho,) = (t for t in threading.enumerate() if t.name.startswith("paho"))
    which = threading.current_thread

    def after_its_end() -> threading.Thread:
        if which() is threading.main_thread():
            wait_until(lambda: not paho.is_alive(), 10, "paho's thread does not end")
        return which()

    monkeypatch.setattr(threading, "current_thread", after_its_end)
    line.close()
