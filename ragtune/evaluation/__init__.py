"""Answers scored, retrieval ranked, before against after, and the report that shows it."""
