"""Estimates with their errors as the papers write them, with dense matrices and a search, for a few dozen values."""

import math
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import scipy.optimize
import scipy.stats
import statsmodels.api
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def line(x: Floats) -> Floats:
    """The design of a straight line."""
    return np.column_stack([np.ones(len(x)), x - np.mean(x)])


def cluster_robust(design: Floats, y: Floats, keys: Sequence[Hashable], column: int) -> tuple[float, float, float]:
    """A coefficient, its CR2 error and Satterthwaite's degrees of freedom, by the n×n matrices of Bell & McCaffrey 2002
    and Pustejovsky & Tipton 2018, with the identity as the working model."""
    bread = np.linalg.inv(design.T @ design)
    rest = np.eye(len(y)) - design @ bread @ design.T
    coefficients = bread @ design.T @ y
    residuals = y - design @ coefficients
    middle = np.zeros_like(bread)
    reaches = []
    for key in dict.fromkeys(keys):
        rows = np.array([place for place, own in enumerate(keys) if own == key])
        eigenvalues, vectors = np.linalg.eigh(rest[np.ix_(rows, rows)])
        scales = np.where(eigenvalues > 1e-9, 1 / np.sqrt(np.maximum(eigenvalues, 1e-9)), 0.0)
        adjustment = vectors @ np.diag(scales) @ vectors.T
        score = design[rows].T @ adjustment @ residuals[rows]
        middle += np.outer(score, score)
        reaches.append(rest[:, rows] @ adjustment @ design[rows] @ bread[:, column])
    products = np.array(reaches) @ np.array(reaches).T
    error = math.sqrt((bread @ middle @ bread)[column, column])
    return float(coefficients[column]), error, float(np.trace(products) ** 2 / np.sum(products**2))


def meta_regression(design: Floats, y: Floats, keys: Sequence[Hashable]) -> tuple[Any, float]:
    """Weighted least squares of the means of the keys on their designs, and the variance between them that makes the
    weighted sum of squares its degrees of freedom; ordinary least squares where every key has one value."""
    distinct = list(dict.fromkeys(keys))
    places = [[place for place, own in enumerate(keys) if own == key] for key in distinct]
    means = np.array([np.mean(y[own]) for own in places])
    designs = np.array([design[own[0]] for own in places])
    free = len(y) - len(distinct)
    if free == 0:
        return statsmodels.api.OLS(means, designs).fit(), 0.0
    within = sum(np.sum((y[own] - np.mean(y[own])) ** 2) for own in places) / free
    sampling = within / np.array([len(own) for own in places])

    def fitted(between: float) -> Any:
        return statsmodels.api.WLS(means, designs, weights=1 / (between + sampling)).fit()

    def excess(between: float) -> float:
        return float(fitted(between).ssr - (len(means) - designs.shape[1]))

    between = scipy.optimize.brentq(excess, 0.0, 1e4, xtol=1e-14) if excess(0.0) > 0 else 0.0
    return fitted(between), between


def half_width(error: float, degrees: float, confidence: float = 0.95) -> float:
    """Of Student's interval."""
    return float(error * scipy.stats.t.ppf(0.5 + confidence / 2, degrees))
