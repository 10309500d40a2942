"""Rows of metrics: averages, one row per step, whatever was killed when."""

import errno
import io
import json
import time
import wave

import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_jax.train.metrics import MetricsWriter, average, read_rows
from tests.train.tensorboard_files import events, scalars


def rows(*steps):
    return "".join(json.dumps({"step": step, "train/loss": 1 / step}) + "\n" for step in steps)


def test_an_average_divides_total_sums_by_total_weights():
    batches = [
        {"loss": (jnp.float32(3.0), jnp.float32(2.0)), "accuracy": (1.0, 2.0)},
        {"loss": (jnp.float32(5.0), jnp.float32(6.0)), "accuracy": (0.0, 6.0)},
    ]
    assert average(batches) == {"loss": 1.0, "accuracy": 0.125}


def test_an_average_over_many_batches_keeps_double_precision():
    batches = [{"loss": (np.float32(2**24), np.float32(0.0))}, *[{"loss": (1.0, 1.0)}] * 3]
    assert average(batches)["loss"] == (2**24 + 3) / 3


@pytest.mark.parametrize(
    "torn", ['{"step": 4, "train/lo', '{"step": 4', "{", '{"step": 4, "a": 1,']
)
def test_a_last_line_cut_short_is_left_out_and_written_over(tmp_path, torn):
    path = tmp_path / "metrics.jsonl"
    path.write_text(rows(1, 2, 3) + torn)
    assert [row["step"] for row in read_rows(path)] == [1, 2, 3]
    with MetricsWriter(tmp_path, first_step=3) as writer:
        writer.scalars(4, {"train/loss": 0.25})
    lines = path.read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4]


def test_rows_after_the_step_that_is_resumed_from_are_taken_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(rows(1, 2, 3, 4))
    with MetricsWriter(tmp_path, first_step=2) as writer:
        writer.scalars(3, {"train/loss": 9.0})
    assert [(row["step"], row["train/loss"]) for row in read_rows(path)] == [
        (1, 1.0),
        (2, 0.5),
        (3, 9.0),
    ]


def test_a_fresh_run_starts_with_no_rows(tmp_path):
    assert read_rows(tmp_path / "metrics.jsonl") == []
    (tmp_path / "metrics.jsonl").write_text(rows(1, 2))
    with MetricsWriter(tmp_path, first_step=0):
        pass
    assert read_rows(tmp_path / "metrics.jsonl") == []


def test_a_row_is_on_disk_as_soon_as_it_is_written(tmp_path):
    with MetricsWriter(tmp_path, first_step=0) as writer:
        writer.scalars(1, {"train/loss": np.float32(0.5)})
        assert read_rows(writer.path) == [{"step": 1, "train/loss": 0.5}]


def test_tensorboard_follows_within_seconds(tmp_path):
    with MetricsWriter(tmp_path, first_step=0) as writer:
        for step in range(1, 6):
            writer.scalars(step, {"train/loss": step})
        for _ in range(100):
            time.sleep(0.05)
            if shown := scalars(tmp_path).get("train/loss", {}).keys() == {1, 2, 3, 4, 5}:
                break
        assert shown


def test_a_sound_is_a_wav_file_among_the_events_and_none_changes_nothing(tmp_path):
    samples = np.array([0.0, 0.5, -1.0, 7.0])
    (tmp_path / "heard").mkdir()
    (tmp_path / "silent").mkdir()
    with MetricsWriter(tmp_path / "heard", first_step=0) as writer:
        writer.media(3, {}, {}, {"continuation": (samples, 16_000)})
    with MetricsWriter(tmp_path / "silent", first_step=0) as writer:
        writer.media(3, {}, {})
    assert not [value for _, event in events(tmp_path / "silent") for value in event.summary.value]
    ((event, value),) = [
        (event, value) for _, event in events(tmp_path / "heard") for value in event.summary.value
    ]
    assert (event.step, value.tag) == (3, "eval/continuation")
    assert (value.audio.content_type, value.audio.length_frames) == ("audio/wav", 4)
    assert (value.audio.sample_rate, value.audio.num_channels) == (16_000, 1)
    with wave.open(io.BytesIO(value.audio.encoded_audio_string)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16_000, 1, 2)
        heard = np.frombuffer(file.readframes(4), "<i2")
    # What is too loud is cut off, not turned round.
    assert heard.tolist() == [0, 16_384, -32_767, 32_767]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_full_disk_is_told_and_nobody_waits_for_the_thread_that_it_ended(tmp_path, monkeypatch):
    from tensorboardX.event_file_writer import EventsWriter

    def fail(self, event):
        raise OSError(errno.ENOSPC, "No space left on device")

    with MetricsWriter(tmp_path, first_step=0) as writer:
        writer.scalars(1, {"train/loss": 1.0})
        monkeypatch.setattr(EventsWriter, "write_event", fail)
        picture = np.zeros((256, 256, 3), np.uint8)
        with pytest.raises(OSError, match="No space left on device.*tensorboard"):
            for step in range(2, 1000):
                writer.media(step, {"picture": picture}, {})
                writer.scalars(step, {"train/loss": 1.0})
                time.sleep(0.01)
    assert read_rows(writer.path)[0] == {"step": 1, "train/loss": 1.0}
