"""Are two finalists different, or is it noise? Errors over training seeds and test positions, with 95 % intervals.

Two things vary by chance: which positions were drawn to test at, and the seeds that a configuration was trained with. All
finalists are judged at the same positions, so a difference between two is taken position by position: what makes a
position hard for both cancels. The seeds of one have nothing to do with those of another.

Shape legend: S = training seeds, P = test positions. Something deterministic, as interpolation is, has S = 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from spaces.frozen import Frozen
from spaces.metrics import Mode, sign

CONFIDENCE = 0.95
# Means that differ by more are not called tied, however wide the interval: few seeds would make a tie of anything.
ALIKE = 0.05

Errors = NDArray[np.floating]
# Variance of a mean, and the degrees of freedom of that variance.
Term = tuple[float, int]


class Interval(Frozen):
    """A mean and its 95 % interval over training seeds and test positions, in the unit of the errors."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, eq=False)
class Finalist:
    """A trial trained anew: its number, its errors [S, P], and the size of its model in bytes."""

    number: int
    errors: Errors
    size: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """Numbers of the trials: which one to take, which has the best mean, and which are not told apart from that one."""

    winner: int
    best: int
    tied: tuple[int, ...]
    text: str


def estimate(errors: Errors, least: float = -np.inf) -> Interval:
    """Mean error over seeds and positions, with its interval for other seeds and other positions.

    Seeds and positions are crossed random effects. The variance of the mean is that of the seeds' means over S plus that of
    the positions' means over P. Both contain the interaction of seed and position, which so counts twice: on average the
    variance is slightly too large, never too small (the pigeonhole bootstrap errs to the same side; Owen 2007, Annals of
    Applied Statistics 1:386). With one seed the term of the seeds is missing: the interval holds for that one training.

    Args:
        errors: [S, P].
        least: what no error is below. The interval ends there, which takes no true mean out of it.

    Raises:
        ValueError: fewer than two positions, or no seeds.
    """
    _check(errors)
    by_position = errors.mean(axis=0)
    found = _interval(float(by_position.mean()), [*_of_seeds(errors), _of_positions(by_position)])
    return found.model_copy(update={"low": max(least, found.low)})


def difference(a: Errors, b: Errors) -> Interval:
    """Mean of a - b, paired over positions, with its interval for other seeds and other positions; as `estimate`.

    Args:
        a, b: [S, P], at the same positions in the same order; S may differ.

    Raises:
        ValueError: the numbers of positions differ, are below two, or there are no seeds.
    """
    _check(a)
    _check(b)
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"paired errors must be at the same positions, but got {a.shape[1]} and {b.shape[1]}")
    by_position = a.mean(axis=0) - b.mean(axis=0)
    return _interval(float(by_position.mean()), [*_of_seeds(a), *_of_seeds(b), _of_positions(by_position)])


def verdict(finalists: Sequence[Finalist], mode: Mode = "min") -> Verdict:
    """The winner: the one with the best mean, or the smallest of those tied with it.

    A finalist ties with the best if the interval of their difference contains zero and the difference is at most 5 % of the
    best mean. Of equal sizes the better mean wins, then the lower number. A finalist whose interval contains zero but whose
    mean is further away is not told apart, and the text says so. Each pair is judged at 95 % on its own: with many finalists
    some difference is called clear by chance more often than one time in twenty.

    Args:
        finalists: at least one, all with errors at the same positions.
        mode: "max" if larger errors are better, as of PSNR.

    Raises:
        ValueError: as `difference`.
    """
    loss = {one.number: sign(mode) * estimate(one.errors).mean for one in finalists}
    best = min(finalists, key=lambda one: (loss[one.number], one.size, one.number))
    behind = {one.number: difference(one.errors, best.errors) for one in finalists if one is not best}
    close = [one for one in finalists if one is not best and _contains_zero(behind[one.number])]
    alike = ALIKE * abs(loss[best.number])
    tied = [one for one in close if abs(behind[one.number].mean) <= alike]
    unclear = sorted(one.number for one in close if one not in tied)
    winner = min([best, *tied], key=lambda one: (one.size, loss[one.number], one.number))
    text = _outcome(finalists, sorted([best, *tied], key=lambda one: one.number), winner, unclear)
    caveat = _one_seed(finalists)
    return Verdict(
        winner=winner.number,
        best=best.number,
        tied=tuple(sorted(one.number for one in tied)),
        text=f"{text}; {caveat}" if caveat else text,
    )


