"""Operations are those that a pencil counts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import imagenet_a
from perceiver_jax import models, params
from perceiver_jax.config import from_dict
from perceiver_jax.models import ImageEncoderConfig, MeanPoolDecoderConfig, PerceiverConfig
from perceiver_jax.train.config import ExperimentConfig
from perceiver_jax.train.model_flops import count_products, model_flops
from tests.train.tiny_runs import experiment


def counted(function, *shapes):
    arrays = [jax.ShapeDtypeStruct(shape, np.float32) for shape in shapes]
    return count_products(jax.make_jaxpr(function)(*arrays).jaxpr)


def test_a_product_is_a_multiplication_and_an_addition_for_each_pair():
    assert counted(jnp.matmul, (5, 2, 3), (5, 3, 4)) == 2 * 5 * 2 * 3 * 4
    assert counted(lambda x: jnp.sin(x) + x, (5,)) == 0


@pytest.mark.parametrize(("groups", "inputs"), [(1, 6), (3, 2)])
def test_a_convolution_is_a_product_at_each_place(groups, inputs):
    def convolve(x, kernel):
        return jax.lax.conv_general_dilated(
            x,
            kernel,
            (1, 1),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )

    found = counted(convolve, (2, 8, 8, 6), (3, 3, inputs, 12))
    assert found == 2 * (2 * 8 * 8 * 12) * (3 * 3 * inputs)


def test_loops_count_as_often_as_they_run_and_the_larger_branch_counts():
    def looped(x):
        return jax.lax.scan(lambda x, _: (x @ x, None), x, length=7)[0]

    def chosen(x):
        return jax.lax.cond(x[0, 0] > 0, lambda x: x @ x @ x, lambda x: x @ x, x)

    one = 2 * 3 * 3 * 3
    assert counted(looped, (3, 3)) == 7 * one
    assert counted(jax.jit(chosen), (3, 3)) == 2 * one
    assert counted(jax.checkpoint(jnp.matmul), (3, 3), (3, 3)) == one


def test_the_published_model_has_its_406_gflop_an_image():
    config = from_dict(ExperimentConfig, imagenet_a.get_config())
    batch = {
        "image": jax.ShapeDtypeStruct((2, 224, 224, 3), np.float32),
        "label": jax.ShapeDtypeStruct((2,), np.int32),
    }
    assert model_flops(config, batch) == pytest.approx(2 * 3 * 406e9, rel=1e-3)


def test_forms_of_attention_and_recomputation_do_not_matter():
    batch = {
        "image": jax.ShapeDtypeStruct((8, 8, 8, 1), np.float32),
        "label": jax.ShapeDtypeStruct((8,), np.int32),
    }
    flops = {
        model_flops(experiment(encoder={"dropout": 0.0, **fields}), batch)
        for fields in ({}, {"implementation": "plain"}, {"remat": "full"}, {"unroll": True})
    }
    assert len(flops) == 1


@pytest.mark.parametrize(
    ("fields", "millions", "billions"),
    [
        ({}, 44.9, 707.2),
        ({"num_cross_attention_layers": 1}, 42.1, 404.3),
        (
            {"first_self_attention_block_shared": False, "repeated_layers_shared": False},
            326.2,
            707.2,
        ),
    ],
    ids=["shared", "one cross-attention", "nothing shared"],
)
def test_the_first_perceiver_has_its_published_parameters_and_operations(
    fields, millions, billions
):
    """Perceiver tables 6 and 7, which count a little more than products."""
    encoder = {
        "image_shape": (224, 224, 3),
        "num_frequency_bands": 64,
        "num_cross_attention_heads": 1,
        "num_cross_attention_layers": 8,
        "num_self_attention_layers_per_block": 6,
        "num_self_attention_blocks": 8,
        "implementation": "plain",
    }
    skeleton = models.skeleton(
        PerceiverConfig(
            encoder=ImageEncoderConfig(**(encoder | fields)),
            decoder=MeanPoolDecoderConfig(num_classes=1000),
            num_latents=512,
            num_latent_channels=1024,
        )
    )
    assert round(params.count(skeleton.params) / 1e6, 1) == millions
    images = jax.ShapeDtypeStruct((1, 224, 224, 3), np.float32)
    traced = jax.make_jaxpr(lambda p, x: skeleton.bind(p)(x))(skeleton.params, images)
    assert count_products(traced.jaxpr) == pytest.approx(billions * 1e9, rel=2e-3)
