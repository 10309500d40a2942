import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_jax import params
from perceiver_jax.adapters import ImageInputAdapter
from perceiver_jax.core.encoder import runs
from perceiver_jax.core.encoder_config import EncoderConfig
from perceiver_jax.core.rotary_time import RotaryTimeConfig
from perceiver_jax.core.tape import Tape
from perceiver_jax.core.tokens import Tokens

KEY = jax.random.key(0, impl="unsafe_rbg")
INPUTS = np.random.default_rng(0).normal(size=(2, 10, 6))
MASK = np.arange(10)[None] < np.asarray([[7], [4]])

# (number of cross-attentions, number of blocks, first cross-attention shared, first block shared,
# repeated layers shared).
FLAGS = [
    flags
    for flags in itertools.product((1, 2, 3), (1, 2, 3, 5), *[(False, True)] * 3)
    if flags[0] <= flags[1]
]


def fields(num_cross, num_blocks, first_cross, first_block, repeated):
    return {
        "num_cross_attention_layers": num_cross,
        "num_self_attention_blocks": num_blocks,
        "first_cross_attention_layer_shared": first_cross,
        "first_self_attention_block_shared": first_block,
        "repeated_layers_shared": repeated,
    }


@pytest.mark.parametrize(
    "flags, schedule",
    [
        # Perceiver IO: one cross-attention, one block applied again and again.
        ((1, 3, False, True, True), ((0, 0), (None, 0), (None, 0))),
        # The original Perceiver, and krasserm's MNIST classifier: the first of each stands alone.
        ((2, 3, False, False, True), ((0, 0), (1, 1), (None, 1))),
        ((3, 3, False, False, True), ((0, 0), (1, 1), (1, 1))),
        ((3, 3, True, True, True), ((0, 0), (0, 0), (0, 0))),
        ((3, 4, False, True, True), ((0, 0), (1, 0), (1, 0), (None, 0))),
        ((2, 3, True, False, True), ((0, 0), (0, 1), (None, 1))),
        # lucidrains with weight_tie_layers=False: nothing is shared.
        ((3, 3, False, False, False), ((0, 0), (1, 1), (2, 2))),
        ((1, 3, False, False, False), ((0, 0), (None, 1), (None, 2))),
    ],
)
def test_the_schedules_of_the_reference_models(flags, schedule):
    assert EncoderConfig(**fields(*flags)).schedule == schedule


@pytest.mark.parametrize("flags", FLAGS)
def test_every_schedule_says_what_its_flags_say(flags):
    num_cross, num_blocks, first_cross, first_block, repeated = flags
    schedule = EncoderConfig(**fields(*flags)).schedule
    crosses, blocks = zip(*schedule, strict=True)
    assert len(schedule) == num_blocks
    assert crosses[num_cross:] == (None,) * (num_blocks - num_cross)
    for applied, first_shared in ((crosses[:num_cross], first_cross), (blocks, first_block)):
        # Numbers are those of distinct layers in the order in which they first come.
        assert list(dict.fromkeys(applied)) == list(range(max(applied) + 1))
        if len(applied) > 1:
            assert (applied[0] == applied[1]) == first_shared
        later = applied[1:]
        assert len(set(later)) == (min(len(later), 1) if repeated else len(later))


@pytest.mark.parametrize("flags", FLAGS)
def test_runs_are_the_schedule_with_equal_steps_joined(flags):
    schedule = EncoderConfig(**fields(*flags)).schedule
    first, second, *rest = runs(schedule)
    assert first == (schedule[0][0], None, slice(0, 1))
    assert second[0] is None and second[2].start == 0
    written_out = [
        (cross, block, i) for cross, block, s in [second, *rest] for i in range(s.start, s.stop)
    ]
    assert written_out == [
        (None if i == 0 else cross, block, i) for i, (cross, block) in enumerate(schedule)
    ]
    for one, next_one in itertools.pairwise([second, *rest]):
        assert one[:2] != next_one[:2]


@pytest.mark.parametrize(
    "inverted, slices",
    [
        ((), [(1, 5), (5, 7)]),
        ((1, 2), [(1, 3), (3, 5), (5, 7)]),
        ((0, 3), [(1, 3), (3, 4), (4, 5), (5, 7)]),
    ],
)
def test_runs_keep_inverted_steps_apart(inverted, slices):
    schedule = EncoderConfig(**fields(5, 7, False, False, True)).schedule
    _, first_block, *rest = runs(schedule, inverted)
    assert first_block[2] == slice(0, 1)
    assert [(s.start, s.stop) for _, _, s in rest] == slices


