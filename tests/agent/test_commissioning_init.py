"""`ssn-agent init`: what a person is asked, and that what is written is sound, whole, and safe."""

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from ssn_agent.capture.settings import GenTlSource, LineSource, RtspSource
from ssn_agent.commissioning.template import Answers, settings_text
from ssn_agent.settings import load_settings
from ssn_contract.topics import Station
from support.certificates import Authority
from support.terminal import terminal

LINE = ("--source", "kind=line", "--source", "fps=5")


def init(*arguments: object) -> "subprocess.CompletedProcess[str]":
    """Run it without a terminal."""
    return subprocess.run(
        [sys.executable, "-m", "ssn_agent.cli", "init", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_person_answers_and_has_sound_settings_with_secrets_that_are_never_shown(
    tmp_path: Path,
) -> None:
    out, secret = tmp_path / "agent.toml", 'p"w $x`\\'
    with terminal("init", "--out", out) as person:
        person.answer("Site, the plant", "plant 1")
        person.wait_for("'plant 1' is none: lower-case letters")
        person.answer("Site, the plant", "plant-1")
        person.answer("Production line", "press-3")
        person.answer("Station, this box", "")
        person.answer("Name of the camera", "left")
        person.wait_for("looking for cameras")
        person.wait_for("another one")
        number = person.seen[: person.seen.index("another one")].split()[-1]
        person.answer("Which camera", "0")
        person.answer("Which camera", number)
        person.answer("Its kind", "rstp")
        person.answer("Its kind", "rtsp")
        person.answer("url", "192.0.2.7/stream")
        person.answer("username", "")
        person.wait_for("String should match pattern")
        person.answer("Its kind", "rtsp")
        person.answer("url", "rtsp://192.0.2.7/stream")
        person.answer("username", "viewer")
        person.answer("The camera's password", secret)
        person.answer("Broker's host", "")
        person.answer("Does it speak TLS", "")
        person.answer("Its port", "99999")
        person.answer("Its port", "1884")
        person.answer("User at the broker", "box-a")
        person.answer("Password (not shown", secret)
        person.answer("Bundle's file", "")
        person.answer("Name of a bundle to follow", "")
        assert person.end() == 0
    assert secret not in person.seen
    assert f"ssn-agent doctor --config {out}" in person.seen
    settings = load_settings(out)
    assert settings.station == Station(site="plant-1", line="press-3")
    source = settings.cameras["left"].source
    assert isinstance(source, RtspSource)
    assert source.password is not None
    assert settings.broker.password is not None
    assert source.password.get_secret_value() == secret
    assert settings.broker.password.get_secret_value() == secret
    assert settings.broker.port == 1884
    assert settings.cameras["left"].mode == "collect"
    assert stat.S_IMODE(out.stat().st_mode) & 0o007 == 0


@pytest.fixture
def producer(monkeypatch: pytest.MonkeyPatch) -> Path:
    """A vendor's software with three cameras, as GenICam's own wheel brings it."""
    folder = Path(pytest.importorskip("genicam").__file__).parent
    monkeypatch.setenv("GENICAM_GENTL64_PATH", str(folder))
    return folder / "viky.cti"


def test_cameras_that_are_found_are_offered_and_the_chosen_one_is_in_the_settings(
    producer: Path, tmp_path: Path
) -> None:
    out = tmp_path / "agent.toml"
    done = init("--out", out, "--yes")
    assert (done.returncode, out.exists()) == (2, False)
    assert "--source: is missing; say which camera" in done.stderr
    assert f"kind=gentl producer={producer} device=1" in done.stderr
    place = ("--site", "p", "--line", "l", "--station", "s", "--camera", "left")
    broker = ("--broker-host", "127.0.0.1", "--no-tls", "--broker-port", "1883")
    with terminal("init", "--out", out, *place, *broker, "--bundle", "b.ssn") as person:
        person.wait_for(" (gentl)")
        person.answer("Which camera", "2")
        person.answer("User at the broker", "")
        assert person.end() == 0
    source = load_settings(out).cameras["left"].source
    assert isinstance(source, GenTlSource)
    assert (source.producer, source.device) == (producer, "1")


def test_options_and_defaults_need_no_terminal(tmp_path: Path) -> None:
    out, authority = tmp_path / "agent.toml", Authority(tmp_path, "plant")
    own = authority.issue("box-a")
    files = ("--ca-file", authority.cert, "--cert-file", own.cert, "--key-file", own.key)
    done = init("--out", out, "--yes", *LINE, "--broker-host", "broker.example", *files)
    assert (done.returncode, done.stderr) == (0, "")
    settings = load_settings(out)
    assert isinstance(settings.cameras["camera-1"].source, LineSource)
    broker = settings.broker
    assert (broker.host, broker.port, broker.tls) == ("broker.example", 8883, True)
    assert (broker.ca_file, broker.key_file) == (authority.cert, own.key)
    root = tmp_path / "root.json"
    root.write_text("{}")
    url = ("--channel-url", "https://c.example/x", "--channel-root", root)
    done = init("--out", out, "--force", "--yes", *LINE, "--follow", "parts", *url)
    assert done.returncode == 0
    assert load_settings(out).followed == ["parts"]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((), "--site: is missing, and there is no terminal"),
        (("--yes", "--site", "A B", *LINE), "--site: 'A B' is none"),
        (("--yes", "-s", "kind=line", "-s", "colour=1"), "source.colour: unknown key"),
        (("--yes", "-s", "kind=rtsp", "-s", "password=x"), "others can read a command line"),
        (("--yes", *LINE, "--follow", "parts"), "--channel-url: is missing"),
        (("--yes", *LINE, "--cert-file", "none.pem"), "--cert-file: none.pem: is no file"),
        (("--yes", *LINE, "--broker-port", "x"), "--broker-port: 'x' is none"),
    ],
)
def test_what_is_missing_or_wrong_is_named_by_its_option_and_nothing_is_written(
    tmp_path: Path, arguments: tuple[str, ...], named: str
) -> None:
    done = init("--out", tmp_path / "agent.toml", *arguments)
    assert done.returncode == 2
    assert named in done.stderr
    assert not list(tmp_path.iterdir())


