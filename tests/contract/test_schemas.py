"""The committed JSON Schemas are those of the models."""

from pathlib import Path

import pytest

from ssn_contract import schemas


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(schemas, "FOLDER", tmp_path / "schemas")
    assert schemas.main([]) == 0
    return tmp_path / "schemas"


def test_committed_schemas_are_those_of_the_models() -> None:
    assert schemas.main(["--check"]) == 0


def test_written_schemas_pass_the_check(folder: Path) -> None:
    assert schemas.main(["--check"]) == 0
    assert {path.stem for path in folder.iterdir()} == set(schemas.MODELS)


@pytest.mark.parametrize("damage", ["changed", "missing", "strange"])
def test_the_check_names_the_file_that_differs(
    folder: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / ("order.json" if damage == "strange" else "label.json")
    if damage == "missing":
        path.unlink()
    else:
        path.write_text("{}", "utf-8")
    before = sorted((p.name, p.read_bytes()) for p in folder.iterdir())
    assert schemas.main(["--check"]) == 1
    assert [line for line in capsys.readouterr().err.splitlines() if str(path) in line]
    assert sorted((p.name, p.read_bytes()) for p in folder.iterdir()) == before


@pytest.mark.parametrize("name", schemas.MODELS)
def test_a_schema_says_what_it_describes(name: str) -> None:
    text = schemas.schema_text(name)
    assert f'"$id": "urn:ssn-inspect:v1:{name}"' in text
    assert f'"title": "{schemas.MODELS[name].__name__}"' in text
    assert '"$schema": "https://json-schema.org/draft/2020-12/schema"' in text
