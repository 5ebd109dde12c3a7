"""A station that is sound in everything, until a test plants a fault in it, and its doctor."""

import json
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ssn_agent.ledger.database import migrate, open_database
from support.bundles import write_brightness_bundle
from support.children import environment
from support.parts import draw_parts

TOKEN = "0123456789abcdef" * 4


@dataclass
class Report:
    """What the doctor said, as its file has it."""

    code: int
    shown: str
    parts: dict[str, bytes]

    @property
    def findings(self) -> list[dict[str, str]]:
        found: list[dict[str, str]] = json.loads(self.parts["findings.json"])
        return found

    @property
    def faults(self) -> list[dict[str, str]]:
        return [one for one in self.findings if one["level"] == "fault"]

    def of(self, check: str) -> list[dict[str, str]]:
        return [one for one in self.findings if one["check"] == check]


@dataclass
class Patient:
    """A station's folders and its settings, which a test changes before it calls the doctor."""

    folder: Path
    tables: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)

    @classmethod
    def sound(cls, folder: Path, port: int) -> "Patient":
        """Make one, beside a broker at this port."""
        made = cls(folder)
        draw_parts(folder / "parts", 3)
        bundle = write_brightness_bundle(folder / "b.ssn")
        for name in ("data", "run"):
            (folder / name).mkdir()
        engine = open_database(made.data / "ledger.sqlite")
        migrate(engine)
        engine.dispose()
        token = folder / "http.token"
        token.write_text(TOKEN)
        token.chmod(0o600)
        made.tables = {
            "data_dir": made.data,
            "runtime_dir": folder / "run",
            "broker": {"port": port},
            "http": {"port": 8080, "token_file": token},
            "retention": {"min_free_percent": 0, "ledger_gib": 0.001, "heatmap_gib": 0.001},
            "memory": {"inference_mib": 512},
            "cameras": {
                "left": {
                    "bundle": bundle,
                    "source": {"kind": "folder", "path": folder / "parts"},
                }
            },
        }
        return made

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def left(self) -> dict[str, Any]:
        """Return the settings of its camera."""
        found: dict[str, Any] = self.tables["cameras"]["left"]
        return found

    @property
    def config(self) -> Path:
        """Return the settings file, written anew."""
        path = self.folder / "agent.toml"
        path.write_text("\n".join(_toml(deepcopy(self.tables))) + "\n")
        return path

    def doctor(self, *arguments: object, config: Path | None = None) -> Report:
        """Run `ssn-agent doctor` as a process."""
        out = self.folder / "report.tar.gz"
        out.unlink(missing_ok=True)
        options = ["--config", config or self.config, "--out", out, *arguments]
        if "--user" not in arguments:
            options += ["--user", "root"]  # where a service's user is, it may not look in here
        done = subprocess.run(
            [sys.executable, "-m", "ssn_agent.cli", "doctor", *map(str, options)],
            capture_output=True,
            text=True,
            check=False,
            env=environment() | self.environment,
        )
        assert "Traceback" not in done.stderr, done.stderr
        assert out.exists(), done.stderr
        return Report(done.returncode, done.stdout, parts_of(out))


def parts_of(out: Path) -> dict[str, bytes]:
    """Return the files in what is to be sent, by name."""
    with tarfile.open(out) as archive:
        names = {name.partition("/")[2]: name for name in archive.getnames()}
        read = {short: archive.extractfile(name) for short, name in names.items()}
        return {short: file.read() for short, file in read.items() if file is not None}


def _toml(table: Mapping[str, Any], above: str = "") -> list[str]:
    values = {key: value for key, value in table.items() if not isinstance(value, Mapping)}
    lines = [f"[{above}]"] if above else []
    lines += [f"{key} = {json.dumps(v, default=str)}" for key, v in values.items()]
    for key, value in table.items():
        if isinstance(value, Mapping):
            lines += _toml(value, f"{above}.{key}" if above else key)
    return lines
