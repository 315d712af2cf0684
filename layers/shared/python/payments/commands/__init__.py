"""What can be done to a payment: one file a command, and the phases that every command passes."""
