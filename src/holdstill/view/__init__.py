"""The private mount namespace in which sources show their snapshots, and what runs in it."""
