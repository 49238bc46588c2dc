"""The commands: each a signature, a description, a call of the engine and a print."""
