from collections.abc import Iterator

import pytest
import torch
from pydantic import BaseModel, ConfigDict
from torch import nn
from torch.nn.functional import cross_entropy

from motoric.core.errors import RecipeError
from motoric.models import catalogue, frame_recurrent, fusion, r2plus1d
from motoric.models.catalogue import ModelKind
from motoric.models.fusion import FusionConfig
from motoric.models.shapes import ClipShape, InputShapes, SensorShape

SHAPES = InputShapes(
    sensors=SensorShape(num_samples=20, num_channels=6, rate_hz=50.0),
    clip=ClipShape(num_frames=6, height=14, width=12, num_channels=1),
)
BRANCHES = {
    "sensors": {"name": "recurrent", "hidden_size": 6, "stem_channels": 8},
    "clip": {"name": "r2plus1d", "stages": [6], "stem_channels": 4},
}
CONFIG = {"name": "fusion", "embedding_size": 12, "joint_size": 10, **BRANCHES}
BOTH, SENSORS, CLIP, NOTHING = (1.0, 1.0), (1.0, 0.0), (0.0, 1.0), (0.0, 0.0)
ANY = [BOTH, SENSORS, CLIP, NOTHING, BOTH, BOTH]


class _ClosedFormConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = "random_kernels"


@pytest.fixture(autouse=True)
def _kinds(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    wanted = {
        "r2plus1d": ModelKind(r2plus1d.R2Plus1dConfig, r2plus1d.build, ("clip",)),
        "frame_recurrent": ModelKind(
            frame_recurrent.FrameRecurrentConfig, frame_recurrent.build, ("clip",)
        ),
        "fusion": ModelKind(FusionConfig, fusion.build, ("sensors", "clip")),
        "random_kernels": ModelKind(_ClosedFormConfig, lambda *_: nn.Identity(), ("sensors",)),
    }
    for name, kind in wanted.items():
        if name not in catalogue.MODELS:
            monkeypatch.setitem(catalogue.MODELS, name, kind)
    return


def make(**settings: object) -> nn.Module:
    torch.manual_seed(0)
    config = catalogue.parse_config({**CONFIG, **settings})
    network = catalogue.build_model(config, SHAPES, 4)
    network.train()
    network(*inputs_of([BOTH] * 6, seed=9))  # statistics of normalisation
    with torch.no_grad():
        network.nothing_K.copy_(torch.tensor([0.1, 0.2, 0.3, 0.4]))
    return network


def inputs_of(present: list[tuple[float, float]], seed: int = 0) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    windows_BTC = torch.randn(len(present), 20, 6, generator=generator)
    clips_BTHWC = torch.randn(len(present), 6, 14, 12, 1, generator=generator)
    return windows_BTC, clips_BTHWC, torch.tensor(present)


@pytest.mark.parametrize("garbage", [1e6, float("nan"), float("inf")])
@pytest.mark.parametrize(("present", "missing"), [(SENSORS, 1), (CLIP, 0)])
def test_what_stands_in_a_missing_input_has_no_influence_at_all(garbage, present, missing):
    network = make().eval()
    inputs = list(inputs_of([BOTH, present, present]))
    with torch.no_grad():
        inputs[missing][1:] = 0.0
        expected = network(*inputs)
        inputs[missing][1] = garbage
        inputs[missing][2] = torch.randn(inputs[missing][2].shape)
        assert torch.equal(network(*inputs), expected)
        inputs[1 - missing][1] += 1.0
        assert not torch.allclose(network(*inputs)[1], expected[1])


def test_each_input_that_is_there_matters():
    network = make().eval()
    for changed in (0, 1):
        inputs = inputs_of([BOTH])
        with torch.no_grad():
            before = network(*inputs)
            inputs[changed].mul_(-3.0)
            assert not torch.allclose(network(*inputs), before)


def test_a_row_with_nothing_present_gives_the_learned_constant():
    network = make().eval()
    windows, clips, present = inputs_of([NOTHING, BOTH])
    windows[0], clips[0] = float("nan"), float("nan")
    assert network(windows, clips, present)[0].tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4])


def test_training_gives_outputs_of_each_branch_and_prediction_gives_one():
    network = make().train()
    found = network(*inputs_of(ANY))
    assert [part.shape for part in found] == [(6, 4)] * 3
    assert network.eval()(*inputs_of(ANY)).shape == (6, 4)


def test_the_auxiliary_outputs_of_a_missing_branch_are_the_joint_ones():
    outputs, sensors, clip = make().train()(*inputs_of(ANY))
    for row, (has_sensors, has_clip) in enumerate(ANY):
        assert torch.equal(sensors[row], outputs[row]) == (not has_sensors)
        assert torch.equal(clip[row], outputs[row]) == (not has_clip)


@pytest.mark.parametrize(
    "present", [ANY, [SENSORS] * 3, [CLIP] * 3, [NOTHING] * 3, [SENSORS, CLIP]]
)
def test_losses_and_gradients_are_finite_whatever_is_missing(present):
    network = make()
    windows, clips, flags = inputs_of(present)
    windows[flags[:, 0] == 0], clips[flags[:, 1] == 0] = float("nan"), float("nan")
    labels = torch.arange(len(present)) % 4
    found = network.train()(windows, clips, flags)
    sum(cross_entropy(part, labels) for part in found).backward()
    # All of them have one, as data-parallel training asks for, and none is NaN.
    for parameter in network.parameters():
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad).all()
    assert all(torch.isfinite(value).all() for value in network.state_dict().values())


