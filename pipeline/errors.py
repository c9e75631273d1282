"""The two ways a job ends badly, told apart by the exit status."""


class InputError(ValueError):
    """Something given from outside is wrong: a config, a file, a table. Exit status 2.

    The message names the file, the field and the value, and says what to do.
    """


class RunError(RuntimeError):
    """The work itself could not be completed or its accounting does not add up. Exit status 1."""
