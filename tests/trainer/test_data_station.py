"""Labelled pictures come from a station once, whole, and as the contract says, or not at all."""

import csv
import io
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rich.console import Console

from ssn_trainer.data import station as asking
from ssn_trainer.data.fetch import COLUMNS, fetch, folder_of
from ssn_trainer.data.samples import load
from ssn_trainer.data.station import Station
from ssn_trainer.errors import StationError, UsageError
from support.certificates import Authority
from support.http_api import TOKEN, write_token
from support.pictures import draw
from support.station import EPOCH, Served, labelled, read_pictures, served

from .conftest import Run, draw_parts

REDIRECT = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"


@pytest.fixture
def token(tmp_path: Path) -> Path:
    return write_token(tmp_path)


@pytest.fixture
def picture(tmp_path: Path) -> bytes:
    return draw(tmp_path / "picture.png").read_bytes()


@pytest.fixture
def line(picture: bytes) -> Iterator[Served]:
    """Eight verdicts: six to learn from, one without a picture, one on a challenge part."""
    entries = [labelled(i, ("anna", "bad" if i == 3 else "good")) for i in range(1, 7)]
    entries[3] = labelled(4, ("anna", "good"), ("ben", "bad"), part_id=None, product="lid")
    entries.append(labelled(7, ("anna", "good"), image_file=None))
    entries.append(labelled(8, ("anna", "good"), challenge="good"))
    entries.append(labelled(9))
    with served(entries, dict.fromkeys(range(1, 10), picture)) as running:
        yield running


def fetched(url: str, token: Path, out: Path, ca_file: Path | None = None) -> tuple[Path, str]:
    """Fetch; return the folder, and what was said."""
    station = Station.of(url, token, ca_file)
    said = io.StringIO()
    folder = folder_of(station, out)
    fetch(station, folder, Console(file=said, width=500))
    return folder, said.getvalue()


def rows_in(folder: Path) -> list[dict[str, str]]:
    with (folder / "labels.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_what_is_labelled_becomes_the_layout_of_the_ledgers_export(
    line: Served, token: Path, tmp_path: Path
) -> None:
    folder, said = fetched(line.url, token, tmp_path)
    rows = rows_in(folder)
    assert [row["sequence"] for row in rows] == ["1", "2", "3", "4", "5", "6"]
    assert tuple(rows[0]) == COLUMNS
    assert rows[2] == {
        "image": f"images/left/{EPOCH}-3.png",
        "part_id": "part-3",
        "product": "",
        "camera": "left",
        "epoch": str(EPOCH),
        "sequence": "3",
        "triggered_at": "2026-05-04T06:00:00Z",
        "score": "0.25",
        "verdict": "PASS",
        "model": "plates-1.0.0",
        "label": "bad",
        "defect_type": "blob",
        "labeller": "anna",
        "labelled_at": "2026-05-04T06:00:00Z",
        "disagreement": "true",
    }
    assert (rows[3]["product"], rows[3]["part_id"]) == ("lid", "")
    disputed = [row["disagreement"] for row in rows]
    assert disputed == ["false", "false", "true", "true", "false", "false"]
    assert "6 fetched, 1 labelled and no picture kept, 1 of challenge parts, left out" in said
    assert "/9/image" not in "".join(line.asked)
    assert TOKEN not in said


def test_a_picture_that_is_there_is_not_fetched_again_and_a_new_label_is_seen(
    line: Served, token: Path, tmp_path: Path
) -> None:
    folder, _ = fetched(line.url, token, tmp_path)
    (folder / "images" / "left" / f"{EPOCH}-2.png").unlink()  # as if it had been cut off there
    line.asked.clear()
    line.entries[0] = labelled(1, ("ben", "bad"), ("anna", "good"))
    _, said = fetched(line.url, token, tmp_path)
    assert line.fetched_images() == [f"/v1/verdicts/left/{EPOCH}/2/image"]
    assert "1 fetched, 5 here already" in said
    assert (rows_in(folder)[0]["label"], rows_in(folder)[0]["labeller"]) == ("bad", "ben")


def test_the_url_names_which_verdicts_are_wanted(line: Served, token: Path, tmp_path: Path) -> None:
    folder, _ = fetched(f"{line.url}/?camera=right", token, tmp_path)
    assert rows_in(folder) == []
    assert line.asked == ["/v1/verdicts?camera=right&labelled=true&limit=500"]
    with pytest.raises(StationError, match="answers 422: Extra inputs"):
        fetched(f"{line.url}?kamera=right", token, tmp_path)


def test_a_picture_that_was_deleted_meanwhile_is_counted(
    line: Served, token: Path, tmp_path: Path
) -> None:
    del line.images[5]
    folder, said = fetched(line.url, token, tmp_path)
    assert len(rows_in(folder)) == 5
    assert "2 labelled and no picture kept" in said


