"""Settings: a TOML file, the environment (`SSN_...`), the command line, in rising order.

The supervisor resolves them once and hands the result to every process as a file, so that no two
processes work by different settings. `digest` names them in every verdict.
"""

import difflib
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)
from pydantic_settings import (
    SettingsError as SourceError,
)

from ssn_agent.bundles.settings import ChannelSettings
from ssn_agent.capture.settings import SOURCES, Region, Source, check_binds
from ssn_agent.errors import SettingsError
from ssn_agent.inference.challenge_settings import ChallengeSettings
from ssn_agent.inference.settings import (
    DriftSettings,
    FitnessSettings,
    InferenceSettings,
    KeepSettings,
)
from ssn_agent.labels.settings import HttpSettings
from ssn_agent.ledger.settings import RetentionSettings
from ssn_agent.metrics.settings import MetricsSettings
from ssn_agent.publish.settings import BrokerSettings
from ssn_agent.section import Section
from ssn_agent.supervisor.settings import MemorySettings
from ssn_agent.updates.settings import UpdateSettings
from ssn_contract.manifest import Name
from ssn_contract.messages import Product
from ssn_contract.topics import Station

DEFAULT_PATH = Path("/etc/ssn-agent/agent.toml")
DEFAULT_RUNTIME_DIR = Path("/run/ssn-agent")
DESCRIBED = "camera"
"""The name of one that the command line describes."""
MAX_RUNTIME_DIR = 90
"""The kernel names a socket in at most 107 bytes."""


_SECRETS: Any = {
    "broker": {"password": True},
    "cameras": {"__all__": {"source": {"password": True}}},
}


class Judge(Section):
    """What judges parts."""

    bundle: Path | None = None
    """None, where nothing is followed either: every verdict is INVALID(no_model)."""
    follow: Name | None = None
    """A bundle's name in the channel: what comes there takes over from `bundle` once it has been
    tried on this box (docs/updates.md)."""


class CameraSettings(Judge):
    """A camera, what judges its frames, and how."""

    source: Source
    mode: Literal["judge", "collect"] = "judge"
    """collect: all pictures are kept, and nothing is judged: every verdict is INVALID(no_model)."""
    products: Annotated[dict[Product, Judge], Field(max_length=64, default_factory=dict)]
    """What judges a part whose trigger names its product; without any, the camera's own judges them
    all. A product that is not among them is INVALID(no_model)."""
    roi: Region | None = None
    """The part of the image that is judged; None: all of it."""
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """FAIL from this calibrated score on; 0.5 is the one the trainer chose."""
    min_defect_area_px: Annotated[int, Field(ge=0)] = 0
    """Regions smaller than this are not listed; they do not change a verdict."""
    deadline_ms: Annotated[float, Field(ge=1, le=60_000)] = 2000.0
    """From the trigger; a part without a verdict by then is INVALID(late)."""
    heatmap: Literal["fail", "all", "none"] = "fail"
    """Which verdicts get a heatmap."""
    alarm_after: Annotated[int, Field(ge=0)] = 20
    """So many parts in a row without a PASS raise an alarm on `status`; 0: never."""
    fitness: FitnessSettings = FitnessSettings()
    drift: DriftSettings = DriftSettings()
    challenge: ChallengeSettings | None = None
    """None: verdicts are not challenged."""
    keep: KeepSettings = KeepSettings()

    @model_validator(mode="after")
    def _collect_without_a_judge(self) -> "CameraSettings":
        named = [j for j in self.judges if j.bundle is not None or j.follow is not None]
        if self.mode == "collect" and named:
            msg = 'mode = "collect" judges nothing, but a bundle is named; remove one of the two'
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _judges_its_challenge_pictures(self) -> "CameraSettings":
        pictures = self.challenge and (self.challenge.good_images or self.challenge.bad_images)
        if pictures and self.bundle is None and self.follow is None:
            msg = "challenge: pictures are judged by the camera's own bundle, and it names none; "
            raise ValueError(msg + "name one, or take good_parts and bad_parts")
        return self

    def judge_of(self, product: str | None) -> Judge | None:
        """Return what judges a part of this product; None: nothing does."""
        if product is None or not self.products:
            return self
        return self.products.get(product)

    @property
    def judges(self) -> tuple[Judge, ...]:
        """Return everything that may judge here."""
        return (self, *self.products.values())


