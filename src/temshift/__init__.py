"""temshift: how TEM segmentation networks fail when the microscope or the sample changes."""

from typing import Any

from temshift.parallel import share_one_heap

__version__ = "0.1.0"

__all__ = ["__version__", "fine_tune", "judge_mask", "segment"]

share_one_heap()  # before numpy and torch, which begin threads


def __getattr__(name: str) -> Any:
    """Import what is public, and heavy, when it is first asked for."""
    if name in ("fine_tune", "judge_mask", "segment"):
        from temshift import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
