"""Parameters that messages name do exist: a hint must not lead nowhere."""

import ast
import re
from pathlib import Path

from pydantic import BaseModel

from temshift.config.curation import CurationParameters
from temshift.config.evaluation import EvaluationParameters
from temshift.config.modelling import ModellingParameters
from temshift.config.preprocessing import PreprocessingParameters
from temshift.config.reporting import ReportingParameters

SOURCE = Path(__file__).parents[1] / "src" / "temshift"
BLOCKS = {
    "curation": CurationParameters,
    "evaluation": EvaluationParameters,
    "modelling": ModellingParameters,
    "preprocessing": PreprocessingParameters,
    "reporting": ReportingParameters,
}
NAMED = re.compile(rf"(?<![\w./])({'|'.join(BLOCKS)})((?:\.[A-Za-z]\w*)+)")


def exists(block: str, keys: list[str]) -> bool:
    model = BLOCKS[block]
    for key in keys:
        if key not in model.model_fields:
            return False
        model = model.model_fields[key].annotation
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            return True  # a value, or a union or mapping that is not looked into
    return True


def test_named_parameters_exist():
    named = 0
    for path in sorted(SOURCE.rglob("*.py")):
        if "pipelines" in path.parts:  # there the names are those of datasets
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                for block, keys in NAMED.findall(node.value):
                    named += 1
                    assert exists(block, keys.strip(".").split(".")), f"{path}: {block}{keys}"
    assert named > 20


def test_a_parameter_that_is_gone_is_noticed():
    assert exists("evaluation", ["batch_size"])
    assert not exists("reporting", ["batch_size"])
    assert not exists("modelling", ["training", "batchsize"])
