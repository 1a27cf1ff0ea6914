"""Small fake releases in the original layouts, for tests without the real data."""
