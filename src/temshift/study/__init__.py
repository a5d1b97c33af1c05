"""The study's table and plan and what follows from them: plain frames, no torch, no files."""
