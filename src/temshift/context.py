"""Parameters for the pipeline registry, checked as a whole before anything is made of them.

The registry builds one namespace a split, so it must read the parameters before Kedro hands them
to the nodes. A context class keeps the session's configuration loader for it; without a session
(``kedro registry list``) the loader is made from the settings. Kedro-Viz runs without hooks, so a
hook could not do this.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from kedro.config import AbstractConfigLoader, MissingConfigException, OmegaConfigLoader
from kedro.framework.context import CatalogCommandsMixin, KedroContext
from kedro.framework.project import pipelines, settings
from kedro.io import DataCatalog
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError

from temshift.catalog.remote import Remote, copies_here
from temshift.catalog.study_catalog import Origin, StudyCatalog
from temshift.config.check import check_parameters
from temshift.config.cluster import ClusterParameters
from temshift.config.errors import UserError, invalid, problems_of
from temshift.config.modelling import ModellingParameters
from temshift.config.plan import StudyPlan
from temshift.config.sweep import SweepParameters
from temshift.config.yaml_files import set_twice, unlike_kinds, wrong_content, wrong_file
from temshift.mistakes import as_user_error, environment_exists
from temshift.progress import said_if_slow

_log = logging.getLogger(__name__)

_loader: AbstractConfigLoader | None = None
_checked: tuple[AbstractConfigLoader, dict[str, Any]] | None = None
_catalog: tuple[AbstractConfigLoader, dict[str, Any]] | None = None


class OrderedConfigLoader(OmegaConfigLoader):
    """Kedro's loader, which takes the files of a folder in the order of their names.

    Kedro takes them as a set, so that blocks in several files (``networks``) come in another order
    in every process: another order of rows and of what the report says. And it tells what is wrong
    with a file without saying which.

    Raises
    ------
    UserError
        (from ``loader[...]``) a file cannot be read, or two of one environment set the same key.
    """

    def _read_dir_configs(
        self, conf_path: str, patterns: Iterable[str], *args: Any, **kwargs: Any
    ) -> dict[Path, Any]:
        patterns = list(patterns)
        try:
            configs = super()._read_dir_configs(conf_path, patterns, *args, **kwargs)
        except (MissingConfigException, UserError):
            raise
        except Exception as error:
            for path in self._files(conf_path, patterns):
                problem = wrong_file(self._said(path), self._content(path))
                if problem is not None:
                    raise problem from error
            raise
        return dict(sorted(configs.items()))

    def _check_duplicates(self, key: str, config_per_file: dict[Path, Any]) -> None:
        """Refuse files that are no blocks of named keys, and keys that two of them set."""
        contents: dict[str, Any] = {}
        for path, config in sorted(config_per_file.items()):
            file = self._said(path)
            content = OmegaConf.to_container(config, resolve=False)
            problem = wrong_content(file, content)
            if problem is None and not _named(content):
                problem = wrong_file(file, self._content(path))
            if problem is not None:
                raise problem
            contents[file] = content
        twice = set_twice(contents, deep=key == "parameters")
        if twice is not None:
            raise twice

    def _resolve_from_raw_config(
        self, key: str, base_configs: dict[Path, Any], env_configs: dict[Path, Any], *args: Any
    ) -> dict[str, Any]:
        contents: dict[str, Any] = {  # before: Kedro merges all of them into the first
            self._said(path): OmegaConf.to_container(config, resolve=False)
            for configs in (base_configs, env_configs)
            for path, config in configs.items()
        }
        if key == "parameters":
            contents["--params"] = dict(self.runtime_params or {})
        try:
            found: dict[str, Any] = super()._resolve_from_raw_config(
                key, base_configs, env_configs, *args
            )
        except OmegaConfBaseException as error:
            raise _in_its_file(error, contents) from error
        return found

    def _files(self, conf_path: str, patterns: Iterable[str]) -> list[Path]:
        """Return the files that Kedro reads in a folder, in the order of their names."""
        found = {
            Path(path)
            for pattern in patterns
            for path in self._fs.glob(Path(f"{conf_path}/{pattern}").as_posix())
            if not self.ignore_hidden or not self._is_hidden(path)
        }
        return sorted(filter(self._is_valid_config_path, found))

    def _content(self, path: Path) -> bytes:
        with self._fs.open(path.as_posix()) as file:
            content: bytes = file.read()
        return content

    def _said(self, path: Path) -> str:
        """Return a file as messages name it: from the folder of the project on."""
        folder = Path(self.conf_source).parent
        return str(path.relative_to(folder) if path.is_relative_to(folder) else path)


def _named(content: Any) -> bool:
    """Whether all keys of a block, and of those in it, are text or numbers."""
    if isinstance(content, list):
        return all(map(_named, content))
    if not isinstance(content, dict):
        return True
    return not any(isinstance(key, bool) or key is None for key in content) and all(
        map(_named, content.values())
    )


def _in_its_file(error: OmegaConfBaseException, contents: dict[str, Any]) -> UserError:
    """Return the error for values that cannot be put together, with the file they stand in."""
    unlike = unlike_kinds(contents)
    if isinstance(error, TypeError) and unlike is not None:
        return unlike
    told = as_user_error(error)
    key = ".".join(re.findall(r"[^.\[\]]+", error.full_key or ""))
    files = [file for file, content in contents.items() if key and _reach(content, key) == len(key)]
    if not files:
        return told
    what = told.what.removeprefix("conf: ")
    return UserError(f"{files[-1]}, {error.full_key}: {what}", told.found, told.remedy)


class _ShellCatalog(StudyCatalog, CatalogCommandsMixin):
    """As Kedro composes its own catalog: with what ``kedro catalog`` asks."""


def _names_of_datasets() -> set[str]:
    """Return the datasets of all pipelines."""
    return set().union(*(pipeline.datasets() for pipeline in dict(pipelines).values()))


def _makers_of_datasets() -> dict[str, str]:
    """Return what pipelines write, each with the pipeline."""
    return {
        dataset: name
        for name, pipeline in dict(pipelines).items()
        if name != "__default__"
        for dataset in pipeline.all_outputs()
    }


class ProjectContext(KedroContext):
    """Kedro's context, which remembers its configuration loader for the registry.

    All pipelines are registered and all parameters validated, whichever are asked for. Kedro would
    leave the parameters of the others as they stand in the files: ``--pipelines
    generalization_reporting`` would get other values than a run of the whole study, and repeat
    what is up to date.

    Raises
    ------
    UserError
        The environment does not exist, or its parameters are not valid.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        global _loader
        _loader = self.config_loader
        pipelines.set_requested(None)
        project_parameters()
        self._cluster = _cluster_parameters(self.config_loader)
        keep_statistics_apart(self.env)

    def _get_catalog(self, catalog_class: type = DataCatalog, *args: Any, **kwargs: Any) -> Any:
        """Return the catalog; ours too where Kedro would take its own (shell, notebooks)."""
        if catalog_class is DataCatalog:
            catalog_class = _ShellCatalog
        with said_if_slow("Reading the catalog", _log):
            catalog = super()._get_catalog(catalog_class, *args, **kwargs)
        if isinstance(catalog, StudyCatalog):
            catalog.known = _names_of_datasets
            catalog.makers = _makers_of_datasets
            modelling = project_parameters()["modelling"]
            catalog.origin = Origin(
                project=Path(self.project_path),
                conf_source=str(self.config_loader.conf_source),
                env=self.env,
                parameters=dict(self.config_loader.runtime_params or {}),
                cluster=self._cluster,
                folds=ModellingParameters.model_validate(modelling).folds,
                gpu=modelling.get("device") not in ("cpu", "mps"),
                configuration=_configuration(self.config_loader),
            )
        return catalog

    def _get_validated_params(self) -> dict[str, Any]:
        self._pipelines_to_validate = None
        params: dict[str, Any] = super()._get_validated_params()
        return params


