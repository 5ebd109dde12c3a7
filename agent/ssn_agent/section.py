"""What the sections of the settings are made of; each folder has its own in its `settings.py`."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, PlainSerializer, SecretStr


class Section(BaseModel):
    """A table of the settings file: an unknown key is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _revealed(value: SecretStr | None) -> str | None:
    return None if value is None else value.get_secret_value()


Secret = Annotated[SecretStr, PlainSerializer(_revealed, when_used="json")]
"""Only the runtime directory's file, readable by the service alone, is written with these in it:
everything else leaves them out (`settings.SECRETS`)."""
