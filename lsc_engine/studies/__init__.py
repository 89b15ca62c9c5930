"""Studies: from a preset to a plan, its checks, its run folders, and the processes that train them."""
