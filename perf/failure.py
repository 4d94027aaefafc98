"""What stops a measurement and is no fault of its code."""


class Failure(Exception):
    """Something is missing or did not work; the message says what to do, and is shown without a traceback."""
