"""A station under test: broker, agent, and the witness's two programs beside it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from chaos.lines import LinesReader
from chaos.sender import Plan, is_defective
from chaos.tally import Answer, Evidence, Judged, Offered, recovered_at
from support.agent import Agent, station
from support.bundles import write_brightness_bundle
from support.mosquitto import Mosquitto, free_port
from support.waiting import wait_until

START_S = 180.0
"""On a machine that has much else to do. No bar counts it."""
RECOVERY_LIMIT_S = 120.0
DELIVERY_LIMIT_S = 180.0
"""After these a row is given up; the bars are far below."""
PATIENCE_S = 10.0
"""At the end, for messages that the broker has acknowledged to the agent."""

_LEDGER = """
SELECT camera, epoch, sequence, part_id, verdict, reason, score, published_at IS NOT NULL
FROM streams JOIN triggers ON stream_id = streams.id
LEFT JOIN verdicts ON verdicts.trigger_id = triggers.id
LEFT JOIN outbox ON outbox.trigger_id = triggers.id AND outbox.payload IS NOT NULL
"""


@dataclass
class Rig:
    """What a row works with."""

    agent: Agent
    broker: Mosquitto
    folder: Path
    evidence: Evidence = field(default_factory=Evidence)
    _sender: "subprocess.Popen[bytes] | None" = None
    _subscriber: "subprocess.Popen[bytes] | None" = None
    _readers: dict[str, LinesReader] = field(default_factory=dict)
    subscriptions: int = 0
    truth_is_known: bool = True
    """Whether the bundle tells a part with the witness's bright block from one without."""
    latencies_ms: dict[str, float] = field(default_factory=dict)
    """Of what was judged, from trigger to decision, by part."""

    @property
    def cameras(self) -> list[str]:
        """Return the cameras' names."""
        return ["left", *self.agent.others]

    def start(self, fps: float, **plan: Any) -> None:
        """Start everything, in this order, and return when verdicts flow."""
        self.broker.start()
        self._subscriber = self._program(
            "subscriber", str(self.broker.port), self._list("received")
        )
        wait_until(lambda: self._look().subscriptions > 0, START_S, "no subscription")
        self.broker.save()
        self.agent.start()
        sources = {"left": self.agent.camera, **self.agent.others}
        binds = {name: camera["source"]["bind"] for name, camera in sources.items()}
        wanted = self.folder / "plan.json"
        wanted.write_text(Plan(binds=binds, fps=fps, **plan).model_dump_json())
        # Not before the agent's own start-up is over: that is no fault.
        wait_until(self._cameras_run, START_S, "the cameras do not run")
        self._sender = self._program("sender", str(wanted), str(self.folder))
        wait_until(self._verdicts_flow, START_S, "no PASS from every camera")

    def look(self) -> Evidence:
        """Take up what the witness has noted since."""
        return self._look().evidence

    def wait_for_recovery(self, fault_at: float, camera: str | None = None) -> float:
        """Return how long after a fault a part was judged again that was offered after it."""
        offered, received = len(self.evidence.offered), len(self.evidence.received)
        found: list[float] = []

        def recovered() -> bool:
            self.look()
            new = Evidence(self.evidence.offered[offered:], [], self.evidence.received[received:])
            at = recovered_at(new, fault_at, camera)
            found[:] = [] if at is None else [at - fault_at]
            return bool(found)

        wait_until(recovered, RECOVERY_LIMIT_S, "no PASS or FAIL after the fault")
        return found[0]

    def wait_for_delivery(self, since: float) -> float:
        """Return how long after a moment everything answered before it was delivered, committed."""

        def delivered() -> bool:
            found = self.look()
            answered = {answer.key for answer in found.answers if answer.at <= since}
            return answered <= {None, *(m.key for m in found.received if m.durable)}

        wait_until(delivered, DELIVERY_LIMIT_S, "not everything is delivered")
        return time.monotonic() - since

    def restart_agent(self) -> float:
        """Kill the supervisor, start the agent again at once, and return when it was killed.

        Its children end with it, within milliseconds: what one of them still judges is no recovery.
        """
        assert self.agent.process is not None
        children = psutil.Process(self.agent.process.pid).children()
        self.agent.process.kill()
        psutil.wait_procs(children, START_S)
        killed_at = time.monotonic()
        self.agent.process.wait()
        self.agent.start()
        return killed_at

    def finish(self) -> Evidence:
        """End offering, then the agent in order, then the subscriber when it has all; compare."""
        assert self._sender is not None
        assert self._subscriber is not None
        self._sender.send_signal(signal.SIGTERM)
        self._sender.wait(START_S)
        code = self.agent.stop()
        if code != 0:
            raise RuntimeError(f"the agent ended with {code}; see {self.folder / 'agent.log'}")
        self._read_ledger()
        published = {row.key for row in self.evidence.ledger if row.published}

        def all_here() -> bool:
            return published <= {message.key for message in self.look().received}

        ends_at = time.monotonic() + PATIENCE_S
        while not all_here() and time.monotonic() < ends_at:
            time.sleep(0.05)  # what does not come is counted as lost
        self._subscriber.send_signal(signal.SIGTERM)
        self._subscriber.wait(START_S)
        return self.look()

    def end(self) -> None:
        """Kill what still runs of the witness and the broker."""
        for process in (self._sender, self._subscriber):
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()
        self.broker.kill()

    def _look(self) -> "Rig":
        for line in self._new("offered"):
            defective = is_defective(line["number"]) if self.truth_is_known else None
            self.evidence.offered.append(Offered(line["id"], line["camera"], defective, line["at"]))
        for line in self._new("answers"):
            key = None
            if line["status"] == "accepted":
                camera = line["id"].split("-")[1]
                key = (camera, line["epoch"].replace("-", ""), line["sequence"])
            self.evidence.answers.append(Answer(line["id"], key, line["at"]))
        for line in self._new("received"):
            if line["event"] == "subscribed":
                self.subscriptions += 1
                continue
            key = (line["camera"], line["epoch"].replace("-", ""), line["sequence"])
            said = (line["part_id"], line["verdict"], line["reason"], line["score"])
            if line["verdict"] != "INVALID":
                self.latencies_ms[line["part_id"]] = line["latency_ms"]
            self.evidence.received.append(
                Judged(key, *said, at=line["at"], durable=line["durable"])
            )
        return self

    def _read_ledger(self) -> None:
        for camera, epoch, sequence, part_id, verdict, reason, score, sent in self.agent.query(
            _LEDGER
        ):
            key = (camera, epoch, sequence)
            self.evidence.triggers.append(key)
            if verdict is not None:
                self.evidence.ledger.append(
                    Judged(key, part_id, verdict, reason, score, published=bool(sent))
                )

    def _cameras_run(self) -> bool:
        journals = [self.agent.runtime / f"capture:{name}.heartbeat" for name in self.cameras]
        return all(path.exists() for path in journals)

    def _verdicts_flow(self) -> bool:
        judged = {message.key[0] for message in self.look().received if message.verdict == "PASS"}
        return judged == set(self.cameras)

    def _new(self, name: str) -> list[dict[str, Any]]:
        reader = self._readers.setdefault(name, LinesReader(Path(self._list(name))))
        return reader.read()

    def _list(self, name: str) -> str:
        return str(self.folder / f"{name}.jsonl")

    def _program(self, name: str, *arguments: str) -> "subprocess.Popen[bytes]":
        return subprocess.Popen([sys.executable, "-m", f"chaos.{name}", *arguments])


