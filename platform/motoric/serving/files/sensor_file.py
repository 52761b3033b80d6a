"""A sensor file to the windows of a signature, as ingest and training make them.

In: a file on this machine. Out: windows at the signature's rate, in its units. Rows are put in
order, clocks that jump are closed up and times count from the first sample, as in a dataset.

Axes: T samples, C channels of the signature.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from motoric.artefact.signature import SensorInput
from motoric.core.errors import InputError, TooLargeError
from motoric.data.ingest.flags import usual_rate
from motoric.data.ingest.ordering import Sequencer
from motoric.data.ingest.samples import Notes, Samples
from motoric.data.ingest.settings import ColumnSettings, SensorSettings, TimeSettings
from motoric.data.tables import CHUNK_S, dtype_of
from motoric.data.windows import Window, Windower
from motoric.serving.bodies.adaptation import MAX_RATE_RATIO, Adapter, Given, conversion
from motoric.serving.files.jobs import SourceFile
from motoric.serving.files.kinds import TABLE_SUFFIXES, reader_of

_Times = NDArray[np.float64]
_Values = NDArray[np.float32] | NDArray[np.float64]
_Rows = tuple[_Times, _Values]
_MAX_SHOWN = 12


@dataclass(slots=True, kw_only=True)
class SensorFile:
    """One sensor file, read once from its beginning to its end.

    Attributes:
        source: The file.
        sensors: The input of the signature.
        given: What the client says of its columns; what it leaves out is as the signature has it,
            where the file does not say it either.
        max_gap_s: Longest gap that is filled.
        max_duration_s: Longest recording.
        notes: What was found.
        rate_hz: Of the samples; known once the first were given out.
        start_s: Time of the first sample.
        end_s: Where the last one ends; both are known once all windows were given out.
    """

    source: SourceFile
    sensors: SensorInput
    given: Given
    max_gap_s: float
    max_duration_s: float
    notes: Notes = field(default_factory=Notes)
    rate_hz: float = 0.0
    start_s: float = 0.0
    end_s: float = 0.0
    _num_rows: int = 0

    def windows(self) -> Iterator[Window]:
        """Windows in the order of time; of a model of whole movements one.

        Raises:
            UnreadableError: The file is broken.
            InputError: It lacks a channel, or is too short.
            TooLargeError: It is too long.
        """
        if self.sensors.span == "annotation":
            yield self._whole()
            return
        num_windows = 0
        windower: Windower | None = None
        for time_s, values_TC in self.samples():
            windower = windower or self._windower()
            for window in windower.push(time_s, values_TC):
                num_windows += 1
                yield window
        last = [] if windower is None else windower.finish()
        yield from last
        if not num_windows and not last:
            sensors = self.sensors
            raise InputError(
                f"the file has {self._num_rows} samples at {self.rate_hz:g} Hz: one window of"
                f" {sensors.length_s:g} s needs {sensors.num_samples} samples at"
                f" {sensors.rate_hz:g} Hz without a gap"
            )

    def _whole(self) -> Window:
        parts = list(self.samples())
        window = None
        if parts:
            time_s, values_TC = (np.concatenate(items) for items in zip(*parts, strict=True))
            window = self._windower().whole(time_s, values_TC, fit=self.sensors.fit)
        if window is None:
            raise InputError(
                "this model takes one whole movement: the file has"
                f" {self._num_rows} samples, and one run of them without a gap is needed"
            )
        return window

    def _windower(self) -> Windower:
        sensors = self.sensors
        low_hz, high_hz = sensors.rate_hz / MAX_RATE_RATIO, sensors.rate_hz * MAX_RATE_RATIO
        if not low_hz <= self.rate_hz <= high_hz:
            raise InputError(
                f"the file's samples come at {self.rate_hz:g} Hz, too far from the model's"
                f" {sensors.rate_hz:g} Hz: {low_hz:g} to {high_hz:g} Hz can be resampled"
            )
        return Windower(
            native_rate_hz=self.rate_hz,
            rate_hz=sensors.rate_hz,
            length_s=sensors.length_s,
            hop_s=sensors.hop_s,
            context_s=sensors.context_s,
            max_gap_s=self.max_gap_s,
        )

    def samples(self) -> Iterator[tuple[_Times, _Values]]:
        """Samples as they were recorded, in the signature's channels, their order and units.

        The first come once there are enough of them to tell their rate, as ingest does.

        Returns:
            Times of shape (T,), increasing, and values of shape (T, C); NaN is missing.

        Raises:
            MotoricError: As `windows`.
        """
        waiting: list[_Rows] = []
        for rows in self._rows():
            if self.rate_hz:
                yield rows
                continue
            waiting.append(rows)
            if rows[0][-1] >= self.start_s + CHUNK_S:
                yield self._with_rate(waiting)
        if not self.rate_hz and waiting:
            yield self._with_rate(waiting)
        if self.rate_hz:
            self.end_s += 1 / self.rate_hz

    def _with_rate(self, waiting: list[_Rows]) -> _Rows:
        time_s, values_TC = (np.concatenate(items) for items in zip(*waiting, strict=True))
        self.rate_hz = usual_rate(time_s[time_s < self.start_s + CHUNK_S])
        return time_s, values_TC

    def _rows(self) -> Iterator[_Rows]:
        """Rows of the channels of the signature in order, times increasing."""
        channels_of: dict[str, list[str]] = {}
        zero_s: float | None = None
        chosen: _Chosen | None = None
        for samples in reader_of(self.source.suffix)(
            self.source.path, self._settings(), self.notes
        ):
            if zero_s is None and samples.is_unix_time:
                finite_s = samples.time_s[np.isfinite(samples.time_s)]
                if not len(finite_s):
                    continue
                zero_s = float(finite_s[0])
            names = [channel.name for channel in samples.channels]
            channels_of.setdefault(samples.stream, names)
            if chosen is None and {item.name for item in self.sensors.channels} <= set(names):
                chosen = _Chosen(samples, self.sensors)
                self.rate_hz = self.given.rate_hz or samples.rate_hz or 0.0
            if chosen is not None and samples.stream == chosen.stream:
                yield from self._counted(chosen.push(samples, zero_s or 0.0))
        if chosen is None:
            raise self._lacking(channels_of)
        yield from self._counted(chosen.finish(self.notes))

    def _counted(self, rows: _Rows) -> Iterator[_Rows]:
        time_s = rows[0]
        if not len(time_s):
            return
        if not self._num_rows:
            self.start_s = float(time_s[0])
        self._num_rows += len(time_s)
        self.end_s = float(time_s[-1])
        if self.end_s - self.start_s > self.max_duration_s:
            raise TooLargeError(
                f"the recording is longer than {self.max_duration_s:g} s, the most of a file: cut"
                " it"
            )
        yield rows

    def _settings(self) -> SensorSettings:
        sensors, given = self.sensors, self.given
        # Checks the names and that units fit; a rate is for samples without times.
        adapter = Adapter(sensors, Given(channels=given.channels, units=given.units))
        said = zip(adapter.given_sensors.channels, given.units or (), strict=False)
        units = {channel.name: unit for channel, unit in said if unit}
        if self.source.suffix.removesuffix(".gz") in TABLE_SUFFIXES:
            # Other formats know their units themselves.
            units = {channel.name: channel.unit for channel in sensors.channels} | units
        columns = {
            channel.name: ColumnSettings(
                channel=channel.name, unit=units.get(channel.name) or None, stream=sensors.name
            )
            for channel in sensors.channels
        }
        return SensorSettings(
            time=TimeSettings(rate_hz=given.rate_hz or sensors.rate_hz),
            columns=columns,
            units={channel.name: channel.unit for channel in sensors.channels if channel.unit},
        )

    def _lacking(self, channels_of: dict[str, list[str]]) -> InputError:
        there = [name for names in channels_of.values() for name in names]
        wanted = [channel.name for channel in self.sensors.channels]
        missing = [name for name in wanted if name not in there]
        if missing:
            what = f"the file lacks the channel(s) {', '.join(missing)}"
        else:
            what = (
                f"the file has {', '.join(wanted)} in several streams, at rates of their own or by"
                " their names: call columns as the model does"
            )
        shown = "; ".join(
            f"{stream}: {', '.join(names[:_MAX_SHOWN])}" + (", ..." * (len(names) > _MAX_SHOWN))
            for stream, names in list(channels_of.items())[:_MAX_SHOWN]
        )
        return InputError(f"{what}; it has {shown or 'none'}")


class _Chosen:
    """The stream that has the channels of the signature, in its order and units."""

    def __init__(self, first: Samples, sensors: SensorInput) -> None:
        self.stream = first.stream
        self._is_double = dtype_of(first.channels) is np.float64
        by_name = {channel.name: index for index, channel in enumerate(first.channels)}
        self._order_C = [by_name[channel.name] for channel in sensors.channels]
        # A unit that nobody said is the signature's.
        pairs = [
            conversion(first.channels[index].unit or channel.unit, channel)
            for index, channel in zip(self._order_C, sensors.channels, strict=True)
        ]
        self._factor_C, self._offset_C = np.array(pairs, dtype=np.float64).T
        self._is_converted = any(pair != (1.0, 0.0) for pair in pairs)
        self._sequencer = Sequencer(len(first.channels))

    def push(self, samples: Samples, zero_s: float) -> _Rows:
        return self._ours(*self._sequencer.push(samples.time_s - zero_s, samples.values_TC))

    def finish(self, notes: Notes) -> _Rows:
        rows = self._ours(*self._sequencer.finish())
        self._sequencer.report(self.stream, notes)
        return rows

    def _ours(self, time_s: _Times, values_TC: NDArray[np.float64]) -> _Rows:
        # To the precision of a dataset first: what was trained is what is served.
        kept_TC: _Values
        kept_TC = values_TC[:, self._order_C]
        if not self._is_double:
            kept_TC = kept_TC.astype(np.float32)
        if not self._is_converted:
            return time_s, kept_TC
        return time_s, kept_TC.astype(np.float64) * self._factor_C + self._offset_C
