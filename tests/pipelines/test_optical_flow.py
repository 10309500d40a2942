"""Pictures to optical flow, and `python -m perceiver_jax.run optical-flow`."""

import cv2
import jax
import numpy as np
import pytest

from perceiver_jax import models, run
from perceiver_jax.data.flow import read_flow
from perceiver_jax.errors import UserError
from perceiver_jax.flow_colors import flow_to_image
from perceiver_jax.models.release import release
from perceiver_jax.pipelines import optical_flow
from perceiver_jax.pipelines.optical_flow import OpticalFlowEstimation


def picture(seed, height=12, width=16):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def saved(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels[..., ::-1])
    return str(path)


def test_one_tile_is_the_models_flow(flow_release):
    first, second = picture(0), picture(1)
    (flow,) = OpticalFlowEstimation(flow_release)([(first, second)])
    frames = np.stack([first, second])[None] / np.float32(255) * 2 - 1
    np.testing.assert_allclose(flow, flow_release.model()(frames)[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [(12, 16), (20, 16), (25, 41), (5, 9), (13, 7)])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_pictures_of_any_size(flow_release, size, batch_size):
    pairs = [(picture(0, *size), picture(1, *size))]
    (flow,) = OpticalFlowEstimation(flow_release, batch_size=batch_size)(pairs)
    assert flow.shape == (*size, 2) and flow.dtype == np.float32 and np.isfinite(flow).all()
    (one,) = OpticalFlowEstimation(flow_release)(pairs)
    np.testing.assert_allclose(flow, one, rtol=1e-4, atol=1e-5)


def test_pairs_are_taken_one_by_one(flow_release):
    taken = []

    def pairs():
        for i in range(3):
            taken.append(i)
            yield picture(i), picture(i + 1)

    flows = OpticalFlowEstimation(flow_release)(pairs())
    next(flows)
    assert taken == [0]


def test_batches_are_filled_with_tiles_of_the_next_pairs(flow_release, monkeypatch):
    sizes = [(12, 16), (20, 16), (12, 16), (12, 30)]
    pairs = [(picture(i, *size), picture(9 + i, *size)) for i, size in enumerate(sizes)]
    wanted = list(OpticalFlowEstimation(flow_release)(pairs))
    calls = []
    predict = optical_flow._predict
    monkeypatch.setattr(
        optical_flow, "_predict", lambda *args: calls.append(len(args[1])) or predict(*args)
    )
    estimate = OpticalFlowEstimation(flow_release, batch_size=4)
    got = list(estimate(pairs))
    num_tiles = sum(len(estimate.tiles(size).places) for size in sizes)
    assert calls == [4] * -(-num_tiles // 4)
    for flow, one in zip(got, wanted, strict=True):
        np.testing.assert_allclose(flow, one, rtol=1e-4, atol=1e-5)


def test_flows_before_a_pair_that_is_none_are_yielded(flow_release):
    pairs = [(picture(0), picture(1)), (picture(2), picture(3)), (picture(4), picture(5, 12, 17))]
    flows = OpticalFlowEstimation(flow_release, batch_size=4)(pairs)
    assert [next(flows).shape for _ in range(2)] == [(12, 16, 2)] * 2
    with pytest.raises(UserError, match="12×16 and 12×17"):
        next(flows)


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (picture(0), picture(1, 12, 17), "12×16 and 12×17"),
        (picture(0)[..., :1], picture(1)[..., :1], "convert it to RGB"),
        (picture(0) / 255.0, picture(1) / 255.0, "of 8 bits"),
    ],
)
def test_pictures_that_are_no_pair(flow_release, first, second, message):
    with pytest.raises(UserError, match=message):
        list(OpticalFlowEstimation(flow_release)([(first, second)]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch of 0"),
        ({"min_overlap": 12}, "cannot overlap by 12"),
        ({"min_overlap": -1}, "cannot overlap by -1"),
    ],
)
def test_numbers_that_make_no_sense(flow_release, options, message):
    with pytest.raises(UserError, match=message):
        OpticalFlowEstimation(flow_release, **options)


