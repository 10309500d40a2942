"""Errors whose message is all that a user needs: commands print it without a stack trace."""


class UserError(ValueError):
    """Something outside the code is wrong; the message names it, what was expected, the remedy."""


def how_to_install(*extras: str) -> str:
    """What to run where a package of these extras, as in pyproject.toml, is not installed."""
    return f"run, in a checkout: pip install -c constraints.txt '.[{','.join(extras)}]'"
