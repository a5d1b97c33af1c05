"""Masks made elsewhere, by hand or by another program: whether they can be believed.

The trust model was fitted to masks of networks, and what is wrong with a mask made elsewhere may be
wrong in no way that it has met: it predicts nothing here. What it knows is the mask of a network,
with an interval of its Dice. From there to the other mask leads the triangle inequality, which the
Jaccard distance obeys (Levandowsky & Winter, Nature 234 (1971) 34): a mask that lies near one that
lies near the truth lies near the truth, whoever drew it. Nothing is assumed about the mask, so that
the interval covers the true Dice wherever that of the network does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from temshift.learning.evidence import pairwise_dice

__all__ = ["NAME_OF_MASK", "dice_bounds", "judge_outside"]

#: What stands before the file of a mask where the name of a network would stand.
NAME_OF_MASK = "mask: "


def dice_bounds(agreement: float, low: float, high: float) -> tuple[float, float]:
    """Return between which values the Dice of a mask with the true one lies.

    Parameters
    ----------
    agreement : float
        Dice of the mask with another.
    low, high : float
        Interval of the Dice of that other one with the true mask.

    Returns
    -------
    low, high : float

    Examples
    --------
    >>> dice_bounds(1.0, 0.8, 0.9)
    (0.8, 0.9)
    >>> low, high = dice_bounds(0.2, 0.9, 0.95)
    >>> round(low, 2), round(high, 2)
    (0.0, 0.45)
    """
    apart, near, far = (_distance(value) for value in (agreement, high, low))
    least = max(0.0, apart - far, near - apart)
    return _dice(min(1.0, apart + far)), _dice(least)


def _distance(dice: float) -> float:
    """Return the Jaccard distance of two masks with this Dice."""
    return 2 * (1 - dice) / (2 - dice)


def _dice(distance: float) -> float:
    # exact at the ends: a rounding error is no disagreement
    return float(np.clip(round(2 * (1 - distance) / (2 - distance), 12), 0.0, 1.0))


def judge_outside(
    mask: NDArray[np.bool_],
    network: Mapping[str, Any],
    jury: Mapping[str, NDArray[np.bool_]],
    drawn: NDArray[np.bool_],
    usable_dice: float,
) -> dict[str, Any]:
    """Judge a mask that no network of the jury has drawn.

    Parameters
    ----------
    mask : ndarray of bool, shape (H, W)
    network : mapping
        ``network, predicted_dice, low, high, novelty, verdict`` of a mask that a network drew.
    jury : mapping of str to ndarray of bool, shape (H, W)
        What all networks drew.
    drawn : ndarray of bool, shape (H, W)
        The mask that ``network`` is about.
    usable_dice : float
        Dice above which a mask is of use.

    Returns
    -------
    dict
        ``predicted_dice, low, high, novelty, verdict, reasons, jury_dice``. The predicted Dice is
        the agreement with the network times the predicted Dice of the network, within the bounds of
        :func:`dice_bounds`; the verdict follows from the bounds: *trust* if the lower one is of use
        and the mask of the network is trusted, *do not trust* if the upper one is of none and the
        image is not new.
    """
    agreement = float(pairwise_dice(np.stack([mask, drawn]))[0, 1])
    others = [float(pairwise_dice(np.stack([mask, one]))[0, 1]) for one in jury.values()]
    low, high = dice_bounds(agreement, network["low"], network["high"])
    predicted = float(np.clip(agreement * network["predicted_dice"], low, high))
    new, who = network["novelty"] > 1, network["network"]
    said = (
        f"its Dice with the mask of {who} is {agreement:.2f}, whose own with a true one lies "
        f"between {network['low']:.2f} and {network['high']:.2f}"
    )
    if not mask.any():
        verdict, reasons = "do not trust", ["no particle was drawn"]
    elif new:
        verdict = "check"
        reasons = [said, "the image is unlike every image of the calibration: no guarantee here"]
    elif high < usable_dice:
        verdict = "do not trust"
        reasons = [said, f"so a Dice above {high:.2f} can be ruled out"]
    elif low < usable_dice:
        verdict = "check"
        reasons = [said, f"so a Dice below {usable_dice:g} cannot be ruled out"]
        if network["low"] < usable_dice:
            reasons.append("the networks are not sure of this image themselves")
    elif network["verdict"] != "trust":
        verdict, reasons = "check", [said, f"the mask of {who} is not trusted: no guarantee here"]
    else:
        verdict, reasons = "trust", [said]
    reasons.append(f"median Dice with the masks of {len(others)} jurors {np.median(others):.2f}")
    return {
        "predicted_dice": predicted,
        "low": low,
        "high": high,
        "novelty": network["novelty"],
        "verdict": verdict,
        "reasons": "; ".join(reasons),
        "jury_dice": float(np.median(others)),
    }
