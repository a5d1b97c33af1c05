"""Search for better settings of a network: what is varied, how, and how often."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError, model_validator

from temshift.config.base import EachOnce, Strict, overlay
from temshift.config.errors import Problem, problems_of, shown
from temshift.config.modelling import ModellingParameters
from temshift.config.preprocessing import PreprocessingParameters

__all__ = ["Range", "SweepParameters", "check_sweep", "laid_over"]

#: What a sweep itself decides, or what would compare unlike things.
_FIXED = {
    "modelling.device": "where it is computed changes no setting of a network",
    "modelling.folds": "all trials are judged in the same folds",
    "modelling.protocols": "trials are judged in the protocol 'grouped'",
    "modelling.training.hold_out": "it is always true: trials are judged by what is held out",
}

#: Combinations that are all checked; of more, each value alone.
_MOST = 2000

_BLOCKS: dict[str, type[BaseModel]] = {
    "modelling": ModellingParameters,
    "preprocessing": PreprocessingParameters,
}


class Range(Strict):
    """Numbers from ``min`` to ``max``; whole ones if both are; ``log`` takes them by magnitude."""

    min: int | float
    max: int | float
    log: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if self.min >= self.max:
            raise ValueError(f"'min' ({self.min}) must be below 'max' ({self.max})")
        if self.log and self.min <= 0:
            raise ValueError("'log: true' needs a 'min' above 0")
        return self


class SweepParameters(Strict):
    """Trials of other settings, judged in the domain (``sweep``).

    Attributes
    ----------
    train_on : list of str, optional
        Image sets of every trial, which it is judged on too; ``None``: the first set of the first
        study.
    also_on : list of str
        Further sets that each trial is measured on, on groups that no fold is trained on, and never
        judged by: out of domain, for learning curves.
    method : {"grid", "tpe", "random"}
        All combinations; Optuna's Tree-structured Parzen Estimator; at random.
    trials : int, optional
        How many, at most; ``None``: all of a grid.
    seed : int
        Of the draws. Training has its own (``modelling.training.seed``), the same in all trials.
    space : dict
        What is varied: a key of ``modelling`` or ``preprocessing``, or ``train_on``, with a list of
        values or a range (``{min, max, log}``). An environment removes a key by ``null``.
    """

    train_on: Annotated[list[str], Field(min_length=1), EachOnce] | None = None
    also_on: Annotated[list[str], EachOnce] = []
    method: Literal["grid", "tpe", "random"] = "grid"
    trials: Annotated[int, Field(ge=1)] | None = None
    seed: Annotated[int, Field(ge=0)] = 1
    space: dict[str, Annotated[list[Any], Field(min_length=1), EachOnce] | Range | None]

    @model_validator(mode="after")
    def _can_be_drawn(self) -> SweepParameters:
        if not self.varied:
            raise ValueError("'space' must name at least one key to be varied")
        ranges = [key for key, values in self.varied.items() if isinstance(values, Range)]
        if self.method == "grid" and ranges:
            raise ValueError(
                f"'method: grid' takes lists of values, but {ranges[0]} is a range: list its "
                "values, or take 'method: tpe'"
            )
        if self.also_on and not self.train_on:
            raise ValueError("'also_on' names sets beside those of 'train_on': give both")
        if self.method != "grid" and self.trials is None:
            raise ValueError(f"'method: {self.method}' needs a number of 'trials'")
        return self

    @property
    def varied(self) -> dict[str, list[Any] | Range]:
        """What is varied, without what an environment has removed."""
        return {key: values for key, values in self.space.items() if values is not None}

    def combinations(self, of: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
        """Yield all combinations of the values; of a range its ends stand for it.

        Parameters
        ----------
        of : sequence of str, optional
            Only these keys, what is in them, and blocks that hold them.
        """

        def wanted(key: str) -> bool:
            return of is None or any(
                f"{one}.".startswith(f"{key}.") or f"{key}.".startswith(f"{one}.") for one in of
            )

        varied = {key: values for key, values in self.varied.items() if wanted(key)}
        values = [v if isinstance(v, list) else [v.min, v.max] for v in varied.values()]
        for combination in product(*values):
            yield dict(zip(varied, combination, strict=True))

    def sets(self, default: list[str]) -> list[str]:
        """Return every image set that a trial may need; what it is trained on comes first."""
        named = [*(self.train_on or default)]
        values = self.varied.get("train_on", [])
        for choice in values if isinstance(values, list) else []:
            named += choice
        return list(dict.fromkeys([*named, *self.also_on]))


def laid_over(
    settings: Mapping[str, Any],
    modelling: ModellingParameters,
    preprocessing: PreprocessingParameters,
) -> tuple[ModellingParameters, PreprocessingParameters]:
    """Return the parameters of a trial: its settings laid over those of the study.

    What is held out judges a trial, so something is held out in each.

    Raises
    ------
    pydantic.ValidationError
        They do not fit.
    """
    blocks: dict[str, Any] = {"modelling": modelling, "preprocessing": preprocessing}
    for key, value in {**settings, "modelling.training.hold_out": True}.items():
        first, *rest = key.split(".")
        if first in blocks:
            for name in reversed(rest):
                value = {name: value}
            blocks[first] = _overlaid(blocks[first], value)
    blocks["modelling"] = _overlaid(blocks["modelling"], {"protocols": ["grouped"]})
    for name, model in _BLOCKS.items():
        blocks[name] = model.model_validate(blocks[name])
    return blocks["modelling"], blocks["preprocessing"]


def _overlaid(base: Any, value: Any) -> Any:
    """Lay a value over a block, unvalidated: another setting may be what makes it fit."""
    data = base.model_dump() if isinstance(base, BaseModel) else base
    if isinstance(data, dict) and isinstance(value, Mapping):
        return {**data, **{k: _overlaid(data.get(k), v) for k, v in value.items()}}
    return value


def check_sweep(parameters: Mapping[str, Any]) -> list[Problem]:
    """Return what of a sweep does not fit the other parameters, each of them valid by itself."""
    sweep = SweepParameters.model_validate(parameters["sweep"])
    splits = [name for name, split in parameters["splits"].items() if split is not None]
    problems = [
        Problem("sweep.train_on", f"found {name!r}; expected one of {', '.join(splits)}")
        for name in [*(sweep.train_on or []), *sweep.also_on]
        if name not in splits
    ]
    trained = sweep.model_copy(update={"also_on": []}).sets([])
    problems += [
        Problem("sweep.also_on", f"found {name!r}, which trials are trained on; expected others")
        for name in sweep.also_on
        if name in trained
    ]
    for key, values in sweep.varied.items():
        problems += _check_key(f"sweep.space.{key}", key, values, splits, sweep)
    if problems:
        return problems
    base = (
        overlay(ModellingParameters.model_validate(parameters["modelling"]), {}),
        PreprocessingParameters.model_validate(parameters["preprocessing"]),
    )
    combinations = []
    for combination in sweep.combinations():
        combinations.append(combination)
        if len(combinations) > _MOST:
            combinations = [
                {key: value}
                for key, values in sweep.varied.items()
                for value in (values if isinstance(values, list) else [values.min, values.max])
            ]
            break
    for settings in combinations:
        try:
            laid_over(settings, *base)
        except ValidationError as error:
            found = problems_of(error)[0]
            said = ", ".join(f"{key}: {value}" for key, value in settings.items())
            return [Problem("sweep.space", f"with {said}, {found.key}: {found.said}")]
    return []


def _check_key(
    where: str, key: str, values: list[Any] | Range, splits: list[str], sweep: SweepParameters
) -> Iterator[Problem]:
    if key == "train_on":
        for choice in values if isinstance(values, list) else [values]:
            if not isinstance(choice, list) or not choice or set(choice) - set(splits):
                expected = f"lists of {', '.join(splits)}"
                yield Problem(where, f"found {shown(choice)}; expected {expected}")
            elif sweep.train_on and set(sweep.train_on) - set(choice):
                yield Problem(
                    where,
                    f"found {shown(choice)}; expected each to hold {shown(sweep.train_on)} "
                    "(sweep.train_on), since every trial is judged on these and in its own domain",
                )
        return
    first, *rest = key.split(".")
    for fixed, why in _FIXED.items():
        if key == fixed or key.startswith(f"{fixed}."):
            yield Problem(where, f"found a key that is not for a sweep; {why}")
            return
    within = [fixed for fixed in _FIXED if rest and fixed.startswith(f"{key}.")]
    if within:
        yield Problem(
            where,
            f"found a whole block, in which a sweep itself decides on {', '.join(within)}; "
            f"expected a key of it, such as {key}.learning_rate",
        )
    if first not in _BLOCKS or not rest:
        yield Problem(
            where,
            f"found {key!r}; expected train_on, or a key such as modelling.training.learning_rate "
            "or preprocessing.standardise",
        )
