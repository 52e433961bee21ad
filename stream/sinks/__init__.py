"""Where avatar frames go, one file a kind."""
