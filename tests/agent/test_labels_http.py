"""The HTTP API, as a process of its own beside a ledger process; nothing of it is simulated."""

import asyncio
import json
import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from starlette.requests import Request
from starlette.responses import Response
from starlette.testclient import TestClient
from starlette.types import Message

from ssn_agent.errors import SettingsError
from ssn_agent.frames.layout import Outcome
from ssn_agent.inference.image_files import image_path
from ssn_agent.labels import openapi
from ssn_agent.labels.api import Routes, make_api
from ssn_agent.labels.guard import TOLD_EVERY_S, Guard
from ssn_agent.labels.pictures import PictureRoutes
from ssn_agent.labels.process import NICE, PAUSE_S
from ssn_agent.labels.server import CONNECTION_S
from ssn_agent.labels.settings import HttpSettings
from ssn_agent.labels.token import Token, check
from ssn_agent.ledger.database import open_database
from ssn_agent.supervisor.child import own_memory_bytes
from ssn_agent.supervisor.settings import MemorySettings
from ssn_contract.http import LabelAnswer
from ssn_contract.messages import MAX_LABEL_BYTES
from support.http_api import TOKEN, HttpApi, http_api, write_token
from support.ledger_process import Ledger, fed_ledger
from support.ledgers import rows, settings_in
from support.mosquitto import free_port
from support.waiting import wait_until

