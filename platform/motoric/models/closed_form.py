"""Networks whose head is solved, not descended to: ridge regression on fixed features.

In: features of training windows and their classes or values. Out: a standardisation and a linear
head whose penalty was chosen by leaving windows out. Axes: B windows of a batch, N training
windows, F features, K outputs, R components (the smaller of N and F), L penalties, M windows left
out together.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor, nn

from motoric.core.errors import DatasetError, MotoricError

_NEW, _INITIALISED, _SOLVED = 0, 1, 2
_CHUNK = 1024
# Penalties tried, in units of the mean variance of a component.
_PENALTIES = torch.logspace(-4, 2, 10, dtype=torch.float64)
# A feature that hardly moves in training would be blown up by whatever moves it later.
_SMALLEST_DEVIATION = 0.1
_SHARPNESS_EXPONENTS = (-4.0, 4.0)


class ClosedFormNetwork(nn.Module, ABC):
    """A network that is fitted in three calls instead of by gradient descent.

    `initialise` with training windows, `features` of all of them (in batches), `solve` with these.
    Everything that is fitted is in `state_dict()`, in tensors whose shapes follow from the
    settings; a network whose fitted state was loaded is ready.
    """

    stage: Tensor
    feature_mean_F: Tensor
    feature_scale_F: Tensor

    def __init__(self, num_features: int, num_outputs: int) -> None:
        super().__init__()
        self.num_features = num_features
        self.register_buffer("stage", torch.tensor(_NEW, dtype=torch.int64))
        self.register_buffer("feature_mean_F", torch.zeros(num_features))
        self.register_buffer("feature_scale_F", torch.ones(num_features))
        self.head = nn.Linear(num_features, num_outputs)

    @abstractmethod
    def _initialise(self, windows_BTC: Tensor, generator: torch.Generator) -> None:
        """Set what the features need."""

    @abstractmethod
    def _features(self, windows_BTC: Tensor) -> Tensor:
        """(B, F)."""

    @torch.no_grad()
    def initialise(self, windows_BTC: Tensor, generator: torch.Generator) -> None:
        """Set what the features need from training windows (a few hundred suffice).

        Args:
            windows_BTC: Prepared windows, on the network's device.
            generator: On the CPU; the only source of randomness.
        """
        self._initialise(windows_BTC, generator)
        self.stage.fill_(_INITIALISED)

    def features(self, windows_BTC: Tensor) -> Tensor:
        """Features (B, F) before standardisation.

        Raises:
            MotoricError: `initialise` was not called.
        """
        self._require(_INITIALISED, "initialise()")
        return self._features(windows_BTC)

    def forward(self, windows_BTC: Tensor) -> Tensor:
        """Outputs of shape (B, num_outputs): calibrated logits, or values.

        Raises:
            MotoricError: `solve` was not called.
        """
        self._require(_SOLVED, "initialise() and solve()")
        features_BF = self._features(windows_BTC)
        outputs: Tensor = self.head((features_BF - self.feature_mean_F) * self.feature_scale_F)
        return outputs

    @torch.no_grad()
    def solve(
        self, features_NF: Tensor, labels: Tensor, *, groups_N: Tensor | None = None
    ) -> RidgeSolution:
        """Set the standardisation and the head.

        Args:
            features_NF: What `features` gave for the training windows.
            labels: Class indices (N,), int64, or values (N, K), floating.
            groups_N: A number for what is left out together, as in `solve_ridge`.

        Returns:
            What was chosen, for the log.

        Raises:
            DatasetError: There are fewer than two windows or groups.
        """
        num_outputs = self.head.out_features
        is_classes = not labels.is_floating_point()
        targets_NK = signs(labels, num_outputs) if is_classes else labels
        mean_F, scale_F = standardisation(features_NF)
        solution = solve_ridge(features_NF, targets_NK, mean_F, scale_F, groups_N=groups_N)
        temperature = 1.0
        if is_classes and num_outputs > 1:
            temperature = fit_temperature(solution.left_out_NK, labels)
        self.feature_mean_F.copy_(mean_F)
        self.feature_scale_F.copy_(scale_F)
        self.head.weight.copy_(solution.weights_KF / temperature)
        self.head.bias.copy_(solution.bias_K / temperature)
        self.stage.fill_(_SOLVED)
        return solution

    def _require(self, stage: int, calls: str) -> None:
        # A tracer cannot branch on a tensor; the exporter only gets networks that ran before.
        if torch.compiler.is_compiling():
            return
        if int(self.stage) < stage:
            raise MotoricError(f"{type(self).__name__} is not fitted: call {calls} first")


@dataclass(frozen=True, slots=True, kw_only=True)
class RidgeSolution:
    """A ridge regression on standardised features.

    Attributes:
        weights_KF: For standardised features.
        bias_K: The targets' mean.
        penalty: The chosen one.
        left_out_NK: What each window is given by a regression that did not see it.
        errors_L: Mean squared error of the windows left out, by penalty.
    """

    weights_KF: Tensor
    bias_K: Tensor
    penalty: float
    left_out_NK: Tensor
    errors_L: Tensor


def signs(classes_N: Tensor, num_classes: int) -> Tensor:
    """Targets (N, K), +1 at the class and -1 elsewhere."""
    one_hot_NK = nn.functional.one_hot(classes_N, num_classes)
    return one_hot_NK.to(torch.float64) * 2.0 - 1.0


def standardisation(features_NF: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and 1 / deviation of each feature, in float64; 0 where it never moves.

    A deviation below a tenth of the median one counts as that.
    """
    mean_F = torch.zeros(features_NF.shape[1], dtype=torch.float64, device=features_NF.device)
    for chunk_MF in torch.split(features_NF, _CHUNK):
        mean_F += chunk_MF.double().sum(dim=0) / len(features_NF)
    square_F = torch.zeros_like(mean_F)
    for chunk_MF in torch.split(features_NF, _CHUNK):
        square_F += (chunk_MF.double() - mean_F).square().sum(dim=0)
    deviation_F = (square_F / len(features_NF)).sqrt()
    moves_F = deviation_F > 1e-7 * (1.0 + mean_F.abs())
    if not bool(moves_F.any()):
        return mean_F, torch.zeros_like(mean_F)
    floor = _SMALLEST_DEVIATION * deviation_F[moves_F].median()
    scale_F = torch.where(moves_F, 1.0 / deviation_F.clamp(min=float(floor)), 0.0)
    return mean_F, scale_F


