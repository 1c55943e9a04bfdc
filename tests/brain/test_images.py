import gzip
import tracemalloc

import nibabel
import numpy as np
import pytest
from nifti import AFFINE, save
from nilearn.image import resample_img
from nilearn.maskers import NiftiMasker
from nilearn.masking import apply_mask

from anbn.brain import images
from anbn.brain.images import BoldError, Grid

BLOCKS = pytest.mark.parametrize("block", [1, 300, 2**22])  # 1, 2 and all volumes


def write_raw(path, data, dtype, **fields):
    """A NIfTI file byte by byte: nibabel would put it right."""
    header = nibabel.Nifti1Header(endianness=dtype[0])
    header.set_data_dtype(np.dtype(dtype))
    header.set_data_shape(data.shape)
    header.set_sform(AFFINE, 1)
    header["magic"], header["vox_offset"] = b"n+1", 352
    for name, value in fields.items():
        header[name] = value
    content = data.astype(dtype).tobytes(order="F")
    path.write_bytes(header.binaryblock + bytes(4) + content)


@pytest.fixture
def data(rng):
    return (100 + rng.normal(size=(4, 5, 6, 12))).astype(np.float32)


@pytest.fixture
def inside(rng):
    return rng.random((4, 5, 6)) > 0.5


def grid_of(path):
    return images.grid(images.open_image(path))


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@BLOCKS
def test_extract_equals_plain_indexing(
    tmp_path, data, inside, name, block, monkeypatch
):
    monkeypatch.setattr(images, "BLOCK", block)
    path = save(tmp_path / name, data)
    found = images.extract(path, grid_of(path), inside)
    np.testing.assert_array_equal(found, data[inside].T)
    assert found.dtype == np.float32


@pytest.mark.parametrize("dtype", [">f4", "<i2", ">i2", "<f8"])
def test_any_byte_order_and_type(tmp_path, data, inside, dtype):
    path, data = tmp_path / "big.nii", data.round()
    write_raw(path, data, dtype)
    assert nibabel.load(path).header.endianness == dtype[0]
    found = images.extract(path, grid_of(path), inside)
    np.testing.assert_array_equal(found, data[inside].T)
    assert found.dtype.isnative


def test_the_numbers_are_nilearns(tmp_path, data, inside, monkeypatch):
    """Of scaled integers, smoothed volumes, and those on another grid."""
    monkeypatch.setattr(images, "BLOCK", 400)
    image = nibabel.Nifti1Image(data, AFFINE)
    image.set_data_dtype(np.int16)  # nibabel chooses slope and intercept
    nibabel.save(image, tmp_path / "a.nii.gz")
    path, to = tmp_path / "a.nii.gz", images.grid(image)
    mask = nibabel.Nifti1Image(inside.astype(np.uint8), AFFINE)
    for smoothing in (0, 9):
        masker = NiftiMasker(mask, smoothing_fwhm=smoothing or None, standardize=None)
        found = images.extract(path, to, inside, smoothing=smoothing)
        np.testing.assert_allclose(found, masker.fit_transform(path), rtol=1e-5)
    np.testing.assert_allclose(images.extract(path, to, inside), data[inside].T, 1e-4)

    affine = np.diag([5.0, 5, 5, 1])
    affine[:3, 3] = -15, -15, -15
    to, fine = Grid((6, 6, 7), affine), np.ones((6, 6, 7), bool)
    fine[::2] = fine[:, :2] = fine[..., 5:] = False
    expected = resample_img(path, affine, to.shape, clip=False)
    mask = nibabel.Nifti1Image(fine.astype(np.uint8), affine)
    found = images.extract(path, to, fine)
    np.testing.assert_allclose(found, apply_mask(expected, mask), rtol=1e-5)


