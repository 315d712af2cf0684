"""Measurements. We never ship them."""
