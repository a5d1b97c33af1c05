"""All parameters of an environment, checked at once and before anything runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from temshift.config.base import NAME, TAKEN_NAMES, hint
from temshift.config.box import BoxParameters
from temshift.config.curation import CurationParameters
from temshift.config.deployment import DeploymentParameters
from temshift.config.errors import PATTERNS, Problem, UserError, invalid, problems_of, shown
from temshift.config.evaluation import EvaluationParameters
from temshift.config.fine_tuning import FewLabelsParameters
from temshift.config.modelling import ModellingParameters, NetworkParameters
from temshift.config.plan import StudyPlan
from temshift.config.preprocessing import PreprocessingParameters
from temshift.config.published import DownloadParameters, ImportParameters
from temshift.config.reporting import ReportingParameters
from temshift.config.simulation import SimulationParameters
from temshift.config.splits import SplitParameters, StudyParameters
from temshift.config.sweep import SweepParameters, check_sweep
from temshift.config.tracking import TrackingParameters
from temshift.config.trust import TrustParameters

__all__ = ["BLOCKS", "check_parameters"]

#: Blocks of the parameters that every environment has, with what they hold.
BLOCKS: dict[str, type[BaseModel]] = {
    "curation": CurationParameters,
    "modelling": ModellingParameters,
    "preprocessing": PreprocessingParameters,
    "evaluation": EvaluationParameters,
    "reporting": ReportingParameters,
}

#: Blocks of named entries, of which an environment removes one by ``null``.
_NAMED: dict[str, type[BaseModel]] = {
    "splits": SplitParameters,
    "studies": StudyParameters,
    "networks": NetworkParameters,
}

#: Blocks that an environment may do without.
_OPTIONAL: dict[str, type[BaseModel] | None] = {
    "simulation": SimulationParameters,
    "box": BoxParameters,
    "deployment": DeploymentParameters,
    "fine_tuning": FewLabelsParameters,
    "sweep": SweepParameters,
    "tracking": TrackingParameters,
    "trust": TrustParameters,
    "download": DownloadParameters,
    "import_published": ImportParameters,
    "calibration": None,  # what benchmarks found; the report shows it
    "offline": None,  # --params offline=true
}


def check_parameters(
    parameters: Mapping[str, Any],
    own: Collection[str] = (),
    where: Callable[[str], str] = lambda key: "the parameters",
) -> None:
    """Refuse parameters in which a block or a key is not known, missing, or of a wrong value.

    Parameters
    ----------
    parameters : mapping
        Of the running environment, ``--params`` included.
    own : collection of str
        Further blocks that may be there: a pipeline of one's own may have one of its name.
    where : callable
        Returns the file, or the argument, in which a key stands; for the messages.

    Raises
    ------
    UserError
        The first problem in three lines, further ones before it.
    """
    known = [*BLOCKS, *_NAMED, *_OPTIONAL, *own]
    problems = [
        Problem(name, f"found a block that is not known; expected {hint(name, known)}")
        for name in parameters
        if name not in known
    ]
    for name, model in BLOCKS.items():
        if parameters.get(name) is None:
            problems.append(Problem(name, "found nothing; expected a block of keys and values"))
        else:
            problems += _checked(model, parameters[name], name)
    for name, model in _NAMED.items():
        problems += _check_entries(name, model, parameters.get(name))
    problems += _names_of_one_file(parameters)
    for name, optional in _OPTIONAL.items():
        if optional is not None and parameters.get(name) is not None:
            problems += _checked(optional, parameters[name], name)
    problems = problems or _check_overrides(parameters)
    if not problems and parameters.get("sweep") is not None:
        problems = check_sweep(parameters)
    if problems:
        raise invalid(problems, where)
    try:
        StudyPlan.from_parameters(parameters)
    except UserError:
        raise
    except ValidationError as error:
        raise invalid(problems_of(error), where) from error
    except ValueError as error:
        raise _inconsistent(str(error), where) from error


def _check_entries(name: str, model: type[BaseModel], block: Any) -> list[Problem]:
    if not isinstance(block, Mapping):
        return [Problem(name, f"found {shown(block)}; expected a block of named entries")]
    if name != "networks" and not any(entry is not None for entry in block.values()):
        return [Problem(name, "found no entry that is not null; expected at least one")]
    problems = []
    for entry, value in block.items():
        key = f"{name}.{entry}"
        if not re.fullmatch(NAME, str(entry)):
            said = f"found {shown(str(entry))}; expected {PATTERNS[NAME]}"
            problems.append(Problem(key, said))
        elif name != "studies" and value is not None and str(entry).lower() in TAKEN_NAMES:
            problems.append(Problem(key, f"found a name that is taken: {_taken(entry)}"))
        elif value is not None:
            problems += _checked(model, value, key)
    return problems


def _names_of_one_file(parameters: Mapping[str, Any]) -> list[Problem]:
    """Return names that differ in case only: macOS and Windows take their files for the same.

    A split has a network of its name, so those of splits and of networks must differ from each
    other too.
    """
    problems = []
    for blocks in (("splits", "networks"), ("studies",)):
        first: dict[str, tuple[str, str]] = {}
        for block in blocks:
            entries = parameters.get(block)
            for name, value in entries.items() if isinstance(entries, Mapping) else ():
                if value is None:
                    continue
                other, key = first.setdefault(str(name).lower(), (str(name), f"{block}.{name}"))
                if other != str(name):
                    said = (
                        f"found a name that differs from {key} in case only; expected another one: "
                        "on macOS and Windows the files of both are the same"
                    )
                    problems.append(Problem(f"{block}.{name}", said))
    return problems


def _taken(name: str) -> str:
    """Return what a name stands for already, and what was expected."""
    means = TAKEN_NAMES[name.lower()]
    return f"{name!r} means {means}; expected another one, such as {name + '_1'!r}"


def _check_overrides(parameters: Mapping[str, Any]) -> list[Problem]:
    """Return what of the networks' own settings does not fit the defaults in ``modelling``."""
    defaults = ModellingParameters.model_validate(parameters["modelling"])
    problems = []
    for name, network in parameters["networks"].items():
        if network is not None:
            try:
                defaults.with_overrides(NetworkParameters.model_validate(network))
            except ValidationError as error:
                problems += problems_of(error, f"networks.{name}")
    return problems


def _checked(model: type[BaseModel], value: Any, key: str) -> list[Problem]:
    try:
        model.model_validate(value)
    except ValidationError as error:
        return problems_of(error, key)
    return []


def _inconsistent(text: str, where: Callable[[str], str]) -> UserError:
    """Return the error for parameters that are right each, but do not fit together."""
    head, *lines = text.split("\n")
    first, *others = [line.removeprefix("- ") for line in lines] or [head]
    found = re.match(r"(splits|studies|networks|modelling)(\.\w+)*", first)
    key = found[0] if found else "the parameters"
    details = ["Further parameters that do not fit together:", *(f"- {o}" for o in others)]
    return UserError(
        f"The parameters do not fit together: {key!r}",
        first,
        f"Change it in {where(key)}",
        details if others else (),
    )
