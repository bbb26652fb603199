"""What several engines need alike; no engine imports another."""
