"""Training and evaluation of the models, on simulated nights and archives."""
