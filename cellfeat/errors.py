"""The one exception that a user is meant to read."""


class CellfeatError(Exception):
    """Bad input or a state that the user can mend.

    The message is one line that names the file, the key or the value and says what to do; the command line prints it
    and exits with status 2. Every other exception is a defect of cellfeat.
    """
