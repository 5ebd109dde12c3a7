"""A bundle that the channel names comes into force when it has earned it, and out again if not."""

import hashlib
import json
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest

from ssn_agent.bundles.archive import Bundle
from ssn_agent.bundles.in_use import bundles_in_use, channel_of
from ssn_agent.errors import ChannelError, SettingsError, UpdateError
from ssn_agent.frames.runtime import RuntimeFiles
from ssn_agent.inference.challenge_state import (
    Event,
    Item,
    ItemState,
    Standing,
    challenge_file,
    write_standing,
)
from ssn_agent.inference.swapping import Swapped, write_swapped
from ssn_agent.processes import start_process
from ssn_agent.supervisor.note import SupervisorNote, read_note, write_note
from ssn_agent.updates import driver as driver_module
from ssn_agent.updates import pulling as pulling_module
from ssn_agent.updates.note import read_alarms
from ssn_agent.updates.request import Request, write_request
from ssn_agent.updates.shadow_process import ShadowProcess
from ssn_agent.updates.state import Followed, ModelsState, Phase, Stored, write_state
from ssn_contract.messages import InvalidReason, ProcessStatus, VerdictKind
from support.agent import Agent
from support.bundles import SIZE, manifest, write_brightness_bundle
from support.channels import NAME, Plant, pull_into, static_files
from support.killed import kill_at_each_step
from support.mosquitto import free_port
from support.updates import ALIKE, Box, Scripted, closing, follow_into, following, label_parts
from support.waiting import wait_until

CALIBRATION = {"threshold": 0.9, "slope": 10.0}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    folder = tmp_path_factory.mktemp("served")
    with static_files(folder) as url:
        yield folder, url


@pytest.fixture
def plant(served: tuple[Path, str], tmp_path: Path) -> Plant:
    made = Plant.made(served[0] / tmp_path.name)
    made.publish("1.0.0")
    return made


@pytest.fixture
def runtime() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ssn-") as folder:
        yield Path(folder)


class Station:
    """A station of the plant's channel, judged by version 0.9.0 at first."""

    def __init__(self, served: tuple[Path, str], plant: Plant, home: Path, runtime: Path) -> None:
        self.home = home
        self._url = f"{served[1]}/{plant.home.name}/channel"
        self._root = Path(shutil.copy(plant.metadata / "1.root.json", home / "root.json"))
        self._runtime = runtime
        self.first = write_brightness_bundle(home / "first.ssn", version="0.9.0")

    def box(self, bundle: Path | None = None, **changes: Any) -> Box:
        return Box(following(self.home, self._runtime, self._url, self._root, bundle, **changes))


@pytest.fixture
def station(served: tuple[Path, str], plant: Plant, tmp_path: Path, runtime: Path) -> Station:
    return Station(served, plant, tmp_path, runtime)


def alarms(box: Box) -> str:
    return "\n".join(read_alarms(box.files.updates))


def test_a_bundle_that_judges_alike_is_pulled_shadowed_swapped_to_and_kept(
    station: Station,
) -> None:
    box = station.box(station.first)
    with closing(box.updates()) as updates:
        box.run(updates, lambda: "kept" in box.steps, part={})
    assert box.steps == ["pulled", "tried", "shadow", "shadow", "swapped", "kept"]
    followed = box.followed
    assert followed.phase is Phase.IDLE
    assert followed.in_force is not None
    assert followed.in_force.version == "1.0.0"
    assert followed.before is None
    begins, ends = (e for e in box.state.events if e.step == "shadow")
    assert begins.detail == "begins"
    assert ends.figures["frames"] == 20
    assert ends.figures["disagreement"] == 0
    assert "no labelled images" in str(ends.detail)
    assert box.state.events[1].figures["engine"] == "onnxruntime-cpu/fp32"
    assert alarms(box) == ""


def trained_on_data(paths: list[Path]) -> bytes:
    """Return a `data.json` that lists these images."""
    train = [{"digest": hashlib.sha256(path.read_bytes()).hexdigest()} for path in paths]
    return json.dumps({"parts": {"train": train, "tune": [], "test": []}}).encode()


