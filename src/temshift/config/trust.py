"""How the trust in a mask is learned and put in words."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from temshift.config.base import Strict

__all__ = ["TrustParameters"]


class TrustParameters(Strict):
    """How the trust in a mask is learned (``trust``).

    Attributes
    ----------
    micrographs : int, optional
        Of each fold and image set, which trust is learned from: every network segments each of
        them. ``None``: all.
    trees : int
        Of the random forest that predicts the Dice.
    seed : int
        Of the forest.
    confidence : float
        Coverage of the interval of a predicted Dice.
    usable_dice : float
        Dice below which a mask is of no use.
    catch : float
        Share of such masks that "do not trust" is to catch on conditions left out.
    """

    micrographs: Annotated[int, Field(ge=1)] | None = 2
    trees: Annotated[int, Field(ge=10)] = 300
    seed: Annotated[int, Field(ge=0)] = 11
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.9
    usable_dice: Annotated[float, Field(gt=0, lt=1)] = 0.6
    catch: Annotated[float, Field(gt=0.5, lt=1)] = 0.9
