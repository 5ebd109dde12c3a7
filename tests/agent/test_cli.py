"""The command line: one message that names the thing and the remedy, and the right exit code."""

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from ssn_agent.frames.layout import Outcome
from ssn_agent.inference.engines.available import why_not
from ssn_agent.ledger.stream import follow
from ssn_agent.publish.outbox import Delivery
from ssn_agent.settings import Settings
from support.bundles import write_brightness_bundle
from support.ledgers import decided, open_writer, settings_in
from support.records import EPOCH, FRAME, START_UTC_NS, judged, new_journal, trigger

SOUND = "[cameras.left.source]\nkind = 'folder'\npath = '/images'\n"

Result = tuple[int, str, str]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "agent.toml"
    folders = f"data_dir = '{tmp_path / 'data'}'\nruntime_dir = '{tmp_path / 'run'}'\n"
    path.write_text(folders + SOUND)
    return path


@pytest.fixture
def ledger(tmp_path: Path) -> Settings:
    """A ledger with three verdicts."""
    settings = settings_in(tmp_path)
    writer = open_writer(settings)
    with closing(new_journal(tmp_path / "left.journal")) as journal:
        for outcome in (Outcome.PASS, Outcome.FAIL, Outcome.PASS):
            sequence = journal.accept(trigger(part_id=f"part, {outcome.name}"))
            journal.capture(sequence, FRAME)
            journal.finish(sequence, judged(outcome))
        stream = follow(journal, writer)
        due = list(stream.due(12_500_000, START_UTC_NS + 12_500_000))
        writer.write([decided(settings, journal, *pair) for pair in due], Delivery())
    return settings


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (SOUND + "colour = 1\n", "colour"),
        (SOUND + "[cameras.right]\ndeadline_ms = '2 s'\n", "cameras.right.deadline_ms"),
        ("[cameras", "cannot be read as TOML"),
        (None, "no such settings file"),
    ],
)
@pytest.mark.parametrize("command", [["config", "check"], ["config", "show"], ["run"]])
def test_wrong_settings_are_wrong_use_told_by_file_and_key(
    ssn_agent: Callable[..., Result],
    tmp_path: Path,
    command: list[str],
    text: str | None,
    named: str,
) -> None:
    path = tmp_path / "agent.toml"
    if text is not None:
        path.write_text(text)
    code, out, err = ssn_agent(*command, "-c", path)
    assert (code, out) == (2, "")
    assert named in err
    assert str(path) in err
    assert "Traceback" not in err


def test_sound_settings_are_said_to_be(ssn_agent: Callable[..., Result], config: Path) -> None:
    code, out, _ = ssn_agent("config", "check", "-c", config)
    assert code == 0
    assert f"{config}: sound; 1 camera(s)" in out


def test_certificates_that_do_not_load_are_told_by_the_check(
    ssn_agent: Callable[..., Result], config: Path, tmp_path: Path
) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    tls = ("--set", "broker.tls=true", "--set", f"broker.ca_file={tmp_path / 'ca.pem'}")
    code, _, err = ssn_agent("config", "check", "-c", config, *tls)
    assert code == 1
    assert "broker.ca_file does not load" in err


def test_settings_are_shown_as_json_without_secrets(
    ssn_agent: Callable[..., Result], config: Path
) -> None:
    secrets = [
        "broker.username=station",
        "broker.password=hunter2",
        "cameras.gate.source.kind=rtsp",
        "cameras.gate.source.url=rtsp://10.0.0.2/live",
        "cameras.gate.source.username=viewer",
        "cameras.gate.source.password=hunter3",
    ]
    arguments = [word for item in secrets for word in ("--set", item)]
    code, out, err = ssn_agent("config", "show", "-c", config, *arguments)
    assert code == 0
    assert json.loads(out)["broker"]["username"] == "station"
    assert "hunter" not in out + err


def test_the_schema_is_json(ssn_agent: Callable[..., Result]) -> None:
    code, out, _ = ssn_agent("config", "schema")
    assert code == 0
    assert "cameras" in json.loads(out)["properties"]


def test_an_override_that_is_none_is_wrong_use(
    ssn_agent: Callable[..., Result], config: Path
) -> None:
    code, _, err = ssn_agent("config", "check", "-c", config, "--set", "broker")
    assert code == 2
    assert "key.path=value" in err


