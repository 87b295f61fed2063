"""restic: its command lines, what it prints and what its end means, for every version in use."""
