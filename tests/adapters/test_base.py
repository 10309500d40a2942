import inspect
from typing import get_type_hints

import pytest
from flax import nnx

from perceiver_jax import adapters
from perceiver_jax.adapters.base import InputAdapter, OutputAdapter


@pytest.mark.parametrize("protocol, suffix", [(InputAdapter, "Input"), (OutputAdapter, "Output")])
def test_every_adapter_takes_what_its_protocol_says(protocol, suffix):
    classes = [
        cls
        for name, cls in vars(adapters).items()
        if name.endswith(f"{suffix}Adapter") and cls is not protocol
    ]
    assert classes
    methods = [name for name in ("__call__", "make_queries") if name in vars(protocol)]
    for cls in classes:
        assert issubclass(cls, nnx.Module)
        for name in methods:
            want = inspect.signature(getattr(protocol, name)).parameters.values()
            got = inspect.signature(getattr(cls, name)).parameters.values()
            shared = ["embedding"] if name == "__call__" and getattr(cls, "tied", False) else []
            assert [p.name for p in got if p.name in shared] == shared
            assert [(p.name, p.kind, p.default) for p in got if p.name not in shared] == [
                (p.name, p.kind, p.default) for p in want
            ]


def test_the_protocols_announce_their_channels():
    assert get_type_hints(InputAdapter) == {"num_input_channels": int}
    assert get_type_hints(OutputAdapter) == {
        "num_output_query_channels": int,
        "pointwise": bool,
        "tied": bool,
    }
