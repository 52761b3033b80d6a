import os
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from motoric.core.errors import RecipeError, UserError
from motoric.models.weights import load_weights


def network_of(num_outputs: int = 3, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    layers = OrderedDict(
        stem=nn.Linear(4, 5), norm=nn.BatchNorm1d(5), head=nn.Linear(5, num_outputs)
    )
    return nn.Sequential(layers)


def equal(left: nn.Module, right: nn.Module) -> bool:
    found = right.state_dict()
    return all(torch.equal(value, found[name]) for name, value in left.state_dict().items())


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".PTH"])
def test_a_saved_network_comes_back_whole(tmp_path: Path, suffix: str):
    source, target = network_of(seed=1), network_of(seed=2)
    source(torch.randn(8, 4))
    path = tmp_path / f"weights{suffix}"
    save = save_file if suffix == ".safetensors" else torch.save
    save(source.state_dict(), path)
    report = load_weights(target, path)
    assert equal(source, target)
    assert set(report.loaded) == set(source.state_dict())
    assert report.skipped == ()


def test_a_head_of_other_classes_is_skipped_and_keeps_its_own_weights(tmp_path: Path):
    source, target = network_of(num_outputs=9, seed=1), network_of(seed=2)
    head = target.head.weight.detach().clone()
    save_file(source.state_dict(), tmp_path / "a.safetensors")
    report = load_weights(target, str(tmp_path / "a.safetensors"))
    assert report.skipped == ("head.bias", "head.weight")
    assert "stem.weight" in report.loaded
    assert torch.equal(target.head.weight, head)
    assert torch.equal(target.stem.weight, source.stem.weight)


@settings(max_examples=20, deadline=None)
@given(
    prefixes=st.lists(st.sampled_from(["module.", "_orig_mod.", "model.", "network."]), max_size=3),
    containers=st.lists(st.sampled_from(["state_dict", "model", "model_state_dict"]), max_size=2),
)
def test_prefixes_and_containers_of_training_programs_are_taken_off(
    tmp_path_factory: pytest.TempPathFactory, prefixes: list[str], containers: list[str]
):
    source, target = network_of(seed=1), network_of(seed=2)
    content: dict[str, object] = {
        "".join(prefixes) + name: value for name, value in source.state_dict().items()
    }
    for container in containers:
        content = {container: content, "epoch": 3, "optimizer": {"lr": 0.1}}
    path = tmp_path_factory.mktemp("weights") / "a.pt"
    torch.save(content, path)
    assert load_weights(target, path).skipped == ()
    assert equal(source, target)


def test_a_part_of_the_network_whose_name_is_a_common_prefix_keeps_it(tmp_path: Path):
    source = nn.Sequential(OrderedDict(model=nn.Linear(2, 2), bias=nn.Linear(2, 2)))
    torch.manual_seed(5)
    target = nn.Sequential(OrderedDict(model=nn.Linear(2, 2), bias=nn.Linear(2, 2)))
    torch.save(source.state_dict(), tmp_path / "a.pt")
    load_weights(target, tmp_path / "a.pt")
    assert equal(source, target)


def test_what_is_no_tensor_is_listed_as_skipped(tmp_path: Path):
    torch.save({**network_of().state_dict(), "epoch": 4}, tmp_path / "a.pt")
    assert load_weights(network_of(), tmp_path / "a.pt").skipped == ("epoch",)


def test_half_precision_is_taken_into_the_type_of_the_network(tmp_path: Path):
    source, target = network_of(seed=1), network_of(seed=2)
    save_file(source.half().state_dict(), tmp_path / "a.safetensors")
    load_weights(target, tmp_path / "a.safetensors")
    assert target.stem.weight.dtype == torch.float32
    assert torch.equal(target.stem.weight, source.stem.weight.float())


def test_weights_of_another_network_are_refused_though_its_counters_fit(tmp_path: Path):
    other = nn.Sequential(OrderedDict(stem=nn.Linear(2, 7), norm=nn.BatchNorm1d(7)))
    torch.save(other.state_dict(), tmp_path / "a.pt")
    target, untouched = network_of(), network_of()
    with pytest.raises(RecipeError, match=r"no tensor in the weights .* fits the network"):
        load_weights(target, tmp_path / "a.pt")
    assert equal(target, untouched)