def test_other_models_are_refused(tiny_config, random_model):
    other = release(random_model(lambda: models.build(tiny_config(), jax.random.key(0))))
    with pytest.raises(
        UserError, match="^a classifier of images .* does not estimate optical flow"
    ):
        OpticalFlowEstimation(other)


@pytest.mark.parametrize("ending", [".flo", ".npy", ".pfm"])
def test_two_pictures_to_a_file_of_flow(flow_release, flow_source, tmp_path, ending):
    files = [saved(tmp_path / f"{i}.png", picture(i, 15, 20)) for i in range(2)]
    out = tmp_path / f"out{ending}"
    assert run.main(["optical-flow", flow_source, f"--out={out}", *files]) == 0
    (wanted,) = OpticalFlowEstimation(flow_release)([(picture(0, 15, 20), picture(1, 15, 20))])
    np.testing.assert_allclose(read_flow(out).flow, wanted, rtol=1e-5, atol=1e-6)


def test_tiles_need_not_overlap(flow_release, flow_source, tmp_path, capsys):
    files = [saved(tmp_path / f"{i}.png", picture(i, 12, 32)) for i in range(2)]
    out = tmp_path / "out.flo"
    command = ["optical-flow", flow_source, f"--out={out}", *files]
    assert run.main([*command, "--min-overlap=0"]) == 0
    first, second = (
        OpticalFlowEstimation(flow_release, min_overlap=0)(
            [(picture(0, 12, 32)[:, part], picture(1, 12, 32)[:, part])]
        )
        for part in (slice(16), slice(16, 32))
    )
    wanted = np.concatenate([*first, *second], axis=1)
    np.testing.assert_allclose(read_flow(out).flow, wanted, rtol=1e-5, atol=1e-6)
    with pytest.raises(SystemExit):
        run.main([*command, "--min-overlap=-1"])
    assert "'-1' is no whole number from 0 on" in capsys.readouterr().err
    assert run.main([*command, "--min-overlap=12"]) == 1
    assert "take 0 or more, and less than their sides" in " ".join(capsys.readouterr().err.split())


def test_colours_beside_the_picture(flow_release, flow_source, tmp_path):
    files = [saved(tmp_path / f"{i}.png", picture(i)) for i in range(2)]
    out = tmp_path / "out.png"
    assert run.main(["optical-flow", flow_source, f"--out={out}", "--side-by-side", *files]) == 0
    shown = cv2.imread(str(out))[..., ::-1]
    (flow,) = OpticalFlowEstimation(flow_release)([(picture(0), picture(1))])
    np.testing.assert_array_equal(shown[:, :16], picture(0))
    np.testing.assert_array_equal(shown[:, 16:], flow_to_image(flow))


def test_a_folder_to_a_folder(flow_release, flow_source, tmp_path):
    for i in range(3):
        saved(tmp_path / "frames" / f"{i}.png", picture(i))
    out = tmp_path / "flows"
    assert run.main(["optical-flow", flow_source, f"--out={out}", str(tmp_path / "frames")]) == 0
    names = sorted(path.name for path in out.iterdir())
    assert names == ["0.flo", "0.png", "1.flo", "1.png"]
    (wanted,) = OpticalFlowEstimation(flow_release)([(picture(1), picture(2))])
    np.testing.assert_allclose(read_flow(out / "1.flo").flow, wanted, rtol=1e-5, atol=1e-6)


def test_a_video_to_a_video(flow_source, tmp_path):
    pytest.importorskip("av", reason="videos need PyAV")
    from perceiver_jax.data.video import probe, write_video

    clip = tmp_path / "clip.mp4"
    write_video(clip, (picture(i, 32, 48) for i in range(4)), 8.0)
    out = tmp_path / "flow.mp4"
    assert run.main(["optical-flow", flow_source, f"--out={out}", "--side-by-side", str(clip)]) == 0
    info = probe(out)
    assert info.size == (32, 96)
    np.testing.assert_allclose([info.frame_rate, info.seconds], [8.0, 3 / 8], rtol=1e-3)


