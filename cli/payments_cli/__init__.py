"""`payments`: the command line to a payment service. It uses HTTP and Kafka, and no code of the service."""

__version__ = "0.1.0"
