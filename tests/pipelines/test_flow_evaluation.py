"""Errors of flow over whole pictures, and `python -m perceiver_jax.run evaluate-flow`."""

import numpy as np
import pytest

from perceiver_jax import run
from perceiver_jax.data.flow import write_flow
from perceiver_jax.errors import UserError
from perceiver_jax.pipelines.flow_evaluation import flow_errors
from tests.pipelines.test_optical_flow import picture, saved


class Still:
    """Estimates that nothing moves but to the right, by one pixel."""

    def __call__(self, pairs):
        # Reads ahead, as one that fills batches does.
        for first, _ in list(pairs):
            yield np.broadcast_to(np.float32([1.0, 0.0]), (*first.shape[:2], 2))


class Pairs:
    """Two pairs of two sizes; of the second only one pixel is known."""

    class_names = ()

    def __len__(self):
        return 2

    def __getitem__(self, index):
        size = (4, 6) if index == 0 else (5, 8)
        valid = np.ones(size, bool)
        if index:
            valid[...] = False
            valid[2, 3] = True
        flow = np.full((*size, 2), (1.0, 2.0) if index == 0 else (7.0, 8.0), np.float32)
        return {"frames": np.zeros((2, *size, 3), np.uint8), "flow": flow, "valid": valid}


def test_errors_are_means_over_all_known_pixels():
    got = flow_errors(Still(), Pairs())
    assert got["end_point_error"] == pytest.approx((24 * 2.0 + 10.0) / 25)
    assert got["outliers_1px"] == 1.0
    assert got["outliers_3px"] == got["fl_all"] == pytest.approx(1 / 25)
    assert got["end_point_error_of_no_flow"] == pytest.approx((24 * 5**0.5 + 113**0.5) / 25)
    assert flow_errors(Still(), Pairs(), [1])["end_point_error"] == pytest.approx(10.0)


def test_pairs_without_a_known_pixel_are_an_error():
    class Unknown(Pairs):
        def __getitem__(self, index):
            return super().__getitem__(index) | {"valid": np.zeros((4, 6), bool)}

    with pytest.raises(UserError, match="no.* known flow"):
        flow_errors(Still(), Unknown(), [0])


def test_a_folder_on_the_command_line(flow_source, tmp_path, capsys):
    root = tmp_path / "chairs"
    for i in (1, 2):
        for j in (1, 2):
            saved(root / "data" / f"{i:05d}_img{j}.ppm", picture(10 * i + j, 15, 20))
        write_flow(root / "data" / f"{i:05d}_flow.flo", np.ones((15, 20, 2), np.float32))
    (root / "FlyingChairs_train_val.txt").write_text("1\n2\n")
    command = ["evaluate-flow", flow_source, "--dataset=flying_chairs", f"--data-dir={root}"]
    assert run.main(command) == 0
    printed = capsys.readouterr().out
    assert "end point error of no flow   1.4142 px" in printed
    assert "fl all " in printed
