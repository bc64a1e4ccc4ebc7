import pytest
import torch

from mfm_hf.models.detail_windows import DetailBox, cover, cut_windows, draw_detail_box, merge_windows, sliding_boxes


def draw(height: int, width: int, seed: int = 0, crop_size: tuple[int, int] = (512, 512)) -> DetailBox:
    return draw_detail_box(height, width, crop_size, 8, torch.Generator().manual_seed(seed))


def test_drawn_boxes_lie_on_the_references_grid():
    boxes = [draw(1024, 1024, seed) for seed in range(600)]
    assert all(box.bottom - box.top == box.right - box.left == 512 for box in boxes)
    offsets = {box.top for box in boxes}
    assert offsets == {box.left for box in boxes} == set(range(0, 505, 8))  # never 512
    assert any(box.top != box.left for box in boxes)
    assert draw(1024, 1024, 7) == draw(1024, 1024, 7)


def test_a_box_larger_than_the_image_shrinks_to_its_grid():
    assert draw(128, 100) == DetailBox(0, 128, 0, 96)
    with pytest.raises(ValueError, match="at least 8 x 8 pixels, not 7 x 64"):
        draw(7, 64)


def test_sliding_windows_cover_the_image_row_by_row():
    boxes = sliding_boxes((100, 64), (64, 64), (32, 32))
    assert boxes == (DetailBox(0, 64, 0, 64), DetailBox(32, 96, 0, 64), DetailBox(36, 100, 0, 64))
    assert len(sliding_boxes((1024, 1024), (512, 512), (256, 256))) == 9
    assert sliding_boxes((32, 200), (64, 100), (32, 100)) == (DetailBox(0, 32, 0, 100), DetailBox(0, 32, 100, 200))


def test_merging_puts_windows_back():
    images = torch.randn(2, 3, 40, 56)
    boxes = sliding_boxes((40, 56), (16, 24), (8, 16))
    windows = cut_windows(images, boxes)
    assert windows[3].equal(boxes[1].cut(images)[1])  # all images of a box, then the next box
    torch.testing.assert_close(merge_windows(windows, boxes, (40, 56)), images)


def test_merging_takes_the_mean_of_overlaps_and_zero_elsewhere():
    boxes = [DetailBox(0, 1, 0, 2), DetailBox(0, 1, 1, 3)]
    merged = merge_windows(torch.tensor([1.0, 1.0, 4.0, 4.0]).reshape(2, 1, 1, 2), boxes, (2, 4))
    assert merged[0, 0].tolist() == [[1.0, 2.5, 4.0, 0.0], [0.0, 0.0, 0.0, 0.0]]


def test_boxes_in_cells():
    box = DetailBox(8, 40, 24, 56)
    assert box.inner(16) == DetailBox(0, 2, 1, 3)  # cut down, as the references do at stride 8
    assert box.outer(16) == DetailBox(0, 3, 1, 4)
    covered = cover([box.inner(16)], like=torch.ones(2, 5, 4, 4))
    assert covered.tolist() == [[0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
