"""The one exception for what a user did wrong."""


class UserError(ValueError):
    """A mistake in the input: a file, an option, a configuration.

    The message is one line that says what is wrong, where, and what to do. Commands print it without a traceback.
    """