DOCUMENT = json.loads(openapi.DOCUMENT.read_text("utf-8"))
ROUTES = [(method.upper(), path) for path, ways in DOCUMENT["paths"].items() for method in ways]
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 400  # more than a chunk
PARTS = [Outcome.PASS, Outcome.FAIL, Outcome.PASS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("http")


@pytest.fixture(scope="module")
def ledger(folder: Path) -> Iterator[Ledger]:
    http = {
        "port": free_port(),
        "token_file": str(write_token(folder)),
        "requests_per_s": 10_000,
    }
    with fed_ledger(folder, free_port(), http=http) as made:
        made.start()
        for outcome in PARTS:
            failed = outcome is Outcome.FAIL
            sequence = made.part(outcome, heatmap=failed, image=failed)
            wait_until(lambda number=sequence: made.committed(number), 60, "not committed")  # type: ignore[misc]  # bound at once
        yield made


@pytest.fixture(scope="module")
def api(ledger: Ledger, folder: Path) -> Iterator[HttpApi]:
    with http_api(ledger.settings, folder / "http.log") as made:
        yield made


@pytest.fixture(scope="module", autouse=True)
def silent(api: HttpApi) -> list[socket.socket]:
    """Connections that stand from the first test on, and say nothing, or half of something."""
    found = [socket.create_connection(("127.0.0.1", api.port)) for _ in range(3)]
    found[1].sendall(b"GET /v1/health HTTP/1.1\r\nHost: x\r\nX-Slow: ")
    found[2].sendall(
        f"POST /v1/labels HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
        "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{".encode()
    )
    return found


@pytest.fixture
def label(ledger: Ledger) -> dict[str, Any]:
    epoch = str(ledger.journal.header.epoch)
    return {"camera": "left", "epoch": epoch, "sequence": 1, "label": "bad", "labeller": "m.weber"}


def filled(path: str, ledger: Ledger) -> str:
    epoch = str(ledger.journal.header.epoch)
    return path.format(camera="left", epoch=epoch, sequence=2)


@pytest.mark.parametrize("token", [None, "", "x" * 64, TOKEN[:-1], TOKEN + "0"])
def test_no_route_answers_without_the_token_but_health(
    api: HttpApi, ledger: Ledger, token: str | None
) -> None:
    answers = {
        route: api.ask(route[0], filled(route[1], ledger), token=token).status for route in ROUTES
    }
    assert len(answers) >= 7
    assert {route for route, status in answers.items() if status != 401} == {("GET", "/v1/health")}


def test_verdicts_are_listed_filtered_and_paged_as_the_ledger_has_them(api: HttpApi) -> None:
    first = api.ask("GET", "/v1/verdicts?limit=2").json
    assert [(e["sequence"], e["verdict"]) for e in first["entries"]] == [(3, "PASS"), (2, "FAIL")]
    rest = api.ask("GET", f"/v1/verdicts?limit=2&before={first['next']}").json
    assert [e["sequence"] for e in rest["entries"]] == [1]
    assert rest["next"] is None
    failed = api.ask("GET", "/v1/verdicts?verdict=FAIL&camera=left&model=brightness").json
    assert [e["sequence"] for e in failed["entries"]] == [2]
    assert api.ask("GET", "/v1/verdicts?camera=right").json == {"entries": [], "next": None}
    for wrong in (
        "limit=501",
        "limit=0",
        "colour=red",
        "since=yesterday",
        "before=-1",
        "labelled=some",
    ):
        refused = api.ask("GET", f"/v1/verdicts?{wrong}")
        assert refused.status == 422
        assert wrong.partition("=")[0] in refused.json["problem"]


@pytest.mark.parametrize("name", ["heatmap", "image"])
def test_a_verdict_comes_with_its_regions_and_its_pictures(
    api: HttpApi, ledger: Ledger, name: str
) -> None:
    one = filled("/v1/verdicts/{camera}/{epoch}/{sequence}", ledger)
    found = api.ask("GET", one).json
    assert (found["verdict"], len(found["regions"]), found["defects"]) == ("FAIL", 1, 1)
    assert api.ask("GET", f"{one}/{name}").status == 404  # not written yet
    epoch = ledger.journal.header.epoch
    settings = ledger.settings
    root = {"heatmap": settings.heatmap_dir, "image": settings.image_dir}[name]
    file = image_path(root, "left", epoch, 2)
    file.parent.mkdir(parents=True)
    file.write_bytes(PNG)
    picture = api.ask("GET", f"{one}/{name}")
    assert (picture.status, picture.headers["content-type"], picture.body) == (
        *(200, "image/png"),
        PNG,
    )
    assert api.ask("GET", one.removesuffix("2") + f"3/{name}").status == 404


@pytest.mark.parametrize(
    "path",
    [
        "/v1/verdicts/../{epoch}/2/heatmap",
        "/v1/verdicts/..%2f..%2fetc/{epoch}/2/heatmap",
        "/v1/verdicts/left/..%2f..%2f/2/heatmap",
        "/v1/verdicts/left/{epoch}/..%2f..%2fledger.sqlite/heatmap",
        "/v1/verdicts/left/{epoch}/2%00/heatmap",
        "/v1/verdicts/..%2f..%2fetc/{epoch}/2/image",
        "/v1/verdicts/left/{epoch}/..%2f..%2fledger.sqlite/image",
        "/v1/../../etc/passwd",
        "//etc/passwd",
        "/openapi.json",
        "/docs",
    ],
)
def test_no_path_leads_out_of_the_routes(api: HttpApi, ledger: Ledger, path: str) -> None:
    answer = api.ask("GET", filled(path, ledger))
    assert answer.status in {404, 422}
    assert set(answer.json) == {"problem"}


def test_a_label_is_kept_when_it_is_answered_and_once(
    api: HttpApi, ledger: Ledger, label: dict[str, Any]
) -> None:
    body = json.dumps({**label, "id": "t-1", "reason": "Größe"})
    kept = api.ask("POST", "/v1/labels", body)
    assert (kept.status, kept.json["status"]) == (201, "kept")
    sql = f"SELECT label, labeller, source, reason FROM labels WHERE id = {kept.json['id']}"  # noqa: S608 -- our own number
    assert rows(ledger.settings, sql) == [("bad", "m.weber", "http", "Größe")]
    again = api.ask("POST", "/v1/labels", body)
    assert (again.status, again.json["id"]) == (200, kept.json["id"])
    newest = api.ask("GET", "/v1/labels?limit=1").json["entries"][0]
    assert (newest["id"], newest["sequence"], newest["verdict"]) == (kept.json["id"], 1, "PASS")
    differing = api.ask("GET", "/v1/disagreements?camera=left").json["entries"]
    assert [(d["between"], d["labels"][0]["sequence"]) for d in differing] == [(["verdict"], 1)]
    assert api.ask("GET", "/v1/verdicts?limit=3").json["entries"][2]["label"] == "bad"
    for labelled, numbers in (("true", [1]), ("false", [3, 2])):
        found = api.ask("GET", f"/v1/verdicts?labelled={labelled}").json["entries"]
        assert [e["sequence"] for e in found] == numbers


@pytest.mark.parametrize(
    ("change", "status", "problem"),
    [
        ({"sequence": 99}, 404, "has no verdict yet"),
        ({"id": "t-2"}, 409, "give each label its own"),
        ({"label": "ugly"}, 422, "label.label"),
        ({"labeler": "x"}, 422, "label.labeler"),
        ({"reason": "\ud800"}, 422, "label"),
        ({"reason": "\u001b[2J"}, 422, "label.reason"),
    ],
)
def test_a_label_that_is_not_taken_is_answered_with_the_reason(
    api: HttpApi, label: dict[str, Any], change: dict[str, Any], status: int, problem: str
) -> None:
    api.ask("POST", "/v1/labels", json.dumps({**label, "id": "t-2", "labeller": "k.abt"}))
    body = json.dumps({**label, "labeller": "k.abt", "label": "good", **change})
    answer = api.ask("POST", "/v1/labels", body)
    assert answer.status == status
    assert problem in answer.json["problem"]


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"Content_Type": "text/plain"}, "{}", 415),
        ({"Content_Type": "application/x-www-form-urlencoded"}, "label=bad", 415),
        ({"Content_Type": "multipart/form-data; boundary=x"}, "--x--", 415),
        ({"Content_Encoding": "gzip"}, b"\x1f\x8b", 415),
        ({}, "x" * (MAX_LABEL_BYTES + 1), 413),
        ({}, "x" * 10_000_000, 413),
        ({}, "", 422),
        ({}, "[" * 10_000, 422),
        ({"X_Long": "x" * 1_000_000}, "{}", 400),
    ],
)
def test_what_is_too_large_or_of_another_kind_is_refused(
    api: HttpApi, headers: dict[str, str], body: str | bytes, status: int
) -> None:
    try:
        answer = api.ask("POST", "/v1/labels", body, **headers)
    except (BrokenPipeError, ConnectionResetError):  # it did not wait for the rest
        assert max(map(len, (body, *headers.values()))) >= 1_000_000
        return
    assert answer.status == status