def test_one_grid_for_all(tmp_path, data):
    shifted, away = AFFINE.copy(), AFFINE.copy()
    shifted[0, 3] += 1
    away[1, 3] = 500
    paths = [
        save(tmp_path / "a.nii", data),
        save(tmp_path / "b.nii", data, shifted),
        save(tmp_path / "c.nii", data[:3]),
    ]
    assert images.common_grid(paths[:1] * 2).same(grid_of(paths[0]))
    for other in paths[1:]:
        with pytest.raises(BoldError, match=r"a\.nii have different grids.*voxel_size"):
            images.common_grid([paths[0], other])
    found = images.common_grid(paths, 8.0)  # the box of the MNI152 template
    assert found.shape == (26, 30, 25)
    np.testing.assert_allclose(found.affine[:3, 3], [-98, -134, -72])
    np.testing.assert_allclose(found.affine[:3, :3], np.diag([8, 8, 8]))
    with pytest.raises(BoldError, match=r"d\.nii: its middle is at \[0.0, 520.0, 0.0"):
        images.common_grid([*paths, save(tmp_path / "d.nii", data, away)], 8.0)


@pytest.mark.parametrize(
    "unit, value, expected", [("sec", 1.5, 1.5), ("msec", 1500, 1.5), (0, 2.0, 2.0)]
)
def test_tr_of_the_header(tmp_path, data, unit, value, expected):
    image = nibabel.Nifti1Image(data, AFFINE)
    image.header.set_zooms((8, 8, 8, value))
    image.header.set_xyzt_units("mm", unit)
    nibabel.save(image, tmp_path / "a.nii")
    assert images.header_tr(tmp_path / "a.nii") == pytest.approx(expected)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@BLOCKS
def test_nan_names_volume_and_voxel(tmp_path, data, value, block, monkeypatch):
    monkeypatch.setattr(images, "BLOCK", block)
    data[3, 4, 5, 11] = data[1, 2, 3, 7] = value
    path = save(tmp_path / "a.nii.gz", data)
    for smoothing in (0.0, 8.0):
        with pytest.raises(BoldError, match=r"a\.nii\.gz.*volume 7, voxel \(1, 2, 3\)"):
            images.extract(
                path, grid_of(path), np.ones((4, 5, 6), bool), smoothing=smoothing
            )


@BLOCKS
def test_only_what_the_mask_keeps_counts(
    tmp_path, data, inside, block, monkeypatch, capsys
):
    """SPM writes NaN outside the brain."""
    monkeypatch.setattr(images, "BLOCK", block)
    spm = data.copy()
    spm[~inside] = np.nan
    path = save(tmp_path / "spm.nii", spm)
    to, expected = grid_of(path), data[inside].T
    np.testing.assert_array_equal(images.extract(path, to, inside), expected)
    spm[~inside] = np.inf
    spm[~inside, 3] = np.nan
    path = save(tmp_path / "odd.nii", spm)
    np.testing.assert_array_equal(images.extract(path, to, inside), expected)
    with pytest.raises(BoldError, match=r"odd\.nii: \d+ values are NaN or infinite"):
        images.extract(path, to, inside, smoothing=8.0)  # it would spread
    assert "taken as 0" not in capsys.readouterr().out


def test_nan_outside_is_zero_where_it_would_spread(tmp_path, data, inside, capsys):
    zeros, spm = data.copy(), data.copy()
    zeros[~inside], spm[~inside] = 0, np.nan
    paths = [save(tmp_path / "zeros.nii", zeros), save(tmp_path / "spm.nii", spm)]
    coarse = Grid((2, 3, 3), AFFINE @ np.diag([2.0, 2, 2, 1]))
    whole = np.ones((2, 3, 3), bool)
    for to, kept, smoothing in [
        (grid_of(paths[0]), inside, 10.0),
        (coarse, whole, 0.0),
        (coarse, whole, 10.0),
    ]:
        one, other = (images.extract(p, to, kept, smoothing=smoothing) for p in paths)
        np.testing.assert_allclose(one, other, atol=1e-4)
    said = f"spm.nii: {(~inside).sum()} voxels are NaN, taken as 0"
    assert said in capsys.readouterr().out


