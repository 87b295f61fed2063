"""What systemd is told, and asked."""
