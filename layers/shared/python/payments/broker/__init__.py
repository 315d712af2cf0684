"""The broker that our events go to."""