@BLOCKS
def test_a_voxel_that_is_nan_now_and_then_is_damaged(
    tmp_path, data, inside, block, monkeypatch
):
    monkeypatch.setattr(images, "BLOCK", block)
    voxel = tuple(np.argwhere(inside)[0])
    for volumes_missing in (slice(0, 3), slice(5, 6), slice(1, None)):
        damaged = data.copy()
        damaged[voxel][volumes_missing] = np.nan
        path = save(tmp_path / "a.nii", damaged)
        with pytest.raises(BoldError, match=r"a\.nii: \d+ values are NaN or infinite"):
            images.extract(path, grid_of(path), inside)


def test_huge_but_finite_values_pass(tmp_path, data):
    path = save(tmp_path / "a.nii", data * 2e36)  # their sum is not finite
    found = images.extract(path, grid_of(path), np.ones((4, 5, 6), bool))
    assert np.isfinite(found).all()


def test_damaged_files(tmp_path, data, inside):
    whole = save(tmp_path / "whole.nii.gz", data).read_bytes()
    plain = save(tmp_path / "whole.nii", data).read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :]
    wrong_sum = whole[:-8] + bytes([whole[-8] ^ 255]) + whole[-7:]
    to = grid_of(tmp_path / "whole.nii")
    for name, content in {
        "no_header.nii.gz": gzip.compress(b"no header"),
        "no_gzip.nii.gz": b"not gzip at all" * 50,
        "cut.nii.gz": whole[:-400],
        "flipped.nii.gz": flipped,
        "checksum.nii.gz": wrong_sum,
        "cut.nii": plain[:-400],
        "empty.nii": b"",
    }.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(BoldError, match=f"{name} cannot be read as NIfTI"):
            images.extract(path, to, inside)


WRONG = {  # how an image is written: what is said of it
    "3d.nii": (lambda p, d: save(p, d[..., 0]), r"expected a 4D image, found \("),
    "5d.nii": (lambda p, d: save(p, d[..., None]), r"expected a 4D image, found \("),
    "a.mgz": (
        lambda p, d: nibabel.save(nibabel.MGHImage(d, AFFINE), p),
        "expected one NIfTI file",
    ),
    "complex.nii": (lambda p, d: save(p, d, dtype="c8"), "numbers, found complex64"),
    "zero.nii": (lambda p, d: write_raw(p, d, "<f4", srow_y=0.0), "is singular"),
    "nan.nii": (lambda p, d: write_raw(p, d, "<f4", srow_y=np.nan), "or not finite"),
    "none.nii": (lambda p, d: save(p, d, None), r"codes are 0.*set_sform"),
    "pixdim.nii": (
        lambda p, d: write_raw(p, d, "<f4", pixdim=[1, 3, 3, 3, 2, 1, 1, 1]),
        r"\[8.0, 8.0, 8.0\] mm by its affine, \[3.0, 3.0, 3.0\] mm by pixdim",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_headers_that_cannot_be(tmp_path, data, name):
    write, message = WRONG[name]
    write(tmp_path / name, data)
    with pytest.raises(BoldError, match=f"{name}: .*{message}"):
        images.open_image(tmp_path / name)


@pytest.mark.parametrize("name", ["long.nii", "long.nii.gz"])
def test_memory_holds_a_block_and_the_voxels_kept(tmp_path, rng, name, monkeypatch):
    data = rng.normal(size=(40, 40, 40, 60)).astype(np.float32)  # 15 MB
    path = save(tmp_path / name, data)
    monkeypatch.setattr(images, "BLOCK", 4 * 40**3)  # 1 MB
    inside = np.zeros((40, 40, 40), bool)
    inside[:10] = True  # 4 MB in all
    to = grid_of(path)
    images.extract(path, to, inside)  # imports and caches
    tracemalloc.start()
    found = images.extract(path, to, inside)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < found.nbytes + 4 * 2**20 < data.nbytes / 1.5
