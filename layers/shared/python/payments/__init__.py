"""Take payments on AWS Lambda without charging twice."""

__version__ = "0.1.0"
