import jax
import numpy as np

from perceiver_jax.train.flow_errors import end_point_errors, flow_sums


def test_the_error_is_the_distance_of_the_ends():
    flow = np.array([[3.0, 4.0], [1.0, 1.0], [7.0, 7.0]])
    truth = np.array([[0.0, 0.0], [1.0, 1.0], [np.nan, np.inf]])
    errors = end_point_errors(flow, truth, np.array([True, True, False]))
    np.testing.assert_allclose(errors, [5.0, 0.0, 0.0])


def test_gradients_are_finite_where_nothing_is_wrong_and_where_nothing_is_known():
    truth = np.array([[0.0, 0.0], [np.nan, 1.0], [0.0, 3.0]])
    valid = np.array([True, False, True])
    gradient = jax.grad(lambda flow: end_point_errors(flow, truth, valid).sum())(np.zeros((3, 2)))
    np.testing.assert_allclose(gradient, [[0, 0], [0, 0], [0, -1]])


def test_outliers_are_counted_over_valid_pixels():
    truth = np.zeros((1, 6, 2))
    truth[0, 4] = [100.0, 0.0]
    flow = truth.copy()
    flow[0, :, 1] = [0.5, 2.0, 4.0, 6.0, 4.0, 50.0]
    valid = np.array([[True, True, True, True, True, False]])
    sums = {name: float(s / w) for name, (s, w) in flow_sums(flow, truth, valid).items()}
    np.testing.assert_allclose(sums["end_point_error"], 16.5 / 5, rtol=1e-6)
    np.testing.assert_allclose(sums["outliers_1px"], 4 / 5)
    np.testing.assert_allclose(sums["outliers_3px"], 3 / 5)
    np.testing.assert_allclose(sums["outliers_5px"], 1 / 5)
    # 4 pixels of 100 are within 5 %.
    np.testing.assert_allclose(sums["fl_all"], 2 / 5)
    np.testing.assert_allclose(sums["end_point_error_of_no_flow"], 20.0)
