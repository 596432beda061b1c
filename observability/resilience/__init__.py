"""Calls that survive: one client for each dependency, whose every attempt, wait and refusal is told."""
