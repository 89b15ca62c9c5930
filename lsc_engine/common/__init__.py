"""What every part of the engine uses and no part owns. Loads neither torch nor pydantic."""
