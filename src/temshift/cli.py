"""Project commands: Kedro's own ``run``, with our runner as its default and errors in three lines.

Here, and only here, an error is told to the user; what its lines say,
:func:`temshift.mistakes.as_user_error` knows. The traceback is in ``info.log``, and printed with
``--verbose`` (or if the environment variable ``TEMSHIFT_VERBOSE`` is 1).
"""

from __future__ import annotations

import logging
import os
import sys
import sysconfig
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import click
from kedro.framework.cli.project import ipython as kedro_ipython
from kedro.framework.cli.project import run as kedro_run

from temshift import __version__
from temshift.config.errors import UserError
from temshift.mistakes import as_user_error, unknown_name

_log = logging.getLogger(__name__)

VERBOSE = "TEMSHIFT_VERBOSE"


@click.group(name="temshift")
def cli() -> None:
    """Commands of the project."""


class Told(click.ClickException):
    """An error in its three lines, as a command ends with it."""

    def __init__(self, error: UserError) -> None:
        super().__init__(str(error))
        self.error = error

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the error; the last three lines are what, found and expected, remedy."""
        for line in self.error.details:
            click.echo(line, err=True)
        for head, line in zip(
            ("Error:  ", "        ", "Remedy: "),
            (self.error.what, self.error.found, self.error.remedy),
            strict=True,
        ):
            click.secho(f"{head}{line}", fg="red" if head.startswith("E") else None, err=True)


def told(error: BaseException, verbose: bool = False) -> Told:
    """Return an error as it is told; leave its traceback in the log file."""
    shout = verbose or os.environ.get(VERBOSE, "") not in ("", "0")
    _log.log(logging.ERROR if shout else logging.DEBUG, "Traceback", exc_info=error)
    return Told(as_user_error(error))


class Run(click.Command):
    """``kedro run`` whose every error is told in three lines."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Read the arguments; tell what is wrong with them."""
        try:
            return super().make_context(*args, **kwargs)
        except click.UsageError as error:
            message = error.format_message()
            found, _, meant = message.partition(" Did you mean ")
            raise Told(
                UserError(
                    "An argument of kedro run is not valid",
                    found,
                    f"Did you mean {meant}" if meant else "See kedro run --help",
                )
            ) from error
        except click.exceptions.Exit:
            raise
        except Exception as error:
            raise told(error) from error

    def invoke(self, ctx: click.Context) -> Any:
        """Run; tell what stopped the run."""
        verbose = ctx.params.pop("verbose", False)
        node_log = logging.getLogger("kedro.pipeline.node")
        node_log.addFilter(_tells_no_error)
        try:
            _check_names(ctx.params)
            env = ctx.params.get("env")
            _log.info("temshift %s%s", __version__, f", environment {env}" if env else "")
            return super().invoke(ctx)
        except click.exceptions.Exit:
            raise
        except Exception as error:
            raise told(_unknown_node(error, ctx.params) or error, verbose) from error
        finally:
            node_log.removeFilter(_tells_no_error)


def _tells_no_error(record: logging.LogRecord) -> bool:
    """Whether a line of Kedro's is no error: it would be told twice."""
    return record.levelno < logging.ERROR


def _check_names(chosen: dict[str, Any]) -> None:
    """Refuse pipelines and a runner that do not exist, which Kedro would try to import."""
    folder = Path(__file__).parent / "pipelines"
    pipelines = ["__default__", *(p.parent.name for p in folder.glob("*/__init__.py"))]
    for name in [*(chosen.get("pipelines") or []), chosen.get("pipeline")]:
        if name and name not in pipelines:
            raise unknown_name("pipeline", name, pipelines, "Name one of these with --pipelines")
    runner = chosen.get("runner") or ""
    runners = [
        *("SequentialRunner", "ThreadRunner", "ParallelRunner"),
        "temshift.runner.IncrementalRunner",
    ]
    if runner not in runners and ("." not in runner or runner.startswith("temshift.")):
        raise unknown_name("runner", runner, runners, "Name one of these with --runner")
    own = {"is_async", "force", "wait", "workers"}
    known = own if runner == runners[-1] else {"is_async", "max_workers"}
    for name in chosen.get("runner_params") or {}:
        if runner in runners and name not in known:
            remedy = f"Give {runner} one of these with --runner-params"
            raise unknown_name("runner parameter", name, known, remedy)


