"""The generative process reward model as a step reward: paths, judgements, the verifier."""
