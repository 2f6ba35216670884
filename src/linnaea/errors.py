"""Errors for users: one line that says what happened, where, and what to do."""


class LinnaeaError(Exception):
    """An error that a user can act on. The command line prints it as one line and exits with 1."""


class UsageError(LinnaeaError):
    """An error in the command itself, such as an option, a column or the name of a recipe. The exit code is 2."""
