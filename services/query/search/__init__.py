"""From what a user types to matches in texts. Pure.

- `terms`      reads a query: words, runs and phrases, and what the index is asked for
- `matching`   where the terms of a query are in a text
- `snippets`   the part of a text that an answer shows, with its matches
"""
