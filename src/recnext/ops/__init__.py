"""Fast exact implementations of the recursion, and the choice among them."""
