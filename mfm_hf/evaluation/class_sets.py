"""Over which classes the mean is taken."""

from __future__ import annotations

from mfm_hf.data.classes import CITYSCAPES, ClassSet

_NOT_IN_SYNTHIA = ("terrain", "truck", "train")
_SMALL_IN_SYNTHIA = ("wall", "fence", "pole")

# SYNTHIA labels 16 of the 19 classes; 13-class means leave three more out. Only the mean is taken over fewer classes:
# no pixel is left out, so a truck that is called a car still counts against the cars (seg/README.md of lhoyer/MIC).
EVAL_CLASSES: dict[str, tuple[str, ...]] = {
    "cityscapes19": CITYSCAPES.names,
    "synthia16": tuple(name for name in CITYSCAPES.names if name not in _NOT_IN_SYNTHIA),
    "synthia13": tuple(name for name in CITYSCAPES.names if name not in _NOT_IN_SYNTHIA + _SMALL_IN_SYNTHIA),
}


def resolve_eval_classes(text: str, classes: ClassSet) -> tuple[str, ...]:
    """Return the names of the classes that a mean is taken over, in the order of their ids.

    Args:
        text: A key of `EVAL_CLASSES`, or names with commas between them.
        classes: The classes of the domain that is measured on.

    Raises:
        ValueError: If the domain has no class of one of the names.
    """
    wanted = EVAL_CLASSES.get(text) or tuple(name.strip() for name in text.split(","))
    missing = [name for name in wanted if name not in classes.names]
    if missing:
        raise ValueError(
            f"--eval_classes {text}: there is no class {missing[0]!r} here; choose of {', '.join(classes.names)}, "
            f"or one of {', '.join(EVAL_CLASSES)}"
        )
    return tuple(name for name in classes.names if name in wanted)