def keep_statistics_apart(env: str | None) -> None:
    """Let Kedro-Viz write and read the statistics of datasets in a folder an environment.

    It has one file for all: a run in miniature would leave its rows and sizes beside the datasets
    of the study.
    """
    try:
        from kedro_viz.constants import VIZ_METADATA_ARGS
    except ImportError:
        return
    VIZ_METADATA_ARGS["path"] = f".viz/{env or settings.CONFIG_LOADER_ARGS['default_run_env']}"


def project_parameters() -> dict[str, Any]:
    """Return the raw parameters of the running environment, after all have been checked.

    They are read once a session.

    Raises
    ------
    UserError
        The environment does not exist, a file of it is no YAML, or a parameter is not valid.
    """
    global _checked
    loader = _loader
    if loader is None:
        root = Path(os.environ.get("KEDRO_PROJECT_PATH", _find_root()))
        loader = _without_session(root, os.environ.get("KEDRO_ENV"))
    if _checked is None or _checked[0] is not loader:
        environment_exists(Path(loader.conf_source), loader.env)
        try:
            parameters = dict(loader["parameters"])
        except Exception as error:
            raise as_user_error(error) from error
        check_parameters(parameters, _own_pipelines(), lambda key: _where(loader, key))
        _checked = loader, parameters
    return dict(_checked[1])


