"""`ssn-agent demo`: the main job on a drawn line, seen by a real subscriber on a real broker."""

import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from datetime import datetime
from importlib import resources
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ssn_agent.capture.drivers.drawn import part_name
from ssn_agent.capture.settings import LineSource
from ssn_agent.demo.broker import demo_broker
from ssn_agent.demo.line import ProductionLine
from ssn_agent.demo.sheet import Picture, tile, write_sheet
from ssn_agent.demo.watch import Watcher
from ssn_agent.errors import AgentError, UsageError
from ssn_agent.ledger.reader import CameraStats, open_ledger, quantile, stats
from ssn_agent.processes import Stop
from ssn_contract.messages import Verdict, VerdictKind
from ssn_contract.topics import Station, Topics

CAMERA = "line"
STATION = Station(site="demo", line="line-1", station="box-1")
BUNDLE = "demo-1.0.0.ssn"
THRESHOLD = 0.65
"""FAIL from this score on. Chosen on 1000 parts of a line in the "train" namespace (seed 3), as the
lowest step of 0.05 at which at most 1 % of its good parts fail: 0.7 %, and 95.1 % of the bad."""
AGENT_END_S = 120.0
SHEET_FAILS = 12
SHEET_PASSES = 4

_SETTINGS = """\
# The demo's settings; every key is explained in the README.
data_dir = "{data}"
runtime_dir = "{runtime}"

[station]
site = "{station.site}"
line = "{station.line}"
station = "{station.station}"

[broker]
host = "127.0.0.1"
port = {port}

[cameras.{camera}]
bundle = "{bundle}"
threshold = {threshold}

[cameras.{camera}.source]
kind = "line"
seed = {seed}
fps = {fps}
"""


def show(out: Path, seconds: float, fps: float, seed: int) -> None:
    """Run the demo for some seconds (0: until Ctrl-C) into a new folder below `out`.

    Raises AgentError where the agent fails, or where broker and ledger do not agree.
    """
    console = Console()
    stop = Stop(interactive=True)
    folder = (out / f"{datetime.now().astimezone():%Y%m%d-%H%M%S}").absolute()
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        msg = (
            f"--out {folder}: cannot be made ({error.strerror}); give a folder that can be written"
        )
        raise UsageError(msg) from error
    line = ProductionLine(seed, LineSource().defect_rate)
    with tempfile.TemporaryDirectory(prefix="ssn-demo-") as runtime, demo_broker(folder) as port:
        text = _SETTINGS.format(
            data=folder,
            runtime=runtime,
            station=STATION,
            port=port,
            camera=CAMERA,
            bundle=resources.files("ssn_agent.demo") / BUNDLE,
            threshold=THRESHOLD,
            seed=seed,
            fps=fps,
        )
        settings = folder / "agent.toml"
        settings.write_text(text)
        console.print(f"broker on 127.0.0.1:{port}, topics below {Topics(STATION).root}/")
        console.print(f"look on: ssn-agent status -c {settings}", soft_wrap=True)
        watcher = Watcher(port, Topics(STATION), lambda verdict: _print(console, verdict))
        try:
            elapsed_s = _run_agent(settings, folder / "agent.log", seconds, stop)
            found = stats(open_ledger(folder / "ledger.sqlite"))[0]
            watcher.wait_for(found.triggers, timeout_s=5.0)
        finally:
            watcher.close()
    _write_contact_sheet(folder / "contact-sheet.png", line, watcher)
    _summarise(console, found, watcher, line, elapsed_s)
    console.print(f"ledger         {folder / 'ledger.sqlite'}", soft_wrap=True)
    console.print(f"heatmaps       {folder / 'heatmaps'}", soft_wrap=True)
    if watcher.verdicts:
        console.print(f"contact sheet  {folder / 'contact-sheet.png'}", soft_wrap=True)
    _compare(found, watcher)


def _run_agent(settings: Path, log: Path, seconds: float, stop: Stop) -> float:
    """Run the agent until the time is up, then end it in order; return the seconds it served."""
    command = [sys.executable, "-m", "ssn_agent.cli", "run", "--config", str(settings)]
    started = time.monotonic()
    with log.open("wb") as sink:
        agent = subprocess.Popen(command, stderr=sink, start_new_session=True)
        while not stop and agent.poll() is None:
            if seconds and time.monotonic() - started >= seconds:
                break
            stop.wait(0.1)
        elapsed_s = time.monotonic() - started
        if agent.poll() is None:
            agent.send_signal(signal.SIGTERM)
        try:
            code = agent.wait(AGENT_END_S)
        except subprocess.TimeoutExpired:
            agent.kill()
            code = agent.wait()
    if code != 0:
        msg = f"the agent ended with exit code {code}; its log is {log}"
        raise AgentError(msg)
    return elapsed_s