def test_answers_carry_headers_that_keep_browsers_from_using_them(api: HttpApi) -> None:
    origin = {"Origin": "http://evil.example"}
    for answer in (
        api.ask("GET", "/v1/verdicts", **origin),
        api.ask("GET", "/v1/verdicts", token=None, **origin),
        api.ask("OPTIONS", "/v1/labels", Access_Control_Request_Method="POST", **origin),
    ):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert not any(name.startswith("access-control") for name in answer.headers)
        assert "server" not in answer.headers


def test_requests_are_logged_without_their_token_and_as_all_our_logs_are(api: HttpApi) -> None:
    api.ask("GET", "/v1/labels?limit=1")
    asked = {"process": "http", "method": "GET", "path": "/v1/labels", "status": 200}

    def is_logged() -> bool:  # when the answer is out
        return any(asked.items() <= entry.items() for entry in api.logged())

    wait_until(is_logged, 10, "not logged")
    assert TOKEN not in api.log.read_text()


schema = schemathesis.openapi.from_dict(DOCUMENT)


@schema.parametrize()
@hypothesis_settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
def test_the_api_does_what_its_document_says_whatever_comes(
    case: schemathesis.Case[Any], api: HttpApi
) -> None:
    case.call_and_validate(
        base_url=f"http://127.0.0.1:{api.port}", headers={"Authorization": f"Bearer {TOKEN}"}
    )


def test_the_committed_document_is_that_of_the_routes_and_people_read_of_each() -> None:
    assert openapi.main(["--check"]) == 0
    text = (Path(__file__).parents[2] / "docs" / "labels.md").read_text("utf-8")
    named = re.findall(r"^\| `([A-Z]+) (/\S+)` \|", text, re.MULTILINE)
    assert sorted(named) == sorted(ROUTES)


def test_the_fuzzed_process_lives_within_its_memory_and_logged_no_fault(api: HttpApi) -> None:
    assert api.process.poll() is None
    assert own_memory_bytes(api.process.pid) < MemorySettings().http_mib * 2**20
    assert [e for e in api.logged() if e["level"] in {"error", "critical"}] == []


def test_who_guesses_tokens_uses_up_a_rate_of_his_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr("ssn_agent.labels.guard.time.monotonic", lambda: now)
    guard = Guard(Response(), Token(write_token(tmp_path)), requests_per_s=5)

    def ask(token: str) -> int:
        said: list[Message] = []

        async def send(message: Message) -> None:
            said.append(message)

        headers = [(b"authorization", f"Bearer {token}".encode())]
        scope = {"type": "http", "method": "GET", "path": "/v1/verdicts", "headers": headers}
        asyncio.run(guard(scope, Request(scope).receive, send))
        return int(said[0]["status"])

    assert [ask("x" * 64) for _ in range(12)] == [401] * 10 + [429] * 2
    assert [ask(TOKEN) for _ in range(12)] == [200] * 10 + [429] * 2
    now = 1.0
    assert [ask(TOKEN) for _ in range(6)] == [200] * 5 + [429]


