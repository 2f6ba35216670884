"""Errors that are meant for a person: one line that says what, where and what to do about it."""


class LinnaeaError(Exception):
    """Something a user can understand and act on. The command line prints it as one line and exits with 1."""


class UsageError(LinnaeaError):
    """The command itself is wrong (an option, a column, a name of a recipe). Exit code 2."""
