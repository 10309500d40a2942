"""Options of an encoder, a decoder or a resampler whose attentions may be turned by time."""

import dataclasses

from perceiver_jax.config import setting
from perceiver_jax.core.layer_options import LayerOptions
from perceiver_jax.core.rotary_time import RotaryTimeConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class TimeOptions(LayerOptions):
    """What all layers have in common, time included."""

    rotary_channels: int = setting(
        0,
        "channels of every head that moments in time turn, in pairs; 0: time turns nothing. "
        "Inputs, latents and output queries then come as tokens with times",
        minimum=0,
    )
    rotary_min_period: float = setting(1e-3, "shortest period of that, in the unit of the times")
    rotary_max_period: float = setting(4.0, "longest period of that, in the unit of the times")
    rotary_values: bool = setting(
        False, "whether values are turned by time too, and results back by the time of their query"
    )

    def __post_init__(self):
        super().__post_init__()
        if self.rotary_values and not self.rotary_channels:
            raise ValueError(
                "rotary_values=True turns values by time, but rotary_channels=0 turns nothing; "
                "give a number of channels"
            )
        _ = self.rotary_time  # raises where it cannot be

    @property
    def rotary_time(self) -> RotaryTimeConfig | None:
        """How heads are turned by moments in time, if they are."""
        if not self.rotary_channels:
            return None
        return RotaryTimeConfig(
            num_channels=self.rotary_channels,
            min_period=self.rotary_min_period,
            max_period=self.rotary_max_period,
            values=self.rotary_values,
        )
