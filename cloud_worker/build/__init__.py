"""From a torch module to a bundle: everything that happens once, before a model is deployed."""
