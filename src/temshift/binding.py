"""One node function for many namespaces, and one dataset of each for one function."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, get_type_hints

__all__ = ["bind", "by_owner", "each", "stage_of"]


def bind(function: Callable[..., Any], *values: Any) -> Callable[..., Any]:
    """Return ``function`` with its first arguments given, still fit for Kedro's typed parameters.

    Kedro reads names and types of the remaining arguments from the function; a bare
    ``functools.partial`` hides them, and ``update_wrapper`` shows the given ones too, so that
    parameters would be validated against the wrong models.

    Parameters
    ----------
    function : callable
        With annotations that can be resolved at run time.
    *values
        Its first arguments.
    """
    bound = partial(function, *values)
    signature = inspect.signature(function)
    remaining = list(signature.parameters.values())[len(values) :]
    hints = get_type_hints(function)
    for attribute in ("__name__", "__qualname__", "__module__", "__doc__"):
        setattr(bound, attribute, getattr(function, attribute))
    bound.__signature__ = signature.replace(parameters=remaining)  # type: ignore[attr-defined]
    kept = {p.name for p in remaining} | {"return"}
    bound.__annotations__ = {name: hint for name, hint in hints.items() if name in kept}
    return bound


def each(owners: Iterable[str], dataset: str) -> dict[str, str]:
    """Return one dataset of every split or network as keyword inputs named like themselves."""
    return {f"{owner}.{dataset}": f"{owner}.{dataset}" for owner in owners}


def by_owner(datasets: Mapping[str, Any]) -> dict[str, Any]:
    """Name what came by keyword (see :func:`each`) like the split or network it belongs to."""
    return {name.partition(".")[0]: data for name, data in datasets.items()}


def stage_of(function: Callable[..., Any]) -> str:
    """Return the pipeline that a node's function belongs to, "" if it is no pipeline's.

    Examples
    --------
    >>> from temshift.pipelines.modelling.nodes import train_network
    >>> stage_of(bind(train_network, "au_5nm"))
    'modelling'
    """
    parts = str(getattr(function, "__module__", "")).split(".")
    return parts[parts.index("pipelines") + 1] if "pipelines" in parts[:-1] else ""
