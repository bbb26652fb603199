"""Real word problems whose every step has a computable truth: GSM8K's solutions with calculator annotations."""
