"""Puts this folder's tiny models within reach of the tests in its subfolders."""
