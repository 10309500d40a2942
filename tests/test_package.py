"""What `import perceiver_jax` gives: little at once, and its parts when they are asked for."""

import subprocess
import sys

import pytest

import perceiver_jax

CODE = """
import sys
import perceiver_jax
assert "jax" not in sys.modules
perceiver_jax.models.imagenet_fourier()
assert "jax" in sys.modules
"""


def test_parts_are_loaded_when_they_are_asked_for():
    subprocess.run([sys.executable, "-c", CODE], check=True)


@pytest.mark.parametrize("part", perceiver_jax.PARTS)
def test_every_part_is_there(part):
    assert getattr(perceiver_jax, part).__name__ == f"perceiver_jax.{part}"


def test_what_is_loaded_when_asked_for_is_listed_and_nothing_else():
    assert set(dir(perceiver_jax)) == {*perceiver_jax.__all__, *perceiver_jax.PARTS}


def test_other_names_are_no_attributes():
    with pytest.raises(AttributeError, match="no attribute 'modells'"):
        _ = perceiver_jax.modells