class _Components:
    """Standardised features in the basis of their principal components.

    With N < F the basis comes from the windows' products, so that what is decomposed is never
    larger than the smaller side; float64 copies of the features are made a chunk at a time.
    """

    def __init__(self, features_NF: Tensor, mean_F: Tensor, scale_F: Tensor) -> None:
        self._features_NF = features_NF
        self._mean_F = mean_F.double()
        self._scale_F = scale_F.double()
        num_windows, num_features = features_NF.shape
        self._is_dual = num_windows < num_features
        products = self._row_products() if self._is_dual else self._column_products()
        variances_R, basis = torch.linalg.eigh(products)
        self._basis: Tensor = basis
        self.variances_R: Tensor = variances_R.clamp(min=0.0)

    def rows(self, index_M: Tensor) -> Tensor:
        """Coordinates (M, R) of some windows."""
        if self._is_dual:
            coordinates_MR = self._basis[index_M] * self.variances_R.sqrt()
        else:
            coordinates_MR = self._standardised(index_M) @ self._basis
        return coordinates_MR

    def project(self, targets_NK: Tensor) -> Tensor:
        """Products (R, K) of the coordinates with targets."""
        if self._is_dual:
            return self.variances_R.sqrt()[:, None] * (self._basis.T @ targets_NK)
        return self._basis.T @ self._transposed_times(targets_NK)

    def weights(self, projected_RK: Tensor, penalty: float) -> Tensor:
        """Weights (K, F) of the ridge regression on the features."""
        shrunk_RK = projected_RK / (self.variances_R + penalty)[:, None]
        if not self._is_dual:
            return (self._basis @ shrunk_RK).T
        root_R = self.variances_R.sqrt()
        inverse_R = torch.where(root_R > 1e-9 * root_R.max(), 1.0 / root_R, 0.0)
        return self._transposed_times(self._basis @ (inverse_R[:, None] * shrunk_RK)).T

    def _standardised(self, index_M: Tensor) -> Tensor:
        return (self._features_NF[index_M].double() - self._mean_F) * self._scale_F

    def _chunks(self) -> list[Tensor]:
        return list(
            torch.split(torch.arange(len(self._features_NF), device=self._mean_F.device), _CHUNK)
        )

    def _column_products(self) -> Tensor:
        num_features = self._features_NF.shape[1]
        total_FF = self._mean_F.new_zeros(num_features, num_features)
        for index_M in self._chunks():
            chunk_MF = self._standardised(index_M)
            total_FF.addmm_(chunk_MF.T, chunk_MF)
        return total_FF

    def _row_products(self) -> Tensor:
        num_windows, num_features = self._features_NF.shape
        total_NN = self._mean_F.new_zeros(num_windows, num_windows)
        for start in range(0, num_features, _CHUNK):
            part = slice(start, start + _CHUNK)
            chunk_NM = self._features_NF[:, part].double() - self._mean_F[part]
            chunk_NM *= self._scale_F[part]
            total_NN.addmm_(chunk_NM, chunk_NM.T)
        return total_NN

    def _transposed_times(self, values_NK: Tensor) -> Tensor:
        num_features = self._features_NF.shape[1]
        total_FK = self._mean_F.new_zeros(num_features, values_NK.shape[1])
        for index_M in self._chunks():
            total_FK.addmm_(self._standardised(index_M).T, values_NK[index_M])
        return total_FK


