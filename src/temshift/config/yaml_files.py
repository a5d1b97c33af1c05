"""What is wrong with a file of the configuration, in words for its reader.

Kedro reads these files as text, so that what YAML says of them has lost their name, and counts
their lines from 0. Nothing is read here: the content of a file is given.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from omegaconf.errors import GrammarParseError
from omegaconf.grammar_parser import parse

from temshift.config.errors import UserError, shown

__all__ = [
    "not_utf8",
    "set_twice",
    "unlike_kinds",
    "wrong_content",
    "wrong_file",
    "wrong_yaml",
]

_FORM = (
    "'key: value' with equal indentation by blanks (no tabs), closed brackets and quotes, and "
    "each key once"
)
_BLOCK = "a block of keys and values"
#: What a key written so is to YAML 1.1, beside text and numbers.
_SPECIAL = {"tag:yaml.org,2002:bool": "true or false", "tag:yaml.org,2002:null": "nothing"}


def wrong_file(file: str, content: bytes) -> UserError | None:
    """Return why a file of the configuration cannot be read, ``None`` if nothing is wrong.

    Parameters
    ----------
    file : str
        As the message names it.
    content : bytes
        Of the file.
    """
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        return not_utf8(error, file)
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        problem = _key_twice(file, node) or _special_key(file, node)
        if problem is None:
            value = yaml.load(text, Loader=yaml.SafeLoader)
            problem = wrong_content(file, value) or _wrong_interpolation(file, node)
    except yaml.YAMLError as error:
        return wrong_yaml(error, file, text)
    except ValueError as error:  # a date that no calendar has
        return UserError(
            f"{file}: a value cannot be read", f"Found that {error}", f"Put it in quotes in {file}"
        )
    return problem


def not_utf8(error: UnicodeDecodeError, file: str) -> UserError:
    """Return the error for a file of the configuration that holds other bytes than UTF-8."""
    line = error.object[: error.start].count(b"\n") + 1
    byte = error.object[error.start : error.start + 1]
    letter = byte.decode("latin-1")
    meant = f" ({letter!r} in Latin-1)" if letter.isprintable() else ""
    return UserError(
        f"{file}, line {line}: this file is not written in UTF-8",
        f"Found the byte 0x{byte.hex()}{meant}; expected UTF-8, as in every file of conf",
        f"Save {file} as UTF-8 (the editor's 'Save as ... encoding')",
    )


def wrong_yaml(error: Any, file: str = "", text: str = "") -> UserError:
    """Return the error for what is no YAML: file, line and the reason that YAML gives.

    Parameters
    ----------
    error : yaml.YAMLError
    file : str
        As the message names it; otherwise what YAML knows of it.
    text : str
        Content of the file, for the line of a character that YAML does not take.
    """
    mark, opened = getattr(error, "problem_mark", None), getattr(error, "context_mark", None)
    reason = str(getattr(error, "problem", None) or getattr(error, "reason", None) or "")
    if "could not find expected ':'" in reason:
        mark = opened or mark  # YAML looks for it up to the next line
    name = file or str(getattr(mark, "name", "") or getattr(error, "name", "") or "")
    position = getattr(error, "position", None)
    line = mark.line + 1 if mark is not None else None
    if line is None and text and isinstance(position, int):
        line = text[:position].count("\n") + 1
    place = ", ".join(filter(None, (name, f"line {line}" if line else ""))) or "A file of conf"
    begun = ""
    if opened is not None and line is not None and opened.line + 1 != line:
        begun = f", in what begins in line {opened.line + 1}"
    return UserError(
        f"{place}: this is no valid YAML",
        f"Found: {_reason(reason) or _short(str(error))}{begun}; expected {_FORM}",
        "Mend the line named, or the one before it",
    )


def wrong_content(file: str, content: Any) -> UserError | None:
    """Return the error for a file that holds something else than a block, if it does."""
    if content is None or isinstance(content, Mapping):
        return None
    kind = "a list" if isinstance(content, list) else shown(content)
    return UserError(
        f"{file}: this is no block of keys and values",
        f"Found {kind}; expected lines such as 'modelling:' with the keys of the block below",
        f"Begin the lines of {file} with a key and a colon instead of '-'"
        if isinstance(content, list)
        else f"Write keys and values into {file}, or empty it",
    )


def set_twice(contents: Mapping[str, Mapping[Any, Any]], deep: bool) -> UserError | None:
    """Return the error for keys that two files of one environment set, if there are any.

    Parameters
    ----------
    contents : mapping of str to mapping
        Of each file, by its name.
    deep : bool
        Whether blocks are put together key by key (parameters); otherwise a key of the top level
        belongs to one file.
    """
    files = list(contents)
    keys = {
        file: {key for key in _keys(content, deep) if not key.startswith("_")}
        for file, content in contents.items()
    }
    blocks = {
        file: {key[: dot.start()] for key in own for dot in re.finditer(r"\.", key)}
        for file, own in keys.items()
    }
    cases = []
    for i, first in enumerate(files):
        for second in files[i + 1 :]:
            both = sorted(keys[first] & keys[second])
            if deep:
                both += sorted(keys[first] & blocks[second] | keys[second] & blocks[first])
            if both:
                cases.append((first, second, both))
    if not cases:
        return None
    details = [
        f"- {', '.join(both)}: in {first} and in {second}" for first, second, both in cases[1:]
    ]
    first, second, both = cases[0]
    named = ", ".join(both[:8]) + (f" … ({len(both)} in all)" if len(both) > 8 else "")
    return UserError(
        f"{first} and {second} set the same {'keys' if len(both) > 1 else 'key'}: {named}",
        "Found two values of one environment, of which neither goes before the other; expected "
        "each key in one file of an environment",
        f"Remove {'them' if len(both) > 1 else 'it'} from one of the two files; to lay "
        "values over those of another environment, put them into a folder of their own in conf "
        "and name that with --env",
        ["Further keys that two files set:", *details] if details else (),
    )


def unlike_kinds(contents: Mapping[str, Any]) -> UserError | None:
    """Return the error for a key that is a list in one file and a block in another, if any is.

    Parameters
    ----------
    contents : mapping of str to mapping
        Of each file, by its name, in the order in which they are laid over each other.
    """
    seen: dict[str, tuple[str, str]] = {}
    for file, content in contents.items():
        for key, value in _all_keys(content):
            kind = "a list" if isinstance(value, list) else _BLOCK
            other, before = seen.setdefault(key, (file, kind))
            if kind != before:
                return UserError(
                    f"{file}: {key!r} is of the wrong kind",
                    f"Found {kind}; expected {before}, as in {other}",
                    f"Write {key!r} in {file} as in {other}",
                )
    return None


def _keys(content: Mapping[Any, Any], deep: bool, above: str = "") -> Iterator[str]:
    """Yield the dotted names of what is set, of blocks what they hold."""
    for key, value in content.items():
        name = f"{above}{key}"
        if deep and isinstance(value, Mapping):
            yield from _keys(value, deep, f"{name}.")
        else:
            yield name


def _all_keys(content: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted names of all blocks and lists of a block, outermost first."""
    for key, value in content.items() if isinstance(content, Mapping) else ():
        if isinstance(value, Mapping | list):
            yield f"{above}{key}", value
            yield from _all_keys(value, f"{above}{key}.")