@contextmanager
def rig(
    folder: Path,
    *,
    cameras: int = 1,
    bundle: Path | None = None,
    top: dict[str, Any] | None = None,
    environment: dict[str, str] | None = None,
    **camera: Any,
) -> Iterator[Rig]:
    """Make a station of ZeroMQ cameras `left`, `c2`, ...; whatever runs at the end is killed."""
    folder.mkdir(parents=True, exist_ok=True)
    broker = Mosquitto(free_port(), folder, keeps_sessions=True)
    camera = {"bundle": bundle or write_brightness_bundle(folder / "b.ssn"), **camera}
    # The sender's parts are two pictures, in turns, and none that a bundle was trained on.
    camera["fitness"] = {"checks": [], "frozen_after": 0}
    with station(folder, broker.port, **camera) as agent:
        names = ["left", *(f"c{number}" for number in range(2, cameras + 1))]
        sources = {
            name: {"kind": "zeromq", "bind": f"ipc://{agent.runtime / f'{name}.parts'}"}
            for name in names
        }
        agent.camera["source"] = sources["left"]
        agent.others = {name: {**camera, "source": sources[name]} for name in names[1:]}
        agent.top = top or {}
        agent.environment = environment or {}
        made = Rig(agent, broker, folder)
        try:
            yield made
        finally:
            made.end()


def is_gone(pid: int) -> bool:
    """Say whether a process has ended, if its parent has noticed that or not."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def send(pid: int, number: signal.Signals) -> float:
    """Send a signal; return when, by the monotonic clock."""
    at = time.monotonic()
    os.kill(pid, number)
    return at
