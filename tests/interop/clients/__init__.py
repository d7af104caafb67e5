"""Programs of other people's clients, and what the tests need to drive them."""
