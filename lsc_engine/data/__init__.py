"""Images and labels: data sets, the batches of training in a fixed order, augmentation, packing.

Seam 3 of the architecture: which sample comes when, and what is done to it, are pure functions of
(seed, epoch, position). Small data lies on the device as uint8; large data is streamed by workers.
"""
