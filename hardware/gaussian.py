"""The arithmetic of the latency model: a linear model with a Gaussian prior, and a Gaussian process on what it leaves.

    y = X c + g + e,   c ~ N(m, sum_a h_a^2 M_a), c >= 0,   g ~ N(0, sum_b h_b^2 K_b),   e ~ N(0, h_noise^2 N)

The sign of c is kept where c is solved for (`coefficients`); the marginal likelihood and the variances are those of
the Gaussian without it. Shapes: n measurements, F features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize, nnls

Matrix = NDArray[np.float64]

# a width may differ from its expectation by this factor (one standard deviation, in logarithms)
LOG_SPREAD = {"noise": 0.7, "place": 0.7, "pair": 0.7}
OTHER_LOG_SPREAD = 0.4
JITTER = 1e-9


@dataclass(frozen=True)
class Widths:
    """Standard deviations h, by name of their covariance matrix, and the logarithm of their posterior density."""

    values: Mapping[str, float]
    log_evidence: float


def fit_widths(residual: Matrix, covariances: Mapping[str, Matrix], expected: Mapping[str, float]) -> Widths:
    """The widths h of most posterior density: marginal likelihood times log-normal priors around ``expected``.

    Args:
        residual: (n,) measurements less the prior's mean.
        covariances: name -> (n, n); the covariance of the residual is their sum, each times its h squared.
        expected: name -> median of the prior of h.
    """
    names = list(covariances)
    stacked = np.array([covariances[name] for name in names])
    centre = np.log([expected[name] for name in names])
    spread = np.array([LOG_SPREAD.get(name, OTHER_LOG_SPREAD) for name in names])

    def loss(log_h: Matrix) -> tuple[float, Matrix]:
        squares = np.exp(2 * log_h)
        value, slopes = log_likelihood(residual, np.tensordot(squares, stacked, 1), stacked)
        distance = (log_h - centre) / spread
        return 0.5 * distance @ distance - value, distance / spread - 2 * squares * slopes

    best = minimize(loss, centre, jac=True, method="L-BFGS-B", options={"maxiter": 30})
    return Widths(dict(zip(names, np.exp(best.x).tolist(), strict=True)), -float(best.fun))


def log_likelihood(residual: Matrix, covariance: Matrix, parts: Matrix) -> tuple[float, Matrix]:
    """Log density of N(residual; 0, covariance), and its derivative along each of ``parts`` (a, n, n)."""
    n = len(residual)
    factor = cholesky(covariance + JITTER * np.trace(covariance) / n * np.eye(n), lower=True)
    alpha = cho_solve((factor, True), residual)
    value = -0.5 * residual @ alpha - np.log(np.diag(factor)).sum() - 0.5 * n * np.log(2 * np.pi)
    gradient = 0.5 * (np.outer(alpha, alpha) - cho_solve((factor, True), np.eye(n)))
    return float(value), np.tensordot(parts, gradient, 2)


def coefficients(x: Matrix, y: Matrix, mean: Matrix, covariance: Matrix, noise: Matrix) -> Matrix:
    """(F,) the non-negative c of most posterior density: a whitened least-squares problem with the prior as rows.

    Args:
        x: (n, F).
        y: (n,).
        mean: (F,) of the prior.
        covariance: (F, F) of the prior.
        noise: (n, n) covariance of all that c does not explain.
    """
    prior = cholesky(_steady(covariance), lower=True)
    data = cholesky(_steady(noise), lower=True)
    rows = np.vstack([solve_triangular(data, x, lower=True), solve_triangular(prior, np.eye(len(mean)), lower=True)])
    targets = np.concatenate([solve_triangular(data, y, lower=True), solve_triangular(prior, mean, lower=True)])
    # columns of one size: nnls stops at a tolerance that knows no units
    size = np.linalg.norm(rows, axis=0)
    return nnls(rows / size, targets)[0] / size


def coefficient_covariance(x: Matrix, covariance: Matrix, noise: Matrix) -> Matrix:
    """(F, F) covariance of c after the measurements: ``C - C X' (X C X' + S)^-1 X C``."""
    factor = cholesky(_steady(x @ covariance @ x.T + noise), lower=True)
    half = solve_triangular(factor, x @ covariance, lower=True)
    return covariance - half.T @ half


def leave_one_out(residual: Matrix, covariance: Matrix) -> tuple[Matrix, Matrix]:
    """Error of predicting each measurement from all others, and the variance expected of it: (n,), (n,).

    ``(S^-1 r)_i / (S^-1)_ii`` and ``1 / (S^-1)_ii`` (Rasmussen & Williams 2006, Eq. 5.12).
    """
    inverse = cho_solve((cholesky(_steady(covariance), lower=True), True), np.eye(len(residual)))
    variance = 1 / np.diag(inverse)
    return (inverse @ residual) * variance, variance


def _steady(covariance: Matrix) -> Matrix:
    n = len(covariance)
    return covariance + JITTER * np.trace(covariance) / n * np.eye(n)
