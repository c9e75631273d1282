"""The policy engine, pure: the language, exact counts of every policy, choosing among them."""
