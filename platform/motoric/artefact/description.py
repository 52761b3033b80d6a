"""What a model takes and gives, in words for people."""

from __future__ import annotations

from motoric.artefact.signature import ClassesOutput, Signature


def describe_inputs(signature: Signature) -> list[str]:
    """The inputs in words."""
    lines = []
    sensors, clip = signature.sensor_input, signature.clip_input
    if sensors is not None:
        channels = ", ".join(f"{item.name} [{item.unit}]" for item in sensors.channels)
        context = ""
        if sensors.num_context_samples:
            context = f", the first {sensors.num_context_samples} of them context of filters,"
        optional = " (may be missing)" if sensors.optional else ""
        lines.append(
            f"windows of {sensors.num_input_samples} samples at {sensors.rate_hz:g} Hz{context} of"
            f" {channels}{optional}"
        )
    if clip is not None:
        optional = " (may be missing)" if clip.optional else ""
        lines.append(
            f"clips of {clip.num_frames} frames of {clip.height} x {clip.width} pixels,"
            f" {clip.colour}{optional}"
        )
    return lines


def describe_output(signature: Signature) -> str:
    """The output in words."""
    output = signature.output
    if isinstance(output, ClassesOutput):
        return f"probabilities of {', '.join(output.classes)}"
    if output.kind == "value":
        return f"{output.of} [{output.unit}]"
    quantiles = ", ".join(f"{item:g}" for item in output.quantiles)
    return f"quantiles {quantiles} of {output.of} [{output.unit}] {output.horizon_s:g} s ahead"
