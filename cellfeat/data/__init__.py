"""What comes in: the dataset catalogue, label vocabularies, image reading, masks to COCO, synthetic smears."""
