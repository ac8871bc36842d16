"""Nearest-rank percentiles: the one method of this repository (spec/pef/SPEC.md section 8)."""


def percentile(values, percent):
    """The value at position ceil(percent * n / 100), counted from 1, in ascending order."""
    if not values or not 0 < percent <= 100:
        raise ValueError(f"no p{percent} of {len(values)} values")
    return sorted(values)[-(-percent * len(values) // 100) - 1]