def say_inference_died(box: Box, times: int) -> None:
    """Have the supervisor say so."""
    status = ProcessStatus(name="inference", state="running", died=times, hung=0, over_memory=0)
    write_note(box.files.supervisor, SupervisorNote(processes=[status]))


def children_of(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found]


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def forget_steps(box: Box) -> None:
    """Have what the next process tells be seen."""
    write_state(box.settings.models_file, box.state.model_copy(update={"events": []}))


def test_a_bundle_that_loses_on_the_stations_labelled_images_is_refused(
    station: Station, plant: Plant
) -> None:
    precision = manifest()["precisions"][0] | {"score": CALIBRATION}
    plant.bundle("2.0.0", precisions=[precision])
    plant.publish("2.0.0")
    box = station.box(station.first)
    label_parts(box, bad=6, good=2)
    with closing(box.updates()) as updates:
        box.run(updates, lambda: "refused" in box.steps, part={})
        assert box.steps == ["pulled", "tried", "shadow", "refused"]
        event = box.state.events[-1]
        assert "of 8 it judges 2 rightly, the one in force 8; 6 against it, 0 for it" in str(
            event.detail
        )
        assert event.figures["own_p"] == round(1 / 64, 4)
        assert event.figures["own_auroc"] == event.figures["own_auroc_before"] == 1.0
        assert box.followed.phase is Phase.IDLE
        assert box.followed.in_force is None
        for _ in range(20):  # and is not taken again by itself
            updates.turn()
        assert box.steps[-1] == "refused"


def test_images_that_either_bundle_was_trained_on_are_left_out(
    station: Station, plant: Plant
) -> None:
    box = station.box(station.first)
    paths = label_parts(box, bad=3, good=1)
    trained = trained_on_data(paths[:2])
    plant.bundle("2.0.0", entries={"data.json": trained})
    plant.publish("2.0.0")
    with closing(box.updates()) as updates:
        box.run(updates, lambda: box.phase is Phase.PROBATION, part={})
    figures = next(e for e in box.state.events if e.figures.get("frames")).figures
    assert (figures["own_images"], figures["own_left_out"]) == (2, 2)


def test_a_bundle_whose_vectors_do_not_reproduce_here_is_refused_with_the_reason(
    station: Station, plant: Plant
) -> None:
    plant.bundle("2.0.0", vectors=[{**manifest()["vectors"][0], "score": 0.9}])
    plant.publish("2.0.0")
    box = station.box(station.first)
    with closing(box.updates()) as updates:
        box.run(updates, lambda: "refused" in box.steps)
    assert box.steps == ["pulled", "refused"]
    assert "does not reproduce vectors/0.png: score differs by" in str(box.state.events[-1].detail)


def test_where_nothing_judges_a_bundle_is_tried_and_swapped_to_at_once(station: Station) -> None:
    box = station.box()
    with closing(box.updates()) as updates:
        box.run(updates, lambda: box.phase is Phase.PROBATION)
    assert box.steps == ["pulled", "tried", "swapped"]


@pytest.mark.parametrize("judge", ["nothing", "the bundle itself"])
def test_where_the_settings_bundle_does_not_open_the_line_does_not_wait_for_it(
    station: Station, plant: Plant, judge: str
) -> None:
    box = station.box(station.first)
    station.first.write_bytes(station.first.read_bytes()[:-100])
    part: dict[str, Any] = {"reason": InvalidReason.NO_MODEL, "digest": ""}
    if judge == "the bundle itself":  # inference had it before, and has nothing else
        part = {"digest": Bundle.open(plant.bundle("1.0.0")).digest}
    with closing(box.updates()) as updates:
        box.run(updates, lambda: "swapped" in box.steps, part=part)
    ends = [event for event in box.state.events if event.step == "shadow"][-1]
    assert ends.figures["frames"] == 0


