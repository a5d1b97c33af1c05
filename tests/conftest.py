"""Fixtures shared by all tests."""

import os

import numpy as np
import pytest
from hypothesis import settings

# shared, throttled machines: a slow example is no failure
settings.register_profile("temshift", deadline=None, derandomize=True)
settings.load_profile("temshift")
os.environ.setdefault("TQDM_DISABLE", "1")


@pytest.fixture
def rng() -> np.random.Generator:
    """A seeded random generator."""
    return np.random.default_rng(0)
