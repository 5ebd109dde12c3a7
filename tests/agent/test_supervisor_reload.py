"""A reload takes over what may change at run time, names the rest, and never half of a file."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from ssn_agent.errors import SettingsError
from ssn_agent.settings import Settings, read_resolved
from ssn_agent.supervisor.in_force import SettingsInForce
from ssn_agent.supervisor.reload import reload

CAMERA: dict[str, Any] = {"source": {"kind": "folder", "path": "/images"}}
RTSP = {"kind": "rtsp", "url": "rtsp://camera/1", "username": "u", "password": "old"}


def settings(cameras: dict[str, Any] | None = None, **changes: Any) -> Settings:
    return Settings.model_validate({"cameras": cameras or {"left": CAMERA}, **changes})


def test_thresholds_checks_what_is_kept_the_level_of_the_log_and_retention_change_at_run_time() -> (
    None
):
    fitness = {"checks": ["dark"], "frozen_after": 3}
    own = {"threshold": 0.625, "alarm_after": 5, "fitness": fitness, "keep": {"near": 0.25}}
    camera = {**CAMERA, **own}
    wanted = settings({"left": camera}, log_level="debug", retention={"heatmap_gib": 5})
    found = reload(settings(), wanted)
    assert found.settings == wanted
    assert found.changed == (
        "cameras.left.alarm_after",
        "cameras.left.fitness.checks",
        "cameras.left.fitness.frozen_after",
        "cameras.left.keep.near",
        "cameras.left.threshold",
        "log_level",
        "retention.heatmap_gib",
    )
    assert found.wants_restart == ()


@pytest.mark.parametrize(
    ("wanted", "key"),
    [
        (settings(broker={"host": "other"}), "broker.host"),
        (settings({"left": {**CAMERA, "deadline_ms": 5}}), "cameras.left.deadline_ms"),
        (settings({"left": {"source": {"kind": "line"}}}), "cameras.left.source"),
        (settings({"left": CAMERA, "right": CAMERA}), "cameras.right"),
        (settings({"right": CAMERA}), "cameras.left"),
        (settings({"left": {**CAMERA, "bundle": "/b.ssn"}}), "cameras.left.bundle"),
        (settings({"left": {**CAMERA, "mode": "collect"}}), "cameras.left.mode"),
        (settings(inference={"threads": 3}), "inference.threads"),
    ],
)
def test_everything_else_stays_as_it_is_and_is_named(wanted: Settings, key: str) -> None:
    found = reload(settings(), wanted)
    assert found.settings == settings()
    assert found.changed == ()
    assert any(name.startswith(key) for name in found.wants_restart)


def test_a_changed_password_wants_a_restart_and_is_shown_nowhere() -> None:
    running = settings({"left": {"source": RTSP}})
    wanted = settings({"left": {"source": {**RTSP, "password": "new"}}})
    found = reload(running, wanted)
    assert found.wants_restart == ("cameras.left.source.password",)
    source = found.settings.cameras["left"].source
    assert source.kind == "rtsp"
    assert source.password == SecretStr("old")


THRESHOLDS = st.floats(0.01, 0.99)
CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "log_level": st.sampled_from(["debug", "info", "error"]),
        "data_dir": st.sampled_from(["/var/a", "/var/b"]),
        "broker": st.fixed_dictionaries({"port": st.integers(1, 9)}),
        "cameras": st.dictionaries(
            st.sampled_from(["left", "right", "top"]),
            st.builds(lambda value: {**CAMERA, "threshold": value}, THRESHOLDS),
            min_size=1,
        ),
    },
)


@given(CHANGES, CHANGES)
def test_a_reload_is_whole_and_a_second_one_of_the_same_file_changes_nothing(
    before: dict[str, Any], after: dict[str, Any]
) -> None:
    cameras = {"cameras": {"left": CAMERA}}
    running = Settings.model_validate({**cameras, **before})
    wanted = Settings.model_validate({**cameras, **after})
    first = reload(running, wanted)
    assert (first.settings == running) == (not first.changed)
    assert (first.settings == wanted) == (not first.wants_restart)
    again = reload(first.settings, wanted)
    assert (again.settings, again.changed) == (first.settings, ())
    assert again.wants_restart == first.wants_restart
    for name, camera in first.settings.cameras.items():
        known = wanted.cameras.get(name, running.cameras[name])
        assert camera.threshold == known.threshold


def test_settings_that_do_not_hold_together_change_nothing_and_are_said_until_they_do(
    tmp_path: Path,
) -> None:
    answers: list[Settings | SettingsError] = [
        SettingsError("agent.toml: cameras.left.threshold: not a number"),
        settings({"left": {**CAMERA, "threshold": 0.75}}),
    ]

    def again() -> Settings:
        answer = answers.pop(0)
        if isinstance(answer, SettingsError):
            raise answer
        return answer

    in_force = SettingsInForce(settings(), again, tmp_path / "settings.json")
    in_force.write()
    assert not in_force.read_again(0)
    assert read_resolved(tmp_path / "settings.json") == in_force.settings == settings()
    problem = in_force.status().problem
    assert problem is not None
    assert "not a number" in problem
    assert in_force.alarms() == [f"settings: {problem}"]
    assert in_force.read_again(0)
    assert read_resolved(tmp_path / "settings.json").cameras["left"].threshold == 0.75
    assert in_force.changed_by == "SIGHUP from root"
    assert in_force.status().problem is None
    assert in_force.status().digest == in_force.settings.digest != settings().digest
    assert in_force.alarms() == []


def test_settings_that_cannot_be_handed_to_the_processes_are_not_in_force(tmp_path: Path) -> None:
    wanted = settings({"left": {**CAMERA, "threshold": 0.75}})
    in_force = SettingsInForce(settings(), lambda: wanted, tmp_path / "gone" / "settings.json")
    assert not in_force.read_again(0)
    assert in_force.settings == settings()
    assert "not taken over" in str(in_force.status().problem)


def test_the_file_for_the_processes_holds_the_passwords_and_is_ours_alone(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    SettingsInForce(settings({"left": {"source": RTSP}}), settings, path).write()
    assert path.stat().st_mode & 0o777 == 0o600
    written = json.loads(path.read_text())["cameras"]["left"]["source"]
    assert RTSP.items() <= written.items()
