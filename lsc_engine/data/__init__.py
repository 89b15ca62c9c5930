"""Images and labels: data sets, the batches of training in a fixed order, augmentation, packing."""
