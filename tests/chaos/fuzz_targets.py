"""What `make fuzz` throws at the agent's inputs: each ends in an answer or in a stated error.

A target is a function of Hypothesis, called again and again. An exception that is none of the
agent's own, an answer that the contract does not know, and a call that takes too long are faults.
"""

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import zmq
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ssn_agent.bundles.archive import Bundle, write_bundle
from ssn_agent.errors import AgentError, BundleError, JournalError, SettingsError
from ssn_agent.frames.heartbeat import beat_due_at
from ssn_agent.frames.journal import Journal
from ssn_agent.frames.layout import HEADER_BYTES, Outcome
from ssn_agent.frames.slots import SlotOwners
from ssn_agent.inference.scorer import Scorer
from ssn_agent.ledger.stream import PendingTriggers
from ssn_agent.ledger.verdicts import VerdictWriter
from ssn_agent.ledger.writer import Counts
from ssn_agent.settings import load_settings
from ssn_agent.supervisor.note import read_note
from ssn_contract.channel import Announcement
from ssn_contract.messages import Label, Trigger
from ssn_contract.zeromq import MAX_HEADER_BYTES, PartAnswer, PartHeader
from support.bundles import files, manifest
from support.capture import CaptureProcess, capture_process
from support.ledgers import settings_in
from support.records import FRAME, LATE, judged, new_journal, trigger

ANSWER_MS = 20_000
"""On a machine that has much else to do; a message that is never answered is a hang."""
CAPACITY = 8

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=150)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=20), inner, max_size=4)
    ),
    max_leaves=12,
)
small = st.binary(max_size=300)


def splices(whole: bytes) -> st.SearchStrategy[bytes]:
    """Return a sound file's bytes, some of them cut out, put in or changed."""
    place = st.integers(0, len(whole))
    edit = st.tuples(place, st.integers(0, 64), small)

    def made(edits: list[tuple[int, int, bytes]]) -> bytes:
        data = whole
        for at, length, new in edits:
            data = data[:at] + new + data[at + length :]
        return data

    return st.lists(edit, max_size=4).map(made)


@cache
def _folder() -> Path:
    """Return a folder for this run's files; the operating system tidies it up."""
    return Path(tempfile.mkdtemp(prefix="ssn-fuzz-"))


# Parts over ZeroMQ, to a capture process.

_HEADER: dict[str, st.SearchStrategy[Any]] = {
    "version": st.just(1) | scalars,
    "part_id": st.text(max_size=130) | values,
    "product": st.text(max_size=70) | values,
    "height": st.integers(-1, 64) | values,
    "width": st.integers(-1, 64) | values,
    "channels": st.sampled_from([1, 3]) | values,
    "frame_id": st.integers(-1, 2**53) | values,
}
headers = (
    st.fixed_dictionaries({}, optional=_HEADER)
    .map(lambda found: json.dumps(found).encode(errors="surrogatepass"))
    .filter(lambda data: len(data) <= MAX_HEADER_BYTES + 100)
)
well_shaped = st.tuples(st.integers(1, 64), st.integers(1, 64), st.sampled_from([1, 3])).map(
    lambda shape: [
        json.dumps(
            dict(zip(("height", "width", "channels"), shape, strict=True), version=1)
        ).encode(),
        bytes(shape[0] * shape[1] * shape[2]),
    ]
)
messages = st.one_of(
    st.lists(small, min_size=1, max_size=5),
    st.tuples(small, headers, small).map(list),
    st.tuples(st.text(min_size=1, max_size=120).map(str.encode), well_shaped).map(
        lambda pair: [pair[0], *pair[1]]
    ),
)