@pytest.mark.parametrize(("branch", "present"), [("sensors", CLIP), ("clip", SENSORS)])
def test_a_missing_input_teaches_its_branch_nothing(branch, present):
    network = make()
    windows, clips, flags = inputs_of([present] * 4)
    outputs, *_ = network.train()(windows, clips, flags)
    cross_entropy(outputs, torch.arange(4)).backward()
    grads = [parameter.grad for parameter in getattr(network, branch).parameters()]
    assert not any(grad.any() for grad in grads)


def test_missing_rows_do_not_shift_the_statistics_of_a_branch():
    rows = inputs_of([BOTH] * 3, seed=4)
    full, partial = make(), make()
    full.train()(*rows)
    doubled = [torch.cat([part, part]) for part in rows]
    doubled[0][3:], doubled[2][3:, 0] = 0.0, 0.0  # three windows missing
    partial.train()(*doubled)
    means = {name: value for name, value in full.state_dict().items() if "running_mean" in name}
    sensors = {name: value for name, value in means.items() if name.startswith("sensors.")}
    assert sensors
    for name, value in sensors.items():
        assert torch.allclose(partial.state_dict()[name], value, atol=1e-6)


def test_dropping_a_modality_takes_one_of_two_and_never_the_only_one():
    network = make(modality_dropout=0.4).train()
    present = torch.tensor([BOTH] * 3000 + [SENSORS] * 50 + [CLIP] * 50 + [NOTHING] * 50) > 0.5
    torch.manual_seed(3)
    shown = network._shown(present)
    assert torch.equal(shown[3000:], present[3000:])
    assert shown[:3000].any(dim=1).all()
    lost_sensors, lost_clip = (~shown[:3000]).float().mean(dim=0).tolist()
    assert lost_sensors == pytest.approx(0.2, abs=0.03)
    assert lost_clip == pytest.approx(0.2, abs=0.03)
    assert torch.equal(network.eval()._shown(present), present)


def test_the_weights_of_the_heads_sum_to_one_over_those_that_have_their_input():
    network = make()
    weights = network._weights(torch.tensor([BOTH, SENSORS, CLIP]) > 0.5)
    assert torch.allclose(weights.sum(dim=1), torch.ones(3))
    assert weights[1, 1] == 0
    assert weights[2, 0] == 0
    assert (weights[0] > 0).all()


def test_a_class_that_each_input_tells_half_of_is_learned_from_both():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(32) % 4
    windows = 0.2 * torch.randn(32, 20, 6, generator=generator)
    windows[:, :, 0] += (labels // 2).float()[:, None]
    clips = 0.2 * torch.randn(32, 6, 14, 12, 1, generator=generator)
    clips[:, :, :6] += (labels % 2).float()[:, None, None, None, None]
    present = torch.ones(32, 2)
    network = make(dropout=0.0).train()
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(30):
        optimiser.zero_grad()
        outputs, *auxiliary = network(windows, clips, present)
        loss = cross_entropy(outputs, labels)
        (loss + 0.3 * sum(cross_entropy(part, labels) for part in auxiliary)).backward()
        optimiser.step()
    with torch.no_grad():
        for _ in range(20):
            network(windows, clips, present)
        found = network.eval()(windows, clips, present).argmax(1)
        alone = network(windows, clips, torch.tensor([SENSORS] * 32)).argmax(1)
    assert (found == labels).float().mean() > 0.95
    assert (alone // 2 == labels // 2).float().mean() > 0.95


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"clip": BRANCHES["sensors"]}, "clip: .*'recurrent' is a network of sensors"),
        ({"sensors": BRANCHES["clip"]}, "sensors: .*'r2plus1d' is a network of clip"),
        ({"clip": CONFIG}, "clip: .*'fusion' takes sensors and clip; a branch takes one"),
        ({"sensors": {"name": "random_kernels"}}, "sensors: .*'random_kernels' is not trained"),
        ({"sensors": {"name": "lstn"}}, "sensors: .*'lstn'; there are: "),
        ({"sensors": {}}, "sensors: .*name is None"),
        ({"clip": {"name": "r2plus1d", "depht": 3}}, "clip: .*unknown key depht"),
        ({"clip": {"name": "r2plus1d", "dropout": 2}}, "clip: .*dropout: input should be less"),
        ({"modality_dropout": 1.5}, "modality_dropout"),
        ({"fuse": "late"}, "unknown key fuse"),
    ],
)
def test_wrong_settings_are_refused_when_the_recipe_is_read(settings, message):
    with pytest.raises(RecipeError, match=message):
        catalogue.parse_config({**CONFIG, **settings})


def test_a_branch_that_does_not_fit_its_shape_says_which():
    clip = {"name": "r2plus1d", "stages": [4], "time_strides": [8]}
    config = catalogue.parse_config({**CONFIG, "clip": clip})
    with pytest.raises(RecipeError, match=r"model\.clip: .*stride 8 at place 1"):
        catalogue.build_model(config, SHAPES, 4)


def test_settings_survive_being_written_and_read():
    config = catalogue.parse_config({**CONFIG, "clip": {"name": "frame_recurrent"}})
    assert catalogue.parse_config(config.model_dump()) == config
