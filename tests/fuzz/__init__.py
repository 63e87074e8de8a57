"""Damage the structure of movie files in every way, and judge what the readers make of it."""
