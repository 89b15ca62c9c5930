"""The data sets that come with the engine, each a class in one file, registered there."""
