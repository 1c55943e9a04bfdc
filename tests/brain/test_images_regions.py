import nibabel
import numpy as np
import pytest
from nifti import AFFINE, save
from nilearn.maskers import NiftiLabelsMasker, NiftiMapsMasker
from nilearn.masking import compute_epi_mask

from anbn.brain import images
from anbn.brain.images import BoldError

FINE = np.diag([4.0, 4, 4, 1])  # covers the same box as AFFINE's grid
FINE[:3, 3] = AFFINE[:3, 3] - 2


@pytest.fixture
def data(rng):
    """A ball of tissue in air: mean 1000 inside, 10 outside."""
    x = np.indices((12, 12, 12)).reshape(3, -1) - 5.5
    ball = (np.linalg.norm(x, axis=0) < 4.5).reshape(12, 12, 12)
    mean = np.where(ball, 1000.0, 10.0)[..., None]
    return mean + rng.normal(size=(12, 12, 12, 14))


@pytest.fixture
def run(tmp_path, data):
    return save(tmp_path / "sub-01_space-A_bold.nii.gz", data)


@pytest.fixture
def to(run):
    return images.grid(images.open_image(run))


def signals(run, to, atlas, inside=None):
    weights, kept, names = images.atlas_weights(atlas, [run], to, inside)
    return images.extract(run, to, kept, weights=weights), names


def scaled(path, labels, slope, inter=0.0):
    """Integers with a scale factor that does not give them back exactly."""
    image = nibabel.Nifti1Image(labels, AFFINE)
    image.header.set_slope_inter(slope, inter)
    nibabel.save(image, path)
    return path


def test_computed_mask_is_shared_by_all_runs(tmp_path, run, to, data):
    found = images.mask_of("", [run], to)
    expected = compute_epi_mask(nibabel.load(run))
    np.testing.assert_array_equal(found.dataobj, expected.dataobj)
    half = data.copy()
    half[:6] = 10 + half[:6] % 1
    other = save(tmp_path / "sub-02.nii.gz", half)
    both = np.asarray(images.mask_of("", [run, other], to).dataobj) > 0
    alone = np.asarray(images.mask_of("", [other], to).dataobj) > 0
    np.testing.assert_array_equal(both, alone & (np.asarray(expected.dataobj) > 0))
    assert 0 < both.sum() < expected.get_fdata().sum()


def test_no_mask_from_zeros_or_residuals(tmp_path, run, to, data):
    zeros = save(tmp_path / "sub-09.nii.gz", data * 0)
    with pytest.raises(BoldError, match=r"sub-09\.nii\.gz is 0 everywhere"):
        images.mask_of("", [run, zeros], to)
    centred = save(tmp_path / "sub-08.nii", data - data.mean(3, keepdims=True))
    with pytest.raises(BoldError, match=r"has a mean of about 0.*or to mni"):
        images.mask_of("", [centred], to)


def test_mni_mask_on_the_grid():
    box = images.Grid((26, 30, 25), np.diag([8.0, 8, 8, 1]))
    box.affine[:3, 3] = -98, -134, -72
    litres = images.mask_of("mni", ["a run"], box).get_fdata().sum() * 0.8**3 / 1000
    assert 1.7 < litres < 2.1


MASKS = {  # the same voxels, as people save them
    "3d.nii": save,
    "4d.nii": lambda path, inside: save(path, inside[..., None]),
    "seven.nii": lambda path, inside: save(path, 7 * inside),
    "fine.nii": lambda path, inside: save(
        path, np.kron(inside, np.ones((2, 2, 2))), AFFINE @ np.diag([0.5] * 3 + [1])
    ),
    "slope.nii": lambda path, inside: scaled(path, inside.astype("i2"), 1.00000001),
    "shifted.nii": lambda path, inside: scaled(path, inside.astype("i2"), 1, 1e-9),
    "nan.nii": lambda path, inside: save(path, np.where(inside, 1, np.nan)),
    "255.nii": lambda path, inside: save(path, inside * np.uint8(255), dtype="u1"),
    "wrapped.nii": lambda path, inside: save(path, inside * np.int8(-128), dtype="i1"),
    "rounded.nii": lambda path, inside: save(path, inside * np.float32(0.99999)),
}


