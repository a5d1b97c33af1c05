"""How true particle sizes are: ``python benchmarks/sizes.py NETWORKS [--seed 99] [--fields 20]``.

NETWORKS is the folder ``data/06_models`` of a finished default study. Fields of 5 nm gold on carbon
are simulated from a seed of their own, imaged at 423 e/Å² and 0.020 nm/px as in the default study,
and segmented by the network of the nearest condition (folds as ensemble). The truth is the outline
that the simulation projects, each pixel given to the particle whose surface is nearest, particles
that the edge cuts left out and corrected for as in the measurement. ``--touching`` puts particles
side by side, to count how often touching ones are told apart.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from temshift.api import load_networks
from temshift.config.deployment import DeploymentParameters
from temshift.config.simulation import SimulationParameters
from temshift.learning.segmentation import Segmenter
from temshift.microscopy import acquisitions
from temshift.microscopy.imaging import resample_mask
from temshift.microscopy.particles import measure_particles
from temshift.microscopy.specimens import build_specimen
from temshift.study.sizes import mean_size

ROOT = Path(__file__).parents[1]
TYPE = "au_5nm"


def true_particles(mask: np.ndarray, particles, width_A: float) -> np.ndarray:
    """Give the pixels of a true mask the number of the particle whose surface is nearest."""
    pixel_A = width_A / len(mask)
    x, y = np.mgrid[: len(mask), : len(mask)] * pixel_A
    surface = []
    for particle in particles:
        dx = (x - particle.x_A + width_A / 2) % width_A - width_A / 2
        dy = (y - particle.y_A + width_A / 2) % width_A - width_A / 2
        surface.append(np.hypot(dx, dy) - particle.diameter_A / 2)
    return np.where(mask > 0, 1 + np.argmin(surface, axis=0), 0)


def measured(numbered: np.ndarray, pixel_size_nm: float) -> pd.DataFrame:
    """Measure numbered particles one by one; a particle across the edge is two cut ones.

    Where faceted particles touch, a few pixels of one can lie nearer to the other: of a particle
    that comes in pieces only the largest counts, and what the edge cuts.
    """
    tables = []
    for i in np.unique(numbered[numbered > 0]):
        pieces, _ = measure_particles(
            (numbered == i).astype(np.uint8), None, pixel_size_nm, neck=0, smallest_area_px2=1
        )
        largest = pieces["area_px2"] == pieces["area_px2"].max()
        tables.append(pieces[largest | pieces["touches_edge"]])
    return pd.concat(tables, ignore_index=True)


def in_contact(numbered: np.ndarray) -> set[frozenset[int]]:
    """Return the pairs of particles with neighbouring pixels."""
    pairs = set()
    for a, b in ((numbered[1:], numbered[:-1]), (numbered[:, 1:], numbered[:, :-1])):
        touch = (a != b) & (a > 0) & (b > 0)
        pairs |= {frozenset(map(int, pair)) for pair in zip(a[touch], b[touch], strict=True)}
    return pairs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", type=Path)
    parser.add_argument("--seed", type=int, default=99)
    parser.add_argument("--fields", type=int, default=20)
    parser.add_argument("--touching", type=float, help="share of particles beside another")
    arguments = parser.parse_args()

    block = yaml.safe_load((ROOT / "conf/base/parameters_simulation.yml").read_text())["simulation"]
    block |= {"seed": arguments.seed, "fields": arguments.fields}
    if arguments.touching is not None:
        block["specimens"][TYPE]["touching"] = arguments.touching
    parameters = SimulationParameters.model_validate(block)
    specimen = parameters.specimens[TYPE]
    support = parameters.supports[specimen.support]
    table = acquisitions.plan(parameters)
    table = table[
        (table["specimen_type"] == TYPE)
        & (table["dose_e_per_A2"] == 423)
        & (table["pixel_size_nm"] == 0.020)
        & (table["session"] == "2024-01-15")
    ]
    waves = dict(
        acquisitions.simulate_specimens(
            TYPE,
            specimen,
            support,
            parameters.multislice,
            parameters.field_width_nm,
            parameters.fields,
            parameters.seed,
        )
    )
    segmenter = Segmenter(load_networks(arguments.networks), DeploymentParameters(judge=False))
    rows = []
    for row in table.to_dict("records"):
        name = row["specimen_id"]
        micrograph, label = acquisitions.expose(waves[name], row, parameters.imaging)
        assert np.array_equal(label, resample_mask(waves[name].mask, len(label)))
        atoms = build_specimen(
            specimen,
            support,
            thermal_displacement_A=parameters.multislice.thermal_displacement_A,
            width_A=waves[name].width_A,
            seed=acquisitions.stable_seed(parameters.seed, name),
        )
        numbered = true_particles(label, atoms.particles, waves[name].width_A)
        truth = measured(numbered, micrograph.pixel_size_nm)
        found = segmenter.segment(
            micrograph.image, micrograph.pixel_size_nm, 423.0, row["material"]
        )
        # a pair is told apart if its two centres lie in two particles of the result
        pairs = apart = 0
        for pair in in_contact(numbered):
            centres = [np.argwhere(numbered == i) for i in pair]
            inside = [found.numbered[tuple(np.median(c, axis=0).astype(int))] for c in centres]
            pairs += 1
            apart += len(set(inside)) == 2 and 0 not in inside
        true_mean = mean_size(truth, "equivalent_diameter_nm")
        rows.append(
            {
                "field": name,
                "true": true_mean,
                "n_true": int((~truth["touches_edge"]).sum()),
                "mean": found.sizes["mean"],
                "n": found.sizes["n_particles"],
                "low": found.sizes["low"],
                "high": found.sizes["high"],
                "specks": found.n_specks,
                "pairs": pairs,
                "apart": apart,
            }
        )
    result = pd.DataFrame(rows)
    result["deviation"] = result["mean"] / result["true"] - 1
    result["holds"] = (result["low"] <= result["true"]) & (result["true"] <= result["high"])
    print(result.round(3).to_string(index=False))
    known = result[np.isfinite(result["mean"]) & np.isfinite(result["true"])]
    print(
        f"\nmean diameter: {known['mean'].mean():.3f} nm, true {known['true'].mean():.3f} nm "
        f"({known['mean'].mean() / known['true'].mean() - 1:+.1%}); median deviation of a field "
        f"{known['deviation'].median():+.1%}, largest {known['deviation'].abs().max():.1%}"
    )
    stated = known[np.isfinite(known["low"])]
    print(
        f"interval of 95 %: stated in {len(stated)} of {len(result)} fields, holds the truth in "
        f"{stated['holds'].sum()} ({stated['holds'].mean():.0%}); median width "
        f"{(stated['high'] - stated['low']).median():.2f} nm"
    )
    print(f"whole particles counted right in {(result['n'] == result['n_true']).sum()} fields")
    print(f"touching pairs told apart: {result['apart'].sum()} of {result['pairs'].sum()}")


if __name__ == "__main__":
    main()
