"""Scripts of ``benchmarks`` and ``docs`` as modules."""

import importlib.util
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[1]


@cache
def load_script(path: str) -> ModuleType:
    """Return the script at a path from the top of the project; dataclasses need its module."""
    name = path.removesuffix(".py").replace("/", "_of_tests_")
    spec = importlib.util.spec_from_file_location(name, ROOT / path)
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