def test_a_step_without_cross_attention_goes_on_whether_the_one_before_was_inverted_or_not():
    schedule = EncoderConfig(**fields(1, 3, False, True, True)).schedule
    assert runs(schedule, (0,)) == [(0, None, slice(0, 1)), (None, 0, slice(0, 3))]


@pytest.mark.parametrize("steps", [(2,), (0, 5), (-1,)])
def test_steps_that_have_no_cross_attention_cannot_be_inverted(steps):
    with pytest.raises(ValueError, match="names steps without cross-attention; .* are 0 to 1"):
        EncoderConfig(**fields(2, 3, False, False, True), inverted_cross_attention=steps)


def test_inversion_belongs_to_the_step_and_not_to_the_shared_weights(
    float64, random_model, tiny_encoder
):
    """Steps 1, 2 and 3 share their cross-attention; in step 2 alone it is inverted."""
    options = fields(4, 4, False, False, True)
    maps = {}
    for inverted in ((), (2,)):
        encoder = random_model(
            lambda inverted=inverted: tiny_encoder(**options, inverted_cross_attention=inverted)
        )
        encoder(jnp.asarray(INPUTS), tape=Tape(attention_maps=maps).at(str(len(inverted))))
    for step in range(4):
        plain, changed = (maps[f"{n}/step/{step}/cross_attention"] for n in (0, 1))
        assert (step < 2) == np.allclose(plain, changed)
    assert len(encoder.cross_attention) == 2


@pytest.mark.parametrize("flags", [f for f in FLAGS if f[:2] in ((2, 3), (1, 1))])
def test_there_are_as_many_modules_as_the_schedule_distinguishes(shapes, tiny_encoder, flags):
    schedule = EncoderConfig(**fields(*flags)).schedule
    found = shapes(lambda: tiny_encoder(**fields(*flags)))
    for name, applied in zip(
        ("cross_attention", "block"), zip(*schedule, strict=True), strict=True
    ):
        numbers = {int(path.split("/")[1]) for path in found if path.startswith(name + "/")}
        assert numbers == {i for i in applied if i is not None}


def test_more_cross_attentions_than_blocks_are_refused():
    with pytest.raises(ValueError, match="num_cross_attention_layers=3 exceeds .*blocks=2"):
        EncoderConfig(num_cross_attention_layers=3, num_self_attention_blocks=2)


@pytest.mark.parametrize(
    "flags, inverted",
    [
        ((2, 4, False, False, True), ()),
        ((3, 3, True, True, True), ()),
        ((5, 5, False, False, True), (1, 2)),
    ],
)
def test_scanned_steps_equal_written_out_ones_every_dropout_included(
    float64, random_model, tiny_encoder, flags, inverted
):
    rates = ("dropout", "residual_dropout", "input_dropout", "latent_dropout")
    options = fields(*flags) | dict.fromkeys(rates, 0.3) | {"inverted_cross_attention": inverted}
    written, scanned = (
        random_model(lambda unroll=unroll: tiny_encoder(**options, unroll=unroll))
        for unroll in (True, False)
    )
    stages = {}

    @jax.jit
    def encode(written, scanned, key):
        args, tape = (jnp.asarray(INPUTS), jnp.asarray(MASK)), Tape(stages=stages)
        return scanned(*args, key=key), written(*args, key=key), scanned(*args, key=key, tape=tape)

    got, *wants = encode(written, scanned, KEY)
    for want in wants:
        np.testing.assert_allclose(got, want, rtol=1e-9)
    assert not np.allclose(got, encode(written, scanned, jax.random.fold_in(KEY, 1))[0])


def test_the_program_does_not_grow_with_the_number_of_steps(random_model, equations, tiny_encoder):
    def size(num_blocks):
        options = fields(num_blocks - 1, num_blocks, False, False, True)
        encoder = random_model(lambda: tiny_encoder(**options))
        jaxpr = jax.make_jaxpr(lambda m, x: m(x))(encoder, jnp.asarray(INPUTS))
        return len(equations(jaxpr))

    assert size(4) == size(9)


