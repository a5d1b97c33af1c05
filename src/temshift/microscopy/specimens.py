"""Specimens: crystalline particles on an amorphous support, and their exact masks.

A specimen is a square field, periodic in x and y. The beam travels along +z; the support starts
at z = 0 and the particles lie on it, at the exit side. Positions are in Å.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from temshift.config.simulation import SpecimenParameters, SupportParameters

__all__ = [
    "Particle",
    "Specimen",
    "amorphous_film",
    "build_specimen",
    "outline_mask",
    "particle_atoms",
    "place_particles",
]

Floats = NDArray[np.float64]

#: Structure, lattice constants (Å) of the materials: Wyckoff, Crystal Structures (1963).
CRYSTALS: dict[str, dict[str, float | str]] = {
    "Au": {"crystalstructure": "fcc", "a": 4.078},
    "Ag": {"crystalstructure": "fcc", "a": 4.086},
    "CdSe": {"crystalstructure": "wurtzite", "a": 4.299, "c": 7.010},
}

#: Planes of lowest energy of the crystal structures, each family with the distance from the centre
#: relative to the nearest one (Wulff; Au: Marks, Rep. Prog. Phys. 57 (1994) 603).
FACETS: dict[str, tuple[tuple[Floats, float], ...]] = {
    "fcc": (
        (np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) / 3**0.5, 1.0),
        (np.concatenate([np.eye(3), -np.eye(3)]), 2 / 3**0.5),
    ),
    # {10-10} and {0001}; the first axis of the cell lies along x
    "wurtzite": (
        (np.array([[np.cos(a), np.sin(a), 0.0] for a in np.pi / 6 + np.arange(6) * np.pi / 3]), 1),
        (np.array([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]]), 1.0),
    ),
}

#: Distance of the nearest faces from the centre of a particle, in its radii: at the first the
#: faces of an fcc crystal meet at the sphere (a truncated octahedron), at 1 they vanish.
FACET_DISTANCE = (0.78, 0.92)

#: Vacuum below the support and above the highest particle, Å.
MARGIN_A = 2.0

#: Radius of the disc by which an atom covers the image, and of the closing of the gaps, Å.
ATOM_RADIUS_A = 1.4
CLOSING_A = 2.0


@dataclass(frozen=True)
class Particle:
    """Where a particle lies and how large it is.

    Attributes
    ----------
    x_A, y_A : float
        Position of its centre.
    diameter_A : float
    """

    x_A: float
    y_A: float
    diameter_A: float


@dataclass(frozen=True)
class Specimen:
    """Atoms of one field.

    Attributes
    ----------
    numbers : ndarray, shape (N,), int
        Atomic numbers.
    positions_A : ndarray, shape (N, 3), float64
    in_particle : ndarray, shape (N,), bool
        True for the atoms of particles, False for those of the support.
    width_A, height_A : float
        Side of the periodic field, and thickness along the beam.
    particles : tuple of Particle
    """

    numbers: NDArray[np.int_]
    positions_A: Floats
    in_particle: NDArray[np.bool_]
    width_A: float
    height_A: float
    particles: tuple[Particle, ...]


def particle_atoms(
    material: str,
    diameter_A: float,
    rng: np.random.Generator,
    *,
    aspect_ratio: float = 1.0,
    height_ratio: float = 1.0,
    twinned: bool = False,
    faceted: bool = False,
    in_plane: bool = True,
) -> tuple[NDArray[np.int_], Floats]:
    """Cut a randomly oriented particle out of a crystal.

    Parameters
    ----------
    material : str
        A key of :data:`CRYSTALS`.
    diameter_A : float
        Diameter (of an oblong particle: the shorter one), Å.
    rng : numpy Generator
    aspect_ratio : float
        Length along the crystal's c axis over the diameter.
    height_ratio : float
        Below 1 the lower part of the particle is cut off, so that its height along z is this
        share of the diameter (a particle wetting its support).
    twinned : bool
        Mirror one half at a {111} plane (cubic crystals only).
    faceted : bool
        Cut the sphere (ellipsoid) at the planes of :data:`FACETS`, each at a random distance
        within :data:`FACET_DISTANCE`. A twin has the faces of both its crystals.
    in_plane : bool
        An oblong particle lies flat: its long axis is in the plane of the support.

    Returns
    -------
    numbers : ndarray, shape (N,), int
    positions_A : ndarray, shape (N, 3), float64
        Relative to the centre.

    Raises
    ------
    ValueError
        If the material is unknown, or if a twin of a hexagonal crystal is asked for.
    """
    from ase.build import bulk
    from scipy.spatial.transform import Rotation

    if material not in CRYSTALS:
        raise ValueError(f"unknown material {material!r}; known: {', '.join(CRYSTALS)}")
    crystal: dict[str, Any] = CRYSTALS[material]
    cubic = crystal["crystalstructure"] == "fcc"
    if twinned and not cubic:
        raise ValueError(f"twins are made of cubic crystals only, {material} is hexagonal")
    cell = bulk(material, cubic=True, **crystal) if cubic else bulk(material, **crystal)

    radius_A = diameter_A / 2
    reach = radius_A * aspect_ratio + 10.0
    vectors = np.asarray(cell.cell)
    spacings = 1 / np.linalg.norm(np.linalg.inv(vectors).T, axis=1)  # between lattice planes, Å
    counts = np.ceil(reach / spacings).astype(int)
    steps = [np.arange(-c, c + 1) for c in counts]
    origins = np.stack(np.meshgrid(*steps, indexing="ij"), axis=-1).reshape(-1, 3) @ vectors
    positions = (origins[:, None, :] + cell.get_positions()[None]).reshape(-1, 3)
    numbers = np.tile(cell.numbers, len(origins))

    if twinned:
        normal = np.ones(3) / np.sqrt(3.0)
        height = positions @ normal
        half = height <= 1e-6
        strictly = height[half] < -1e-6  # atoms on the twin plane belong to both halves
        mirrored = positions[half] - 2 * height[half, None] * normal
        kept_below = int(half.sum())
        positions = np.concatenate([positions[half], mirrored[strictly]])
        numbers = np.concatenate([numbers[half], numbers[half][strictly]])
    # where in the unit cell (for a twin: along its plane normal) the centre lies is random
    positions = positions - rng.random(3) @ vectors
    long_axis = np.array([0.0, 0.0, 1.0])
    if aspect_ratio > 1 and in_plane:
        spin = Rotation.from_rotvec(long_axis * rng.uniform(0, 2 * np.pi))
        lay = Rotation.from_rotvec([0.0, np.pi / 2, 0.0])
        turn = Rotation.from_rotvec(long_axis * rng.uniform(0, 2 * np.pi))
        rotation = turn * lay * spin
    else:
        rotation = Rotation.random(rng=rng)
    scaled = positions / [radius_A, radius_A, radius_A * aspect_ratio]
    inside = np.sum(scaled**2, axis=1) <= 1
    if faceted:
        faces = _faces(str(crystal["crystalstructure"]), rng)
        if twinned:  # each half ends at the faces of its own crystal
            upper = np.arange(len(positions)) >= kept_below
            turned_faces = faces - 2 * np.outer(faces @ normal, normal)
            inside &= np.where(upper, _within(scaled, turned_faces), _within(scaled, faces))
        else:
            inside &= _within(scaled, faces)
    turned = rotation.apply(positions[inside])
    numbers = numbers[inside]
    if height_ratio < 1:
        above = turned[:, 2] >= radius_A - height_ratio * diameter_A
        turned, numbers = turned[above], numbers[above]
    return numbers, turned


def _faces(structure: str, rng: np.random.Generator) -> Floats:
    """Return the faces of a crystal as vectors: outer normals divided by distances (in radii)."""
    faces = []
    for normals, distance in FACETS[structure]:
        distances = np.minimum(distance * rng.uniform(*FACET_DISTANCE, size=len(normals)), 1.0)
        faces.append(normals / distances[:, None])
    return np.concatenate(faces)


def _within(points: Floats, faces: Floats) -> NDArray[np.bool_]:
    """Return which points, shape (N, 3), lie inside of all faces."""
    return np.asarray((points @ faces.T <= 1).all(axis=1))


def place_particles(
    width_A: float,
    diameters_A: Floats,
    rng: np.random.Generator,
    *,
    touching: float = 0.0,
    gap_A: float = 4.0,
    attempts: int = 100,
) -> tuple[Particle, ...]:
    """Put discs on a periodic square so that none overlap.

    Parameters
    ----------
    width_A : float
        Side of the square.
    diameters_A : ndarray, shape (N,)
    rng : numpy Generator
    touching : float
        Probability that a disc is put in contact with an earlier one instead of anywhere.
    gap_A : float
        Least distance between the rims of discs that do not touch.
    attempts : int
        Draws for one disc before all are taken off again, and how often that may happen.

    Raises
    ------
    ValueError
        If the discs do not fit.
    """
    for _ in range(attempts):
        placed: list[Particle] = []
        for diameter_A in map(float, diameters_A):
            contact = bool(placed) and rng.random() < touching
            for _ in range(attempts):
                if contact:
                    spot = _in_contact(placed[rng.integers(len(placed))], diameter_A, width_A, rng)
                else:
                    x_A, y_A = rng.uniform(0, width_A, size=2)
                    spot = Particle(float(x_A), float(y_A), diameter_A)
                if _clearance(spot, placed, width_A) >= (-1e-6 if contact else gap_A):
                    placed.append(spot)
                    break
            else:
                break
        if len(placed) == len(diameters_A):
            return tuple(placed)
    raise ValueError(
        f"{len(diameters_A)} particles of about {np.mean(diameters_A) / 10:.1f} nm do not "
        f"fit in a field of {width_A / 10:.1f} nm: ask for fewer particles or a wider field"
    )


def _in_contact(
    partner: Particle, diameter_A: float, width_A: float, rng: np.random.Generator
) -> Particle:
    """Return a disc that touches ``partner`` on a random side."""
    angle = rng.uniform(0, 2 * np.pi)
    distance = (partner.diameter_A + diameter_A) / 2
    return Particle(
        float((partner.x_A + distance * np.cos(angle)) % width_A),
        float((partner.y_A + distance * np.sin(angle)) % width_A),
        diameter_A,
    )


def _clearance(spot: Particle, others: list[Particle], width_A: float) -> float:
    """Return the least distance from a disc's rim to those of others on a periodic square, Å."""
    if not others:
        return np.inf
    offset = np.array([[spot.x_A - p.x_A, spot.y_A - p.y_A] for p in others])
    offset -= width_A * np.round(offset / width_A)
    radii = np.array([p.diameter_A + spot.diameter_A for p in others]) / 2
    return float(np.min(np.hypot(offset[:, 0], offset[:, 1]) - radii))


