"""The processes of a replicated engine, and how many of them a machine can take."""