def test_a_question_that_takes_too_long_is_given_up_and_said(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ssn_agent.ledger.database.STEPS_BETWEEN_LOOKS", 1)
    engine = open_database(ledger.settings.ledger_path, read_only=True, limit_s=0.0)
    nothing = LabelAnswer(status="unavailable")
    folder = ledger.settings.heatmap_dir
    pictures = PictureRoutes(engine, "", folder, folder)
    api = make_api(Routes(engine, pictures, lambda _: nothing))
    answer = TestClient(api).get("/v1/verdicts")
    assert answer.status_code == 503
    assert "takes too long" in answer.json()["problem"]


def test_it_takes_no_processor_from_those_who_judge(api: HttpApi) -> None:
    pid = api.process.pid
    wait_until(lambda: os.getpriority(os.PRIO_PROCESS, pid) >= NICE, 10, "it has its start's")


def test_a_flood_without_the_token_is_a_line_a_second_in_the_log(
    api: HttpApi,
) -> None:
    before = len(api.logged())
    began = time.monotonic()
    asked = sum(api.ask("GET", "/v1/labels", token="x" * 64).status == 401 for _ in range(100))
    lines = [e for e in api.logged()[before:] if e.get("status") == 401]
    assert asked == 100
    assert len(lines) <= time.monotonic() - began + 2
    time.sleep(TOLD_EVERY_S)
    api.ask("GET", "/v1/labels", token=None)

    def told() -> int:
        return sum(e.get("without_token", 0) for e in api.logged()[before:])

    wait_until(lambda: told() >= 101, 10, "not all are counted")


def test_without_a_ledger_process_verdicts_are_read_and_a_label_is_not_promised(
    api: HttpApi, ledger: Ledger, label: dict[str, Any]
) -> None:
    ledger.end(signal.SIGKILL)
    answer = api.ask("POST", "/v1/labels", json.dumps({**label, "id": "t-3"}))
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert "say it again" in answer.json["problem"]
    assert api.ask("GET", "/v1/verdicts").status == 200


def test_who_says_nothing_or_little_holds_no_connection_for_long(
    silent: list[socket.socket],
) -> None:
    for connection in silent:
        connection.settimeout(CONNECTION_S + 20)
        with suppress(ConnectionResetError):
            assert connection.recv(1) == b""
        connection.close()


def test_who_has_the_token_is_answered_whoever_holds_connections_and_says_nothing(
    api: HttpApi,
) -> None:
    silent = [socket.create_connection(("127.0.0.1", api.port)) for _ in range(200)]
    try:
        assert [api.ask("GET", "/v1/labels").status for _ in range(5)] == [200] * 5
        assert len(list(Path(f"/proc/{api.process.pid}/fd").iterdir())) < 100
    finally:
        for connection in silent:
            connection.close()


def test_a_new_token_is_taken_up_on_reload_and_the_process_ends_in_order(
    api: HttpApi, folder: Path
) -> None:
    write_token(folder, "n" * 64)
    api.process.send_signal(signal.SIGHUP)
    wait_until(
        lambda: api.ask("GET", "/v1/verdicts", token="n" * 64).status == 200, 20, "the old one"
    )
    assert api.ask("GET", "/v1/verdicts").status == 401
    (folder / "http.token").chmod(0o644)
    api.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "stays as it was" in api.log.read_text(), 20, "nothing said")
    assert api.ask("GET", "/v1/verdicts", token="n" * 64).status == 200
    api.process.send_signal(signal.SIGTERM)
    assert api.process.wait(20) == 0
    write_token(folder).chmod(0o600)


def test_a_port_that_is_taken_is_said_and_costs_no_start_after_another(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        http = {"port": port, "token_file": str(write_token(tmp_path))}
        settings = settings_in(tmp_path, http=http)
        settings.runtime_dir.mkdir()
        with http_api(settings, tmp_path / "http.log") as taken:
            wait_until(lambda: bool(taken.logged()), 60, "nothing is said")
            assert f"127.0.0.1:{port}: cannot be used" in taken.logged()[0]["problem"]
            assert taken.process.poll() is None
            taken.process.send_signal(signal.SIGTERM)
            assert taken.process.wait(PAUSE_S / 2) == 1


@pytest.mark.parametrize(
    ("value", "mode", "problem"),
    [
        ("short", 0o600, "wants 32 to 512"),
        ("x" * 600, 0o600, "wants 32 to 512"),
        ("x" * 20 + " " + "x" * 20, 0o600, "wants 32 to 512"),
        (TOKEN, 0o640, "others may use it"),
        (None, 0o600, "cannot be read"),
    ],
)
def test_a_token_that_others_could_know_is_refused(
    tmp_path: Path, value: str | None, mode: int, problem: str
) -> None:
    path = tmp_path / "token"
    if value is not None:
        path.write_text(value)
        path.chmod(mode)
    settings = HttpSettings(port=free_port(), token_file=path)
    with pytest.raises(SettingsError, match=problem):
        check(settings)
    (tmp_path / "link").symlink_to(write_token(tmp_path))
    with pytest.raises(SettingsError, match="cannot be read"):
        Token(tmp_path / "link")


def test_nothing_is_served_without_a_token_file() -> None:
    with pytest.raises(ValueError, match="nothing is served without a token"):
        HttpSettings(port=8080)
    check(HttpSettings())
