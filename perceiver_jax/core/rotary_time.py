"""Rotary positions in time: moments are real numbers, and attention sees how far apart they are.

- Periods are spaced geometrically between the shortest and the longest that are to be told apart.
- Values may be turned as well: what a query gathers then says when it was, seen from the query.
"""

import dataclasses

import numpy as np

from perceiver_jax.core.position import Rotation
from perceiver_jax.typing import Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class RotaryTimeConfig:
    """How heads are turned by moments in time.

    Attributes:
        num_channels: channels r of every head that are turned, in pairs; even.
        min_period: shortest period, in the unit of the moments.
        max_period: longest period; moments further apart than half of it look alike.
        values: whether values are turned too, and results back by the moment of their query.

    Raises:
        ValueError: odd channels, or periods that are not 0 < shortest <= longest.

    Source: POYO (Azabou et al. 2023); torch_brain `RotaryTimeEmbedding`.
    """

    num_channels: int
    min_period: float = 1e-3
    max_period: float = 4.0
    values: bool = False

    def __post_init__(self):
        if self.num_channels < 2 or self.num_channels % 2:
            raise ValueError(
                f"{self.num_channels} channels cannot be turned in pairs; choose an even number"
            )
        if not 0.0 < self.min_period <= self.max_period:
            raise ValueError(
                f"periods from {self.min_period} to {self.max_period} are none; give "
                "0 < shortest <= longest, in the unit of the moments"
            )

    @property
    def frequencies(self) -> np.ndarray:
        """[num_channels / 2] radians per unit of time, fastest first."""
        periods = np.geomspace(self.min_period, self.max_period, self.num_channels // 2)
        return 2.0 * np.pi / periods

    def rotation(self, times: Array, query_times: Array) -> Rotation:
        """The rotation of keys at [B or 1, M] moments, and of queries at [B or 1, N]."""
        keys, queries = (
            dataclasses.replace(Rotation.of(x, self.frequencies), values=self.values)
            for x in (times, query_times)
        )
        return keys.with_queries(queries)
