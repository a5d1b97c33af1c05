"""What Kedro, YAML, pandas and the system raise, as the error that a user can mend.

The parameters are checked before anything runs (:func:`temshift.config.check.check_parameters`),
and our own code raises :class:`~temshift.config.errors.UserError` or an error with a message for
its reader. This module is for the rest: :func:`as_user_error` gives every exception the same form.
"""

from __future__ import annotations

import errno
import re
import traceback
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from temshift.config.base import hint
from temshift.config.errors import UserError, invalid, problems_of
from temshift.config.yaml_files import wrong_yaml

__all__ = ["as_user_error", "environment_exists", "unknown_name"]


def as_user_error(error: BaseException) -> UserError:
    """Return an exception in the form of three lines.

    Parameters
    ----------
    error : BaseException
        Whatever stopped a command.
    """
    chain = list(_chain(error))
    for cause in chain:
        if isinstance(cause, UserError):
            return cause
    for cause in chain:
        known = _known(cause)
        if known is not None:
            return known
    told = _our_words(chain)
    if told is not None:
        return _of_text(told, _dataset(chain))
    cause = chain[-1]
    place = _dataset(chain) or _our_place(chain)
    return UserError(
        f"{place or 'A command'} failed, and temshift does not know why",
        f"{type(cause).__name__}: {_first_lines(str(cause)) or 'without a message'}",
        "Repeat the command with --verbose to see where; if your data and parameters are in order, "
        "this is a fault of temshift's: please report it with info.log",
    )


def unknown_name(kind: str, wrong: str, valid: Iterable[str], remedy: str = "") -> UserError:
    """Return the error for a name that is not among those that there are."""
    return UserError(
        f"There is no {kind} {wrong!r}",
        f"Found {wrong!r}; expected {hint(wrong, valid)}",
        remedy or f"Name one of these after the option for the {kind}",
    )