def test_a_bundle_that_the_settings_name_already_is_not_tried(
    station: Station, plant: Plant
) -> None:
    box = station.box(plant.bundle("1.0.0"))
    with closing(box.updates()) as updates:
        box.run(updates, lambda: (box.settings.bundle_dir / f"{NAME}-1.0.0.ssn").exists())
        for _ in range(20):
            updates.turn()
    assert box.steps == []


# Instead of its shadow, what it would tell: what comes after it is tested


def on_probation(box: Box, updates: Any) -> None:
    """Have 40 parts judged by the old bundle, and the new one swapped to."""
    for _ in range(40):
        box.part()
    box.done()
    box.run(updates, lambda: box.phase is Phase.PROBATION)


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ({"reason": InvalidReason.DARK}, "30 of 30 parts INVALID, before 0 of 40"),
        ({"reason": InvalidReason.LATE}, "30 of 30 parts late, before 0 of 40"),
        ({"fails": True}, "30 of 30 judged parts FAIL, in its shadow 0 of "),
        ({"took_ms": 250.0}, "250 ms from trigger to result, before 1 "),
    ],
)
def test_a_bundle_that_judges_worse_on_probation_is_gone_back_from(
    station: Station, part: dict[str, Any], words: str
) -> None:
    box = station.box(station.first, updates={"probation_parts": 60})
    with closing(box.updates(start_shadow=ALIKE)) as updates:
        on_probation(box, updates)
        new = box.judging()
        assert box.followed.baseline.parts == 40
        box.run(updates, lambda: "rolled_back" in box.steps, part=part)
        assert words in str(box.state.events[-1].detail)
        assert box.state.events[-1].bundle.digest == new
        assert box.followed.in_force is None
        assert new in box.followed.refused
        for _ in range(20):
            updates.turn()
        assert box.steps[-1] == "rolled_back"


def test_a_bundle_that_fails_the_challenge_of_a_camera_is_gone_back_from(station: Station) -> None:
    challenge = {"good_images": str(station.first.parent), "bad_images": str(station.first.parent)}
    box = station.box(station.first, challenge=challenge)
    with closing(box.updates(start_shadow=ALIKE)) as updates:
        on_probation(box, updates)
        item = Item(kind="image", expected="bad", name="scratch.png")
        now = datetime.now(timezone.utc)
        judged = Event(
            id=uuid4(),
            at=now,
            what="judged",
            item=item,
            verdict=VerdictKind.PASS,
            score=0.1,
            bundle_digest=box.judging(),
            is_right=False,
        )
        standing = Standing(
            state="failed",
            since=now,
            due_at=now,
            awaited_since=None,
            items=(ItemState(item=item, is_right=False),),
            events=(judged,),
        )
        write_standing(challenge_file(box.settings.data_dir, "left"), standing)
        box.run(
            updates,
            lambda: "rolled_back" in box.steps,
            part={"reason": InvalidReason.CHALLENGE},
        )
    why = str(box.state.events[-1].detail)
    assert why == "left: fails its challenge: scratch.png is bad, and PASS"


def test_what_the_camera_or_the_ledger_did_is_not_held_against_a_bundle(station: Station) -> None:
    box = station.box(station.first)
    with closing(box.updates(start_shadow=ALIKE)) as updates:
        on_probation(box, updates)
        for reason in (InvalidReason.LOST, InvalidReason.OVERRUN, InvalidReason.LEDGER) * 20:
            box.part(reason=reason)
        box.run(updates, lambda: "kept" in box.steps, part={})
    assert box.state.events[-1].figures["invalid"] == 0


def test_a_bundle_that_inference_cannot_load_is_gone_back_from_at_once(station: Station) -> None:
    box = station.box(station.first)
    with closing(box.updates(start_shadow=ALIKE)) as updates:
        box.run(updates, lambda: "rolled_back" in box.steps, problem="no memory")
    assert "inference does not load it: no memory" in str(box.state.events[-1].detail)


