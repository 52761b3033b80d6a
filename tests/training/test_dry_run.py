from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from motoric.artefact.signature import (
    ClassesOutput,
    ClipInput,
    Normaliser,
    Preprocessing,
    Signature,
)
from motoric.core.errors import RecipeError
from motoric.data.dataset import open_dataset
from motoric.training.dry_run import DryRun, dry_run
from motoric.training.examples import Examples, SplitExamples
from motoric.training.network_cost import Trial, forward_flops
from motoric.training.recipe import Recipe, parse_recipe
from motoric.training.split import Split
from recordings import SineSource, recipe_content, write_dataset

RANDOM_KERNELS = {"name": "random_kernels", "num_features": 168}


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    found = str(tmp_path_factory.mktemp("data") / "sines")
    write_dataset(found, SineSource(duration_s=12))
    return found


def tried(uri: str, **changes: object) -> DryRun:
    recipe = parse_recipe(recipe_content(uri, **changes), "r.yaml")
    return dry_run(recipe, open_dataset(uri))


def clips(num: int, seed: int) -> Examples:
    rng = np.random.default_rng(seed)
    return Examples(
        windows_BTC=None,
        clips_BTHWC=rng.integers(0, 255, (num, 4, 16, 16, 1)).astype(np.uint8),
        present_B2=np.tile([False, True], (num, 1)),
        targets_B=np.arange(num) % 2,
        persistence_B=None,
        subjects=tuple(f"s{index % 2}" for index in range(num)),
        recording_ids=tuple(f"r{index}" for index in range(num)),
        start_s_B=np.zeros(num),
        end_s_B=np.ones(num),
        classes=("a", "b"),
    )


def clip_data() -> SplitExamples:
    clip = ClipInput(num_frames=4, height=16, width=16, colour="grey")
    return SplitExamples(
        split=Split(train=("s0",), validation=(), test=("s1",)),
        train=clips(6, 0),
        validation=clips(0, 1),
        test=clips(2, 2),
        signature=Signature(
            inputs=(clip,),
            outputs=(ClassesOutput(classes=("a", "b")),),
            preprocessing=Preprocessing(clip_normaliser=Normaliser(mean=(0.5,), std=(0.3,))),
        ),
    )


class Cells(nn.Module):
    def __init__(self, cell: nn.RNNBase) -> None:
        super().__init__()
        self.cell = cell
        self.head = nn.Linear(10, 3)

    def forward(self, windows_BTC: Tensor) -> Tensor:
        hidden_BTH, _ = self.cell(windows_BTC)
        outputs: Tensor = self.head(hidden_BTH[:, -1])
        return outputs


@pytest.mark.parametrize(("kind", "gates"), [(nn.GRU, 3), (nn.LSTM, 4), (nn.RNN, 1)])
def test_recurrent_cells_count_by_their_gates_whatever_kernel_runs(
    kind: type[nn.RNNBase], gates: int
) -> None:
    cell = kind(4, 5, num_layers=2, bidirectional=True, batch_first=True)
    first = 2 * 2 * gates * 5 * (4 + 5)
    second = 2 * 2 * gates * 5 * (10 + 5)
    head = 2 * 10 * 3
    found = forward_flops(Cells(cell).eval(), (torch.zeros(1, 7, 4),))
    assert found == 7 * (first + second) + head


def test_attention_counts_its_products_and_convolutions_theirs() -> None:
    class Attention(nn.Module):
        def forward(self, patches_BNPD: Tensor) -> Tensor:
            return nn.functional.scaled_dot_product_attention(
                patches_BNPD, patches_BNPD, patches_BNPD
            )

    assert forward_flops(Attention(), (torch.zeros(1, 2, 6, 4),)) == 2 * 2 * 2 * 6 * 6 * 4
    convolution = nn.Conv1d(3, 8, kernel_size=5, padding=2)
    assert forward_flops(convolution, (torch.zeros(1, 3, 20),)) == 2 * 20 * 5 * 3 * 8


def test_a_dry_run_counts_what_training_would_get(uri: str) -> None:
    found = tried(uri)
    training, validation, test = found.parts
    # Windows of 2 s every second of 12 s; one recording a label and person.
    assert [part.num_examples for part in found.parts] == [3 * 3 * 11, 3 * 11, 3 * 11]
    assert [part.num_subjects for part in found.parts] == [3, 1, 1]
    assert training.examples_by_label == {"jump": 33, "squat": 33, "walk": 33}
    assert not validation.missing_labels
    assert not test.missing_labels
    assert found.example_shapes == ((40, 3),)
    assert found.examples_bytes == 5 * 3 * 11 * 40 * 3 * 4
    assert found.steps_per_epoch == math.ceil(99 / 32)
    assert found.epochs == 3


def test_the_cost_of_a_step_is_measured_and_above_four_times_the_weights(uri: str) -> None:
    cost = tried(uri).network
    assert cost.device == "cpu"
    assert cost.batch_size == 32
    assert cost.step_bytes > 4 * 4 * cost.num_parameters
    assert min(cost.step_ms, cost.forward_ms, cost.single_ms, cost.forward_flops) > 0
    assert math.isfinite(cost.loss)
    assert cost.solve_s == 0


