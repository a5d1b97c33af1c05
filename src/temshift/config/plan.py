"""Splits, studies and networks together: what the pipelines are built from."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import date
from math import isfinite
from typing import Annotated, Any

from pydantic import BaseModel, Field, field_validator

from temshift.config.base import NAME, nearest
from temshift.config.contract import CONTRACT, Column, in_words
from temshift.config.curation import CurationParameters
from temshift.config.modelling import ModellingParameters, NetworkParameters
from temshift.config.splits import Condition, SplitParameters, StudyParameters

__all__ = ["StudyPlan"]

_DECLARE = "A column of your own must be declared in curation.columns with its type"


def _is_number(value: Any) -> bool:
    """Whether a value of a condition is a finite number, be it written as a text."""
    try:
        return isfinite(float(value))
    except ValueError:
        return False


def _is_date(value: Any) -> bool:
    """Whether a value of a condition is a date as the table of micrographs has it."""
    try:
        return date.fromisoformat(str(value)).isoformat() == value
    except ValueError:
        return False


class StudyPlan(BaseModel):
    """Splits, studies and networks together: the questions the pipelines ask when they are built.

    Attributes
    ----------
    splits, studies, networks : dict
    columns : mapping of str to Column
        What the micrograph table holds: the contract's columns and those of the user's own.

    Raises
    ------
    ValueError
        (from :meth:`from_parameters`) all inconsistencies at once: a study or network naming an
        unknown split, a condition or a study on an unknown column, a range of what is no number, a
        network with the name of a split it is not trained on, a bad name.
    """

    splits: dict[Annotated[str, Field(pattern=NAME)], SplitParameters]
    studies: dict[Annotated[str, Field(pattern=NAME)], StudyParameters]
    networks: dict[Annotated[str, Field(pattern=NAME)], NetworkParameters] = {}
    columns: Mapping[str, Column] = CONTRACT

    @field_validator("splits", "studies", "networks", mode="before")
    @classmethod
    def _drop_removed(cls, value: dict[str, Any]) -> dict[str, Any]:
        return {name: entry for name, entry in value.items() if entry is not None}

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Any]) -> StudyPlan:
        """Build the plan from the parameters of a Kedro environment.

        An environment removes what it inherits from ``base`` by setting it to ``null``.
        """
        curation = CurationParameters.model_validate(parameters.get("curation") or {})
        plan = cls(
            **{b: parameters.get(b) or {} for b in ("splits", "studies", "networks")},
            columns=curation.contract,
        )
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
                if network.fine_tuning and "grouped" not in defaults.protocols:
                    raise ValueError(
                        f"networks.{name}.fine_tuning needs the protocol 'grouped', which keeps "
                        f"its micrographs out of the test, but modelling.protocols is "
                        f"{defaults.protocols}"
                    )
                try:
                    defaults.with_overrides(network)
                except ValueError as error:
                    raise ValueError(
                        f"networks.{name} does not fit 'modelling': {error}"
                    ) from error
                if network.initial is not None:
                    first = plan.networks.get(network.initial)
                    own, other = (defaults.with_overrides(n).architecture for n in (network, first))
                    if own != other:
                        raise ValueError(
                            f"networks.{name}.initial is {network.initial!r}, a network of another "
                            f"architecture ({other.name}, not {own.name}): give both the same"
                        )
        return plan

    def _check(self) -> None:
        problems = []
        for name, split in self.splits.items():
            problems += [
                f"splits.{name}.where {problem}"
                for column, condition in split.where.items()
                if (problem := self._wrong_with(column, condition))
            ]
        for name, study in self.studies.items():
            axes = (*self.columns, "preprocessing")
            if study.varies not in axes:
                problems.append(
                    f"studies.{name}.varies names the unknown column {study.varies!r}; "
                    f"{nearest(study.varies, axes)}. {_DECLARE}"
                )
            for member in study.splits:
                if member not in self.splits:
                    problems.append(
                        f"studies.{name} names the unknown split {member!r}; "
                        f"{nearest(member, self.splits)}"
                    )
            for row in study.networks:
                if row not in self.networks:
                    problems.append(
                        f"studies.{name} names the unknown network {row!r}; "
                        f"{nearest(row, self.networks)}"
                    )
        for name, network in self.networks.items():
            for member in network.train_on:
                if member not in self.splits:
                    problems.append(
                        f"networks.{name} is trained on the unknown split {member!r}; "
                        f"{nearest(member, self.splits)}"
                    )
            problems += self._wrong_start(name, network)
            base = network.weights_of
            if base is not None and base not in self.rows:
                problems.append(
                    f"networks.{name}.weights_of names {base!r}, which is no network of a study; "
                    f"{nearest(base, self.rows)}"
                )
            elif base in self.networks and self.networks[base].weights_of is not None:
                problems.append(
                    f"networks.{name}.weights_of names {base!r}, which has no weights of its own: "
                    f"name {self.networks[base].weights_of!r}"
                )
            tuning = network.fine_tuning
            if tuning and name in self.rows and tuning.split not in self.tested_on(name):
                problems.append(
                    f"networks.{name}.fine_tuning.split is {tuning.split!r}, which no study of "
                    f"this network tests; {nearest(tuning.split, self.tested_on(name))}"
                )
            if name in self.splits and network.train_on != [name]:
                problems.append(
                    f"networks.{name} has the name of a split but is not trained on it alone: "
                    f"choose another name"
                )
        if problems:
            raise ValueError("The parameters do not fit together:\n- " + "\n- ".join(problems))

    def _wrong_start(self, name: str, network: NetworkParameters) -> list[str]:
        """Return what is wrong with the network whose weights a training starts from."""
        if network.initial is None:
            return []
        if network.initial not in self.rows:
            return [
                f"networks.{name}.initial names {network.initial!r}, which is a row of no study; "
                f"{nearest(network.initial, self.rows)}"
            ]
        first = self.networks.get(network.initial)
        if first is not None and first.weights_of is not None:
            return [
                f"networks.{name}.initial names {network.initial!r}, which has no weights of its "
                f"own: name {first.weights_of!r}"
            ]
        seen = [name]
        last: str | None = network.initial
        while last is not None and last not in seen:
            seen.append(last)
            last = self.networks[last].initial if last in self.networks else None
        if last == name:
            return [f"networks.{name}.initial leads back to itself: {' from '.join([*seen, name])}"]
        return []

    def initial(self, network: str) -> str | None:
        """Return the network from whose weights another one starts, ``None`` if from none."""
        return self.networks[network].initial if network in self.networks else None

    def _wrong_with(self, column: str, condition: Condition) -> str:
        """Return what is wrong with a condition, or nothing."""
        if column not in self.columns:
            return (
                f"names the unknown column {column!r}; {nearest(column, self.columns)}. {_DECLARE}"
            )
        if isinstance(condition, Mapping) and not self.columns[column].numeric:
            return (
                f"asks for the range {dict(condition)} of {column!r}, which holds "
                f"{self.columns[column].type}s and no numbers: give a value or a list of values"
            )
        values = condition if isinstance(condition, list) else [condition]
        for value in [] if isinstance(condition, Mapping) else values:
            if self.columns[column].numeric and not _is_number(value):
                return (
                    f"asks for {value!r} of {column!r}, which holds numbers: give a number, a list "
                    "of numbers, {value, tolerance} or {min, max}"
                )
            if self.columns[column].type == "date" and not _is_date(value):
                return (
                    f"asks for {value!r} of {column!r}, which holds dates: give a date such as "
                    '"2021-08-26" (year, month, day), or a list of dates'
                )
        return ""

    def title(self, study: str) -> str:
        """Return the heading of a study: its ``title``, otherwise its name in words."""
        words = in_words(study)
        return self.studies[study].title or words[:1].upper() + words[1:]

    @property
    def confounding(self) -> list[Column]:
        """Columns that tell how a micrograph came about, from which a loss may come."""
        return [column for column in self.columns.values() if column.confounds]

    @property
    def used_splits(self) -> list[str]:
        """Splits that a study tests on or a network is trained on, in the order declared."""
        used = {s for study in self.studies.values() for s in study.splits}
        used |= {s for n in self.rows for s in self.train_on(n)}
        return [s for s in self.splits if s in used]

    @property
    def unused(self) -> list[str]:
        """Splits and networks of which no study makes use, as keys: ``networks.resnet``.

        Imported networks are none of them: they are there without a study, too.
        """
        used = self.used_splits
        keys = [f"splits.{s}" for s in self.splits if s not in used]
        for name, network in self.networks.items():
            if name not in self.rows and not network.imported:
                keys.append(f"networks.{name}")
        return keys

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
    def with_weights(self) -> list[str]:
        """Networks that have weights of their own, be they trained or imported."""
        return [n for n in self.rows if self.weights_of(n) == n]

    @property
    def trained(self) -> list[str]:
        """Networks to be trained (those with weights of their own that are not imported)."""
        own = self.networks
        return [n for n in self.with_weights if not (n in own and own[n].imported)]

    def weights_of(self, network: str) -> str:
        """Return the network whose weights a network has: itself, if they are its own."""
        own = self.networks.get(network)
        return network if own is None or own.weights_of is None else own.weights_of

    def train_on(self, network: str) -> list[str]:
        """Return the splits a network is trained on."""
        base = self.weights_of(network)
        return list(self.networks[base].train_on) if base in self.networks else [base]

    def seen(self, network: str) -> list[str]:
        """Return the splits that a network, or one it starts from, is trained or fine-tuned on."""
        own = self.networks.get(network)
        tuned = [own.fine_tuning.split] if own is not None and own.fine_tuning else []
        first = self.initial(self.weights_of(network))
        before = self.seen(first) if first is not None else []
        return list(dict.fromkeys([*self.train_on(network), *tuned, *before]))

    def baselines(self, network: str) -> list[str]:
        """Return the default networks of the splits it is trained on: what a remedy mends.

        Empty for such a network itself, and for an imported one.
        """
        own = self.networks.get(network)
        if own is None or own.imported or network in self.splits:
            return []
        return self.train_on(network)

    def tested_on(self, network: str) -> list[str]:
        """Return the splits a network is tested on: those of every study it is a row of."""
        tested = {
            split
            for study in self.studies.values()
            if network in study.splits or network in study.networks
            for split in study.splits
        }
        return [s for s in self.splits if s in tested]
