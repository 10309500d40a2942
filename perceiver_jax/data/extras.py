"""Packages that not every installation has."""


def how_to_install(*extras: str) -> str:
    """What to run where a package of these extras, as in pyproject.toml, is not installed."""
    return f"run, in a checkout: pip install -c constraints.txt '.[{','.join(extras)}]'"
