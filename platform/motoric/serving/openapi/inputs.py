"""What predict takes, as OpenAPI: a schema and an example that fit a signature."""

from __future__ import annotations

import math

from motoric.artefact.signature import ClipInput, SensorInput, Signature
from motoric.serving.media_types import FILE_TYPES, FORM_TYPE
from motoric.serving.openapi.parts import Json

# More numbers than this stop a page: such examples travel as bytes, and JSON is shown by a URI.
_MAX_EXAMPLE_NUMBERS = 20_000
_BINARY: Json = {"type": "string", "format": "binary"}


def request_content(signature: Signature | None) -> Json:
    """By Content-Type, the bodies that predict takes."""
    content: Json = {"application/json": _json(signature)}
    if signature is None:
        return content
    sensors, clip = signature.sensor_input, signature.clip_input
    if sensors is not None and (clip is None or clip.optional):
        shape = f"[windows, {sensors.num_input_samples}, {sensors.num_channels}]"
        raw, array = f"float32, little-endian, in C order, {shape}", f"an array of shape {shape}"
    elif clip is not None and sensors is None:
        shape = f"[clips, {', '.join(map(str, clip.shape))}]"
        raw, array = f"uint8 in C order, {shape}", f"uint8 of shape {shape}"
    else:
        raw = array = ""
    if raw:
        content["application/octet-stream"] = {"schema": _BINARY | {"description": raw}}
        content["application/x-npy"] = {
            "schema": _BINARY | {"description": f"`numpy.save` of {array}"}
        }
    names = [
        *(["`windows`"] if sensors is not None else []),
        *(["`clips`"] if clip is not None else []),
    ]
    about = f"an Arrow IPC stream with {' and '.join(names)}, a row an example"
    content["application/vnd.apache.arrow.stream"] = {"schema": _BINARY | {"description": about}}
    return content | _files(sensors is not None, clip is not None)


def _files(has_sensors: bool, has_clip: bool) -> Json:
    """Whole recordings, as forms and as bodies of their own."""
    is_fused = has_sensors and has_clip
    names = ["sensors", "video"] if is_fused else ["file"]
    form = {"type": "object", "properties": dict.fromkeys(names, _BINARY)}
    content: Json = {
        FORM_TYPE.decode(): {"schema": form if is_fused else form | {"required": names}}
    }
    for kind, suffix in FILE_TYPES.items():
        if has_clip if kind.startswith(b"video/") else has_sensors:
            about = f"a whole recording, as a {suffix} file; answered as a timeline"
            content[kind.decode()] = {"schema": _BINARY | {"description": about}}
    return content


def query_parameters(signature: Signature | None) -> list[Json]:
    """What the query and headers of predict may say."""
    timeout: Json = {
        "name": "X-Timeout-Ms",
        "in": "header",
        "description": "how long the client waits; what is not begun by then is not run",
        "schema": {"type": "number", "exclusiveMinimum": 0},
    }
    if signature is None:
        return [timeout]
    with_windows: Json = {
        "name": "windows",
        "in": "query",
        "description": "of a file: answer each window too, before smoothing",
        "schema": {"type": "boolean"},
    }
    sensors = signature.sensor_input
    if sensors is None:
        return [with_windows, timeout]
    offset: list[Json] = []
    if signature.clip_input is not None:
        about = "of files: time of the recording at which the video's first frame was taken"
        schema = {"type": "number"}
        offset = [{"name": "video_offset_s", "in": "query", "description": about, "schema": schema}]
    names = ",".join(channel.name for channel in sensors.channels)
    units = ",".join(channel.unit for channel in sensors.channels)
    return [
        {
            "name": "rate_hz",
            "in": "query",
            "description": "rate of the windows, where it is another; they are resampled",
            "schema": {"type": "number", "exclusiveMinimum": 0},
        },
        {
            "name": "channels",
            "in": "query",
            "description": f"order of their channels, where it is another than {names}",
            "schema": {"type": "string"},
        },
        {
            "name": "units",
            "in": "query",
            "description": f"units of their channels, where they are others than {units}",
            "schema": {"type": "string"},
        },
        with_windows,
        *offset,
        timeout,
    ]


def describe(signature: Signature) -> str:
    """In words, what an example of a model holds."""
    sensors, clip = signature.sensor_input, signature.clip_input
    said = []
    if sensors is not None:
        said.append(_describe_window(sensors))
    if clip is not None:
        said.append(_describe_clip(clip))
    if len(said) > 1:
        said.append("An example may lack one of both.")
    return " ".join(said)


