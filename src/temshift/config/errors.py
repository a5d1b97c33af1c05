"""The form of every error that its reader can mend, and pydantic's errors brought into it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from temshift.config.base import FILE_NAME, NAME, Strict, hint

__all__ = ["PATTERNS", "Problem", "UserError", "invalid", "problems_of", "shown"]


class UserError(ValueError):
    """A mistake that its reader can mend, in three lines.

    Parameters
    ----------
    what : str
        What is wrong, with which file, key or argument.
    found : str
        What was found and what was expected.
    remedy : str
        How to mend it.
    details : iterable of str
        Further lines, which stand before the three: all cases, if there are several.

    Examples
    --------
    >>> print(UserError("table.csv: no rows", "Found a header only; expected rows", "Add some"))
    table.csv: no rows
    Found a header only; expected rows
    Add some
    """

    def __init__(self, what: str, found: str, remedy: str, details: Iterable[str] = ()) -> None:
        self.what, self.found, self.remedy = (
            " ".join(part.split()) for part in (what, found, remedy)
        )
        self.details = tuple(details)
        super().__init__("\n".join((*self.details, self.what, self.found, self.remedy)))

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (type(self), self.what, self.found, self.remedy, self.details)


def _again(cls: type[UserError], *parts: Any) -> UserError:
    return cls(*parts)


@dataclass(frozen=True)
class Problem:
    """What is wrong with one key of the parameters.

    Attributes
    ----------
    key : str
        Such as ``modelling.training.steps``.
    said : str
        What was found, and what was expected.
    """

    key: str
    said: str


def shown(value: Any, width: int = 60) -> str:
    """Return a value as it is quoted in a message."""
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= width else f"{text[: width - 1]}…"


def invalid(
    problems: list[Problem], where: Callable[[str], str] = lambda key: "the parameters"
) -> UserError:
    """Return the error that tells problems of the parameters, the first one in full.

    Parameters
    ----------
    problems : list of Problem
    where : callable
        Returns the file, or the argument, in which a key stands.
    """
    first, *others = problems
    details = [f"- {p.key}: {p.said}" for p in others]
    if details:
        details = [f"{len(problems)} parameters are wrong; beside the one below:", *details]
    return UserError(
        f"The parameter {first.key!r} is not valid",
        first.said[:1].upper() + first.said[1:],
        f"Change it in {where(first.key)}",
        details,
    )


def problems_of(error: ValidationError, prefix: str = "") -> list[Problem]:
    """Return what pydantic found, in words of the parameters.

    Parameters
    ----------
    error : ValidationError
        Of one of the models in :mod:`temshift.config`.
    prefix : str
        Key of the block that was validated.
    """
    model = _models().get(error.title)
    cases = [(case["type"], _problem(case, model, prefix)) for case in error.errors()]
    problems: dict[str, Problem] = {}
    for kind, problem in cases:  # each of several types has its own complaint
        if kind not in _OF_ANOTHER_KIND or not any(
            _came_further(other, problem.key, its_kind) for its_kind, other in cases
        ):
            problems.setdefault(problem.key, problem)
    return list(problems.values())


def _came_further(problem: Problem, key: str, kind: str) -> bool:
    """Whether a problem is of a type that a value fits better than one that it is no value of."""
    return problem.key.startswith(f"{key}.") or (
        problem.key == key and kind not in _OF_ANOTHER_KIND
    )


def _models() -> dict[str, type[BaseModel]]:
    found: dict[str, type[BaseModel]] = {}
    waiting: list[type[BaseModel]] = [Strict]
    while waiting:
        model = waiting.pop()
        found[model.__name__] = model
        waiting += model.__subclasses__()
    return found


def _problem(case: Any, model: type[BaseModel] | None, prefix: str) -> Problem:
    place, owner = _place(case["loc"], model)
    key = ".".join(filter(None, (prefix, *place)))
    kind, value = case["type"], case["input"]
    cause = case.get("ctx", {}).get("error")
    if isinstance(cause, UserError):
        return Problem(key, cause.found)
    if isinstance(cause, Exception):
        return Problem(key, f"found {shown(value)}: {' '.join(str(cause).split())}")
    if kind == "extra_forbidden":
        keys = [f.alias or name for name, f in owner.model_fields.items()] if owner else []
        return Problem(key, f"found a key that is not known; expected {hint(place[-1], keys)}")
    if kind == "missing":
        return Problem(key, "found nothing; expected a value, since this key must be given")
    if re.search(r"(^|\.)where\.[^.]+$", key):
        expected = "a value, a list of values, {value, tolerance} or {min, max}"
    elif kind == "list_type" and key.startswith("sweep.space."):
        expected = "a list of values, such as [1, 2], or a range {min, max}"
    else:
        expected = _expected(kind, case)
    return Problem(key, f"found {shown(value)}; expected {expected}")


def _place(
    loc: tuple[int | str, ...], model: type[BaseModel] | None
) -> tuple[list[str], type[BaseModel] | None]:
    """Return the keys of a place without pydantic's marks, and the model that it belongs to."""
    place: list[str] = []
    kind: Any = model
    owner = model
    for part in loc:
        if len(kinds := _alternatives(kind)) > 1:  # a mark of pydantic's: which one was tried
            words = re.findall(r"\w+", str(part))
            tried = [k for k in kinds if _is_model(k) and k.__name__ in words]
            if not tried:
                break
            kind = tried[0]
            continue
        inner = _inside(kind)
        if _is_model(inner):
            owner = inner
            fields = {f.alias or name: f for name, f in inner.model_fields.items()}
            place.append(str(part))
            if part not in fields:
                break
            kind = _OVERLAID.get((inner.__name__, str(part)), fields[str(part)].annotation)
            kind = _models()[kind] if isinstance(kind, str) else kind
        elif get_origin(inner) in (dict, list, tuple) and part != "[key]":
            place.append(str(part))
            args = get_args(inner)
            kind = args[-1] if args else None
        else:
            break  # a mark of pydantic's, such as which of several types was tried
    return place, owner


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _alternatives(kind: Any) -> list[Any]:
    """Return the types of which a value may have one, without ``None``."""
    if hasattr(kind, "__metadata__"):
        return _alternatives(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        return [k for one in get_args(kind) for k in _alternatives(one) if k is not type(None)]
    return [kind]


def _inside(kind: Any) -> Any:
    """Return the model or container in an annotation such as ``Annotated[X, ...] | None``."""
    args = get_args(kind)
    if get_origin(kind) in (dict, list, tuple) or not args:
        return kind
    if hasattr(kind, "__metadata__"):
        return _inside(args[0])
    inner = [a for a in map(_inside, args) if a is not type(None)]
    models = [a for a in inner if isinstance(a, type) and issubclass(a, BaseModel)]
    return (models or inner)[0] if len(inner) == 1 or models else kind


#: Blocks that are laid over a model elsewhere: model and field, and that model.
_OVERLAID: dict[Any, Any] = {("SplitParameters", "preprocessing"): "PreprocessingParameters"}

#: What pydantic's kinds of errors say, in our words; the others are its own, without its head.
_EXPECTED = {
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "dict_type": "a block of keys and values",
    "finite_number": "a finite number",
    "float_parsing": "a number",
    "float_type": "a number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "list_type": "a list, such as [a, b]",
    "model_type": "a block of keys and values",
    "none_required": "null",
    "string_type": "text (put it into quotes)",
    "tuple_type": "a list, such as [1, 2]",
}

#: What a pattern asks for, in words or as all that there is; no pattern is shown to a user.
PATTERNS: dict[str, str | list[str]] = {
    NAME: "a name of at most 100 letters, digits and _, beginning with a letter",
    FILE_NAME: "a name of letters, digits, _, - and ., beginning with none of - and .",
    r"^(auto|cpu|mps|cuda(:\d+)?)$": ["auto", "cpu", "mps", "cuda", "cuda:0"],
    r"^(local|slurm|(tcp|tls)://\S+:\d+)$": (
        "local, slurm or the address of a running scheduler, such as tcp://10.0.0.1:8786 or "
        "tls://10.0.0.1:8786"
    ),
    r"^(\d+-)?\d{1,2}:\d{2}:\d{2}$": "HH:MM:SS or D-HH:MM:SS, such as 12:00:00 (in quotes)",
    r"^\d{4}-\d{2}-\d{2}$": "a date such as 2024-01-15",
    r"^[0-9a-f]{64}$": "a SHA-256: 64 digits of 0-9 and a-f",
}

#: What pydantic says of a type that a value was not meant to have, where it may have several.
_OF_ANOTHER_KIND = {
    *("list_type", "dict_type", "model_type", "literal_error", "none_required"),
    *("string_type", "int_type", "float_type", "bool_type", "tuple_type"),
    *("int_parsing", "float_parsing", "bool_parsing"),
}


def _expected(kind: str, case: Any) -> str:
    if kind in _EXPECTED:
        return _EXPECTED[kind]
    context = case.get("ctx", {})
    if kind == "string_pattern_mismatch":
        pattern = context.get("pattern", "")
        expected = PATTERNS.get(pattern, f"what fits {pattern}")
        return expected if isinstance(expected, str) else hint(str(case["input"]), expected)
    if kind == "literal_error":
        return hint(str(case["input"]), re.findall(r"'([^']*)'", str(context.get("expected"))))
    if kind in ("too_short", "too_long"):
        number = context.get("min_length", context.get("max_length"))
        return f"{'at least' if kind == 'too_short' else 'at most'} {number} entries"
    if kind == "string_too_long":
        return f"at most {context['max_length']} characters"
    text = re.sub(r"^(Input|Value) should (be|have) (a valid )?", "", str(case["msg"]))
    return text.split(", unable to")[0]
