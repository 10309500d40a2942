"""Errors whose message is all that a user needs: commands print it without a stack trace."""


class UserError(ValueError):
    """Something outside the code is wrong; the message names it, what was expected, the remedy."""
