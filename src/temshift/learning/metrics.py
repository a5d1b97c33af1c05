"""Counts first, ratios second.

All scores of a micrograph follow from the pixel counts of its patches, so counts are what is
stored; pooling them gives the Dice of the whole micrograph, empty patches included. Dice is
smoothed by 1 pixel as in the study, so that an empty prediction of an empty label scores 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["COUNTS", "dice", "scores"]

#: Names of the counts, in the order in which they are computed.
COUNTS = ("tp", "fp", "fn", "tn")


def dice(tp: Any, fp: Any, fn: Any, smoothing: float = 1.0) -> Any:
    """Return ``(2 tp + s) / (2 tp + fp + fn + s)``; arrays of counts in px, broadcast.

    Source: Dice (1945); smoothing as in Sytwu et al. (2024).

    Examples
    --------
    >>> dice(tp=2, fp=1, fn=1, smoothing=0)  # 2 of 3 pixels found, 1 of 3 wrongly
    0.6666666666666666
    >>> dice(0, 0, 0)  # nothing there, nothing found
    1.0
    """
    return (2 * tp + smoothing) / (2 * tp + fp + fn + smoothing)


def scores(tp: Any, fp: Any, fn: Any) -> dict[str, Any]:
    """Return Dice, IoU, precision and recall from pixel counts.

    A ratio without a denominator is decided openly: precision of an empty prediction and recall
    of an empty label are 1 if the other is empty too, else 0; IoU of two empty masks is 1.

    Examples
    --------
    >>> {name: float(value) for name, value in scores(tp=3, fp=1, fn=0).items()}
    {'dice': 0.875, 'iou': 0.75, 'precision': 0.75, 'recall': 1.0}
    """
    tp, fp, fn = (np.asarray(x, dtype=np.float64) for x in (tp, fp, fn))
    empty_both = (tp + fp + fn) == 0

    def ratio(numerator: Any, denominator: Any) -> Any:
        with np.errstate(invalid="ignore", divide="ignore"):
            value = numerator / denominator
        return np.where(denominator > 0, value, np.where(empty_both, 1.0, 0.0))

    return {
        "dice": dice(tp, fp, fn),
        "iou": ratio(tp, tp + fp + fn),
        "precision": ratio(tp, tp + fp),
        "recall": ratio(tp, tp + fn),
    }
