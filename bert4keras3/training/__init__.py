"""What training needs and Keras lacks: corpora, masking, schedules, loss terms."""