@pytest.mark.parametrize("name", MASKS)
def test_masks_are_masks_however_they_were_saved(tmp_path, run, to, rng, name):
    inside = rng.random((12, 12, 12)) > 0.5
    path = MASKS[name](tmp_path / name, inside)
    found = np.asarray(images.mask_of(path, [run], to).dataobj)
    np.testing.assert_array_equal(found, inside)


def test_bad_masks(tmp_path, run, to):
    ones, far = np.ones((12, 12, 12)), AFFINE.copy()
    far[0, 3] += 1000
    between = np.zeros((24, 24, 24))
    between[1::2, 1::2, 1::2] = 1  # no voxel's centre is nearest to it
    finer = AFFINE @ np.diag([0.5, 0.5, 0.5, 1])
    labels = [np.repeat([0, 1, n], 4)[:, None, None] * ones for n in (2, 1000, 30_000)]
    several = "one other value inside, found .* 3 values from 0 to "
    for name, mask, affine, expected in [
        ("far.nii", ones, far, r"only 0% of .*far\.nii lies inside.*sub-01"),
        ("zeros.nii", 0 * ones, AFFINE, r"zeros\.nii: all of it is 0 or NaN"),
        ("nan.nii", np.nan * ones, AFFINE, "all of it is 0 or NaN"),
        ("prob.nii", np.cumsum(ones, 0), AFFINE, "found .* 12 values from 1 to 12"),
        ("signs.nii", np.sign(ones - 2 * (ones.cumsum(0) > 6)), AFFINE, "from -1 to 1"),
        ("inf.nii", np.inf * ones, AFFINE, "expected finite values"),
        ("space-B_mask.nii", ones, AFFINE, "is in space B, .* in A"),
        ("4d.nii", np.stack([ones, ones], 3), AFFINE, r"shape \(12, 12, 12, 2\)"),
        ("between.nii", between, finer, "keeps no voxel of"),
        *(("labels.nii", values, AFFINE, several) for values in labels),
    ]:
        with pytest.raises(BoldError, match=expected):
            images.mask_of(save(tmp_path / name, mask, affine), [run], to)
    cut = tmp_path / "cut.nii.gz"
    cut.write_bytes(save(tmp_path / "whole.nii.gz", ones).read_bytes()[:-30])
    with pytest.raises(BoldError, match=r"cut\.nii\.gz cannot be read"):
        images.mask_of(cut, [run], to)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("affine", [AFFINE, FINE])
def test_labels_equal_nilearn(tmp_path, run, to, rng, affine, masked):
    n = 12 if affine is AFFINE else 24
    labels = rng.choice([0, 3, 4, 11], size=(n, n, n))
    atlas = save(tmp_path / "atlas.nii", labels, affine, np.int16)
    inside = (rng.random(to.shape) > 0.3) if masked else None
    found, names = signals(run, to, atlas, inside)
    mask = nibabel.Nifti1Image(inside.astype(np.uint8), AFFINE) if masked else None
    masker = NiftiLabelsMasker(
        atlas, mask_img=mask, standardize=None, resampling_target="data"
    )
    np.testing.assert_allclose(found, masker.fit_transform(run), rtol=1e-5)
    assert names == ["region 3", "region 4", "region 11"]


@pytest.mark.parametrize("affine", [AFFINE, FINE])
def test_maps_equal_nilearn(tmp_path, run, to, rng, affine):
    n = 12 if affine is AFFINE else 24
    maps = rng.random((n, n, n, 3))
    atlas = save(tmp_path / "maps.nii.gz", maps, affine)
    found, names = signals(run, to, atlas)
    masker = NiftiMapsMasker(atlas, standardize=None, resampling_target="data")
    expected = masker.fit_transform(run)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
    assert names == ["region 1", "region 2", "region 3"]


