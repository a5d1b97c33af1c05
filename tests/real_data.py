"""Real data to check the work against, which are not part of the project: beside its folder."""

from pathlib import Path

SHARED = Path(__file__).parents[2] / "shared"
