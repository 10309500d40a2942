import jax
import jax.numpy as jnp
import numpy as np

from tests.continuations import make_model, prompt


def test_rows_of_a_cache_go_on_as_their_sequences_do(random_model):
    model = make_model(random_model)
    ids = jnp.asarray([prompt(9, seed) for seed in range(3)])
    mask = jnp.asarray([[False] * n + [True] * (9 - n) for n in (0, 2, 5)])
    _, _, cache = model.prefill(ids, mask, num_latents=3, num_steps=2)
    rows, tokens = jnp.asarray([2, 0, 2, 1]), jnp.asarray([1, 2, 3, 4])
    got, _, grown = model.step(tokens, cache.rows(rows))
    _, _, wanted = model.prefill(ids[rows], mask[rows], num_latents=3, num_steps=2)
    logits, _, wanted = model.step(tokens, wanted)
    np.testing.assert_allclose(got, logits, rtol=1e-6)
    for x, y in zip(jax.tree.leaves(grown), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-6)
