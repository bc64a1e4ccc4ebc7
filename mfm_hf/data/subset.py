"""A part of a domain that stands for the whole, and whether two splits are one."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

from mfm_hf.data.domain import Domain, light_rows


def evenly_spaced(domain: Domain, num_rows: int) -> Domain:
    """Return the domain with `num_rows` of its rows, in their order; the domain itself if it has no more.

    They are spread evenly, since neighbours are often frames of one drive: the first 100 training images of Cityscapes
    all come from one town. A domain that can only be streamed gives its first rows, as others would have to be fetched
    to be skipped.

    Args:
        domain: The domain.
        num_rows: At least 1.
    """
    if num_rows >= domain.num_rows:
        return domain
    if domain.row_at is None:
        rows = list(islice(domain.rows, num_rows))
    else:
        rows = [domain.row_at(index * domain.num_rows // num_rows) for index in range(num_rows)]
    return replace(
        domain,
        rows=light_rows(rows),
        num_rows=num_rows,
        row_at=rows.__getitem__,
        label_source=None,  # statistics are of the whole
        class_counts=None,
    )


def same_examples(one: Domain, other: Domain) -> bool:
    """Whether two labelled domains show the same examples, as both splits of a folder without splits do."""
    if one.num_rows != other.num_rows or next(iter(one.rows)) != next(iter(other.rows)):
        return False
    if one.label_source is None or other.label_source is None:
        return True
    return one.label_source.fingerprint() == other.label_source.fingerprint()
