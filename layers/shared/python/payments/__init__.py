"""Take payments on AWS Lambda without charging twice."""