def test_settings_that_are_there_stay_unless_they_are_to_be_replaced(tmp_path: Path) -> None:
    out = tmp_path / "agent.toml"
    out.write_text("mine")
    done = init("--out", out, "--yes", *LINE)
    assert (done.returncode, out.read_text()) == (2, "mine")
    assert "is there already; replace it with --force" in done.stderr
    # What does not hold together is found before the file is replaced.
    done = init("--out", out, "--force", "--yes", *LINE, "--runtime-dir", "/x" * 60)
    assert (done.returncode, out.read_text()) == (2, "mine")
    assert f"{out}: runtime_dir:" in done.stderr
    assert list(tmp_path.iterdir()) == [out]


def test_every_key_that_is_commented_out_is_one(tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in ("ca.pem", "station.pem", "station.key")}
    for file in files.values():
        file.write_text("")
    source = {"kind": "gige", "device": 'x"\\', "features": {"Gain": 1.5, "ReverseX": True}}
    answers = Answers(Station(), "left", source, {}, tmp_path, tmp_path, bundle=tmp_path / "b.ssn")
    text = settings_text(answers)
    opened = "\n".join(
        line[1:] if line.startswith("#") and " = " in line else line for line in text.splitlines()
    )
    opened = opened.replace("/etc/ssn-agent/tls", str(tmp_path)).replace(
        "tls = false", "tls = true"
    )
    opened = opened.replace('#follow = "parts"', "")
    out = tmp_path / "agent.toml"
    out.write_text(text)
    left = load_settings(out).cameras["left"]
    out.write_text(opened.replace('follow = "parts"', ""))
    assert load_settings(out).cameras["left"].source == left.source
    assert load_settings(out).metrics.port == 9464