def test_remat_of_an_encoder_recomputes_and_changes_nothing(
    float64, random_model, equations, tiny_encoder
):
    def loss(encoder):
        return jnp.square(encoder(jnp.asarray(INPUTS), key=KEY)).sum()

    results, recomputed = [], []
    for remat in (False, True):
        options = fields(3, 3, False, False, True) | {"dropout": 0.3, "remat": remat}
        encoder = random_model(lambda options=options: tiny_encoder(**options))
        names = [e.primitive.name for e in equations(jax.make_jaxpr(loss)(encoder))]
        recomputed.append(sum("remat" in name for name in names))
        results.append(jax.jit(jax.value_and_grad(loss))(encoder))
    # The program holds each distinct step once: the first cross-attention, the first block, and the
    # repeated ones.
    assert recomputed == [0, 4]
    (want, want_grads), (got, got_grads) = results
    np.testing.assert_allclose(got, want, rtol=1e-12)
    want_grads, got_grads = params.flatten(want_grads)[0], params.flatten(got_grads)[0]
    for path, grad in got_grads.items():
        np.testing.assert_allclose(grad, want_grads[path], rtol=1e-8, atol=1e-10, err_msg=path)


@pytest.mark.parametrize("batch", [False, True])
def test_given_latents_take_the_place_of_learned_ones(
    float64, random_model, call, tiny_encoder, batch
):
    encoder = random_model(tiny_encoder)
    given = np.random.default_rng(5).normal(size=(2, 4, 8))
    latents = given if batch else given[0]
    got = call(encoder, INPUTS, latents=latents)
    for i in range(2):
        encoder.latents[...] = jnp.asarray(given[i if batch else 0])
        np.testing.assert_allclose(got[i], call(encoder, INPUTS)[i], rtol=1e-10)


def test_without_learned_latents_the_caller_has_to_give_them(random_model, call, tiny_encoder):
    encoder = random_model(lambda: tiny_encoder(num_latents=None))
    assert "latents" not in params.flatten(encoder)[0]
    with pytest.raises(ValueError, match=r"pass latents=\[N, D\] or \[B, N, D\]"):
        call(encoder, INPUTS)
    assert call(encoder, INPUTS, latents=np.zeros((3, 8))).shape == (2, 3, 8)


def test_masked_inputs_do_as_if_they_were_not_there(float64, random_model, call, tiny_encoder):
    encoder = random_model(lambda: tiny_encoder(**fields(2, 2, False, False, True)))
    got = call(encoder, INPUTS, MASK)
    for i in range(2):
        alone = call(encoder, INPUTS[i : i + 1, MASK[i]])
        np.testing.assert_allclose(got[i], alone[0], rtol=1e-10)


def test_the_order_of_inputs_with_their_positions_makes_no_difference(
    float64, random_model, tiny_encoder
):
    adapter = ImageInputAdapter(image_shape=(3, 4, 1), num_frequency_bands=1)
    images = np.random.default_rng(0).normal(size=(2, 3, 4, 1))
    dense = adapter(jnp.asarray(images)).dense()[..., :6]
    shuffled = dense[:, np.random.default_rng(1).permutation(12)]
    encoder = random_model(tiny_encoder)
    encode = jax.jit(lambda m, x: m.encode(Tokens(content=x)).content)
    np.testing.assert_allclose(encode(encoder, shuffled), encode(encoder, dense), rtol=1e-10)
    # Without their positions the order is all that is left.
    moved = dense.at[..., 1:].set(shuffled[..., 1:])
    assert not np.allclose(encode(encoder, moved), encode(encoder, dense), rtol=1e-3)


@pytest.mark.parametrize(
    "mask, num_seen", [(None, [6, 6]), (MASK, [5, 3])], ids=["no mask", "mask"]
)
def test_input_dropout_lets_latents_see_exactly_the_promised_number(
    random_model, tiny_encoder, mask, num_seen
):
    # Of 10 inputs int(0.6 · 10) are seen; of 7 and 4 valid ones, rounded up, 5 and 3.
    encoder = random_model(lambda: tiny_encoder(input_dropout=0.4))

    @jax.jit
    def first_map(encoder, key):
        maps = {}
        encoder(jnp.asarray(INPUTS), mask, key=key, tape=Tape(attention_maps=maps))
        return maps["step/0/cross_attention"]

    weights = np.asarray(first_map(encoder, KEY))
    assert weights.shape == (2, 1, 4, 10)
    seen = weights > 0
    assert (seen == seen[:, :, :1]).all()
    np.testing.assert_array_equal(seen[:, 0, 0].sum(-1), num_seen)
    if mask is not None:
        assert not (seen[:, 0, 0] & ~mask).any()
    num_without_key = [10, 10] if mask is None else [7, 4]
    np.testing.assert_array_equal(
        (np.asarray(first_map(encoder, None)) > 0)[:, 0, 0].sum(-1), num_without_key
    )


def test_latent_dropout_leaves_latents_out_in_training_only(random_model, tiny_encoder):
    encoder = random_model(lambda: tiny_encoder(latent_dropout=0.5))
    x = jnp.asarray(INPUTS)
    assert jax.eval_shape(lambda: encoder(x, key=KEY)).shape == (2, 2, 8)
    assert jax.eval_shape(lambda: encoder(x)).shape == (2, 4, 8)