def amorphous_film(
    width_A: float,
    thickness_A: float,
    composition: Mapping[str, float],
    atoms_per_A3: float,
    rng: np.random.Generator,
    *,
    roughness_A: float = 0.0,
    roughness_length_A: float = 20.0,
) -> tuple[NDArray[np.int_], Floats]:
    """Fill a film with atoms: one anywhere in each cell of a cubic grid.

    Each atom is uniform in its cell, so the grid leaves no Bragg peaks (the average over a cell
    vanishes at every reciprocal lattice vector) while the density is even, as in a glass.

    Parameters
    ----------
    width_A, thickness_A : float
        Side of the periodic field and mean thickness.
    composition : mapping of str to float
        Relative number of atoms of each element.
    atoms_per_A3 : float
    rng : numpy Generator
    roughness_A : float
        Standard deviation of the height of the upper surface.
    roughness_length_A : float
        Standard deviation of the Gaussian that smooths that height.

    Returns
    -------
    numbers : ndarray, shape (N,), int
    positions_A : ndarray, shape (N, 3), float64
        z from 0 to the surface.
    """
    from ase.data import atomic_numbers

    cell_A = atoms_per_A3 ** (-1 / 3)
    nx = max(1, round(width_A / cell_A))
    side_A = width_A / nx
    depth_A = 1 / (atoms_per_A3 * side_A**2)
    nz = int(np.ceil((thickness_A + 4 * roughness_A) / depth_A)) + 1
    corners = np.stack(np.meshgrid(*map(np.arange, (nx, nx, nz)), indexing="ij"), axis=-1)
    positions = (corners.reshape(-1, 3) + rng.random((nx * nx * nz, 3))) * [side_A, side_A, depth_A]
    surface = _rough_surface(nx, roughness_A, roughness_length_A / side_A, rng) + thickness_A
    i, j = (np.floor(positions[:, :2] / side_A).astype(int) % nx).T
    positions = positions[positions[:, 2] < surface[i, j]]
    share = np.array(list(composition.values()))
    elements = np.array([atomic_numbers[e] for e in composition])
    numbers = rng.choice(elements, size=len(positions), p=share / share.sum())
    return numbers, positions


