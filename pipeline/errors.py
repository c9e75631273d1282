"""The ways a job ends without what was asked of it, told apart by the exit status."""


class InputError(ValueError):
    """Something given from outside is wrong: a config, a file, a table. Exit status 2.

    The message names the file, the field and the value, and says what to do.
    """


class RunError(RuntimeError):
    """The work itself could not be completed or its accounting does not add up. Exit status 1."""


class NoVerdictError(RuntimeError):
    """There are too few images to say anything about them: no failure. Exit status 4."""
