"""Tests of what deploys the system."""
