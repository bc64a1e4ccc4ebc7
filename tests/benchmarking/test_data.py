from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mfm_hf.benchmarking.data import ENCODINGS, Workload, measure_data, noisy_streets, table
from mfm_hf.data.domains import load_domain


def test_all_kinds_of_files_are_measured_beside_each_other(tmp_path: Path) -> None:
    workload = Workload("small", (48, 96), (64, 32), (32, 32))
    speeds = measure_data(workload, tmp_path, num_images=2, repeats=1)
    assert [speed.files for speed in speeds] == ["raw PNG", *ENCODINGS]
    assert speeds[0].speedup == 1
    for speed in speeds:
        assert speed.speedup == pytest.approx(speed.images_per_second / speeds[0].images_per_second)
    assert table(speeds).count("\n| small |") == 4
    # What is timed is the same pictures: the lossless ones to the pixel.
    raw, png, webp, _ = (load_domain(str(tmp_path / name), "source") for name in ("raw", *ENCODINGS))
    assert raw.decode(raw.row_at(1)).image.shape == (48, 96, 3)
    np.testing.assert_array_equal(png.decode(png.row_at(1)).image, webp.decode(webp.row_at(1)).image)


def test_noise_is_that_of_a_camera() -> None:
    image = noisy_streets((48, 96), 1).decode({"index": 0}).image.astype(float)
    grain = np.median(np.abs(image[:, 1:] - image[:, :-1])) / (2**0.5 * 0.6745)  # of neighbours: blind to edges
    assert 4 < grain < 9