def test_a_station_that_is_busy_is_asked_again(line: Served, token: Path, tmp_path: Path) -> None:
    busy = [b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 86400\r\nContent-Length: 0\r\n\r\n"]
    line.instead = lambda path: busy.pop() if busy and path.endswith("/image") else None
    folder, _ = fetched(line.url, token, tmp_path)
    assert len(rows_in(folder)) == 6


def answer(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body


PAGE = answer(b'{"entries": [], "next": 7}')


@pytest.mark.parametrize(
    ("where", "raw", "problem"),
    [
        ("/image", answer(b"GIF89a"), "is no PNG"),
        ("/image", answer(b"\x89PNG\r\n\x1a\n" + bytes(70_000)), "more than the 65536 bytes"),
        ("/image", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n\x89PNG", "cannot be fetched"),
        ("/image", REDIRECT, "answers 302"),
        (
            "?",
            answer(b'{"entries": [{"camera": "../.."}], "next": null}'),
            "what the contract says",
        ),
        ("?", answer(b"[" * 100_000), "what the contract says"),
        ("?", PAGE, "do not come to an end"),
        ("?", b"garbled\r\n\r\n", "cannot be fetched"),
    ],
)
def test_a_station_that_answers_what_it_must_not_is_refused_and_leaves_no_table(
    line: Served,
    token: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    raw: bytes,
    problem: str,
) -> None:
    monkeypatch.setattr(asking, "MAX_IMAGE_BYTES", 65536)
    line.instead = lambda path: raw if where in path else None
    with pytest.raises(StationError, match=problem) as caught:
        fetched(line.url, token, tmp_path)
    assert TOKEN not in str(caught.value)
    assert not list(tmp_path.rglob("labels.csv"))


def test_a_wrong_token_is_named_by_the_stations_answer(line: Served, tmp_path: Path) -> None:
    with pytest.raises(StationError, match="answers 401: name the token"):
        fetched(line.url, write_token(tmp_path, "wrong" * 10), tmp_path)


def test_a_station_that_is_away_says_so(token: Path, tmp_path: Path) -> None:
    with served([], {}) as gone:
        url = gone.url
    with pytest.raises(StationError, match="cannot be fetched"):
        fetched(url, token, tmp_path)


@pytest.mark.needs("openssl")
def test_a_certificate_is_checked_against_the_ca_that_is_given(
    picture: bytes, token: Path, tmp_path: Path
) -> None:
    plant, other = Authority(tmp_path, "plant"), Authority(tmp_path, "other")
    entries = [labelled(1, ("anna", "good"))]
    with served(entries, {1: picture}, tls=plant.issue("box-1")) as line:
        folder, _ = fetched(line.url, token, tmp_path, plant.cert)
        assert len(rows_in(folder)) == 1
        for ca_file in (other.cert, None):
            with pytest.raises(StationError, match="CERTIFICATE_VERIFY_FAILED"):
                fetched(line.url, token, tmp_path, ca_file)


@pytest.mark.parametrize(
    ("url", "is_overheard"),
    [
        ("http://127.0.0.1:8080", False),
        ("http://[::1]:8080", False),
        ("https://box-1", False),
        ("http://box-1:8080", True),
        ("http://127.0.0.1.example.com", True),
    ],
)
def test_a_token_that_others_could_read_on_the_way_is_warned_of(
    token: Path, url: str, is_overheard: bool
) -> None:
    assert Station.of(url, token, None).is_overheard is is_overheard


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("https://", "is no URL"),
        ("https://box-1:99999", "is no URL"),
        ("https://box-1/#verdicts", "is no URL"),
        ("https://anna:secret@box-1", "holds a user's name"),
        ("https://box-1?labelled=false&limit=1", "labelled, limit"),
    ],
)
def test_a_url_that_is_none_of_a_station_is_refused_before_anything_is_asked(
    token: Path, url: str, problem: str
) -> None:
    with pytest.raises(UsageError, match=problem) as caught:
        Station.of(url, token, None)
    assert "secret" not in str(caught.value)


def spoil_mode(token: Path) -> None:
    token.chmod(0o644)


def spoil_content(token: Path) -> None:
    token.write_text("two words\n")


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (spoil_mode, "chmod 0600"),
        (spoil_content, "holds no token"),
        (Path.unlink, "cannot be read"),
    ],
)
def test_a_tokens_file_is_the_users_own(
    token: Path, spoil: Callable[[Path], None], problem: str
) -> None:
    spoil(token)
    with pytest.raises(UsageError, match=problem):
        Station.of("https://box-1", token, None)


def test_fit_reads_straight_from_a_station_and_goes_on_without_it(
    run: Run, token: Path, tmp_path: Path
) -> None:
    parts = draw_parts(tmp_path / "parts", good=24, bad=12)
    pictures = [(data, kind) for kind in ("good", "blob") for data in read_pictures(parts / kind)]
    entries = [
        labelled(number, ("anna", "good" if kind == "good" else "bad"))
        for number, (_, kind) in enumerate(pictures, start=1)
    ]
    images = {number: data for number, (data, _) in enumerate(pictures, start=1)}
    out = tmp_path / "out"
    small = ("--weights", "none", "--image-size", 64, "--epochs", 1, "--precisions", "none")
    told = ("--name", "plates", "--out", out, *small)
    with served(entries, images) as line:
        station = folder_of(Station.of(line.url, token, None), out)
        given = ("fit", line.url, "--format", "ledger", "--token-file", token)
        code, _, errors = run(*given, *told, "--bundle-version", "1")
    assert code == 0, errors
    assert (out / "plates-1.ssn").is_file()
    assert TOKEN not in errors
    data = load(station)
    assert (len(data.samples), data.grouped_by) == (36, "part_id")
    assert {s.kind for s in data.samples} == {None, "blob"}
    shutil.rmtree(parts)
    code, _, errors = run("data", "check", station)
    assert code == 0, errors


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("https://box-1",), "--token-file FILE"),
        (("https://box-1", "--format", "mvtec"), "use --format ledger"),
        (("parts", "--token-file", "token"), "leave them out"),
    ],
)
def test_wrong_use_of_a_station_is_said_before_anything_is_asked(
    run: Run, tmp_path: Path, arguments: tuple[str, ...], problem: str
) -> None:
    code, _, errors = run("fit", *arguments, "--out", tmp_path / "out")
    assert code == 2
    assert problem in errors
