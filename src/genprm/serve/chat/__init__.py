"""OpenAI's chat completions over a search: a policy writes, the served verifier chooses."""
