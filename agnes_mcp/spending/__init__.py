"""What a read costs, who agreed, and what is reserved, billed and settled."""
