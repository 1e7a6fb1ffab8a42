"""What runs on the other side: imported by a bare interpreter, never by a module of entlaw that holds data.

The modules here use relative imports and the standard library alone, so that ``python -S`` can load them by path.
"""
