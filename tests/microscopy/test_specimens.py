"""Specimens: crystals, films, placement, masks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from temshift.config.simulation import SpecimenParameters, SupportParameters
from temshift.microscopy.specimens import (
    CRYSTALS,
    FACET_DISTANCE,
    FACETS,
    amorphous_film,
    build_specimen,
    outline_mask,
    particle_atoms,
    place_particles,
)

PARTICLES = SpecimenParameters(
    material="Au",
    diameter_nm=2.0,
    diameter_spread_nm=0.1,
    support="carbon",
    particles=(2, 3),
    twinned=0.5,
    faceted=0.5,
)
SUPPORT = SupportParameters(
    composition={"C": 1.0},
    atoms_per_A3=0.1,
    thickness_nm=(1.5, 1.5),
    roughness_nm=0.2,
    roughness_length_nm=1.5,
)


def field(seed, kind=PARTICLES, support=SUPPORT):
    return build_specimen(kind, support, thermal_displacement_A=0.08, width_A=80.0, seed=seed)


def nearest_neighbours(positions):
    from scipy.spatial import cKDTree

    return cKDTree(positions).query(positions, k=2)[0][:, 1]


# Bulk number densities from densities in g/cm³: 19.3, 10.5, 5.66 (two atoms a formula unit)
@pytest.mark.parametrize(
    ("material", "atoms_per_A3"), [("Au", 0.0590), ("Ag", 0.0586), ("CdSe", 0.0356)]
)
def test_a_particle_has_the_density_of_its_crystal(material, atoms_per_A3, rng):
    _, positions = particle_atoms(material, 40.0, rng)
    assert len(positions) / (np.pi / 6 * 40.0**3) == pytest.approx(atoms_per_A3, rel=0.02)


@pytest.mark.parametrize(
    ("material", "bond_A"), [("Au", 4.078 / 2**0.5), ("Ag", 4.086 / 2**0.5), ("CdSe", 2.63)]
)
def test_neighbours_are_a_bond_apart(material, bond_A, rng):
    _, positions = particle_atoms(material, 25.0, rng)
    distance = nearest_neighbours(positions)
    assert np.median(distance) == pytest.approx(bond_A, rel=0.01)
    assert distance.min() > 0.98 * bond_A


def test_cdse_has_as_many_cadmium_as_selenium_atoms(rng):
    numbers, _ = particle_atoms("CdSe", 40.0, rng, aspect_ratio=1.3)
    assert set(numbers) == {48, 34}
    assert (numbers == 48).mean() == pytest.approx(0.5, abs=0.03)


def test_an_oblong_particle_lies_flat_and_is_longer(rng):
    _, positions = particle_atoms("CdSe", 30.0, rng, aspect_ratio=1.5)
    assert np.ptp(positions[:, 2]) < 31
    lengths = np.sqrt(np.linalg.eigvalsh(np.cov(positions.T)))
    assert lengths[-1] / lengths[0] == pytest.approx(1.5, rel=0.06)


def test_a_twin_keeps_every_bond_and_both_halves(rng):
    _, positions = particle_atoms("Au", 40.0, rng, twinned=True)
    distance = nearest_neighbours(positions)
    assert distance.min() == pytest.approx(4.078 / 2**0.5, rel=1e-3)
    assert len(positions) / (np.pi / 6 * 40.0**3) == pytest.approx(0.0590, rel=0.03)


def test_a_twin_is_not_one_lattice(rng):
    def lattice_like(twinned):
        """Share of atoms whose place mirrored through a neighbour is an atom as well."""
        from scipy.spatial import cKDTree

        _, p = particle_atoms("Au", 40.0, np.random.default_rng(3), twinned=twinned)
        tree = cKDTree(p)
        inner = p[np.linalg.norm(p, axis=1) < 12]
        pairs = [(a, p[j]) for a in inner for j in tree.query_ball_point(a, 2.95)]
        steps = np.array([b + (b - a) for a, b in pairs])
        return np.mean(tree.query(steps)[0] < 0.05)

    assert lattice_like(False) == pytest.approx(1.0)
    assert lattice_like(True) < 0.97


def test_a_hexagonal_twin_and_an_unknown_material_are_refused(rng):
    with pytest.raises(ValueError, match="cubic crystals only, CdSe"):
        particle_atoms("CdSe", 20.0, rng, twinned=True)
    with pytest.raises(ValueError, match="unknown material 'Pb'; known: Au, Ag, CdSe"):
        particle_atoms("Pb", 20.0, rng)
    assert set(CRYSTALS) == {"Au", "Ag", "CdSe"}


def test_a_flattened_particle_is_as_high_as_asked_for(rng):
    _, positions = particle_atoms("Au", 40.0, rng, height_ratio=0.6)
    assert np.ptp(positions[:, 2]) == pytest.approx(24.0, abs=2.5)
    assert np.ptp(positions[:, 0]) == pytest.approx(40.0, abs=2.5)


def supporting_distances(positions, directions):
    """Largest extent of a particle along each of some unit vectors."""
    return (positions @ directions.T).max(axis=0)


def crystal_axes(positions):
    """Rows: the cube axes of an fcc particle, found from its nearest-neighbour vectors."""
    from scipy.spatial import cKDTree

    centre = positions[np.argmin(np.linalg.norm(positions, axis=1))]
    near = positions[cKDTree(positions).query_ball_point(centre, 3.2)] - centre
    bonds = near[np.linalg.norm(near, axis=1) > 0.1]  # the 12 of <110>
    first = bonds[0]
    across = next(b for b in bonds if abs(b @ first) < 1e-6)  # [110] and [1-10]
    x, y = (first + across), (first - across)
    x, y = x / np.linalg.norm(x), y / np.linalg.norm(y)
    return np.stack([x, y, np.cross(x, y)])


@pytest.mark.parametrize("seed", range(4))
def test_a_faceted_particle_is_cut_at_111_planes_and_never_beyond_its_sphere(seed):
    def particle(faceted):
        rng = np.random.default_rng(seed)
        return particle_atoms("Au", 60.0, rng, faceted=faceted)[1]

    round_one, faceted = particle(False), particle(True)
    assert np.linalg.norm(faceted, axis=1).max() <= 30.0 + 1e-6
    assert 0.7 < len(faceted) / len(round_one) < 0.97  # caps are missing
    signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    normals = signs / 3**0.5 @ crystal_axes(faceted)
    reach = supporting_distances(faceted, normals)
    # each face within FACET_DISTANCE, less up to a layer (2.35 Å) that the cut leaves out
    assert (reach <= FACET_DISTANCE[1] * 30 + 1e-6).all()
    assert (reach >= FACET_DISTANCE[0] * 30 - 2.4).all()
    assert np.ptp(reach) > 0.5  # no two faces alike
    # a face is a plane full of atoms: the outermost 0.1 Å along its normal
    on_faces = [(faceted @ n > r - 0.1).sum() for n, r in zip(normals, reach, strict=True)]
    assert min(on_faces) > 10


def test_the_faces_of_an_fcc_crystal_at_their_nearest_make_a_truncated_octahedron():
    """All corners of that body lie on the sphere (FACET_DISTANCE says so)."""
    from itertools import permutations, product

    (octahedron, near), (cube, far) = FACETS["fcc"]
    corners = {
        tuple(s * c for s, c in zip(signs, order, strict=True))
        for order in permutations((0, 1, 2))
        for signs in product((-1, 1), repeat=3)
    }
    corners = np.array(sorted(corners)) / 5**0.5  # of a truncated octahedron, on the unit sphere
    height = (corners @ octahedron.T).max()
    assert height == pytest.approx(0.775, abs=0.001)
    assert FACET_DISTANCE[0] == pytest.approx(height, abs=0.01)
    assert (corners @ cube.T).max() == pytest.approx(height * far / near, rel=1e-6)


def test_a_faceted_rod_has_flat_ends_and_sides():
    rng = np.random.default_rng(1)
    _, positions = particle_atoms("CdSe", 50.0, rng, aspect_ratio=1.5, faceted=True)
    axis = np.linalg.eigh(np.cov(positions.T))[1][:, -1]
    along = positions @ axis
    assert along.max() <= FACET_DISTANCE[1] * 37.5 + 0.5
    assert -along.min() <= FACET_DISTANCE[1] * 37.5 + 0.5
    across = positions - np.outer(along, axis)
    assert np.linalg.norm(across, axis=1).max() <= 25.0 + 0.5


def test_a_faceted_twin_keeps_its_bonds():
    _, positions = particle_atoms("Au", 50.0, np.random.default_rng(2), twinned=True, faceted=True)
    assert nearest_neighbours(positions).min() == pytest.approx(4.078 / 2**0.5, rel=1e-3)
    assert np.linalg.norm(positions, axis=1).max() <= 25.0 + 1e-6


def test_the_share_of_faceted_particles_is_as_asked_for():
    def atoms(faceted):
        kind = PARTICLES.model_copy(update={"faceted": faceted})
        return int(field(3, kind).in_particle.sum())

    assert atoms(1.0) < 0.97 * atoms(0.0)


def film_thickness(specimen):
    """Where 98 % of the atoms of the film lie below, from its lower side, Å."""
    z = specimen.positions_A[~specimen.in_particle, 2]
    return np.percentile(z, 98) - z.min()


def test_the_thickness_of_the_film_varies_from_field_to_field_within_its_bounds():
    one = PARTICLES.model_copy(update={"particles": (1, 1)})
    film = SUPPORT.model_copy(update={"thickness_nm": (2.0, 6.0), "roughness_nm": 0.0})
    found = [film_thickness(field(s, one, film)) for s in range(12)]
    assert min(found) >= 19.0
    assert max(found) <= 61.0
    assert max(found) - min(found) > 20
    assert film_thickness(field(5, one, film)) == found[5]


def test_the_thickness_draw_leaves_everything_else_as_it_was():
    thin, thick = (
        field(9, support=SUPPORT.model_copy(update={"thickness_nm": (t, t)})) for t in (1.5, 4.0)
    )
    assert thin.particles == thick.particles
    assert np.array_equal(thin.numbers[thin.in_particle], thick.numbers[thick.in_particle])


def test_orientations_are_random():
    axes = []
    for seed in range(40):
        _, positions = particle_atoms("CdSe", 12.0, np.random.default_rng(seed), aspect_ratio=2.0)
        axes.append(np.linalg.eigh(np.cov(positions.T))[1][:, -1])
    angles = np.arctan2(*np.array(axes)[:, :2].T) % np.pi
    assert np.histogram(angles, 4, (0, np.pi))[0].min() >= 3


@given(seed=st.integers(0, 10_000), touching=st.floats(0, 1), count=st.integers(1, 7))
def test_particles_never_overlap_even_across_the_edges(seed, touching, count):
    width = 200.0
    rng = np.random.default_rng(seed)
    spots = place_particles(width, rng.uniform(30, 50, count), rng, touching=touching)
    assert len(spots) == count
    for i, a in enumerate(spots):
        for b in spots[:i]:
            offset = np.array([a.x_A - b.x_A, a.y_A - b.y_A])
            offset -= width * np.round(offset / width)
            assert np.hypot(*offset) >= (a.diameter_A + b.diameter_A) / 2 - 1e-6


def test_some_particles_touch_when_asked_to(rng):
    a, b = place_particles(300.0, np.array([50.0, 40.0]), rng, touching=1.0)
    offset = np.array([a.x_A - b.x_A, a.y_A - b.y_A])
    offset -= 300 * np.round(offset / 300)
    assert np.hypot(*offset) == pytest.approx(45.0)


def test_too_many_particles_are_refused(rng):
    with pytest.raises(
        ValueError, match=r"9 particles of about 5\.0 nm do not fit in a field of 10"
    ):
        place_particles(100.0, np.full(9, 50.0), rng)


def test_a_film_has_the_asked_thickness_density_and_composition(rng):
    numbers, positions = amorphous_film(90.0, 40.0, {"Si": 3, "N": 4}, 0.093, rng)
    assert len(positions) / (90.0**2 * 40.0) == pytest.approx(0.093, rel=0.03)
    assert positions.min() >= 0
    assert positions[:, 2].max() <= 40.0
    assert (positions[:, :2] < 90.0).all()
    assert (numbers == 14).mean() == pytest.approx(3 / 7, abs=0.01)


def test_a_film_has_no_bragg_peaks(rng):
    """The structure factor at the grid's own frequency stays near that of random atoms."""
    _, positions = amorphous_film(107.7, 30.0, {"C": 1}, 0.1, rng)
    g = 2 * np.pi / (107.7 / round(107.7 / 0.1 ** (-1 / 3)))
    peak = abs(np.exp(1j * g * positions[:, 0]).sum()) ** 2 / len(positions)
    assert peak < 10  # a crystal would give as many as there are atoms: 35,000