def test_a_larger_batch_keeps_more_for_the_backward_pass(uri: str) -> None:
    small = tried(uri, train={"epochs": 1, "batch_size": 8}).network
    large = tried(uri, train={"epochs": 1, "batch_size": 64}).network
    weights = 4 * 4 * small.num_parameters
    ratio = (large.step_bytes - weights) / (small.step_bytes - weights)
    assert ratio == pytest.approx(8, rel=0.1)


def test_a_solved_head_counts_its_features_and_has_no_loss(uri: str) -> None:
    once = tried(uri, model=RANDOM_KERNELS, train={"epochs": 1})
    augmentation = {"jitter_std": 0.1}
    twice = tried(uri, model=RANDOM_KERNELS, train={"epochs": 2}, augmentation=augmentation)
    # Without augmentation a second pass would see the same, so there is none.
    plain = tried(uri, model=RANDOM_KERNELS, train={"epochs": 2})
    assert plain.network.step_bytes == once.network.step_bytes
    assert math.isnan(once.network.loss)
    assert once.network.solve_s > 0
    # 99 windows of 168 features, once more while they are joined.
    assert once.network.step_bytes > 2 * 4 * 99 * 168
    assert twice.network.step_bytes > once.network.step_bytes
    assert twice.training_s > 0


def test_a_solved_head_is_refused_where_training_refuses_it(uri: str) -> None:
    with pytest.raises(RecipeError, match=r"set resources\.num_workers to 1"):
        tried(uri, model=RANDOM_KERNELS, resources={"num_workers": 2})


def test_a_worker_over_its_memory_is_an_error_that_names_the_settings(uri: str) -> None:
    with pytest.raises(RecipeError, match=r"resources\.memory_gib_per_worker"):
        tried(uri, resources={"memory_gib_per_worker": 0.01})


def test_a_loss_that_is_not_finite_is_refused(uri: str) -> None:
    with pytest.raises(RecipeError, match="loss of the first batch is"):
        tried(uri, augmentation={"jitter_std": 1e38})


def test_workers_share_a_batch_and_the_cluster_must_offer_all_of_them(uri: str) -> None:
    needed = {"num_workers": 2, "cpus_per_worker": 1, "labels": {"fast": 0.5}}
    found = tried(uri, resources={**needed, "memory_gib_per_worker": 500})
    assert found.network.batch_size == 16
    assert found.steps_per_epoch == math.ceil(math.ceil(99 / 2) / 16)
    assert found.num_workers == 2
    assert found.worker_resources == {"CPU": 1, "fast": 0.5, "memory": 500 * 2**30}


def test_a_gpu_that_is_not_here_is_a_warning(uri: str) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU, and the warning is for one without")
    found = tried(uri, resources={"gpus_per_worker": 1})
    assert any("this machine has none" in warning for warning in found.warnings)
    assert found.worker_resources["GPU"] == 1


def test_few_test_people_are_a_warning(uri: str) -> None:
    assert any("1 subject(s), too few" in warning for warning in tried(uri).warnings)
    split = {"num_test_subjects": 3, "num_validation_subjects": 1}
    assert not any("too few" in warning for warning in tried(uri, split=split).warnings)


def test_recordings_that_give_no_example_are_named(uri: str) -> None:
    found = tried(uri, labels=["jump", "squat"])
    (unused,) = [item for item in found.warnings if "give no example" in item]
    assert unused.startswith("5 of 15 recordings give no example (r002, r005,")
    (unlabelled,) = [item for item in found.warnings if "none of the labels" in item]
    assert unlabelled.startswith("5 of 15")


def test_the_threads_of_this_process_are_what_they_were(uri: str) -> None:
    before = torch.get_num_threads()
    tried(uri, resources={"cpus_per_worker": before + 1})
    assert torch.get_num_threads() == before


def test_nothing_is_written(uri: str) -> None:
    before = sorted(path.stat().st_mtime_ns for path in Path(uri).rglob("*"))
    tried(uri)
    assert sorted(path.stat().st_mtime_ns for path in Path(uri).rglob("*")) == before


def clip_recipe(**changes: object) -> Recipe:
    content: dict[str, object] = {
        "version": 1,
        "name": "clips",
        "dataset": "d",
        "clip": {"num_frames": 4, "height": 16, "width": 16, "colour": "grey"},
        "model": {"name": "r2plus1d", "stages": [4, 8], "stem_channels": 4},
        "train": {"batch_size": 4},
    }
    return parse_recipe({**content, **changes}, "clips.yaml")


def test_clips_are_tried_like_windows() -> None:
    trial = Trial(clip_recipe(), clip_data(), "cpu")
    cost = trial.descended()
    assert [tuple(item.shape[1:]) for item in trial.one.inputs] == [(4, 16, 16, 1)]
    assert (cost.batch_size, trial.steps_per_epoch) == (4, 2)
    assert cost.step_bytes > 4 * 4 * cost.num_parameters + 4 * 4 * 16 * 16 * 4


def test_a_batch_is_never_larger_than_the_training_part() -> None:
    recipe = clip_recipe(train={"batch_size": 64})
    assert Trial(recipe, clip_data(), "cpu").batch_size == 6
    data = replace(clip_data(), train=clips(1, 0))
    assert Trial(recipe, data, "cpu").steps_per_epoch == 1
