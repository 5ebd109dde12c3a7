"""A first settings file: what was answered, and what else people often set, each with its meaning.

The other keys, and all limits, are in `ssn-agent config schema`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ssn_agent.commissioning.words import quoted
from ssn_agent.ledger.settings import RetentionSettings
from ssn_contract.topics import Station

_SOURCE_KEYS = {
    "kind": "which driver (README, Settings, has all kinds)",
    "device": "which of them: its address, serial number or name",
    "producer": "the vendor's GenTL producer",
    "url": "of its stream; without user and password",
    "username": "of the camera",
    "password": "likewise",
    "path": "file or folder",
    "bind": "where to listen for parts",
}
_COMMENT_AT = 44


@dataclass(frozen=True)
class Answers:
    """What the file is to say."""

    station: Station
    camera: str
    """The camera's name."""
    source: Mapping[str, Any]
    """Its keys, `kind` among them."""
    broker: Mapping[str, Any]
    data_dir: Path
    runtime_dir: Path
    bundle: Path | None = None
    follow: str | None = None
    channel: Mapping[str, Any] = field(default_factory=dict)
    """Empty: bundles come by hand."""

    @property
    def judges_nothing(self) -> bool:
        """Say whether there is no bundle yet."""
        return self.bundle is None and self.follow is None

    @property
    def holds_secret(self) -> bool:
        """Say whether the file is to be read by few."""
        return "password" in {*self.source, *self.broker}


def settings_text(a: Answers) -> str:
    """Return the file as TOML; what has a `#` before it shows its default, or an example."""
    broker = {"host": "127.0.0.1", "port": 1883, **a.broker}
    name = f"cameras.{a.camera}"
    retention = RetentionSettings()
    lines = [
        "# Settings of SSN Inspect, made by `ssn-agent init`. All keys: `ssn-agent config schema`;",
        "# what they are to: README, Settings. After a change: `ssn-agent config check`, then",
        "# `systemctl reload ssn-agent` (status says where a change wants a restart).",
        "",
        _line("data_dir", str(a.data_dir), "ledger, heatmaps, pulled bundles"),
        _line("runtime_dir", str(a.runtime_dir), "mapped files and sockets, in memory"),
        _off("log_level", "info", "or debug, warning, error"),
        "",
        "[station]  # levels of the MQTT topics ssn/v1/SITE/LINE/STATION/...",
        _line("site", a.station.site, "the plant"),
        _line("line", a.station.line, "the production line"),
        _line("station", a.station.station, "this box, unlike all others of the line"),
        "",
        "[broker]  # where verdicts go: MQTT 5",
        _line("host", broker["host"], "as its certificate names it"),
        _line("port", broker["port"], "8883 is usual with TLS, 1883 without"),
        _either("tls", broker, False, "encrypted, and the broker proves who it is"),
        _either(
            "ca_file", broker, "/etc/ssn-agent/tls/ca.pem", "whom to trust; none: the system's"
        ),
        _either("cert_file", broker, "/etc/ssn-agent/tls/station.pem", "this box's certificate"),
        _either(
            "key_file", broker, "/etc/ssn-agent/tls/station.key", "and key, for ssn-agent alone"
        ),
        _either("username", broker, "box-a", "where the broker wants one"),
        _password(broker),
        "",
        *_channel(a),
        f"[{name}]",
        *_judge(a),
        _off("threshold", 0.5, "FAIL from this score on"),
        _off("deadline_ms", 2000, "from trigger to verdict; then INVALID(late)"),
        _off("heatmap", "fail", "which verdicts get one: fail, all, none"),
        _off("alarm_after", 20, "parts in a row without a PASS; 0: never"),
        _off("roi", {"x": 0, "y": 0, "width": 640, "height": 480}, "what of the image is judged"),
        "",
        f"[{name}.source]",
        *(_line(key, value, _SOURCE_KEYS.get(key, "")) for key, value in a.source.items()),
        *([] if {"trigger", "bind"} & set(a.source) else [_TRIGGER]),
        "",
        "[retention]  # the oldest goes first; see `How long things are kept`",
        _off("verdict_days", retention.verdict_days, "verdicts of more days go"),
        _off("ledger_gib", retention.ledger_gib, "room for verdicts; 1.2 KB each"),
        _off("heatmap_days", retention.heatmap_days, "heatmaps of more days go"),
        _off("heatmap_gib", retention.heatmap_gib, "room for heatmaps"),
        _off("image_days", retention.image_days, "pictures of more days go"),
        _off("image_gib", retention.image_gib, "room for pictures"),
        _off("min_free_percent", retention.min_free_percent, "of the disk, at least"),
        "",
        "[metrics]",
        _off("port", 9464, "for Prometheus; none: nothing listens"),
        "",
        "[http]",
        _off("port", 8080, "the API for labels; none: nothing listens"),
        _off("token_file", "/etc/ssn-agent/http.token", "its secret: openssl rand -hex 32"),
    ]
    return "\n".join(lines) + "\n"


def _channel(a: Answers) -> list[str]:
    if not a.channel:
        return []
    return [
        "[channel]  # where bundles come from, signed (docs/channels.md)",
        _line("url", a.channel["url"], "the channel's folder on its server"),
        _line("root_file", a.channel["root_file"], "whom to believe; brought by hand"),
        _line("name", a.channel["name"], "canary or stable"),
        _line("bundles", a.channel["bundles"], "which to pull"),
        "",
    ]


def _judge(a: Answers) -> list[str]:
    given = {
        "bundle": None if a.bundle is None else str(a.bundle),
        "follow": a.follow,
    }
    given = {key: value for key, value in given.items() if value is not None}
    bundle = "what judges; none: every part is INVALID(no_model)"
    mode = _off("mode", "judge", "collect: all pictures are kept, nothing is judged")
    if a.judges_nothing:
        mode = _line("mode", "collect", "pictures are kept; remove this when there is a bundle")
    return [
        mode,
        _either("bundle", given, "/var/lib/ssn-agent/parts-1.ssn", bundle),
        _either("follow", given, "parts", "or the newest of this name in the channel"),
    ]


def _password(broker: Mapping[str, Any]) -> str:
    meaning = "or SSN_BROKER__PASSWORD in ssn-agent.env"
    return _either("password", broker, "", meaning)


def _either(key: str, given: Mapping[str, Any], example: Any, meaning: str) -> str:
    return _line(key, given[key], meaning) if key in given else _off(key, example, meaning)


def _off(key: str, value: Any, meaning: str) -> str:
    return f"#{_line(key, value, meaning)}"


def _line(key: str, value: Any, meaning: str) -> str:
    text = f"{key} = {_toml(value)}"
    return f"{text:<{_COMMENT_AT}}  # {meaning}" if meaning else text


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return quoted(str(value))


_TRIGGER = _off("trigger", "free", "software: a part is what another program announces")
