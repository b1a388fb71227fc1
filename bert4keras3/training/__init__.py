"""What pretraining needs and Keras lacks: corpora, masking, schedules."""
