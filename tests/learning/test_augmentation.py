import numpy as np
import pytest
import torch

from temshift.config.modelling import Augmentation, NoiseAugmentation
from temshift.learning.augmentation import Areas, augment, draw_plan, window_px
from temshift.learning.training import TrainingData
from temshift.microscopy.patches import PatchLayout, cut_patches


def patches_as_areas(n, side, background=0.0, particle=(-1, -1)):
    return Areas(
        torch.arange(n),
        torch.ones(n, dtype=torch.int64),
        torch.full((n,), side),
        torch.full((n,), side),
        torch.full((n,), background),
        torch.tensor([[particle]] * n),
    )


def batch(
    images,
    labels,
    parameters,
    copies=None,
    crop_px=None,
    seed=0,
    noise=False,
    n=None,
    areas=None,
    foreground=0.0,
):
    areas = areas or patches_as_areas(len(images), images.shape[-1])
    n = n or len(areas)
    crop_px = crop_px or images.shape[-1]
    plan = draw_plan(
        torch.arange(n) % len(areas),
        torch.full((n,), -1) if copies is None else torch.tensor(copies),
        areas,
        crop_px,
        parameters,
        torch.Generator().manual_seed(seed),
        foreground,
    )
    window = window_px(crop_px, areas.longest_px, parameters)
    generator = torch.Generator().manual_seed(seed) if noise else None
    return augment(images, labels, plan, crop_px, window, generator)


@pytest.fixture
def pair(rng):
    images = torch.from_numpy(rng.normal(size=(1, 32, 32)).astype("float32"))
    return images, (images > 1).to(torch.uint8)


STILL = Augmentation(dihedral="none", rotate_probability=0)


def test_the_eight_copies_are_the_dihedral_group(pair):
    images, labels = pair
    x, y = batch(images, labels, STILL, copies=list(range(8)), n=8)
    found = {a.numpy().round(3).tobytes() for a in x[:, 0]}
    image = images[0].numpy()
    expected = {
        np.ascontiguousarray(np.rot90(i, k)).round(3).tobytes()
        for i in (image, image[:, ::-1])
        for k in range(4)
    }
    assert len(found) == 8
    np.testing.assert_allclose(
        sorted(float(a[0, 5]) for a in x[:, 0]),
        sorted(float(np.frombuffer(e, "float32").reshape(32, 32)[0, 5]) for e in expected),
        atol=2e-3,
    )
    # image and label go together
    torch.testing.assert_close((x[:, 0] > 1).to(torch.int64), y)


def test_labels_are_not_eroded_by_rotation():
    """The published code interpolated and truncated labels, which erodes masks."""
    side = 128
    yy, xx = np.mgrid[:side, :side]
    disc = ((yy - 64) ** 2 + (xx - 64) ** 2 < 30**2).astype("uint8")
    labels = torch.from_numpy(disc)[None]
    images = labels.to(torch.float32)
    _, y = batch(images, labels, Augmentation(rotate_probability=1.0), n=40)
    areas = y.sum((1, 2)).float()
    assert set(y.unique().tolist()) == {0, 1}
    assert areas.mean() == pytest.approx(disc.sum(), rel=0.005)


def test_corners_get_the_background():
    images = torch.full((1, 64, 64), 5.0)
    labels = torch.ones(1, 64, 64, dtype=torch.uint8)
    x, y = batch(
        images,
        labels,
        Augmentation(rotate_probability=1),
        copies=[0] * 20,
        n=20,
        areas=patches_as_areas(1, 64, background=-2.0),
    )
    outside = x[:, 0] < -1.9
    assert outside.any()
    assert (y[outside] == 0).all()
    assert x.min() >= -2.001


def test_crops_without_rotation_are_exact_cut_outs(rng):
    images = torch.arange(64 * 64, dtype=torch.float32).reshape(1, 64, 64)
    labels = torch.zeros(1, 64, 64, dtype=torch.uint8)
    x, _ = batch(images, labels, STILL, copies=[0] * 50, crop_px=32, n=50)
    corners = x[:, 0, 0, 0].round().to(int)
    rows, columns = corners // 64, corners % 64
    assert rows.min() >= 0
    assert rows.max() <= 32
    assert columns.max() <= 32
    assert len(set(corners.tolist())) > 30
    for crop, r, c in zip(x[:, 0], rows, columns, strict=True):
        torch.testing.assert_close(crop, images[0, r : r + 32, c : c + 32], atol=0.05, rtol=0)


def test_noise_keeps_the_variance_of_standardised_images(rng):
    images = torch.from_numpy(rng.normal(size=(4, 128, 128)).astype("float32"))
    labels = torch.zeros(4, 128, 128, dtype=torch.uint8)
    noisy = Augmentation(dihedral="none", rotate_probability=0, noise=NoiseAugmentation(rho=0.875))
    x, _ = batch(images, labels, noisy, copies=[0] * 4, noise=True)
    assert x.std() == pytest.approx(1, abs=0.01)
    correlation = np.corrcoef(x.flatten(), images.flatten())[0, 1]
    assert correlation == pytest.approx(1 / np.sqrt(1 + 0.875**2), abs=0.01)


