"""Settings say what is wrong by place, key and reason, and give no secret away."""

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from pydantic import SecretStr

from ssn_agent.errors import SettingsError
from ssn_agent.settings import MAX_RUNTIME_DIR, Settings, load_settings, read_resolved

SOUND = """
[cameras.left]
deadline_ms = 500
[cameras.left.source]
kind = "folder"
path = "/images"
"""

ZEROMQ = """
[cameras.left.source]
kind = "zeromq"
bind = "{bind}"
"""


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("SSN_"):
            monkeypatch.delenv(name)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "agent.toml"
    path.write_text(SOUND)
    return path


def refused(path: Path, text: str | None = None, overrides: Sequence[str] = ()) -> str:
    """Return the message with which the settings are refused."""
    if text is not None:
        path.write_text(text)
    with pytest.raises(SettingsError) as caught:
        load_settings(path, overrides)
    return str(caught.value)


def test_what_is_not_set_has_its_default(config: Path) -> None:
    settings = load_settings(config)
    assert settings.cameras["left"].deadline_ms == 500
    assert settings.cameras["left"].threshold == 0.5
    assert (settings.broker.host, settings.broker.port) == ("127.0.0.1", 1883)


def test_the_environment_wins_over_the_file_and_the_command_line_over_both(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSN_CAMERAS__LEFT__DEADLINE_MS", "600")
    monkeypatch.setenv("SSN_BROKER__HOST", "broker.plant")
    settings = load_settings(config)
    assert settings.cameras["left"].deadline_ms == 600
    assert settings.broker.host == "broker.plant"
    overrides = ["cameras.left.deadline_ms=700", "broker.tls=true"]
    settings = load_settings(config, overrides)
    assert settings.cameras["left"].deadline_ms == 700
    assert (settings.broker.host, settings.broker.tls) == ("broker.plant", True)
    assert settings.cameras["left"].source.kind == "folder"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SOUND.replace("deadline_ms", "deadline_s"), "cameras.left.deadline_s: unknown key; did"),
        (SOUND.replace("path =", "paht ="), "cameras.left.source.paht: unknown key; did you mean"),
        ("colour = 1\n" + SOUND, "colour: unknown key; remove it"),
        ("[brocker]\nport = 1\n" + SOUND, "brocker: unknown key; did you mean broker?"),
        (SOUND.replace("500", '"2 s"'), "cameras.left.deadline_ms: not a number of milliseconds"),
        (SOUND.replace("500", "[1]"), "cameras.left.deadline_ms: not a number of milliseconds"),
        (SOUND.replace("500", "0.5"), "cameras.left.deadline_ms: "),
        (SOUND.replace("500", "nan"), "cameras.left.deadline_ms: "),
        ("[broker]\nport = 70000\n" + SOUND, "broker.port: "),
        (
            "[broker]\nkeepalive_s = '1m'\n" + SOUND,
            "broker.keepalive_s: not a number of seconds",
        ),
        (SOUND.replace("folder", "floppy"), "cameras.left.source: "),
        (SOUND.replace("cameras.left", "cameras.Left"), "cameras.Left"),
        ("[broker]\nca_file = '/no/such.pem'\ntls = true\n" + SOUND, "broker.ca_file: "),
        ("[broker]\npassword = 'hunter2'\n" + SOUND, "broker: "),
        ("log_level = 'loud'\n" + SOUND, "log_level: "),
        ("[inference]\nengine = 'fastest'\n" + SOUND, "inference.engine: Input should be 'auto'"),
        ("[inference]\ncpus = [0, 9999]\n" + SOUND, "inference.cpus: "),
        ("[inference]\ncpus = [-1]\n" + SOUND, "inference.cpus"),
        (
            SOUND + "[cameras.left.fitness]\nfrozen_after = 1\n",
            "cameras.left.fitness.frozen_after: Value error, the first picture",
        ),
        (SOUND + "[cameras.left.fitness]\nchecks = ['frozen']\n", "cameras.left.fitness.checks"),
        (ZEROMQ.format(bind="udp://127.0.0.1:5560"), "cameras.left.source.bind: "),
        (ZEROMQ.format(bind="tcp://127.0.0.1"), "cameras.left.source.bind: "),
        (ZEROMQ.format(bind="tcp://127.0.0.1:65536"), "cameras.left.source.bind: "),
        (ZEROMQ.format(bind="tcp://127.0.0.1:0"), "cameras.left.source.bind: "),
        (ZEROMQ.format(bind="ipc://relative"), "cameras.left.source.bind: "),
        (ZEROMQ.format(bind="ipc:///" + "x" * 101), "cameras.left.source.bind: "),
        (
            ZEROMQ.format(bind="ipc:///run/parts") + "[cameras.right.source]\n"
            "kind = 'zeromq'\nbind = 'ipc:///run/parts'\n",
            "cameras: Value error, two cameras bind the same address",
        ),
        ("", "cameras: "),
        ("[cameras]\n", "cameras: "),
    ],
)
def test_what_is_wrong_is_told_by_file_and_key(config: Path, text: str, message: str) -> None:
    told = refused(config, text)
    assert f"{config}: {message}" in told
    assert "hunter2" not in told


