"""Images, masks and predictions as pictures: contrast, outlines, outcomes, sheets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from temshift.microscopy.bands import row_bands

__all__ = [
    "LABEL",
    "PREDICTION",
    "PREVIEW_PX",
    "contact_sheet",
    "outcomes",
    "outline",
    "paint",
    "shrink_factor",
    "stretch",
]

#: Longest side of the pictures of new micrographs on their page, px.
PREVIEW_PX = 720

#: Colours (RGB, of Okabe and Ito, 2008) of the outline of a label and the tint of a prediction.
LABEL, PREDICTION = (230, 159, 0), (0, 158, 115)

#: Percentiles that become black and white.
_RANGE = (0.5, 99.5)


def stretch(image: NDArray[Any]) -> NDArray[np.uint8]:
    """Return an image as grey values, its 0.5th and 99.5th percentile black and white.

    Parameters
    ----------
    image : ndarray, shape (H, W)
        Pixels that are NaN are left out of the percentiles and become black.

    Examples
    --------
    >>> stretch(np.array([[0.0, 50.0, 100.0]])).tolist()
    [[0, 128, 255]]
    """
    image = np.asarray(image)
    low, high = np.nanpercentile(image.astype(np.float64), _RANGE, overwrite_input=True)
    grey = np.empty(image.shape, np.uint8)
    for rows in row_bands(image.shape):  # each step takes eight bytes a pixel
        values = np.clip((image[rows].astype(np.float64) - low) / max(high - low, 1e-12), 0, 1)
        grey[rows] = np.nan_to_num(255 * values).round()
    return grey


def shrink_factor(shape: tuple[int, ...], longest_px: int = PREVIEW_PX) -> int:
    """Return the whole factor by which an image is shown smaller, so that its longer side fits.

    Examples
    --------
    >>> shrink_factor((1024, 500)), shrink_factor((720, 720))
    (2, 1)
    """
    return -(-max(shape) // longest_px)


def outline(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the pixels of a mask, shape (H, W), that have a neighbour outside it.

    What lies beyond the edge of the picture counts as what is at the edge.
    """
    padded = np.pad(mask, 1, mode="edge")
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    edge: NDArray[np.bool_] = mask & ~inner
    return edge


def paint(
    grey: NDArray[np.uint8],
    label: NDArray[np.bool_] | None = None,
    prediction: NDArray[np.bool_] | None = None,
) -> NDArray[np.uint8]:
    """Return a grey image, (H, W), in colour, (H, W, 3): predictions tinted, labels outlined."""
    colour = np.repeat(grey[..., None], 3, axis=2).astype(np.float64)
    if prediction is not None:
        colour[prediction] = 0.6 * colour[prediction] + 0.4 * np.array(PREDICTION)
    if label is not None:
        colour[outline(label)] = LABEL
    return colour.astype(np.uint8)


def outcomes(label: NDArray[np.uint8], prediction: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return 0 where nothing is, 1 what was found, 2 what was missed, 3 what is falsely predicted.

    Examples
    --------
    >>> outcomes(np.array([[0, 1, 1, 0]]), np.array([[0, 1, 0, 1]])).tolist()
    [[0, 1, 2, 3]]
    """
    there, predicted = label == 1, prediction == 1
    return np.select([there & predicted, there, predicted], [1, 2, 3], 0).astype(np.uint8)


def contact_sheet(
    pictures: Sequence[NDArray[np.uint8]], columns: int, gap_px: int = 0
) -> NDArray[np.uint8]:
    """Put pictures, each (H, W, 3), side by side and row by row on white."""
    height = max(picture.shape[0] for picture in pictures) + gap_px
    width = max(picture.shape[1] for picture in pictures) + gap_px
    rows, columns = -(-len(pictures) // columns), min(columns, len(pictures))
    sheet = np.full((rows * height, columns * width, 3), 255, np.uint8)
    for i, picture in enumerate(pictures):
        row, column = divmod(i, columns)
        sheet[row * height :, column * width :][: picture.shape[0], : picture.shape[1]] = picture
    return sheet