@pytest.mark.parametrize("command", [["nothing"], ["run", "--speed", "9"], ["bundle", "verify"]])
def test_an_unknown_command_option_or_missing_argument_is_wrong_use(
    ssn_agent: Callable[..., Result], command: list[str]
) -> None:
    code, _, err = ssn_agent(*command)
    assert code == 2
    assert "Traceback" not in err


def test_a_sound_bundle_is_said_to_be(ssn_agent: Callable[..., Result], tmp_path: Path) -> None:
    bundle = write_brightness_bundle(tmp_path / "b.ssn")
    code, out, _ = ssn_agent("bundle", "verify", bundle)
    assert code == 0
    assert "sound; brightness 1.0.0" in out


@pytest.mark.skipif(why_not("openvino/fp32") is not None, reason=str(why_not("openvino/fp32")))
def test_a_bundle_can_be_verified_on_the_engine_that_is_to_be_pinned(
    ssn_agent: Callable[..., Result], tmp_path: Path
) -> None:
    bundle = write_brightness_bundle(tmp_path / "b.ssn")
    code, out, _ = ssn_agent("bundle", "verify", bundle, "--engine", "openvino/fp32")
    assert code == 0
    assert "reproduced on openvino/fp32" in out
    code, _, err = ssn_agent("bundle", "verify", bundle, "--engine", "openvino/bf16")
    assert code == 1
    assert err.startswith(f"ssn-agent: {bundle}: has no bf16")


def _flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _wrong_score(path: Path) -> None:
    vectors = [{"image": "vectors/0.png", "score": 0.9, "map": "vectors/0.f32"}]
    write_brightness_bundle(path, vectors=vectors)


