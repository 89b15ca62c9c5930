"""One backbone in each file, registered there. The files import torch inside methods only."""