def _rough_surface(n: int, spread: float, length_px: float, rng: np.random.Generator) -> Floats:
    """Return a periodic Gaussian random height of given spread, shape (n, n)."""
    from scipy.ndimage import gaussian_filter

    noise = rng.standard_normal((n, n))
    if spread == 0:
        return np.zeros((n, n))
    height = gaussian_filter(noise, length_px, mode="wrap")
    deviation = height.std()
    return spread * (height - height.mean()) / deviation if deviation > 0 else np.zeros((n, n))


def build_specimen(
    kind: SpecimenParameters,
    support: SupportParameters,
    *,
    thermal_displacement_A: float,
    width_A: float,
    seed: int,
) -> Specimen:
    """Make one specimen: a film, and particles on it.

    Parameters
    ----------
    kind : SpecimenParameters
        What particles.
    support : SupportParameters
    thermal_displacement_A : float
        Root mean square displacement of an atom in one direction.
    width_A : float
        Side of the periodic field.
    seed : int
        The same gives the same atoms.

    Raises
    ------
    ValueError
        If the particles do not fit in the field.
    """
    place_rng, film_rng, crystal_rng, thermal_rng, thickness_rng = (
        np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(5)
    )
    film_A = 10 * float(thickness_rng.uniform(*support.thickness_nm))
    diameter_A, diameter_spread_A = 10 * kind.diameter_nm, 10 * kind.diameter_spread_nm
    count = int(place_rng.integers(kind.particles[0], kind.particles[1] + 1))
    diameters = place_rng.normal(diameter_A, diameter_spread_A, size=count)
    diameters = np.clip(
        diameters, diameter_A - 2 * diameter_spread_A, diameter_A + 2 * diameter_spread_A
    )
    spots = place_particles(
        width_A, diameters * kind.aspect_ratio, place_rng, touching=kind.touching
    )

    film_numbers, film = amorphous_film(
        width_A,
        film_A,
        support.composition,
        support.atoms_per_A3,
        film_rng,
        roughness_A=10 * support.roughness_nm,
        roughness_length_A=10 * support.roughness_length_nm,
    )
    numbers, positions, owner = [film_numbers], [film], [np.zeros(len(film), bool)]
    for spot, diameter in zip(spots, diameters, strict=True):
        twin, facets = crystal_rng.random(2) < (kind.twinned, kind.faceted)
        z, atoms = particle_atoms(
            kind.material,
            float(diameter),
            crystal_rng,
            aspect_ratio=kind.aspect_ratio,
            height_ratio=kind.height_ratio,
            twinned=bool(twin),
            faceted=bool(facets),
        )
        # the lowest atoms touch the film's mean surface
        lift = film_A + 1.5 - atoms[:, 2].min()
        numbers.append(z)
        positions.append(atoms + np.array([spot.x_A, spot.y_A, lift]))
        owner.append(np.ones(len(atoms), bool))
    xyz = np.concatenate(positions)
    in_particle = np.concatenate(owner)
    xyz = _clear_film_under_particles(xyz, in_particle, width_A)
    keep = ~np.isnan(xyz[:, 0])
    xyz, in_particle = xyz[keep], in_particle[keep]
    number = np.concatenate(numbers)[keep]
    xyz = xyz + thermal_rng.normal(0.0, thermal_displacement_A, size=xyz.shape)
    xyz[:, 2] += MARGIN_A - xyz[:, 2].min()
    xyz[:, :2] %= width_A
    return Specimen(
        numbers=number,
        positions_A=xyz,
        in_particle=in_particle,
        width_A=width_A,
        height_A=float(xyz[:, 2].max() + MARGIN_A),
        particles=spots,
    )