def test_a_swap_that_inference_says_nothing_of_is_gone_back_from(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver_module, "SWAP_S", 0.5)
    box = station.box(station.first)
    with closing(box.updates(start_shadow=ALIKE)) as updates:
        box.run(updates, lambda: "rolled_back" in box.steps, swaps=False)
    assert "inference has not loaded it within" in str(box.state.events[-1].detail)


def test_a_bundle_that_inference_does_not_find_any_more_on_probation_is_not_kept(
    station: Station,
) -> None:
    box = station.box(station.first)
    with closing(box.updates(start_shadow=ALIKE)) as updates:
        on_probation(box, updates)
        first = Bundle.open(station.first).digest
        write_swapped(box.files.swapped(NAME), Swapped(digest=first, problem="its file is damaged"))
        part = {"digest": first}
        box.run(updates, lambda: box.phase is Phase.IDLE, part=part, swaps=False)
    assert box.steps[-1] == "rolled_back"
    assert "inference does not load it: its file is damaged" in str(box.state.events[-1].detail)


def test_a_shadow_that_could_not_be_started_has_not_died(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver_module, "RETRY_S", 0.0)
    left = [UpdateError("the shadow cannot be started (Resource temporarily unavailable)")] * 3

    def started(*arguments: Any) -> Scripted:
        if left:
            raise left.pop()
        return ALIKE(*arguments)

    box = station.box(station.first)
    with closing(box.updates(start_shadow=started)) as updates:
        on_probation(box, updates)
    assert left == []


def test_a_bundle_with_which_inference_dies_is_gone_back_from(station: Station) -> None:
    box = station.box(station.first)
    say_inference_died(box, 3)
    with closing(box.updates(start_shadow=ALIKE)) as updates:
        on_probation(box, updates)
        updates.turn()
        assert box.phase is Phase.PROBATION
        say_inference_died(box, 4)
        box.run(updates, lambda: "rolled_back" in box.steps)
    assert "inference died, hung or took too much memory" in str(box.state.events[-1].detail)


def test_a_person_goes_back_after_it_was_kept_and_has_it_tried_again(station: Station) -> None:
    box = station.box(station.first)
    with closing(box.updates(start_shadow=ALIKE)) as updates:
        on_probation(box, updates)
        new = box.judging()
        box.run(updates, lambda: "kept" in box.steps, part={})
        request = Request(action="rollback", follows=NAME, by="m.weber")
        write_request(box.files.update_request, request)
        box.run(updates, lambda: not box.files.update_request.exists())
        assert box.steps[-1] == "rolled_back"
        assert box.state.events[-1].id == request.id
        assert box.state.events[-1].detail == "by hand, by m.weber"
        assert box.followed.in_force is None
        retry = Request(action="retry", digest=new, by="m.weber")
        write_request(box.files.update_request, retry)
        box.run(updates, lambda: box.steps[-1] == "kept", part={})
    assert box.judging() == new
    assert alarms(box) == ""


def test_a_request_that_outlives_the_process_is_done_once(station: Station, plant: Plant) -> None:
    box = station.box(station.first)
    third, second = (
        Stored(name=NAME, version=version, digest=digest * 64, path=plant.bundle(version))
        for version, digest in (("3.0.0", "3"), ("2.0.0", "2"))
    )
    now = datetime.now(timezone.utc)
    judged = Followed(since=now, in_force=third, before=second)
    write_state(box.settings.models_file, ModelsState(followed={NAME: judged}))
    request = Request(action="rollback", follows=NAME, by="m.weber")
    for _ in range(2):  # it was killed before it had removed the request
        write_request(box.files.update_request, request)
        box.updates(start_shadow=Scripted()).turn()
        assert not box.files.update_request.exists()
        assert box.steps == ["rolled_back"]
        assert box.followed.in_force == second


def test_there_must_be_something_to_go_back_to(station: Station) -> None:
    box = station.box()
    with closing(box.updates(start_shadow=ALIKE)) as updates:
        box.run(updates, lambda: "kept" in box.steps, part={})
        request = Request(action="rollback", follows=NAME, by="m.weber")
        write_request(box.files.update_request, request)
        box.run(updates, lambda: not box.files.update_request.exists())
    assert box.steps[-1] == "kept"