def environment_exists(conf: Path, env: str | None) -> None:
    """Raise the error for an environment that has no folder under ``conf``."""
    if not env or "://" in str(conf) or (conf / env).is_dir() or not conf.is_dir():
        return
    folders = [p.name for p in conf.iterdir() if p.is_dir() and not p.name.startswith(".")]
    raise unknown_name(
        "environment",
        env,
        folders,
        f"Name one of these with --env, or make the folder {conf / env}",
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and what caused it, outermost first."""
    seen: set[int] = set()
    now: BaseException | None = error
    while now is not None and id(now) not in seen:
        seen.add(id(now))
        yield now
        now = now.__cause__ or (None if now.__suppress_context__ else now.__context__)


def _is_ours(error: BaseException) -> bool:
    """Whether our own code has raised an error with words for the user."""
    kinds = ValueError | OSError | RuntimeError | FloatingPointError
    if not isinstance(error, kinds) and not _is_dataset_error(error):
        return False
    if isinstance(error, OSError) and error.errno is not None:
        return False
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and "temshift" in Path(frames[-1].filename).parts


def _our_words(chain: Sequence[BaseException]) -> str | None:
    """Return what the error of ours says that knows most; ``None`` if none is ours.

    It is the innermost one, but of a file the outermost that names it: those below know a reason
    only, and not the key that the file was asked for with.
    """
    from temshift.catalog.micrographs import MicrographReadError

    ours = [error for error in chain if _is_ours(error)]
    for error in ours:
        if isinstance(error, MicrographReadError):
            return f"{_relative(error.path)}: {error.reason}"
    return str(ours[-1]) if ours else None


def _is_dataset_error(error: BaseException) -> bool:
    return type(error).__name__ in ("DatasetError", "DatasetNotFoundError")


#: With these a remedy begins in a message of ours.
_IMPERATIVES = (
    "add|ask|binarise|change|check|choose|close|copy|cut|declare|delete|divide|export|fetch|fill"
    "|give|import|install|leave|list|lower|make|mend|multiply|name|put|raise|read|remove|repair|run"
    "|save|say|set|subtract|take|train|use"
)

#: Words that make a sentence of the first part of a message; a file or a key has none of them.
_VERBS = re.compile(
    r"\b(is|are|was|were|has|have|must|needs?|takes?|gives?|asks?|names?|holds?|makes?|cannot|can|do"
    r"|does|contains?|lacks?|misses|resamples?|diverges)\b"
)


def _of_text(text: str, dataset: str) -> UserError:
    """Return a message of ours as three lines: its head, what was found, what to do.

    A head that is a sentence stands for itself; of a file or a key it is said that it cannot be
    used.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["no message"]
    sentences = re.split(
        rf"(?<=[^.\d])\. (?=[A-Z])|[;:] (?=(?:{_IMPERATIVES})\b)", lines[-1], flags=re.ASCII
    )
    remedy = sentences[-1] if len(sentences) > 1 else ""
    first, found = lines[0], lines[-1]
    if remedy:
        found = found.removesuffix(remedy).rstrip(" ;:.")
    if len(lines) == 1:
        head, colon, rest = found.partition(": ")
        if colon and len(head) < 120:
            first, found = head, rest
            first = (
                _sentence(first) if _is_sentence(head) else f"{first.rstrip(':')} cannot be used"
            )
        elif remedy and _is_sentence(found):
            what, parted, rest = _parted(found)
            first, found = _sentence(what), f"{parted}{rest}"
        else:
            first = f"{dataset or 'What was given'} cannot be used"
    expected = "; docs/own_images.md lists what is expected" if dataset else ""
    return UserError(
        first,
        _sentence(found) if found else (f"Found in {dataset}" if dataset else "See above"),
        _sentence((remedy or f"Mend what is named there{expected}").rstrip(".")),
        lines[1:-1],
    )


def _is_sentence(head: str) -> bool:
    """Whether words say something of themselves, as ``no results`` and ``the image is empty``."""
    words = re.sub(r"\S*[/\\]\S*", "", head)  # without paths
    if " " not in words.strip():
        return False
    return bool(_VERBS.search(words)) or head.startswith(("no ", "nothing ", "none ", "unknown "))


def _parted(sentence: str) -> tuple[str, str, str]:
    """Return what is wrong, and what was found, if a sentence says both."""
    parts = re.split(r"[,;] (but|found) ", sentence, maxsplit=1)
    if len(parts) == 1:
        return sentence, "", ""
    return parts[0], "found " if parts[1] == "found" else "", parts[2]


def _sentence(text: str) -> str:
    """Begin with a capital letter, unless the first word is a name out of the parameters."""
    word = text.split()[0] if text.split() else ""
    return text if "." in word.rstrip(".:") or "_" in word else text[:1].upper() + text[1:]


def _dataset(chain: list[BaseException]) -> str:
    """Return the dataset that could not be loaded or saved, as Kedro's error names it."""
    for error in chain:
        if _is_dataset_error(error):
            found = re.search(r"filepath=(?:\w+\()?'?([^',)]+)", str(error))
            if found:
                return _relative(found[1])
    return ""


def _our_place(chain: list[BaseException]) -> str:
    for error in reversed(chain):
        for frame in reversed(traceback.extract_tb(error.__traceback__)):
            if "temshift" in Path(frame.filename).parts:
                return f"{Path(frame.filename).stem}.{frame.name}"
    return ""


def _first_lines(text: str, width: int = 300) -> str:
    plain = " ".join(text.split())
    return plain if len(plain) <= width else f"{plain[: width - 1]}…"


def _relative(path: str) -> str:
    """Return a path below the working folder without that folder."""
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except ValueError:
        return str(path)


# --------------------------------------------------------------------------- what others raise
#: What libraries in other languages, and SQLite, say of a full disk.
_FULL_DISK = ("No space left on device", "database or disk is full")


def _known(error: BaseException) -> UserError | None:
    """Return the error for an exception whose cause is known from its type."""
    code = getattr(error, "errno", None)
    # libraries in other languages tell in words what the system has told them
    if code in (errno.ENOSPC, errno.EDQUOT) or any(said in str(error) for said in _FULL_DISK):
        return _of_full_disk(error)
    if code == errno.EROFS:
        return _of_permission(error)
    for kind in type(error).__mro__:
        explain = _EXPLAIN.get(kind.__name__)
        if explain is not None:
            return explain(error)
    return None


def _of_pydantic(error: Any) -> UserError:
    return invalid(problems_of(error))


def _of_yaml(error: Any) -> UserError:
    """Return the error for what is no YAML; Kedro tells the file and YAML the line."""
    told = error.__cause__ if hasattr(error.__cause__, "problem_mark") else error
    file = re.search(r"(?:Invalid YAML or JSON file |in \")([^\s\",]+)", str(error))
    return wrong_yaml(told, _relative(file[1]) if file else "")


def _of_interpolation(error: Any) -> UserError:
    text = str(error)
    key = re.search(r"(?:[Kk]ey|resolver)\s+'([^']+)'|interpolation type (\S+)", text)
    name = (key[1] or key[2]) if key else _first_lines(text, 80)
    return UserError(
        f"conf: a value refers to {name!r}, which is not defined",
        f"Found ${{globals:{name}}} or the like; expected a key of globals.yml",
        f"Define {name!r} in globals.yml of the environment, or mend its name where it is used",
    )


def _of_missing_file(error: Any) -> UserError:
    path = _relative(str(error.filename or error))
    told = error.filename is None and " " in path.strip()  # a library's own words
    return UserError(
        "A file is not there" if told else f"{path}: there is no such file",
        f"Found: {_first_lines(path, 200)}"
        if told
        else "Found nothing at this path; expected a file",
        "Put it there or mend the path (globals.yml and the catalog of the environment); if a "
        "pipeline makes it, run that first: kedro run",
    )


def _of_download(error: Any) -> UserError:
    """Say what the hub of Hugging Face could not give, from whose errors it is known."""
    address = re.search(r"https?://[^\s'\"]+", " ".join(str(e) for e in _chain(error)))
    place = address[0].partition("/resolve/")[0].rstrip(".:,") if address else "huggingface.co"
    return UserError(
        "Weights of an encoder (architecture.encoder_weights) cannot be downloaded",
        f"Found {_first_lines(str(error), 160).rstrip('.')}; expected them from {place}",
        "Repeat the command with access to the network (once: they are kept), copy the cache of "
        "huggingface_hub (~/.cache/huggingface, or $HF_HOME) from a machine that has them, or set "
        "encoder_weights: null for random ones",
    )


def _of_folder(error: Any) -> UserError:
    return UserError(
        f"{_relative(str(error.filename or error))}: this is a folder",
        "Found a folder; expected a file",
        "Mend the path (globals.yml and the catalog of the environment)",
    )


def _of_permission(error: Any) -> UserError:
    return UserError(
        f"{_relative(str(error.filename or error))}: not allowed",
        "Found a file or folder that you may not read or write, or that another program holds "
        "open; expected access",
        "Close it elsewhere (a spreadsheet?), or mend its permissions",
    )


def _of_full_disk(error: Any) -> UserError:
    name = getattr(error, "filename", None)
    found = re.search(r"filepath=(?:\w+\()?'?([^',)]+)", str(error))
    path = _relative(str(name or (found[1] if found else "the folder of the data")))
    return UserError(
        f"{path}: the disk is full",
        "Found no space left on the device, or your share of it used up; expected room for results",
        "Make room, or name another folder as 'data' in globals.yml of the environment; then "
        "repeat the command: what has been finished is kept",
    )


def _of_memory(error: Any) -> UserError:
    return UserError(
        "The memory of this machine does not suffice",
        f"Found too little: {_first_lines(str(error), 120) or 'an allocation failed'}",
        "Set a smaller modelling.training.batch_size, evaluation.batch_size or patch_px, or "
        "close other programs",
    )


def _of_import(error: Any) -> UserError:
    name = getattr(error, "name", None) or "a package"
    return UserError(
        f"The Python package {name!r} is missing or broken",
        f"Found {_first_lines(str(error), 160)}; expected it to be installed",
        "Install what temshift needs again: make install, or pip install -e .",
    )


def _of_configuration(error: Any) -> UserError:
    return UserError(
        "conf: the configuration cannot be read",
        f"Found {_first_lines(str(error), 200)}",
        "Mend the file named; conf/base has an example of each",
    )


def _of_encoding(error: Any) -> UserError:
    return UserError(
        "A text file is not written in the encoding that is expected",
        f"Found the byte 0x{error.object[error.start]:02x} at {error.start}; expected "
        f"{error.encoding}",
        "Save it as UTF-8; if it is a table, you may set load_args: {encoding: ...} of its dataset "
        "in the catalog instead, e.g. latin-1, cp1252 or utf-16",
    )


def _of_lock(error: Any) -> UserError:
    return UserError(
        "Another run is at work in the same folder",
        f"Found its lock: {_first_lines(str(error), 120)}; expected none",
        "Wait until it has finished",
    )


_EXPLAIN = {
    "ValidationError": _of_pydantic,
    "YAMLError": _of_yaml,
    "InterpolationResolutionError": _of_interpolation,
    "InterpolationKeyError": _of_interpolation,
    "LocalEntryNotFoundError": _of_download,
    "HfHubHTTPError": _of_download,
    "OfflineModeIsEnabled": _of_download,
    "FileNotFoundError": _of_missing_file,
    "IsADirectoryError": _of_folder,
    "NotADirectoryError": _of_missing_file,
    "PermissionError": _of_permission,
    "MemoryError": _of_memory,
    "OutOfMemoryError": _of_memory,
    "ImportError": _of_import,
    "MissingConfigException": _of_configuration,
    "OmegaConfBaseException": _of_configuration,
    "UnicodeDecodeError": _of_encoding,
    "Timeout": _of_lock,
}
