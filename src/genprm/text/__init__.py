"""Pure text: steps, transcripts of analysis / verification / output, and prompt profiles."""
