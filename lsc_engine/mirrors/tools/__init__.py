"""One file for each tool, named like its package; its class `Tool` is imported in the process that writes alone."""
