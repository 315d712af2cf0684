"""What stands around `sam deploy`: one architecture for build and deployment, and a look at the account before."""
