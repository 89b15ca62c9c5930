"""Reading runs and studies; nothing here writes into a run folder that is being trained, but notes."""
