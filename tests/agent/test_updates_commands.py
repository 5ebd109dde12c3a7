"""`ssn-agent models`: what is decided is shown, and what is asked is taken, or said not to be."""

import json
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from ssn_agent.frames.lock import take_runtime
from ssn_agent.frames.notes import ModelNote
from ssn_agent.frames.runtime import RuntimeFiles
from ssn_agent.ledger.model_events import ModelEvents, ModelEventWriter
from ssn_agent.ledger.runtime_facts import runtime_facts
from ssn_agent.settings import Settings
from ssn_agent.updates import commands
from ssn_agent.updates.request import Request, forget_request, read_request
from ssn_agent.updates.state import (
    Event,
    Followed,
    ModelsState,
    Phase,
    Stored,
    read_state,
    write_state,
)
from support.ledgers import open_writer, settings_in
from support.records import START_UTC_NS
from support.waiting import wait_until

Command = Callable[..., tuple[int, str, str]]
AT = datetime(2026, 1, 1, 6, tzinfo=timezone.utc)
ENGINE = "onnxruntime-cpu/fp32"
NEW = Stored(name="screw", version="1.1.0", digest="ef" * 32, path=Path("/new.ssn"))
WORSE = "ab" * 32
PROBATION = Followed(
    phase=Phase.PROBATION, since=AT, in_force=NEW, refused={WORSE: "worse: 3 of [40]"}
)


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    root = tmp_path / "root.json"
    root.write_text("{}")
    channel = {"url": "http://127.0.0.1:1", "root_file": root, "bundles": ["screw"]}
    source = {"kind": "folder", "path": str(tmp_path / "images")}
    cameras = {"left": {"source": source, "follow": "screw"}}
    with tempfile.TemporaryDirectory(prefix="ssn-") as runtime:
        made = settings_in(tmp_path, runtime_dir=Path(runtime), channel=channel, cameras=cameras)
        open_writer(made)
        write_state(made.models_file, ModelsState(followed={"screw": PROBATION}))
        yield made


def at(settings: Settings) -> tuple[object, ...]:
    """Write a settings file, and return how to name it."""
    path = settings.data_dir / "agent.toml"
    channel = settings.channel
    assert channel is not None
    path.write_text(
        f"data_dir = '{settings.data_dir}'\nruntime_dir = '{settings.runtime_dir}'\n"
        f"[channel]\nurl = '{channel.url}'\nroot_file = '{channel.root_file}'\n"
        "bundles = ['screw']\n"
        "[cameras.left]\nfollow = 'screw'\nsource.kind = 'folder'\nsource.path = '/images'\n"
    )
    return ("-c", path)


@contextmanager
def agent(settings: Settings, act: Callable[[Request], None] | None = None) -> Iterator[None]:
    """Hold the runtime directory as an agent does, and take what is asked as `act` says."""
    files = RuntimeFiles(settings.runtime_dir)
    lock = take_runtime(files)
    files.settings.write_text(settings.model_dump_json())
    ended = threading.Event()

    def serve() -> None:
        while not ended.wait(0.01):
            asked = None if act is None else read_request(files.update_request)
            if act is not None and asked is not None:
                act(asked)
                forget_request(files.update_request)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        os.close(lock)


def test_show_says_where_each_name_stands_what_is_refused_and_that_no_agent_runs(
    ssn_agent: Command, settings: Settings
) -> None:
    code, out, err = ssn_agent("models", "show", *at(settings))
    assert code == 0
    for word in ("screw", "probation", "1.1.0", "the settings'"):
        assert word in out
    assert f"screw {WORSE[:12]} refused: worse: 3 of [40]" in out
    assert err == f"what judges is not known: no agent runs in {settings.runtime_dir}\n"
    settings.models_file.unlink()
    with agent(settings):
        code, out, err = ssn_agent("models", "show", *at(settings))
    assert (code, err) == (0, "")
    assert "idle" in out


def test_history_is_printed_newest_first_with_what_was_measured_and_what_judges(
    ssn_agent: Command, settings: Settings
) -> None:
    step: dict[str, Any] = {"follows": "screw", "bundle": NEW, "figures": {"parts": 200}}
    steps = [
        Event.model_validate({"id": UUID(int=i), "at": AT, "step": name, "detail": why, **step})
        for i, (name, why) in enumerate([("pulled", None), ("refused", "worse")])
    ]
    write_state(settings.models_file, ModelsState(events=steps))
    events = ModelEvents(settings, ModelEventWriter(open_writer(settings)._engine))
    note = ModelNote(START_UTC_NS, "cd" * 32, "screw", "1.0.0", ENGINE, "")
    events.turn({"left": note}, can_write=True)
    lines = ssn_agent("models", "history", "--json", *at(settings))[1].splitlines()
    found = [json.loads(line) for line in lines]
    assert [one["step"] for one in found] == ["in_force", "refused", "pulled"]
    assert found[0]["figures"] == runtime_facts(ENGINE, settings)
    assert found[1]["bundle"]["version"] == "1.1.0"
    assert found[1]["figures"] == {"parts": 200}
    code, out, err = ssn_agent("models", "history", "--limit", 2, *at(settings))
    assert code == 0
    assert "refused" in out
    assert "pulled" not in out
    assert "the newest 2" in err


