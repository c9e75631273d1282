"""What a sample holds: seed, image size and counts; and the demo's two samples."""

from dataclasses import dataclass

from pipeline.errors import InputError
from pipeline.samples.fabric import FABRIC
from pipeline.samples.label import LABEL
from pipeline.samples.scene import Category
from pipeline.samples.washer import WASHER

CATEGORIES: dict[str, Category] = {"fabric": FABRIC, "label": LABEL, "washer": WASHER}
# Below this a scratch is thinner than a pixel and the label's text a blur.
MIN_SIZE = 32

DEMO_SIZE = 128
# Training images come from another seed than the archive, so no image is in both.
DEMO_TRAINING_SEED_SHIFT = 1000


@dataclass(frozen=True)
class SampleSpec:
    """One sample: images of size × size pixels, counts per category (per_defect: per type).

    Raises:
        InputError: a category is unknown, the size is too small, or a number is negative.
    """

    seed: int
    size: int
    train_good: int
    test_good: int
    per_defect: int
    categories: tuple[str, ...] = tuple(CATEGORIES)

    def __post_init__(self) -> None:
        for name in ("seed", "train_good", "test_good", "per_defect"):
            value = getattr(self, name)
            if value < 0:
                raise InputError(f"sample {name} is {value}: it must be 0 or more")
        if self.size < MIN_SIZE:
            raise InputError(f"sample size is {self.size} px: it must be at least {MIN_SIZE}")
        for category in self.categories:
            find_category(category)


def find_category(name: str) -> Category:
    """The category of that name; InputError when there is none."""
    if name not in CATEGORIES:
        raise InputError(f"unknown sample category {name!r}: choose from {', '.join(CATEGORIES)}")
    return CATEGORIES[name]


def demo_archive(seed: int) -> SampleSpec:
    """The archive that the demo scores."""
    return SampleSpec(seed, DEMO_SIZE, train_good=60, test_good=36, per_defect=12)


def demo_training(seed: int) -> SampleSpec:
    """The labelled images that the demo's classifier learns from."""
    shifted = seed + DEMO_TRAINING_SEED_SHIFT
    return SampleSpec(shifted, DEMO_SIZE, train_good=160, test_good=0, per_defect=40)
