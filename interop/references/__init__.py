"""The original implementations, where installed: built from their settings, run stage by stage.

Each module offers `build(settings)` and `stages(model, inputs)`; see `interop.check`.
"""

from perceiver_jax.errors import UserError


class ReferenceMissing(UserError):
    """The reference implementation is not installed."""
