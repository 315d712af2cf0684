"""`payments`: the command line to a payment service. It speaks HTTP and Kafka and knows nothing of how the service is built."""

__version__ = "0.1.0"