def test_region_without_a_voxel_is_left_out(tmp_path, run, to, capsys):
    labels = np.zeros((24, 24, 24))
    labels[:12], labels[12:], labels[5, 5, 5] = 1, 2, 9
    finer = AFFINE @ np.diag([0.5, 0.5, 0.5, 1])
    found, names = signals(run, to, save(tmp_path / "atlas.nii", labels, finer))
    assert names == ["region 1", "region 2"] and found.shape == (14, 2)
    assert "left out: region 9" in capsys.readouterr().out


@pytest.mark.parametrize(
    "name, text, expected",
    [
        ("a.tsv", "index\tname\n9\tV1 \n0\tair\n4\tSTG\n", ["STG", "V1"]),
        ("a.csv", "Name,hemi\nSTG,L\nV1,R\n", ["STG", "V1"]),
        ("a.txt", "STG\nV1\n\n", ["STG", "V1"]),
        ("a_labels.txt", "9 V1\n4 STG\n", ["STG", "V1"]),
        (
            "a.tsv",
            "index\tname\tcolor\n0\tout\tn/a\n4\tNA\t#f00\n9\tRH\tn/a\n",
            ["NA", "RH"],
        ),
        ("a.csv", "index;name\n4;NA\n9;RH\n", ["NA", "RH"]),
        ("b.txt", "of another atlas\n", ["region 4", "region 9"]),
    ],
)
def test_region_names(tmp_path, name, text, expected):
    (tmp_path / name).write_text(text)
    assert images.region_names(tmp_path / "a.nii.gz", np.array([4, 9])) == expected


@pytest.mark.parametrize(
    "name, text, expected",
    [
        ("a.tsv", "index\tname\n4\tSTG\n", r"a\.tsv: no name for label 9"),
        ("a.tsv", "label\nSTG\n", "expected a column name.*found columns label"),
        ("a.tsv", "index\tname,x\n4\tSTG\n", "expected one column name.*name,x"),
        ("a.tsv", "name\tname\nSTG\tV1\n", "expected one column name.*name, name"),
        ("a.tsv", "index\tname\ninf\tSTG\n", "its index: cannot convert"),
        ("a.txt", "STG\n", "expected 2 names or a column index.*found 1 names"),
    ],
)
def test_bad_region_names(tmp_path, name, text, expected):
    (tmp_path / name).write_text(text)
    with pytest.raises(BoldError, match=expected):
        images.region_names(tmp_path / "a.nii", np.array([4, 9]))


@pytest.fixture
def three(tmp_path, rng):
    """A run in which three blocks each have a signal of their own, and the labels."""
    labels = np.repeat(np.int16([1, 2, 7]), 2)[:, None, None] * np.ones((6, 6), "i2")
    of_region = rng.normal(size=(3, 60))
    data = 100 + 0.1 * rng.normal(size=(6, 6, 6, 60))
    data += np.repeat(of_region, 2, axis=0)[:, None, None]
    return save(tmp_path / "three.nii.gz", data), labels, of_region


LABELS = {  # the same regions, as people save them
    "3d.nii": lambda path, labels: save(path, labels),
    "4d.nii.gz": lambda path, labels: save(path, labels[..., None]),
    "slope.nii": lambda path, labels: scaled(path, labels, 1.00000001),
    "off.nii": lambda path, labels: save(path, labels * np.float32(1.00001)),
    "nan.nii": lambda path, labels: save(path, np.where(labels == 2, np.nan, labels)),
    "large.nii": lambda path, labels: save(
        path, 6e8 * (labels > 0) + labels, dtype="f8"
    ),
    "thousands.nii": lambda path, labels: save(path, 12000 + labels, dtype="f4"),
}


@pytest.mark.parametrize("name", LABELS)
def test_labels_are_labels_however_they_were_saved(tmp_path, three, name):
    run, labels, of_region = three
    atlas = LABELS[name](tmp_path / name, labels)
    to = images.grid(images.open_image(run))
    found, names = signals(run, to, atlas)
    expected = of_region if name != "nan.nii" else of_region[[0, 2]]
    assert len(names) == len(expected)
    for signal, column in zip(expected, found.T, strict=True):
        assert np.corrcoef(signal, column)[0, 1] > 0.99


