"""What all parts of the parameters share: strict models, names, hints, overlays."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict

__all__ = ["NAME", "Strict", "nearest", "overlay", "plain"]

_M = TypeVar("_M", bound=BaseModel)

NAME = r"^[A-Za-z][A-Za-z0-9_]*$"


def nearest(wrong: str, valid: Iterable[str]) -> str:
    """Return a hint such as ``"did you mean 'dose_e_per_A2'? Valid: ..."``.

    Parameters
    ----------
    wrong : str
        What was found.
    valid : iterable of str
        What could have stood there.

    Examples
    --------
    >>> nearest("dosis_e_per_A2", ["dose_e_per_A2", "material"])
    "did you mean 'dose_e_per_A2'? Valid: dose_e_per_A2, material"
    """
    names = sorted(map(str, valid))
    close = difflib.get_close_matches(str(wrong), names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(repr(c) for c in close)}? " if close else ""
    return f"{hint}Valid: {', '.join(names) if names else '(none)'}"


class Strict(BaseModel):
    """A block of parameters in which a key that is not known is an error."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())


def overlay(model: _M, overrides: Mapping[str, Any]) -> _M:
    """Return ``model`` with nested ``overrides`` laid over it, validated again."""

    def merge(base: Any, top: Any) -> Any:
        if isinstance(base, dict) and isinstance(top, Mapping):
            return {**base, **{k: merge(base.get(k), v) for k, v in top.items()}}
        return top

    data = merge(model.model_dump(), dict(overrides))
    return type(model).model_validate(data)


def plain(value: Any) -> Any:
    """Return parameters as plain values, whether or not they have been validated already."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_unset=True, by_alias=True)
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return value
