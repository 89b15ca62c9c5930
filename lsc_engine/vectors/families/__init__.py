"""The vector systems that come with the engine, one file per family."""