def test_uniform_noise_stays_in_its_range():
    plan = draw_plan(
        torch.zeros(1000, dtype=torch.int64),
        torch.zeros(1000, dtype=torch.int64),
        patches_as_areas(1, 64),
        64,
        Augmentation(noise=NoiseAugmentation(rho_max=1.75)),
        torch.Generator().manual_seed(0),
    )
    assert 0 <= plan.rho.min() < 0.05
    assert 1.7 < plan.rho.max() <= 1.75


def test_same_seed_same_batch_and_other_seed_another(pair):
    images, labels = pair
    first, again, other = (batch(images, labels, Augmentation(), seed=s, n=4)[0] for s in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_pixel_size_augmentation_changes_areas_within_its_range():
    disc = torch.zeros(1, 128, 128, dtype=torch.uint8)
    disc[0, 48:80, 48:80] = 1
    parameters = Augmentation(dihedral="none", rotate_probability=0, pixel_size_factor=(0.5, 1.0))
    _, y = batch(disc.to(torch.float32), disc, parameters, n=60)
    areas = y.sum((1, 2)) / 32**2
    assert 0.95 <= areas.min() < 1.3
    assert 2.8 < areas.max() <= 4.05


def test_aimed_crops_contain_their_particle():
    images = torch.zeros(1, 128, 128)
    labels = torch.zeros(1, 128, 128, dtype=torch.uint8)
    labels[0, 100, 20] = 1  # near a corner: crops cannot be centred on it
    areas = patches_as_areas(1, 128, particle=(100, 20))
    _, y = batch(
        images, labels, STILL, copies=[0] * 30, crop_px=32, n=30, areas=areas, foreground=1.0
    )
    assert (y.sum((1, 2)) == 1).all()
    assert y[0, 16, 16] == 1


def test_an_area_without_particles_aims_at_nothing():
    images = torch.arange(64 * 64, dtype=torch.float32).reshape(1, 64, 64)
    labels = torch.zeros(1, 64, 64, dtype=torch.uint8)
    x, _ = batch(images, labels, STILL, copies=[0] * 50, crop_px=32, n=50, foreground=1.0)
    assert len(set(x[:, 0, 0, 0].round().tolist())) > 30


def micrographs(rng, shapes, patch_px):
    """Micrographs, their patches, and the areas that these show."""
    wholes, patches, layouts, n = [], [], [], 0
    for height, width in shapes:
        whole = rng.normal(size=(height, width)).astype("float32")
        cut, _, corners = cut_patches(whole, np.zeros(whole.shape, np.uint8), patch_px)
        layouts.append(PatchLayout(n, height, width, len(np.unique(corners[:, 1]))))
        wholes.append(whole)
        patches.append(cut)
        n += len(cut)
    images = np.concatenate(patches)
    data = TrainingData.from_arrays([images], [(images > 1).astype(np.uint8)], "cpu", layouts)
    return wholes, data


def test_crops_come_from_anywhere_in_a_micrograph_whatever_patches_show_it(rng):
    wholes, data = micrographs(rng, [(100, 75), (64, 130)], 32)
    x, y = batch(
        data.images,
        data.labels,
        STILL,
        copies=[0] * 400,
        crop_px=24,
        n=400,
        areas=data.areas,
    )
    for a, whole in enumerate(wholes):
        windows = np.lib.stride_tricks.sliding_window_view(whole, (24, 24))
        seen = np.zeros(whole.shape, bool)
        first = windows[:, :, 0, 0]
        for crop, label in zip(x[a::2, 0].numpy(), y[a::2].numpy(), strict=True):
            r, c = np.unravel_index(np.abs(first - crop[0, 0]).argmin(), first.shape)
            np.testing.assert_allclose(crop, windows[r, c], atol=0.01)
            np.testing.assert_array_equal(label, windows[r, c] > 1)
            seen[r : r + 24, c : c + 24] = True
        assert seen.mean() > 0.95, "no part of the field is left out"


def test_turned_crops_of_a_window_are_those_of_the_whole_patch(rng):
    """A window holds all that a crop can show: cutting it out first changes nothing."""
    image = torch.from_numpy(rng.normal(size=(1, 96, 96)).astype("float32"))
    label = (image > 1).to(torch.uint8)
    turning = Augmentation(rotate_probability=1, pixel_size_factor=(0.8, 1.3))
    areas = patches_as_areas(1, 96, background=3.0)
    index = torch.zeros(60, dtype=torch.int64)
    plan = draw_plan(index, index - 1, areas, 24, turning, torch.Generator().manual_seed(1))
    window = window_px(24, 96, turning)
    assert window < 96
    x, _ = augment(image, label, plan, 24, window, None)
    # the same map, of the whole patch
    scale = window / 96
    affine = plan.affine * scale
    middle = (2 * plan.corner + window - 96) / 96
    affine[:, :, 2] = plan.affine[:, :, 2] * scale + middle.flip(1)
    grid = torch.nn.functional.affine_grid(affine, [60, 1, 24, 24], align_corners=False)
    whole = (image[None] - 3.0).expand(60, 1, 96, 96)
    expected = torch.nn.functional.grid_sample(whole, grid, align_corners=False) + 3.0
    torch.testing.assert_close(x, expected, atol=1e-3, rtol=0)
