"""Classes that a model tells apart, and those of the data: how many, of what names, in both splits.

- A model may have more classes than the data, as one of published size on a small dataset has.
  Those without an example have names, too, so that every prediction has one.
"""

import sys
from collections.abc import Sequence

from perceiver_jax.errors import UserError


def check_num_classes(num_classes: int, class_names: Sequence[str], data: str) -> None:
    """Compares how many classes there are; says so where the model has more.

    Args:
        num_classes: of the model.
        class_names: of the data.
        data: how to call the data.

    Raises:
        UserError: the data has more.
    """
    wanted = len(class_names)
    remedy = f"set --config.model.decoder.num_classes={wanted}"
    if num_classes < wanted:
        raise UserError(
            f"the model tells {num_classes} classes apart, but {data} has {wanted}; {remedy}"
        )
    if num_classes > wanted:
        print(
            f"warning: the model tells {num_classes} classes apart, but {data} has {wanted}; "
            f"the others have no examples, and are named '{_nameless(wanted)}' and so on. If that "
            f"is not meant, {remedy}",
            file=sys.stderr,
        )


def check_same_classes(
    names: Sequence[str], held_out: Sequence[str], splits: Sequence[str]
) -> None:
    """Compares the names of the classes of two splits.

    Args:
        names: of the first.
        held_out: of the second.
        splits: how both are called.

    Raises:
        UserError: they are not the same, or in another order.
    """
    if tuple(names) == tuple(held_out):
        return
    said = [
        f"split '{one}' has {', '.join(map(repr, only[:3]))}, which '{other}' does not"
        for one, other, only in (
            (splits[1], splits[0], [name for name in held_out if name not in names]),
            (splits[0], splits[1], [name for name in names if name not in held_out]),
        )
        if only
    ] or [f"splits '{splits[0]}' and '{splits[1]}' have the same classes in another order"]
    raise UserError(
        f"{'; '.join(said)}: labels would mean something else in each, so give both the same "
        "class names in the same order"
    )


def all_names(class_names: Sequence[str], num_classes: int) -> tuple[str, ...]:
    """A name for each class of a model: those of the data, and 'class 7' for others."""
    return (*class_names, *map(_nameless, range(len(class_names), num_classes)))


def _nameless(index: int) -> str:
    return f"class {index}"
