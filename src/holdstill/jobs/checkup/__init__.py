"""What could make the next run of a job fail, looked at now: facts observed, then judged."""