def any_trained(networks: Iterable[str]) -> bool:
    """Return whether the running environment holds weights of one of these networks."""
    return any(
        PurePosixPath(file).match("*/model.safetensors")
        for name in networks
        for file in _files_of("{network}.networks", network=name)
    )


def has_patches(split: str) -> bool:
    """Return whether the running environment holds the patches of a split."""
    return bool(_files_of("{split}.patches", split=split))


def _files_of(pattern: str, **owner: str) -> list[str]:
    """Return the files of the dataset of a split or network, here or in an object store.

    By its pattern in the catalog; up to one folder deep, relative to its own. A file has one of no
    name. Where the store does not answer the copies here stand for it: whoever loads will say why.
    """
    entry = {**_entry(pattern)}
    entry["filepath"] = entry["filepath"].format(**owner)
    here, options = copies_here(entry)
    path = _project() / here["filepath"]
    place = Remote.of(path, options) if options is not None else path
    if isinstance(place, Remote):
        try:
            return list(place.listing())
        except UserError as error:
            _log.debug("%s", error)
    if path.is_file():
        return [""]
    return [file.relative_to(path).as_posix() for file in path.glob("*/*")]


def _project() -> Path:
    assert _checked is not None
    return Path(_checked[0].conf_source).parent


def _entry(pattern: str) -> dict[str, Any]:
    """Return what the catalog says of a pattern, with its credentials."""
    project_parameters()
    assert _checked is not None
    loader = _checked[0]
    try:
        entry = dict(_catalog_of(loader)[pattern])
        if isinstance(entry.get("credentials"), str):
            entry["credentials"] = loader["credentials"][entry["credentials"]]
    except Exception as error:
        raise as_user_error(error) from error
    return entry


def _catalog_of(loader: AbstractConfigLoader) -> dict[str, Any]:
    """Return the entries of the catalog; a third of a second, so they are read once."""
    global _catalog
    if _catalog is None or _catalog[0] is not loader:
        _catalog = loader, loader["catalog"]
    return _catalog[1]


def _configuration(loader: AbstractConfigLoader) -> str:
    """Return a digest of the parameters and the catalog: by others the same nodes do other work."""
    text = json.dumps([project_parameters(), _catalog_of(loader)], default=str)
    return hashlib.sha256(text.encode()).hexdigest()


@lru_cache(maxsize=1)
def _without_session(root: Path, env: str | None) -> AbstractConfigLoader:
    loader: AbstractConfigLoader = settings.CONFIG_LOADER_CLASS(
        conf_source=str(root / settings.CONF_SOURCE), env=env, **settings.CONFIG_LOADER_ARGS
    )
    return loader


