"""`ssn-agent label` with an agent and without one, and `ssn-agent labels list`."""

import json
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ssn_agent.errors import UsageError
from ssn_agent.frames.journal import Journal
from ssn_agent.frames.layout import Outcome
from ssn_agent.frames.lock import take_runtime, without_agent
from ssn_agent.frames.runtime import RuntimeFiles
from ssn_agent.ledger.prepare import prepare
from ssn_agent.ledger.seal import break_seal, seal
from ssn_agent.settings import Settings
from support.labelled import write_verdicts
from support.ledger_process import fed_ledger
from support.ledgers import open_writer, rows, settings_in
from support.mosquitto import Mosquitto
from support.records import EPOCH
from support.waiting import wait_until

LABELS = (
    "SELECT sequence, label, labeller, source FROM labels JOIN triggers ON triggers.id = trigger_id"
)
Command = Callable[..., tuple[int, str, str]]


def config(settings: Settings, data_dir: Path | None = None) -> Path:
    path = settings.data_dir / "agent.toml"
    path.write_text(
        f"data_dir = '{data_dir or settings.data_dir}'\nruntime_dir = '{settings.runtime_dir}'\n"
        "[cameras.left.source]\nkind = 'folder'\npath = '/images'\n"
    )
    return path


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    with tempfile.TemporaryDirectory(prefix="ssn-") as runtime:
        made = settings_in(tmp_path, runtime_dir=Path(runtime))
        write_verdicts(made, tmp_path / "left.journal", [Outcome.PASS, Outcome.FAIL])
        yield made


def test_without_an_agent_the_command_writes_and_what_it_said_is_listed(
    ssn_agent: Command, settings: Settings
) -> None:
    at = ("-c", config(settings))
    done = ssn_agent("label", "bad", "left", 1, "--by", "m.weber", "--why", "[dent]", *at)
    assert done == (0, f"left 1 of {EPOCH}: bad, by m.weber\n", "")
    by_part = ("label", "good", "left", "--part", "part-2", "--by", "k.abt", *at)
    assert ssn_agent(*by_part)[0] == 0
    assert ssn_agent(*by_part)[1].endswith("(said before)\n")
    assert rows(settings, LABELS) == [(1, "bad", "m.weber", "cli"), (2, "good", "k.abt", "cli")]
    lines = ssn_agent("labels", "list", "--json", *at)[1].splitlines()
    assert [json.loads(line)["labeller"] for line in lines] == ["k.abt", "m.weber"]
    wanted = ("--disagreements", "--json", "--since", "1h", *at)
    lines = ssn_agent("labels", "list", *wanted)[1].splitlines()
    assert [json.loads(line)["between"] for line in lines] == [["verdict"], ["verdict"]]
    assert "[dent]" in ssn_agent("labels", "list", "--camera", "left", *at)[1]


@pytest.mark.parametrize(
    ("arguments", "code", "problem"),
    [
        (("3",), 1, "number 3 of left has no verdict yet"),
        (("1", "--part", "part-1"), 2, "give a number"),
        ((), 2, "give a number"),
        (("--part", "part-9"), 1, "has no part 'part-9' of camera left"),
        (("0",), 2, "label.sequence"),
        (("1", "--epoch", "00112233-4455-6677-8899-000000000000"), 1, "is not in this ledger"),
    ],
)
def test_what_cannot_be_labelled_is_said_with_its_exit_code(
    ssn_agent: Command, settings: Settings, arguments: tuple[str, ...], code: int, problem: str
) -> None:
    label = ("label", "bad", "left", *arguments, "--by", "m.weber")
    found, out, err = ssn_agent(*label, "-c", config(settings))
    assert (found, out) == (code, "")
    assert problem in err
    assert rows(settings, LABELS) == []


def test_what_came_from_outside_has_no_hold_on_the_terminal(
    ssn_agent: Command, settings: Settings
) -> None:
    at = ("-c", config(settings))
    assert ssn_agent("label", "bad", "left", 1, "--by", "m\x1b[2J", *at)[0] == 2
    assert ssn_agent("label", "bad", "left", 1, "--by", "m", "--why", "dent", *at)[0] == 0
    with closing(sqlite3.connect(settings.ledger_path)) as before, before:
        before.execute("UPDATE labels SET reason = 'a' || char(27) || '[2J'")
    code, out, _ = ssn_agent("labels", "list", *at)
    assert (code, "\x1b[2J" in out) == (0, False)


def test_a_label_without_an_agent_leaves_the_ledger_as_sealed_as_it_was(
    ssn_agent: Command, settings: Settings
) -> None:
    label = ("label", "bad", "left", 1, "--by", "m.weber", "-c", config(settings))
    seal(settings.ledger_path)
    assert ssn_agent(*label)[0] == 0
    assert break_seal(settings.ledger_path)
    assert ssn_agent(*label, "--why", "looked again")[0] == 0
    assert not break_seal(settings.ledger_path)  # an unproven ledger is not proven by a label


def test_numbers_go_on_in_their_epoch_after_a_label_without_an_agent(
    ssn_agent: Command, settings: Settings
) -> None:
    writer = open_writer(settings)
    writer.open_stream("left", EPOCH)
    writer.close_stream("left", EPOCH, 2)
    writer.close()
    seal(settings.ledger_path)
    assert ssn_agent("label", "bad", "left", 1, "--by", "m.w", "-c", config(settings))[0] == 0
    prepare(settings)
    with closing(Journal(RuntimeFiles(settings.runtime_dir).journal("left"))) as journal:
        assert (journal.header.epoch, journal.head) == (EPOCH, 2)


def test_no_agent_starts_while_a_command_writes(settings: Settings) -> None:
    files = RuntimeFiles(settings.runtime_dir)
    with without_agent(files) as is_alone:
        assert is_alone
        with pytest.raises(UsageError, match="runs here already"):
            take_runtime(files)
    os.close(take_runtime(files))


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a file to another user")
def test_the_ledger_of_another_user_is_not_written_without_an_agent(
    ssn_agent: Command, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ssn_agent.labels.handover.ANSWER_S", 0.1)
    shutil.chown(settings.ledger_path, 12345)
    label = ("label", "bad", "left", 1, "--by", "m.weber")
    code, _, err = ssn_agent(*label, "-c", config(settings))
    assert code == 1
    assert "as the ledger's own user" in err
    assert not RuntimeFiles(settings.runtime_dir).lock.exists()
    assert rows(settings, LABELS) == []


@pytest.mark.needs("mosquitto")
def test_while_an_agent_runs_its_ledger_process_writes(
    ssn_agent: Command, tmp_path: Path, mosquitto: Mosquitto
) -> None:
    with fed_ledger(tmp_path, mosquitto.port) as ledger:
        lock = take_runtime(RuntimeFiles(ledger.settings.runtime_dir))  # as the supervisor does
        ledger.start()
        ledger.part(Outcome.PASS)
        wait_until(lambda: ledger.committed(1), 20, "not committed")
        label = ("label", "bad", "left", 1, "--by", "m.weber")
        code, _, err = ssn_agent(*label, "-c", config(ledger.settings))
        assert (code, err) == (0, "")
        assert rows(ledger.settings, LABELS) == [(1, "bad", "m.weber", "cli")]
        # What the service's environment changes is in force, not what the file says.
        elsewhere = config(ledger.settings, tmp_path / "elsewhere")
        assert ssn_agent(*label, "-c", elsewhere)[0] == 0
        os.close(lock)
