"""The shapes given to the models equal torchvision's and ultralytics' own, byte for byte."""

from collections.abc import Iterator
from types import ModuleType, SimpleNamespace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as tvf

from pipeline.images.geometry import letterbox, letterbox_to_image, resize_square

Pixels = npt.NDArray[np.uint8]

# (width, height): square, wide, tall, odd, tiny, one pixel, thin lines, already the right size
SIZES = [
    (1024, 1024), (512, 512), (640, 480), (480, 640), (231, 407), (333, 335), (121, 619),
    (1500, 1000), (17, 16), (16, 33), (3, 2), (1, 1), (1, 700), (900, 1), (640, 640), (224, 224),
    (639, 640), (640, 641), (1999, 37), (2048, 2048), (1280, 2560), (448, 896),
]  # fmt: skip
SQUARES = [224, 256, 320, 640, 97]

every_size = pytest.mark.parametrize(("width", "height"), SIZES)


def noise(width: int, height: int) -> Pixels:
    rng = np.random.default_rng(width * 10_000 + height)
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def ultralytics_modules(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, ModuleType]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("YOLO_OFFLINE", "true")
        patch.setenv("YOLO_CONFIG_DIR", str(tmp_path_factory.mktemp("ultralytics")))
        from ultralytics.data import augment
        from ultralytics.engine import predictor
        from ultralytics.utils import ops

        yield {"augment": augment, "ops": ops, "predictor": predictor}


@every_size
@pytest.mark.parametrize("size", SQUARES)
def test_resize_equals_torchvision_on_the_pil_image(width: int, height: int, size: int) -> None:
    pixels = noise(width, height)
    reference = tvf.resize(
        Image.fromarray(pixels), [size, size], InterpolationMode.BILINEAR, antialias=True
    )
    resized = resize_square(pixels, size)
    assert resized.dtype == np.uint8
    if width != height or width not in {size * 2**times for times in range(8)}:
        np.testing.assert_array_equal(resized, np.array(reference))
        return
    # By PyTorch.
    off = np.abs(resized.astype(int) - np.array(reference))
    assert off.max() <= 1
    assert (off > 0).mean() < 1e-3


@every_size
@pytest.mark.parametrize("size", SQUARES)
def test_letterbox_equals_ultralytics(
    width: int, height: int, size: int, ultralytics_modules: dict[str, ModuleType]
) -> None:
    pixels = noise(width, height)
    reference = ultralytics_modules["augment"].LetterBox((size, size), auto=False)(image=pixels)
    np.testing.assert_array_equal(letterbox(pixels, size), reference)


def predict_shape(pixels: Pixels, size: int, rect: bool, modules: dict[str, ModuleType]) -> Pixels:
    """What YOLO.predict does to one image before the network sees it."""
    settings = SimpleNamespace(
        imgsz=[size, size],
        args=SimpleNamespace(rect=rect),
        scale_fill=False,
        model=SimpleNamespace(format="pt", stride=32),
    )
    shaped: list[Pixels] = modules["predictor"].BasePredictor.pre_transform(settings, [pixels])
    return shaped[0]


def test_predict_applies_the_same_only_without_rect(
    ultralytics_modules: dict[str, ModuleType],
) -> None:
    pixels = noise(640, 300)
    square = predict_shape(pixels, 640, False, ultralytics_modules)
    np.testing.assert_array_equal(letterbox(pixels, 640), square)
    assert predict_shape(pixels, 640, True, ultralytics_modules).shape == (320, 640, 3)


@every_size
@pytest.mark.parametrize("size", SQUARES)
def test_boxes_go_back_as_ultralytics_scales_them(
    width: int, height: int, size: int, ultralytics_modules: dict[str, ModuleType]
) -> None:
    rng = np.random.default_rng(size)
    boxes = rng.uniform(-20, size + 20, (50, 4)).astype(np.float32)
    given = boxes.copy()
    restored = letterbox_to_image(boxes, size, width, height)
    scale_boxes = ultralytics_modules["ops"].scale_boxes
    in_numpy = scale_boxes((size, size), boxes.copy(), (height, width, 3))
    in_torch = scale_boxes((size, size), torch.from_numpy(boxes.copy()), (height, width, 3))
    np.testing.assert_array_equal(restored, in_numpy)
    np.testing.assert_array_equal(restored, in_torch.numpy())
    np.testing.assert_array_equal(boxes, given)  # ours leaves its argument alone
    assert restored.dtype == np.float32


@every_size
def test_a_box_around_the_picture_comes_back_as_the_whole_image(width: int, height: int) -> None:
    """Found by looking at the letterboxed picture, not by the formula."""
    white = np.full((height, width, 3), 255, np.uint8)
    rows, columns = np.nonzero(letterbox(white, 320)[..., 0] == 255)
    around = np.array(
        [[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]], dtype=np.float32
    )
    whole = letterbox_to_image(around, 320, width, height)
    np.testing.assert_allclose(whole, [[0, 0, width, height]], rtol=1e-6)


def test_boxes_in_the_padding_are_clipped_to_the_image() -> None:
    boxes = np.array([[-50, -50, 700, 700], [0, 0, 640, 10]], dtype=np.float32)
    restored = letterbox_to_image(boxes, 640, width=400, height=200)
    np.testing.assert_array_equal(restored, [[0, 0, 400, 200], [0, 0, 400, 0]])


def test_no_box_is_fine_and_another_shape_is_not() -> None:
    assert letterbox_to_image(np.empty((0, 4), np.float32), 640, 30, 20).shape == (0, 4)
    with pytest.raises(ValueError, match=r"shape \(4,\), expected \(M, 4\)"):
        letterbox_to_image(np.zeros(4, np.float32), 640, 30, 20)
    with pytest.raises(ValueError, match=r"shape \(2, 6\), expected \(M, 4\)"):
        letterbox_to_image(np.zeros((2, 6), np.float32), 640, 30, 20)
