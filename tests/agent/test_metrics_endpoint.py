"""The endpoint and what it is made of: files of the runtime directory, and nobody waits for it."""

import fcntl
import os
import re
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import pytest
from rich.console import Console

from ssn_agent.errors import AgentError
from ssn_agent.frames.runtime import RuntimeFiles
from ssn_agent.metrics import endpoint, view
from ssn_agent.metrics.endpoint import Endpoint
from ssn_agent.metrics.report import STALE_S, LedgerReport, station_metrics, write_report
from ssn_agent.metrics.settings import MetricsSettings
from ssn_agent.settings import Settings
from ssn_agent.supervisor.note import SupervisorNote, write_note
from ssn_contract.messages import ProcessStatus
from ssn_contract.metrics import StationMetrics
from support.ledgers import settings_in
from support.metrics import scrape
from support.mosquitto import answers, free_port
from support.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests/contract/golden/metrics/valid/online.json"
METRICS = StationMetrics.model_validate_json(GOLDEN.read_text("utf-8"))
REPORTED = METRICS.model_copy(update={"processes": [], "settings": None, "alarms": ["camera: x"]})
LEDGER = ProcessStatus(name="ledger", state="running", died=2, hung=1, over_memory=0)


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    with tempfile.TemporaryDirectory(prefix="ssn-") as runtime:
        made = settings_in(tmp_path, runtime_dir=Path(runtime))
        made.data_dir.mkdir()
        yield made


@pytest.fixture
def files(settings: Settings) -> RuntimeFiles:
    found = RuntimeFiles(settings.runtime_dir)
    found.settings.write_text(settings.model_dump_json())
    pids = {"supervisor": os.getpid(), "ledger": os.getpid()}
    write_note(
        found.supervisor, SupervisorNote(processes=[LEDGER], pids=pids, alarms=["ledger: died"])
    )
    return found


@contextmanager
def serving(settings: Settings, port: int | None = None) -> Iterator[tuple[Endpoint, int]]:
    read = partial(station_metrics, RuntimeFiles(settings.runtime_dir), settings)
    chosen = port or free_port()
    made = Endpoint(MetricsSettings(port=chosen), chosen, read, {"top": 0.5})
    wait_until(lambda: answers(chosen), 10, "it does not answer")
    yield made, chosen


def write_old_report(files: RuntimeFiles, age_s: float) -> None:
    report = LedgerReport(at_s=time.monotonic() - age_s, metrics=REPORTED)
    files.figures.write_text(report.model_dump_json())


def test_a_scrape_says_what_the_ledger_process_reported_and_what_the_supervisor_notes(
    settings: Settings, files: RuntimeFiles
) -> None:
    write_report(files.figures, REPORTED)
    with serving(settings) as (_, port):
        found = scrape(port)
    found.assert_counts_add_up()
    assert found.sum("ssn_verdicts_total", camera="top", verdict="INVALID", reason="late") == 2
    assert found.sum("ssn_verdict_latency_seconds_bucket", camera="top", le="0.1") == 41
    assert found.sum("ssn_verdict_latency_seconds_bucket", camera="top", le="+Inf") == 43
    assert found.sum("ssn_recent_latency_seconds", camera="top", quantile="0.99") == 0.5015
    assert found.sum("ssn_deadline_seconds", camera="top") == 0.5
    assert found.sum("ssn_delivery_delay_seconds_sum") == 2.0
    assert found.sum("ssn_process_restarts_total", process="ledger", reason="hung") == 1
    assert found.sum("ssn_process_memory_bytes", process="ledger") > 2**20
    assert found.sum("ssn_disk_size_bytes") > found.sum("ssn_disk_free_bytes") > 0
    assert (found.sum("ssn_ledger_up"), found.sum("ssn_alarms")) == (1, 2)
    assert found.labels("ssn_camera_info")[0]["bundle"] == "magnetic-tile"
    assert found.labels("ssn_camera_update_info")[0]["step"] == "shadow"
    assert found.sum("ssn_camera_update_timestamp_seconds") > 0
    drift = {"camera": "top", "product": "", "statistic": "brightness"}
    assert (found.sum("ssn_drifts", **drift), found.sum("ssn_drift_median", **drift)) == (1, 92.5)
    assert found.sum("process_start_time_seconds") > 0
    names = {name for name in found.kinds if name.startswith("ssn_")}
    assert names == set(re.findall(r"`(ssn_\w+?)(?:_total)?[`{]", documented()))


