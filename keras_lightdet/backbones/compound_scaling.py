"""Compound scaling (Tan and Le 2019, section 3.3): one exponent scales depth, width and resolution together."""

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple


class Scaling(NamedTuple):
    """Factors of a network's size relative to a base network."""

    depth: float  # of the number of blocks of a stage
    width: float  # of the channels
    resolution: float  # of height and width of the image

    @property
    def cost(self) -> float:
        """Factor of the multiply-adds, approximately: depth times width squared times resolution squared."""
        return self.depth * self.width**2 * self.resolution**2


PAPER_BASE = Scaling(depth=1.2, width=1.1, resolution=1.15)  # alpha, beta and gamma of EfficientNet-B0


def compound_scaling(phi: float, base: Scaling = PAPER_BASE) -> Scaling:
    """Returns `(alpha^phi, beta^phi, gamma^phi)` (eq. 3); the released B1 to B7 have these rounded by hand.

    Args:
        phi: 0 for the base network; an increase by 1 about doubles the multiply-adds.
        base: Alpha, beta and gamma.
    """
    return Scaling(*(factor**phi for factor in base))


def scaling_candidates(step: float = 0.05, *, cost: float = 2.0, tolerance: float = 0.1) -> list[Scaling]:
    """Returns all alpha, beta and gamma of a grid from 1 up with `alpha * beta^2 * gamma^2` about `cost`.

    Args:
        step: Of the grid.
        cost: Factor of the multiply-adds.
        tolerance: Largest difference of a candidate's cost from `cost`.
    """
    factors = [1.0 + step * index for index in range(math.floor((cost + tolerance - 1.0) / step + 1e-9) + 1)]
    grid = itertools.starmap(Scaling, itertools.product(factors, repeat=3))
    return [scaling for scaling in grid if abs(scaling.cost - cost) <= tolerance]


def search_scaling(score: Callable[[Scaling], float], step: float = 0.05, **constraint: float) -> Scaling:
    """Returns the candidate of the highest score: step 1 of the paper's method, with phi = 1.

    Args:
        score: Builds and trains the scaled network and returns its accuracy.
        step, constraint: See `scaling_candidates`.
    """
    return max(scaling_candidates(step, **constraint), key=score)