def test_a_rollback_is_asked_for_and_what_came_of_it_is_said(
    ssn_agent: Command, settings: Settings
) -> None:
    asked: list[Request] = []

    def go_back(request: Request) -> None:
        asked.append(request)
        gone = PROBATION.model_copy(update={"phase": Phase.IDLE, "in_force": None})
        write_state(settings.models_file, ModelsState(followed={"screw": gone}))

    order = ("models", "rollback", "screw", "--by", "m.weber", *at(settings))
    with agent(settings, go_back):
        done = ssn_agent(*order)
        again = ssn_agent(*order)
    line = f"screw: back from 1.1.0 {'ef' * 6} to the settings' bundle, by m.weber\n"
    assert done == (0, line, "")
    [request] = asked
    assert (request.action, request.follows, request.by) == ("rollback", "screw", "m.weber")
    assert again[0] == 1
    assert "nothing to go back from" in again[2]


def test_a_retry_takes_the_beginning_of_a_refused_digest_alone(
    ssn_agent: Command, settings: Settings
) -> None:
    asked: list[Request] = []

    def try_again(request: Request) -> None:
        asked.append(request)
        more = PROBATION.model_copy(update={"refused": {}})
        write_state(settings.models_file, ModelsState(followed={"screw": more}))

    with agent(settings, try_again):
        strange = ssn_agent("models", "retry", "screw", "cd", "--by", "k", *at(settings))
        done = ssn_agent("models", "retry", "screw", "abab", "--by", "k", *at(settings))
    assert strange[0] == 2
    assert f"refused are {WORSE[:12]}" in strange[2]
    assert done == (0, f"screw: {WORSE[:12]} is tried again, by k\n", "")
    [request] = asked
    assert (request.action, request.digest, request.by) == ("retry", WORSE, "k")


def test_what_the_agent_does_not_do_or_does_not_take_is_said(
    ssn_agent: Command, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    rollback = ("models", "rollback", "screw", "--by", "m.weber", *at(settings))
    with agent(settings, lambda _: None):
        code, _, problem = ssn_agent(*rollback)
        assert code == 1
        assert "1.1.0 efefefefefef judges on; the log says why" in problem
        code, _, problem = ssn_agent("models", "retry", "screw", "ab", "--by", "m", *at(settings))
        assert code == 1
        assert "stays refused" in problem
    monkeypatch.setattr(commands, "WAIT_S", 0.3)
    with agent(settings):
        code, _, problem = ssn_agent(*rollback)
        assert code == 1
        assert "it stays asked" in problem
        assert "has not been taken yet" in ssn_agent(*rollback)[2]


@pytest.mark.parametrize("action", [("rollback", "screw"), ("retry", "screw", "ab")])
def test_where_no_agent_runs_nothing_is_asked(
    ssn_agent: Command, settings: Settings, action: tuple[str, ...]
) -> None:
    code, _, problem = ssn_agent("models", *action, "--by", "m.weber", *at(settings))
    assert code == 3
    assert f"no agent runs in {settings.runtime_dir}" in problem
    assert not RuntimeFiles(settings.runtime_dir).update_request.exists()


def test_a_name_that_nothing_follows_and_a_nameless_asker_are_wrong_use(
    ssn_agent: Command, settings: Settings
) -> None:
    with agent(settings):
        other = ssn_agent("models", "rollback", "nut", "--by", "m", *at(settings))
        nobody = ssn_agent("models", "rollback", "screw", "--by", "", *at(settings))
    assert (other[0], nobody[0]) == (2, 2)
    assert "followed are screw" in other[2]
    assert "rollback.by" in nobody[2]


def test_after_a_pull_by_hand_an_agent_that_follows_bundles_looks_at_its_channel(
    settings: Settings,
) -> None:
    announced = RuntimeFiles(settings.runtime_dir).announced
    commands.look_now(settings.runtime_dir)
    assert not announced.exists()
    with agent(settings):
        commands.look_now(settings.runtime_dir)
        wait_until(announced.exists, 1, "not touched")
    assert read_state(settings.models_file).followed["screw"] == PROBATION
