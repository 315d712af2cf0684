"""The rules of payments: statuses, money, events, errors. Pure: the standard library alone, no input and no output."""