@pytest.mark.parametrize(
    "option, at, value",
    [
        ("num_cross_attention_heads", "cross_attention.0.attention.config.num_heads", 2),
        ("cross_attention_residual", "cross_attention.0.attention.config.residual", False),
        ("cross_attention_widening_factor", "cross_attention.0.mlp.config.widening_factor", 3),
        ("num_cross_attention_kv_heads", "cross_attention.0.attention.config.num_kv_heads", 1),
        ("num_self_attention_heads", "block.0.layer.0.attention.config.num_heads", 4),
        ("num_self_attention_kv_heads", "block.0.layer.0.attention.config.num_kv_heads", 1),
        ("self_attention_widening_factor", "block.0.layer.0.mlp.config.widening_factor", 3),
        *[
            (name, f"{layer}.{part}.config.{name}", value)
            for layer in ("cross_attention.0", "block.0.layer.0")
            for part, name, value in (
                ("mlp", "activation", "geglu"),
                ("mlp", "norm", "rms_norm"),
                ("attention", "norm", "rms_norm"),
                ("attention", "qk_norm", True),
                ("mlp", "layer_norm_epsilon", 1e-3),
                ("attention", "layer_norm_epsilon", 1e-3),
                ("attention", "masked_rows", "uniform"),
                ("attention", "dropout", 0.3),
                ("attention", "residual_dropout", 0.3),
                ("mlp", "residual_dropout", 0.3),
                ("mlp", "compute_dtype", "bfloat16"),
                ("attention", "compute_dtype", "bfloat16"),
            )
        ],
    ],
)
def test_each_option_reaches_the_layers_it_speaks_of(tiny_encoder, option, at, value):
    def reach(encoder):
        found = encoder
        for name in at.split("."):
            found = found[int(name)] if name.isdigit() else getattr(found, name)
        return found

    found = []
    jax.eval_shape(lambda: found.append(reach(tiny_encoder(**{option: value}))))
    jax.eval_shape(lambda: found.append(reach(tiny_encoder())))
    assert found[0] == value != found[1]


def test_time_turns_every_attention_as_the_options_say(tiny_encoder):
    options = {
        "rotary_channels": 2,
        "rotary_min_period": 0.5,
        "rotary_max_period": 8.0,
        "rotary_values": True,
    }
    encoder = tiny_encoder(**options)
    wanted = RotaryTimeConfig(num_channels=2, min_period=0.5, max_period=8.0, values=True)
    for layer in (encoder.cross_attention[0], encoder.block[0].layer[0]):
        assert layer.attention.config.rotary == wanted
    assert tiny_encoder().cross_attention[0].attention.config.rotary is None


def test_latents_may_contribute_keys_where_they_have_the_inputs_channels():
    assert EncoderConfig(latents_contribute_kv=True).cross_attention.queries_contribute_kv
    assert not EncoderConfig(latents_contribute_kv=True).self_attention.queries_contribute_kv


def test_mlps_may_have_a_dropout_rate_of_their_own(tiny_encoder):
    layers = []
    options = {"residual_dropout": 0.3, "mlp_residual_dropout": 0.0}
    jax.eval_shape(lambda: layers.append(tiny_encoder(**options).cross_attention[0]))
    assert layers[0].attention_config.residual_dropout == 0.3
    assert layers[0].mlp_config.residual_dropout == 0.0
    with pytest.raises(ValueError, match="mlp_residual_dropout=1.0 is not a rate"):
        EncoderConfig(mlp_residual_dropout=1.0)


@pytest.mark.parametrize(
    "options, changed",
    [
        (
            {"num_cross_attention_qk_channels": 4, "num_cross_attention_v_channels": 2},
            {
                "cross_attention/0/attention/query/kernel": (8, 4),
                "cross_attention/0/attention/key/kernel": (6, 4),
                "cross_attention/0/attention/value/kernel": (6, 2),
                "cross_attention/0/attention/output/kernel": (2, 8),
            },
        ),
        (
            {"num_self_attention_qk_channels": 4, "num_self_attention_v_channels": 2},
            {
                "block/0/layer/0/attention/query/kernel": (8, 4),
                "block/0/layer/0/attention/key/kernel": (8, 4),
                "block/0/layer/0/attention/value/kernel": (8, 2),
                "block/0/layer/0/attention/output/kernel": (2, 8),
            },
        ),
    ],
)
def test_channels_are_set_for_each_kind_of_attention(shapes, tiny_encoder, options, changed):
    plain = shapes(lambda: tiny_encoder(qkv_bias=False))
    found = shapes(lambda: tiny_encoder(qkv_bias=False, **options))
    assert {path: shape for path, shape in found.items() if shape != plain[path]} == changed