class Capture:
    """A capture process, and a sender's socket."""

    def __init__(self, process: CaptureProcess) -> None:
        self.process = process
        process.start()
        self.socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.connect(process.bind)

    def ask(self, message: list[bytes]) -> bytes:
        """Send a message, and return its answer."""
        self.socket.send_multipart(message)
        assert self.socket.poll(ANSWER_MS), f"no answer to {message!r}: {self.process.log()}"
        return self.socket.recv_multipart()[-1]

    def take_away(self) -> None:
        """Judge and commit what has been counted, as inference and ledger would."""
        for entry in self.process.entries():
            if not entry.committed:
                self.process.journal.finish(entry.sequence, LATE)
                self.process.journal.commit(entry.sequence)


_capture: list[Capture] = []


@contextmanager
def capture_running() -> Iterator[None]:
    """Run the capture process that `zeromq_messages` sends to."""
    with ExitStack() as stack:
        runtime = stack.enter_context(tempfile.TemporaryDirectory(prefix="ssn-"))
        process = stack.enter_context(capture_process(_folder(), Path(runtime)))
        _capture[:] = [Capture(process)]
        stack.callback(_capture[0].socket.close)
        yield
        _capture.clear()


@given(messages)
def zeromq_messages(message: list[bytes]) -> None:
    """Every message is answered, in words of the contract."""
    if not message[0]:
        message = [b"x", *message[1:]]  # an empty first part is the delimiter of a REQ socket
    (capture,) = _capture
    answer = PartAnswer.model_validate_json(capture.ask(message))
    assert answer.status in {"accepted", "malformed"}, answer
    capture.take_away()


# Payloads of messages from outside.


@given(small | values.map(lambda found: json.dumps(found).encode(errors="surrogatepass")) | headers)
def payloads(data: bytes) -> None:
    """A trigger, a label, an announcement and a part's header are read, or refused as invalid."""
    for model in (Trigger, Label, Announcement, PartHeader):
        with suppress(ValidationError):
            model.model_validate_json(data)


# Settings.

_SOUND = {
    "data_dir": "/tmp/data",  # noqa: S108 -- is never made
    "runtime_dir": "/tmp/run",  # noqa: S108 -- likewise
    "station": {"site": "s", "line": "l", "station": "b"},
    "broker": {"host": "127.0.0.1", "port": 1883, "tls": False},
    "inference": {"engine": "auto", "threads": 0, "cpus": [0]},
    "memory": {"ledger_mib": 512},
    "cameras": {
        "left": {
            "bundle": "/b.ssn",
            "roi": {"x": 0, "y": 0, "width": 4, "height": 4},
            "deadline_ms": 500,
            "source": {"kind": "rtsp", "url": "rtsp://192.0.2.1/s", "read_timeout_ms": 2000},
        }
    },
}


def _places(tree: dict[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, below in tree.items():
        yield (*above, name)
        if isinstance(below, dict):
            yield from _places(below, (*above, name))


def _toml(tree: dict[str, Any]) -> bytes:
    """Return a settings file; JSON's texts are TOML's, too."""
    lines = [f"{json.dumps(key)} = {_inline(value)}" for key, value in tree.items()]
    return "\n".join(lines).encode()


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        pairs = (f"{json.dumps(key)} = {_inline(below)}" for key, below in value.items())
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_inline, value))}]"
    if isinstance(value, float):
        return repr(value)  # inf and nan are words of TOML's
    return json.dumps("" if value is None else value)


def _changed(changes: list[tuple[tuple[str, ...], Any]]) -> bytes:
    tree = json.loads(json.dumps(_SOUND))
    for place, value in changes:
        node = tree
        for name in place[:-1]:
            node = node.get(name)
            if not isinstance(node, dict):
                break
        else:
            node[place[-1]] = value
    return _toml(tree)


places = st.sampled_from(list(_places(_SOUND))) | st.lists(
    st.text(max_size=10), min_size=1, max_size=4
).map(tuple)
nested = st.integers(1, 3000).map(lambda depth: b"a = " + b"[" * depth)
settings_files = st.one_of(
    small,
    nested,
    st.lists(st.tuples(places, values), max_size=4).map(_changed),
    splices(_toml(_SOUND)),
)


