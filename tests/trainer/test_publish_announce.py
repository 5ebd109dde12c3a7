"""An announcement is on the broker when the command says so, and nothing is said otherwise."""

import signal
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from ssn_contract.channel import Announcement
from ssn_trainer.publish import announce
from support.certificates import Authority
from support.channels import Plant
from support.mosquitto import Mosquitto, Subscriber, free_port, running_mosquitto

pytestmark = pytest.mark.needs("mosquitto")
Run = Callable[..., tuple[int, str, str]]
TOPIC = "ssn/v1/plant1/channel/stable"


@pytest.fixture
def channel(tmp_path: Path) -> Path:
    return Plant.made(tmp_path / "plant").folder


def options(channel: Path, port: int) -> tuple[object, ...]:
    where = ("--broker", f"127.0.0.1:{port}", "--site", "plant1", "--to", "stable")
    return ("channel", "announce", "--channel", channel, *where)


def retained(port: int, folder: Path) -> list[Announcement]:
    """Return what a subscriber that comes later is told."""
    with closing(Subscriber(port, folder)) as subscriber:
        found = [m for m in subscriber.received() if m.topic == TOPIC]
    assert all(message.retained for message in found)
    return [Announcement.model_validate_json(message.payload) for message in found]


def test_it_is_retained_and_the_last_one_stands(
    run: Run, channel: Path, mosquitto: Mosquitto, tmp_path: Path
) -> None:
    for _ in range(2):
        done = run(*options(channel, mosquitto.port))
        assert done == (0, f"{TOPIC}: announced\n", "")
    [announced] = retained(mosquitto.port, tmp_path)
    assert (announced.schema_version, announced.channel) == (1, "stable")


def test_with_certificates_and_a_password_it_goes_over_tls(
    run: Run, channel: Path, tmp_path: Path
) -> None:
    authority = Authority(tmp_path, "authority")
    server, ours = authority.issue("broker"), authority.issue("publisher")
    tls_port = free_port()
    lines = (
        f"listener {tls_port} 127.0.0.1",
        f"cafile {authority.cert}",
        f"certfile {server.cert}",
        f"keyfile {server.key}",
        "require_certificate true",
    )
    with running_mosquitto(tmp_path, *lines) as broker:
        word = tmp_path / "password"
        word.write_text("secret\n")
        secured = ("--tls", "--ca-file", authority.cert, "--username", "p", "--password-file", word)
        mine = ("--cert-file", ours.cert, "--key-file", ours.key)
        assert run(*options(channel, tls_port), *secured, *mine)[0] == 0
        assert len(retained(broker.port, tmp_path)) == 1
        code, _, problem = run(*options(channel, tls_port), "--tls")
        assert code == 1
        assert "its certificate is not trusted" in problem
        assert "secret" not in problem


def test_a_broker_that_is_away_does_not_answer_or_refuses_is_named(
    run: Run, channel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, problem = run(*options(channel, free_port()))
    assert (code, out) == (1, "")
    assert "no connection: Connection refused; nothing is announced" in problem
    rules = tmp_path / "rules"
    rules.write_text("topic read #\n")
    with running_mosquitto(tmp_path, f"acl_file {rules}") as broker:
        assert "refuses the message (Not authorized)" in run(*options(channel, broker.port))[2]
        assert broker.process is not None
        broker.process.send_signal(signal.SIGSTOP)
        monkeypatch.setattr(announce, "WAIT_S", 0.5)
        assert "has not answered" in run(*options(channel, broker.port))[2]
    with running_mosquitto(tmp_path, "allow_anonymous false") as broker:
        problem = run(*options(channel, broker.port))[2]
        assert "it refuses us (Not authorized); check --username" in problem


@pytest.mark.parametrize(
    ("broker", "site", "more", "problem"),
    [
        ("mqtt://host", "plant1", (), "write it as HOST or HOST:PORT"),
        ("host:99999", "plant1", (), "Port out of range"),
        ("host", "Plant 1", (), "is no name of a site"),
        ("host", "plant1", ("--ca-file", "/etc/passwd"), "tls is not"),
        ("host", "plant1", ("--password-file", "/absent"), "the password cannot be read"),
    ],
)
def test_wrong_use_is_named_before_anything_is_sent(
    run: Run, channel: Path, broker: str, site: str, more: tuple[str, ...], problem: str
) -> None:
    where = ("--broker", broker, "--site", site)
    code, _, said = run("channel", "announce", "--channel", channel, *where, *more)
    assert code == 2
    assert problem in said


def test_where_no_channel_is_there_nothing_is_announced(
    run: Run, tmp_path: Path, mosquitto: Mosquitto
) -> None:
    assert run(*options(tmp_path / "absent", mosquitto.port))[0] == 1
    assert retained(mosquitto.port, tmp_path) == []
