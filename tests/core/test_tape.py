import jax.numpy as jnp

from perceiver_jax.core.tape import SILENT, Tape

X = jnp.ones(3)


def test_the_silent_tape_keeps_nothing_at_any_depth():
    assert not SILENT.recording
    assert SILENT.at("layer") is SILENT
    SILENT.stage("name", X)
    SILENT.attention_map(X)


def test_names_are_paths_of_where_the_tape_stands():
    stages, maps = {}, {}
    tape = Tape(stages=stages, attention_maps=maps)
    assert tape.recording
    tape.stage("inputs", X)
    deeper = tape.at("encoder").at("step/0")
    deeper.stage("mlp", X)
    deeper.attention_map(X)
    assert list(stages) == ["inputs", "encoder/step/0/mlp"]
    assert list(maps) == ["encoder/step/0"]


def test_a_tape_of_one_kind_leaves_the_other_out():
    stages, maps = {}, {}
    for tape in (Tape(stages=stages), Tape(attention_maps=maps)):
        assert tape.recording and tape.at("layer").recording
        tape.at("layer").stage("mlp", X)
        tape.at("layer").attention_map(X)
    assert list(stages) == ["layer/mlp"]
    assert list(maps) == ["layer"]
