"""Numbered schema files, applied in order; one that has been released is never edited."""