def test_a_file_of_decisions_that_cannot_be_read_is_an_alarm_and_stays_as_it_is(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver_module, "RETRY_S", 0.05)
    box = station.box(station.first)
    box.settings.models_file.write_text("hello")
    with closing(box.updates(start_shadow=ALIKE)) as updates:
        for _ in range(5):
            updates.turn()
        assert "models.json: cannot be read" in alarms(box)
        assert box.settings.models_file.read_text() == "hello"
        assert not box.settings.bundle_dir.exists()
        box.settings.models_file.unlink()
        box.run(updates, lambda: "pulled" in box.steps)
    assert alarms(box) == ""


def test_decisions_that_somebody_deletes_begin_anew_at_once(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver_module, "RETRY_S", 0.0)
    box = station.box(station.first)
    with closing(box.updates(start_shadow=ALIKE)) as updates:
        box.run(updates, lambda: "kept" in box.steps, part={})
        box.settings.models_file.write_text("hello")
        updates.turn()
        assert "models.json: cannot be read; what judges goes on" in alarms(box)
        box.settings.models_file.unlink()
        updates.turn()
        assert box.phase is Phase.SHADOW
        assert alarms(box) == ""
        box.run(updates, lambda: "kept" in box.steps, part={})
    assert box.steps == ["pulled", "tried", "shadow", "shadow", "swapped", "kept"]


def test_a_candidate_that_the_channel_names_no_more_is_dropped(
    station: Station, plant: Plant
) -> None:
    box = station.box(station.first)
    with closing(box.updates(start_shadow=Scripted("tried", "begins"))) as updates:
        box.run(updates, lambda: box.steps == ["pulled", "tried", "shadow"])
        plant.publish("2.0.0")
        box.files.announced.touch()
        box.run(updates, lambda: box.steps[3:5] == ["refused", "pulled"])
    dropped, taken = box.state.events[3:5]
    assert dropped.detail == "the channel names brightness 2.0.0 by now"
    assert (dropped.bundle.version, taken.bundle.version) == ("1.0.0", "2.0.0")
    assert box.followed.refused == {}


