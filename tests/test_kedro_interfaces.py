"""What the project uses of Kedro that Kedro does not promise to keep.

Each test names a private interface and where it is used. One that fails after an update of Kedro
says what has to be looked at; the rest of the project keeps to the documented interfaces.
"""

import importlib
import inspect

import pytest
from kedro.framework.cli.project import run as kedro_run
from kedro.framework.context import KedroContext
from kedro.framework.hooks.specs import PipelineSpecs
from kedro.framework.project import pipelines
from kedro.io import AbstractDataset, CachedDataset, DataCatalog, MemoryDataset
from kedro.pipeline import Node, Pipeline
from kedro.runner import SequentialRunner, Task
from kedro.validation.type_extractor import TypeExtractor
from kedro_datasets.json import JSONDataset
from kedro_datasets.partitions import PartitionedDataset
from pydantic import BaseModel

from temshift.binding import bind
from temshift.catalog.content import content_paths, reading_options


def parameters(function) -> list[str]:
    return list(inspect.signature(function).parameters)


def test_the_loop_of_a_runner():
    """runner/incremental.py takes the place of ``_run`` and calls what it calls."""
    assert parameters(SequentialRunner._run) == [
        *("self", "pipeline", "catalog", "hook_manager", "run_id"),
    ]
    assert parameters(SequentialRunner._release_datasets) == [
        *("node", "catalog", "load_counts", "pipeline"),
    ]
    assert parameters(SequentialRunner._suggest_resume_scenario) == [
        *("self", "pipeline", "done_nodes", "catalog"),
    ]
    runner = SequentialRunner(is_async=True)
    assert runner._is_async is True
    assert runner._logger.name == "kedro.runner.sequential_runner"


def test_the_task_of_a_node():
    """runner/incremental.py makes them with arguments by position."""
    assert parameters(Task.__init__)[:6] == [
        *("self", "node", "catalog", "is_async", "hook_manager", "run_id"),
    ]
    assert callable(Task.execute)


def test_a_runner_materialises_its_datasets():
    """runner/freshness.py asks for each by ``catalog.get``, those in memory too."""
    asked = []

    class Runner(SequentialRunner):
        def _run(self, pipeline, catalog, hook_manager=None, run_id=None):
            asked.extend(type(catalog.get(name)) for name in sorted(pipeline.datasets()))

    node = Node(lambda x: x, "params:x", "kept_nowhere", name="node")
    Runner().run(Pipeline([node]), DataCatalog({"params:x": MemoryDataset(1)}))
    assert asked == [MemoryDataset, MemoryDataset]
    assert MemoryDataset().exists() is False
    assert MemoryDataset(1).exists() is True


def test_where_datasets_of_kedro_are_kept_and_how_they_write(tmp_path):
    """catalog/content.py reads ``_filepath``, ``_path``, ``_dataset``, ``_protocol``, arguments."""
    path = tmp_path / "x.json"
    dataset = JSONDataset(filepath=str(path), save_args={"indent": 1})
    assert content_paths(dataset) == [path]
    assert content_paths(CachedDataset(dataset)) == [path]
    assert content_paths(PartitionedDataset(path=str(tmp_path), dataset=JSONDataset)) == [tmp_path]
    assert content_paths(JSONDataset(filepath="memory://x.json")) == []
    assert content_paths(MemoryDataset(1)) == []
    assert reading_options(dataset, "save_args") == {"indent": 1}
    assert reading_options(dataset, "load_args") is None


def test_every_dataset_of_the_project_says_where_it_is_kept():
    modules = ("exit_waves", "micrographs", "networks", "patch_stack", "provenance")
    found = 0
    for name in (*modules, "published", "reports"):
        module = importlib.import_module(f"temshift.catalog.{name}")
        own = [c for c in vars(module).values() if getattr(c, "__module__", "") == module.__name__]
        for cls in own:
            if isinstance(cls, type) and issubclass(cls, AbstractDataset):
                found += 1
                assert callable(getattr(cls, "content_paths", None)), cls
    assert found > 8


def test_previews_for_kedro_viz():
    """The datasets of catalog/ return them from ``preview``."""
    typing = importlib.import_module("kedro_datasets._typing")
    assert typing.ImagePreview("x") == "x"
    assert typing.HTMLPreview("x") == "x"


def test_the_command_run_has_a_runner_to_be_replaced():
    """cli.py copies the command and changes the default of this option."""
    (option,) = [p for p in kedro_run.params if p.name == "runner"]
    assert "--runner" in option.opts
    assert "runner_params" in [p.name for p in kedro_run.params]


def test_a_context_has_its_configuration_loader():
    """context.py keeps it for the registry of pipelines."""
    fields = {attribute.name for attribute in KedroContext.__attrs_attrs__}
    assert "config_loader" in fields


def test_a_context_validates_parameters_of_the_pipelines_asked_for():
    """context.py widens it to all pipelines: by ``_pipelines_to_validate`` and this method."""
    assert parameters(KedroContext._get_validated_params) == ["self"]
    fields = {attribute.name for attribute in KedroContext.__attrs_attrs__}
    assert "_pipelines_to_validate" in fields
    assert parameters(pipelines.set_requested) == ["pipeline_names"]


def test_the_hook_before_a_run():
    """hooks.py takes these arguments by name."""
    assert {"run_params", "pipeline", "catalog"} <= set(
        parameters(PipelineSpecs.before_pipeline_run)
    )


class _Model(BaseModel):
    x: int = 1


def _function(name: str, model: _Model) -> int:
    return model.x


def test_types_of_parameters_are_read_from_bound_functions():
    """binding.py shows Kedro the arguments that are left."""
    node = Node(bind(_function, "a"), "params:model", "out", name="node")
    found = TypeExtractor({"p": Pipeline([node])}).extract_types_from_pipelines()
    assert found == {"model": _Model}


@pytest.mark.parametrize("method", ["_describe", "_exists"])
def test_methods_that_datasets_override(method):
    """The datasets of catalog/ define them, as Kedro's guide to custom datasets says."""
    assert callable(getattr(AbstractDataset, method))
