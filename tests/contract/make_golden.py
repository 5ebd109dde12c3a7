"""Makes the golden messages anew: `python tests/contract/make_golden.py`.

`KIND/valid` holds messages as we write them today, `KIND/valid/from-newer-version` one that a
newer version might write. `KIND/invalid` holds what a reader must refuse.
"""

import json
from pathlib import Path
from typing import Any

from ssn_contract.schemas import MODELS

FOLDER = Path(__file__).with_name("golden")
EPOCH = "0b6c1d1e-8f0a-4b6e-9a53-5f0d4c1b2a39"
BUNDLE = {"name": "magnetic-tile", "version": "1.2.0", "digest": "ab" * 32}

PASS: dict[str, Any] = {
    "schema_version": 1,
    "station": "plant1/line2/box3",
    "camera": "top",
    "epoch": EPOCH,
    "sequence": 41,
    "part_id": None,
    "product": None,
    "verdict": "PASS",
    "reason": None,
    "score": 0.0625,
    "threshold": 0.5,
    "defects": [],
    "heatmap": None,
    "frame": {
        "frame_id": 65535,
        "captured_at": "2026-01-01T06:00:00.131750Z",
        "device_timestamp_ns": 8125000000,
    },
    "image": None,
    "challenge": None,
    "triggered_at": "2026-01-01T06:00:00.125000Z",
    "decided_at": "2026-01-01T06:00:00.143250Z",
    "latency_ms": 18.25,
    "deadline_ms": 500.0,
    "bundle": BUNDLE,
    "engine": "onnxruntime-cpu/fp32",
    "settings_digest": "cd" * 32,
    "durable": True,
    "historical": False,
}
REGION = {
    "x": 112,
    "y": 64,
    "width": 24,
    "height": 9,
    "area_px": 131,
    "peak_x": 120,
    "peak_y": 69,
    "peak": 0.9375,
}
PEAK_ALONE = {**dict.fromkeys(REGION), "peak_x": 120, "peak_y": 69, "peak": 0.4375}
HEATMAP = {
    "topic": "ssn/v1/plant1/line2/box3/top/heatmap/42",
    "file": f"/var/lib/ssn-agent/heatmaps/top/{EPOCH}/000000/42.png",
    "x": 32,
    "y": 16,
    "width": 512,
    "height": 384,
}
IMAGE = {**HEATMAP, "file": f"/var/lib/ssn-agent/images/top/{EPOCH}/000000/42.png"}
del IMAGE["topic"]
FAIL = {
    **PASS,
    "sequence": 42,
    "verdict": "FAIL",
    "score": 0.875,
    "defects": [REGION],
    "heatmap": HEATMAP,
    "image": IMAGE,
}
LATE = {
    **PASS,
    **dict.fromkeys(("score", "threshold", "bundle", "engine")),
    "sequence": 43,
    "verdict": "INVALID",
    "reason": "late",
    "frame": None,
    "latency_ms": 501.5,
    "decided_at": "2026-01-01T06:00:00.626500Z",
}
MODEL: dict[str, Any] = {
    "schema_version": 1,
    "station": "plant1/line2/box3",
    "camera": "top",
    "bundle": BUNDLE,
    "engine": "onnxruntime-cpu/fp32",
    "since": "2026-01-01T05:59:30Z",
    "checks": ["frozen", "wrong_size", "dark", "blown_out", "out_of_focus"],
    "update": {
        "step": "shadow",
        "bundle": {"name": "magnetic-tile", "version": "1.3.0", "digest": "ef" * 32},
        "at": "2026-01-01T06:10:00Z",
        "detail": None,
    },
}
DRIFT: dict[str, Any] = {
    "statistic": "brightness",
    "product": None,
    "parts": 500,
    "median": 92.5,
    "low": 96.25,
    "high": 148.5,
    "since": "2026-01-01T05:40:00Z",
}
DRIFTS = (
    "top: brightness drifts: median 92.5 of the last 500 parts, good is 96.2 to 148 (docs/drift.md)"
)
CHALLENGE_ITEM: dict[str, Any] = {
    "kind": "image",
    "name": "scratch-1.png",
    "expected": "bad",
    "passed": False,
    "part_id": None,
    "verdict": "PASS",
    "reason": None,
    "score": 0.375,
    "at": "2026-01-01T06:00:00.250000Z",
}
CHALLENGE_PART = {
    **dict.fromkeys(CHALLENGE_ITEM),
    "kind": "part",
    "name": "MASTER-GOOD-*",
    "expected": "good",
}
CHALLENGE: dict[str, Any] = {
    "schema_version": 1,
    "station": "plant1/line2/box3",
    "camera": "top",
    "state": "failed",
    "since": "2026-01-01T06:00:00.250000Z",
    "items": [CHALLENGE_ITEM, CHALLENGE_PART],
    "cleared": None,
}
CAMERA: dict[str, Any] = {
    "camera": "top",
    "state": "running",
    "engine": "onnxruntime-cpu/fp32",
    "epoch": EPOCH,
    "triggers": 44,
    "passed": 40,
    "failed": 1,
    "invalid": {"late": 2},
    "pending": 1,
    "discarded_frames": 0,
    "malformed_messages": 0,
    "received_frames": 43,
    "incomplete_frames": 0,
    "missed_frames": 1,
    "reconnects": 0,
    "drift": [DRIFT],
    "challenge": "passed",
}
PROCESSES: list[dict[str, Any]] = [
    {"name": "ledger", "state": "running", "died": 0, "hung": 0, "over_memory": 0},
    {"name": "inference", "state": "running", "died": 0, "hung": 0, "over_memory": 1},
    {"name": "capture:top", "state": "waiting", "died": 0, "hung": 2, "over_memory": 0},
]
SETTINGS: dict[str, Any] = {"digest": "cd" * 32, "wants_restart": [], "problem": None}
ONLINE: dict[str, Any] = {
    "schema_version": 1,
    "station": "plant1/line2/box3",
    "state": "online",
    "at": "2026-01-01T06:00:02Z",
    "agent": "0.1.0",
    "ledger": "ok",
    "undelivered": 0,
    "refused_triggers": 0,
    "labels": {"good": 12, "bad": 5, "disagreements": 2},
    "refused_labels": 1,
    "alarms": [DRIFTS],
    "cameras": [CAMERA],
    "processes": PROCESSES,
    "settings": SETTINGS,
}
OFFLINE = {
    **ONLINE,
    "state": "offline",
    "at": "2026-01-01T05:59:29Z",
    "ledger": None,
    "undelivered": None,
    "refused_triggers": None,
    "labels": None,
    "refused_labels": None,
    "alarms": [],
    "cameras": [],
    "processes": [],
    "settings": None,
}
LATENCY: dict[str, Any] = {
    "count": 43,
    "sum_s": 1.875,
    "buckets": {"0.01": 0, "0.025": 39, "0.1": 41, "0.5": 41, "1": 43},
    "median_s": 0.01825,
    "p99_s": 0.5015,
}
CAMERA_METRICS: dict[str, Any] = {
    **CAMERA,
    "invalid": {"late": 2, "lost": 0, "overrun": 0},
    "bundle": BUNDLE,
    "update": MODEL["update"],
    "verdicts_per_s": 4.5,
    "latency": LATENCY,
    "last": {
        "sequence": 43,
        "part_id": None,
        "verdict": "INVALID",
        "reason": "late",
        "decided_at": "2026-01-01T06:00:00.626500Z",
    },
}
SUPERVISOR = {"name": "supervisor", "state": "running", "died": 0, "hung": 0, "over_memory": 0}
METRICS: dict[str, Any] = {
    **ONLINE,
    "report_age_s": 0.0,
    "broker_connected": True,
    "broker_certificates": {
        "own": "2028-04-05T06:00:00Z",
        "authority": "2035-12-30T06:00:00Z",
        "broker": "2028-04-05T06:00:00Z",
    },
    "published": 43,
    "undeliverable": 0,
    "commit": {**LATENCY, "sum_s": 0.25, "median_s": 0.005, "p99_s": 0.0125},
    "delivery": {**LATENCY, "sum_s": 2.0, "median_s": 0.03125, "p99_s": 0.515625},
    "disk_free_bytes": 214748364800,
    "disk_size_bytes": 257698037760,
    "cameras": [CAMERA_METRICS],
    "processes": [
        {**process, "memory_bytes": None if process["state"] == "waiting" else 67108864}
        for process in (SUPERVISOR, *PROCESSES)
    ],
}
SILENT: dict[str, Any] = {
    **METRICS,
    **dict.fromkeys(("ledger", "undelivered", "refused_triggers", "report_age_s")),
    **dict.fromkeys(("labels", "refused_labels")),
    **dict.fromkeys(
        (
            "broker_connected",
            "broker_certificates",
            "published",
            "undeliverable",
            "commit",
            "delivery",
        )
    ),
    "alarms": ["ledger: has not reported yet"],
    "cameras": [],
}
TRIGGER: dict[str, Any] = {"id": "plc7-000123", "part_id": "P-2026-00042", "product": "tile-40"}
HEADER: dict[str, Any] = {
    "version": 1,
    "part_id": "P-2026-00042",
    "product": "tile-40",
    "height": 480,
    "width": 640,
    "channels": 3,
    "frame_id": 65535,
}
HEADER_ALONE = {**HEADER, **dict.fromkeys(("height", "width", "channels", "frame_id"))}
ANSWER: dict[str, Any] = {
    "version": 1,
    "id": "line2-20260101-000123",
    "status": "accepted",
    "epoch": EPOCH,
    "sequence": 42,
    "repeated": False,
    "frame": "taken",
    "problem": None,
}
REFUSED = {
    **ANSWER,
    **dict.fromkeys(("epoch", "sequence", "repeated", "frame")),
    "status": "refused",
    "problem": "/run/ssn-agent/top.journal: full; the ledger has not taken 4096 verdicts",
}
MALFORMED = {
    **REFUSED,
    "status": "malformed",
    "problem": "pixels: 100 bytes; 480 x 640 x 3 are 921600",
}
LABEL: dict[str, Any] = {
    "id": "tablet3-000017",
    "camera": "top",
    "epoch": EPOCH,
    "sequence": 42,
    "label": "bad",
    "defect_type": "crack",
    "labeller": "m.weber",
    "reason": None,
}
ANNOUNCEMENT: dict[str, Any] = {
    "schema_version": 1,
    "channel": "stable",
    "at": "2026-01-01T06:00:00Z",
}
FP32: dict[str, Any] = {
    "name": "fp32",
    "file": "model.onnx",
    "score": {"threshold": 0.25, "slope": 8.0},
    "map": {"threshold": 1.5, "slope": 4.0},
    "tolerance": {"score": 0.0001, "map": 0.001},
}
BF16 = {
    **FP32,
    "name": "bf16",
    "score": {"threshold": 0.265625, "slope": 8.0},
    "map": {"threshold": 1.53125, "slope": 4.0},
    "tolerance": {"score": 0.0625, "map": 0.125},
}
VECTOR = {"image": "vectors/0.png", "score": 0.75, "map": "vectors/0.f32"}
ENTRIES = [
    {"path": path, "size": size, "sha256": digest * 32}
    for path, size, digest in [
        ("model.onnx", 5242880, "01"),
        ("vectors/0.f32", 262144, "23"),
        ("vectors/0.png", 40960, "45"),
    ]
]
MANIFEST: dict[str, Any] = {
    "schema_version": 1,
    "name": "magnetic-tile",
    "version": "1.2.0",
    "created_at": "2025-12-31T12:00:00Z",
    "trainer": "ssn-trainer 0.1.0",
    "regime": "weak",
    "head": "supersimplenet",
    "variant": "jims",
    "backbone": "resnet18",
    "input": {
        "height": 256,
        "width": 256,
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
    },
    "threshold": {
        "method": "midway between the classes",
        "good_images": 80,
        "bad_images": 30,
        "false_reject": None,
        "escape": None,
    },
    "precisions": [FP32],
    "metrics": {"i_auroc": {"value": 0.875, "low": 0.8125, "high": 0.9375}},
    "vectors": [VECTOR],
    "entries": ENTRIES,
}
LIMITED: dict[str, Any] = {
    "method": "for the stated limits",
    "good_images": 480,
    "bad_images": 30,
    "false_reject": {
        "limit": 0.0625,
        "parts": 240,
        "observed": 0.03125,
        "upper_bound": 0.0585,
        "supported": True,
        "images_needed": None,
    },
    "escape": {
        "limit": 0.03125,
        "parts": 30,
        "observed": 0.0,
        "upper_bound": 0.0953,
        "supported": False,
        "images_needed": 95,
    },
}
CHANNEL_BUNDLE: dict[str, Any] = {
    "schema_version": 1,
    "version": "1.2.0",
    "manifest_schema_version": 1,
}
VALID: dict[str, dict[str, dict[str, Any]]] = {
    "verdict": {
        "pass": PASS,
        "pass-with-part-id": {**PASS, "part_id": "Teil-Ø 42/7", "product": "tile-40"},
        "fail": FAIL,
        "fail-with-peak-alone": {**FAIL, "defects": [PEAK_ALONE]},
        "fail-without-heatmap": {**FAIL, "heatmap": None},
        "fail-not-in-ledger": {**FAIL, "durable": False},
        "pass-of-a-challenge-part": {**PASS, "part_id": "MASTER-GOOD-1", "challenge": "good"},
        "pass-that-waited": {**PASS, "historical": True},
        "invalid-late": LATE,
        "invalid-no-model": {**LATE, "reason": "no_model", "latency_ms": 4.5},
    },
    "model": {
        "in-force": {**MODEL, "update": None},
        "rolled-back": {
            **MODEL,
            "update": {
                **MODEL["update"],
                "step": "rolled_back",
                "detail": "FAIL 12.5 % of 200 parts, 2.5 % before it",
            },
        },
        "shadow": MODEL,
        "none": {**MODEL, "bundle": None, "engine": None, "checks": [], "update": None},
    },
    "challenge": {
        "failed": CHALLENGE,
        "due": {**CHALLENGE, "state": "due", "items": [CHALLENGE_PART]},
        "passed": {
            **CHALLENGE,
            "state": "passed",
            "items": [{**CHALLENGE_ITEM, "verdict": "FAIL", "score": 0.75, "passed": True}],
        },
        "cleared": {
            **CHALLENGE,
            "state": "passed",
            "items": [{**CHALLENGE_ITEM, "passed": True}],
            "cleared": {
                "at": "2026-01-01T06:05:00Z",
                "who": "m.weber",
                "why": "the picture is of another part",
            },
        },
        "failed-by-an-unreadable-picture": {
            **CHALLENGE,
            "items": [
                {**CHALLENGE_ITEM, "verdict": "INVALID", "reason": "unreadable", "score": None}
            ],
        },
    },
    "status": {
        "online": ONLINE,
        "online-without-challenge": {
            **ONLINE,
            "cameras": [{**CAMERA, "challenge": None}],
        },
        "offline": OFFLINE,
        "online-without-drift": {
            **ONLINE,
            "alarms": [],
            "cameras": [{**CAMERA, "drift": None}],
        },
        "online-with-alarm": {**ONLINE, "ledger": "faulty", "alarms": ["ledger: disk full"]},
        "online-wants-restart": {
            **ONLINE,
            "settings": {**SETTINGS, "wants_restart": ["broker.host", "cameras.top.source.fps"]},
        },
    },
    "metrics": {
        "online": METRICS,
        "before-the-first-verdict": {
            **METRICS,
            "cameras": [
                {
                    **CAMERA_METRICS,
                    **dict.fromkeys(("triggers", "passed", "failed", "pending"), 0),
                    "invalid": {"late": 0},
                    "verdicts_per_s": 0.0,
                    "latency": {
                        "count": 0,
                        "sum_s": 0.0,
                        "buckets": {"1": 0},
                        "median_s": None,
                        "p99_s": None,
                    },
                    "last": None,
                }
            ],
        },
        "ledger-process-has-not-reported": SILENT,
    },
    "trigger": {"full": TRIGGER, "id-alone": {**dict.fromkeys(TRIGGER), "id": "plc7-000124"}},
    "part_header": {"with-pixels": HEADER, "trigger-alone": HEADER_ALONE},
    "part_answer": {
        "accepted": ANSWER,
        "repeated": {**ANSWER, "repeated": True, "frame": "none"},
        "awaited": {**ANSWER, "frame": "awaited"},
        "refused": REFUSED,
        "malformed": MALFORMED,
        "malformed-without-id": {**MALFORMED, "id": None},
    },
    "channel_bundle": {
        "named": CHANNEL_BUNDLE,
        "of-another-contract": {**CHANNEL_BUNDLE, "manifest_schema_version": 2},
    },
    "announcement": {
        "stable": ANNOUNCEMENT,
        "canary": {**ANNOUNCEMENT, "channel": "canary"},
    },
    "label": {
        "bad": LABEL,
        "good": {**LABEL, "id": None, "label": "good", "defect_type": None},
        "without-id": {k: v for k, v in LABEL.items() if k != "id"},
    },
    "manifest": {
        "weak": MANIFEST,
        "weak-lean": {**MANIFEST, "head": "lean", "variant": None},
        "weak-limits": {**MANIFEST, "threshold": LIMITED},
        "weak-bf16": {**MANIFEST, "precisions": [FP32, BF16]},
        "unsupervised-gap-cam": {
            **MANIFEST,
            "regime": "unsupervised",
            "head": "gap-cam",
            "variant": None,
            "metrics": {},
        },
    },
}
NEWER: dict[str, dict[str, Any]] = {
    "verdict": {**FAIL, "defects": [{**REGION, "kind": "crack"}], "shift": "early"},
    "model": {**MODEL, "bundle": {**BUNDLE, "regime": "weak"}},
    "challenge": {**CHALLENGE, "asked_by": "plc7"},
    "status": {**ONLINE, "uptime_s": 12.5},
    "metrics": {**METRICS, "cameras": [{**CAMERA_METRICS, "brightness": 0.5}], "uptime_s": 12.5},
    "manifest": {**MANIFEST, "licence": "Apache-2.0"},
    "part_answer": {**ANSWER, "queue": 3},
    "channel_bundle": {**CHANNEL_BUNDLE, "published_at": "2026-01-01T06:00:00Z"},
}
"""Only what we write may gain fields unasked; see docs/contract.md."""
INVALID: dict[str, dict[str, dict[str, Any]]] = {
    "channel_bundle": {
        "unknown-schema-version": {**CHANNEL_BUNDLE, "schema_version": 2},
        "version-with-slash": {**CHANNEL_BUNDLE, "version": "../1.2.0"},
        "contract-zero": {**CHANNEL_BUNDLE, "manifest_schema_version": 0},
        "without-version": {k: v for k, v in CHANNEL_BUNDLE.items() if k != "version"},
    },
    "verdict": {
        "unknown-verdict": {**PASS, "verdict": "MAYBE"},
        "unknown-reason": {**LATE, "reason": "tired"},
        "unknown-schema-version": {**PASS, "schema_version": 2},
        "pass-with-reason": {**PASS, "reason": "late"},
        "pass-with-defect": {**PASS, "defects": [REGION]},
        "pass-without-score": {**PASS, "score": None},
        "fail-without-defect": {**FAIL, "defects": []},
        "fail-without-bundle": {**FAIL, "bundle": None},
        "invalid-without-reason": {**LATE, "reason": None},
        "region-without-area": {**FAIL, "defects": [{**REGION, "area_px": None}]},
        "naive-time": {**PASS, "decided_at": "2026-01-01T06:00:00.143250"},
        "score-nan": {**PASS, "score": float("nan")},
        "score-above-one": {**PASS, "score": 1.5},
        "negative-latency": {**PASS, "latency_ms": -0.5},
        "short-digest": {**PASS, "settings_digest": "cd" * 31},
        "digest-not-hexadecimal": {**PASS, "bundle": {**BUNDLE, "digest": "xy" * 32}},
        "part-id-too-long": {**PASS, "part_id": "p" * 121},
        "sequence-zero": {**PASS, "sequence": 0},
        "sequence-beyond-doubles": {**PASS, "sequence": 2**53},
        "epoch-not-uuid": {**PASS, "epoch": "first"},
        "camera-with-slash": {**PASS, "camera": "top/left"},
        "without-key": {k: v for k, v in PASS.items() if k != "sequence"},
    },
    "model": {
        "naive-time": {**MODEL, "since": "2026-01-01T05:59:30"},
        "unknown-check": {**MODEL, "checks": ["tired"]},
        "bad-digest": {**MODEL, "bundle": {**BUNDLE, "digest": "AB" * 32}},
    },
    "challenge": {
        "unknown-state": {**CHALLENGE, "state": "overdue"},
        "unknown-kind": {**CHALLENGE, "items": [{**CHALLENGE_ITEM, "kind": "video"}]},
        "unknown-expectation": {**CHALLENGE, "items": [{**CHALLENGE_ITEM, "expected": "ok"}]},
        "without-items": {k: v for k, v in CHALLENGE.items() if k != "items"},
        "score-above-one": {**CHALLENGE, "items": [{**CHALLENGE_ITEM, "score": 1.5}]},
    },
    "status": {
        "counts-do-not-add-up": {**ONLINE, "cameras": [{**CAMERA, "pending": 2}]},
        "unknown-state": {**ONLINE, "state": "sleeping"},
        "unknown-statistic": {
            **ONLINE,
            "cameras": [{**CAMERA, "drift": [{**DRIFT, "statistic": "mood"}]}],
        },
        "unknown-reason": {**ONLINE, "cameras": [{**CAMERA, "invalid": {"tired": 2}}]},
        "negative-count": {**ONLINE, "undelivered": -1},
    },
    "metrics": {
        "counts-do-not-add-up": {**METRICS, "cameras": [{**CAMERA_METRICS, "pending": 2}]},
        "buckets-fall": {**METRICS, "commit": {**LATENCY, "buckets": {"0.1": 2, "1": 1}}},
        "bounds-fall": {**METRICS, "commit": {**LATENCY, "buckets": {"1": 1, "0.1": 2}}},
        "bound-not-a-number": {**METRICS, "commit": {**LATENCY, "buckets": {"fast": 1}}},
        "more-in-a-bucket-than-in-all": {**METRICS, "commit": {**LATENCY, "count": 40}},
        "negative-delay": {**METRICS, "delivery": {**LATENCY, "median_s": -0.5}},
        "without-latency": {
            **METRICS,
            "cameras": [{k: v for k, v in CAMERA_METRICS.items() if k != "latency"}],
        },
    },
    "trigger": {
        "unknown-field": {**TRIGGER, "partid": "P-2026-00042"},
        "without-id": {"part_id": "P-2026-00042"},
        "part-id-too-long": {**TRIGGER, "part_id": "p" * 121},
        "part-id-empty": {**TRIGGER, "part_id": ""},
        "part-id-a-number": {**TRIGGER, "part_id": 42},
        "product-too-long": {**TRIGGER, "product": "p" * 65},
    },
    "part_header": {
        "unknown-field": {**HEADER, "partid": "P-2026-00042"},
        "unknown-version": {**HEADER, "version": 2},
        "without-version": {k: v for k, v in HEADER.items() if k != "version"},
        "shape-not-whole": {**HEADER, "channels": None},
        "four-channels": {**HEADER, "channels": 4},
        "no-height": {**HEADER, "height": 0},
        "too-wide": {**HEADER, "width": 32_768},
        "frame-id-without-frame": {**HEADER_ALONE, "frame_id": 7},
        "part-id-empty": {**HEADER, "part_id": ""},
    },
    "part_answer": {
        "unknown-version": {**ANSWER, "version": 2},
        "unknown-status": {**ANSWER, "status": "perhaps"},
        "accepted-without-sequence": {**ANSWER, "sequence": None},
        "accepted-without-id": {**ANSWER, "id": None},
        "accepted-with-problem": {**ANSWER, "problem": "full"},
        "refused-with-sequence": {**REFUSED, "sequence": 42},
        "refused-without-problem": {**REFUSED, "problem": None},
    },
    "announcement": {
        "unknown-field": {**ANNOUNCEMENT, "version": "1.3.0"},
        "unknown-schema-version": {**ANNOUNCEMENT, "schema_version": 2},
        "unknown-channel": {**ANNOUNCEMENT, "channel": "nightly"},
        "naive-time": {**ANNOUNCEMENT, "at": "2026-01-01T06:00:00"},
        "time-a-number": {**ANNOUNCEMENT, "at": 1767247200},
        "without-schema-version": {"channel": "stable", "at": ANNOUNCEMENT["at"]},
        "without-time": {k: v for k, v in ANNOUNCEMENT.items() if k != "at"},
    },
    "label": {
        "unknown-field": {**LABEL, "score": 0.5},
        "id-empty": {**LABEL, "id": ""},
        "unknown-label": {**LABEL, "label": "ugly"},
        "id-with-control-character": {**LABEL, "id": "a\u0000b"},
        "defect-type-with-control-character": {**LABEL, "defect_type": "a\tb"},
        "labeller-with-control-character": {**LABEL, "labeller": "m.\u001b[2Jweber"},
        "reason-with-control-character": {**LABEL, "reason": "a\u0085b"},
        "without-epoch": {k: v for k, v in LABEL.items() if k != "epoch"},
        "sequence-as-text": {**LABEL, "sequence": "42"},
        "sequence-not-whole": {**LABEL, "sequence": 42.5},
        "without-labeller": {k: v for k, v in LABEL.items() if k != "labeller"},
    },
    "manifest": {
        "unknown-schema-version": {**MANIFEST, "schema_version": 2},
        "unknown-regime": {**MANIFEST, "regime": "guessed"},
        "parent-path": {**MANIFEST, "entries": [*ENTRIES, {**ENTRIES[0], "path": "a/../../b"}]},
        "absolute-path": {**MANIFEST, "entries": [*ENTRIES, {**ENTRIES[0], "path": "/etc/b"}]},
        "backslash-path": {**MANIFEST, "entries": [*ENTRIES, {**ENTRIES[0], "path": "..\\b"}]},
        "bad-digest": {**MANIFEST, "entries": [*ENTRIES[:2], {**ENTRIES[2], "sha256": "45"}]},
        "negative-size": {**MANIFEST, "entries": [*ENTRIES[:2], {**ENTRIES[2], "size": -1}]},
        "entry-listed-twice": {**MANIFEST, "entries": [*ENTRIES, ENTRIES[0]]},
        "file-not-listed": {**MANIFEST, "entries": ENTRIES[:2]},
        "without-fp32": {**MANIFEST, "precisions": [{**FP32, "name": "int8"}]},
        "precision-twice": {**MANIFEST, "precisions": [FP32, FP32]},
        "limit-of-nothing": {
            **MANIFEST,
            "threshold": {**LIMITED, "escape": {**LIMITED["escape"], "limit": 0.0}},
        },
        "slope-zero": {
            **MANIFEST,
            "precisions": [{**FP32, "map": {"threshold": 1.5, "slope": 0.0}}],
        },
        "threshold-nan": {
            **MANIFEST,
            "precisions": [{**FP32, "map": {"threshold": float("nan"), "slope": 4.0}}],
        },
        "name-in-capitals": {**MANIFEST, "name": "Tile"},
        "naive-time": {**MANIFEST, "created_at": "2025-12-31T12:00:00"},
    },
}


def golden() -> dict[str, str]:
    """Return every golden file: its path below the folder and its text."""
    files = {}
    for kind, model in MODELS.items():
        for name, fields in VALID[kind].items():
            message = model.model_validate_json(json.dumps(fields))
            files[f"{kind}/valid/{name}.json"] = message.model_dump_json(indent=2) + "\n"
        if kind in NEWER:
            files[f"{kind}/valid/from-newer-version.json"] = _text(NEWER[kind])
        for name, fields in INVALID[kind].items():
            files[f"{kind}/invalid/{name}.json"] = _text(fields)
    files["verdict/invalid/cut-off.json"] = files["verdict/valid/fail.json"][:200]
    files["verdict/invalid/not-an-object.json"] = '["PASS"]\n'
    return files


def _text(fields: dict[str, Any]) -> str:
    return json.dumps(fields, indent=2) + "\n"


def write(folder: Path) -> None:
    """Write every golden file below `folder`, and remove those that are no longer made."""
    files = golden()
    for path in folder.glob("*/*/*.json"):
        if path.relative_to(folder).as_posix() not in files:
            path.unlink()
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")


if __name__ == "__main__":
    write(FOLDER)
