"""Attacks on the scoring service over HTTP, and accidents."""
