"""How true particle sizes are: ``python benchmarks/sizes.py NETWORKS [--seed 99] [--fields 20]``.

NETWORKS is the folder ``data/06_models`` of a finished default study. Fields of 5 nm gold on carbon
are simulated from a seed of their own, imaged at 423 e/Å² and 0.020 nm/px as in the default study,
and segmented by the network of the nearest condition, or ``--network`` (folds as ensemble). Where
several are equally near the first is taken; with ``--judged``, as in a run, the one that the trust
of the study believes most. The truth is the outline that the simulation projects, each pixel given
to the particle whose surface is nearest, particles that the edge cuts left out and corrected for as
in the measurement. ``--touching`` puts particles side by side, to count how often touching ones are
told apart; as a null, single particles must not be divided. The fields are one folder: intervals
are made with the spread that they share, and with the Dice that the study measured on its own
fields (``07_model_output/results.parquet``; without it the outline counts nothing). They are meant
to hold the mean of the population, which is that of all true particles; held against the few
particles of its own field an interval is too wide by design.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from temshift.api import load_networks, load_trust
from temshift.config.deployment import DeploymentParameters
from temshift.config.simulation import SimulationParameters
from temshift.learning.segmentation import Segmenter
from temshift.microscopy import acquisitions
from temshift.microscopy.imaging import resample_mask
from temshift.microscopy.particles import measure_particles
from temshift.microscopy.specimens import build_specimen
from temshift.study.sizes import mean_size, share_spread

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


def centre_pieces(numbered: np.ndarray, particles, width_A: float) -> np.ndarray:
    """Return of every particle only the piece in which its centre lies.

    The field is periodic: what leaves it on one side comes in on the other, as another piece.
    """
    from scipy.ndimage import label

    pieces = np.zeros_like(numbered)
    for i, (row, column) in centres(particles, width_A, len(numbered)).items():
        own, _ = label(numbered == i)
        if own[row, column]:
            pieces[own == own[row, column]] = i
    return pieces


def centres(particles, width_A: float, n: int) -> dict[int, tuple[int, int]]:
    """Return the pixel in which the centre of each particle lies, by its number."""
    return {
        i: (round(p.x_A / width_A * n) % n, round(p.y_A / width_A * n) % n)
        for i, p in enumerate(particles, start=1)
    }


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
    parser.add_argument("--network", help="by name; else the nearest, of equals the first")
    parser.add_argument("--judged", action="store_true", help="with the trust of the study")
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
    named = [arguments.network] if arguments.network else "nearest"
    networks = load_networks(arguments.networks)
    evidence = arguments.networks.parent / "07_model_output" / "trust"
    segmenter = Segmenter(
        networks,
        DeploymentParameters(judge=arguments.judged, networks=named),
        load_trust(evidence, networks) if arguments.judged else None,
    )
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
        found = segmenter.segment(
            micrograph.image, micrograph.pixel_size_nm, 423.0, row["material"]
        )
        rows.append(compare(name, numbered, atoms.particles, waves[name].width_A, found))
    study = arguments.networks.parent / "07_model_output" / "results.parquet"
    drew = pd.Series([row["found"].network for row in rows]).value_counts()
    print(", ".join(f"{name} drew {n}" for name, n in drew.items()))
    report(rows, own_dice(study, drew.index[0]) if study.exists() else None)


def own_dice(results: Path, network: str) -> float:
    """Return the mean Dice of a network on the micrographs of its own set, none of them seen."""
    table = pd.read_parquet(results)
    own = table[(table["network"] == network) & table["in_domain"]]
    return float(own.loc[own["protocol"] == "grouped", "dice"].mean())


def compare(name: str, numbered: np.ndarray, particles, width_A: float, found) -> dict:
    """Return what is true of a field, and what was found."""
    pixel_size_nm = found.pixel_size_nm
    truth = measured(numbered, pixel_size_nm)
    pieces = centre_pieces(numbered, particles, width_A)
    middle = centres(particles, width_A, len(numbered))
    apart = []  # a pair is told apart if its two centres lie in two particles of the result
    for pair in in_contact(pieces):
        inside = {int(found.numbered[middle[i]]) for i in pair}
        apart.append(len(inside) == 2 and 0 not in inside)
    divided, all_of_it = 0, np.bincount(found.numbered.ravel())
    for i in np.unique(pieces[pieces > 0]):
        own = np.bincount(found.numbered[pieces == i], minlength=len(all_of_it))
        divided += int((own[1:] > 0.5 * all_of_it[1:]).sum() > 1)
    whole = truth[~truth["touches_edge"]]
    return {
        "field": name,
        "true": mean_size(truth, "equivalent_diameter_nm"),
        "n_true": len(whole),
        "mean": found.sizes["mean"],
        "n": found.sizes["n_particles"],
        "specks": found.n_specks,
        "pairs": len(apart),
        "apart": sum(apart),
        "seen": int((np.unique(pieces) > 0).sum()),
        "divided": divided,
        "truth": whole,
        "found": found,
    }


def report(rows: list[dict], dice: float | None) -> None:
    """Print the table and what it says."""
    result = pd.DataFrame(rows).drop(columns=["truth", "found"])
    folder = [
        {
            "path": row["field"],
            "sizes": row["found"].sizes,
            "fold_means": row["found"].fold_means,
            "judgement": row["found"].judgement
            if row["found"].judgement["verdict"] != "not judged"
            else {"verdict": "not judged", "predicted_dice": dice},
        }
        for row in rows
    ]
    particles = pd.concat([row["found"].particles.assign(micrograph=row["field"]) for row in rows])
    standard = DeploymentParameters()
    shared = share_spread(folder, particles, standard.pixel_size_error, standard.confidence)
    for end in ("low", "high"):
        result[f"{end}_alone"] = [one["sizes"][end] for one in folder]
        result[end] = [one["sizes"][end] for one in shared]
    everything = pd.concat([row["truth"] for row in rows])
    population = mean_size(everything, "equivalent_diameter_nm")
    result["deviation"] = result["mean"] / result["true"] - 1
    print(result.round(3).to_string(index=False))
    known = result[np.isfinite(result["mean"]) & np.isfinite(result["true"])]
    print(
        f"\nmean diameter: {known['mean'].mean():.3f} nm, true {known['true'].mean():.3f} nm "
        f"({known['mean'].mean() / known['true'].mean() - 1:+.1%}); median deviation of a field "
        f"{known['deviation'].median():+.1%}, largest {known['deviation'].abs().max():.1%}"
    )
    print(f"mean of all {len(everything)} true particles {population:.3f} nm; Dice {dice}")
    verdicts = pd.Series([row["found"].judgement["verdict"] for row in rows]).value_counts()
    print(", ".join(f"{n} {verdict}" for verdict, n in verdicts.items()))
    for words, low, high in (
        ("spread shared", "low", "high"),
        ("each by itself", "low_alone", "high_alone"),
    ):
        stated = known[np.isfinite(known[low])]
        held = [
            ((stated[low] <= true) & (true <= stated[high])).sum()
            for true in (population, stated["true"])
        ]
        print(
            f"interval of 95 %, {words}: stated in {len(stated)} of the {len(known)} fields with a "
            f"whole particle, holds the mean of all in {held[0]}, of its own in {held[1]}; "
            f"median width {(stated[high] - stated[low]).median():.2f} nm"
        )
    print(f"whole particles counted right in {(result['n'] == result['n_true']).sum()} fields")
    print(f"touching pairs told apart: {result['apart'].sum()} of {result['pairs'].sum()}")
    print(f"particles divided: {result['divided'].sum()} of {result['seen'].sum()}")


if __name__ == "__main__":
    main()