def _check(errors: Errors) -> None:
    if errors.ndim != 2 or errors.shape[0] < 1 or errors.shape[1] < 2:
        raise ValueError(f"errors must be [seeds, positions] with two positions or more, but got shape {errors.shape}")


def _of_seeds(errors: Errors) -> list[Term]:
    """The seeds' share in the variance of a mean; one seed says nothing about it."""
    seeds = len(errors)
    return [(float(errors.mean(axis=1).var(ddof=1)) / seeds, seeds - 1)] if seeds > 1 else []


def _of_positions(by_position: Errors) -> Term:
    return float(by_position.var(ddof=1)) / len(by_position), len(by_position) - 1


def _interval(mean: float, terms: Sequence[Term]) -> Interval:
    """Student's t interval of a mean whose variance is a sum of estimated terms.

    The degrees of freedom are those of Satterthwaite (1946), Biometrics Bulletin 2:110, and Welch (1947), Biometrika
    34:28: (sum v)^2 / sum(v^2 / dof).
    """
    variance = sum(term for term, _ in terms)
    if variance == 0:
        return Interval(mean=mean, low=mean, high=mean)
    # In shares of the variance, as squares of tiny variances underflow.
    freedom = 1 / sum((term / variance) ** 2 / of_term for term, of_term in terms)
    half = float(stdtrit(freedom, (1 + CONFIDENCE) / 2)) * variance**0.5
    return Interval(mean=mean, low=mean - half, high=mean + half)


def _contains_zero(interval: Interval) -> bool:
    return interval.low <= 0 <= interval.high


def _outcome(finalists: Sequence[Finalist], tied: Sequence[Finalist], winner: Finalist, unclear: Sequence[int]) -> str:
    """The outcome in words.

    Args:
        tied: the best and those tied with it.
        unclear: numbers of those not told apart from the best though their means are not alike.
    """
    if len(finalists) == 1:
        return f"trial {winner.number} is the only finalist"
    if len(tied) == 1 and unclear:
        others = f"trial{'s' if len(unclear) > 1 else ''} {listed([str(number) for number in unclear])}"
        return f"trial {winner.number} has the best mean, but these seeds do not tell it apart from {others}"
    if len(tied) == 1:
        return f"trial {winner.number} is the winner: better than every other finalist"
    among = f"trials {listed([str(one.number) for one in tied])} are tied within noise"
    larger = sorted({one.size for one in tied} - {winner.size})
    if not larger:
        return f"{among} and equal in size ({_megabytes(winner.size)}): take {winner.number}, of the best mean"
    sizes = f"{_megabytes(winner.size)} against {listed([_megabytes(size) for size in larger])}"
    if sum(one.size == winner.size for one in tied) > 1:
        return f"{among}: take {winner.number}, of the best mean among the smallest ({sizes})"
    return f"{among}: take the {'smaller' if len(tied) == 2 else 'smallest'}, {winner.number} ({sizes})"


def _one_seed(finalists: Sequence[Finalist]) -> str:
    """What is not known for want of seeds, in words; empty if every finalist has several."""
    single = [one.number for one in finalists if len(one.errors) == 1]
    if not single:
        return ""
    if len(finalists) == 1:
        return "one training seed cannot tell the noise between seeds"
    if len(single) == len(finalists):
        return "one training seed each cannot tell the noise between seeds"
    of = f"trial {single[0]}" if len(single) == 1 else f"each of trials {listed([str(number) for number in single])}"
    return f"one training seed of {of} cannot tell the noise between seeds"


def listed(words: Sequence[str]) -> str:
    """`1`, `1 and 2`, `1, 2 and 3`."""
    return " and ".join([*([", ".join(words[:-1])] if len(words) > 1 else []), words[-1]])


def _megabytes(size: int) -> str:
    """Size in bytes as MB (10^6) with three digits, so that sizes that differ by a percent look different."""
    return f"{size / 1e6:.3g} MB"
