import numpy as np
import pytest
import torch

from temshift.config.modelling import Augmentation, NoiseAugmentation
from temshift.learning.augmentation import augment, draw_plan


def batch(images, labels, parameters, copies=None, crop_px=None, seed=0, noise=False, n=None):
    n = n or len(images)
    side = images.shape[-1]
    plan = draw_plan(
        torch.arange(n) % len(images),
        torch.full((n,), -1) if copies is None else torch.tensor(copies),
        side,
        crop_px or side,
        parameters,
        torch.Generator().manual_seed(seed),
    )
    background = torch.zeros(len(images))
    generator = torch.Generator().manual_seed(seed) if noise else None
    return augment(images, labels, background, plan, crop_px or side, generator)


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
    plan = draw_plan(
        torch.zeros(20, dtype=torch.int64),
        torch.zeros(20, dtype=torch.int64),
        64,
        64,
        Augmentation(rotate_probability=1),
        torch.Generator().manual_seed(0),
    )
    x, y = augment(images, labels, torch.tensor([-2.0]), plan, 64, None)
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
        64,
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
    plan = draw_plan(
        torch.zeros(30, dtype=torch.int64),
        torch.zeros(30, dtype=torch.int64),
        128,
        32,
        STILL,
        torch.Generator().manual_seed(0),
        particles=torch.tensor([[[100, 20]]]),
        foreground=1.0,
    )
    _, y = augment(images, labels, torch.zeros(1), plan, 32, None)
    assert (y.sum((1, 2)) == 1).all()
    assert y[0, 16, 16] == 1
