"""The network in the box, remade in miniature: fields, conditions, training, trust."""

import numpy as np
import pandas as pd
import pytest

from temshift.config.box import BoxParameters, RandomExposures, RandomFields
from temshift.config.trust import TrustParameters
from temshift.learning.box import calibrate_box, pack, train_box
from temshift.learning.trust import TrustModel
from temshift.microscopy.patches import PatchStack
from temshift.microscopy.randomised import (
    burn_in_bar,
    draw_condition,
    draw_field,
    random_patches,
    simulate_fields,
    take,
)

FIELDS = RandomFields(
    count=6, seed=5, least_width_nm=8.0, diameter_nm=(1.5, 2.5), empty=0.2, point_nm=0.07
)
EXPOSURES = RandomExposures(per_field=1, patches=1)
TINY = BoxParameters(
    fields=FIELDS, calibration=FIELDS, steps=3, batch_size=2, crop_px=64, patch_px=128
)


@pytest.fixture(scope="module")
def waves():
    return dict(simulate_fields(FIELDS))


@pytest.fixture(scope="module")
def patches(waves):
    stream = random_patches(waves, EXPOSURES, FIELDS.seed, 3, 128)
    parts = list(stream)
    images, labels = (np.concatenate([getattr(p, x) for p in parts]) for x in ("images", "labels"))
    table = pd.concat([p.table for p in parts], ignore_index=True)
    assert len(images) == len(stream)
    return PatchStack(images, labels, table, stream.attributes)


@pytest.fixture(scope="module")
def packed(patches):
    return pack(train_box(patches, TINY), FIELDS)


def test_a_field_depends_on_the_seed_and_its_number_only():
    more = FIELDS.model_copy(update={"count": 60})
    assert draw_field(FIELDS, 3) == draw_field(more, 3)
    assert draw_field(FIELDS, 3) != draw_field(FIELDS, 4)
    assert draw_field(FIELDS, 3) != draw_field(FIELDS.model_copy(update={"seed": 6}), 3)


def test_fields_and_conditions_fill_the_ranges_that_are_asked_for():
    fields = [draw_field(RandomFields(count=300, seed=1), i) for i in range(300)]
    diameters = np.array([f.specimen.diameter_nm for f in fields if f.specimen])
    assert diameters.min() >= 1.5
    assert diameters.max() <= 12.0
    assert np.quantile(diameters, 0.1) < 2.2
    assert np.quantile(diameters, 0.9) > 8.0
    assert {f.specimen.material for f in fields if f.specimen} == {"Au", "Ag", "CdSe"}
    assert 3 <= sum(f.specimen is None for f in fields) <= 40
    drawn = [draw_condition(RandomExposures(), 1, "field_000", i) for i in range(300)]
    assert 0.015 <= min(c.pixel_size_nm for c in drawn) < 0.017
    assert 0.045 < max(c.pixel_size_nm for c in drawn) <= 0.05
    assert min(c.dose_e_per_A2 for c in drawn) < 60
    assert 0.2 < np.mean([c.bar for c in drawn]) < 0.4
    plain = [draw_condition(RandomExposures(opaque=0.0), 1, "a", i) for i in range(300)]
    assert max(c.dose_e_per_A2 for c in plain) <= 1500.0


def test_a_bare_film_has_no_label_and_others_have(waves):
    for number, (name, wave) in enumerate(waves.items()):
        image, label, _ = take(wave, draw_condition(EXPOSURES, 1, name, 0))
        assert image.shape == label.shape
        bare = draw_field(FIELDS, number).specimen is None
        assert (label.max() == 0) == bare
    assert any(draw_field(FIELDS, n).specimen is None for n in range(len(waves)))


def test_nothing_is_labelled_under_a_burnt_in_bar():
    image = np.full((256, 256), 500, np.uint16)
    image[::2] = 600
    marked, label = burn_in_bar(image, np.ones((256, 256), np.uint8), 0.03, 7)
    changed = marked != image
    assert changed.any()
    assert not label[changed].any()
    assert label.mean() > 0.7
    same, _ = burn_in_bar(image, label, 0.03, 7)
    np.testing.assert_array_equal(same, marked)


def test_patches_of_a_specimen_are_all_in_one_fold(patches):
    assert patches.table.groupby("specimen_id")["fold"].nunique().max() == 1
    assert set(patches.table["fold"]) == {0, 1, 2}
    assert abs(float(patches.images.mean())) < 0.5


def test_a_field_that_is_less_than_a_patch_is_refused(waves):
    with pytest.raises(ValueError, match="less than a patch"):
        random_patches(waves, EXPOSURES, 1, 3, 4096)


def test_packed_networks_are_half_as_large_and_give_nearly_the_same(patches, packed):
    import torch

    from temshift.learning.networks import build_network

    for trained in packed.values():
        floats = [x for x in trained.state.values() if x.is_floating_point()]
        assert {x.dtype for x in floats} == {torch.float16}
        network = trained.build()
        assert next(network.parameters()).dtype == torch.float32
        assert trained.card.diameter_nm == 1.5
        assert trained.card.preprocessing.pixel_size_nm is None, "needs no pixel size"
    assert type(network) is type(build_network("published_unet"))


def test_evidence_of_the_box_is_what_trust_is_learned_from(waves, packed):
    evidence, agreement = calibrate_box(packed, waves, FIELDS, EXPOSURES, "cpu")
    assert {"bare film", "noise", "inverted"} <= set(evidence["test_split"])
    assert set(evidence["network"]) == set(packed)
    assert evidence["dice"].between(0, 1).all()
    known = {name: ["box"] for name in packed}
    model = TrustModel.fit(evidence, agreement, known, TrustParameters(trees=10))
    assert 0 < model.reach < np.inf
