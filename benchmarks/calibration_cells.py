"""The cells of the tables in `docs/calibration.md`, each worked out on its own, from draws of its own."""

import math
import zlib

import numpy as np
from calibration_settings import (
    CHECKED,
    LAW,
    PICKED_FROM,
    PICKS,
    RULES,
    SEED,
    SHOWN_SIZE,
    SIZES,
    TRUE_C,
    Coverage,
    Methods,
    Pick,
    Reached,
    Truth,
    VerdictRates,
    truth_of,
)
from interval_methods import METHODS
from many_fits import Design, Found, many_fits
from many_verdicts import FREE_LAWS, VERDICTS, many_verdicts, observations
from scatter_kinds import KINDS, Floats, scatter
from simulated_networks import network

from weightstats.contest import OFTEN, hold_contest
from weightstats.fits import fit_law


def drawn(design: Design, truth: Truth, kind: str, size: float, simulations: int, *cell: object) -> Floats:
    """ln of the mean squares, (layers, simulations): the same for the same cell, whatever was drawn before."""
    law = truth.logarithm(design.n_in, design.n_out, design.elements)
    number = zlib.crc32(" ".join(map(str, (design.network.name, kind, *cell))).encode())
    random = np.random.default_rng([SEED, number])
    of_kind = next(one for one in KINDS if one.key == kind)
    return law[:, None] + scatter(design.network, of_kind, size, simulations, random)


def coverage_of(name: str, kind: str, simulations: int) -> Coverage:
    """Of one network and kind of scatter; all sizes have the same draws."""
    design = Design(network(name))
    exponent, constant = [], []
    for size in SIZES:
        fits = many_fits(design, drawn(design, LAW, kind, size, simulations, "coverage"))
        exponent.append(float(np.mean(fits.exponent.holds(-1.0))))
        constant.append(float(np.mean(fits.log_constant.holds(math.log(TRUE_C)))))
        if size == SHOWN_SIZE:
            shown = fits
    return Coverage(
        network=name,
        kind=kind,
        exponent=tuple(exponent),
        exponent_half=_median(shown.exponent),
        constant=tuple(constant),
        constant_factor=math.exp(min(_median(shown.log_constant), 700.0)),
        by_role=float(np.mean(shown.by_role)),
    )


def _median(found: Found) -> float:
    return float(np.nanmedian(found.half)) if not np.isnan(found.half).all() else math.nan


def verdicts_of(name: str, kind: str, truth: str, size: float, simulations: int) -> VerdictRates:
    """Of one cell; the first simulations are also given to `fit_law`, which must find the same."""
    design = Design(network(name))
    values = drawn(design, truth_of(truth), kind, size, simulations, "verdicts", truth, size)
    fits = many_fits(design, values)
    verdicts = many_verdicts(design, values, fits)
    for place in range(min(CHECKED, simulations)):
        fit = fit_law(observations(design, values[:, place]))
        half = (fit.exponent_interval[1] - fit.exponent_interval[0]) / 2
        same = np.allclose(half, fits.exponent.half[place], rtol=1e-6, equal_nan=True)
        if fit.verdict != VERDICTS[verdicts.each[place]] or not same:
            raise RuntimeError(f"fit_law finds something else than many_fits: {name}, {kind}, {truth}, {size}")
    supported, contradicted = (float(np.mean(verdicts.each == place)) for place in (0, 1))
    by_interval = float(np.mean(verdicts.by_interval == 0))
    return VerdictRates(name, kind, truth, size, supported, contradicted, by_interval)


def methods_of(name: str, kind: str, simulations: int) -> Methods:
    """Of one network and kind of scatter."""
    design = Design(network(name))
    values = drawn(design, LAW, kind, SHOWN_SIZE, simulations, "methods")
    found = {key: method(design, values) for key, method in METHODS}
    return Methods(name, kind, {key: (float(np.mean(one.holds(-1.0))), _median(one)) for key, one in found.items()})


def reached_of(name: str, kind: str, size: float, law_key: str, simulations: int) -> Reached:
    """Contests as the package holds them, with each of RULES."""
    design = Design(network(name))
    law = next(law for law in FREE_LAWS if law.key == law_key)
    truth = Truth(law.key, law.logarithms, None)
    values = drawn(design, truth, kind, size, simulations, "contest", law_key, size)
    covered, laws, first = np.zeros(len(RULES)), np.zeros(len(RULES)), 0
    for column in values.T:
        standings = [one for one in hold_contest(observations(design, column)).standings if one.is_free]
        standings = [one for one in standings if not math.isnan(one.aicc)]
        best = min((one.aicc for one in standings), default=math.nan)
        for rule, (reach, often) in enumerate(RULES):
            within = [one.law for one in standings if one.aicc - best <= reach or (often and one.wins >= OFTEN)]
            covered[rule] += law_key in within
            laws[rule] += len(within)
        first += any(one.law == law_key and one.aicc - best <= 1e-9 for one in standings)
    share = 1.0 / simulations
    return Reached(
        name, kind, size, law_key, tuple((covered * share).tolist()), tuple((laws * share).tolist()), first * share
    )


def pick_of(name: str, size: float, simulations: int) -> Pick:
    """Least squares over the layers, each law with the constant that is best for it."""
    checkpoint, left_out = PICKS[name]
    design = Design(network(checkpoint))
    kept = np.array([layer.role != left_out for layer in design.network.layers])
    values = drawn(design, LAW, "independent", size, simulations, "pick", size)[kept]
    laws = [
        truth_of(key).logarithm(design.n_in[kept], design.n_out[kept], design.elements[kept]) for key in PICKED_FROM
    ]
    rests = np.array([np.var(values - law[:, None], axis=0) for law in laws])
    return Pick(name, size, float(np.mean(np.argmin(rests, axis=0) == 0)))
