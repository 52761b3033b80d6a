from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from motoric.core.errors import RecipeError
from motoric.models import catalogue
from motoric.models.late_fusion import LateFusion
from motoric.models.shapes import ClipShape, InputShapes, SensorShape

SHAPES = InputShapes(
    sensors=SensorShape(num_samples=20, num_channels=6, rate_hz=50.0),
    clip=ClipShape(num_frames=6, height=14, width=12, num_channels=1),
)
CLIP = {"name": "r2plus1d", "stages": [6], "stem_channels": 4}
DESCENDED = {"name": "recurrent", "hidden_size": 6, "stem_channels": 8}
SOLVED = {"name": "random_kernels", "num_features": 84}
NUM_CLASSES = 4


def make(sensors: dict[str, object]) -> LateFusion:
    torch.manual_seed(0)
    config = catalogue.parse_config({"name": "late_fusion", "sensors": sensors, "clip": CLIP})
    network = catalogue.build_model(config, SHAPES, NUM_CLASSES)
    assert isinstance(network, LateFusion)
    return network.eval()


def inputs_of(present: list[tuple[float, float]]) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return (
        torch.randn(len(present), 20, 6, generator=generator),
        torch.randn(len(present), 6, 14, 12, 1, generator=generator),
        torch.tensor(present),
    )


def log_probabilities(network: nn.Module, inputs: Tensor) -> Tensor:
    outputs: Tensor = torch.log_softmax(network(inputs), dim=1)
    return outputs


def test_the_answer_is_the_product_of_both_or_that_of_the_only_one() -> None:
    network = make(DESCENDED)
    windows_BTC, clips_BTHWC, present_B2 = inputs_of([(1, 1), (1, 0), (0, 1), (0, 0)])
    joint_BK = torch.log_softmax(network(windows_BTC, clips_BTHWC, present_B2), dim=1)
    sensors_BK = log_probabilities(network.sensors, windows_BTC)
    clip_BK = log_probabilities(network.clip, clips_BTHWC)
    product_K = torch.log_softmax(sensors_BK[0] + clip_BK[0], dim=0)
    torch.testing.assert_close(joint_BK[0], product_K)
    torch.testing.assert_close(joint_BK[1], sensors_BK[1])
    torch.testing.assert_close(joint_BK[2], clip_BK[2])
    torch.testing.assert_close(joint_BK[3].exp(), torch.full((NUM_CLASSES,), 0.25))


def test_what_stands_in_a_missing_input_has_no_influence() -> None:
    network = make(DESCENDED)
    windows_BTC, clips_BTHWC, present_B2 = inputs_of([(1, 0), (0, 1)])
    before_BK = network(windows_BTC, clips_BTHWC, present_B2)
    windows_BTC[1], clips_BTHWC[0] = torch.nan, torch.inf
    torch.testing.assert_close(network(windows_BTC, clips_BTHWC, present_B2), before_BK)


def test_in_training_each_network_has_outputs_of_its_own() -> None:
    both = make(DESCENDED).train()(*inputs_of([(1, 1), (1, 0), (0, 1)]))
    assert isinstance(both, tuple)
    clip_BK, sensors_BK = both
    assert not clip_BK[1].any()
    assert not sensors_BK[2].any()
    assert clip_BK[0].any()
    assert sensors_BK[0].any()
    alone = make(SOLVED).train()(*inputs_of([(1, 1), (1, 1)]))
    assert isinstance(alone, Tensor)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clip": DESCENDED}, "it belongs under `sensors:`"),
        ({"sensors": {"name": "nothing"}}, "there are:"),
        ({"sensors": {**SOLVED, "num_features": 3}}, "num_features"),
        ({"passes": 0}, "passes"),
    ],
)
def test_wrong_settings_are_refused(change: dict[str, object], message: str) -> None:
    content = {"name": "late_fusion", "sensors": SOLVED, "clip": CLIP, **change}
    with pytest.raises(RecipeError, match=message):
        catalogue.parse_config(content)
