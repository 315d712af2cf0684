"""Where a gateway may send the customer's browser back to."""

import re

PATTERN = r"(https://[A-Za-z0-9.-]+|http://(localhost|127\.0\.0\.1))(:[0-9]{1,5})?([/?#][!-~]*)?"
"""A host by its name or number, and printable ASCII after it: no user name, which could look like another host."""


def is_return_url(text: str) -> bool:
    return re.fullmatch(PATTERN, text) is not None
