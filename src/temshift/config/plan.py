"""Splits, studies and networks together: what the pipelines are built from."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, Field, field_validator

from temshift.config.base import NAME, nearest
from temshift.config.modelling import ModellingParameters, NetworkParameters
from temshift.config.splits import SplitParameters, StudyParameters

__all__ = ["StudyPlan"]


class StudyPlan(BaseModel):
    """Splits, studies and networks together: the questions the pipelines ask when they are built.

    Raises
    ------
    ValueError
        (from :meth:`from_parameters`) all inconsistencies at once: a study or network naming an
        unknown split, a network with the name of a split it is not trained on, a bad name.
    """

    splits: dict[Annotated[str, Field(pattern=NAME)], SplitParameters]
    studies: dict[Annotated[str, Field(pattern=NAME)], StudyParameters]
    networks: dict[Annotated[str, Field(pattern=NAME)], NetworkParameters] = {}

    @field_validator("splits", "studies", "networks", mode="before")
    @classmethod
    def _drop_removed(cls, value: dict[str, Any]) -> dict[str, Any]:
        return {name: entry for name, entry in value.items() if entry is not None}

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Any]) -> StudyPlan:
        """Build the plan from the parameters of a Kedro environment.

        An environment removes what it inherits from ``base`` by setting it to ``null``.
        """
        plan = cls(**{b: parameters.get(b) or {} for b in ("splits", "studies", "networks")})
        plan._check()
        if modelling := parameters.get("modelling"):
            defaults = ModellingParameters.model_validate(modelling)
            if plan.curated_splits and defaults.protocols != ["published"]:
                raise ValueError(
                    f"splits.{next(iter(plan.curated_splits))} is a curated set, whose patches do "
                    "not say which micrograph they are of: only the protocol 'published' can be "
                    f"run on it, but modelling.protocols is {defaults.protocols}. Set it to "
                    "[published]"
                )
            for name, network in plan.networks.items():
                try:
                    defaults.with_overrides(network)
                except ValueError as error:
                    raise ValueError(
                        f"networks.{name} does not fit 'modelling': {error}"
                    ) from error
        return plan

    def _check(self) -> None:
        problems = []
        for name, study in self.studies.items():
            for split in study.splits:
                if split not in self.splits:
                    problems.append(
                        f"studies.{name} names the unknown split {split!r}; "
                        f"{nearest(split, self.splits)}"
                    )
            for row in study.networks:
                if row not in self.networks:
                    problems.append(
                        f"studies.{name} names the unknown network {row!r}; "
                        f"{nearest(row, self.networks)}"
                    )
        for name, network in self.networks.items():
            for split in network.train_on:
                if split not in self.splits:
                    problems.append(
                        f"networks.{name} is trained on the unknown split {split!r}; "
                        f"{nearest(split, self.splits)}"
                    )
            if name in self.splits and network.train_on != [name]:
                problems.append(
                    f"networks.{name} has the name of a split but is not trained on it alone: "
                    f"choose another name"
                )
        if problems:
            raise ValueError("The parameters do not fit together:\n- " + "\n- ".join(problems))

    @property
    def used_splits(self) -> list[str]:
        """Splits that a study tests on or a network is trained on, in the order declared."""
        used = {s for study in self.studies.values() for s in study.splits}
        used |= {s for n in self.rows for s in self.train_on(n)}
        return [s for s in self.splits if s in used]

    def varied(self, splits: Collection[str]) -> dict[str, list[str]]:
        """Return the columns that studies vary, each with those of ``splits`` that it varies in."""
        varied: dict[str, list[str]] = {}
        for study in self.studies.values():
            if study.varies != "preprocessing":
                known = varied.setdefault(study.varies, [])
                known += [s for s in study.splits if s in splits and s not in known]
        return varied

    @property
    def curated_splits(self) -> dict[str, str]:
        """Name of the curated set of every used split that is one."""
        used = {name: self.splits[name].curated for name in self.used_splits}
        return {name: curated for name, curated in used.items() if curated is not None}

    @property
    def rows(self) -> list[str]:
        """All networks that appear in a study."""
        rows = [s for study in self.studies.values() for s in study.splits]
        rows += [n for study in self.studies.values() for n in study.networks]
        return list(dict.fromkeys(rows))

    @property
    def trained(self) -> list[str]:
        """Networks to be trained (those not imported)."""
        return [n for n in self.rows if not (n in self.networks and self.networks[n].imported)]

    def train_on(self, network: str) -> list[str]:
        """Return the splits a network is trained on."""
        if network in self.networks:
            return list(self.networks[network].train_on)
        return [network]

    def tested_on(self, network: str) -> list[str]:
        """Return the splits a network is tested on: those of every study it is a row of."""
        tested = {
            split
            for study in self.studies.values()
            if network in study.splits or network in study.networks
            for split in study.splits
        }
        return [s for s in self.splits if s in tested]
