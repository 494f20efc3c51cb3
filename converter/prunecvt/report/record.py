"""What every part of the report is."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """A frozen part of the report; unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")
