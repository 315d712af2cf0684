"""The service on a laptop, without AWS and without Docker: we run the functions, routes and schedules of template.yaml.

No other package may know that it does not run on AWS.
"""
