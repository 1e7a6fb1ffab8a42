"""Runs on a W&B server: what a SOURCE names there, complete histories, a cache that works offline."""
