"""Asking a policy, and the one generate -> execute -> continue loop."""
