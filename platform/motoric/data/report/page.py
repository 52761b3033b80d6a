"""The report of an ingest: one HTML page with its pictures inside, that answers: is my data right?

In: a committed dataset. Out: `report/report.html` below it, and the pictures beside it as PNGs. All
that comes from users' files (ids, labels, reasons) is escaped.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape

from pydantic import ValidationError

from motoric.core import storage
from motoric.data.dataset import Dataset
from motoric.data.ingest.settings import IngestSettings
from motoric.data.recording import UNKNOWN_SUBJECT
from motoric.data.report.examples import (
    SensorExample,
    VideoExamples,
    sensor_example,
    video_examples,
)
from motoric.data.report.facts import (
    UNKNOWN,
    Amount,
    Facts,
    LeftOut,
    StreamFacts,
    gather_facts,
)
from motoric.data.report.findings import findings
from motoric.data.report.plots import people_plot, rates_plot

REPORT = "report/report.html"

# Name of the setting in which an ingest keeps all of its own, as JSON.
_INGEST = "ingest"
_NUM_TRACES = 4
_NUM_CLIPS = 6
_MAX_BARS = 40
_MAX_PEOPLE = 25
_MAX_FINDINGS = 8
_MAX_CHANNELS = 60
_MAX_REPAIRED = 50
_MAX_REASONS = 100
_MAX_SOURCES = 3
_LONG_TEXT = 400

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1a202c }
body { max-width: 960px; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem; margin-bottom: .2rem } h2 { font-size: 1.1rem; margin-top: 2.2rem }
h3 { font-size: 1rem; margin: 1.4rem 0 .2rem } .note { color: #4a5568 }
.figures { display: flex; flex-wrap: wrap; gap: .8rem; margin: 1rem 0 }
.figure { border: 1px solid #e2e8f0; border-radius: 8px; padding: .5rem .9rem; min-width: 6.4rem }
.figure b { display: block; font-size: 1.4rem } .figure span { color: #4a5568 }
.figure.look { border-color: #f6ad55; background: #fffaf0 }
.box { border-radius: 8px; padding: .7rem 1.1rem } .box ul { margin: .2rem 0; padding-left: 1.2rem }
.look.box { background: #fffaf0; border: 1px solid #f6ad55 }
.good.box { background: #f0fff4; border: 1px solid #9ae6b4 }
table { border-collapse: collapse; overflow-wrap: anywhere }
td, th { padding: .25rem 1.2rem .25rem 0; text-align: left; vertical-align: top }
th { color: #4a5568; font-weight: 600; border-bottom: 1px solid #cbd5e0; white-space: nowrap }
table.facts th { border: 0 } td.number { text-align: right; white-space: nowrap }
table.bars td { padding-top: .12rem; padding-bottom: .12rem }
td.bar { width: 11rem; padding: 0 .8rem 0 0 }
.bar div { height: .8rem; margin-top: .35rem; border-radius: 2px; background: #2b6cb0 }
.bar.hours div { background: #dd6b20 } img { max-width: 100% } img.track { max-width: 62% }
.tag { font-size: .85em; background: #feebc8; border-radius: 4px; padding: 0 .4rem }
"""


def write_report(dataset: Dataset) -> str:
    """Write the report of a dataset below it; one that stands there is replaced.

    The small tables are read whole; of the samples and videos only a few examples are.

    Args:
        dataset: A committed dataset.

    Returns:
        URI of the page.

    Raises:
        DatasetError: A file of the dataset is missing.
    """
    facts = gather_facts(dataset, num_sensor_examples=_NUM_TRACES, num_video_examples=_NUM_CLIPS)
    plots: dict[str, bytes] = {}
    body = "".join(
        [
            _opening(dataset, facts),
            _amounts("Labels", "label", "labelled", facts.labels),
            _people(facts, plots),
            _streams(facts, plots),
            _examples([sensor_example(dataset, row) for row in facts.sensor_examples], plots),
            _videos(facts, dataset, plots),
            _flags(facts),
            _repaired(facts),
            _left_out("Left out: broken or wrong", facts.rejected),
            _left_out("Left out: no samples in them by their nature", facts.skipped),
        ]
    )
    title = f"Dataset {facts.card.name}"
    page = f"""<!doctype html><html lang="en"><head><meta charset="utf-8">
<title>{escape(title)}</title><style>{_STYLE}</style></head><body>
{body}</body></html>
"""
    uri = storage.join(dataset.uri, REPORT)
    for name, png in plots.items():
        storage.write_bytes(storage.join(uri.rpartition("/")[0], name), png)
    storage.write_bytes(uri, page.encode())
    return uri


