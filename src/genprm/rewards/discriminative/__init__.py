"""A discriminative process reward model in this process: one probability per step, no words."""