class Settings(Section):
    """Everything that can be set, resolved."""

    station: Station = Station()
    broker: BrokerSettings = BrokerSettings()
    channel: ChannelSettings | None = None
    """None: bundles come here by hand."""
    inference: InferenceSettings = InferenceSettings()
    memory: MemorySettings = MemorySettings()
    metrics: MetricsSettings = MetricsSettings()
    http: HttpSettings = HttpSettings()
    retention: RetentionSettings = RetentionSettings()
    updates: UpdateSettings = UpdateSettings()
    data_dir: Path = Path("/var/lib/ssn-agent")
    """Ledger, heatmaps, pulled bundles, and what was found out about engines."""
    runtime_dir: Path = DEFAULT_RUNTIME_DIR
    """Mapped files and sockets; on a memory file system, kept over a restart of the service."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    cameras: Annotated[dict[Name, CameraSettings], Field(min_length=1, max_length=32)]

    @field_validator("cameras")
    @classmethod
    def _listen_apart(cls, value: dict[str, CameraSettings]) -> dict[str, CameraSettings]:
        check_binds(camera.source for camera in value.values())
        return value

    @model_validator(mode="after")
    def _follow_a_channel(self) -> "Settings":
        if self.followed and self.channel is None:
            names = ", ".join(self.followed)
            msg = f"{names}: followed, and there is no channel; set channel.url and root_file"
            raise ValueError(msg)
        return self

    @field_validator("data_dir")
    @classmethod
    def _found_from_anywhere(cls, value: Path) -> Path:
        return value.absolute()  # verdicts name files in it

    @field_validator("runtime_dir")
    @classmethod
    def _sockets_fit(cls, value: Path) -> Path:
        if len(os.fsencode(value.absolute())) > MAX_RUNTIME_DIR:
            msg = f"longer than {MAX_RUNTIME_DIR} bytes, so its sockets cannot be named"
            raise ValueError(msg)
        return value.absolute()

    @property
    def ledger_path(self) -> Path:
        """Return the database file."""
        return self.data_dir / "ledger.sqlite"

    @property
    def heatmap_dir(self) -> Path:
        """Return the folder of heatmap files."""
        return self.data_dir / "heatmaps"

    @property
    def engine_dir(self) -> Path:
        """Return the folder of what was found out about engines, and of what they build."""
        return self.data_dir / "engines"

    @property
    def bundle_dir(self) -> Path:
        """Return the folder of bundles that came from the channel."""
        return self.data_dir / "bundles"

    @property
    def channel_dir(self) -> Path:
        """Return the folder of the channel's metadata that was believed last."""
        return self.data_dir / "channel"

    @property
    def models_file(self) -> Path:
        """Return the file of what is decided about followed bundles; see `updates.state`."""
        return self.data_dir / "models.json"

    @property
    def image_dir(self) -> Path:
        """Return the folder of pictures that are kept."""
        return self.data_dir / "images"

    @property
    def followed(self) -> list[str]:
        """Return the names of bundles that cameras follow."""
        judges = (judge for camera in self.cameras.values() for judge in camera.judges)
        return sorted({judge.follow for judge in judges if judge.follow is not None})

    @property
    def digest(self) -> str:
        """SHA-256 over the settings that bear on a verdict: no secret and no log level in it."""
        kept = self.model_dump(
            mode="json", include={"station", "inference", "cameras"}, exclude=_SECRETS
        )
        return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()

    def public_json(self, indent: int | None = None) -> str:
        """Return everything but the secrets."""
        return self.model_dump_json(indent=indent, exclude=_SECRETS)