def _clear_film_under_particles(
    xyz: Floats, in_particle: NDArray[np.bool_], width_A: float, least_A: float = 2.0
) -> Floats:
    """Mark with NaN the film atoms nearer than ``least_A`` to an atom of a particle."""
    from scipy.spatial import cKDTree

    lowest = xyz[in_particle, 2].min() - least_A
    film = np.flatnonzero(~in_particle & (xyz[:, 2] > lowest))
    if not len(film):
        return xyz
    top = xyz[film, 2].max() + least_A
    low = in_particle & (xyz[:, 2] < top)
    box = [width_A, width_A, 1e6]
    wrapped = xyz[low] % [width_A, width_A, 1e5]
    tree = cKDTree(wrapped, boxsize=box)
    distance, _ = tree.query(xyz[film] % [width_A, width_A, 1e5], distance_upper_bound=least_A)
    cleared = xyz.copy()
    cleared[film[np.isfinite(distance)]] = np.nan
    return cleared


def outline_mask(
    xy_A: Floats,
    width_A: float,
    shape_px: int,
    *,
    atom_radius_A: float = ATOM_RADIUS_A,
    closing_A: float = CLOSING_A,
) -> NDArray[np.uint8]:
    """Return where particles cover a periodic field.

    Atoms cover discs of ``atom_radius_A``; gaps between the discs are closed with a radius of
    ``closing_A`` (both by Euclidean distance) and enclosed holes are filled.

    Parameters
    ----------
    xy_A : ndarray, shape (N, 2)
        Projected positions of the particles' atoms.
    width_A : float
        Side of the field.
    shape_px : int
        Pixels of the mask in each direction; pixel i is centred on ``i * width_A / shape_px``.

    Returns
    -------
    ndarray, shape (shape_px, shape_px), uint8
        1 where a particle is. Axis 0 is x, axis 1 is y, as in the wave.
    """
    from scipy.ndimage import binary_fill_holes, distance_transform_edt

    pixel_A = width_A / shape_px
    pad = int(np.ceil((atom_radius_A + 2 * closing_A) / pixel_A)) + 2
    empty = np.ones((shape_px, shape_px), bool)
    i, j = (np.rint(xy_A / pixel_A).astype(int) % shape_px).T
    empty[i, j] = False
    if empty.all():
        return np.zeros((shape_px, shape_px), np.uint8)
    wrapped = np.pad(empty, pad, mode="wrap")
    outer = distance_transform_edt(wrapped) * pixel_A <= atom_radius_A + closing_A
    closed = distance_transform_edt(outer) * pixel_A > closing_A
    inner = binary_fill_holes(closed)[pad:-pad, pad:-pad]
    return np.ascontiguousarray(inner, dtype=np.uint8)
