"""The pages under *Reports*, one module each; ``table.py`` lists them."""
