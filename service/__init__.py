"""Reelkeeper."""
