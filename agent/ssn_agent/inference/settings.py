"""The settings of inference: which engine, what it may take, what pictures are checked for."""

import os
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import Field, field_validator, model_validator

from ssn_agent.section import Section
from ssn_contract.messages import Goodness

EngineName = Literal[
    "onnxruntime-cpu/fp32",
    "onnxruntime-cpu/int8",
    "onnxruntime-cuda/fp32",
    "onnxruntime-cuda/fp16",
    "onnxruntime-tensorrt/fp16",
    "openvino/fp32",
    "openvino/bf16",
    "openvino/int8",
]
"""`engine/precision`, as verdicts name it."""


MAX_BATCH = 8
"""The largest batch; TensorRT builds for one up to this size."""

CheckName = Literal["wrong_size", "dark", "blown_out", "out_of_focus", "moved"]
"""A check of a picture against the bundle's good images, by the reason that it gives."""


class FitnessSettings(Section):
    """What a camera's pictures are checked for before they are judged."""

    checks: tuple[CheckName, ...] = get_args(CheckName)
    """As far as the bundle's good images support them."""
    frozen_after: Annotated[int, Field(ge=0, le=1000)] = 2
    """From which one on identical pictures in a row are INVALID(frozen); 0: never. Pictures from
    files may be identical: of a folder that is not watched, and of a video."""

    @field_validator("frozen_after")
    @classmethod
    def _leaves_the_first(cls, value: int) -> int:
        if value == 1:
            raise ValueError("the first picture of its kind is no repetition; begin at 2, 0 is off")
        return value


Patterns = Annotated[
    tuple[Annotated[str, Field(min_length=1, max_length=120)], ...], Field(max_length=32)
]
"""Part ids, with `*`, `?` and `[...]`."""


class ChallengeSettings(Section):
    """What is known to be good and bad, and when it has to be judged so (docs/challenge.md)."""

    good_images: Path | None = None
    """A folder of pictures as the model sees them: the region of interest alone."""
    bad_images: Path | None = None
    good_parts: Patterns = ()
    """Ids of parts that people put before the camera."""
    bad_parts: Patterns = ()
    at: Annotated[
        tuple[Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")], ...],
        Field(max_length=24),
    ] = ()
    """Shift starts, in the machine's local time: everything has to be judged anew from then on."""
    within_minutes: Annotated[float, Field(gt=0, le=24 * 60)] = 15.0
    """So long verdicts go on while something is still to be shown."""

    @field_validator("good_images", "bad_images")
    @classmethod
    def _found_from_anywhere(cls, value: Path | None) -> Path | None:
        return None if value is None else value.absolute()

    @model_validator(mode="after")
    def _has_both(self) -> "ChallengeSettings":
        if not (self.good_images or self.good_parts) or not (self.bad_images or self.bad_parts):
            msg = "nothing good or nothing bad is named; set good_images or good_parts, and for bad"
            raise ValueError(f"{msg} likewise: one alone does not tell a model that says one thing")
        return self

    def expected_of(self, part_id: str | None) -> tuple[Goodness, str] | None:
        """Return what a part is known to be, and the pattern that says so; bad before good.

        None: it is a part like any other.
        """
        known: tuple[tuple[Goodness, tuple[str, ...]], ...] = (
            ("bad", self.bad_parts),
            ("good", self.good_parts),
        )
        for expected, patterns in known:
            for pattern in patterns:
                if part_id is not None and fnmatchcase(part_id, pattern):
                    return expected, pattern
        return None


class InferenceSettings(Section):
    """How the model is run."""

    engine: Literal["auto", EngineName] = "auto"
    """auto: the fastest one here that reproduces the bundle's vectors. Whatever is set,
    onnxruntime-cpu/fp32 judges where it fails."""
    threads: Annotated[int, Field(ge=0, le=256)] = 0
    """0: one a physical core that the process may use."""
    cpus: tuple[Annotated[int, Field(ge=0)], ...] = ()
    """Processors that inference keeps to, by the kernel's numbers; none: all of them."""

    max_batch: Annotated[int, Field(ge=0, le=MAX_BATCH)] = 0
    """Frames of one bundle that are scored at once, at most, where so many wait. 0: 8 on a GPU, and
    1 on a processor, which scores a batch no faster than its images one by one."""
    batch_ms: Annotated[float, Field(gt=0, le=60_000)] = 50.0
    """A batch may take so long, by what an image of the last one took."""

    @field_validator("cpus")
    @classmethod
    def _are_there(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        there = os.sched_getaffinity(0)
        strange = sorted(set(value) - there)
        if strange:
            msg = f"this machine does not give us {strange}; it gives {sorted(there)}"
            raise ValueError(msg)
        return value
