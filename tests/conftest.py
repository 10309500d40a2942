"""What all tests share: strict JAX settings, tiny models, and eight simulated devices.

- Tests run on the CPU unless JAX_PLATFORMS says otherwise.
- Compilation skips most optimisations.
- Arrays of different rank never broadcast silently: a wrong axis is an error, not a result.
"""

import dataclasses
import os
import pathlib
import subprocess
import sys
import textwrap

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Most of the time of a test is spent compiling; with these two, a fifth of it. Commands that tests
# start inherit them.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false")
# Tests, and commands that they start, compile anew and leave the user's cache folder alone.
os.environ.setdefault("JAX_ENABLE_COMPILATION_CACHE", "false")

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from perceiver_jax import params
from perceiver_jax.core import PerceiverEncoder, Tokens
from perceiver_jax.models import ClassificationDecoderConfig, ImageEncoderConfig, PerceiverConfig

jax.config.update("jax_numpy_rank_promotion", "raise")

ROOT = pathlib.Path(__file__).parents[1]

TINY_ENCODER = {
    "num_cross_attention_heads": 1,
    "num_self_attention_heads": 2,
    "num_self_attention_layers_per_block": 1,
    "num_self_attention_blocks": 2,
}


@pytest.fixture(autouse=True, scope="module")
def programs_of_a_module_are_dropped():
    """Each compiled program holds several memory mappings, and Linux allows a process 65,530.

    With those of all modules kept, a run dies of a segmentation fault in the compiler near its end.
    """
    yield
    jax.clear_caches()


@pytest.fixture
def float64():
    """Double precision for the length of a test; arrays made before stay as they are."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="session")
def run_python():
    """A function that runs a snippet from the repository's root and returns what it printed."""

    def run(code, **environment):
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)],
            cwd=ROOT,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="session")
def on_eight_devices(run_python):
    """A function that runs a snippet where JAX sees eight devices and returns what it printed."""

    def run(code):
        flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=8"
        return run_python(code, XLA_FLAGS=flags, JAX_PLATFORMS="cpu")

    return run


@pytest.fixture(scope="session")
def random_model():
    """A function that makes a model of which no bias is 0, no scale 1 and no statistic unset.

    Args: `build`, which is only traced; `seed`. Numbers are float64 where JAX has that switched on.
    """

    def make(build, seed=0):
        rng = np.random.default_rng(seed)
        skeleton = params.skeleton(build)

        def draw(shapes):
            return {
                path: jnp.asarray(rng.uniform(-0.5, 0.5, x.shape) + (len(x.shape) == 1))
                if jnp.issubdtype(x.dtype, jnp.floating)
                else jnp.full(x.shape, 3, x.dtype)
                for path, x in shapes.items()
            }

        return skeleton.bind(draw(skeleton.params), draw(skeleton.stats))

    return make


@pytest.fixture(scope="session")
def call():
    """A function that calls a model compiled: `call(model, *args, **kwargs)`."""
    return jax.jit(lambda model, *args, **kwargs: model(*args, **kwargs))


@dataclasses.dataclass(frozen=True)
class ArrayAdapter:
    """The input adapter that adapts nothing: [B, M, C] arrays are the tokens."""

    num_input_channels: int

    def __call__(self, inputs, input_mask=None, *, key=None):
        return Tokens(content=inputs, mask=input_mask)


@pytest.fixture(scope="session")
def tiny_encoder():
    """A function that builds an encoder of [B, M, 6] arrays: 4 latents of 8 channels."""

    def build(*, num_latents=4, **fields):
        return PerceiverEncoder(
            input_adapter=ArrayAdapter(6),
            num_latents=num_latents,
            num_latent_channels=8,
            rngs=nnx.Rngs(0),
            **(TINY_ENCODER | fields),
        )

    return build


@pytest.fixture(scope="session")
def tiny_config():
    """A function that makes the config of a small classifier of 8×8 grey images.

    Args: `decoder`, a config; any field of the encoder.
    """

    def make(decoder=None, **fields):
        encoder = {"image_shape": (8, 8, 1), "num_frequency_bands": 2} | TINY_ENCODER
        decoder = decoder or ClassificationDecoderConfig(
            num_classes=5, num_output_query_channels=8, num_cross_attention_heads=1
        )
        return PerceiverConfig(
            encoder=ImageEncoderConfig(**(encoder | fields)),
            decoder=decoder,
            num_latents=4,
            num_latent_channels=8,
        )

    return make


@pytest.fixture(scope="session")
def shapes():
    """A function that traces `build` and lists parameters and statistics as {path: shape}."""

    def trace(build):
        skeleton = params.skeleton(build)
        return {path: x.shape for path, x in (skeleton.params | skeleton.stats).items()}

    return trace


@pytest.fixture(scope="session")
def equations():
    """A function that lists all equations of a jaxpr, those of inner jaxprs included."""

    def walk(jaxpr):
        jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
        for equation in jaxpr.eqns:
            yield equation
            for inner in jax.tree.leaves(
                list(equation.params.values()), is_leaf=lambda p: hasattr(p, "eqns")
            ):
                if hasattr(inner, "eqns"):
                    yield from walk(inner)

    return lambda jaxpr: list(walk(jaxpr))
