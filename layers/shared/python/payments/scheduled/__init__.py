"""What runs on a schedule or by hand: relay, reconcile, the courier, the gateway's events, and settling by hand."""
