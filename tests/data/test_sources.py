"""What is no source is refused by name, with what to write."""

import pytest

from perceiver_jax.data import DatasetError, sources


class Whole:
    class_names = ("cat", "dog, or another")

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return {"label": index}


def without(attribute):
    members = {name: value for name, value in vars(Whole).items() if name != attribute}
    return type("Halves", (), members)()


@pytest.mark.parametrize("names", [("a", "b"), ["a", "b"], ()])
def test_a_source_is_one(names):
    source = Whole()
    source.class_names = names
    sources.check_source(source, "it")


@pytest.mark.parametrize(
    ("attribute", "remedy"),
    [
        ("class_names", r"for example, class_names = \('cat', 'dog'\)"),
        ("__len__", r"for example, def __len__\(self\): return"),
        ("__getitem__", r"for example, def __getitem__\(self, index\): return"),
    ],
)
def test_what_a_source_lacks_is_named_with_its_class_and_what_to_write(attribute, remedy):
    with pytest.raises(
        DatasetError, match=rf"it is of class Halves, .* no {attribute}: .*{remedy}"
    ):
        sources.check_source(without(attribute), "it")


def test_an_attribute_error_of_the_source_itself_is_left_alone():
    class Broken(Whole):
        @property
        def class_names(self):
            return self.forgotten

    with pytest.raises(AttributeError, match="forgotten"):
        sources.check_source(Broken(), "it")


def test_a_forgotten_return_is_told():
    with pytest.raises(DatasetError, match="it is None; return a source"):
        sources.check_source(None, "it")


@pytest.mark.parametrize("names", ["ab", (0, 1), 2, None])
def test_names_of_classes_are_texts(names):
    source = Whole()
    source.class_names = names
    with pytest.raises(DatasetError, match=r"class_names of Whole is .*; expected a name for each"):
        sources.check_source(source, "it")


def test_a_dataset_by_name_is_checked(monkeypatch):
    monkeypatch.setitem(sources.DATASETS, "mine", lambda split: without("class_names"))
    with pytest.raises(DatasetError, match="dataset 'mine' is of class Halves, .* no class_names"):
        sources.load("mine", "train", None)
