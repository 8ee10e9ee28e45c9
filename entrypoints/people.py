"""Who acts."""

import getpass
import os


def current_user() -> str:
    """Name of the user of this process; a number where the system knows none, as in a container."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # OSError from Python 3.13 on
        return f"user {os.getuid()}"