@given(settings_files)
def settings_file(data: bytes) -> None:
    """A settings file is taken, or refused by its name, key and reason."""
    path = _folder() / "agent.toml"
    path.write_bytes(data)
    problem = str(path)
    try:
        load_settings(path)
    except SettingsError as error:
        problem = str(error)
    assert str(path) in problem


# Bundles.


@cache
def _bundle() -> bytes:
    path = _folder() / "sound.ssn"
    write_bundle(path, manifest(), files())
    return path.read_bytes()


@given(st.deferred(lambda: splices(_bundle())) | small)
def bundle_bytes(data: bytes) -> None:
    """A damaged bundle is refused before anything of it is used."""
    path = _folder() / "damaged.ssn"
    path.write_bytes(data)
    try:
        opened = Bundle.open(path)
    except BundleError:
        return
    assert data == _bundle() or opened.manifest.name == "brightness"


_ENTRIES = sorted(files())
_KEYS = sorted(manifest())


@given(
    st.dictionaries(st.sampled_from(_KEYS), values, max_size=2),
    st.dictionaries(
        st.sampled_from([*_ENTRIES, "model.int8.onnx", "../outside"]),
        small | st.sampled_from(_ENTRIES).flatmap(lambda name: splices(files()[name])),
        max_size=2,
    ),
)
def bundle_content(changes: dict[str, Any], entries: dict[str, bytes]) -> None:
    """A bundle whose digests hold, and whose content does not, serves or is refused."""
    path = _folder() / "strange.ssn"
    with suppress(AgentError):
        write_bundle(path, manifest(**changes), {**files(), **entries})
        Scorer(Bundle.open(path)).check_vectors()


# Files of the runtime directory.


@cache
def _journal() -> bytes:
    path = _folder() / "sound.journal"
    with closing(new_journal(path, capacity=CAPACITY)) as journal:
        for outcome in (Outcome.PASS, Outcome.FAIL, Outcome.PASS):
            sequence = journal.accept(trigger())
            journal.capture(sequence, FRAME)
            journal.finish(sequence, judged(outcome))
        journal.accept(trigger())
    return path.read_bytes()


def _scratched(edits: list[tuple[int, bytes]]) -> bytes:
    data = bytearray(_journal())
    for at, new in edits:
        data[at : at + len(new)] = new
    return bytes(data[: len(_journal())])


scratches = st.lists(
    st.tuples(
        st.integers(0, HEADER_BYTES) | st.integers(HEADER_BYTES, HEADER_BYTES + 5 * 2304),
        st.binary(min_size=1, max_size=40),
    ),
    max_size=4,
).map(_scratched)


@given(scratches | st.deferred(lambda: splices(_journal())) | small)
def journal_bytes(data: bytes) -> None:
    """A damaged journal is refused as a whole, or what is sound of it is read and decided."""
    path = _folder() / "damaged.journal"
    path.write_bytes(data)
    try:
        journal = Journal(path)
    except JournalError:
        return
    with closing(journal):
        SlotOwners(journal).take()
        journal.camera_note(), journal.model_note(), journal.intake_note()
        writer = VerdictWriter(settings_in(_folder()))
        stream = PendingTriggers(journal, Counts())
        for entry, decision in stream.due(10**18, 10**18):
            writer.message(journal.header, entry, decision)
            stream.committed(entry, decision)
        stream.late_results()


@given(small)
def small_files(data: bytes) -> None:
    """A heartbeat or a note that is none counts as none."""
    path = _folder() / "small"
    path.write_bytes(data)
    beat_due_at(path)
    read_note(path)


TARGETS: dict[str, Callable[[], None]] = {
    target.__name__: target
    for target in (
        zeromq_messages,
        payloads,
        settings_file,
        bundle_bytes,
        bundle_content,
        journal_bytes,
        small_files,
    )
}


def with_examples(target: Callable[[], None], count: int) -> Callable[[], None]:
    """Return a target that is called with so many examples."""
    return settings(max_examples=count)(target)