class _Sourced(BaseSettings, Settings):
    """The settings as their sources give them."""

    model_config = SettingsConfigDict(
        env_prefix="SSN_", env_nested_delimiter="__", extra="forbid", toml_file=None
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Command line, environment, file: the first one that says something wins."""
        del dotenv_settings, file_secret_settings
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


def load_settings(path: Path, overrides: Sequence[str] = ()) -> Settings:
    """Resolve the settings from a TOML file, the environment and `key.path=value` overrides.

    Raises SettingsError, naming file, key and reason of everything that is wrong.
    """
    try:
        is_there = path.is_file()
    except PermissionError as error:
        msg = f"{path}: cannot be read by this user; ask as root or as the agent's own user"
        raise SettingsError(msg) from error
    if not is_there:
        msg = f"{path}: no such settings file; `ssn-agent init` writes one; or name another"
        raise SettingsError(msg)
    _check_environment()
    given = _parse_overrides(overrides)
    model_config = SettingsConfigDict(toml_file=path)
    from_file = type(
        "_FromFile", (_Sourced,), {"model_config": model_config, "__module__": __name__}
    )
    try:
        sourced = from_file(**given)
    except ValidationError as error:
        raise SettingsError(_describe(error, path, overrides)) from error
    except SourceError as error:
        msg = f"environment: {error}; write it as JSON, or set its keys one by one"
        raise SettingsError(msg) from error
    except (ValueError, OSError, RecursionError) as error:  # the last: brackets in brackets
        msg = f"{path}: cannot be read as TOML: {error}"
        raise SettingsError(msg) from error
    return Settings.model_validate(sourced.model_dump())


def described_camera(items: Sequence[str]) -> CameraSettings:
    """Return a camera of which the command line says the source, as `key=value`.

    Raises SettingsError, naming key and reason of everything that is wrong.
    """
    given = _parse_overrides(items, f"cameras.{DESCRIBED}.source.", "--source")
    try:
        return Settings.model_validate(given).cameras[DESCRIBED]
    except ValidationError as error:
        problems = _describe(error, Path("--source"), ())
        raise SettingsError(problems.replace(f"cameras.{DESCRIBED}.source", "source")) from error


def read_resolved(path: Path) -> Settings:
    """Read what the supervisor resolved. Raises SettingsError."""
    try:
        return Settings.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        msg = f"{path}: the resolved settings cannot be read ({error}); start the agent again"
        raise SettingsError(msg) from error


def _parse_overrides(
    overrides: Sequence[str], under: str = "", option: str = "--set"
) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for item in overrides:
        key, equals, value = f"{under}{item}".partition("=")
        parts = key.split(".")
        if not equals or not all(parts):
            msg = f"{option} {item}: write it as key.path=value"
            raise SettingsError(msg)
        node = tree
        for part in parts[:-1]:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                msg = f"{option} {item}: {part} was set to a value before"
                raise SettingsError(msg)
        node[parts[-1]] = _scalar(value) if parts[-2:-1] == ["features"] else value
    return tree


def _scalar(text: str) -> bool | int | float | str:
    """Return what a value of a camera's feature says: only there does no field know its type."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, bool | int | float) else text


def _check_environment() -> None:
    """Refuse a variable of ours that sets nothing: a misspelt one must not pass unseen."""
    for name in sorted(os.environ):
        key = name.lower().removeprefix("ssn_").partition("__")[0]
        if name.upper().startswith("SSN_") and "__" in name and key not in Settings.model_fields:
            near = difflib.get_close_matches(key, list(Settings.model_fields), n=1, cutoff=0.6)
            hint = f"did you mean SSN_{near[0].upper()}__...?" if near else "unset it"
            msg = f"environment {name}: unknown key {key}; {hint}"
            raise SettingsError(msg)


def _describe(error: ValidationError, path: Path, overrides: Sequence[str]) -> str:
    lines = []
    for problem in error.errors(include_url=False, include_input=False):
        loc = [str(part) for part in problem["loc"]]
        loc = [
            part
            for i, part in enumerate(loc)
            if not (i and loc[i - 1] == "source" and part in _SOURCE_KINDS)
        ]
        key = ".".join(loc)
        reason = problem["msg"]
        if problem["type"] == "extra_forbidden":
            reason = "unknown key"
            near = difflib.get_close_matches(loc[-1], _known_keys(), n=1, cutoff=0.6)
            reason += f"; did you mean {near[0]}?" if near else "; remove it"
        elif problem["type"] in _NOT_A_NUMBER:
            reason = f"not a number{_UNITS.get(loc[-1].rpartition('_')[2], '')}"
        lines.append(f"{_origin(loc, path, overrides)}: {key}: {reason}")
    return "\n".join(lines)


def _known_keys() -> list[str]:
    """Return the names of all keys, whatever section they are of."""
    schema = Settings.model_json_schema()
    models = (schema, *schema["$defs"].values())
    return sorted({name for model in models for name in model.get("properties", ())})


def _origin(loc: list[str], path: Path, overrides: Sequence[str]) -> str:
    """Say where a key was set; an unknown key may have been named with more keys below it."""
    key = ".".join(loc)
    if any(f"{item.split('=', 1)[0]}.".startswith(f"{key}.") for item in overrides):
        return "command line"
    variable = "SSN_" + "__".join(loc).upper()
    for name in sorted(os.environ):
        if f"{name.upper()}__".startswith(f"{variable}__"):
            return f"environment {name}"
    return str(path)


_NOT_A_NUMBER = {"float_parsing", "float_type", "int_parsing", "int_type", "int_from_float"}
_UNITS = {
    "ms": " of milliseconds; write it without a unit",
    "s": " of seconds; write it without a unit",
    "px": " of pixels; write it without a unit",
}
_SOURCE_KINDS = {get_args(model.model_fields["kind"].annotation)[0] for model in SOURCES}
