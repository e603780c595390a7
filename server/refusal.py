"""A configuration that cannot be used: a message and an exit code, never a traceback."""

import click

EXIT_CONFIGURATION = 78  # sysexits.h EX_CONFIG: a supervisor should not restart this


class Refusal(click.ClickException):
    """The command cannot start; the message names the thing and the way out."""

    exit_code = EXIT_CONFIGURATION
