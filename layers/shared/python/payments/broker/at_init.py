"""Imports kafka-python at init, for functions whose callers wait for an event to be published.

In the handler, where the publisher would import it, a function of 512 MB has 0.29 of a core, and the import takes three times as
long.
"""

import kafka  # noqa: F401