def _opening(dataset: Dataset, facts: Facts) -> str:
    card = facts.card
    figures = [
        ("recordings", f"{card.num_recordings:,}", False),
        ("recorded", _length(card.duration_s), False),
        ("videos", f"{card.num_videos:,}", False),
        ("people", _num_people(facts), False),
        ("labels", f"{len(facts.labels):,}", False),
        ("repaired", f"{card.num_repaired:,}", card.num_repaired > 0),
        ("left out, broken", f"{card.num_quarantined:,}", card.num_quarantined > 0),
        ("skipped, empty", f"{card.num_skipped:,}", False),
    ]
    found = findings(facts)
    if found:
        hidden = len(found) - _MAX_FINDINGS
        shown = [*found[:_MAX_FINDINGS], *([f"and {hidden} more"] if hidden > 0 else [])]
        lines = "".join(f"<li>{_text(line)}</li>" for line in shown)
        verdict = f'<div class="look box"><b>Worth a look</b><ul>{lines}</ul></div>'
    else:
        verdict = '<div class="good box"><b>Nothing stands out:</b> no damage, no holes.</div>'
    about = {
        "from": card.source,
        "lies at": dataset.uri,
        "content digest": card.content_digest,
        **{f"setting {name}": value for name, value in _settings(card.settings).items()},
    }
    return (
        f"<h1>Dataset {escape(card.name)}</h1>"
        f'<div class="note">{escape(card.description)}</div>'
        f'<div class="figures">{"".join(_figure(*item) for item in figures)}</div>'
        f"{verdict}<h2>Where it comes from</h2>{_facts(about)}"
    )


def _num_people(facts: Facts) -> str:
    if facts.subjects and not facts.num_people:
        return "unknown"
    return f"{facts.num_people:,}"


def _settings(settings: Mapping[str, str]) -> dict[str, str]:
    """Settings by dotted name; of those of an ingest only what differs from the defaults."""
    lines: dict[str, str] = {}
    for name, value in settings.items():
        if name != _INGEST:
            lines[name] = value
            continue
        try:
            chosen = IngestSettings.model_validate_json(value)
        except ValidationError:
            # Written by a Motoric that had other settings, whose defaults are not known here.
            lines[name] = value
        else:
            lines.update(_flat("", chosen.model_dump(mode="json", exclude_defaults=True)))
    return lines


