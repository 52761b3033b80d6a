from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from motoric.models.heads import ClassesHead, QuantilesHead, RelativeInput, ValueHead


def test_probabilities_are_in_the_order_of_the_outputs_and_sum_to_one() -> None:
    outputs_BK = torch.tensor([[1.0, 3.0, 2.0], [1000.0, -1000.0, 0.0]])
    found_BK = ClassesHead()(outputs_BK)
    torch.testing.assert_close(found_BK.sum(dim=1), torch.ones(2))
    assert found_BK.argmax(dim=1).tolist() == [1, 0]
    assert found_BK.isfinite().all()


def test_values_come_back_in_their_unit() -> None:
    found_B1 = ValueHead(150.0, 20.0)(torch.tensor([[0.0], [-1.0], [2.0]]))
    assert found_B1.tolist() == [[150.0], [130.0], [190.0]]


@settings(max_examples=25, deadline=None)
@given(
    last=st.floats(-50, 50, width=32),
    mean=st.floats(-10, 10, width=32),
    std=st.floats(0.125, 10, width=32),
    changes=st.lists(st.floats(-3, 3, width=32), min_size=1, max_size=5),
)
def test_quantiles_rise_from_the_last_sample_of_the_target(
    last: float, mean: float, std: float, changes: list[float]
) -> None:
    head = QuantilesHead(channel=1, mean=mean, std=std, scale=2.0)
    windows_BTC = torch.full((1, 4, 3), 7.0)
    windows_BTC[:, -1, 1] = (last - mean) / std
    found_BQ = head(torch.tensor([changes]), windows_BTC)
    expected_BQ = last + 2.0 * torch.tensor([sorted(changes)])
    torch.testing.assert_close(found_BQ, expected_BQ, atol=1e-3, rtol=1e-4)


def test_outputs_of_zero_repeat_the_present() -> None:
    head = QuantilesHead(channel=0, mean=100.0, std=10.0, scale=5.0)
    windows_BTC = torch.zeros(2, 3, 1)
    windows_BTC[:, -1, 0] = torch.tensor([1.0, -2.0])
    found_BQ = head(torch.zeros(2, 3), windows_BTC)
    assert found_BQ.tolist() == [[110.0] * 3, [80.0] * 3]


def test_a_relative_channel_is_seen_without_its_level() -> None:
    class Sum(nn.Module):
        def forward(self, windows_BTC: torch.Tensor) -> torch.Tensor:
            return windows_BTC.sum(dim=1)

    network = RelativeInput(Sum(), channel=1, num_channels=2)
    windows_BTC = torch.randn(3, 5, 2)
    lifted_BTC = windows_BTC + torch.tensor([0.0, 7.0])
    torch.testing.assert_close(network(windows_BTC), network(lifted_BTC))
    torch.testing.assert_close(network(windows_BTC)[:, 0], windows_BTC[:, :, 0].sum(dim=1))
    assert not network.state_dict()
