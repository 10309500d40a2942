"""Videos through an autoencoder, and `python -m perceiver_jax.run reconstruct`."""

import dataclasses

import jax
import numpy as np
import pytest

from perceiver_jax import models, run
from perceiver_jax.card import ModelCard, VideoPreprocessing
from perceiver_jax.errors import UserError
from perceiver_jax.models import PerceiverConfig, VideoDecoderConfig, VideoEncoderConfig
from perceiver_jax.models.release import release

pytest.importorskip("av", reason="videos need PyAV")

from perceiver_jax.data.video import probe, read_clip, write_video  # noqa: E402
from perceiver_jax.pipelines.video_reconstruction import VideoReconstruction  # noqa: E402

RATES = VideoPreprocessing(frame_rate=10.0, sample_rate=8_000)


@pytest.fixture(scope="module")
def released(random_model):
    config = PerceiverConfig(
        encoder=VideoEncoderConfig(
            video_shape=(4, 16, 16, 3),
            num_video_frequency_bands=2,
            num_samples=3_200,
            num_audio_frequency_bands=3,
            num_classes=3,
            num_cross_attention_heads=1,
            num_self_attention_heads=2,
            num_self_attention_layers_per_block=1,
        ),
        decoder=VideoDecoderConfig(
            num_label_query_channels=6, num_output_channels=5, num_cross_attention_heads=1
        ),
        num_latents=3,
        num_latent_channels=8,
    )
    found = release(random_model(lambda: models.build(config, jax.random.key(0))))
    return dataclasses.replace(found, card=ModelCard(labels=("a", "b", "c"), video=RATES))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, released):
    folder = tmp_path_factory.mktemp("videos")
    released.save(folder / "model")
    rng = np.random.default_rng(0)
    frames = list(rng.integers(0, 256, (12, 32, 48, 3), np.uint8))
    sound = np.sin(np.arange(9_600) / 8_000 * 2 * np.pi * 440).astype(np.float32) / 2
    write_video(folder / "clip.mp4", frames, 10.0, sound, 8_000)
    write_video(folder / "silent.mp4", frames, 10.0)
    write_video(folder / "short.mp4", frames[:2], 10.0)
    (folder / "broken.mp4").write_bytes(b"no video")
    return folder


def test_a_clip_is_what_the_model_makes_of_it(released, folder):
    (found,) = VideoReconstruction(released)(folder / "clip.mp4", top=2)
    clip = read_clip(
        folder / "clip.mp4",
        num_frames=4,
        frame_rate=10.0,
        image_size=(16, 16),
        num_samples=3_200,
        sample_rate=8_000,
    )
    inputs = {"image": clip.frames[None] / np.float32(255), "audio": clip.sound[None]}
    wanted = jax.tree.map(np.asarray, released.model()(inputs))
    np.testing.assert_array_equal(found.seen, clip.frames)
    image = np.clip(wanted["image"][0], 0, 1) * 255
    assert np.abs(found.frames - image).max() <= 0.51
    np.testing.assert_allclose(found.sound, np.clip(wanted["audio"][0], -1, 1), atol=1e-5)
    probabilities = np.asarray(jax.nn.softmax(wanted["label"][0]))
    assert [label for label, _ in found.guesses] == [
        "abc"[i] for i in np.argsort(-probabilities)[:2]
    ]
    assert found.has_sound


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_no_sound_is_silence_or_hidden_where_training_hides_it(released, folder, rate):
    encoder = dataclasses.replace(released.config.encoder, audio_mask_rate=rate)
    config = dataclasses.replace(released.config, encoder=encoder)
    released = dataclasses.replace(released, config=config)
    (found,) = VideoReconstruction(released)(folder / "silent.mp4")
    assert not found.has_sound
    inputs = {"image": found.seen[None] / np.float32(255)}
    wanted = released.model()(
        inputs if rate else {**inputs, "audio": np.zeros((1, 3_200, 1), np.float32)}
    )
    np.testing.assert_allclose(found.sound, np.clip(wanted["audio"][0], -1, 1), atol=1e-5)


def test_clips_follow_each_other(released, folder):
    pipeline = VideoReconstruction(released)
    one, two = pipeline(folder / "clip.mp4", num_clips=2)
    (second,) = pipeline(folder / "clip.mp4", start_s=0.4)
    np.testing.assert_array_equal(two.seen, second.seen)
    assert not np.array_equal(one.seen, two.seen)


def test_the_command_writes_frames_and_sound_and_prints_guesses(folder, tmp_path, capsys):
    out = tmp_path / "rec.mp4"
    arguments = [f"--source=ours:{folder / 'model'}", f"--out={out}", str(folder / "clip.mp4")]
    assert run.main(["reconstruct", *arguments, "--num-clips=2", "--side-by-side"]) == 0
    info = probe(out)
    assert info.size == (16, 32) and info.has_sound
    np.testing.assert_allclose(info.seconds, 0.8, rtol=0.05)
    printed = capsys.readouterr().out
    assert "clip 2" in printed and printed.count("%") == 6


@pytest.mark.parametrize(
    ("video", "out", "message"),
    [
        ("clip.mp4", "rec.avi", "does not end in .mp4"),
        ("missing.mp4", "rec.mp4", "missing.mp4"),
        ("broken.mp4", "rec.mp4", "broken.mp4"),
        ("short.mp4", "rec.mp4", "short.mp4"),
    ],
)
def test_what_cannot_be_done_is_told(folder, tmp_path, capsys, video, out, message):
    arguments = [f"--source=ours:{folder / 'model'}", f"--out={tmp_path / out}"]
    assert run.main(["reconstruct", *arguments, str(folder / video)]) == 1
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / out).exists()


def test_more_clips_than_the_video_has(folder, tmp_path, capsys):
    arguments = [f"--source=ours:{folder / 'model'}", f"--out={tmp_path / 'rec.mp4'}"]
    assert run.main(["reconstruct", *arguments, "--num-clips=9", str(folder / "clip.mp4")]) == 1
    assert "enough for 3 clips of 0.40 s" in " ".join(capsys.readouterr().err.split())


def test_the_video_itself_is_not_overwritten(folder, capsys):
    clip = folder / "clip.mp4"
    before = clip.read_bytes()
    arguments = [f"--source=ours:{folder / 'model'}", f"--out={clip}", str(clip)]
    assert run.main(["reconstruct", *arguments]) == 1
    assert "choose another name" in capsys.readouterr().err
    assert clip.read_bytes() == before


def test_other_models_are_refused(tiny_config, random_model):
    other = release(random_model(lambda: models.build(tiny_config(), jax.random.key(0))))
    with pytest.raises(UserError, match="^a classifier of images .* does not reconstruct videos"):
        VideoReconstruction(other)
