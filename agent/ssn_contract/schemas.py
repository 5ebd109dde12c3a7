"""JSON Schemas of everything that crosses our border, made from the models and committed.

`python -m ssn_contract.schemas` writes them, `--check` says which ones the models have outgrown.
What we write is described as we write it: every field is there, null where there is nothing.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from ssn_contract.challenge import ChallengeReport
from ssn_contract.channel import Announcement, ChannelBundle
from ssn_contract.manifest import Manifest
from ssn_contract.messages import Label, ModelInForce, StationStatus, Trigger, Verdict
from ssn_contract.metrics import StationMetrics
from ssn_contract.zeromq import PartAnswer, PartHeader

FOLDER = Path(__file__).with_name("schemas")
WRITTEN: dict[str, type[BaseModel]] = {
    "verdict": Verdict,
    "model": ModelInForce,
    "challenge": ChallengeReport,
    "status": StationStatus,
    "metrics": StationMetrics,
    "manifest": Manifest,
    "channel_bundle": ChannelBundle,
    "part_answer": PartAnswer,
}
"""What we write, by the name of its schema."""
TAKEN: dict[str, type[BaseModel]] = {
    "trigger": Trigger,
    "label": Label,
    "announcement": Announcement,
    "part_header": PartHeader,
}
"""What we take from others, by the name of its schema."""
MODELS = {**WRITTEN, **TAKEN}


def schema_text(name: str) -> str:
    """Return the JSON Schema (draft 2020-12) of a model as its file holds it."""
    mode: Literal["serialization", "validation"] = (
        "serialization" if name in WRITTEN else "validation"
    )
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:ssn-inspect:v1:{name}",
        **MODELS[name].model_json_schema(mode=mode),
    }
    return json.dumps(schema, indent=2) + "\n"


def outdated() -> list[str]:
    """Return what differs in the folder of schemas: files to be written, and strange ones."""
    found = {path.name: path.read_text("utf-8") for path in FOLDER.glob("*")}
    wanted = {f"{name}.json": schema_text(name) for name in MODELS}
    names = found.keys() | wanted.keys()
    return sorted(name for name in names if found.get(name) != wanted.get(name))


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the schemas, or with `--check` compare them; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m ssn_contract.schemas", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare; write nothing")
    if parser.parse_args(arguments).check:
        for name in outdated():
            sys.stderr.write(
                f"{FOLDER / name}: differs from its model; run python -m ssn_contract.schemas\n"
            )
        return 1 if outdated() else 0
    FOLDER.mkdir(exist_ok=True)
    for name in MODELS:
        (FOLDER / f"{name}.json").write_text(schema_text(name), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