def test_a_channel_that_is_away_is_an_alarm_and_is_looked_at_again(
    station: Station, plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ssn_agent.updates.pulling.RETRY_S", 0.1)
    away = plant.folder.rename(plant.folder.with_name("away"))
    box = station.box(station.first)
    with closing(box.updates(start_shadow=ALIKE)) as updates:
        box.run(updates, lambda: "does not give a file" in alarms(box))
        away.rename(plant.folder)
        box.files.announced.touch()
        box.run(updates, lambda: "pulled" in box.steps)
    assert alarms(box) == ""


# Killed


def test_a_process_that_is_killed_at_any_step_goes_on_where_it_was(
    station: Station, plant: Plant, tmp_path: Path, runtime: Path
) -> None:
    start = tmp_path / "start"
    shutil.copytree(station.home, start, ignore=shutil.ignore_patterns("start", "killed"))
    url = station.box().settings.channel
    assert url is not None
    root = tmp_path / "root.json"
    pull_into(start / "data", url.url, str(root))  # killed pulls have a test of their own
    arguments = (runtime, url.url, root)
    steps = kill_at_each_step(follow_into, start, tmp_path / "killed", *arguments)
    # pulled, its shadow begun, tried, at frames, swapping, on probation, kept
    written = [step for step in steps if step.startswith("os.rename /data/.models.json")]
    assert len(written) == 7
    new = Bundle.open(plant.bundle("1.0.0")).digest
    old = Bundle.open(station.first).digest
    for number, step in enumerate(steps, start=1):
        home = tmp_path / "killed" / str(number)
        left = Box(following(home, runtime / str(number), url.url, root, home / "first.ssn"))
        assert left.judging() in {old, new}, step
        with closing(left.updates(start_shadow=ALIKE)) as updates:
            left.run(updates, lambda left=left: "kept" in left.steps, part={}, parts=10)
        assert left.judging() == new, step
        told = left.steps
        assert len({event.id for event in left.state.events}) == len(told), step
        once = ("pulled", "swapped", "kept")
        assert [told.count(word) for word in once] == [1, 1, 1], step
        assert set(told) == {*once, "tried", "shadow"}, step


def test_a_candidate_that_kills_its_shadow_twice_is_refused(station: Station) -> None:
    box = station.box(station.first)
    pids: list[int] = []

    def started(*arguments: Any) -> ShadowProcess:
        shadow = ShadowProcess(*arguments)
        pids.append(shadow.pid)
        os.kill(shadow.pid, signal.SIGKILL)
        return shadow

    with closing(box.updates(start_shadow=started)) as updates:
        box.run(updates, lambda: "refused" in box.steps)
    assert len(pids) == 2
    assert "died 2 times" in str(box.state.events[-1].detail)


def test_a_shadow_that_takes_too_much_memory_is_ended_and_its_bundle_refused(
    station: Station,
) -> None:
    box = station.box(station.first)

    def started(*arguments: Any) -> ShadowProcess:
        return ShadowProcess(*[*arguments[:-1], 1])

    with closing(box.updates(start_shadow=started)) as updates:
        box.run(updates, lambda: "refused" in box.steps)
    assert "more than 1 MiB (memory.inference_mib)" in str(box.state.events[-1].detail)


def test_a_shadow_ends_with_the_process_and_an_orderly_end_does_not_count(
    station: Station,
) -> None:
    box = station.box(station.first)
    command = ["ssn_agent.updates.process", str(box.files.settings), str(os.getpid())]
    for ending, attempts in ((signal.SIGTERM, 0), (signal.SIGKILL, 1)):
        process = start_process(command)
        wait_until(lambda: box.steps[-1:] == ["shadow"], 30, "no shadow")
        (shadow,) = children_of(process.pid)
        process.send_signal(ending)
        process.wait(30)
        wait_until(partial(is_gone, shadow), 3, "the shadow lives on")
        assert box.followed.attempts == attempts
        forget_steps(box)


def test_an_agent_that_follows_a_bundle_has_the_process_and_tells_its_alarms(
    tmp_path: Path, runtime: Path
) -> None:
    (tmp_path / "root.json").write_text("hello")
    channel = {"url": "http://127.0.0.1:1", "root_file": str(tmp_path / "root.json")}
    camera = {"follow": NAME, "source": {"kind": "folder", "path": str(tmp_path), "watch": True}}
    agent = Agent(tmp_path, runtime, free_port(), camera, top={"channel": channel})
    note = RuntimeFiles(runtime).supervisor

    def tells() -> bool:
        said = read_note(note)
        states = {process.name: process.state for process in said.processes}
        return states.get("updates") == "running" and any(
            "updates: " in text and "not a root.json" in text for text in said.alarms
        )

    agent.start()
    try:
        wait_until(tells, 60, "no alarm of the updates process")
    finally:
        assert agent.stop() == 0, agent.log()


def test_a_bundle_that_sees_frames_otherwise_is_an_alarm_and_no_refusal(
    station: Station, plant: Plant
) -> None:
    precision = manifest()["precisions"][0] | {"score": {"threshold": 0.1, "slope": 10.0}}
    plant.bundle("2.0.0", precisions=[precision])
    plant.publish("2.0.0")
    box = station.box(station.first)
    with closing(box.updates()) as updates:
        box.run(updates, lambda: box.phase is Phase.PROBATION, part={})
        assert "20 frames, 100.0% seen otherwise" in alarms(box)
    figures = next(event for event in box.state.events if event.figures.get("frames")).figures
    assert (figures["pass_to_fail"], figures["fail_to_pass"]) == (20, 0)
    assert figures["largest_difference"] == pytest.approx(0.79 - 60 / 255, abs=0.01)


def test_pictures_that_a_bundle_would_not_judge_are_seen_otherwise(
    station: Station, plant: Plant
) -> None:
    bright = [np.full((SIZE, SIZE), 200 + i, np.uint8) for i in range(40)]
    plant.bundle("2.0.0", good=bright)
    plant.publish("2.0.0")
    box = station.box(station.first)
    with closing(box.updates()) as updates:
        box.run(updates, lambda: box.phase is Phase.PROBATION, part={"gray": 10})
    figures = next(event for event in box.state.events if event.figures.get("frames")).figures
    assert (figures["unfit"], figures["disagreement"]) == (20, 1.0)


def test_bundles_that_may_judge_again_are_in_use_and_an_unknown_state_deletes_none(
    station: Station,
) -> None:
    box = station.box(station.first)
    with closing(box.updates(start_shadow=ALIKE)) as updates:
        box.run(updates, lambda: "kept" in box.steps, part={})
    assert bundles_in_use(box.settings) == {
        station.first,
        box.settings.bundle_dir / f"{NAME}-1.0.0.ssn",
    }
    box.settings.models_file.write_text("hello")
    with pytest.raises(UpdateError):
        bundles_in_use(box.settings)


def test_what_is_followed_is_pulled_beside_what_the_channel_section_names(
    station: Station,
) -> None:
    settings = station.box(station.first).settings
    assert channel_of(settings).bundles == [NAME]
    assert settings.channel is not None
    more = settings.channel.model_copy(update={"bundles": ["another", NAME]})
    assert channel_of(settings.model_copy(update={"channel": more})).bundles == ["another", NAME]
    with pytest.raises(SettingsError, match="channel: not set"):
        channel_of(settings.model_copy(update={"channel": None}))


def test_a_channel_that_is_away_is_not_asked_again_at_once_however_often_it_is_announced(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def away(*_: Any) -> Any:
        asked.append(1)
        raise ChannelError("it is away")

    monkeypatch.setattr(pulling_module, "look", away)
    box = station.box(station.first)
    pulling = pulling_module.Pulling(box.settings, box.files.announced)

    def turn() -> bool:
        box.files.announced.touch()
        pulling.turn()
        return pulling.problem is not None

    wait_until(turn, 10, "no problem")
    for _ in range(50):
        assert turn()
    assert len(asked) == 1
    monkeypatch.setattr(pulling_module, "RETRY_S", 0.0)
    again = pulling_module.Pulling(box.settings, box.files.announced)
    wait_until(lambda: again.turn() is not None, 10, "no pull")
    for _ in range(50):
        again.turn()
    assert len(asked) == 2  # by schedule, not at once
    box.files.announced.touch()
    wait_until(lambda: again.turn() is not None, 10, "no pull when it is announced")


def test_two_names_in_shadow_take_their_turns(station: Station, plant: Plant) -> None:
    source = {"kind": "folder", "path": "/images"}
    follows = {"left": NAME, "right": "another"}
    cameras = {
        camera: {"source": source, "follow": name, "bundle": str(station.first)}
        for camera, name in follows.items()
    }
    box = station.box(cameras=cameras)
    path = plant.bundle("1.0.0")
    digest = Bundle.open(path).digest  # as the channel names it
    candidate = Stored(name=NAME, version="1.0.0", digest=digest, path=path)
    now = datetime.now(timezone.utc)
    waiting = Followed(since=now, phase=Phase.SHADOW, candidate=candidate)
    both = dict.fromkeys(follows.values(), waiting)
    write_state(box.settings.models_file, ModelsState(followed=both))
    started: list[str] = []

    def shadow(_: Path, name: str, *__: Any) -> Scripted:
        started.append(name)
        return Scripted("tried", "begins", "refused")()

    updates = box.updates(start_shadow=shadow)
    updates.turn()
    assert len(started) == 1
    box.run(updates, lambda: box.steps.count("refused") == 2)
    assert started == ["another", NAME]
    assert box.steps == ["tried", "shadow", "refused"] * 2
    assert [event.follows for event in box.state.events] == ["another"] * 3 + [NAME] * 3
