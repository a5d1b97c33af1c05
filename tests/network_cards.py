"""Cards of networks for tests."""

from typing import Any

from temshift.learning.cards import NetworkCard, read_card

CARD: dict[str, Any] = {
    "network": "a",
    "protocol": "grouped",
    "fold": 0,
    "folds": 2,
    "seed": 1,
    "train_on": ["a"],
    "architecture": {"name": "published_unet"},
    "training": {"steps": 4, "background_threshold": 10},
    "augmentation": {},
    "preprocessing": None,
    "pixel_size_nm": 0.02,
    "dose_e_per_A2": 400.0,
    "material": "Au",
    "diameter_nm": 5.0,
    "fingerprints": {},
    "train_groups": ["s0"],
    "test_groups": ["s1"],
    "history": [],
    "version": "0",
}


def network_card(**changes: Any) -> NetworkCard:
    """Return a card; ``changes`` replace keys."""
    return read_card({**CARD, **changes})