@pytest.mark.parametrize(
    "option, ends",
    [
        ("qkv_bias", ("query/bias", "key/bias", "value/bias")),
        ("out_bias", ("attention/output/bias",)),
        ("mlp_bias", ("mlp/hidden/bias", "mlp/output/bias")),
    ],
)
def test_biases_are_left_out_by_kind(shapes, tiny_encoder, option, ends):
    everything = set(shapes(tiny_encoder))
    removed = everything - set(shapes(lambda: tiny_encoder(**{option: False})))
    assert removed == {path for path in everything if path.endswith(ends)}


@pytest.mark.parametrize(
    "method, init_scale, latent_std",
    [("normal", 0.1, 0.1), ("variance_scaling", None, 0.02 * 0.8796), ("uniform", None, 1.0)],
)
def test_every_parameter_starts_by_the_recipe(tiny_encoder, method, init_scale, latent_std):
    options = {"init_method": method, "init_scale": init_scale}
    wide = {"num_latents": 64, "cross_attention_widening_factor": 4}
    found = jax.jit(lambda: params.flatten(tiny_encoder(**wide, **options))[0])()
    relative = []
    for path, value in found.items():
        *owner, name = path.split("/")
        kernel = "/".join([*owner, "kernel"])
        if name == "kernel":
            std = init_scale if method == "normal" else len(value) ** -0.5
            relative.append(np.ravel(value) / std)
        elif name == "latents":
            assert abs(np.std(value) / latent_std - 1) < 0.15
        elif name == "bias" and kernel in found and method == "uniform":
            assert 0 < np.abs(value).max() <= len(found[kernel]) ** -0.5
        else:
            np.testing.assert_array_equal(value, 1.0 if name == "scale" else 0.0)
    relative = np.std(np.concatenate(relative))
    assert abs(relative - (3**-0.5 if method == "uniform" else 1)) < 0.05


def test_latents_may_have_a_deviation_of_their_own(tiny_encoder):
    encoder = tiny_encoder(num_latents=64, latent_init_scale=0.5)
    assert abs(float(encoder.latents[...].std()) / 0.5 - 1) < 0.15


def test_unknown_fields_are_refused(tiny_encoder):
    with pytest.raises(TypeError, match="num_layers"):
        tiny_encoder(num_layers=3)


def test_every_option_is_tried_here_or_named():
    """A new field of the config needs a test: then its name goes into this list."""
    tested = {
        *fields(1, 1, True, True, True),
        "activation cross_attention_residual cross_attention_widening_factor compute_dtype dropout",
        "init_method init_scale input_dropout latent_dropout latent_init_scale layer_norm_epsilon",
        "masked_rows mlp_bias num_cross_attention_heads num_cross_attention_qk_channels out_bias",
        "num_cross_attention_v_channels num_self_attention_heads num_self_attention_qk_channels",
        "num_self_attention_v_channels num_self_attention_layers_per_block qkv_bias remat unroll",
        "residual_dropout self_attention_widening_factor inverted_cross_attention",
        "mlp_residual_dropout implementation norm qk_norm num_cross_attention_kv_heads",
        "num_self_attention_kv_heads latents_contribute_kv rotary_channels rotary_min_period",
        "rotary_max_period rotary_values",
    }
    words = {word for line in tested for word in line.split()}
    assert words == {field.name for field in dataclasses.fields(EncoderConfig)}


def test_masks_that_are_numbers_to_be_added_are_refused(random_model, tiny_encoder):
    model = random_model(tiny_encoder)
    with pytest.raises(ValueError, match="input_mask is of type float32; give bools"):
        model(jnp.asarray(INPUTS, jnp.float32), jnp.where(jnp.asarray(MASK), 0.0, -1e9))


def test_an_adapter_that_announces_other_channels_than_it_gives_is_named(tiny_encoder):
    with pytest.raises(ValueError, match="announces num_input_channels=6 and gave tokens of 7"):
        tiny_encoder().encode(Tokens(content=jnp.zeros((2, 10, 7))))


def test_latents_of_other_channels_are_refused(random_model, tiny_encoder):
    model = random_model(tiny_encoder)
    with pytest.raises(ValueError, match=r"latents of shape \(2, 3, 7\) do not fit"):
        model(jnp.asarray(INPUTS, jnp.float32), latents=jnp.zeros((2, 3, 7)))