def _print(console: Console, verdict: Verdict) -> None:
    colour = {"PASS": "green", "FAIL": "red", "INVALID": "yellow"}[verdict.verdict.value]
    score = "     " if verdict.score is None else f"{verdict.score:.3f}"
    detail = verdict.reason.value if verdict.reason else ""
    if verdict.defects:
        first = verdict.defects[0]
        detail = f"{len(verdict.defects)} region(s), peak at ({first.peak_x}, {first.peak_y})"
    console.print(
        f"{verdict.triggered_at:%H:%M:%S.%f}"[:-3],
        f"{verdict.sequence:>6}  {verdict.part_id}  [{colour}]{verdict.verdict.value:<7}[/]",
        f"{score}  {verdict.latency_ms:6.1f} ms  {detail}",
        highlight=False,
        soft_wrap=True,
    )


def _number(verdict: Verdict) -> int:
    """Return the part's number on the line."""
    return int(str(verdict.part_id).removeprefix(part_name(0)[:-6]))


def _write_contact_sheet(path: Path, line: ProductionLine, watcher: Watcher) -> None:
    verdicts = sorted(watcher.verdicts.values(), key=lambda v: v.sequence)
    fails = [v for v in verdicts if v.verdict is VerdictKind.FAIL][:SHEET_FAILS]
    passes = [v for v in verdicts if v.verdict is VerdictKind.PASS][:SHEET_PASSES]
    tiles: list[Picture] = []
    for verdict in [*fails, *passes]:
        number = _number(verdict)
        truth = line.defect(number) or "good"
        judged = f"{verdict.verdict.value} {verdict.score:.3f}"
        caption = f"{verdict.part_id} {judged} [{truth}]"
        heatmap = watcher.heatmaps.get(verdict.sequence)
        tiles.append(tile(line.part(number).image, verdict, heatmap, caption))
    if tiles:
        write_sheet(path, tiles)


def _summarise(
    console: Console, found: CameraStats, watcher: Watcher, line: ProductionLine, elapsed_s: float
) -> None:
    seen = watcher.counts()
    invalid = found.counts.invalid.total()
    pending = found.triggers - found.counts.closed
    table = Table("", "triggers", "PASS", "FAIL", "INVALID", "pending", title="Summary")
    ledger = [found.triggers, found.counts.passed, found.counts.failed, invalid, pending]
    broker = [sum(seen.values()), seen["PASS"], seen["FAIL"], seen["INVALID"], 0]
    table.add_row("ledger", *map(str, ledger))
    table.add_row("subscriber", *map(str, broker))
    console.print(table)
    times = Table(
        "trigger to", "median ms", "p99 ms", title=f"{found.triggers / elapsed_s:.1f} parts/s"
    )
    times.add_row("verdict", *map(_figure, (found.latency_median_ms, found.latency_p99_ms)))
    delays = sorted(watcher.delays_ms)
    times.add_row("subscriber", *(_figure(quantile(delays, q)) for q in (0.5, 0.99)))
    console.print(times)
    drawn, failed = Counter[str](), Counter[str]()
    for verdict in watcher.verdicts.values():
        kind = line.defect(_number(verdict)) or "good"
        drawn[kind] += 1
        failed[kind] += verdict.verdict is VerdictKind.FAIL
    truth = Table("drawn as", "parts", "FAIL", title="Against what was drawn")
    for kind in sorted(drawn, key=lambda kind: (kind != "good", kind)):
        truth.add_row(kind, str(drawn[kind]), str(failed[kind]))
    console.print(truth)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _compare(found: CameraStats, watcher: Watcher) -> None:
    """Raise AgentError where the subscriber and the ledger do not agree."""
    seen = watcher.counts()
    ledger = (found.counts.passed, found.counts.failed, found.counts.invalid.total())
    subscriber = (seen["PASS"], seen["FAIL"], seen["INVALID"])
    if watcher.problems:
        msg = f"the subscriber could not read a message: {watcher.problems[0]}"
        raise AgentError(msg)
    if ledger != subscriber or found.triggers != found.counts.closed:
        msg = f"ledger {ledger} and subscriber {subscriber} (PASS, FAIL, INVALID) do not agree"
        raise AgentError(msg)
