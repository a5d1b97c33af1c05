"""What opens from a cell of a matrix: its numbers, its specimens one by one, its examples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from temshift.learning.examples import RANKS, Example
from temshift.reporting import svg
from temshift.reporting.content import ReportContent
from temshift.reporting.palette import MARKS
from temshift.reporting.pictures import Pictures
from temshift.reporting.sentences import number, with_interval
from temshift.study.statistics import fold_sums

__all__ = ["Panels", "example_figure", "shown_examples"]

#: Protocol, network and test split.
Place = tuple[str, str, str]


class Panels:
    """The panels of all cells: one a network, test split and protocol, whichever studies show it.

    Parameters
    ----------
    content : ReportContent
    """

    def __init__(self, content: ReportContent) -> None:
        self._content = content
        m = content.matrix
        places = zip(m["protocol"], m["network"], m["test_split"], strict=True)
        self._ids: dict[Place, str] = {}
        for place in places:
            self._ids.setdefault(place, f"cell-{len(self._ids) + 1}")
        keys = ["protocol", "network", "test_split"]
        self._results = dict(iter(content.results.groupby(keys, sort=False)))
        self._matrix = {k: rows.iloc[0] for k, rows in m.groupby(keys, sort=False)}
        self._gaps = dict(iter(content.gaps.groupby(keys, sort=False)))

    def id(self, protocol: str, network: str, split: str) -> str:
        """Return the id of a panel."""
        return self._ids[protocol, network, split]

    @property
    def examples(self) -> list[Example]:
        """All examples that panels show."""
        return [e for place in self._ids for e in self._examples(place)]

    def all(self, pictures: Pictures) -> list[dict[str, Any]]:
        """Return what the template needs of every panel."""
        return [self._panel(place, pictures) for place in self._ids]

    def _examples(self, place: Place) -> list[Example]:
        protocol, network, split = place
        if protocol != self._content.protocol:
            return []
        return shown_examples(self._content, (network, split))

    def _panel(self, place: Place, pictures: Pictures) -> dict[str, Any]:
        protocol, network, split = place
        gaps = self._gaps.get(place)
        gap = None if gaps is None else gaps.iloc[0].to_dict()
        own = (gap["reference_protocol"], split, split) if gap else None
        return {
            "id": self._ids[place],
            "protocol": protocol,
            "network": network,
            "split": split,
            "own": network == split,
            "cell": self._matrix[place].to_dict(),
            "gap": gap,
            "corrected": []
            if gaps is None
            else [
                (self._content.plan.title(str(row["study"])), row["p_holm"])
                for _, row in gaps.iterrows()
            ],
            "spread": self._spread(place, own, gap["verdict"] if gap else ""),
            "examples": [
                example_figure(e, network, pictures, f"{self._ids[place]}-{i}")
                for i, e in enumerate(self._examples(place))
            ],
        }

    def _spread(self, place: Place, own: Place | None, verdict: str) -> str:
        """Draw the Dice of every specimen, of the network and of the set's own."""
        rows = [self._row(place, "this network", verdict)]
        if own is not None and own in self._results:
            rows.append(self._row(own, "the set’s own network", ""))
        return svg.spreads(rows, f"Dice of each {self._content.unit}, a line a fold")

    def _row(self, place: Place, label: str, verdict: str) -> svg.Spread:
        results = self._results[place]
        interval = self._matrix[place] if place in self._matrix else _no_interval(results)
        return svg.Spread(
            svg.Whisker(
                label,
                interval["dice"],
                interval["low"],
                interval["high"],
                f"v-{verdict.replace(' ', '-')}" if verdict else "own",
                with_interval(interval["dice"], interval["low"], interval["high"]),
                mark=MARKS.get(verdict, "◆"),
            ),
            _by_fold(results),
        )


def shown_examples(content: ReportContent, cell: tuple[str, str] | None) -> list[Example]:
    """Return the examples of a network on a split, the best first."""
    if cell is None:
        return []
    network, split = cell
    found = [e for e in content.examples.get(network, []) if e.test_split == split]
    return sorted(found, key=lambda e: RANKS.index(e.rank))


def example_figure(example: Example, network: str, pictures: Pictures, name: str) -> dict[str, Any]:
    """Return an example as the template shows it; the name is that of its enlarged view."""
    picture = pictures.show(example)
    wide = example.image.shape[1] * example.shrunk
    nm = example.pixel_size_nm
    width = f"{wide * nm:.3g} nm" if nm else f"{wide} px"
    return {
        "id": name,
        "rank": example.rank,
        "micrograph_id": example.micrograph_id,
        "dice": example.dice,
        "picture": picture,
        "alt": f"Part of micrograph {example.micrograph_id}, {width} wide, with the outlines of "
        f"its label and of what the network {network} predicts: Dice {number(example.dice)} over "
        f"the whole micrograph, the {example.rank} of the set {example.test_split}",
    }


def _by_fold(results: pd.DataFrame) -> list[list[tuple[float, str]]]:
    """Return the Dice of every group, fold by fold, in words."""
    sums = fold_sums(results)
    values, tested = sums.values, sums.weights > 0
    folds = sorted(set(results["fold"]))
    return [
        [
            (float(values[f, g]), f"{group}: {number(float(values[f, g]))} (fold {fold})")
            for g, group in enumerate(sums.groups)
            if tested[f, g]
        ]
        for f, fold in enumerate(folds)
    ]


def _no_interval(results: pd.DataFrame) -> Mapping[str, float]:
    return {"dice": fold_sums(results).mean, "low": float("nan"), "high": float("nan")}
