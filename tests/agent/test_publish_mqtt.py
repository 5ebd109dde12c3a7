"""The line to a real broker: what it answers is reported, and nothing handed over is lost."""

import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from ssn_agent.errors import BrokerError
from ssn_agent.publish.events import Connected, Disconnected
from ssn_agent.publish.mqtt import BrokerLink
from ssn_agent.publish.settings import BrokerSettings
from support.line import WILL, Line
from support.mosquitto import Mosquitto, Subscriber, free_port, program, running_mosquitto
from support.waiting import wait_until

pytestmark = pytest.mark.needs("mosquitto")


@pytest.fixture
def runtime() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ssn-") as folder:
        yield Path(folder)


@pytest.fixture
def configured(tmp_path: Path) -> Iterator[Callable[..., Mosquitto]]:
    """Start a broker with configuration lines of the test's own."""
    with ExitStack() as brokers:
        yield lambda *lines: brokers.enter_context(running_mosquitto(tmp_path, *lines))


def numbers(subscriber: Subscriber) -> list[int]:
    return [int(m.payload) for m in subscriber.received() if m.topic == "ssn/n"]


def test_what_a_connection_did_not_deliver_ends_with_it_and_is_not_repeated_by_the_line(
    mosquitto: Mosquitto, tmp_path: Path, runtime: Path
) -> None:
    with closing(Line(runtime, BrokerSettings(port=mosquitto.port))) as line:
        line.connected()
        line.acknowledged(line.publish("ssn/n", "0"))
        assert mosquitto.process is not None
        mosquitto.process.send_signal(signal.SIGSTOP)
        line.publish("ssn/n", "1")
        mosquitto.kill()
        assert line.link.publish("ssn/n", "2") in {None, 3}  # it may not know yet
        line.disconnected()
        assert line.link.room == 0
        assert line.link.publish("ssn/n", "3") is None
        line.events.clear()
        mosquitto.start()
        with closing(Subscriber(mosquitto.port, tmp_path)) as subscriber:
            line.connected(2)
            line.acknowledged(line.publish("ssn/n", "4"))
            wait_until(lambda: 4 in numbers(subscriber), 10, "does not arrive")
            assert numbers(subscriber) == [4]


def test_a_broker_is_sent_no_more_at_once_than_it_takes(
    configured: Callable[..., Mosquitto], runtime: Path, tmp_path: Path
) -> None:
    broker = configured("max_inflight_messages 5")
    with (
        closing(Subscriber(broker.port, tmp_path)) as subscriber,
        closing(Line(runtime, BrokerSettings(port=broker.port, inflight=100))) as line,
    ):
        line.connected()
        assert Connected(None, 5, 1) in line.events
        sent = [line.link.publish("ssn/n", str(i)) for i in range(7)]
        assert sent == [1, 2, 3, 4, 5, None, None]
        line.acknowledged(5)
        assert line.link.room == 5
        for i in range(5, 60):
            line.acknowledged(line.publish("ssn/n", str(i)))
        wait_until(lambda: len(numbers(subscriber)) >= 60, 10, "not all arrive")
        assert numbers(subscriber) == list(range(60))
        assert not any(isinstance(event, Disconnected) for event in line.events)


def test_a_wrong_password_is_reported_as_such_and_never_shown(
    configured: Callable[..., Mosquitto], tmp_path: Path, runtime: Path
) -> None:
    passwords = tmp_path / "passwords"
    command = [program("mosquitto_passwd"), "-c", "-b", str(passwords), "station", "right"]
    subprocess.run(command, check=True)
    broker = configured("allow_anonymous false", f"password_file {passwords}")
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
    configured: Callable[..., Mosquitto], tmp_path: Path, runtime: Path
) -> None:
    rules = tmp_path / "acl"
    rules.write_text("topic write ssn/allowed\n")
    broker = configured(f"acl_file {rules}")
    with closing(Line(runtime, BrokerSettings(port=broker.port))) as line:
        line.connected()
        assert line.acknowledged(line.publish("ssn/allowed", "x")) is None
        assert "Not authorized" in str(line.acknowledged(line.publish("ssn/denied", "x")))


def test_the_broker_s_packet_limit_is_reported(
    configured: Callable[..., Mosquitto], runtime: Path
) -> None:
    broker = configured("max_packet_size 4096")
    with closing(Line(runtime, BrokerSettings(port=broker.port))) as line:
        event = line.wait_for(lambda event: isinstance(event, Connected))
        assert isinstance(event, Connected)
        assert event.max_packet_bytes == 4096


def test_a_message_over_the_broker_s_packet_limit_is_not_sent_and_the_connection_stands(
    configured: Callable[..., Mosquitto], runtime: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broker = configured("max_packet_size 4096")
    with closing(Line(runtime, BrokerSettings(port=broker.port))) as line:
        line.connected()
        topic, most = "ssn/status", "x" * (4096 - 16 - len("ssn/status"))
        assert line.link.takes(topic, most)
        assert line.acknowledged(line.publish(topic, most)) is None
        assert not line.link.takes(topic, most + "x")
        assert not line.link.takes(topic, most + "xy")
        assert capsys.readouterr().out.count("message too large") == 1
        assert line.acknowledged(line.publish(topic, "x")) is None


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


@pytest.mark.parametrize("host", ["no-such-host.invalid", "no..name"])
def test_a_host_whose_name_nobody_knows_is_reported(runtime: Path, host: str) -> None:
    settings = BrokerSettings(host=host)
    with closing(Line(runtime, settings)) as line:
        assert host in line.disconnected()


def test_an_orderly_end_sends_the_last_message_and_no_will(
    mosquitto: Mosquitto, tmp_path: Path, runtime: Path
) -> None:
    with closing(Subscriber(mosquitto.port, tmp_path)) as subscriber:
        line = Line(runtime, BrokerSettings(port=mosquitto.port))
        line.connected()
        line.publish("ssn/last", "word")
        line.close()
        wait_until(
            lambda: any(m.topic == "ssn/last" for m in subscriber.received()), 10, "no last word"
        )
        assert not any(m.topic == WILL for m in subscriber.received())


def test_an_end_with_the_will_has_the_broker_say_it(
    mosquitto: Mosquitto, tmp_path: Path, runtime: Path
) -> None:
    with closing(Subscriber(mosquitto.port, tmp_path)) as subscriber:
        line = Line(runtime, BrokerSettings(port=mosquitto.port))
        line.connected()
        line.link.stop(with_will=True)
        line.close()
        wait_until(lambda: any(m.topic == WILL for m in subscriber.received()), 10, "no will")


def test_a_line_whose_thread_has_died_says_so(
    mosquitto: Mosquitto, runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    monkeypatch.setattr(BrokerLink, "_on_publish", lambda *_: 1 / 0)
    with closing(Line(runtime, BrokerSettings(port=mosquitto.port))) as line:
        line.connected()
        line.publish("ssn/n", "1")
        with pytest.raises(BrokerError, match="line to the broker"):
            line.wait_for(lambda _: False)
