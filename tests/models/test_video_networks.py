import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.nn.functional import cross_entropy

from motoric.core.errors import RecipeError
from motoric.models import frame_recurrent, r2plus1d
from motoric.models.frame_recurrent import FrameRecurrentConfig
from motoric.models.r2plus1d import R2Plus1dConfig
from motoric.models.shapes import ClipShape, InputShapes

SMALL = R2Plus1dConfig(stages=(4, 6), stem_channels=4)
FRAMES = FrameRecurrentConfig(channels=(4, 6), frame_features=8, hidden_size=8)
ODD = ClipShape(num_frames=7, height=30, width=34, num_channels=1)
COLOUR = ClipShape(num_frames=16, height=56, width=56, num_channels=3)


def make(config, clip: ClipShape, num_outputs: int = 5) -> nn.Module:
    module = r2plus1d if isinstance(config, R2Plus1dConfig) else frame_recurrent
    torch.manual_seed(0)
    return module.build(config, InputShapes(clip=clip), num_outputs)


def clips_of(clip: ClipShape, num_clips: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (num_clips, clip.num_frames, clip.height, clip.width, clip.num_channels)
    return torch.randn(shape, generator=generator)


@pytest.mark.parametrize("config", [SMALL, FRAMES])
@pytest.mark.parametrize(
    "clip",
    [
        ClipShape(num_frames=2, height=1, width=1, num_channels=1),
        ClipShape(num_frames=2, height=3, width=50, num_channels=2),
        ClipShape(num_frames=31, height=17, width=5, num_channels=3),
    ],
)
def test_the_smallest_and_oddest_clips_have_outputs(config, clip):
    network = make(config, clip)
    assert network(clips_of(clip, 3)).shape == (3, 5)
    assert torch.isfinite(network.eval()(clips_of(clip, 1))).all()


@pytest.mark.parametrize("config", [SMALL, FRAMES])
def test_every_parameter_gets_a_gradient(config):
    network = make(config, ODD)
    cross_entropy(network(clips_of(ODD, 4)), torch.tensor([0, 1, 2, 3])).backward()
    without = [
        name
        for name, parameter in network.named_parameters()
        if parameter.grad is None or not parameter.grad.any()
    ]
    assert without == []


@pytest.mark.parametrize("config", [SMALL, FRAMES])
def test_one_clip_does_not_change_the_outputs_of_another(config):
    network = make(config, ODD).eval()
    clips = clips_of(ODD, 3)
    with torch.no_grad():
        before = network(clips)
        clips[2] = 50.0
        after = network(clips)
    assert torch.allclose(before[:2], after[:2], atol=1e-5)
    assert not torch.allclose(before[2], after[2], atol=1e-3)


@pytest.mark.parametrize(
    "config",
    [
        SMALL.model_copy(update={"dropout": 0.0}),
        FRAMES.model_copy(update={"dropout": 0.0}),
    ],
)
def test_the_direction_of_a_motion_is_learned(config):
    # Clips of both classes hold the same frames: only their order tells them apart.
    clip = ClipShape(num_frames=8, height=16, width=16, num_channels=1)
    starts = torch.arange(8) % 4
    right = torch.zeros(8, 8, 16, 16, 1)
    for index, start in enumerate(starts.tolist()):
        for frame in range(8):
            right[index, frame, 4 + start : 8 + start, start + frame : start + frame + 4] = 1.0
    clips = torch.cat([right, right.flip(1)])
    labels = torch.arange(2).repeat_interleave(8)
    network = make(config, clip, num_outputs=2)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(25):
        optimiser.zero_grad()
        cross_entropy(network(clips), labels).backward()
        optimiser.step()
    with torch.no_grad():
        for _ in range(20):
            network(clips)  # statistics of normalisation follow the last weights
        assert (network.eval()(clips).argmax(1) == labels).float().mean() > 0.95


def test_differences_of_frames_are_zero_at_the_first_and_then_what_changed():
    layer = r2plus1d.FrameInput(1, frame_differences=True).eval()
    clips = clips_of(ODD, 2)
    with torch.no_grad():
        found = layer(clips)
    assert found.shape == (2, 7, 30, 34, 2)
    assert not found[:, 0, ..., 1].any()
    assert torch.allclose(found[:, 1:, ..., 1], (clips[:, 1:] - clips[:, :-1])[..., 0], atol=1e-4)


def test_more_stages_blocks_and_width_make_a_larger_network():
    sizes = [
        sum(parameter.numel() for parameter in make(config, COLOUR).parameters())
        for config in (
            SMALL,
            SMALL.model_copy(update={"stages": (4, 6, 8)}),
            SMALL.model_copy(update={"stages": (4, 6, 8), "blocks_per_stage": 2}),
            SMALL.model_copy(
                update={"stages": (8, 12, 16), "blocks_per_stage": 2, "middle_ratio": 2.25}
            ),
        )
    ]
    assert sizes == sorted(set(sizes))


def test_derived_strides_leave_a_few_frames_and_pixels():
    clip = ClipShape(num_frames=24, height=60, width=56, num_channels=1)
    strides = r2plus1d._strides(R2Plus1dConfig(), clip)
    assert (strides.stem, strides.space, strides.time) == (2, (2, 2, 2, 1), (1, 2, 2, 2))
    short = r2plus1d._strides(R2Plus1dConfig(), ODD)
    assert (short.stem, short.space, short.time) == (2, (2, 2, 1, 1), (1, 2, 1, 1))


@pytest.mark.parametrize(
    ("settings", "place"),
    [
        ({"space_strides": (1, 8)}, "space_strides: stride 8 at place 2 is more than the 4"),
        ({"time_strides": (2, 4)}, "time_strides: stride 4 at place 2 is more than the 2"),
        ({"stem_stride": 6}, "stem_stride: stride 6 at place 1 is more than the 4"),
    ],
)
def test_a_stride_larger_than_the_clip_is_an_error_that_says_where(settings, place):
    clip = ClipShape(num_frames=4, height=4, width=9, num_channels=1)
    with pytest.raises(RecipeError, match=place):
        make(R2Plus1dConfig(stages=(4, 4), **settings), clip)


@pytest.mark.parametrize("config", [SMALL, FRAMES])
def test_differences_of_a_single_frame_are_refused(config):
    clip = ClipShape(num_frames=1, height=8, width=8, num_channels=1)
    with pytest.raises(RecipeError, match="frame_differences needs clips of 2 frames"):
        make(config, clip)
    without = make(config.model_copy(update={"frame_differences": False}), clip)
    assert without(clips_of(clip, 2)).shape == (2, 5)


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (R2Plus1dConfig, {"stages": (8, 0)}, "stages are channels from 1"),
        (R2Plus1dConfig, {"stages": (8, 8), "time_strides": (1,)}, "1 entries for 2 stages"),
        (R2Plus1dConfig, {"stages": (8,), "space_strides": (9,)}, "space_strides are from 1 to 8"),
        (FrameRecurrentConfig, {"channels": (8, -1)}, "channels are from 1"),
        (FrameRecurrentConfig, {"hiden_size": 3}, "hiden_size"),
    ],
)
def test_wrong_settings_are_refused(kind, settings, message):
    with pytest.raises(ValidationError, match=message):
        kind(**settings)
