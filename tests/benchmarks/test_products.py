import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import products

pytest.importorskip("torch", reason="the other side is PyTorch")


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    for name, size in (("NUM_LAYERS", 2), ("NUM_CHANNELS", 8), ("NUM_HIDDEN", 16)):
        monkeypatch.setattr(products, name, size)


def test_all_forms_are_the_same_products():
    ws = products.kernels()
    assert [w.shape for w in ws] == 2 * [(8, 8), (8, 8), (8, 8), (8, 8), (8, 16), (16, 8)]
    x = jnp.ones((3, 8))
    wanted = np.linalg.multi_dot([x, *ws])
    left = products.rows_left(x, [jnp.asarray(w) for w in ws])
    right = products.kernel_left(x.T, [jnp.asarray(w.T) for w in ws])
    np.testing.assert_allclose(left, wanted, rtol=1e-4)
    np.testing.assert_allclose(right.T, wanted, rtol=1e-4)
    np.testing.assert_allclose(products.torch_products(ws, 3)(), wanted, rtol=1e-4)


def test_the_command_prints_a_line_for_each_number_of_rows(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["products", "--rounds", "1"])
    products.main()
    printed = capsys.readouterr().out
    assert all(f" {rows} " in printed for rows in products.ROWS)