def _unknown_node(error: Exception, chosen: dict[str, Any]) -> UserError | None:
    """Return what of the options that choose nodes does not exist, if that is what went wrong."""
    from kedro.framework.project import pipelines
    from kedro.pipeline import Pipeline

    if not pipelines._content or not str(error).startswith("Pipeline "):
        return None  # registering them has failed, or something else
    names = [*(chosen.get("pipelines") or []), chosen.get("pipeline")]
    asked = [name for name in names if name] or ["__default__"]
    whole = sum((pipelines[name] for name in asked), Pipeline([]))
    spaces = {n.namespace for n in whole.nodes if n.namespace}
    options: list[tuple[str, str, Iterable[str]]] = [
        ("tags", "tag", {tag for n in whole.nodes for tag in n.tags}),
        ("node_names", "node", [n.name for n in whole.nodes]),
        ("from_nodes", "node", [n.name for n in whole.nodes]),
        ("to_nodes", "node", [n.name for n in whole.nodes]),
        ("from_inputs", "input", whole.inputs() | whole.all_outputs()),
        ("to_outputs", "output", whole.all_outputs()),
        ("namespaces", "namespace", spaces),
    ]
    for option, kind, valid in options:
        for name in chosen.get(option) or ():
            if name not in set(valid):
                if (unnamed := _named_by_no_study(name)) is not None:
                    return unnamed
                flag = "--nodes" if option == "node_names" else f"--{option.replace('_', '-')}"
                where = ", ".join(asked).replace("__default__", "the default pipeline")
                return unknown_name(
                    f"{kind} of {where}", name, valid, f"Name one of these with {flag}"
                )
    given = [option for option, *_ in options if chosen.get(option)]
    if given and "no nodes after" in str(error):
        flags = " and ".join(f"--{option.replace('_', '-')}" for option in given)
        return UserError(
            "No node is left to run",
            f"Found no node that {flags} leave together; expected at least one",
            "Give fewer of these options; kedro registry describe lists a pipeline's nodes",
        )
    if "no nodes after" in str(error) and asked != ["__default__"]:
        return UserError(
            f"The pipeline {asked[0]} has nothing to do in this environment",
            f"Found no block {asked[0]!r} in its parameters; expected one that says what is asked",
            f"Write it into a file of the environment (conf/*/parameters_{asked[0]}.yml has an "
            "example), or name one that has it with --env",
        )
    return None


def _named_by_no_study(name: str) -> UserError | None:
    """Return the error for what belongs to a split or network that no study names, if it does."""
    from temshift.context import study_plan

    for key in study_plan().unused:
        block, _, owner = key.partition(".")
        if owner in name.split("."):
            return UserError(
                f"{name!r} is not made: {key} is declared, but no study names it",
                f"Found {owner!r} in {block!r} and in no study; expected it in studies.<name>."
                f"{block}",
                f"Add {owner!r} to {block!r} of a study, e.g. studies.<name>.{block}: [{owner}]",
            )
    return None


def _run_command() -> click.Command:
    params = list(kedro_run.params)
    for i, param in enumerate(params):
        if param.name == "runner":
            params[i] = click.Option(
                ["--runner", "-r"],
                default="temshift.runner.IncrementalRunner",
                help=getattr(param, "help", None),
            )
    params.append(
        click.Option(
            ["--verbose", "-v"],
            is_flag=True,
            envvar=VERBOSE,
            help="Print the traceback of an error, which info.log holds in any case.",
        )
    )
    return Run("run", callback=kedro_run.callback, params=params, help=kedro_run.help)


run = _run_command()
cli.add_command(run)


class Shell(click.Command):
    """``kedro ipython`` of the environment that ``kedro`` itself is run from."""

    def invoke(self, ctx: click.Context) -> Any:
        """Start it; Kedro looks for ``ipython`` on the path, where another one may come first."""
        own = sysconfig.get_path("scripts")
        os.environ["PATH"] = os.pathsep.join(filter(None, (own, os.environ.get("PATH"))))
        return super().invoke(ctx)


cli.add_command(
    Shell(
        "ipython",
        callback=kedro_ipython.callback,
        params=list(kedro_ipython.params),
        help=kedro_ipython.help,
        context_settings=kedro_ipython.context_settings,
    )
)


def tell_uncaught(
    kind: type[BaseException],
    error: BaseException,
    trace: TracebackType | None,
    otherwise: Callable[..., Any] = sys.__excepthook__,
) -> None:
    """Tell what stopped another command of Kedro's (``sys.excepthook``)."""
    if not issubclass(kind, Exception):
        otherwise(kind, error, trace)
        return
    told(error).show()


sys.excepthook = tell_uncaught
