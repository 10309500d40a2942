"""A tape that a caller may lay along a model to see its intermediate results.

- Silent by default: nothing is kept, and compiled code does not change.
- A recording tape makes encoders apply their layers one by one (no scan), so that each application
  has a name of its own.
"""

from perceiver_jax.typing import Array


class Tape:
    """Collects named intermediates while a model is called.

    Args:
        stages: filled with `{name: array}` in order of computation; None records no stages.
        attention_maps: filled with `{name: [B, H, N, M] weights}`; None records none.
        prefix: put before every name.
    """

    def __init__(
        self,
        *,
        stages: dict[str, Array] | None = None,
        attention_maps: dict[str, Array] | None = None,
        prefix: str = "",
    ):
        self._stages = stages
        self._attention_maps = attention_maps
        self._prefix = prefix

    @property
    def recording(self) -> bool:
        """Whether anything is kept."""
        return self._stages is not None or self._attention_maps is not None

    def at(self, name: str) -> "Tape":
        """The same tape one level deeper: names recorded on it start with `name/`."""
        if not self.recording:
            return self
        return Tape(
            stages=self._stages,
            attention_maps=self._attention_maps,
            prefix=f"{self._prefix}{name}/",
        )

    def stage(self, name: str, value: Array) -> None:
        """Keeps an intermediate result."""
        if self._stages is not None:
            self._stages[self._prefix + name] = value

    def attention_map(self, weights: Array) -> None:
        """Keeps attention weights under the name of the layer that the tape stands at."""
        if self._attention_maps is not None:
            self._attention_maps[self._prefix.removesuffix("/")] = weights


SILENT = Tape()
"""The tape that keeps nothing."""
