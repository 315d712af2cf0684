"""Prints what a server knows, as Stripe's own package reads it. That package is in .venv-gateways and nowhere else."""

import json
import os
import sys

import stripe


def main(base: str) -> None:
    client = stripe.StripeClient(os.environ.get("STRIPE_API_KEY", "sk_test_witness"), base_addresses={"api": base})
    lists = {
        "payment_intents": client.v1.payment_intents.list,
        "charges": client.v1.charges.list,
        "refunds": client.v1.refunds.list,
        "disputes": client.v1.disputes.list,
        "balance_transactions": client.v1.balance_transactions.list,
        "events": client.v1.events.list,
    }
    known = {name: [thing.to_dict() for thing in read({"limit": 100}).auto_paging_iter()] for name, read in lists.items()}
    print(json.dumps(known | {"balance": client.v1.balance.retrieve().to_dict()}))


main(sys.argv[1])
