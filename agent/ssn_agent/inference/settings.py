"""The settings of inference: which engine, what it may take, what pictures are checked for."""

import os
from typing import Annotated, Literal, get_args

from pydantic import Field, field_validator

from ssn_agent.section import Section
from ssn_contract.drift import Statistic

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


class DriftSettings(Section):
    """What a camera's parts are watched for over time, beside the bundle's good images."""

    statistics: tuple[Statistic, ...] = get_args(Statistic)
    """As far as the bundle says how good images are; none: nothing is watched."""
    window: Annotated[int, Field(ge=50, le=10_000)] = 500
    """The median of so many parts decides."""
    every: Annotated[int, Field(ge=1, le=1000)] = 10
    """Where no check looks at pictures (`fitness.checks`), each so manyth is measured."""


class KeepSettings(Section):
    """Which pictures are kept to be labelled, as the model saw them before they were resized."""

    fail: bool = True
    """Those of all FAIL."""
    near: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Those whose score is no farther than this from the threshold."""
    pass_share: Annotated[float, Field(ge=0, le=1)] = 0.01
    """This share of all PASS, taken at random; the same ones whenever it is asked."""


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
