"""Compound scaling (Tan and Le 2019, section 3.3): depth, width and resolution grow together by one exponent."""

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple


class Scaling(NamedTuple):
    """Factors of a network against its base.

    Attributes:
        depth: Of the blocks of a stage.
        width: Of the channels.
        resolution: Of the sides of the image.
    """

    depth: float
    width: float
    resolution: float

    @property
    def cost(self) -> float:
        """About how many times the base's multiply-adds this takes: depth, and both others squared."""
        return self.depth * self.width**2 * self.resolution**2


PAPER_BASE = Scaling(depth=1.2, width=1.1, resolution=1.15)  # alpha, beta and gamma of EfficientNet-B0


def compound_scaling(phi: float, base: Scaling = PAPER_BASE) -> Scaling:
    """Returns `(alpha^phi, beta^phi, gamma^phi)` (eq. 3); the released B1 to B7 round these by hand.

    Args:
        phi: 0 for the base; each step about doubles the multiply-adds.
        base: Alpha, beta and gamma.
    """
    return Scaling(*(factor**phi for factor in base))


def scaling_candidates(step: float = 0.05, *, cost: float = 2.0, tolerance: float = 0.1) -> list[Scaling]:
    """Lists all alpha, beta and gamma of a grid, 1 or more each, with `alpha * beta^2 * gamma^2` about `cost`.

    Args:
        step: Of the grid.
        cost: How many times the base's multiply-adds the next size may take.
        tolerance: How far a candidate may be from `cost`.
    """
    factors = [1.0 + step * index for index in range(math.floor((cost + tolerance - 1.0) / step + 1e-9) + 1)]
    grid = itertools.starmap(Scaling, itertools.product(factors, repeat=3))
    return [each for each in grid if abs(each.cost - cost) <= tolerance]


def search_scaling(score: Callable[[Scaling], float], step: float = 0.05, **constraint: float) -> Scaling:
    """Returns the candidate that scores best: step 1 of the paper's method, phi being 1.

    Args:
        score: Builds and trains the scaled network and returns its accuracy; this is what takes the time.
        step, constraint: See `scaling_candidates`.
    """
    return max(scaling_candidates(step, **constraint), key=score)