def solve_ridge(
    features_NF: Tensor,
    targets_NK: Tensor,
    mean_F: Tensor,
    scale_F: Tensor,
    *,
    groups_N: Tensor | None = None,
) -> RidgeSolution:
    """Ridge regression with an intercept; the penalty with the least left-out error.

    One eigendecomposition in float64 serves all penalties, and the error of a window that was left
    out follows from the hat matrix H without another fit: e / (1 - h) for one window, and
    (I - H)^-1 e for windows left out together (Rifkin and Lippert, "Notes on regularized least
    squares", 2007, MIT-CSAIL-TR-2007-025). The standardisation stays that of all windows.

    Args:
        features_NF: Any floating dtype.
        targets_NK: One column an output.
        mean_F: Of the features; exact (float64), since the hat matrix is that of centred ones.
        scale_F: One over their deviation.
        groups_N: Windows with one number are left out together; for windows that overlap this
            should be the recording or the subject, else each window's neighbours give it away and
            the penalty comes out too small. More than 1024 are left out in successive parts.
            None leaves windows out one by one.

    Raises:
        DatasetError: There are fewer than two windows or groups.
    """
    parts = _parts(groups_N, len(features_NF), features_NF.device)
    share = 1.0 / len(features_NF)
    targets_NK = targets_NK.to(features_NF.device, torch.float64)
    bias_K = targets_NK.mean(dim=0)
    components = _Components(features_NF, mean_F, scale_F)
    projected_RK = components.project(targets_NK - bias_K)
    variance = float(components.variances_R.mean()) or 1.0
    penalties = [float(factor) * variance for factor in _PENALTIES]

    left_out_LNK = targets_NK.new_zeros(len(penalties), *targets_NK.shape)
    for index_M in parts:
        rows_MR = components.rows(index_M)
        targets_MK = targets_NK[index_M]
        for position, penalty in enumerate(penalties):
            inverse_R = 1.0 / (components.variances_R + penalty)
            fitted_MK = rows_MR @ (inverse_R[:, None] * projected_RK) + bias_K
            errors_MK = _left_out(
                targets_MK - fitted_MK, rows_MR, inverse_R, share, alone=groups_N is None
            )
            left_out_LNK[position, index_M] = targets_MK - errors_MK

    errors_L = (left_out_LNK - targets_NK).square().mean(dim=(1, 2))
    best = int(errors_L.argmin())
    return RidgeSolution(
        weights_KF=components.weights(projected_RK, penalties[best]),
        bias_K=bias_K,
        penalty=penalties[best],
        left_out_NK=left_out_LNK[best],
        errors_L=errors_L,
    )


def _left_out(
    residual_MK: Tensor, rows_MR: Tensor, inverse_R: Tensor, intercept: float, *, alone: bool
) -> Tensor:
    """Residuals of windows, left out one by one or all together, from those of the full fit."""
    if alone:
        hat_M = rows_MR.square() @ inverse_R + intercept
        return residual_MK / (1.0 - hat_M)[:, None]
    hat_MM = (rows_MR * inverse_R) @ rows_MR.T + intercept
    identity_MM = torch.eye(len(hat_MM), dtype=hat_MM.dtype, device=hat_MM.device)
    left_out_MK: Tensor = torch.linalg.solve(identity_MM - hat_MM, residual_MK)
    return left_out_MK


def _parts(groups_N: Tensor | None, num_windows: int, device: torch.device) -> list[Tensor]:
    """Indices of the windows that are worked on together."""
    if num_windows < 2:
        raise DatasetError(
            f"a closed-form fit needs at least 2 training windows, not {num_windows}"
        )
    if groups_N is None:
        return list(torch.split(torch.arange(num_windows, device=device), _CHUNK))
    numbers = torch.unique(groups_N)
    if len(numbers) < 2:
        raise DatasetError(
            "a closed-form fit needs training windows of at least 2 groups (subjects or"
            f" recordings), not {len(numbers)}"
        )
    return [
        part_M.to(device)
        for number in numbers
        for part_M in torch.split((groups_N == number).nonzero()[:, 0], _CHUNK)
    ]


def fit_temperature(scores_NK: Tensor, classes_N: Tensor) -> float:
    """The temperature with the least log loss of softmax(scores / temperature).

    After Guo et al., "On Calibration of Modern Neural Networks", 2017 (arXiv 1706.04599).

    Args:
        scores_NK: Of windows that were left out, so that they are as unsure as new ones.
        classes_N: int64.
    """
    scores_NK = scores_NK.cpu().double()
    classes_N = classes_N.cpu()

    def log_loss(exponent: float) -> float:
        sharpness = float(torch.tensor(exponent).exp())
        return float(nn.functional.cross_entropy(scores_NK * sharpness, classes_N))

    found = minimize_scalar(log_loss, bounds=_SHARPNESS_EXPONENTS, method="bounded")
    return float(torch.tensor(-float(found.x)).exp())