def documented() -> str:
    """Return the table of the operations manual."""
    text = (ROOT / "docs" / "operations.md").read_text("utf-8")
    return text.partition("## Metrics\n")[2].partition("\n## ")[0]


def test_a_ledger_process_that_is_silent_is_said_to_be_and_its_last_counts_stay(
    settings: Settings, files: RuntimeFiles
) -> None:
    write_old_report(files, STALE_S + 30)
    with serving(settings) as (_, port):
        found = scrape(port)
    assert found.sum("ssn_triggers_total") == 44
    assert found.sum("ssn_report_age_seconds") >= STALE_S + 30
    assert (found.sum("ssn_ledger_up"), found.sum("ssn_broker_connected")) == (0, 0)
    shown = station_metrics(files, settings)
    assert shown.alarms == ["ledger: has not reported for 40 s", "camera: x", "ledger: died"]


@pytest.mark.parametrize("text", [None, "", '{"at_s": 1.0, "metrics": {}}'])
def test_before_the_first_report_and_where_it_is_of_another_version_the_rest_is_there(
    settings: Settings, files: RuntimeFiles, text: str | None
) -> None:
    if text is not None:
        files.figures.write_text(text)
    with serving(settings) as (_, port):
        found = scrape(port)
    assert found.sum("ssn_ledger_up") == 0
    assert found.labels("ssn_triggers_total") == found.labels("ssn_report_age_seconds") == []
    assert found.sum("ssn_process_restarts_total", process="ledger") == 3
    assert station_metrics(files, settings).alarms[0] == "ledger: has not reported yet"


def test_a_port_that_is_taken_is_a_problem_until_it_is_free(
    settings: Settings, files: RuntimeFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "RETRY_S", 0.05)
    write_report(files.figures, REPORTED)
    with closing(socket.socket()) as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with serving(settings, port) as (made, _):
            wait_until(lambda: made.problem is not None, 10, "no problem is told")
            assert f"127.0.0.1:{port}" in str(made.problem)
    wait_until(lambda: made.problem is None, 10, "the port is free, and nobody takes it")
    assert scrape(port).sum("ssn_triggers_total") == 44


def test_who_connects_and_says_nothing_holds_others_up_for_a_moment_alone(
    settings: Settings, files: RuntimeFiles
) -> None:
    write_report(files.figures, REPORTED)
    with serving(settings) as (_, port), closing(socket.create_connection(("127.0.0.1", port))):
        assert scrape(port).sum("ssn_triggers_total") == 44


def test_an_agent_is_known_by_the_lock_that_it_holds(files: RuntimeFiles) -> None:
    write_report(files.figures, REPORTED)
    with pytest.raises(view.NotRunning, match="no agent runs"):
        view.look(files.root)
    with files.lock.open("w") as lock:
        with pytest.raises(view.NotRunning, match="no agent runs"):  # one was killed
            view.look(files.root)
        fcntl.flock(lock, fcntl.LOCK_EX)
        metrics = view.look(files.root)
    assert view.code_of(metrics) is view.Code.ALARMS
    assert view.code_of(metrics.model_copy(update={"alarms": []})) is view.Code.WELL
    assert metrics.station == METRICS.station


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_who_may_not_read_the_runtime_directory_is_told_so(files: RuntimeFiles) -> None:
    files.root.chmod(0o700)
    os.seteuid(65534)
    try:
        with pytest.raises(view.Unreadable, match=r"cannot be read by this user; ask as root"):
            view.look(files.root)
    finally:
        os.seteuid(0)
    codes = [AgentError.exit_code, view.NotRunning.exit_code, view.Unreadable.exit_code]
    assert codes == [1, 3, 4]


@pytest.mark.parametrize("width", [80, 120])
def test_the_picture_of_a_station_fits_a_terminal(width: int) -> None:
    console = Console(width=width, file=open(os.devnull, "w"))  # noqa: SIM115, PTH123 -- the console's
    with console.capture() as capture:
        console.print(view.render(METRICS.model_copy(update={"alarms": ["left: [red]x[/]"]})))
    text = capture.get()
    assert max(map(len, text.splitlines())) <= width
    for part in ("plant1/line2/box3", "magnetic-tile 1.2.0", "INVALID 43", "late 2", "capture:top"):
        assert part in text
    assert re.search(r"top +running +44 +40 +1 +2 +1 +4\.5 +18\.\d +501\.5", text)
    assert "ALARM  left: [red]x[/]" in text
