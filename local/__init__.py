"""AWS on a laptop, without Docker: runs what template.yaml declares. The only place that may know it is not AWS."""