def test_an_atlas_of_thousands_of_labels(tmp_path, run, to, data):
    labels = np.arange(1728, dtype=np.int16).reshape(12, 12, 12)
    atlas = scaled(tmp_path / "many.nii", labels, 1.00000001)
    found, names = signals(run, to, atlas)
    assert names == [f"region {k}" for k in range(1, 1728)]
    np.testing.assert_allclose(found, data.reshape(1728, -1)[1:].T, rtol=1e-5)


def test_one_map_of_fractions_is_no_label(tmp_path, three):
    run, labels, _ = three
    to = images.grid(images.open_image(run))
    share = 0.25 * (labels == 1) + 0.75 * (labels == 2)
    found, names = signals(run, to, save(tmp_path / "a.nii", share[..., None]))
    voxels = nibabel.load(run).get_fdata()[labels < 7].T
    weights = share[labels < 7]
    expected = voxels @ weights / (weights**2).sum()
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-4)
    assert names == ["region 1"]
    binary = np.stack([labels == 1, labels == 2], 3)
    found, names = signals(run, to, save(tmp_path / "b.nii", binary))
    means = [nibabel.load(run).get_fdata()[labels == k].mean(0) for k in (1, 2)]
    np.testing.assert_allclose(found.T, means, rtol=1e-5)


def test_bad_atlases(tmp_path, run, to):
    ones, far = np.ones((12, 12, 12)), AFFINE.copy()
    far[0, 3] += 3 * 8  # a quarter is outside
    for name, atlas, affine, expected in [
        ("tiny.nii", ones / 5000, AFFINE, "whole numbers as labels.*found 0.0002"),
        ("far.nii", ones, far, r"only 75% of .*far\.nii lies inside.*more than 80%"),
        ("half.nii", ones / 2, AFFINE, r"whole numbers as labels.*found 0\.5"),
        ("nan.nii", ones[..., None] * np.nan, AFFINE, "all of it is 0 or NaN"),
        ("minus.nii", ones - 2 * (ones.cumsum(0) > 6), AFFINE, "above 0, found -1"),
        ("tpl-B_dseg.nii", ones, AFFINE, "is in space B, .* in A"),
        ("zeros.nii", 0 * ones, AFFINE, r"zeros\.nii: all of it is 0"),
    ]:
        with pytest.raises(BoldError, match=expected):
            images.atlas_weights(save(tmp_path / name, atlas, affine), [run], to)
    atlas = save(tmp_path / "tpl-A_dseg.nii", ones)
    with pytest.raises(BoldError, match="no region has a voxel"):
        images.atlas_weights(atlas, [run], to, np.zeros(to.shape, bool))


def test_maps_are_fitted_to_the_voxels_that_are_there(tmp_path, to, data, capsys):
    maps = np.zeros((12, 12, 12, 2))
    maps[2:6, ..., 0], maps[4:9, ..., 0], maps[4:9, ..., 1] = 1, 0.5, 1
    cut = data.copy()
    cut[2:4, :8] = np.nan
    path = save(tmp_path / "cut.nii", cut)
    atlas = save(tmp_path / "maps.nii", maps)
    found, _ = signals(path, to, atlas)
    used = maps.any(3) & np.isfinite(cut).all(3)
    expected = np.linalg.lstsq(maps[used], cut[used], rcond=None)[0].T
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-2)
    n_maps, n_out = maps.any(3).sum(), 2 * 8 * 12
    said = f"cut.nii: {n_out} of the {n_maps} voxels of the maps are 0 or NaN"
    assert said in capsys.readouterr().out


def test_one_map_in_whole_percent_is_said(tmp_path, run, to, capsys):
    percent = np.zeros((12, 12, 12, 1))
    percent[3, :3, 0, 0] = [20, 50, 90]
    atlas = save(tmp_path / "p.nii", percent, dtype="i1")
    _, names = signals(run, to, atlas)
    assert names == ["region 20", "region 50", "region 90"]
    assert "taken as 3 labels (20 to 90)" in capsys.readouterr().out
