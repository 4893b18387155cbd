"""Reference bundles and the scripts that train them."""
