"""Time series on the host: files, packaged and synthetic datasets, and what is done to them."""

from perceiver_jax.data.time_series.config import TimeSeriesDataConfig
from perceiver_jax.data.time_series.series import Series, SeriesSource

__all__ = ["Series", "SeriesSource", "TimeSeriesDataConfig"]
