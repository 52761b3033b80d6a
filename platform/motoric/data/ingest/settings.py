"""The settings of an ingest, `ingest.yaml`: what its files mean, never how values are changed.

In: YAML. Out: a checked, frozen `IngestSettings`. Unknown keys are errors.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from motoric.core.errors import NotFoundError, SettingsError
from motoric.core.settings import describe


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ColumnSettings(_Part):
    """What one column of a sensor table is; what is left out is read from its name."""

    channel: str | None = Field(default=None, description="name of the channel, such as acc_x")
    unit: str | None = Field(default=None, description="unit in the file, such as g or deg/s")
    stream: str | None = Field(default=None, description="stream to put it in")
    ignore: bool = Field(default=False, description="leave the column out")


class TimeSettings(_Part):
    """Where the time of a sensor table stands."""

    column: str | None = Field(default=None, description="name of the time column")
    unit: Literal["s", "ms", "us", "ns", "iso8601"] | None = None
    rate_hz: float | None = Field(
        default=None, gt=0, description="rate of tables without any time column"
    )


class SensorSettings(_Part):
    """What the columns of sensor tables (CSV, Parquet, NumPy) mean."""

    time: TimeSettings = TimeSettings()
    columns: dict[str, ColumnSettings] = Field(
        default_factory=dict, description="by the name of the column; NumPy arrays: column_0, ..."
    )
    units: dict[str, str] = Field(
        default_factory=dict,
        description="units of columns whose header has none, by the beginning of the channel's"
        " name, such as {acc: g, gyr: deg/s}",
    )
    encoding: str | None = Field(default=None, description="text encoding; found out by default")
    delimiter: str | None = Field(
        default=None, min_length=1, max_length=1, description="found out by default"
    )


class AlignmentSettings(_Part):
    """How the video of a recording is put on the clock of its sensors."""

    method: Literal["auto", "none", "start_time", "correlation"] = Field(
        default="auto",
        description="auto: the manifest's video_offset_s, else both start times, else none",
    )
    max_offset_s: float = Field(default=10.0, gt=0, description="farthest offset that is tried")
    min_confidence: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="an estimate below it is flagged and not used; short clips of even repetitions"
        " can fit a whole repetition off",
    )


class IngestSettings(_Part):
    """Everything an ingest depends on beside its files."""

    version: Literal[1] = 1
    name: str | None = Field(default=None, description="name of the dataset")
    description: str = ""
    sensors: SensorSettings = SensorSettings()
    alignment: AlignmentSettings = AlignmentSettings()
    video: Literal["reference", "copy"] = Field(
        default="reference", description="copy puts videos into the dataset, so that it can move"
    )
    path_pattern: str | None = Field(
        default=None,
        description="for folders without a manifest: a regular expression over the relative path"
        " with the groups `subject`, `label`, `recording_id`",
    )
    allowed_roots: tuple[str, ...] = Field(
        default=(), description="folders or prefixes outside the manifest's that it may name"
    )

    @field_validator("path_pattern")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            try:
                groups = set(re.compile(pattern).groupindex)
            except re.error as error:
                raise ValueError(f"not a regular expression: {error}") from error
            known = {"subject", "label", "recording_id"}
            if not groups or groups - known:
                raise ValueError(
                    "name one or more groups of (?P<subject>...), (?P<label>...),"
                    " (?P<recording_id>...), and no others"
                )
        return pattern

    @model_validator(mode="after")
    def _one_time_column(self) -> IngestSettings:
        time = self.sensors.time.column
        if time is not None and time in self.sensors.columns:
            raise ValueError(f"column {time!r} is named as the time and as a channel")
        return self


def load_ingest_settings(path: Path | None) -> IngestSettings:
    """Read `ingest.yaml`; without a path the defaults.

    Raises:
        NotFoundError: No such file.
        SettingsError: Not YAML, or it does not fit.
    """
    if path is None:
        return IngestSettings()
    if not path.is_file():
        raise NotFoundError(f"no ingest settings at {path}")
    try:
        content = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not valid YAML: {error}") from error
    try:
        return IngestSettings.model_validate({} if content is None else content)
    except ValidationError as error:
        raise SettingsError(f"{path}: {describe(error)}") from error
