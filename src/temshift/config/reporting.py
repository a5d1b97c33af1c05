"""How the results of networks are judged."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from temshift.config.base import Strict

__all__ = ["ReportingParameters"]


class ReportingParameters(Strict):
    """How the results of networks are judged (``reporting``).

    Attributes
    ----------
    confidence : float
        Coverage of the intervals, and of each of the one-sided bounds that verdicts rest on.
    degrades_above, breaks_above : float
        A shift *degrades* a network if the gap to the in-domain network of the test set is
        larger than the first, and *breaks* it if larger than the second (Dice).
    fails_below : float
        A network one of whose folds reaches less than this on its own set has failed: nothing is
        judged by it (Dice).
    permutations, permutation_seed : int
        Permutations of the split labels behind the p-values of correlations (all of them, where
        there are not more).
    """

    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    degrades_above: Annotated[float, Field(ge=0, lt=1)] = 0.03
    breaks_above: Annotated[float, Field(gt=0, le=1)] = 0.15
    fails_below: Annotated[float, Field(ge=0, lt=1)] = 0.5
    permutations: Annotated[int, Field(ge=100)] = 999
    permutation_seed: Annotated[int, Field(ge=0)] = 7

    @property
    def verdict_coverage(self) -> float:
        """Coverage of the interval whose ends are one-sided bounds at ``confidence`` each."""
        return 2 * self.confidence - 1

    @model_validator(mode="after")
    def _ordered(self) -> ReportingParameters:
        if self.breaks_above <= self.degrades_above:
            raise ValueError("'breaks_above' must be larger than 'degrades_above'")
        return self