def test_values_that_are_not_finite_are_refused_before_anything_is_changed(tmp_path: Path):
    source, target, untouched = network_of(seed=1), network_of(), network_of()
    with torch.no_grad():
        source.head.bias[1] = float("nan")
    torch.save(source.state_dict(), tmp_path / "a.pt")
    with pytest.raises(RecipeError, match=r"NaN or infinite values in head\.bias"):
        load_weights(target, tmp_path / "a.pt")
    assert equal(target, untouched)


class _Runs:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.mark),)


def test_code_in_a_pickle_is_refused_and_does_not_run(tmp_path: Path):
    torch.save({"stem.weight": _Runs(tmp_path / "ran")}, tmp_path / "a.pt")
    with pytest.raises(RecipeError, match="may run code"):
        load_weights(network_of(), tmp_path / "a.pt")
    assert not (tmp_path / "ran").exists()


def test_a_whole_pickled_model_is_refused(tmp_path: Path):
    torch.save(network_of(), tmp_path / "a.pt")
    with pytest.raises(RecipeError, match=r"Save `network.state_dict\(\)`"):
        load_weights(network_of(), tmp_path / "a.pt")


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth"])
@pytest.mark.parametrize(
    "content", [b"", b"hello, I am text", b"PK\x03\x04 not a zip", b"\x80\x02"]
)
def test_a_file_that_holds_no_weights_is_an_error_with_its_name(
    tmp_path: Path, suffix: str, content: bytes
):
    path = tmp_path / f"readme{suffix}"
    path.write_bytes(content)
    with pytest.raises(RecipeError, match="readme"):
        load_weights(network_of(), path)


@settings(max_examples=25, deadline=None)
@given(share=st.floats(0.0, 0.99), safe=st.booleans())
def test_a_file_cut_short_is_an_error_of_the_user(
    tmp_path_factory: pytest.TempPathFactory, share: float, safe: bool
):
    path = tmp_path_factory.mktemp("cut") / ("a.safetensors" if safe else "a.pt")
    (save_file if safe else torch.save)(network_of().state_dict(), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match=path.name):
        load_weights(network_of(), path)


@pytest.mark.parametrize("content", [[1, 2], torch.zeros(3), {}, {"model": {"epoch": 1}}])
def test_a_torch_file_without_named_tensors_is_refused(tmp_path: Path, content: object):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(RecipeError, match="named tensors"):
        load_weights(network_of(), tmp_path / "a.pt")


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:9/a.pt",
        "https://download.pytorch.org/models/resnet18.pth",
        "hf://someone/network/model.safetensors",
        "HTTPS://huggingface.co/a/b/resolve/main/model.safetensors",
    ],
)
def test_an_address_on_the_web_is_never_opened(address: str):
    with pytest.raises(RecipeError, match="would come from a network"):
        load_weights(network_of(), address)


def test_the_name_of_a_model_on_a_hub_is_not_looked_up():
    with pytest.raises(RecipeError, match="hub are not looked up"):
        load_weights(network_of(), "facebook/timesformer-base")


def test_a_path_where_nothing_lies_is_an_error_that_names_it(tmp_path: Path):
    with pytest.raises(RecipeError, match=r"nothing lies at '.*gone\.pt'"):
        load_weights(network_of(), tmp_path / "gone.pt")


def test_a_folder_is_an_error_that_names_it(tmp_path: Path):
    (tmp_path / "folder.pt").mkdir()
    with pytest.raises(RecipeError, match=r"folder\.pt"):
        load_weights(network_of(), tmp_path / "folder.pt")


def test_a_file_uri_is_a_path(tmp_path: Path):
    torch.save(network_of(seed=1).state_dict(), tmp_path / "a.pt")
    target = network_of()
    load_weights(target, f"file://{tmp_path}/a.pt")
    assert equal(network_of(seed=1), target)
