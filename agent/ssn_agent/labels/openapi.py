"""The HTTP API's own description, made from its routes and committed beside this file.

`python -m ssn_agent.labels.openapi` writes it, `--check` says whether the routes have outgrown it.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from ssn_agent.labels.api import Routes, make_api
from ssn_agent.labels.pictures import PictureRoutes
from ssn_agent.ledger.database import open_database
from ssn_contract.http import LabelAnswer

DOCUMENT = Path(__file__).with_name("openapi.json")


def document_text() -> str:
    """Return the OpenAPI document as its file holds it."""
    nothing = Path("/nonexistent")  # no route is called
    engine = open_database(nothing, read_only=True)
    pictures = PictureRoutes(engine, "", nothing, nothing)
    routes = Routes(engine, pictures, lambda _: LabelAnswer(status="unavailable"))
    return json.dumps(make_api(routes).openapi(), indent=2) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the document, or with `--check` compare it; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m ssn_agent.labels.openapi", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare; write nothing")
    text = document_text()
    if parser.parse_args(arguments).check:
        if DOCUMENT.exists() and DOCUMENT.read_text("utf-8") == text:
            return 0
        sys.stderr.write(
            f"{DOCUMENT}: differs from the routes; run python -m ssn_agent.labels.openapi\n"
        )
        return 1
    DOCUMENT.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
