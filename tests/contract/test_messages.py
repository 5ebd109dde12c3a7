"""Golden messages, their models and their schemas agree."""

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import (  # type: ignore[import-untyped]  # it ships no types
    Draft202012Validator,
    FormatChecker,
)
from pydantic import ValidationError

from contract.make_golden import FOLDER, golden, write
from ssn_contract import Verdict, VerdictKind, schemas
from ssn_contract.messages import StationStatus
from ssn_contract.schemas import MODELS

BEYOND_SCHEMAS = {
    "status/invalid/counts-do-not-add-up.json",  # arithmetic
    "metrics/invalid/counts-do-not-add-up.json",  # likewise
    "metrics/invalid/buckets-fall.json",  # an order
    "metrics/invalid/bounds-fall.json",  # likewise
    "metrics/invalid/more-in-a-bucket-than-in-all.json",  # likewise
    "manifest/invalid/entry-listed-twice.json",  # unique by one field of several
    "manifest/invalid/precision-twice.json",  # likewise
    "manifest/invalid/without-fp32.json",  # a list that must hold a certain name
    "manifest/invalid/file-not-listed.json",  # one field refers to another
}
"""What the models refuse and JSON Schema cannot, or not in a readable way."""

VALID = sorted(name for name in golden() if "/valid/" in name)
INVALID = sorted(name for name in golden() if "/invalid/" in name)
TODAY = [name for name in VALID if "from-newer" not in name]


def validator(kind: str) -> Draft202012Validator:
    schema = json.loads((schemas.FOLDER / f"{kind}.json").read_text("utf-8"))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema, format_checker=FormatChecker())


VALIDATORS = {kind: validator(kind) for kind in MODELS}


def parts(name: str) -> tuple[str, str]:
    """Return the kind and the text of a golden file."""
    return name.split("/", 1)[0], (FOLDER / name).read_text("utf-8")


def strict_json(text: str) -> Any:
    """Parse as the standard says: NaN is no number."""

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    return json.loads(text, parse_constant=refuse)


def test_a_status_of_an_agent_that_did_not_name_its_processes_yet_is_read() -> None:
    old = json.loads((FOLDER / "status/valid/online.json").read_text("utf-8"))
    del old["processes"]
    assert StationStatus.model_validate(old).processes == []


def test_golden_files_are_what_their_script_makes(tmp_path: Path) -> None:
    write(tmp_path)
    committed = {p.relative_to(FOLDER): p.read_bytes() for p in FOLDER.rglob("*") if p.is_file()}
    made = {p.relative_to(tmp_path): p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    assert committed == made


@pytest.mark.parametrize("name", VALID)
def test_a_valid_message_is_read_by_model_and_schema(name: str) -> None:
    kind, text = parts(name)
    MODELS[kind].model_validate_json(text)
    VALIDATORS[kind].validate(strict_json(text))


@pytest.mark.parametrize("name", VALID)
def test_reading_and_writing_again_changes_nothing(name: str) -> None:
    kind, text = parts(name)
    message = MODELS[kind].model_validate_json(text)
    written = message.model_dump_json()
    assert MODELS[kind].model_validate_json(written) == message
    if name in TODAY:
        assert message.model_dump_json(indent=2) + "\n" == text


@pytest.mark.parametrize("kind", schemas.WRITTEN)
def test_fields_of_a_newer_writer_are_ignored(kind: str) -> None:
    _, text = parts(f"{kind}/valid/from-newer-version.json")
    read = json.loads(MODELS[kind].model_validate_json(text).model_dump_json())
    assert read != json.loads(text)
    _assert_subset(read, json.loads(text))


def _assert_subset(small: Any, large: Any) -> None:
    if isinstance(small, dict):
        for key, value in small.items():
            _assert_subset(value, large[key])
    elif isinstance(small, list):
        assert len(small) == len(large)
        for ours, theirs in zip(small, large, strict=True):
            _assert_subset(ours, theirs)
    else:
        assert small == large


@pytest.mark.parametrize("name", INVALID)
def test_an_invalid_message_is_refused_by_the_model(name: str) -> None:
    kind, text = parts(name)
    with pytest.raises(ValidationError):
        MODELS[kind].model_validate_json(text)


@pytest.mark.parametrize("name", INVALID)
def test_an_invalid_message_is_refused_by_the_schema_where_it_can(name: str) -> None:
    kind, text = parts(name)
    try:
        accepted = VALIDATORS[kind].is_valid(strict_json(text))
    except ValueError:
        accepted = False
    assert accepted == (name in BEYOND_SCHEMAS)


@pytest.mark.parametrize("kind", schemas.TAKEN)
def test_every_unknown_field_of_what_we_take_is_refused(kind: str) -> None:
    for name in TODAY:
        if name.startswith(f"{kind}/"):
            message = {**json.loads(parts(name)[1]), "unheard_of": None}
            with pytest.raises(ValidationError, match="unheard_of"):
                MODELS[kind].model_validate_json(json.dumps(message))
            assert not VALIDATORS[kind].is_valid(message)


def test_every_verdict_has_a_golden_message() -> None:
    kinds = {json.loads(parts(name)[1])["verdict"] for name in TODAY if name.startswith("verdict/")}
    assert kinds == {kind.value for kind in VerdictKind}


def test_a_time_with_another_zone_is_written_in_utc() -> None:
    _, text = parts("verdict/valid/pass.json")
    shifted = text.replace("T06:00:00.125000Z", "T07:00:00.125000+01:00")
    assert shifted != text
    assert Verdict.model_validate_json(shifted) == Verdict.model_validate_json(text)
    assert Verdict.model_validate_json(shifted).model_dump_json(indent=2) + "\n" == text


def test_the_key_of_a_verdict_is_in_its_text() -> None:
    """A subscriber of MQTT 3.1.1 sees topic and payload alone: no property carries anything."""
    for name in TODAY:
        if name.startswith("verdict/"):
            message = strict_json(parts(name)[1])
            assert {"schema_version", "station", "camera", "epoch", "sequence"} <= message.keys()
            heatmap = message["heatmap"]
            assert heatmap is None or heatmap["topic"].endswith(f"/heatmap/{message['sequence']}")
