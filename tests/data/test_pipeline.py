"""Batches are a function of seed and position, whatever the number of processes and threads."""

import contextlib

import numpy as np
import pytest

from perceiver_jax.data import ImageDataConfig, Shard, image_batches, images, pipeline
from perceiver_jax.errors import UserError

ALONE = Shard()


class Numbers:
    """A source of examples that are their own index."""

    class_names = ("only",)

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return {"number": index}


def with_noise(example, rng):
    return {"number": np.int64(example["number"]), "noise": rng.random()}


def training(count=12, *, batch_size=4, seed=0, shard=ALONE):
    return pipeline.training_batches(
        Numbers(count), with_noise, batch_size=batch_size, seed=seed, shard=shard
    )


def evaluation(count, *, batch_size=4, shard=ALONE):
    return pipeline.evaluation_batches(Numbers(count), dict, batch_size=batch_size, shard=shard)


def numbers(dataset, count):
    return [dataset[i]["number"].tolist() for i in range(count)]


def take(iterator, count):
    return [next(iterator) for _ in range(count)]


def assert_same_batches(got, want):
    assert len(got) == len(want)
    for a, b in zip(got, want, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            np.testing.assert_array_equal(a[name], b[name])


# A config whose transforms draw every kind of random number.
RANDOM_IMAGES = ImageDataConfig(
    dataset="synthetic",
    synthetic_shape=(11, 9, 3),
    image_size=(8, 8),
    batch_size=4,
    eval_batch_size=4,
    max_shift=1.0,
    max_rotation=10.0,
    max_scale=0.1,
    max_shear=0.1,
    random_flip=True,
)


def random_images(seed=0, *, num_threads=8):
    dataset = image_batches(RANDOM_IMAGES, training=True, seed=seed, shard=ALONE)
    return contextlib.closing(pipeline.iterate(dataset, num_threads=num_threads))


@pytest.fixture(scope="module")
def first_batches():
    with random_images() as iterator:
        return take(iterator, 10)


def test_an_epoch_holds_each_example_once_and_the_next_in_another_order():
    epochs = [sum(numbers(training(), 9)[start : start + 3], []) for start in (0, 3, 6)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(12))
    assert epochs[0] != list(range(12))
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]


def test_the_same_seed_gives_the_same_batches(first_batches):
    with random_images() as iterator:
        assert_same_batches(take(iterator, 10), first_batches)


@pytest.mark.parametrize("num_threads", [1, 3])
def test_the_number_of_threads_changes_nothing(first_batches, num_threads):
    with random_images(num_threads=num_threads) as iterator:
        assert_same_batches(take(iterator, 5), first_batches[:5])


def test_another_seed_gives_another_order_and_other_transforms():
    assert numbers(training(seed=1), 3) != numbers(training(seed=0), 3)
    noise = [np.sort([training(seed=seed)[i]["noise"] for i in range(3)], None) for seed in (0, 1)]
    assert not np.isin(noise[0], noise[1]).any()


def test_an_example_is_transformed_otherwise_in_each_epoch():
    batches = [training()[i] for i in range(6)]
    assert len(np.unique([batch["noise"] for batch in batches])) == 24


@pytest.mark.parametrize("done", [1, 4])
def test_a_resumed_iterator_goes_on_with_the_same_batches(first_batches, done):
    with random_images() as iterator:
        take(iterator, done)
        position = iterator.get_state()
    with random_images(num_threads=2) as resumed:
        resumed.set_state(position)
        assert_same_batches(take(resumed, 10 - done), first_batches[done:])


def test_processes_divide_each_batch_among_them():
    whole = numbers(training(), 6)
    first, second = (numbers(training(shard=Shard(i, 2)), 6) for i in range(2))
    for together, a, b in zip(whole, first, second, strict=True):
        assert len(a) == len(b) == 2
        assert sorted(a + b) == sorted(together)
    assert sorted(sum(first[:3] + second[:3], [])) == list(range(12))