def test_the_roughness_of_a_film_is_as_asked_for(rng):
    _, positions = amorphous_film(
        150.0, 40.0, {"C": 1}, 0.1, rng, roughness_A=5.0, roughness_length_A=20.0
    )
    i, j = (positions[:, :2] // 5).astype(int).T
    top = np.zeros((30, 30))
    np.maximum.at(top, (i, j), positions[:, 2])
    assert top.std() == pytest.approx(5.0, rel=0.2)
    assert np.ptp(top) > 15


def test_a_disc_of_atoms_has_the_mask_of_a_disc():
    """The outermost atoms' centres lie about as far inside of the cut as an atom's radius."""
    rng = np.random.default_rng(1)
    _, atoms = particle_atoms("Au", 50.0, rng)
    mask = outline_mask(atoms[:, :2] + 60.0, 120.0, 600)
    assert mask.dtype == np.uint8
    assert set(np.unique(mask)) == {0, 1}
    assert mask.mean() * 120.0**2 == pytest.approx(np.pi * 25.0**2, rel=0.05)


def test_a_mask_wraps_around_the_edges():
    _, atoms = particle_atoms("Au", 30.0, np.random.default_rng(1))
    inside = outline_mask(atoms[:, :2] + 50.0, 100.0, 400)
    across = outline_mask(atoms[:, :2] % 100.0, 100.0, 400)
    assert across.sum() == inside.sum()
    assert np.array_equal(np.roll(across, (200, 200), (0, 1)), inside)


def test_a_mask_has_no_holes_between_the_rows_of_atoms():
    """Seen along [110] a crystal has channels wider than its atoms."""
    x = np.arange(10, 90, 3.2)
    rows = np.stack(np.meshgrid(x, x), -1).reshape(-1, 2)
    mask = outline_mask(rows, 100.0, 500)
    assert mask[60:430, 60:430].all()


def test_the_same_seed_gives_the_same_atoms_and_another_seed_others():
    a, b, c = (field(s) for s in (5, 5, 6))
    assert np.array_equal(a.positions_A, b.positions_A)
    assert np.array_equal(a.numbers, b.numbers)
    assert a.particles == b.particles
    assert a.particles != c.particles


def test_a_specimen_is_whole():
    specimen = field(2)
    assert 2 <= len(specimen.particles) <= 3
    assert set(specimen.numbers[specimen.in_particle]) == {79}
    assert set(specimen.numbers[~specimen.in_particle]) == {6}
    assert ((specimen.positions_A[:, :2] >= 0) & (specimen.positions_A[:, :2] < 80)).all()
    assert specimen.positions_A[:, 2].min() >= 0
    assert specimen.positions_A[:, 2].max() < specimen.height_A
    # particles lie on the film: their centre of mass is above its atoms
    z = specimen.positions_A[:, 2]
    assert z[specimen.in_particle].mean() > z[~specimen.in_particle].max() - 5


def test_no_film_atom_sits_inside_a_particle():
    from scipy.spatial import cKDTree

    specimen = field(4)
    particle = specimen.positions_A[specimen.in_particle]
    film = specimen.positions_A[~specimen.in_particle]
    assert cKDTree(particle).query(film)[0].min() > 1.5
