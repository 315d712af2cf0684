"""The functions that finish what invocations leave behind: unpublished events and unknown outcomes."""
