"""What finishes the rest: events that wait, outcomes that are not known, outcomes settled by hand."""