@pytest.mark.parametrize(
    "damage",
    [
        _flipped,
        _wrong_score,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"no zip"),
        lambda path: path.write_bytes(path.read_bytes()[:300]),
        lambda path: path.unlink(),
    ],
    ids=["flipped", "other-scores", "empty", "no-zip", "truncated", "absent"],
)
def test_a_bundle_that_cannot_be_trusted_is_a_failed_job_in_one_line(
    ssn_agent: Callable[..., Result], tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    bundle = write_brightness_bundle(tmp_path / "b.ssn")
    damage(bundle)
    code, out, err = ssn_agent("bundle", "verify", bundle)
    assert (code, out) == (1, "")
    assert err.startswith(f"ssn-agent: {bundle}")
    assert err.count("\n") == 1


def test_the_ledger_s_counts_are_printed(
    ssn_agent: Callable[..., Result], ledger: Settings
) -> None:
    code, out, _ = ssn_agent("ledger", "stats", "--ledger", ledger.ledger_path)
    assert code == 0
    row = next(line for line in out.splitlines() if "left" in line)
    cells = [cell.strip() for cell in row.strip("│┃ ").split("│")]
    assert cells == ["left", "3", "2", "1", "0", "12.5", "12.5", "3"]


@pytest.mark.parametrize("to_file", [False, True])
def test_every_verdict_is_exported_as_csv(
    ssn_agent: Callable[..., Result], ledger: Settings, tmp_path: Path, *, to_file: bool
) -> None:
    out_path = tmp_path / "verdicts.csv"
    extra = ["--out", out_path] if to_file else []
    code, out, _ = ssn_agent("ledger", "export", "--ledger", ledger.ledger_path, *extra)
    assert code == 0
    table = list(csv.DictReader((out_path.read_text() if to_file else out).splitlines()))
    assert [(r["sequence"], r["verdict"], r["part_id"], r["defects"]) for r in table] == [
        ("1", "PASS", "part, PASS", "0"),
        ("2", "FAIL", "part, FAIL", "1"),
        ("3", "PASS", "part, PASS", "0"),
    ]
    assert {r["epoch"] for r in table} == {str(EPOCH)}
    assert table[0]["triggered_at"] == "2026-01-01T00:00:00+00:00"


@pytest.mark.parametrize("command", ["stats", "export"])
@pytest.mark.parametrize("content", [None, b"", b"no database " * 999])
def test_a_ledger_that_is_not_there_or_none_is_a_failed_job_in_one_line(
    ssn_agent: Callable[..., Result], tmp_path: Path, command: str, content: bytes | None
) -> None:
    path = tmp_path / "ledger.sqlite"
    out_path = tmp_path / "out.csv"
    if content is not None:
        path.write_bytes(content)
    extra = ["--out", out_path] if command == "export" else []
    code, out, err = ssn_agent("ledger", command, "--ledger", path, *extra)
    assert (code, out) == (1, "")
    assert err.startswith(f"ssn-agent: {path}: ")
    assert err.count("\n") == 1
    assert [p for p in tmp_path.iterdir() if p != path] == []


def test_an_export_that_cannot_be_written_leaves_nothing_and_names_the_file(
    ssn_agent: Callable[..., Result], ledger: Settings, tmp_path: Path
) -> None:
    target = tmp_path / "no folder" / "out.csv"
    command = ["ledger", "export", "--ledger", ledger.ledger_path, "--out", target]
    code, _, err = ssn_agent(*command)
    assert code == 2
    assert str(target) in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("unusable", ["a file in the way", "a folder in its place"])
def test_an_agent_whose_ledger_cannot_be_prepared_ends_with_one_line(
    config: Path, tmp_path: Path, unusable: str
) -> None:
    if unusable == "a folder in its place":
        (tmp_path / "data" / "ledger.sqlite").mkdir(parents=True)
    else:
        (tmp_path / "data").write_text("")
    done = subprocess.run(
        [sys.executable, "-m", "ssn_agent.cli", "run", "-c", str(config)],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("ssn-agent: ")
    assert str(tmp_path / "data") in done.stderr


def test_the_version_is_told(ssn_agent: Callable[..., Result]) -> None:
    code, out, _ = ssn_agent("--version")
    assert code == 0
    assert out.startswith("ssn-agent ")


def test_a_query_shows_the_newest_verdicts_first(
    ssn_agent: Callable[..., Result], ledger: Settings
) -> None:
    code, out, _ = ssn_agent("ledger", "query", "--ledger", ledger.ledger_path, "--json")
    lines = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [line["sequence"] for line in lines] == [3, 2, 1]
    assert lines[1]["verdict"] == "FAIL"
    assert lines[1]["part_id"] == "part, FAIL"
    assert lines[1]["defects"] == 1


@pytest.mark.parametrize(
    ("options", "sequences"),
    [
        (["--verdict", "fail"], [2]),
        (["--part", "part, PASS"], [3, 1]),
        (["--camera", "right"], []),
        (["--camera", "left", "--limit", "2"], [3, 2]),
        (["--reason", "late"], []),
        (["--model", "brightness"], [3, 2, 1]),
        (["--model", "brightness-1.0.0"], [3, 2, 1]),
        (["--model", "brightness-9"], []),
        (["--since", "2000-01-01"], [3, 2, 1]),
        (["--since", "1s"], []),
        (["--until", "2000-01-01T00:00:00Z"], []),
        (["--until", "2999-01-01T00:00+02:00"], [3, 2, 1]),
    ],
)
def test_a_query_and_an_export_hold_what_is_asked_for(
    ssn_agent: Callable[..., Result], ledger: Settings, options: list[str], sequences: list[int]
) -> None:
    where = ["--ledger", str(ledger.ledger_path), *options]
    _, out, _ = ssn_agent("ledger", "query", "--json", *where)
    assert [json.loads(line)["sequence"] for line in out.splitlines()] == sequences
    if "--limit" in options:
        return
    _, out, _ = ssn_agent("ledger", "export", *where)
    rows = list(csv.DictReader(out.splitlines()))
    assert [int(row["sequence"]) for row in rows] == sorted(sequences)


def test_a_querys_table_names_part_verdict_and_model(
    ssn_agent: Callable[..., Result], ledger: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    _, out, err = ssn_agent("ledger", "query", "--ledger", ledger.ledger_path, "--limit", 1)
    assert "part, PASS" in out
    assert "brightness 1.0.0" in out
    assert "the newest 1; --limit shows more" in err


def test_a_querys_table_leaves_nothing_out_in_a_narrow_terminal(
    ssn_agent: Callable[..., Result], ledger: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = ssn_agent("ledger", "query", "--ledger", ledger.ledger_path)
    assert "…" not in out


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--since", "yesterday"], "'yesterday' is no time"),
        (["--until", "999999d"], "'999999d' is no time"),
        (["--verdict", "MAYBE"], "MAYBE"),
        (["--limit", "0"], "--limit"),
    ],
)
def test_a_wrong_query_is_wrong_use_that_names_what_is_wrong(
    ssn_agent: Callable[..., Result], ledger: Settings, options: list[str], named: str
) -> None:
    code, out, err = ssn_agent("ledger", "query", "--ledger", ledger.ledger_path, *options)
    assert code == 2
    assert named in err
    assert not out
