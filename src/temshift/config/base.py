"""What all parts of the parameters share: strict models, names, hints, overlays."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

__all__ = [
    "FILE_NAME",
    "NAME",
    "PLAUSIBLE_PIXEL_NM",
    "TAKEN_NAMES",
    "Ascending",
    "EachOnce",
    "PixelSize",
    "Strict",
    "close_to",
    "hint",
    "nearest",
    "overlay",
    "plain",
]

_M = TypeVar("_M", bound=BaseModel)

#: Files and records are named after what is named so; file systems take 255 bytes.
NAME = r"^[A-Za-z][A-Za-z0-9_]{0,99}$"
#: A folder of results: none that leads elsewhere (``..``) or is hidden.
FILE_NAME = r"^\w[\w.-]*$"

#: What no network, and so no split, can be called: folders beside those of the networks in
#: ``06_models``, and words that stand for a choice of networks.
TAKEN_NAMES = {
    "history": "the folder of the histories of all networks",
    "box": "the network that comes with the package",
    "nearest": "the choice of the nearest network (deployment.networks, fine_tuning.network)",
    "best": "the choice of the best network (deployment.networks)",
}

#: Pixel sizes outside of this range (nm) are no calibration of a TEM image.
PLAUSIBLE_PIXEL_NM = (1e-4, 1e3)
PixelSize = Annotated[float, Field(ge=PLAUSIBLE_PIXEL_NM[0], le=PLAUSIBLE_PIXEL_NM[1])]


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
    close = close_to(wrong, names)
    said = f"did you mean {' or '.join(repr(c) for c in close)}? " if close else ""
    return f"{said}Valid: {', '.join(names) if names else '(none)'}"


def close_to(wrong: str, valid: Iterable[str]) -> list[str]:
    """Return up to three names that come near a wrong one, whatever their case.

    Of a dotted name (``generalization_reporting.reporting.gaps``) the last part counts as well.
    """
    wrong, names = str(wrong), sorted(set(map(str, valid)))
    by_plain: dict[str, list[str]] = {}
    for name in names:
        for plain in {name.lower(), name.lower().rpartition(".")[2]}:
            by_plain.setdefault(plain, []).append(name)
    close = difflib.get_close_matches(wrong.lower(), list(by_plain), n=3, cutoff=0.5)
    if close:  # what is much further away than the best is not meant
        best, *ratios = (difflib.SequenceMatcher(None, wrong.lower(), c).ratio() for c in close)
        close = close[: 1 + sum(ratio > best - 0.15 for ratio in ratios)]
    if len(wrong) >= 3:  # what begins so was cut short
        close += [plain for plain in by_plain if plain.startswith(wrong.lower())]
    return list(dict.fromkeys(name for plain in close for name in by_plain[plain]))[:3]


def hint(wrong: str, valid: Iterable[str]) -> str:
    """Return what was expected: one of the valid names, and which of them is meant perhaps.

    Examples
    --------
    >>> hint("stepps", ["steps", "epochs"])
    "one of epochs, steps (did you mean 'steps'?)"
    """
    names = sorted(set(map(str, valid)))
    if not names:
        return "none"
    close = close_to(wrong, names)
    few = names if len(names) <= 20 else [*names[:20], f"… ({len(names)} in all)"]
    said = f" (did you mean {' or '.join(repr(c) for c in close)}?)" if close else ""
    return f"one of {', '.join(few)}{said}"


def _each_once(values: Any) -> Any:
    given = values if isinstance(values, list) else []
    kinds = [(type(value), value) for value in given]  # True is not 1
    again = [value for i, (_, value) in enumerate(kinds) if kinds[i] in kinds[:i]]
    if again:
        raise ValueError(f"{again[0]!r} stands there twice; expected each once")
    return values


def _ascending(ends: tuple[float, float]) -> tuple[float, float]:
    if ends[0] > ends[1]:
        raise ValueError("expected [lowest, highest]")
    return ends


#: For a list in which nothing may be named again.
EachOnce = AfterValidator(_each_once)
#: For the two ends of a range.
Ascending = AfterValidator(_ascending)


class Strict(BaseModel):
    """A block of parameters: a key that is not known, and a number without end, are errors."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=(), allow_inf_nan=False)


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
