"""Webhooks: where they may go, how they are signed, and how one is sent."""
