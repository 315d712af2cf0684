"""Stripe's own package signs: reads [{secret, at_s, body}, …], and writes the header Stripe-Signature of each. With --each
it reads and writes one a line.

With a header it verifies: reads [{secret, body, header}, …], and says of each whether it is genuine. That package is in
.venv-gateways and nowhere else.
"""

import json
import sys
from typing import Any

from stripe import SignatureVerificationError, WebhookSignature


def said_of(one: dict[str, Any]) -> object:
    if "header" not in one:
        return WebhookSignature.generate_signature_header(one["body"], one["secret"], one["at_s"])
    try:
        return WebhookSignature.verify_header(one["body"], one["header"], one["secret"], 300)
    except (SignatureVerificationError, TypeError):  # a TypeError for what is no ASCII
        return False


if "--each" in sys.argv:
    for line in sys.stdin:
        print(json.dumps(said_of(json.loads(line))), flush=True)
else:
    print(json.dumps([said_of(one) for one in json.load(sys.stdin)]))