def _flat(name: str, value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _flat(f"{name}.{key}" if name else key, item)
    else:
        yield name, value if isinstance(value, str) else json.dumps(value)


def _people(facts: Facts, plots: dict[str, bytes]) -> str:
    known = [item for item in facts.subjects if item.name != UNKNOWN]
    unknown = [item for item in facts.subjects if item.name == UNKNOWN]
    if len(known) <= _MAX_PEOPLE:
        return _amounts("People", "person", "recorded", (*known, *unknown))
    plots["people.png"] = people_plot(
        [item.num_recordings for item in known], [item.duration_s / 3600 for item in known]
    )
    note = f"{len(known):,} people. " + "".join(
        f"{item.num_recordings:,} recordings ({_length(item.duration_s)}) are of unknown people. "
        for item in unknown
    )
    picture = _image(plots["people.png"], "recordings and hours by person")
    return f'<h2>People</h2><div class="note">{note}The most recorded:</div>' + (
        _bars("person", "recorded", known[:5]) + picture
    )


def _amounts(heading: str, what: str, kind: str, items: Sequence[Amount]) -> str:
    if not items:
        return f'<h2>{heading}</h2><p class="note">None.</p>'
    more = _more(len(items) - _MAX_BARS)
    return f"<h2>{heading}</h2>{_bars(what, kind, items[:_MAX_BARS])}{more}"


def _bars(what: str, kind: str, items: Sequence[Amount]) -> str:
    most = max(item.num_recordings for item in items)
    longest_s = max(item.duration_s for item in items) or 1.0
    rows = "".join(
        f'<tr><td>{_text(item.name)}</td><td class="number">{item.num_recordings:,}</td>'
        f"{_bar(item.num_recordings / most, '')}"
        f'<td class="number">{_length(item.duration_s)}</td>'
        f"{_bar(item.duration_s / longest_s, ' hours')}</tr>"
        for item in items
    )
    return (
        f'<table class="bars"><tr><th>{what}</th><th colspan="2">recordings</th>'
        f'<th colspan="2">{kind}</th></tr>{rows}</table>'
    )


def _bar(share: float, kind: str) -> str:
    return f'<td class="bar{kind}"><div style="width:{max(share, 0.0):.1%}"></div></td>'


def _streams(facts: Facts, plots: dict[str, bytes]) -> str:
    if not facts.streams:
        return ""
    return "<h2>Streams</h2>" + "".join(
        _stream(number, stream, plots) for number, stream in enumerate(facts.streams, start=1)
    )


def _stream(number: int, stream: StreamFacts, plots: dict[str, bytes]) -> str:
    num_recordings = len(stream.rates_hz)
    units: dict[str, list[str]] = {}
    for name, unit, count in stream.channels[:_MAX_CHANNELS]:
        partial = "" if count == num_recordings else f" (in {count:,})"
        units.setdefault(unit or "unit unknown", []).append(name + partial)
    hidden = len(stream.channels) - _MAX_CHANNELS
    if stream.has_one_rate:
        rate = f"{stream.rates_hz[0]:g} Hz"
    else:
        rate = f"{min(stream.rates_hz):g} to {max(stream.rates_hz):g} Hz"
    gaps = "none"
    if stream.num_gaps:
        worst = "; ".join(
            f"{name} {count:,} of {_length(gap_s)}" for name, count, gap_s in stream.worst
        )
        gaps = (
            f"{stream.num_gaps:,}, {_length(stream.gap_s)} in all"
            f" ({stream.gap_share:.2%} of the time). Worst: {worst}"
        )
    table = {
        "recordings": f"{num_recordings:,}",
        **{f"channels in {unit}": ", ".join(names) for unit, names in units.items()},
        **({"not listed": f"{hidden:,} more channels"} if hidden > 0 else {}),
        "rate": rate,
        "samples": f"{stream.num_samples:,}",
        "gaps": gaps,
    }
    picture = ""
    if not stream.has_one_rate:
        name = f"rates_{number}.png"
        plots[name] = rates_plot(stream.rates_hz)
        picture = _image(plots[name], f"rates of {stream.name}")
    return f"<h3>{_text(stream.name)}</h3>{_facts(table)}{picture}"


def _examples(examples: Iterable[SensorExample], plots: dict[str, bytes]) -> str:
    parts = []
    for number, example in enumerate(examples, start=1):
        recording = example.recording
        labels = ", ".join(sorted({item.label for item in recording.annotations})) or "no label"
        subject = "unknown person" if _is_unknown(recording.subject) else recording.subject
        parts.append(
            f"<h3>{_text(recording.recording_id)}</h3>"
            f'<div class="note">{_text(subject)}, {_text(labels)};'
            f" {example.start_s:.0f} to {example.end_s:.0f} s of the recording</div>"
        )
        for kind, png in (("traces", example.traces), ("track", example.track)):
            if png is not None:
                plots[f"{kind}_{number}.png"] = png
                parts.append(_image(png, f"{kind} of {recording.recording_id}", kind))
    return f"<h2>Examples</h2>{''.join(parts)}" if parts else ""


def _is_unknown(subject: str) -> bool:
    return subject.startswith(UNKNOWN_SUBJECT)


def _videos(facts: Facts, dataset: Dataset, plots: dict[str, bytes]) -> str:
    if not facts.videos:
        return ""
    examples: VideoExamples = video_examples(dataset, facts.video_examples)
    parts = [f"<h2>Videos</h2>{_facts(facts.videos)}"]
    if examples.sheet is not None:
        plots["clips.png"] = examples.sheet
        parts.append(_image(examples.sheet, "; ".join(examples.titles)))
    if examples.problems:
        lines = "".join(f"<li>{_text(line)}</li>" for line in examples.problems)
        parts.append(f'<div class="look box"><b>Not shown</b><ul>{lines}</ul></div>')
    return "".join(parts)


def _flags(facts: Facts) -> str:
    if not facts.flags:
        return '<h2>What ingest noticed</h2><p class="note">Nothing.</p>'
    rows = "".join(
        f"<tr><td>{_text(item.kind)}{' <span class=tag>repair</span>' if item.is_repair else ''}"
        f'</td><td class="number">{item.num_recordings:,}</td>'
        f'<td class="number">{item.count:,}</td>'
        f"<td>{_text(item.recording_id)}: {_text(item.detail)}</td></tr>"
        for item in facts.flags
    )
    return (
        "<h2>What ingest noticed</h2><table><tr><th>kind</th><th>recordings</th><th>times</th>"
        f"<th>for example</th></tr>{rows}</table>"
    )


def _repaired(facts: Facts) -> str:
    if not facts.repaired:
        return ""
    rows = "".join(
        f"<tr><td>{_text(item.recording_id)}</td><td>{_text(item.source)}</td>"
        f"<td>{'<br>'.join(_text(line) for line in item.details)}</td></tr>"
        for item in facts.repaired[:_MAX_REPAIRED]
    )
    return (
        "<h2>Repaired recordings</h2><table><tr><th>recording</th><th>file</th><th>repairs</th>"
        f"</tr>{rows}</table>{_more(len(facts.repaired) - _MAX_REPAIRED)}"
    )


def _left_out(heading: str, groups: Sequence[LeftOut]) -> str:
    if not groups:
        return ""
    rows = []
    for group in groups[:_MAX_REASONS]:
        hidden = len(group.sources) - _MAX_SOURCES
        more = f", and {hidden:,} more" if hidden > 0 else ""
        sources = ", ".join(_text(source) for source in group.sources[:_MAX_SOURCES])
        rows.append(
            f'<tr><td class="number">{len(group.sources):,}</td><td>{_text(group.reason)}</td>'
            f"<td>{sources}{more}</td></tr>"
        )
    return (
        f"<h2>{heading}</h2><table><tr><th>inputs</th><th>reason</th><th>which</th></tr>"
        f"{''.join(rows)}</table>{_more(len(groups) - _MAX_REASONS)}"
    )


def _more(count: int) -> str:
    return f'<p class="note">and {count:,} more</p>' if count > 0 else ""


def _figure(name: str, value: str, deserves_a_look: bool) -> str:
    kind = "figure look" if deserves_a_look else "figure"
    return f'<div class="{kind}"><b>{escape(value)}</b><span>{escape(name)}</span></div>'


def _facts(facts: Mapping[str, str]) -> str:
    rows = "".join(
        f"<tr><th>{_text(name)}</th><td>{_text(value)}</td></tr>" for name, value in facts.items()
    )
    return f'<table class="facts">{rows}</table>'


def _text(text: str) -> str:
    return escape(text if len(text) <= _LONG_TEXT else f"{text[:_LONG_TEXT]}...")


def _image(png: bytes, alternative: str, kind: str = "") -> str:
    encoded = base64.b64encode(png).decode()
    style = f' class="{kind}"' if kind else ""
    return f'<p><img{style} alt="{_text(alternative)}" src="data:image/png;base64,{encoded}"></p>'


def _length(duration_s: float) -> str:
    """A length of time in the unit that reads best."""
    if duration_s >= 2 * 3600:
        return f"{duration_s / 3600:,.1f} h"
    if duration_s >= 2 * 60:
        return f"{duration_s / 60:.1f} min"
    return f"{duration_s:.1f} s"
