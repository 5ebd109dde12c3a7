"""Every error the trainer raises on purpose.

    TrainerError
    ├── UsageError            wrong use: exit code 2
    │   ├── DataError         images, masks, labels or groups that do not hold together
    │   │   └── BlankMaskError  a mask that marks nothing, of a bad image
    │   └── WeightsError      backbone weights that cannot be had or do not fit
    ├── TrainingError         a fit that cannot go on, as when the loss is no longer a number
    ├── PackError             a bundle that cannot be written or does not reproduce its vectors
    ├── StationError          a station's HTTP API that is away, or answers what it must not
    └── PublishError          a channel, its keys or its metadata that cannot be used as they are

A message says what happened, to what, and what to do. Errors of the agent (`AgentError`) pass
through where the trainer calls its code, but for images: there they become DataError.
"""


class TrainerError(Exception):
    """A failure with a message meant for the person in front of it: exit code 1."""

    exit_code = 1


class UsageError(TrainerError):
    """Wrong use, found before any work began: exit code 2."""

    exit_code = 2


class DataError(UsageError):
    """A data set that cannot be trained or judged on as it lies there."""


class BlankMaskError(DataError):
    """A mask that marks nothing, of a bad image."""


class WeightsError(UsageError):
    """Backbone weights that are not there, cannot be downloaded, or belong to another network."""


class TrainingError(TrainerError):
    """A fit that cannot go on."""


class PackError(TrainerError):
    """A bundle that cannot be written, or that does not reproduce what was measured."""


class StationError(TrainerError):
    """A station's HTTP API that cannot be asked, or answers what the contract does not say."""


class PublishError(TrainerError):
    """A channel that cannot be read, changed or served: its files, its keys, or what is asked."""