def test_all_that_is_wrong_is_told_at_once_a_line_each(config: Path) -> None:
    told = refused(config, "colour = 1\n[broker]\nport = -1\n" + SOUND)
    assert len(told.splitlines()) == 2


def test_a_fault_of_the_environment_names_the_variable(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSN_CAMERAS__LEFT__DEADLINE_MS", "soon")
    assert "environment SSN_CAMERAS__LEFT__DEADLINE_MS: cameras.left" in refused(config)


@pytest.mark.parametrize("name", ["SSN_BROKER__HOTS", "SSN_BROKER__HOTS__NAME", "SSN_BROKR__HOST"])
def test_a_misspelt_variable_does_not_pass_unseen(
    config: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "x")
    told = refused(config)
    assert f"environment {name}" in told
    assert "did you mean" in told


def test_a_variable_that_is_no_json_is_not_blamed_on_the_file(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSN_BROKER", "{half")
    told = refused(config)
    assert told.startswith("environment: ")
    assert "broker" in told


def test_a_fault_of_the_command_line_is_told_as_such(config: Path) -> None:
    assert refused(config, overrides=["broker.port=high"]).startswith("command line: broker.port")
    told = refused(config, overrides=["brokr.port=1"])
    assert told.startswith("command line: brokr: unknown key; did you mean broker?")


@pytest.mark.parametrize("item", ["broker", "=1", "broker..port=1", ".=1"])
def test_an_override_without_key_and_value_is_refused(config: Path, item: str) -> None:
    assert "write it as key.path=value" in refused(config, overrides=[item])


def test_overrides_that_contradict_each_other_are_refused(config: Path) -> None:
    assert "was set to a value before" in refused(config, overrides=["broker=1", "broker.port=2"])


@pytest.mark.parametrize(
    "content", [b"cameras = [", b"\xff\xfe", b"a = 1\na = 2", b"a = " + b"[" * 9999]
)
def test_a_file_that_is_no_toml_is_refused_by_name(config: Path, content: bytes) -> None:
    config.write_bytes(content)
    assert refused(config).startswith(f"{config}: cannot be read as TOML")


def test_a_file_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    assert "absent.toml: no such settings file" in refused(tmp_path / "absent.toml")
    assert "no such settings file" in refused(tmp_path)


def test_a_runtime_folder_whose_sockets_could_not_be_named_is_refused(config: Path) -> None:
    longest = "/" + "r" * (MAX_RUNTIME_DIR - 1)
    load_settings(config, [f"runtime_dir={longest}"])
    for too_long in (f"{longest}r", f"{longest[:-1]}ü"):  # it is bytes that count
        assert "runtime_dir" in refused(config, overrides=[f"runtime_dir={too_long}"])


def test_folders_are_absolute_so_that_a_verdict_s_heatmap_is_found_from_anywhere(
    config: Path,
) -> None:
    settings = load_settings(config, ["data_dir=here", "runtime_dir=there"])
    assert settings.data_dir == Path.cwd() / "here"
    assert settings.heatmap_dir.is_absolute()
    assert settings.runtime_dir == Path.cwd() / "there"


SECRETS = [
    "broker.username=station",
    "broker.password=hunter2",
    "cameras.gate.source.kind=rtsp",
    "cameras.gate.source.url=rtsp://10.0.0.2/live",
    "cameras.gate.source.username=viewer",
    "cameras.gate.source.password=hunter3",
]


def test_secrets_are_shown_nowhere(config: Path) -> None:
    settings = load_settings(config, SECRETS)
    for text in (settings.public_json(), repr(settings), str(settings)):
        assert "hunter" not in text
    shown = json.loads(settings.public_json(indent=2))
    assert shown["broker"]["username"] == "station"
    assert shown["cameras"]["gate"]["source"]["username"] == "viewer"


def test_the_resolved_file_gives_every_process_the_same_settings(config: Path) -> None:
    settings = load_settings(config, SECRETS)
    path = config.with_name("settings.json")
    path.write_text(settings.model_dump_json())
    again = read_resolved(path)
    assert again == settings
    assert again.digest == settings.digest
    assert again.broker.password == SecretStr("hunter2")


@pytest.mark.parametrize("content", [None, "", "{}", "[]"])
def test_a_resolved_file_that_cannot_be_read_is_a_settings_error(
    tmp_path: Path, content: str | None
) -> None:
    path = tmp_path / "settings.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SettingsError, match=r"settings\.json"):
        read_resolved(path)


@pytest.mark.parametrize("url", ["rtsp://u:hunter2@10.0.0.2/1", "https://u@10.0.0.2/"])
def test_an_address_with_credentials_is_refused_because_addresses_are_shown(
    config: Path, url: str
) -> None:
    address = ["cameras.gate.source.kind=rtsp", f"cameras.gate.source.url={url}"]
    told = refused(config, overrides=address)
    assert "username and password" in told
    assert "hunter2" not in told


def test_the_digest_names_what_bears_on_a_verdict_and_no_secret(config: Path) -> None:
    digest = load_settings(config).digest
    assert load_settings(config, ["log_level=debug", "broker.port=1884"]).digest == digest
    assert load_settings(config, ["cameras.left.threshold=0.6"]).digest != digest
    assert load_settings(config, ["station.line=two"]).digest != digest
    with_secret = load_settings(config, SECRETS).digest
    changed = [*SECRETS[:-1], "cameras.gate.source.password=hunter4"]
    assert load_settings(config, changed).digest == with_secret


@pytest.mark.parametrize(
    "judge", ['bundle = "/b.ssn"', 'follow = "screws"', 'products = { m6 = { bundle = "/b.ssn" } }']
)
def test_a_camera_that_collects_names_no_bundle_for_it_would_not_judge(
    config: Path, judge: str
) -> None:
    left = "[cameras.left]\n"
    text = SOUND.replace(left, f'{left}mode = "collect"\n{judge}\n')
    assert "cameras.left: Value error, mode = " in refused(config, text)
    config.write_text(SOUND.replace(left, f'{left}mode = "collect"\n'))
    assert load_settings(config).cameras["left"].mode == "collect"


def test_challenge_pictures_want_a_bundle_of_the_camera_s_own(config: Path) -> None:
    challenge = 'challenge = { good_images = "/g", bad_images = "/b" }\n'
    left = "[cameras.left]\n"
    products = 'products = { m6 = { bundle = "/b.ssn" } }\n'
    text = re.sub(r"(?m)^bundle = .*\n", "", SOUND).replace(left, left + products + challenge)
    assert "the camera's own bundle, and it names none" in refused(config, text)
    config.write_text(text.replace(challenge, 'bundle = "/c.ssn"\n' + challenge))
    assert load_settings(config).cameras["left"].challenge is not None


def test_a_schema_can_be_made_of_them() -> None:
    assert Settings.model_json_schema()["properties"]["cameras"]