def test_processes_draw_the_random_numbers_of_one_process():
    def noise(shard, count):
        batches = [training(shard=shard)[i] for i in range(count)]
        return {
            int(n): float(x)
            for batch in batches
            for n, x in zip(batch["number"], batch["noise"], strict=True)
        }

    together = noise(ALONE, 3)
    assert len(together) == 12 == len(set(together.values()))
    assert noise(Shard(0, 2), 3) | noise(Shard(1, 2), 3) == together


@pytest.mark.parametrize("count", [1, 7, 8, 9])
@pytest.mark.parametrize("processes", [1, 2])
def test_evaluation_sees_each_example_once_in_batches_of_one_size(count, processes):
    seen, filling = [], 0
    lengths = set()
    for i in range(processes):
        dataset = evaluation(count, shard=Shard(i, processes))
        lengths.add(len(dataset))
        for batch in (dataset[j] for j in range(len(dataset))):
            assert batch["mask"].shape == batch["number"].shape == (4 // processes,)
            assert batch["mask"].dtype == bool
            seen += batch["number"][batch["mask"]].tolist()
            filling += int((~batch["mask"]).sum())
    assert sorted(seen) == list(range(count))
    assert filling == -count % 4
    assert lengths == {-(-count // 4)}


def test_evaluation_by_one_process_keeps_the_order():
    dataset = evaluation(7)
    with contextlib.closing(pipeline.iterate(dataset)) as iterator:
        batches = list(iterator)
    assert sum((batch["number"].tolist() for batch in batches), [])[:7] == list(range(7))


def test_evaluation_of_images_is_the_same_at_every_pass():
    dataset = image_batches(RANDOM_IMAGES, training=False, seed=0, shard=ALONE)
    other = image_batches(RANDOM_IMAGES, training=False, seed=1, shard=ALONE)
    assert_same_batches([dataset[i] for i in range(4)], [other[i] for i in range(4)])


def test_image_batches_have_the_documented_shapes_and_types(first_batches):
    evaluated = image_batches(RANDOM_IMAGES, training=False, seed=0, shard=ALONE)[0]
    for batch in (first_batches[0], evaluated):
        assert batch["image"].shape == (4, 8, 8, 3) and batch["image"].dtype == np.float32
        assert batch["label"].shape == (4,) and batch["label"].dtype == np.int32
    assert "mask" not in first_batches[0]
    assert evaluated["mask"].all()


def test_training_and_held_out_synthetic_images_differ():
    train, held_out = (images.open_split(RANDOM_IMAGES, split) for split in ("train", "test"))
    assert not np.array_equal(train[0]["image"], held_out[0]["image"])


def test_fewer_examples_than_a_batch_is_an_error_that_says_both_numbers():
    with pytest.raises(UserError, match="has 3 examples, fewer than one batch of 4.*batch_size"):
        training(3)


def test_no_held_out_examples_is_an_error(monkeypatch):
    from perceiver_jax.data import sources

    monkeypatch.setitem(
        sources.DATASETS, "train_only", lambda split: Numbers(8 * (split == "train"))
    )
    config = ImageDataConfig(dataset="train_only")
    with pytest.raises(UserError, match="split 'test' of dataset 'train_only' has no examples"):
        image_batches(config, training=False, seed=0, shard=ALONE)


def test_a_batch_that_processes_cannot_divide_is_an_error():
    with pytest.raises(UserError, match="batch of 4 cannot be divided over 3 processes"):
        training(shard=Shard(0, 3))


@pytest.mark.parametrize("field", ["batch_size", "eval_batch_size"])
def test_a_batch_of_nothing_is_an_error(field):
    with pytest.raises(ValueError, match=f"{field}=0"):
        ImageDataConfig(dataset="digits", **{field: 0})


def test_what_is_not_by_position_is_read_ahead_and_resumed_too():
    dataset = training().to_iter_dataset().filter(lambda batch: batch["noise"][0] < 0.5)
    with contextlib.closing(pipeline.iterate(dataset)) as iterator:
        take(iterator, 2)
        position = iterator.get_state()
        expected = take(iterator, 3)
    with contextlib.closing(pipeline.iterate(dataset)) as resumed:
        resumed.set_state(position)
        assert_same_batches(take(resumed, 3), expected)
