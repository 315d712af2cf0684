"""Measurements that the README quotes; never shipped."""
