"""Requests to a policy, and the one generate -> execute -> continue loop."""