@pytest.mark.parametrize(
    ("inputs", "out", "options", "message"),
    [
        (["0.png"], "x.flo", [], "alone gives no flow"),
        (["0.png", "1.png", "0.png"], "x.flo", [], "give two, or one folder"),
        (["0.png", "one"], "x.flo", [], "give two, or one folder"),
        (["nowhere"], "x.flo", [], "no file or folder nowhere"),
        (["0.png", "1.png"], "0.png/x.png", [], "x.png cannot be written"),
        (["one"], "x", [], "has one picture"),
        (["none"], "x", [], "has no images"),
        (["0.png", "1.png"], "x.mp4", [], "one flow is no video"),
        (["0.png", "1.png"], "x.txt", [], "ends in none of"),
        (["0.png", "1.png"], "x.flo", ["--side-by-side"], "holds numbers"),
        (["many"], "x.flo", [], "there are many flows"),
        (["0.png", "missing.png"], "x.flo", [], "missing.png"),
        (["0.png", "small.png"], "x.flo", [], "small.png is of 3×4, 0.png of 12×16"),
        (["broken.mp4"], "x.mp4", [], "broken.mp4"),
    ],
)
def test_what_cannot_be_done_is_told(
    flow_source, tmp_path, monkeypatch, capsys, inputs, out, options, message
):
    if inputs == ["broken.mp4"]:
        pytest.importorskip("av", reason="videos need PyAV")
    for name in ("0.png", "1.png", "one/0.png", "many/0.png", "many/1.png", "many/2.png"):
        saved(tmp_path / name, picture(0))
    saved(tmp_path / "small.png", picture(0, 3, 4))
    (tmp_path / "none").mkdir()
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    monkeypatch.chdir(tmp_path)
    assert run.main(["optical-flow", flow_source, f"--out={out}", *options, *inputs]) == 1
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / out).is_file()


@pytest.mark.parametrize(
    ("inputs", "out"),
    [(["0.png", "1.png"], "0.png"), (["0.png", "1.png"], "."), (["many"], "many")],
)
def test_what_is_read_is_not_overwritten(flow_source, tmp_path, monkeypatch, capsys, inputs, out):
    for name in ("0.png", "1.png", "many/0.png", "many/1.png"):
        saved(tmp_path / name, picture(0))
    monkeypatch.chdir(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.png")}
    assert run.main(["optical-flow", flow_source, f"--out={out}", *inputs]) == 1
    assert "would be overwritten" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.png")} == before


def test_numbered_pictures_follow_each_other(flow_release, flow_source, tmp_path):
    for i in (1, 2, 10):
        saved(tmp_path / "frames" / f"f{i}.png", picture(i))
    out = tmp_path / "flows"
    assert run.main(["optical-flow", flow_source, f"--out={out}", str(tmp_path / "frames")]) == 0
    assert sorted(path.name for path in out.glob("*.flo")) == ["f1.flo", "f2.flo"]
    (wanted,) = OpticalFlowEstimation(flow_release)([(picture(2), picture(10))])
    np.testing.assert_allclose(read_flow(out / "f2.flo").flow, wanted, rtol=1e-5, atol=1e-6)


def test_pictures_of_one_name_have_flows_of_their_own(flow_source, tmp_path):
    for name in ("0.bmp", "0.png", "1.png"):
        saved(tmp_path / "frames" / name, picture(0))
    out = tmp_path / "flows"
    assert run.main(["optical-flow", flow_source, f"--out={out}", str(tmp_path / "frames")]) == 0
    assert sorted(path.name for path in out.glob("*.flo")) == ["0.bmp.flo", "0.png.flo"]