def _nodes(node: Any) -> Iterator[Any]:
    """Yield all nodes of a composed file, each once (an anchor may lead to one again)."""
    waiting, seen = [node], set()
    while waiting:
        now = waiting.pop(0)
        if now is None or id(now) in seen:
            continue
        seen.add(id(now))
        yield now
        if isinstance(now, yaml.MappingNode):
            waiting += [part for pair in now.value for part in pair]
        elif isinstance(now, yaml.SequenceNode):
            waiting += now.value


def _written_keys(node: Any) -> Iterator[tuple[Any, list[Any]]]:
    """Yield every block of a composed file with the nodes of its keys."""
    for block in _nodes(node):
        if isinstance(block, yaml.MappingNode):
            yield block, [key for key, _ in block.value if isinstance(key, yaml.ScalarNode)]


def _key_twice(file: str, node: Any) -> UserError | None:
    for _, keys in _written_keys(node):
        first: dict[str, int] = {}
        for key in keys:
            line = key.start_mark.line + 1
            if key.value in first:
                return UserError(
                    f"{file}, line {line}: the key {key.value!r} stands twice in one block",
                    f"Found it in line {first[key.value]} and again in line {line}; expected each "
                    "key once in a block",
                    f"Remove one of the two from {file}, give it another name, or put together "
                    "what they hold",
                )
            first[key.value] = line
    return None


def _special_key(file: str, node: Any) -> UserError | None:
    for _, keys in _written_keys(node):
        for key in keys:
            if key.tag in _SPECIAL:
                return UserError(
                    f"{file}, line {key.start_mark.line + 1}: the key {key.value!r} is no text",
                    f"Found {key.value!r}, which YAML reads as {_SPECIAL[key.tag]}; expected text",
                    f'Put the key into quotes in {file} ("{key.value}":), or choose another name',
                )
    return None


def _wrong_interpolation(file: str, node: Any) -> UserError | None:
    for scalar in _nodes(node):
        if isinstance(scalar, yaml.ScalarNode) and "${" in scalar.value:
            try:
                parse(scalar.value)
            except GrammarParseError:
                return UserError(
                    f"{file}, line {scalar.start_mark.line + 1}: a reference cannot be read",
                    f"Found {shown(scalar.value)}; expected ${{globals:name}}, closed by a brace",
                    f"Close it in {file}; for the characters ${{ themselves write \\${{",
                )
    return None


def _reason(problem: str) -> str:
    """Return what YAML says is wrong, in words that need no knowledge of it."""
    for said, words in (
        (r"found character '\t'", "a tab; only blanks may stand before a key"),
        ("could not find expected ':'", "a line without the colon that ends a key"),
        ("mapping values are not allowed here", "a colon, or an indentation, where none can stand"),
        ("found unexpected end of stream", "a quote that is not closed"),
        ("expected <block end>", "an indentation, or something behind a quote, that fits nowhere"),
        ("expected ',' or", "a bracket that is not closed, or a comma that is missing"),
        ("expected the node content", "no value where one must stand, or an open bracket"),
        ("special characters are not allowed", "a character that no text has"),
    ):
        if said in problem:
            return f"{words} (YAML: {problem})"
    return problem


def _short(text: str, width: int = 160) -> str:
    plain = " ".join(text.split())
    return plain if len(plain) <= width else f"{plain[: width - 1]}…"
