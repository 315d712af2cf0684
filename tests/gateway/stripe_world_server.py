"""Serves Stripe World on the port of the command line. It runs on Python 3.14, in an environment of its own (see servers.py)."""

import seahaven.http
from seahaven_stripe_world import world
from seahaven_stripe_world.http_api import handle

seahaven.http.main(world, handle)