def example_window(sensors: SensorInput) -> list[list[float]]:
    """A window of the right shape: small distinct numbers, so that axes can be told apart."""
    channels = range(sensors.num_channels)
    return [
        [round(0.01 * sample + channel, 2) for channel in channels]
        for sample in range(sensors.num_input_samples)
    ]


def _describe_window(sensors: SensorInput) -> str:
    channels = ", ".join(f"{channel.name} [{channel.unit}]" for channel in sensors.channels)
    context = (
        f", the first {sensors.num_context_samples} of them context that filters need,"
        if sensors.num_context_samples
        else ""
    )
    length_s = sensors.num_input_samples / sensors.rate_hz
    return (
        f"A window holds {sensors.num_input_samples} samples at {sensors.rate_hz:g} Hz "
        f"({length_s:g} s){context} of {sensors.num_channels} channels, in this order: {channels}."
    )


def _describe_clip(clip: ClipInput) -> str:
    return (
        f"A clip holds {clip.num_frames} frames of {clip.height} x {clip.width} pixels,"
        f" {clip.colour}, uint8."
    )


def _json(signature: Signature | None) -> Json:
    properties: Json = {}
    sensors = clip = None
    if signature is None:
        properties["windows"] = {"type": "array"}
    else:
        sensors, clip = signature.sensor_input, signature.clip_input
    if sensors is not None:
        properties["windows"] = _one_or_many(_window_schema(sensors), "windows, or one window")
        properties["rate_hz"] = {"type": "number", "exclusiveMinimum": 0}
        strings: Json = {"type": "array", "items": {"type": "string"}}
        properties["channels"] = properties["units"] = strings
    if clip is not None:
        properties["clips"] = _one_or_many(_clip_schema(clip), "clips, or one clip")
    if sensors is not None and clip is not None:
        pair: Json = {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 2}
        properties["present"] = {
            "type": "array",
            "items": pair,
            "description": "which examples have their window, and their clip",
        }
    required = [] if sensors is not None and clip is not None else list(properties)[:1]
    examples: Json = {
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
        "required": required,
    }
    uris: Json = {
        "type": "object",
        "additionalProperties": False,
        "properties": {"uri": {"type": "string"}, "video_uri": {"type": "string"}},
        "required": ["uri"],
        "description": "a whole recording, below a prefix that the deployment allows",
    }
    content: Json = {"schema": {"oneOf": [examples, uris]}}
    example = _example(sensors, clip)
    if example:
        content["example"] = example
    return content


def _example(sensors: SensorInput | None, clip: ClipInput | None) -> Json:
    example: Json = {}
    num_numbers = 0
    if sensors is not None:
        num_numbers += sensors.num_input_samples * sensors.num_channels
    has_clip = clip is not None and (sensors is None or not clip.optional)
    if clip is not None and has_clip:
        num_numbers += math.prod(clip.shape)
    if num_numbers > _MAX_EXAMPLE_NUMBERS:
        # Never none: pages make one of the schema then, of as many numbers.
        uris = {"uri": "/data/recording.csv", "video_uri": "/data/recording.mp4"}
        if clip is None or sensors is None:
            return {"uri": uris["uri" if clip is None else "video_uri"]}
        return uris
    if sensors is not None:
        example["windows"] = [example_window(sensors)]
    if clip is not None and has_clip:
        num_frames, height, width, num_channels = clip.shape
        pixel = [128] * num_channels
        example["clips"] = [[[[pixel] * width] * height] * num_frames]
    return example


def _one_or_many(schema: Json, description: str) -> Json:
    return {
        "description": description,
        "anyOf": [{"type": "array", "items": schema, "minItems": 1}, schema],
    }


def _fixed(items: Json, num: int) -> Json:
    return {"type": "array", "items": items, "minItems": num, "maxItems": num}


def _window_schema(sensors: SensorInput) -> Json:
    sample = _fixed({"type": "number"}, sensors.num_channels)
    window = _fixed(sample, sensors.num_input_samples)
    return window | {"description": _describe_window(sensors)}


def _clip_schema(clip: ClipInput) -> Json:
    schema: Json = {"type": "integer", "minimum": 0, "maximum": 255}
    for num in reversed(clip.shape):
        schema = _fixed(schema, num)
    return schema | {"description": _describe_clip(clip)}