def study_plan() -> StudyPlan:
    """Return the validated splits, studies and networks of the running environment."""
    return StudyPlan.from_parameters(project_parameters())


def declared_in_vain() -> dict[str, str]:
    """Return the splits and networks that the environment declares and no study names.

    As keys (``networks.resnet``), each with the file that it stands in. What only ``base`` declares
    is left out: an environment takes of it what it needs. So are the image sets of a sweep.
    """
    if _loader is None:
        return {}
    sweep = project_parameters().get("sweep")
    sets = SweepParameters.model_validate(sweep).sets([]) if sweep else []
    unused = [key for key in study_plan().unused if key not in {f"splits.{s}" for s in sets}]
    sources = list(_sources(_loader, base=False)) if unused else []
    places = {}
    for key in unused:
        files = [name for name, content in sources if _reach(content, key) == len(key)]
        if files:
            places[key] = files[0]
    return places


def _cluster_parameters(loader: AbstractConfigLoader) -> ClusterParameters | None:
    """Return what ``cluster.yml`` of the environment says, ``None`` if it has none.

    Raises
    ------
    UserError
        The file is no YAML, or a key of it is not valid.
    """
    try:
        content = loader["cluster"]
    except MissingConfigException:
        return None
    except Exception as error:
        raise as_user_error(error) from error
    try:
        return ClusterParameters.model_validate(content)
    except ValidationError as error:
        file = f"conf/{loader.env or settings.CONFIG_LOADER_ARGS['default_run_env']}/cluster.yml"
        raise invalid(problems_of(error, "cluster"), lambda key: file) from error


def _own_pipelines() -> list[str]:
    """Return the names of the pipelines' folders: a pipeline may have a block of its name."""
    return [p.parent.name for p in (Path(__file__).parent / "pipelines").glob("*/__init__.py")]


def _where(loader: AbstractConfigLoader, key: str) -> str:
    """Return where a parameter is set: ``--params`` or a file, the one that wins."""
    found, reach = f"conf/{loader.env or 'base'}", 0
    for name, content in _sources(loader):
        if (here := _reach(content, key)) > reach:
            found, reach = name, here
    return found


def _sources(loader: AbstractConfigLoader, base: bool = True) -> Iterator[tuple[str, Any]]:
    """Yield where parameters are set, and which, what wins first; without ``base`` if so asked."""
    import yaml

    yield "--params", loader.runtime_params or {}
    conf = Path(loader.conf_source)
    default = settings.CONFIG_LOADER_ARGS["default_run_env"]
    below = settings.CONFIG_LOADER_ARGS["base_env"]
    for env in (loader.env or default, below):
        if env == below and not base:
            continue
        for file in sorted((conf / env).glob("**/parameters*")):
            if file.suffix not in (".yml", ".yaml", ".json"):
                continue
            yield str(file.relative_to(conf.parent)), yaml.safe_load(file.read_text("utf-8"))


def _reach(content: Any, key: str) -> int:
    """Return how many characters of a key such as ``studies.dose.splits.0`` lead somewhere.

    A name in it may have dots of its own (``sweep.space.modelling.folds``), and be no text in YAML
    (``splits.2024``).
    """
    if isinstance(content, dict):
        entries: Iterable[tuple[Any, Any]] = content.items()
    else:
        entries = enumerate(content) if isinstance(content, list) else ()
    reach = 0
    for name, inner in entries:
        start = f"{name}."
        if f"{key}.".startswith(start):
            further = _reach(inner, key[len(start) :])
            reach = max(reach, len(start) - 1 + (further and further + 1))
    return reach


def _find_root() -> Path:
    from kedro.utils import find_kedro_project

    found = find_kedro_project(Path.cwd())
    if found is None:
        raise UserError(
            f"{Path.cwd()} lies in no project",
            "Found no pyproject.toml with [tool.kedro]; expected one here or above",
            "Change to the project's folder and repeat the command",
        )
    return Path(found)
