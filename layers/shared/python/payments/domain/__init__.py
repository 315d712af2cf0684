"""What a payment is: statuses, money, events and errors. Standard library only; nothing here does input or output."""
